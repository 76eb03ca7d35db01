"""Store URLs: which one is meant, which schemes there are, how one is told without secrets."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import ConfigurationError

if TYPE_CHECKING:
    from .roles.presence import Presence

__all__ = ["DEFAULT_FILE", "NEO4J_SCHEMES", "absolute", "chosen", "options_for", "redacted"]

#: Where the graph is kept if nobody says otherwise: below the working folder.
DEFAULT_FILE = ".execgraph/graph.db"
NEO4J_SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")


def chosen(url: str | None) -> str | None:
    """The URL that was given, else EXECGRAPH_STORE; None: the default file is meant."""
    return url or os.environ.get("EXECGRAPH_STORE") or None


def absolute(path: str | os.PathLike[str]) -> Path:
    """``path`` from the root, whatever becomes the working folder later.

    Raises ConfigurationError for a relative one if the working folder is gone.
    """
    try:
        return Path(path).absolute()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{os.fspath(path)!r} is relative to the working folder, which was deleted; give the"
            " path from the root"
        ) from None


def redacted(url: str) -> str:
    """``url`` without its credentials, fit for a message, a log or a repr."""
    try:
        parts = urlsplit(url)
        if "@" not in parts.netloc:
            return url if "@" not in url else f"{parts.scheme}://..."
        return parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl()
    except ValueError:
        return "..."


def options_for(store: Presence) -> str:
    """What is to be added to a command so that it asks this namespace of this store.

    No credentials stand in it: ``***`` is to be replaced by them.
    """
    named = "" if store.namespace == "default" else f" --namespace {quote(store.namespace)}"
    return f" --store {quote(store.url)}{named}"
