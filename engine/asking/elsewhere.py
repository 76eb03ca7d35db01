"""What to say of a namespace in which there is nothing: most often its name was mistyped."""

from __future__ import annotations

from ...graphstore.store import GraphStore

__all__ = ["elsewhere"]

_NAMED = 20  # namespaces


async def elsewhere(store: GraphStore) -> str | None:
    """Where there is something, if there is nothing in the store's namespace; else None."""
    if await store.uris(limit=1) or await store.execution_ids("", limit=1):
        return None
    known = await store.namespaces(limit=_NAMED + 1)
    more = ", ..." if len(known) > _NAMED else ""
    others = ", ".join(map(repr, known[:_NAMED])) or "none"
    return (
        f"there is nothing in the namespace {store.namespace!r}; in this store are: {others}{more}"
    )
