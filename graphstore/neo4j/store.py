"""The Neo4j store. See ``GraphStore`` for what each method promises."""

from __future__ import annotations

import time
from collections import Counter
from copy import copy
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import override

from ..collecting import Collections
from ..document import Document
from ..errors import PayloadCorrupted, StoreReplaced, StoreUnavailable, WishLost
from ..facts import EXPIRY, Facts
from ..model import (
    KILLED_AFTER_MS,
    Approval,
    ApprovalState,
    Attempts,
    EffectState,
    FacetRef,
    JournalEntry,
    SideEffect,
    Task,
    Trace,
    Unfinished,
    Value,
    Wish,
    WishState,
    new_id,
)
from ..records import (
    Row,
    approval_of,
    effect_of,
    event_of,
    execution_of,
    outline_of,
    preconditions_of,
    trace_of,
    walk_of,
)
from ..retention import (
    APPROVED_LATER,
    COLLECT_BATCH,
    EQUAL_TO,
    LOST,
    TRACES_PER_TASK,
    UNAPPROVED,
    Collected,
    Retention,
    beyond,
    beyond_unapproved,
    rejected_with,
)
from ..roles.approvals import Precedent
from ..roles.history import ENDED, Executions
from ..roles.leases import Held
from ..roles.lookups import Choose, Lookup
from ..roles.marks import WALK_BATCH
from ..roles.recording import Published
from ..store import GraphStore
from ..totals import Totals
from ..urls import redacted
from .address import Address
from .changing import Change, ResourceCache
from .client import Client
from .connection import Connection
from .cypher import Cypher
from .examining import examine
from .lookup import TraceLookup, facts_of
from .mapping import (
    EACH_HAS,
    begun_properties,
    gate_of,
    properties,
    running_properties,
    there,
    verified,
)
from .marks import Walks
from .planned_change import holds, until_parameters
from .recording import replay_parameters, write_parameters
from .retention import Contents
from .trouble import ChangedMeanwhile, Transient

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from neo4j import AsyncDriver

    from ..cypher import Progress, Table
    from ..facts import Expected, Span
    from ..finding import Finding
    from ..model import ChangeEvent, Execution, Outline, Recording, Replay, Walk

__all__ = ["Neo4jStore"]

_ABSENT = (0, True, None, None, None)  # a row of `document`
_LOOKS = 3  # what is not there by then is not on its way
_ALL = 2**63 - 1
_AT_ONCE = 5_000  # resources in one transaction
_LAST_FIVE = range(-5, 0)  # the fields of wishes and journal entries that are never null


class Neo4jStore(GraphStore):
    """A graph in a Neo4j database, which many processes and machines may share.

    ``auth``: what the driver takes, instead of credentials in the URL. ``driver``: an
    ``AsyncDriver`` to use and never to close. Nothing is connected before ``open``.
    Raises UnknownStore for a URL that is not a Neo4j address.
    """

    def __init__(
        self,
        url: str | None,
        *,
        namespace: str,
        auth: Any = None,
        driver: AsyncDriver | None = None,
    ) -> None:
        address = Address.of(url) if url is not None else Address.of_driver()
        self.url = redacted(url or address.uri)
        self._cache = ResourceCache()
        self._bind(Client(Connection(address, self.url, auth, driver), namespace))
        self._client.identity.on_new = self._cache.clear

    def _bind(self, client: Client) -> None:
        self.namespace = client.namespace
        self._client = client
        self._cypher = Cypher(client, self.url)
        self._walks = Walks(client, self._compute_guards)
        self._collections = Collections(lambda: Contents(client))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # Opening ------------------------------------------------------------------------------

    @override
    async def open(self) -> None:
        await self._client.open()

    @override
    async def close(self) -> None:
        await self._client.close()

    @override
    def of(self, namespace: str) -> Self:
        view = copy(self)
        view._bind(self._client.of(namespace))  # noqa: SLF001  (it is one of these)
        return view

    @override
    def pinned(self) -> Self:
        pinned = copy(self)
        pinned._client = self._client.pinned()  # noqa: SLF001  (it is one of these)
        return pinned

    @override
    async def incarnation(self) -> str:
        try:
            await self._client.here()
        except StoreReplaced:
            raise
        except StoreUnavailable:
            pass  # the call that needs it waits for it; what is remembered is of before the loss
        return self._client.identity.token

    @override
    async def now(self) -> int:
        row = await self._client.row("now", {})
        assert row is not None
        return int(row[0])

    @override
    async def ping(self) -> None:
        await self._client.row("may_write", {})

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
        change = Change(
            self._client,
            self._cache,
            self._compute,
            resource,
            document,
            until_parameters(until),
            source,
            noted,
        )
        return await change.run()

    @override
    async def renew(
        self,
        noted: Mapping[str, int],
        *,
        until: datetime | timedelta | None,
        source: str = "push",
    ) -> frozenset[str]:
        now = time.time_ns() // 1_000_000
        rows = [[uri, version, new_id(now)] for uri, version in sorted(noted.items())]
        renewed: set[str] = set()
        for start in range(0, len(rows), _AT_ONCE):
            parameters = {
                "noted": rows[start : start + _AT_ONCE],
                "source": source,
                **until_parameters(until),
            }
            renewed.update(uri for uri, _ in await self._client.run("renew", parameters))
        return frozenset(renewed)

    @override
    async def expire(self) -> list[ChangeEvent]:
        due = await self._client.run("due", {})
        if not due:
            return []
        now = time.time_ns() // 1_000_000
        events: list[ChangeEvent] = []
        for start in range(0, len(due), _AT_ONCE):
            some = [[uri, new_id(now)] for (uri,) in due[start : start + _AT_ONCE]]
            parameters = {"due": some, "source": EXPIRY}
            rows = await self._client.run("expire", parameters)
            events += [event_of(event, changed) for event, changed in rows]
        return events

    @override
    async def read_facts(self, wanted: Mapping[str, frozenset[str | None]]) -> Facts:
        asked = [
            [resource, [FacetRef(resource, selector).key(self.namespace) for selector in selectors]]
            for resource, selectors in sorted(wanted.items())
        ]

        async def attempt() -> Facts:
            rows = await self._client.run("read_facts", {"wanted": asked})
            facts, whole = facts_of(*rows[0])
            if not whole:
                raise ChangedMeanwhile
            return facts

        return await self._client.settled("a resource", attempt)

    @override
    async def document(
        self, resource: str, version: int | None = None
    ) -> tuple[int, Document] | None:
        where = {"resource": resource, "version": version}
        looks: Counter[str] = Counter()

        async def attempt() -> tuple[int, Document] | None:
            n, withdrawn, digest, *content = await self._client.row("document", where) or _ABSENT
            if withdrawn or (n is None and version is not None):
                return None
            if n is None or withdrawn is None or digest is None:
                raise ChangedMeanwhile  # not visible yet
            payloads = verified([[digest, *content]])
            if digest in payloads:
                return n, Document(Value(digest=digest, data=payloads[digest]))
            looks[digest] += 1
            if looks[digest] == _LOOKS:
                raise PayloadCorrupted((digest,))
            raise ChangedMeanwhile

        return await self._client.settled(resource, attempt)

    @override
    async def hold(
        self, resource: str, version: int, fingerprints: Mapping[str | None, str]
    ) -> None:
        parameters = {
            "resource": resource,
            "version": version,
            "holds": holds(self.namespace, resource, fingerprints),
        }
        await self._client.run("hold", parameters)
        self._cache.forget(self.namespace, resource)

    @override
    async def unbroken(self, spans: Sequence[Span]) -> list[bool]:
        rows = [[it.precondition, it.resource, it.after, it.through] for it in spans]
        holding = {}
        if any(it.through > it.after for it in spans):
            counts = await self._client.run("unbroken", {"spans": rows})
            holding = {index: count for index, count in counts}  # noqa: C416
        return [
            holding.get(index, 0) >= max(0, span.through - span.after)
            for index, span in enumerate(spans)
        ]

    @override
    async def current_at(self, resources: Collection[str], at: int) -> dict[str, int]:
        asked = {"resources": list(resources), "at": at}
        return {uri: n for uri, n in await self._client.there("current_at", asked)}  # noqa: C416

    @override
    async def changes(
        self,
        *,
        resource: str | None = None,
        since: int | None = None,
        limit: int | None = 100,
    ) -> list[ChangeEvent]:
        name = "changes" if resource is None else "changes_of_resource"
        parameters = {
            "resource": resource,
            "since": (since or 0) * 1_000_000,
            "limit": _ALL if limit is None else limit,
        }
        rows = await self._client.run(name, parameters)
        return [event_of(it, _changed(changed)) for it, changed in rows if None not in it]

    @override
    async def resources(self, source: str) -> dict[str, int]:
        where = {"source": source}
        rows = await self._client.there("resources_of_source", where)
        return {uri: version for uri, version in rows}  # noqa: C416

    @override
    async def facets(self, resource: str) -> frozenset[str | None]:
        where = {"resource": resource}
        rows = await self._client.there("selectors", where, 1)
        return frozenset(selector for selector, _ in rows)

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
        parameters = {
            "name": name,
            "owner": owner,
            "instead_of": instead_of,
            "waits_for": list(waits_for),
            "lasts": round(duration.total_seconds() * 1000),
        }
        return bool(await self._client.run("lease", parameters))

    @override
    async def holder(self, name: str) -> Held | None:
        rows = await self._client.there("holder", {"name": name})
        return next((Held(owner, valid, tuple(waits)) for owner, valid, waits in rows), None)

    @override
    async def release(self, name: str, owner: str) -> None:
        await self._client.run("release", {"name": name, "owner": owner})

    # Marks --------------------------------------------------------------------------------

    @override
    async def walks(self, *, limit: int = 100) -> list[Walk]:
        rows = await self._client.run("walks", {"limit": limit})
        return [walk_of(walk) for walk in there((walk for (walk,) in rows), 0, 2)]

    @override
    async def walk(self, walk: str, *, batch: int = WALK_BATCH) -> Walk | None:
        return await self._walks.go_on(walk, batch)

    @override
    async def marks(self, execution: str) -> dict[int, str]:
        where = {"execution": execution}
        return dict(await self._client.there("marks", where))

    # Lookup -------------------------------------------------------------------------------

    @override
    async def lookup(self, task: str, choose: Choose) -> Lookup:
        return await TraceLookup(self._client, task, choose, self._compute).run()

    @override
    async def still(
        self,
        execution: str,
        accepted: Mapping[str, int],
        *,
        exact: str | None = None,
        alive: Collection[str] = (),
    ) -> bool:
        parameters = {
            "execution": execution,
            "exact": exact,
            "alive": sorted(alive),
            "accepted": [[resource, n] for resource, n in accepted.items()],
        }
        return await self._client.row("still", parameters) is not None

    @override
    async def values(self, digests: Collection[str]) -> dict[str, bytes]:
        wanted = sorted(set(digests))
        if not wanted:
            return {}
        rows = await self._client.run("values", {"digests": wanted})
        payloads = verified(rows)
        if len(payloads) < len(wanted):
            raise PayloadCorrupted(tuple(digest for digest in wanted if digest not in payloads))
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
        fenced = wish is not None and wish.run_id is not None
        parameters = {
            "fence": [wish.key] if wish is not None and fenced else [],
            "holder": None if wish is None else wish.execution,
            "wish": [] if wish is None or fenced else [_kept(wish)],
            "execution": effect.execution,
            "begun": begun_properties(effect, agent),
            "id": effect.id,
            "once": effect.once,
            "approval": effect.approval,
            "approved_by": effect.approved_by,
            "effect": {**properties(effect), "state": EffectState.INTENDED.value},
            "expected": [[it.resource, it.version, it.believed, list(it.holds)] for it in expected],
            "traces": sorted(traces),
            "entries": [entry._asdict() for entry in entries],
        }
        rows = await self._client.run("intend", parameters, Transient.ROLLED_BACK)
        if effects := _effects(rows):
            return effects[0]
        if wish is not None and fenced and (await self._wish_of(wish)).execution != wish.execution:
            raise WishLost(f"the run {wish.run_id!r} is held by another execution")
        return None

    async def _wish_of(self, wish: Wish) -> Wish:
        """The wish as it is; one that is not kept is held by nobody."""
        rows = await self._client.run("wish", {"key": wish.key})
        return next(iter(_wishes(rows)), wish._replace(execution=""))

    @override
    async def claim(self, wish: Wish, *, over: str | None = None) -> Wish:
        parameters = {"key": wish.key, "over": over, "wish": _kept(wish)}
        rows = await self._client.run("claim" if over is None else "take_over", parameters)
        return next(iter(_wishes(rows)), wish._replace(execution=""))

    @override
    async def end_wish(self, wish: Wish) -> bool:
        ended = {"state": wish.state.value, "result": wish.result}
        where = {"key": wish.key, "execution": wish.execution}
        return await self._client.row("end_wish", ended | where) is not None

    @override
    async def unfinished(
        self, task: str, *, exact: str | None = None, limit: int = 1000
    ) -> Unfinished:
        wanted = {"task": task, "exact": exact or task, "limit": limit}
        row = await self._client.row("unfinished", wanted)
        assert row is not None
        wishes, entries = row
        return Unfinished(_wishes(wishes), _entries(entries))

    @override
    async def attempts(self, wish: str) -> Attempts:
        row = await self._client.row("attempts", {"wish": wish})
        assert row is not None
        effects, entries = row
        return Attempts(tuple(_effects(effects)), _entries(entries))

    @override
    async def renew_wishes(self, executions: Collection[str]) -> None:
        await self._client.run("renew_wishes", {"executions": sorted(executions)})

    @override
    async def end_effect(self, effect: SideEffect) -> None:
        ended = {
            "id": effect.id,
            "state": effect.state.value,
            "once": effect.once,
            "output_text": effect.output_text,
        }
        await self._client.run("end_effect", ended)

    @override
    async def rejected(self, executions: Collection[str]) -> dict[str, str]:
        wanted = {"executions": sorted(executions)}
        return dict(await self._client.there("rejected", wanted))

    @override
    async def journal(self, entries: Sequence[JournalEntry]) -> None:
        kept = [entry._asdict() for entry in entries]
        await self._client.run("journal", {"entries": kept})

    @override
    async def forget_journal(self, executions: Collection[str]) -> None:
        await self._client.run("forget_journal", {"executions": sorted(executions)})

    @override
    async def age_journal(self, before: int) -> None:
        for statement in ("age_journal", "age_wishes"):
            while await self._client.row(statement, {"before": before}) not in (None, [0]):
                pass

    @override
    async def request(
        self, approval: Approval, lasts: timedelta, *, hearer: str | None = None
    ) -> Approval:
        parameters = {
            "gate": gate_of(approval.digest),
            "digest": approval.digest,
            "hearer": hearer or approval.execution,
            "id": approval.id,
            "approval": {**properties(approval), "state": ApprovalState.PENDING.value},
            "lasts": round(lasts.total_seconds() * 1000),
        }
        [[*kept, now]] = await self._client.run("request_approval", parameters)
        return approval_of(kept, now)

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
        return await self._approval("answer_approval", {"id": id_, **said})

    @override
    async def approval(self, id_: str) -> Approval | None:
        return await self._approval("approval", {"id": id_})

    async def _approval(self, name: str, parameters: dict[str, Any]) -> Approval | None:
        return next(iter(_approvals(await self._client.run(name, parameters))), None)

    @override
    async def approvals(self, *, limit: int = 100) -> list[Approval]:
        return _approvals(await self._client.run("approvals", {"limit": limit}))

    @override
    async def precedents(self, task: str, tool: str, *, limit: int = 20) -> list[Precedent]:
        wanted = {"task": task, "tool": tool, "limit": limit}
        rows = await self._client.there("precedents", wanted, *EACH_HAS["approval"])
        return [
            Precedent(approval_of(kept, now), None if state is None else EffectState(state))
            for *kept, now, state in rows
        ]

    @override
    async def write(self, recording: Recording) -> dict[str, int]:
        rows = await self._client.run("write", write_parameters(self.namespace, recording))
        return dict(rows[0][0])

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
        said: dict[str, int | str | None]
        said = {"steps": steps, "manifest": manifest, "signature": signature}
        return await self._publish(execution, keep, said, approved=approved)

    async def _publish(
        self,
        execution: str,
        keep: int,
        said: Mapping[str, int | str | None],
        *,
        approved: bool = True,
        approves: bool = False,
        overrule: bool = False,
    ) -> Published:
        """``said``: what is to be a trace, if it is not stored yet."""
        before, between = rejected_with("\0", "").split("\0")
        parameters = {
            "execution": execution,
            **said,
            "keep": keep,
            "approves": approves,
            "overrule": overrule,
            "state": "published" if approved else "unapproved",
            "reason": None if approved else UNAPPROVED,
            "reason_equal": EQUAL_TO,
            "reason_beyond": beyond(keep) if approved else beyond_unapproved(keep),
            "reason_lost": LOST,
            "reason_lifted": APPROVED_LATER + execution,
            "reason_rejected": [before, between],
        }
        row = await self._client.row("publish", parameters)
        if row is None:
            return Published(published=False)
        state, equal_to, gone, moved, rejected, waits = row
        return Published(
            state == "published",
            equal_to,
            tuple(gone) if approved else (),
            moved,
            rejected,
            waits,
        )

    @override
    async def approve(
        self, execution: str, *, keep: int = TRACES_PER_TASK, overrule: bool = False
    ) -> Published:
        stored: dict[str, int | str | None]
        stored = dict.fromkeys(("steps", "manifest", "signature"))
        return await self._publish(execution, keep, stored, approves=True, overrule=overrule)

    @override
    async def reject(self, execution: str, reason: str, signature: str) -> tuple[str, ...]:
        parameters = {
            "execution": execution,
            "reason": reason,
            "signature": signature,
            "reason_of_others": rejected_with(execution, reason),
        }
        row = await self._client.row("reject", parameters)
        return () if row is None else tuple(row[0])

    @override
    async def unpublish(self, execution: str, reason: str) -> None:
        parameters = {"execution": execution, "reason": reason}
        await self._client.run("unpublish", parameters)

    @override
    async def write_replays(self, replays: Sequence[Replay]) -> None:
        if replays:
            await self._client.run("write_replays", replay_parameters(self.namespace, replays))

    @override
    async def note_running(self, executions: Sequence[Execution]) -> None:
        if executions:
            running = sorted(map(running_properties, executions), key=itemgetter("id"))
            await self._client.run("note_running", {"executions": running})

    # Retention ----------------------------------------------------------------------------

    @override
    async def collect(self, retention: Retention, *, batch: int = COLLECT_BATCH) -> Collected:
        return await self._collections.collect(retention, batch)

    @override
    async def collectable(self, retention: Retention) -> Collected:
        return await self._collections.collectable(retention)

    # Reading ------------------------------------------------------------------------------

    @override
    async def effects(self, execution: str) -> list[SideEffect]:
        where = {"execution": execution}
        return _effects(await self._client.run("effects", where))

    @override
    async def effect(self, id_: str) -> SideEffect | None:
        return next(iter(_effects(await self._client.run("effect", {"id": id_}))), None)

    @override
    async def execution(self, execution: str) -> Trace | None:
        looks = iter(range(_LOOKS))

        async def attempt() -> Trace | None:
            rows = await self._client.run("execution", {"execution": execution})
            found = next(map(_trace, (row for row in rows if "id" in row[0])), None)
            if found is None or found.execution.steps in (None, len(found.steps)):
                return found
            if next(looks, None) is not None:  # it is written just now, or deleted; else damaged
                raise ChangedMeanwhile
            return found

        return await self._client.settled(execution, attempt)

    @override
    async def task(self, key: str) -> Task | None:
        return next(iter(_tasks(await self._client.run("task", {"key": key}))), None)

    @override
    async def recent_tasks(self, agent: str, *, limit: int = 20) -> list[Task]:
        rows = await self._client.run("tasks_of_agent", {"agent": agent, "limit": limit})
        return _tasks(dict.fromkeys(map(tuple, rows)))

    @override
    async def executions(self, of: Executions = ENDED, *, limit: int = 20) -> list[Execution]:
        wanted = {**of._asdict(), **of.before._asdict(), "limit": limit}
        del wanted["before"]
        statement = "executions" if of.by is None else f"executions_of_{of.by}"
        rows = await self._client.run(statement, wanted)
        return [execution_of(row[0]) for row in rows if "id" in row[0]]  # else deleted meanwhile

    @override
    async def execution_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        wanted = {"prefix": prefix, "limit": limit}
        return [row[0] for row in await self._client.there("execution_ids", wanted)]

    @override
    async def effect_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        wanted = {"prefix": prefix, "limit": limit}
        return [row[0] for row in await self._client.there("effect_ids", wanted)]

    @override
    async def approval_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        wanted = {"prefix": prefix, "limit": limit}
        return [row[0] for row in await self._client.there("approval_ids", wanted)]

    @override
    async def lengths(self, executions: Collection[str]) -> dict[str, int]:
        wanted = {"executions": sorted(executions)}
        return dict(await self._client.there("lengths", wanted))

    @override
    async def agents(self, *, limit: int = 20) -> list[str]:
        return await self._names("next_agent", limit)

    @override
    async def dependants(self, preconditions: Collection[str]) -> list[Outline]:
        wanted = {"preconditions": sorted(set(preconditions))}
        rows = await self._client.there("dependants", wanted)
        return [
            outline_of(trace, steps, preconditions_of(there(guards, *EACH_HAS["precondition"])))
            for *trace, published, listed, guards in rows
            if len(steps := there(listed, *EACH_HAS["outline step"])) == published
        ]

    @override
    async def totals(self, *, since: int | None = None, dead: Collection[str] = ()) -> Totals:
        where = {"since": since or 0, "silent": KILLED_AFTER_MS, "dead": sorted(dead)}

        async def attempt() -> Totals:
            rows = await self._client.run("totals", where)
            whole, *found = rows[0]
            if not whole:
                raise ChangedMeanwhile
            return Totals.of(*found)

        return await self._client.settled("history", attempt)

    # Examining ----------------------------------------------------------------------------

    @override
    async def examine(self) -> list[Finding]:
        return await examine(self._client)

    @override
    async def task_keys(self, *, after: str = "", limit: int = 1000) -> list[str]:
        wanted = {"after": after, "limit": limit}
        return [row[0] for row in await self._client.there("task_keys", wanted)]

    @override
    async def namespaces(self, *, limit: int = 20) -> list[str]:
        return await self._names("next_namespace", limit)

    async def _names(self, query: str, limit: int) -> list[str]:
        """Names in order: the statement gives the one that comes after another."""
        names: list[str] = []
        while len(names) < limit:
            after = names[-1] if names else ""
            row = await self._client.row(query, {"after": after})
            if row is None or row[0] is None:
                break
            names.append(row[0])
        return names

    @override
    async def uris(self, *, after: str = "", limit: int = 1000) -> list[str]:
        wanted = {"after": after, "limit": limit}
        return [row[0] for row in await self._client.there("uris", wanted)]

    @override
    async def doubts(self, *, limit: int = 100) -> list[SideEffect]:
        return _effects(await self._client.run("doubts", {"limit": limit}))

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
        return await self._cypher.ask(query, parameters, time_limit=time_limit, limit=limit)


def _kept(wish: Wish) -> dict[str, Any]:
    """What is kept of a wish that a run comes to hold."""
    names = ("key", "task", "execution", "process", "run_id", "idempotency")
    return {name: getattr(wish, name) for name in names}


def _changed(rows: Iterable[Row]) -> Iterable[Row]:
    """What an event has changed, without facets that were deleted meanwhile."""
    return (row[:4] for row in there(rows, 0, 4) if row[2] != row[3])


def _trace(row: Row) -> Trace:
    execution, steps, guards = row
    return trace_of(
        execution,
        there(steps, *EACH_HAS["step"]),
        there(guards, *EACH_HAS["precondition"]),
    )


def _tasks(rows: Iterable[Row]) -> list[Task]:
    kept = (zip(Task.model_fields, row, strict=True) for row in there(rows, *EACH_HAS["task"]))
    return [Task(**dict(fields)) for fields in kept]


def _effects(rows: Iterable[Row]) -> list[SideEffect]:
    return [effect_of(row) for row in there(rows, *EACH_HAS["effect"])]


def _approvals(rows: Iterable[Row]) -> list[Approval]:
    return [approval_of(kept, now) for *kept, now in there(rows, *EACH_HAS["approval"])]


def _wishes(rows: Iterable[Row]) -> tuple[Wish, ...]:
    return tuple(
        Wish(key, task, execution, process, run_id, idempotency, WishState(state), result, idle_ms)
        for process, run_id, idempotency, result, key, task, execution, state, idle_ms in there(
            rows, *_LAST_FIVE
        )
    )


def _entries(rows: Iterable[Row]) -> tuple[JournalEntry, ...]:
    whole = there(rows, *_LAST_FIVE)
    return tuple(JournalEntry(*said)._replace(wish=wish) for wish, *said in whole)
