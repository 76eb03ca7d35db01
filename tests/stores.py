"""The two stores that tests run on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from execgraph.graphstore.connect import connect
from execgraph.graphstore.store import GraphStore

#: For fixtures of a whole module or session; a test has its store by the fixture ``url``.
BOTH = ["sqlite", pytest.param("neo4j", marks=pytest.mark.neo4j)]


def store_url(request: pytest.FixtureRequest, folder: Path) -> str:
    """Where the store of ``request.param`` is: a file in this folder, or the run's Neo4j."""
    if request.param == "sqlite":
        return f"sqlite:///{folder}/graph.db"
    uri: str = request.getfixturevalue("neo4j_uri")
    return uri


@asynccontextmanager
async def opened(url: str, namespace: str) -> AsyncIterator[GraphStore]:
    """One namespace of the store at this address, open."""
    store = connect(url, namespace=namespace)
    await store.open()
    yield store
    await store.close()
