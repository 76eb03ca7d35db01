"""Two open stores on the same data, and a namespace that nobody used before."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from execgraph.graphstore.store import GraphStore
from execgraph.tests.stores import opened


@pytest.fixture
def one(store: GraphStore) -> GraphStore:
    """The first of the two."""
    return store


@pytest.fixture
async def two(url: str, one: GraphStore) -> AsyncIterator[GraphStore]:
    """The second, opened after the first."""
    async with opened(url) as store:
        yield store


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex}"
