"""Opening and closing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from ..document import Document
from ..errors import StoreNotOpen
from ..retention import Retention
from ..store import GraphStore
from .expect import equal, true
from .samples import published, sample_recording

__all__ = ["CHECKS"]


async def check_opening_twice_does_nothing(store: GraphStore, namespace: str) -> None:
    await published(store, namespace, sample_recording())
    await store.open()
    equal(await store.still(namespace, "deploy-1", {}), True, "an open store stays as it is")


async def check_closing_loses_nothing(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, "acl:a", Document.of(1))
    await store.close()
    await store.close()
    said = f"the store {store.url} is not open: `await store.open()` first"
    for what, use in _USES.items():
        try:
            await use(store, namespace)
        except StoreNotOpen as error:
            equal(str(error), said, f"a closed store says so: {what}")
        else:
            raise AssertionError(f"a closed store does nothing, and says so: {what}")
    await store.open()
    found = await store.document(namespace, "acl:a")
    true(found is not None and found[0] == 1, "what was committed is there after reopening")
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

CHECKS = (check_opening_twice_does_nothing, check_closing_loses_nothing)
