"""Reading facts, and what earlier versions held. All of it blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from ..errors import PayloadCorrupted
from ..facts import Fact, Facts, FactState, Span
from ..model import ChangeEvent
from ..records import event_of
from .clock import believed_until, now_ms
from .connection import reading
from .queries import QUERIES

__all__ = [
    "changes",
    "current_at",
    "document",
    "read",
    "read_together",
    "resources",
    "selectors",
    "unbroken",
]

Wanted = Mapping[str, frozenset[str | None]]


def read(connection: sqlite3.Connection, ns: int, wanted: Wanted) -> Facts:
    """The current facts; inside the caller's read transaction they are of one moment."""
    facts = {uri: _read_one(connection, ns, uri, wanted[uri]) for uri in wanted}
    return Facts(now_ms(), {uri: fact for uri, fact in facts.items() if fact is not None})


def read_together(connection: sqlite3.Connection, ns: int, wanted: Wanted) -> Facts:
    """``read`` in a transaction of its own."""
    with reading(connection):
        return read(connection, ns, wanted)


def _read_one(
    connection: sqlite3.Connection, ns: int, uri: str, selectors: frozenset[str | None]
) -> Fact | None:
    row = connection.execute(QUERIES["resource"], {"ns": ns, "uri": uri}).fetchone()
    if row is None or row[1] == 0:
        return None
    rid, version, present, until, since, _ = row
    until = believed_until(until, since, now_ms())
    if not present:
        return Fact(version, FactState.WITHDRAWN, until)
    held = {}
    for selector in selectors:
        at = {"resource": rid, "n": version, "selector": selector}
        if (
            fingerprint := connection.execute(QUERIES["held_fingerprint"], at).fetchone()
        ) is not None:
            held[selector] = fingerprint[0]
    return Fact(version, FactState.PRESENT, until, held)


def document(
    connection: sqlite3.Connection, ns: int, uri: str, version: int | None
) -> tuple[int, str, tuple[str, int, bytes] | None] | None:
    """A version's number (None: the current one), its document's digest, and the row of its
    payload."""
    with reading(connection):
        row = connection.execute(QUERIES["resource"], {"ns": ns, "uri": uri}).fetchone()
        if row is None or (version is None and not row[2]):
            return None
        n = row[1] if version is None else version
        stored = connection.execute(QUERIES["version"], {"resource": row[0], "n": n}).fetchone()
        if stored is None or stored[0] is None:
            if version is not None:
                return None
            raise PayloadCorrupted((f"the document of {uri}, version {n}",))
        digest = stored[0]
        wanted = {"ns": ns, "digests": f'["{digest}"]'}
        return n, digest, connection.execute(QUERIES["values"], wanted).fetchone()


def unbroken(connection: sqlite3.Connection, ns: int, spans: Sequence[Span]) -> list[bool]:
    """For each span, whether as many versions hold the precondition as there are in it."""
    return [_holding(connection, ns, span) >= span.through - span.after for span in spans]


def current_at(
    connection: sqlite3.Connection, ns: int, uris: Collection[str], at: int
) -> dict[str, int]:
    """The number of the version of each resource that was current at the moment ``at``."""
    with reading(connection):
        asked = [(uri, {"ns": ns, "uri": uri, "at": at}) for uri in uris]
        rows = [
            (uri, connection.execute(QUERIES["current_at"], parameters).fetchone())
            for uri, parameters in asked
        ]
    return {uri: row[0] for uri, row in rows if row is not None}


def _holding(connection: sqlite3.Connection, ns: int, span: Span) -> int:
    at = {"ns": ns, "id": span.precondition, "after": span.after, "through": span.through}
    (count,) = connection.execute(QUERIES["versions_holding"], at).fetchone()
    return int(count)


def changes(
    connection: sqlite3.Connection, ns: int, uri: str | None, since: int | None, limit: int | None
) -> list[ChangeEvent]:
    """The newest change events, newest first."""
    query = "change_events" if uri is None else "change_events_of_resource"
    at = {"ns": ns, "uri": uri, "since": since or 0, "limit": -1 if limit is None else limit}
    with reading(connection):
        rows = connection.execute(QUERIES[query], at).fetchall()
        return [
            event_of(row, connection.execute(QUERIES["changed"], {"event": rid}).fetchall())
            for rid, *row in rows
        ]


def resources(connection: sqlite3.Connection, ns: int, source: str) -> dict[str, int]:
    """The versions of resources that are present by the word of ``source``."""
    rows = connection.execute(QUERIES["resources_of_source"], {"ns": ns, "source": source})
    return dict(rows.fetchall())


def selectors(connection: sqlite3.Connection, ns: int, uri: str) -> frozenset[str | None]:
    """The selectors of a resource's facets."""
    rows = connection.execute(QUERIES["selectors"], {"ns": ns, "uri": uri})
    return frozenset(selector for (selector,) in rows)
