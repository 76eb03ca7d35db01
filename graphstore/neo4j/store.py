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
from ..errors import PayloadCorrupted, StoreReplaced, StoreUnavailable
from ..facts import EXPIRY, Facts
from ..model import KILLED_AFTER_MS, FacetRef, SideEffect, Task, Trace, Value, new_id
from ..records import (
    effect_of,
    event_of,
    execution_of,
    outline_of,
    preconditions_of,
    trace_of,
    walk_of,
)
from ..retention import COLLECT_BATCH, EQUAL_TO, LOST, TRACES_PER_TASK, Collected, Retention, beyond
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
from .mapping import properties, running_properties, verified
from .marks import Walks
from .planned_change import holds, until_parameters
from .recording import replay_parameters, write_parameters
from .retention import Contents
from .trouble import ChangedMeanwhile, Transient

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from neo4j import AsyncDriver

    from ..cypher import Progress, Table
    from ..facts import Expected, Span
    from ..finding import Finding
    from ..model import ChangeEvent, Execution, Outline, Recording, Replay, Walk

__all__ = ["Neo4jStore"]

_ABSENT = (0, True, None, None, None)  # a row of `document`
_LOOKS = 3  # a payload that is not there by then is not on its way
_ALL = 2**63 - 1
_AT_ONCE = 5_000  # resources in one transaction


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
        return {uri: n for uri, n in await self._client.run("current_at", asked)}  # noqa: C416

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
        return [event_of(event, changed) for event, changed in rows]

    @override
    async def resources(self, source: str) -> dict[str, int]:
        where = {"source": source}
        rows = await self._client.run("resources_of_source", where)
        return {uri: version for uri, version in rows}  # noqa: C416

    @override
    async def facets(self, resource: str) -> frozenset[str | None]:
        where = {"resource": resource}
        return frozenset(row[0] for row in await self._client.run("selectors", where))

    # Leases -------------------------------------------------------------------------------

    @override
    async def lease(self, name: str, owner: str, duration: timedelta) -> bool:
        parameters = {
            "name": name,
            "owner": owner,
            "lasts": round(duration.total_seconds() * 1000),
        }
        return bool(await self._client.run("lease", parameters))

    @override
    async def release(self, name: str, owner: str) -> None:
        await self._client.run("release", {"name": name, "owner": owner})

    # Marks --------------------------------------------------------------------------------

    @override
    async def walks(self, *, limit: int = 100) -> list[Walk]:
        rows = await self._client.run("walks", {"limit": limit})
        return [walk_of(row[0]) for row in rows]

    @override
    async def walk(self, walk: str, *, batch: int = WALK_BATCH) -> Walk | None:
        return await self._walks.go_on(walk, batch)

    @override
    async def marks(self, execution: str) -> dict[int, str]:
        where = {"execution": execution}
        return dict(await self._client.run("marks", where))

    # Lookup -------------------------------------------------------------------------------

    @override
    async def lookup(self, task: str, choose: Choose) -> Lookup:
        return await TraceLookup(self._client, task, choose, self._compute).run()

    @override
    async def still(self, execution: str, accepted: Mapping[str, int]) -> bool:
        parameters = {
            "execution": execution,
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
    async def intend(self, effect: SideEffect, expected: Sequence[Expected]) -> bool:
        parameters = {
            "execution": effect.execution,
            "id": effect.id,
            "effect": {**properties(effect), "state": "intended"},
            "expected": [[it.resource, it.version, it.believed, list(it.holds)] for it in expected],
        }
        return bool(await self._client.run("intend", parameters, Transient.ROLLED_BACK))

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
    ) -> Published:
        parameters = {
            "execution": execution,
            "steps": steps,
            "manifest": manifest,
            "signature": signature,
            "keep": keep,
            "reason_equal": EQUAL_TO,
            "reason_beyond": beyond(keep),
            "reason_lost": LOST,
        }
        row = await self._client.row("publish", parameters)
        if row is None:
            return Published(published=False)
        published, equal_to, gone, moved = row
        return Published(bool(published), equal_to, tuple(gone), moved)

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
        return [effect_of(row) for row in await self._client.run("effects", where)]

    @override
    async def execution(self, execution: str) -> Trace | None:
        where = {"execution": execution}
        row = await self._client.row("execution", where)
        return None if row is None or "id" not in row[0] else trace_of(*row)

    @override
    async def task(self, key: str) -> Task | None:
        row = await self._client.row("task", {"key": key})
        return None if row is None else Task(key=key, agent=row[0], inputs=row[1], context=row[2])

    @override
    async def executions(self, *, agent: str | None = None, limit: int = 20) -> list[Execution]:
        wanted = {"agent": agent, "limit": limit}
        rows = await self._client.run("executions", wanted)
        return [execution_of(row[0]) for row in rows if "id" in row[0]]  # else deleted meanwhile

    @override
    async def dependants(self, preconditions: Collection[str]) -> list[Outline]:
        wanted = {"preconditions": sorted(set(preconditions))}
        rows = await self._client.run("dependants", wanted)
        return [outline_of(trace, steps, preconditions_of(by)) for *trace, steps, by in rows]

    @override
    async def totals(self, *, since: int | None = None) -> Totals:
        where = {"since": since or 0, "silent": KILLED_AFTER_MS}

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
        return [row[0] for row in await self._client.run("task_keys", wanted)]

    @override
    async def namespaces(self, *, limit: int = 20) -> list[str]:
        unheld: list[str] = []
        while len(unheld) < limit:
            after = unheld[-1] if unheld else ""
            row = await self._client.row("next_namespace", {"after": after})
            if row is None or row[0] is None:
                break
            unheld.append(row[0])
        return unheld

    @override
    async def uris(self, *, after: str = "", limit: int = 1000) -> list[str]:
        wanted = {"after": after, "limit": limit}
        return [row[0] for row in await self._client.run("uris", wanted)]

    @override
    async def doubts(self, *, limit: int = 100) -> list[SideEffect]:
        rows = await self._client.run("doubts", {"limit": limit})
        return [effect_of(row) for row in rows]

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
