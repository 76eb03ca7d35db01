"""Every store keeps every promise: store x check."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from execgraph.graphstore.conformance import CHECKS, SHARING_CHECKS, Check, SharingCheck
from execgraph.graphstore.connect import connect
from execgraph.graphstore.store import GraphStore

pytestmark = pytest.mark.conformance

MakeStore = Callable[[], GraphStore]


def _name(check: object) -> str:
    return getattr(check, "__name__", "check").removeprefix("check_")


@pytest.fixture
def make_store(url: str) -> MakeStore:
    """Makes stores, not opened, on the same data."""
    return lambda: connect(url)


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
