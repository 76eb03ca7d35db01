"""From a store URL to a store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .errors import UnknownStore
from .store import GraphStore
from .urls import NEO4J_SCHEMES, redacted

if TYPE_CHECKING:
    from neo4j import AsyncDriver

__all__ = ["connect", "file_of"]

_EXAMPLES = "'sqlite:///graph.db' or 'neo4j://user:password@host:7687/database'"


def connect(
    url: str | None = None,
    *,
    namespace: str,
    folder: str | os.PathLike[str] = "",
    auth: Any = None,
    driver: AsyncDriver | None = None,
) -> GraphStore:
    """One namespace of the store at ``url``, not opened yet: no I/O, and no driver is imported.

    ``folder``: where a relative path begins; by default the working folder as it is now.

    ``auth``: what the Neo4j driver takes, instead of credentials in the URL. ``driver``: an
    ``AsyncDriver`` to use and never to close; with one, ``url`` may be left out. Raises
    UnknownStore.
    """
    if url is None and driver is not None:
        from .neo4j.store import Neo4jStore

        return Neo4jStore(None, namespace=namespace, driver=driver)
    if url is None:
        raise UnknownStore(f"neither a store URL nor a driver is given; use {_EXAMPLES}")
    if (path := file_of(url)) is not None:
        from .sqlite.store import SqliteStore

        return SqliteStore(os.path.join(folder, path), namespace=namespace)  # noqa: PTH118
    if _scheme(url) in NEO4J_SCHEMES:
        from .neo4j.store import Neo4jStore

        return Neo4jStore(url, namespace=namespace, auth=auth, driver=driver)
    raise UnknownStore(f"no store answers to {redacted(url)!r}; use {_EXAMPLES}")


def _scheme(url: str) -> str:
    return url.split(":", 1)[0].lower()


def file_of(url: str) -> str | None:
    """The path of the file that the store at ``url`` is; None: it is not a file. Raises
    UnknownStore."""
    if _scheme(url) != "sqlite":
        return None
    if not url.startswith("sqlite:///") or url == "sqlite:///":
        raise UnknownStore(
            f"{redacted(url)!r} names no file: 'sqlite:///graph.db' is relative to the working"
            " folder, 'sqlite:////var/lib/graph.db' is absolute"
        )
    return unquote(url.removeprefix("sqlite:///"))
