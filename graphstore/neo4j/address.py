"""What a Neo4j store URL says: where the server is, which database, and as whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import UnknownStore
from ..urls import NEO4J_SCHEMES, redacted

__all__ = ["Address"]

_DATABASE = "neo4j"


@dataclass(frozen=True, slots=True)
class Address:
    """A store URL in parts. Only ``credentials`` holds secrets, and no repr shows it."""

    uri: str  # as the driver takes it: no credentials, no database
    database: str
    credentials: tuple[str, str] | None = field(repr=False)

    @classmethod
    def of_driver(cls) -> Address:
        """Where a driver leads that was given without a URL: to its server's default database."""
        return cls(uri="neo4j://given-driver", database=_DATABASE, credentials=None)

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises UnknownStore, with a message that holds no credentials."""
        parts = _split(url)
        user, _, host = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        return cls(
            uri=parts._replace(netloc=host, path="", fragment="").geturl(),
            database=unquote(parts.path.strip("/")) or _DATABASE,
            credentials=(unquote(name), unquote(password)) if user else None,
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port is None or parts.port > 0 else None
    except ValueError:  # its message quotes what stands for the port: perhaps half a password
        raise UnknownStore(_complaint(url)) from None
    outside = f"{parts.path}{parts.query}{parts.fragment}"
    if parts.scheme not in NEO4J_SCHEMES or not host or "@" in outside or parts.fragment:
        raise UnknownStore(_complaint(url))
    return parts


def _complaint(url: str) -> str:
    return (
        f"{redacted(url)!r} is not the address of a Neo4j database; write for example"
        " 'neo4j://user:password@host:7687/database', with '/', '?', '#', '%' and '@' in the"
        " password written as %2F, %3F, %23, %25 and %40"
    )
