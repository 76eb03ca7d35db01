"""Store URLs: which one is meant, which schemes there are, how one is shown without secrets."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from .errors import ConfigurationError

__all__ = ["DEFAULT_FILE", "NEO4J_SCHEMES", "absolute", "chosen", "redacted"]

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
