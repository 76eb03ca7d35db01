"""Opening and closing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import StoreNotOpen
from execgraph.graphstore.retention import Retention
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import published, sample_recording


async def test_opening_twice_does_nothing(store: GraphStore, namespace: str) -> None:
    await published(store, namespace, sample_recording())
    await store.open()
    assert await store.still(namespace, "deploy-1", {}), "an open store stays as it is"


async def test_closing_loses_nothing(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, "acl:a", Document.of(1))
    await store.close()
    await store.close()
    said = f"the store {store.url} is not open: `await store.open()` first"
    for what, use in _USES.items():
        with pytest.raises(StoreNotOpen) as refused:
            await use(store, namespace)
        assert str(refused.value) == said, f"a closed store says so: {what}"
    await store.open()
    found = await store.document(namespace, "acl:a")
    assert found is not None
    assert found[0] == 1, "what was committed is there after reopening"
    await store.change(namespace, "acl:a", Document.of(2))


_Use = Callable[[GraphStore, str], Awaitable[Any]]
_USES: Mapping[str, _Use] = {
    "change": lambda store, space: store.change(space, "acl:a", Document.of(2)),
    "still": lambda store, space: store.still(space, "deploy-1", {}),
    "values": lambda store, space: store.values(space, ["unknown"]),
    "execution": lambda store, space: store.execution(space, "unknown"),
    "write": lambda store, space: store.write(space, sample_recording()),
    "totals": lambda store, space: store.totals(space),
    "collect": lambda store, space: store.collect(space, Retention()),
    "cypher": lambda store, space: store.cypher(
        space, "RETURN 1 AS one", {}, time_limit=timedelta(seconds=5), limit=1
    ),
}
