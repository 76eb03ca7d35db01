"""A store that keeps nothing: what ``EXECGRAPH_MODE=off`` runs on."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from typing_extensions import override

from .cypher import Progress, Table
from .document import Document
from .errors import PayloadCorrupted, StoreUnavailable
from .facts import Expected, Facts, Span
from .finding import Finding
from .model import (
    Approval,
    ApprovalState,
    Attempts,
    ChangeEvent,
    Execution,
    JournalEntry,
    Outline,
    Recording,
    Replay,
    SideEffect,
    Task,
    Trace,
    Unfinished,
    Walk,
    Wish,
)
from .retention import COLLECT_BATCH, TRACES_PER_TASK, Collected, Retention
from .roles.approvals import Precedent
from .roles.history import ENDED, Executions
from .roles.leases import Held
from .roles.lookups import Choose, Lookup
from .roles.marks import WALK_BATCH
from .roles.recording import Published
from .store import GraphStore
from .totals import Totals

__all__ = ["NullStore"]


class NullStore(GraphStore):
    """A store in which everything is absent and nothing is kept; every effect may begin."""

    url = "nowhere:"

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    @override
    def of(self, namespace: str) -> Self:
        return type(self)(namespace)

    @override
    def pinned(self) -> Self:
        return self

    @override
    async def incarnation(self) -> str:
        return ""

    @override
    async def now(self) -> int:
        return time.time_ns() // 1_000_000

    @override
    async def ping(self) -> None:
        pass

    @override
    async def open(self) -> None:
        pass

    @override
    async def close(self) -> None:
        pass

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
        return None

    @override
    async def renew(
        self,
        noted: Mapping[str, int],
        *,
        until: datetime | timedelta | None,
        source: str = "push",
    ) -> frozenset[str]:
        return frozenset(noted)

    @override
    async def expire(self) -> list[ChangeEvent]:
        return []

    @override
    async def read_facts(self, wanted: Mapping[str, frozenset[str | None]]) -> Facts:
        return Facts(now=await self.now(), by_resource={})

    @override
    async def document(
        self, resource: str, version: int | None = None
    ) -> tuple[int, Document] | None:
        return None

    @override
    async def hold(
        self, resource: str, version: int, fingerprints: Mapping[str | None, str]
    ) -> None:
        pass

    @override
    async def unbroken(self, spans: Sequence[Span]) -> list[bool]:
        return [False] * len(spans)

    @override
    async def current_at(self, resources: Collection[str], at: int) -> dict[str, int]:
        return {}

    @override
    async def changes(
        self,
        *,
        resource: str | None = None,
        since: int | None = None,
        limit: int | None = 100,
    ) -> list[ChangeEvent]:
        return []

    @override
    async def resources(self, source: str) -> dict[str, int]:
        return {}

    @override
    async def facets(self, resource: str) -> frozenset[str | None]:
        return frozenset()

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
        return True

    @override
    async def holder(self, name: str) -> Held | None:
        return None

    @override
    async def release(self, name: str, owner: str) -> None:
        pass

    @override
    async def walks(self, *, limit: int = 100) -> list[Walk]:
        return []

    @override
    async def walk(self, walk: str, *, batch: int = WALK_BATCH) -> Walk | None:
        return None

    @override
    async def marks(self, execution: str) -> dict[int, str]:
        return {}

    @override
    async def lookup(self, task: str, choose: Choose) -> Lookup:
        return Lookup((), Facts(await self.now(), {}), None, {})

    @override
    async def still(
        self,
        execution: str,
        accepted: Mapping[str, int],
        *,
        exact: str | None = None,
        alive: Collection[str] = (),
    ) -> bool:
        return False

    @override
    async def values(self, digests: Collection[str]) -> dict[str, bytes]:
        if digests:
            raise PayloadCorrupted(tuple(digests))
        return {}

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
        if effect.once is not None:
            raise StoreUnavailable(
                f"{effect.tool} is to happen once, and nobody knows whether it has: nothing is kept"
                " and nothing read while EXECGRAPH_MODE=off. Set another mode, or call its function"
                " itself"
            )
        return effect

    @override
    async def end_effect(self, effect: SideEffect) -> None:
        pass

    @override
    async def rejected(self, executions: Collection[str]) -> dict[str, str]:
        return {}

    @override
    async def claim(self, wish: Wish, *, over: str | None = None) -> Wish:
        return wish

    @override
    async def end_wish(self, wish: Wish) -> bool:
        return True

    @override
    async def unfinished(
        self, task: str, *, exact: str | None = None, limit: int = 1000
    ) -> Unfinished:
        return Unfinished()

    @override
    async def attempts(self, wish: str) -> Attempts:
        return Attempts()

    @override
    async def renew_wishes(self, executions: Collection[str]) -> None:
        pass

    @override
    async def journal(self, entries: Sequence[JournalEntry]) -> None:
        pass

    @override
    async def forget_journal(self, executions: Collection[str]) -> None:
        pass

    @override
    async def age_journal(self, before: int) -> None:
        pass

    @override
    async def request(
        self, approval: Approval, lasts: timedelta, *, hearer: str | None = None
    ) -> Approval:
        now = await self.now()
        expires_at = now + lasts // timedelta(milliseconds=1)
        return approval.model_copy(update={"requested_at": now, "expires_at": expires_at})

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
        return None

    @override
    async def approval(self, id_: str) -> Approval | None:
        return None

    @override
    async def approvals(self, *, limit: int = 100) -> list[Approval]:
        return []

    @override
    async def precedents(self, task: str, tool: str, *, limit: int = 20) -> list[Precedent]:
        return []

    @override
    async def write(self, recording: Recording) -> dict[str, int]:
        return {}

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
        return Published(published=False)

    @override
    async def unpublish(self, execution: str, reason: str) -> None:
        pass

    @override
    async def approve(
        self, execution: str, *, keep: int = TRACES_PER_TASK, overrule: bool = False
    ) -> Published:
        return Published(published=False)

    @override
    async def reject(self, execution: str, reason: str, signature: str) -> tuple[str, ...]:
        return ()

    @override
    async def write_replays(self, replays: Sequence[Replay]) -> None:
        pass

    @override
    async def note_running(self, executions: Sequence[Execution]) -> None:
        pass

    @override
    async def collect(self, retention: Retention, *, batch: int = COLLECT_BATCH) -> Collected:
        return Collected()

    @override
    async def collectable(self, retention: Retention) -> Collected:
        return Collected()

    @override
    async def effect(self, id_: str) -> SideEffect | None:
        return None

    @override
    async def effects(self, execution: str) -> list[SideEffect]:
        return []

    @override
    async def execution(self, execution: str) -> Trace | None:
        return None

    @override
    async def task(self, key: str) -> Task | None:
        return None

    @override
    async def recent_tasks(self, agent: str, *, limit: int = 20) -> list[Task]:
        return []

    @override
    async def executions(self, of: Executions = ENDED, *, limit: int = 20) -> list[Execution]:
        return []

    @override
    async def execution_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        return []

    @override
    async def effect_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        return []

    @override
    async def approval_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        return []

    @override
    async def lengths(self, executions: Collection[str]) -> dict[str, int]:
        return {}

    @override
    async def agents(self, *, limit: int = 20) -> list[str]:
        return []

    @override
    async def dependants(self, preconditions: Collection[str]) -> list[Outline]:
        return []

    @override
    async def totals(self, *, since: int | None = None, dead: Collection[str] = ()) -> Totals:
        return Totals()

    @override
    async def examine(self) -> list[Finding]:
        return []

    @override
    async def task_keys(self, *, after: str = "", limit: int = 1000) -> list[str]:
        return []

    @override
    async def namespaces(self, *, limit: int = 20) -> list[str]:
        return []

    @override
    async def uris(self, *, after: str = "", limit: int = 1000) -> list[str]:
        return []

    @override
    async def doubts(self, *, limit: int = 100) -> list[SideEffect]:
        return []

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
        raise StoreUnavailable(
            "EXECGRAPH_MODE=off keeps no graph that could be asked; unset it to ask the store"
        )
