"""Facts: changing them, reading them, and what earlier versions held. All of it blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from ..document import Document
from ..facts import Fact, Facts, FactState, Span
from ..model import ChangeEvent, FacetChange, FacetRef, Value, new_id
from .clock import moment, now_ms
from .connection import reading, taking_away, writing
from .names import Names, find
from .queries import QUERIES
from .rows import change_event, payload, value_row

__all__ = ["Change", "changes", "current_document", "hold", "read", "read_together", "unbroken"]

Wanted = Mapping[str, frozenset[str | None]]
_FingerprintOf = Callable[[str | None], str]


@dataclass(frozen=True)
class _Current:
    """A resource's row as the transaction found it."""

    rid: int
    version: int
    present: bool


class Change:
    """One change, which may be tried several times: the costly part is done once."""

    def __init__(
        self,
        namespace: str,
        uri: str,
        document: Document | None,
        until: datetime | timedelta | None,
        source: str,
    ) -> None:
        self._namespace = namespace
        self._uri = uri
        self._document = document
        self._until = until
        self._source = source
        self._fingerprint: _FingerprintOf | None = (
            None if document is None else cache(document.fingerprint)
        )
        self._value: Mapping[str, object] | None = None

    def __call__(self, connection: sqlite3.Connection) -> ChangeEvent | None:
        self._prepare(connection)
        with taking_away(connection):
            return self._apply(Names(connection, self._namespace), now_ms())

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Fingerprints and compression of a large document would hold the lock for long."""
        if self._document is None or self._fingerprint is None:
            return
        self._value = self._value or value_row(self._document.payload)
        _ = self._document.whole
        ns = find(connection, "namespace", name=self._namespace)
        resource = ns and find(connection, "resource", ns=ns, uri=self._uri)
        if resource is not None:
            for _, _, selector in _facets(connection, resource):
                self._fingerprint(selector)

    def _apply(self, names: Names, now: int) -> ChangeEvent | None:
        until = moment(self._until, now)
        current = _current(names, self._uri, create=self._document is not None)
        if current is None or (current.version == 0 and self._document is None):
            return None
        if self._is_equal(names, current):
            names.run("set_until", resource=current.rid, until=until)
            return None
        event = self._new_version(names, current, now)
        names.run(
            "set_current",
            resource=current.rid,
            n=current.version + 1,
            present=self._document is not None,
            until=until,
        )
        return event

    def _is_equal(self, names: Names, current: _Current) -> bool:
        if current.version == 0:
            return False
        if self._document is None:
            return not current.present
        row = names.row("version", resource=current.rid, n=current.version)
        if row is None or row[1] != self._document.whole:
            return False
        if row[0] == self._document.payload.digest:
            self._store_document(names)  # heals it, should the disk have damaged it
        return True

    def _store_document(self, names: Names) -> None:
        if self._value is not None:
            names.run("add_value", ns=names.ns, **self._value)

    def _new_version(self, names: Names, current: _Current, now: int) -> ChangeEvent:
        document = self._document
        self._store_document(names)
        names.run(
            "add_version",
            resource=current.rid,
            n=current.version + 1,
            document=None if document is None else document.payload.digest,
            fingerprint=None if document is None else document.whole,
            at=now,
        )
        return self._record(names, current, now, self._hold_facets(names, current))

    def _hold_facets(self, names: Names, current: _Current) -> dict[int, FacetChange]:
        """HOLDS for each facet of the resource; the facets that differ, by rid."""
        before = _Before(names, current)
        differing = {}
        for rid, key, selector in _facets(names.connection, current.rid):
            after = None if self._fingerprint is None else self._fingerprint(selector)
            if after is not None:
                ref = FacetRef(self._uri, selector)
                names.run(
                    "add_holds",
                    facet=rid,
                    n=current.version + 1,
                    precondition=names.precondition(ref, after, rid),
                )
            if (was := before.of(rid, selector)) != after:
                differing[rid] = FacetChange(
                    facet=key, resource=self._uri, selector=selector, before=was, after=after
                )
        return differing

    def _record(
        self, names: Names, current: _Current, now: int, differing: Mapping[int, FacetChange]
    ) -> ChangeEvent:
        event = ChangeEvent(
            id=new_id(now),
            resource=self._uri,
            from_version=current.version,
            to_version=current.version + 1,
            withdrawn=self._document is None,
            source=self._source,
            at=now,
            changed=tuple(differing.values()),
        )
        columns = event.model_dump(exclude={"resource", "changed"})
        rid = names.add("add_change_event", ns=names.ns, resource=current.rid, **columns)
        for facet, it in differing.items():
            names.run("add_changed", event=rid, facet=facet, before=it.before, after=it.after)
        return event


class _Before:
    """The fingerprints of the version that is being replaced."""

    def __init__(self, names: Names, current: _Current) -> None:
        self._names = names
        self._current = current
        at = {"resource": current.rid, "n": current.version}
        self._held: dict[int, str] = dict(
            names.connection.execute(QUERIES["held_fingerprints"], at)
        )
        self._document: Document | None = None

    def of(self, facet: int, selector: str | None) -> str | None:
        """None where no readable version was, or its payload is damaged."""
        if not self._current.present:
            return None
        if facet in self._held:
            return self._held[facet]
        # A facet first required after that version came, and computed for none yet.
        if self._document is None:
            self._document = _stored_document(self._names, self._current)
        return None if self._document is None else self._document.fingerprint(selector)


def _stored_document(names: Names, current: _Current) -> Document | None:
    at = {"resource": current.rid, "n": current.version}
    digest, _ = names.connection.execute(QUERIES["version"], at).fetchone()
    rows = names.connection.execute(
        QUERIES["values"], {"ns": names.ns, "digests": f'["{digest}"]'}
    ).fetchall()
    data = payload(*rows[0]) if rows else None
    return None if data is None else Document(Value(digest=digest, data=data))


def _facets(connection: sqlite3.Connection, resource: int) -> list[tuple[int, str, str | None]]:
    return connection.execute(QUERIES["facets_of_resource"], {"resource": resource}).fetchall()


def _current(names: Names, uri: str, *, create: bool) -> _Current | None:
    row = names.row("resource", ns=names.ns, uri=uri)
    if row is None and create:
        row = (names.resource(uri), 0, 0, None)
    if row is None:
        return None
    return _Current(rid=row[0], version=row[1], present=bool(row[2]))


def hold(
    connection: sqlite3.Connection,
    namespace: str,
    uri: str,
    version: int,
    fingerprints: Mapping[str | None, str],
) -> None:
    """Add facets, and that this version holds them so. A withdrawn version holds nothing."""
    with writing(connection):
        names = Names(connection, namespace)
        row = names.row("version", resource=names.resource(uri), n=version)
        for selector, fingerprint in fingerprints.items():
            ref = FacetRef(uri, selector)
            facet = names.facet(ref)
            if row is not None and row[0] is not None:
                precondition = names.precondition(ref, fingerprint, facet)
                names.run("add_holds", facet=facet, n=version, precondition=precondition)


def read(connection: sqlite3.Connection, ns: int, wanted: Wanted) -> Facts:
    """The current facts; inside the caller's read transaction they are of one moment."""
    found = {uri: _read_one(connection, ns, uri, wanted[uri]) for uri in wanted}
    return Facts(now_ms(), {uri: fact for uri, fact in found.items() if fact is not None})


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
    rid, version, present, until = row
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


def current_document(
    connection: sqlite3.Connection, ns: int, uri: str
) -> tuple[int, str, tuple[str, int, bytes] | None] | None:
    """The current version's number, its document's digest, and the row of its payload."""
    with reading(connection):
        row = connection.execute(QUERIES["resource"], {"ns": ns, "uri": uri}).fetchone()
        if row is None or not row[2]:
            return None
        at = {"resource": row[0], "n": row[1]}
        digest, _ = connection.execute(QUERIES["version"], at).fetchone()
        wanted = {"ns": ns, "digests": f'["{digest}"]'}
        return row[1], digest, connection.execute(QUERIES["values"], wanted).fetchone()


def unbroken(connection: sqlite3.Connection, ns: int, spans: Sequence[Span]) -> list[bool]:
    """For each span, whether as many versions hold the precondition as there are in it."""
    return [_holding(connection, ns, span) >= span.through - span.after for span in spans]


def _holding(connection: sqlite3.Connection, ns: int, span: Span) -> int:
    at = {"ns": ns, "id": span.precondition, "after": span.after, "through": span.through}
    (count,) = connection.execute(QUERIES["versions_holding"], at).fetchone()
    return int(count)


def changes(
    connection: sqlite3.Connection, ns: int, uri: str | None, limit: int
) -> list[ChangeEvent]:
    """The newest change events, newest first."""
    query = "change_events" if uri is None else "change_events_of_resource"
    at = {"ns": ns, "uri": uri, "limit": limit}
    with reading(connection):
        rows = connection.execute(QUERIES[query], at).fetchall()
        return [
            change_event(row, connection.execute(QUERIES["changed"], {"event": rid}).fetchall())
            for rid, *row in rows
        ]
