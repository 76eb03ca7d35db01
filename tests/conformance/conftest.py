"""Two open stores on the same data."""

from __future__ import annotations

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
    async with opened(url, one.namespace) as store:
        yield store
