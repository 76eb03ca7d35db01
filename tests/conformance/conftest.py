"""Open stores, and a namespace that nobody used before."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from execgraph.graphstore.connect import connect
from execgraph.graphstore.store import GraphStore


@pytest.fixture
async def store(url: str) -> AsyncIterator[GraphStore]:
    """An open store."""
    store = connect(url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def one(store: GraphStore) -> GraphStore:
    """The first of two open stores on the same data."""
    return store


@pytest.fixture
async def two(url: str, one: GraphStore) -> AsyncIterator[GraphStore]:
    """The second of two open stores on the same data."""
    store = connect(url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex}"
