"""The embedded store: one file that several processes of one machine share.

Readers never wait in SQLite's WAL mode, so small reads run on the event loop, on a connection of
their own. Writes wait for each other, so they run one after another in a thread of the store's.
``synchronous=NORMAL``: what was committed survives a crash of the process; after a power cut the
newest commits may be gone, each as a whole.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from typing_extensions import override

from ..cypher import Progress, Table
from ..document import Document
from ..errors import PayloadCorrupted
from ..facts import Expected, Facts, Span
from ..finding import Finding
from ..model import (
    Approval,
    ApprovalState,
    Attempts,
    ChangeEvent,
    Execution,
    FacetRef,
    JournalEntry,
    Outline,
    Recording,
    Replay,
    SideEffect,
    Task,
    Trace,
    Unfinished,
    Value,
    Walk,
    Wish,
)
from ..pin import Pin
from ..retention import COLLECT_BATCH, TRACES_PER_TASK, Collected, Retention
from ..roles.approvals import Precedent
from ..roles.history import ENDED, Executions
from ..roles.leases import Held
from ..roles.lookups import LOOKUP_TRIES, Choose, Lookup
from ..roles.marks import WALK_BATCH
from ..roles.recording import Published
from ..store import GraphStore
from ..totals import Totals
from ..urls import absolute
from . import approvals as asked
from . import changes, facts, history, journal, leases, marks, publishing, rows, traces, wishes
from . import recording as runs
from .clock import now_ms
from .connection import begin_and_end
from .cypher import Cypher
from .examining import examine
from .place import Place
from .queries import still
from .retention import FileCollector

__all__ = ["SqliteStore"]

_log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: More resources than this make ``still`` one read transaction instead of one statement.
_STILL_AT_ONCE = 100


class SqliteStore(GraphStore):
    """A store in the file at ``path``, which is made when it is first opened.

    A relative path begins at the folder that is the working folder by now.
    """

    def __init__(self, path: str, *, namespace: str) -> None:
        path = str(absolute(path))
        self.url = f"sqlite:///{path.replace('%', '%25')}"  # as a URL is read
        self.namespace = namespace
        self._path = path
        self._place = Place(path)
        self._pin: Pin | None = None
        self._cypher = Cypher(path)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r})"

    # Opening ------------------------------------------------------------------------------

    @override
    async def open(self) -> None:
        await self._place.open()

    @override
    async def close(self) -> None:
        await self._cypher.close()
        await self._place.close()

    @override
    def of(self, namespace: str) -> Self:
        view = self._copy()
        view.namespace = namespace
        return view

    @override
    def pinned(self) -> Self:
        pinned = self._copy()
        pinned._pin = Pin()  # noqa: SLF001  (it is one of these)
        return pinned

    def _copy(self) -> Self:
        copy = object.__new__(type(self))  # as fast as one can be made: for each run
        vars(copy).update(vars(self))
        return copy

    @override
    async def incarnation(self) -> str:
        opened = await self._place.here(self._pin)
        if self._pin is not None:
            self._pin.looked = True
        return opened.token

    @override
    async def now(self) -> int:
        await self._place.here(self._pin)
        return now_ms()

    @override
    async def ping(self) -> None:
        await self._writing(begin_and_end)

    async def _reading(
        self,
        work: Callable[Concatenate[sqlite3.Connection, int, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T | None:
        return await self._place.reading(self._pin, self.namespace, work, *args, **kwargs)

    async def _writing(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._place.writing(self._pin, work)

    @property
    def _read(self) -> sqlite3.Connection | None:
        return None if self._place.opened is None else self._place.opened.read

    @property
    def _write(self) -> sqlite3.Connection | None:
        return None if self._place.opened is None else self._place.opened.write

    # Facts --------------------------------------------------------------------------------

    @override
    async def change(
        self,
        resource: str,
        document: Document | None,
        *,
        until: datetime | timedelta | None = None,
        source: str = "push",
        noted: int | None = None,
    ) -> ChangeEvent | None:
        return await self._writing(
            changes.Change(
                self.namespace, resource, document, until=until, source=source, noted=noted
            )
        )

    @override
    async def renew(
        self,
        noted: Mapping[str, int],
        *,
        until: datetime | timedelta | None,
        source: str = "push",
    ) -> frozenset[str]:
        if not noted:
            return frozenset()
        return await self._writing(
            lambda db: changes.renew(db, self.namespace, noted, until, source)
        )

    @override
    async def expire(self) -> list[ChangeEvent]:
        return await self._writing(lambda db: changes.expire(db, self.namespace))

    @override
    async def read_facts(self, wanted: Mapping[str, frozenset[str | None]]) -> Facts:
        return await self._reading(facts.read_together, wanted) or Facts(now_ms(), {})

    @override
    async def document(
        self, resource: str, version: int | None = None
    ) -> tuple[int, Document] | None:
        stored = await self._reading(facts.document, resource, version)
        if stored is None:
            return None
        version, digest, row = stored
        data = row and rows.payload(*row)
        if data is None:
            raise PayloadCorrupted((digest,))
        return version, Document(Value(digest=digest, data=data))

    @override
    async def hold(
        self, resource: str, version: int, fingerprints: Mapping[str | None, str]
    ) -> None:
        await self._writing(
            lambda db: changes.hold(db, self.namespace, resource, version, fingerprints)
        )

    @override
    async def unbroken(self, spans: Sequence[Span]) -> list[bool]:
        unbroken = await self._reading(facts.unbroken, spans)
        return [span.through <= span.after for span in spans] if unbroken is None else unbroken

    @override
    async def current_at(self, resources: Collection[str], at: int) -> dict[str, int]:
        return await self._reading(facts.current_at, resources, at) or {}

    @override
    async def changes(
        self,
        *,
        resource: str | None = None,
        since: int | None = None,
        limit: int | None = 100,
    ) -> list[ChangeEvent]:
        return await self._reading(facts.changes, resource, since, limit) or []

    @override
    async def resources(self, source: str) -> dict[str, int]:
        return await self._reading(facts.resources, source) or {}

    @override
    async def facets(self, resource: str) -> frozenset[str | None]:
        return await self._reading(facts.selectors, resource) or frozenset()

    # Leases -------------------------------------------------------------------------------

    @override
    async def lease(
        self,
        name: str,
        owner: str,
        duration: timedelta,
        *,
        instead_of: str | None = None,
        waits_for: Collection[str] = (),
    ) -> bool:
        told = leases.Wanted(name, owner, duration, instead_of, waits_for)
        return await self._writing(lambda db: leases.lease(db, self.namespace, told))

    @override
    async def holder(self, name: str) -> Held | None:
        return await self._reading(leases.holder, name)

    @override
    async def release(self, name: str, owner: str) -> None:
        await self._writing(lambda db: leases.release(db, self.namespace, name, owner))

    # Marks --------------------------------------------------------------------------------

    @override
    async def walks(self, *, limit: int = 100) -> list[Walk]:
        return await self._reading(marks.walks, limit) or []

    @override
    async def walk(self, walk: str, *, batch: int = WALK_BATCH) -> Walk | None:
        await self._compute_guards(walk)
        return await self._writing(lambda db: marks.walk(db, self.namespace, walk, batch))

    @override
    async def marks(self, execution: str) -> dict[int, str]:
        return await self._reading(marks.marks, execution) or {}

    # Lookup -------------------------------------------------------------------------------

    @override
    async def lookup(self, task: str, choose: Choose) -> Lookup:
        lost: frozenset[FacetRef] = frozenset()
        for _ in range(LOOKUP_TRIES):
            lookup = await self._reading(traces.look, self.namespace, task, choose, lost=lost)
            if lookup is None:
                break
            if isinstance(lookup, Lookup):
                return lookup
            try:
                await self._compute(lookup.missing)
            except PayloadCorrupted as error:
                _log.warning("facets cannot be computed, so they hold nothing: %s", error)
                lost |= frozenset(lookup.missing)
        return Lookup(traces=(), facts=Facts(now_ms(), {}), chosen=None, values={})

    @override
    async def still(
        self,
        execution: str,
        accepted: Mapping[str, int],
        *,
        exact: str | None = None,
        alive: Collection[str] = (),
    ) -> bool:
        opened = await self._place.just_now(self._pin)  # as it was asked what it remembers
        ns = opened.namespaces.get(self.namespace)
        if ns is None or len(accepted) > _STILL_AT_ONCE:
            return bool(await self._reading(traces.still, execution, accepted, (exact, alive)))
        parameters: list[int | str | None]
        parameters = [ns, execution, now_ms(), json.dumps(sorted(alive)), exact]
        for pair in accepted.items():
            parameters += pair
        try:
            row = opened.read.execute(still(len(accepted)), parameters).fetchone()
        except sqlite3.Error:
            return bool(await self._reading(traces.still, execution, accepted, (exact, alive)))
        return row is not None

    @override
    async def values(self, digests: Collection[str]) -> dict[str, bytes]:
        if not digests:
            return {}
        nothing: tuple[dict[str, bytes], tuple[str, ...]] = ({}, tuple(sorted(set(digests))))
        payloads, damaged = await self._reading(traces.payloads, digests) or nothing
        if damaged:
            raise PayloadCorrupted(damaged)
        return payloads

    # Recording ----------------------------------------------------------------------------

    @override
    async def intend(
        self,
        effect: SideEffect,
        expected: Sequence[Expected],
        *,
        traces: Collection[str] = (),
        wish: Wish | None = None,
        agent: str = "",
        entries: Sequence[JournalEntry] = (),
    ) -> SideEffect | None:
        told = runs.Told(traces, wish, agent, entries)
        return await self._writing(
            lambda db: runs.intend(db, self.namespace, effect, expected, told)
        )

    @override
    async def rejected(self, executions: Collection[str]) -> dict[str, str]:
        return await self._reading(runs.rejected, executions) or {}

    @override
    async def end_effect(self, effect: SideEffect) -> None:
        await self._writing(lambda db: runs.end_effect(db, self.namespace, effect))

    @override
    async def claim(self, wish: Wish, *, over: str | None = None) -> Wish:
        return await self._writing(lambda db: wishes.claim(db, self.namespace, wish, over))

    @override
    async def end_wish(self, wish: Wish) -> bool:
        return await self._writing(lambda db: wishes.end_wish(db, self.namespace, wish))

    @override
    async def unfinished(
        self, task: str, *, exact: str | None = None, limit: int = 1000
    ) -> Unfinished:
        found = await self._reading(wishes.unfinished, task, exact or task, limit)
        return found or Unfinished()

    @override
    async def attempts(self, wish: str) -> Attempts:
        return await self._reading(wishes.attempts, wish) or Attempts()

    @override
    async def renew_wishes(self, executions: Collection[str]) -> None:
        await self._writing(lambda db: wishes.renew_wishes(db, self.namespace, executions))

    @override
    async def journal(self, entries: Sequence[JournalEntry]) -> None:
        await self._writing(lambda db: journal.journal(db, self.namespace, entries))

    @override
    async def forget_journal(self, executions: Collection[str]) -> None:
        await self._writing(lambda db: journal.forget_journal(db, self.namespace, executions))

    @override
    async def age_journal(self, before: int) -> None:
        await self._writing(lambda db: journal.age_journal(db, self.namespace, before))

    @override
    async def request(
        self, approval: Approval, lasts: timedelta, *, hearer: str | None = None
    ) -> Approval:
        who = hearer or approval.execution
        return await self._writing(
            lambda db: asked.request(db, self.namespace, approval, lasts, who)
        )

    @override
    async def answer(
        self,
        id_: str,
        state: ApprovalState,
        *,
        by: str | None = None,
        reason: str | None = None,
        heard_by: str | None = None,
    ) -> Approval | None:
        said = {"state": state.value, "by": by, "reason": reason, "heard_by": heard_by}
        return await self._writing(lambda db: asked.answer(db, self.namespace, id_, said))

    @override
    async def approval(self, id_: str) -> Approval | None:
        return await self._reading(asked.approval, id_)

    @override
    async def approvals(self, *, limit: int = 100) -> list[Approval]:
        return await self._reading(asked.approvals, limit) or []

    @override
    async def precedents(self, task: str, tool: str, *, limit: int = 20) -> list[Precedent]:
        return await self._reading(asked.precedents, task, tool, limit) or []

    @override
    async def write(self, recording: Recording) -> dict[str, int]:
        return await self._writing(runs.Write(self.namespace, recording))

    @override
    async def publish(
        self,
        execution: str,
        *,
        steps: int,
        manifest: str,
        signature: str,
        keep: int = TRACES_PER_TASK,
        approved: bool = True,
    ) -> Published:
        return await self._writing(
            lambda db: publishing.publish(
                db,
                self.namespace,
                execution,
                steps=steps,
                manifest=manifest,
                signature=signature,
                keep=keep,
                approved=approved,
            )
        )

    @override
    async def unpublish(self, execution: str, reason: str) -> None:
        await self._writing(lambda db: publishing.unpublish(db, self.namespace, execution, reason))

    @override
    async def approve(
        self, execution: str, *, keep: int = TRACES_PER_TASK, overrule: bool = False
    ) -> Published:
        return await self._writing(
            lambda db: publishing.approve(
                db, self.namespace, execution, keep=keep, overrule=overrule
            )
        )

    @override
    async def reject(self, execution: str, reason: str, signature: str) -> tuple[str, ...]:
        return await self._writing(
            lambda db: publishing.reject(db, self.namespace, execution, reason, signature)
        )

    @override
    async def write_replays(self, replays: Sequence[Replay]) -> None:
        if replays:
            await self._writing(lambda db: runs.write_replays(db, self.namespace, replays))

    @override
    async def note_running(self, executions: Sequence[Execution]) -> None:
        if executions:
            await self._writing(lambda db: runs.note_running(db, self.namespace, executions))

    # Retention ----------------------------------------------------------------------------

    @override
    async def collect(self, retention: Retention, *, batch: int = COLLECT_BATCH) -> Collected:
        return await self._collecting(lambda it: it.collect(self.namespace, retention, batch))

    @override
    async def collectable(self, retention: Retention) -> Collected:
        return await self._collecting(lambda it: it.collectable(self.namespace, retention))

    async def _collecting(self, work: Callable[[FileCollector], _T]) -> _T:
        return await self._place.collecting(self._pin, work)

    # Reading ------------------------------------------------------------------------------

    @override
    async def effects(self, execution: str) -> list[SideEffect]:
        return await self._reading(traces.effects, execution) or []

    @override
    async def effect(self, id_: str) -> SideEffect | None:
        return await self._reading(traces.effect, id_)

    @override
    async def execution(self, execution: str) -> Trace | None:
        return await self._reading(traces.read_execution, execution)

    @override
    async def task(self, key: str) -> Task | None:
        return await self._reading(traces.read_task, key)

    @override
    async def recent_tasks(self, agent: str, *, limit: int = 20) -> list[Task]:
        return await self._reading(history.recent_tasks, agent, limit) or []

    @override
    async def executions(self, of: Executions = ENDED, *, limit: int = 20) -> list[Execution]:
        return await self._reading(history.executions, of, limit) or []

    @override
    async def execution_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        return await self._reading(history.ids, "execution_ids", prefix, limit) or []

    @override
    async def effect_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        return await self._reading(history.ids, "effect_ids", prefix, limit) or []

    @override
    async def approval_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        return await self._reading(history.ids, "approval_ids", prefix, limit) or []

    @override
    async def lengths(self, executions: Collection[str]) -> dict[str, int]:
        return await self._reading(history.lengths, executions) or {}

    @override
    async def agents(self, *, limit: int = 20) -> list[str]:
        return await self._reading(history.agents, limit) or []

    @override
    async def dependants(self, preconditions: Collection[str]) -> list[Outline]:
        return await self._reading(history.dependants, preconditions) or []

    @override
    async def totals(self, *, since: int | None = None, dead: Collection[str] = ()) -> Totals:
        return await self._reading(history.totals, since, dead) or Totals()

    # Examining ----------------------------------------------------------------------------

    @override
    async def examine(self) -> list[Finding]:
        return await self._writing(lambda db: examine(db, Path(self._path)))

    @override
    async def task_keys(self, *, after: str = "", limit: int = 1000) -> list[str]:
        return await self._reading(history.keys, "task_keys", after, limit) or []

    @override
    async def namespaces(self, *, limit: int = 20) -> list[str]:
        return await self._writing(lambda db: history.namespaces(db, limit))

    @override
    async def uris(self, *, after: str = "", limit: int = 1000) -> list[str]:
        return await self._reading(history.keys, "uris", after, limit) or []

    @override
    async def doubts(self, *, limit: int = 100) -> list[SideEffect]:
        return await self._reading(history.doubts, limit) or []

    @override
    async def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any],
        *,
        time_limit: timedelta,
        limit: int,
        progress: Progress | None = None,
    ) -> Table:
        return await self._cypher.ask(
            self.namespace,
            query,
            parameters,
            of=await self.incarnation(),
            time_limit=time_limit,
            limit=limit,
            progress=progress,
        )
