"""What to say of a namespace in which there is nothing: most often its name was mistyped."""

from __future__ import annotations

from ...graphstore.store import GraphStore

__all__ = ["elsewhere"]

_NAMED = 20  # namespaces


async def elsewhere(store: GraphStore, namespace: str) -> str | None:
    """Where there is something, if there is nothing in this namespace; else None."""
    known = await store.namespaces(limit=_NAMED)
    if namespace in known or len(known) == _NAMED:
        return None
    others = ", ".join(map(repr, known)) or "none"
    return f"there is nothing in the namespace {namespace!r}; in this store are: {others}"
