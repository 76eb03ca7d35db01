"""Store URLs: which schemes there are, and how one is shown without its secrets."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["NEO4J_SCHEMES", "redacted"]

NEO4J_SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")


def redacted(url: str) -> str:
    """``url`` without its credentials, fit for a message, a log or a repr."""
    try:
        parts = urlsplit(url)
        if "@" not in parts.netloc:
            return url if "@" not in url else f"{parts.scheme}://..."
        return parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl()
    except ValueError:
        return "..."
