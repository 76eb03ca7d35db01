"""Opening and closing."""

from __future__ import annotations

from ..document import Document
from ..errors import StoreError
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
    try:
        await store.change(namespace, "acl:a", Document.of(2))
    except StoreError:
        pass
    else:
        raise AssertionError("a closed store writes nothing, and says so")
    try:
        await store.still(namespace, "deploy-1", {})
    except StoreError:
        pass
    else:
        raise AssertionError("a closed store reads nothing, and says so")
    await store.open()
    found = await store.document(namespace, "acl:a")
    true(found is not None and found[0] == 1, "what was committed is there after reopening")
    await store.change(namespace, "acl:a", Document.of(2))


CHECKS = (check_opening_twice_does_nothing, check_closing_loses_nothing)
