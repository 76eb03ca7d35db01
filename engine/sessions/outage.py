"""What runs do while the store is away: ``Engine(..., on_store_error="live" | "raise")``.

"raise": a run needs its store. "live": it goes on as if execgraph were not there, and nothing is
recorded of it. That takes three things. An ``Outage`` knows for all runs of a session whether
the store is away, and finds out when it is back, so that no run waits for it. ``FallbackStore``
is the store as one run has it: once it has gone, it answers as if it kept nothing, to the end of
that run. And the check right before an effect (``EffectGate``) stops the writes of a reply that was
*served*, since nobody can say any more whether it stands.

Away is what ``StoreUnavailable`` says: the store cannot be reached, or is held by somebody else.
One that is damaged, too new, full, or refuses this user needs a person, and is always raised.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import ParamSpec, TypeVar

from typing_extensions import override

from ...graphstore.document import Document
from ...graphstore.errors import StoreReplaced, StoreUnavailable
from ...graphstore.facts import Expected, Facts, Span
from ...graphstore.model import (
    Approval,
    ApprovalState,
    Attempts,
    ChangeEvent,
    EffectState,
    JournalEntry,
    Recording,
    SideEffect,
    Task,
    Unfinished,
    Wish,
)
from ...graphstore.null_store import NullStore
from ...graphstore.retention import TRACES_PER_TASK
from ...graphstore.roles.approvals import Precedent
from ...graphstore.roles.leases import Held
from ...graphstore.roles.lookups import Choose, Lookup
from ...graphstore.roles.recording import Published
from ...graphstore.store import GraphStore, RunStore
from ..outcome.cause import Cause, MissKind

__all__ = ["FallbackStore", "Outage", "store_away"]

_log = logging.getLogger("execgraph")

_P = ParamSpec("_P")
_T = TypeVar("_T")

_OPEN_SECONDS = 5.0  # what opening an engine waits for a store that does not answer
_PROBE_SECONDS = 2.0  # between two looks for a store that is away


class Outage:
    """Whether the store is away, for all runs of one session. Of one event loop.

    While it is, one task looks for it, and runs do not. Before they use it again ``on_back`` is
    awaited: what had to be done meanwhile, and could not.
    """

    def __init__(self, store: GraphStore) -> None:
        self._store = store
        self._on_back: Callable[[], Awaitable[None]] | None = None
        self._since: float | None = None
        self._trouble: Exception | None = None  # it answers, but not as it should
        self._tried = asyncio.Event()
        self._probe: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def ongoing(self) -> bool:
        """Whether the store is away, as far as is known."""
        return self._since is not None

    async def open(self, on_back: Callable[[], Awaitable[None]]) -> None:
        """Open the store, now or as soon as it is there. Raises what is no mere absence."""
        self._since = time.monotonic()
        self._probe = asyncio.ensure_future(self._look(pause_first=False))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_OPEN_SECONDS):
                    await self._tried.wait()
        except BaseException:
            await self.close()
            raise
        if self._trouble is not None:
            await self.close()
            raise self._trouble
        self._on_back = on_back
        if self.ongoing:
            self._log_away(f"{self._store.url} does not answer")

    async def close(self) -> None:
        """Stop looking for the store."""
        self._closed = True
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)

    def began(self, error: StoreUnavailable) -> None:
        """The store has gone, as ``error`` tells. Logged once per outage."""
        if self.ongoing or self._closed:
            return
        self._since = time.monotonic()
        self._log_away(error)
        self._probe = asyncio.ensure_future(self._look(pause_first=True))

    async def unless_away(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` if the store is there; left undone if it is not."""
        if not self.ongoing:
            try:
                await work()
            except StoreUnavailable as error:
                self.began(error)

    def lend(self) -> FallbackStore:
        """The store, for one run. Raises what is wrong with it, if that is no mere absence."""
        if self._trouble is not None:
            raise self._trouble
        return FallbackStore(self._store.pinned(), self)

    def _log_away(self, why: object) -> None:
        _log.warning(
            "the store is away; until it is back, runs ask the model and nothing is recorded: %s",
            why,
        )

    async def _look(self, *, pause_first: bool) -> None:
        if pause_first:
            await asyncio.sleep(_PROBE_SECONDS)
        while not await self._is_back():
            self._tried.set()
            await asyncio.sleep(_PROBE_SECONDS)
        if self._on_back is not None:
            _log.info("the store is back after %.0f s", time.monotonic() - (self._since or 0))
        self._since = self._trouble = None
        self._tried.set()

    async def _is_back(self) -> bool:
        try:
            await self._store.open()
            if self._on_back is not None:
                await self._store.ping()
                await self._on_back()
        except StoreUnavailable:
            self._trouble = None
            return False
        except Exception as error:  # noqa: BLE001  (each run is to raise it)
            self._trouble = error
            return False
        return True


class FallbackStore(RunStore):
    """The store of one run, which may be away."""

    def __init__(self, store: RunStore, outage: Outage) -> None:
        self.url = store.url
        self.namespace = store.namespace
        self.away = outage.ongoing
        self._store = store
        self._null = NullStore(store.namespace)
        self._outage = outage

    async def _or_null(
        self,
        real: Callable[_P, Awaitable[_T]],
        null: Callable[_P, Awaitable[_T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        if not self.away:
            try:
                return await real(*args, **kwargs)
            except StoreReplaced:
                self.away = True  # for this run alone: the next one goes by what is there now
            except StoreUnavailable as error:
                self.away = True
                self._outage.began(error)
        return await null(*args, **kwargs)

    @override
    async def incarnation(self) -> str:
        return await self._or_null(self._store.incarnation, self._null.incarnation)

    @override
    async def now(self) -> int:
        return await self._or_null(self._store.now, self._null.now)

    @override
    async def ping(self) -> None:
        await self._or_null(self._store.ping, self._null.ping)

    @override
    async def read_facts(self, wanted: Mapping[str, frozenset[str | None]]) -> Facts:
        return await self._or_null(self._store.read_facts, self._null.read_facts, wanted)

    @override
    async def document(
        self, resource: str, version: int | None = None
    ) -> tuple[int, Document] | None:
        real, null = self._store.document, self._null.document
        return await self._or_null(real, null, resource, version)

    @override
    async def hold(
        self, resource: str, version: int, fingerprints: Mapping[str | None, str]
    ) -> None:
        real, null = self._store.hold, self._null.hold
        await self._or_null(real, null, resource, version, fingerprints)

    @override
    async def current_at(self, resources: Collection[str], at: int) -> dict[str, int]:
        return await self._or_null(self._store.current_at, self._null.current_at, resources, at)

    @override
    async def changes(
        self, *, resource: str | None = None, since: int | None = None, limit: int | None = 100
    ) -> list[ChangeEvent]:
        real, null = self._store.changes, self._null.changes
        return await self._or_null(real, null, resource=resource, since=since, limit=limit)

    @override
    async def lookup(self, task: str, choose: Choose) -> Lookup:
        return await self._or_null(self._store.lookup, self._null.lookup, task, choose)

    @override
    async def still(
        self,
        execution: str,
        accepted: Mapping[str, int],
        *,
        exact: str | None = None,
        alive: Collection[str] = (),
    ) -> bool:
        real, null = self._store.still, self._null.still
        return await self._or_null(real, null, execution, accepted, exact=exact, alive=alive)

    @override
    async def unfinished(
        self, task: str, *, exact: str | None = None, limit: int = 1000
    ) -> Unfinished:
        real, null = self._store.unfinished, self._null.unfinished
        return await self._or_null(real, null, task, exact=exact, limit=limit)

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
        real, null, told = self._store.lease, self._null.lease, (name, owner, duration)
        return await self._or_null(real, null, *told, instead_of=instead_of, waits_for=waits_for)

    @override
    async def holder(self, name: str) -> Held | None:
        return await self._or_null(self._store.holder, self._null.holder, name)

    @override
    async def release(self, name: str, owner: str) -> None:
        await self._or_null(self._store.release, self._null.release, name, owner)

    @override
    async def values(self, digests: Collection[str]) -> dict[str, bytes]:
        return await self._or_null(self._store.values, self._null.values, digests)

    @override
    async def recent_tasks(self, agent: str, *, limit: int = 20) -> list[Task]:
        real, null = self._store.recent_tasks, self._null.recent_tasks
        return await self._or_null(real, null, agent, limit=limit)

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
        intend = self._store.intend
        real = partial(intend, traces=traces, wish=wish, agent=agent, entries=entries)
        if effect.once or effect.approval:  # whether it happened, or may, is not to be made up
            return await real(effect, expected)
        return await self._or_null(real, self._null.intend, effect, expected)

    @override
    async def rejected(self, executions: Collection[str]) -> dict[str, str]:
        return await self._or_null(self._store.rejected, self._null.rejected, executions)

    @override
    async def unpublish(self, execution: str, reason: str) -> None:
        await self._or_null(self._store.unpublish, self._null.unpublish, execution, reason)

    @override
    async def end_effect(self, effect: SideEffect) -> None:
        if effect.state is EffectState.DONE:  # that it has happened must not be lost
            await self._store.end_effect(effect)
        else:
            await self._or_null(self._store.end_effect, self._null.end_effect, effect)

    # Never made up: what these say is published, done, or lets an effect begin.

    @override
    async def claim(self, wish: Wish, *, over: str | None = None) -> Wish:
        return await self._store.claim(wish, over=over)

    @override
    async def end_wish(self, wish: Wish) -> bool:
        return await self._store.end_wish(wish)

    @override
    async def attempts(self, wish: str) -> Attempts:
        return await self._store.attempts(wish)

    @override
    async def request(
        self, approval: Approval, lasts: timedelta, *, hearer: str | None = None
    ) -> Approval:
        return await self._store.request(approval, lasts, hearer=hearer)

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
        return await self._store.answer(id_, state, by=by, reason=reason, heard_by=heard_by)

    @override
    async def approval(self, id_: str) -> Approval | None:
        return await self._store.approval(id_)

    @override
    async def precedents(self, task: str, tool: str, *, limit: int = 20) -> list[Precedent]:
        return await self._store.precedents(task, tool, limit=limit)

    @override
    async def unbroken(self, spans: Sequence[Span]) -> list[bool]:
        return await self._store.unbroken(spans)

    @override
    async def write(self, recording: Recording) -> dict[str, int]:
        return await self._store.write(recording)

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
        return await self._store.publish(
            execution,
            steps=steps,
            manifest=manifest,
            signature=signature,
            keep=keep,
            approved=approved,
        )


def store_away(store: RunStore) -> Cause:
    """The cause that the store is away."""
    return Cause(MissKind.STORE_AWAY, store.url)
