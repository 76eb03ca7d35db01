"""A store that keeps nothing: what ``EXECGRAPH_MODE=off`` runs on."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from .document import Document
from .errors import PayloadCorrupted, StoreUnavailable
from .facts import Expected, Facts, Span
from .finding import Finding
from .model import ChangeEvent, Execution, Outline, Recording, Replay, SideEffect, Task, Trace, Walk
from .retention import COLLECT_BATCH, TRACES_PER_TASK, Collected, Retention
from .store import WALK_BATCH, Choose, GraphStore, Lookup, Progress, Published, Table, Totals

__all__ = ["Nowhere"]


class Nowhere(GraphStore):
    """Everything is absent, every effect may begin, and nothing is kept."""

    url = "nowhere:"

    @override
    async def open(self) -> None:
        pass

    @override
    async def close(self) -> None:
        pass

    @override
    async def change(
        self,
        namespace: str,
        resource: str,
        document: Document | None,
        *,
        until: datetime | timedelta | None = None,
        source: str = "push",
        noted: int | None = None,
    ) -> ChangeEvent | None:
        return None

    @override
    async def renew(
        self,
        namespace: str,
        noted: Mapping[str, int],
        *,
        until: datetime | timedelta | None,
        source: str = "push",
    ) -> frozenset[str]:
        return frozenset(noted)

    @override
    async def expire(self, namespace: str) -> list[ChangeEvent]:
        return []

    @override
    async def read_facts(
        self, namespace: str, wanted: Mapping[str, frozenset[str | None]]
    ) -> Facts:
        return Facts(now=time.time_ns() // 1_000_000, by_resource={})

    @override
    async def document(
        self, namespace: str, resource: str, version: int | None = None
    ) -> tuple[int, Document] | None:
        return None

    @override
    async def hold(
        self, namespace: str, resource: str, version: int, fingerprints: Mapping[str | None, str]
    ) -> None:
        pass

    @override
    async def unbroken(self, namespace: str, spans: Sequence[Span]) -> list[bool]:
        return [False] * len(spans)

    @override
    async def current_at(
        self, namespace: str, resources: Collection[str], at: int
    ) -> dict[str, int]:
        return {}

    @override
    async def changes(
        self,
        namespace: str,
        *,
        resource: str | None = None,
        since: int | None = None,
        limit: int | None = 100,
    ) -> list[ChangeEvent]:
        return []

    @override
    async def resources(self, namespace: str, source: str) -> dict[str, int]:
        return {}

    @override
    async def facets(self, namespace: str, resource: str) -> frozenset[str | None]:
        return frozenset()

    @override
    async def lease(self, namespace: str, name: str, owner: str, duration: timedelta) -> bool:
        return True

    @override
    async def release(self, namespace: str, name: str, owner: str) -> None:
        pass

    @override
    async def walks(self, namespace: str, *, limit: int = 100) -> list[Walk]:
        return []

    @override
    async def walk(self, namespace: str, walk: str, *, batch: int = WALK_BATCH) -> Walk | None:
        return None

    @override
    async def marks(self, namespace: str, execution: str) -> dict[int, str]:
        return {}

    @override
    async def lookup(self, namespace: str, task: str, choose: Choose) -> Lookup:
        return Lookup((), await self.read_facts(namespace, {}), None, {})

    @override
    async def still(self, namespace: str, execution: str, accepted: Mapping[str, int]) -> bool:
        return False

    @override
    async def values(self, namespace: str, digests: Collection[str]) -> dict[str, bytes]:
        if digests:
            raise PayloadCorrupted(tuple(digests))
        return {}

    @override
    async def intend(
        self, namespace: str, effect: SideEffect, expected: Sequence[Expected]
    ) -> bool:
        return True

    @override
    async def write(self, namespace: str, recording: Recording) -> dict[str, int]:
        return {}

    @override
    async def publish(
        self,
        namespace: str,
        execution: str,
        *,
        steps: int,
        manifest: str,
        signature: str,
        keep: int = TRACES_PER_TASK,
    ) -> Published:
        return Published(published=False)

    @override
    async def unpublish(self, namespace: str, execution: str, reason: str) -> None:
        pass

    @override
    async def write_replays(self, namespace: str, replays: Sequence[Replay]) -> None:
        pass

    @override
    async def note_running(self, namespace: str, executions: Sequence[Execution]) -> None:
        pass

    @override
    async def collect(
        self, namespace: str, retention: Retention, *, batch: int = COLLECT_BATCH
    ) -> Collected:
        return Collected()

    @override
    async def collectable(self, namespace: str, retention: Retention) -> Collected:
        return Collected()

    @override
    async def effects(self, namespace: str, execution: str) -> list[SideEffect]:
        return []

    @override
    async def execution(self, namespace: str, execution: str) -> Trace | None:
        return None

    @override
    async def task(self, namespace: str, key: str) -> Task | None:
        return None

    @override
    async def executions(
        self, namespace: str, *, agent: str | None = None, limit: int = 20
    ) -> list[Execution]:
        return []

    @override
    async def dependants(self, namespace: str, preconditions: Collection[str]) -> list[Outline]:
        return []

    @override
    async def totals(self, namespace: str, *, since: int | None = None) -> Totals:
        return Totals()

    @override
    async def examine(self) -> list[Finding]:
        return []

    @override
    async def task_keys(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[str]:
        return []

    @override
    async def namespaces(self, *, limit: int = 20) -> list[str]:
        return []

    @override
    async def uris(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[str]:
        return []

    @override
    async def doubts(self, namespace: str, *, limit: int = 100) -> list[SideEffect]:
        return []

    @override
    async def cypher(
        self,
        namespace: str,
        query: str,
        parameters: Mapping[str, Any],
        *,
        time_limit: timedelta,
        limit: int,
        progress: Progress | None = None,
    ) -> Table:
        raise StoreUnavailable(
            "EXECGRAPH_MODE=off keeps no graph that could be asked; unset it to ask the store"
        )
