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


async def test_opening_twice_does_nothing(store: GraphStore) -> None:
    await published(store, sample_recording())
    await store.open()
    assert await store.still("deploy-1", {}), "an open store stays as it is"


async def test_closing_loses_nothing(store: GraphStore) -> None:
    await store.change("acl:a", Document.of(1))
    await store.close()
    await store.close()
    said = f"the store {store.url} is not open: `await store.open()` first"
    for what, use in _USES.items():
        with pytest.raises(StoreNotOpen) as refused:
            await use(store)
        assert str(refused.value) == said, f"a closed store says so: {what}"
    await store.open()
    found = await store.document("acl:a")
    assert found is not None
    assert found[0] == 1, "what was committed is there after reopening"
    await store.change("acl:a", Document.of(2))


_Use = Callable[[GraphStore], Awaitable[Any]]
_USES: Mapping[str, _Use] = {
    "change": lambda store: store.change("acl:a", Document.of(2)),
    "still": lambda store: store.still("deploy-1", {}),
    "values": lambda store: store.values(["unknown"]),
    "execution": lambda store: store.execution("unknown"),
    "write": lambda store: store.write(sample_recording()),
    "totals": lambda store: store.totals(),
    "now": lambda store: store.now(),
    "ping": lambda store: store.ping(),
    "collect": lambda store: store.collect(Retention()),
    "cypher": lambda store: store.cypher(
        "RETURN 1 AS one", {}, time_limit=timedelta(seconds=5), limit=1
    ),
}


async def test_namespaces_of_one_store_share_what_is_open(store: GraphStore) -> None:
    other = store.of(f"{store.namespace}-other")
    await other.change("acl:a", Document.of(1))  # opened by the first
    await other.close()
    with pytest.raises(StoreNotOpen):
        await store.change("acl:a", Document.of(2))
    await store.open()
    found = await other.document("acl:a")
    assert found is not None
    assert found[0] == 1, "opened again by the first, it is open for the other"


async def test_the_store_tells_its_time(store: GraphStore) -> None:
    facts = await store.read_facts({})
    now = await store.now()
    assert 0 <= now - facts.now < 60_000, "it is the time that facts are believed by"


async def test_a_store_that_takes_writes_answers_a_ping_and_keeps_nothing_of_it(
    store: GraphStore,
) -> None:
    await store.ping()
    assert (await store.task_keys(), await store.uris()) == ([], [])
