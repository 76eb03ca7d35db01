"""Every store keeps every promise: store x check."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from execgraph.graphstore.conformance import CHECKS, SHARING_CHECKS, Check, SharingCheck
from execgraph.graphstore.store import GraphStore

MakeStore = Callable[[], GraphStore]


def _name(check: object) -> str:
    return getattr(check, "__name__", "check").removeprefix("check_")


@pytest.fixture(params=["sqlite", pytest.param("neo4j", marks=pytest.mark.neo4j)])
def make_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MakeStore:
    """Makes stores, not opened, on the same data."""
    if request.param == "sqlite":
        from execgraph.graphstore.sqlite.store import SqliteStore

        path = tmp_path_factory.mktemp("store") / "graph.db"
        return lambda: SqliteStore(str(path))
    from execgraph.graphstore.neo4j.store import Neo4jStore

    uri = request.getfixturevalue("neo4j_uri")
    return lambda: Neo4jStore(uri)


@pytest.fixture
async def stores(make_store: MakeStore) -> AsyncIterator[tuple[GraphStore, GraphStore]]:
    one, two = make_store(), make_store()
    await one.open()
    await two.open()
    yield one, two
    await one.close()
    await two.close()


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.mark.parametrize("check", CHECKS, ids=_name)
async def test_store_keeps_its_promise(
    stores: tuple[GraphStore, GraphStore], namespace: str, check: Check
) -> None:
    await check(stores[0], namespace)


@pytest.mark.parametrize("check", SHARING_CHECKS, ids=_name)
async def test_stores_share_their_data(
    stores: tuple[GraphStore, GraphStore], namespace: str, check: SharingCheck
) -> None:
    await check(*stores, namespace)
