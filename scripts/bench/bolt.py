"""A Neo4j to measure on: one driver for everything, a namespace that is removed at the end."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from execgraph.graphstore.neo4j.address import Address
from execgraph.graphstore.neo4j.queries import queries

if TYPE_CHECKING:
    from neo4j import AsyncDriver

__all__ = ["LABELS", "Bolt", "Counting", "bolt", "remove"]

#: Everything that carries a namespace.
LABELS = (
    "Task",
    "Execution",
    "Step",
    "Value",
    "SideEffect",
    "Resource",
    "Version",
    "Facet",
    "Precondition",
    "ChangeEvent",
    "Lease",
    "BenchCommit",
)


class Bolt:
    """What statements cost without execgraph: by the driver that execgraph is given, too."""

    def __init__(self, driver: AsyncDriver, address: str, namespace: str) -> None:
        self.driver = driver
        self.url = address
        self.namespace = namespace
        self._database = Address.of(address).database

    async def rows(self, statement: str, **parameters: Any) -> list[list[Any]]:
        """One statement, auto-committed, in a session of its own."""
        async with self.driver.session(
            database=self._database, notifications_min_severity="OFF"
        ) as session:
            return await (await session.run(statement, parameters)).values()

    async def nothing(self) -> None:
        """The least a round trip can be."""
        await self.rows("RETURN 1")

    async def commit(self) -> None:
        """The least a write can be."""
        await self.rows("CREATE (:BenchCommit {namespace: $ns})", ns=self.namespace)

    async def hits(self, name: str, parameters: Mapping[str, Any]) -> int:
        """What the named statement touches in the database, as its profile counts it."""
        async with self.driver.session(
            database=self._database, notifications_min_severity="OFF"
        ) as session:
            result = await session.run(f"PROFILE {queries()[name]}", dict(parameters))
            summary = await result.consume()
        return _hits(summary.profile or {})


@asynccontextmanager
async def bolt(address: str) -> AsyncIterator[Bolt]:
    """A connected Bolt with a fresh namespace; what was made in it is removed."""
    from neo4j import AsyncGraphDatabase

    where = Address.of(address)
    async with AsyncGraphDatabase.driver(where.uri, auth=where.credentials) as driver:
        found = Bolt(driver, address, f"bench-{uuid.uuid4().hex[:12]}")
        try:
            yield found
        finally:
            await remove(found, found.namespace)


async def remove(it: Bolt, namespace: str) -> None:
    """Delete everything that carries this namespace."""
    for label in LABELS:
        await it.rows(
            f"MATCH (n:{label} {{namespace: $ns}}) CALL (n) {{ DETACH DELETE n }}"
            " IN TRANSACTIONS OF 5000 ROWS",
            ns=namespace,
        )


class Counting:
    """The driver, counting statements by their names and keeping their last parameters."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._names = {text: name for name, text in queries().items()}
        self.counts: Counter[str] = Counter()
        self.last: dict[str, dict[str, Any]] = {}

    @property
    def driver(self) -> AsyncDriver:
        """Itself, as an engine takes it."""
        return cast("AsyncDriver", self)

    def session(self, **settings: Any) -> Any:
        return _CountingSession(self, self._driver.session(**settings))

    def count(self, text: str, parameters: dict[str, Any]) -> None:
        name = self._names.get(text, text.split("\n", 1)[0])
        self.counts[name] += 1
        self.last[name] = parameters


class _CountingSession:
    def __init__(self, counting: Counting, session: Any) -> None:
        self._counting = counting
        self._session = session

    async def __aenter__(self) -> _CountingSession:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.__aexit__(*error)

    async def run(self, text: str, parameters: dict[str, Any]) -> Any:
        self._counting.count(text, parameters)
        return await self._session.run(text, parameters)


def _hits(plan: Mapping[str, Any]) -> int:
    own = int(plan.get("dbHits", 0))
    return own + sum(_hits(child) for child in plan.get("children", ()))
