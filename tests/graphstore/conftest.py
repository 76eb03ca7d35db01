"""Fixtures of the Neo4j store's tests. Each test has a namespace to itself; nothing is wiped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from execgraph.graphstore.neo4j.address import Address
from execgraph.graphstore.neo4j.store import Neo4jStore

if TYPE_CHECKING:
    from neo4j import AsyncDriver

Cypher = Callable[..., Awaitable[list[list[Any]]]]


@pytest.fixture
def space(namespace: str) -> str:
    """A namespace that nobody used before."""
    return namespace


@pytest.fixture
async def neo4j_driver(neo4j_uri: str) -> AsyncIterator[AsyncDriver]:
    """A driver that the tests look with."""
    from neo4j import AsyncGraphDatabase

    address = Address.of(neo4j_uri)
    async with AsyncGraphDatabase.driver(
        address.uri, auth=address.credentials, notifications_min_severity="OFF"
    ) as driver:
        yield driver


@pytest.fixture
async def neo4j_store(neo4j_uri: str, space: str) -> AsyncIterator[Neo4jStore]:
    """An open store."""
    store = Neo4jStore(neo4j_uri, namespace=space)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def cypher(neo4j_driver: AsyncDriver, neo4j_uri: str, space: str) -> Cypher:
    """Runs a statement, with ``$space`` bound, and gives its rows."""
    database = Address.of(neo4j_uri).database

    async def run(statement: str, **parameters: Any) -> list[list[Any]]:
        async with neo4j_driver.session(database=database) as session:
            result = await session.run(statement, {"space": space, **parameters})
            return await result.values()

    return run
