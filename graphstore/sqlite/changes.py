"""Changing facts: new versions, belief for another while, expiry. All of it blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..document import Document
from ..facts import EXPIRY, check_noted, differing
from ..model import ChangeEvent, ChangeKind, FacetChange, FacetRef, Value, new_id
from .clock import SLACK_MS, end_of_belief, now_ms
from .connection import taking_away, writing
from .marks import open_walk_of_event
from .names import Names, find
from .queries import QUERIES
from .recording import clear_suspicion
from .rows import payload, value_row

__all__ = ["Change", "expire", "hold", "renew"]

_FingerprintOf = Callable[[str | None], str]


@dataclass(frozen=True)
class _Current:
    """A resource's row as the transaction found it."""

    uri: str
    rid: int
    version: int
    present: bool
    expired: bool  # and an event says so

    def facets(self, names: Names) -> dict[str, FacetRef]:
        """Its facets, by key."""
        selectors = _facets(names.connection, self.rid)
        return {key: FacetRef(self.uri, selector) for _, key, selector in selectors}


class Change:
    """One change, which may be tried several times: the costly part is done once."""

    def __init__(
        self,
        namespace: str,
        uri: str,
        document: Document | None,
        *,
        until: datetime | timedelta | None,
        source: str,
        noted: int | None = None,
    ) -> None:
        self._namespace = namespace
        self._uri = uri
        self._document = document
        self._until = until
        self._source = source
        self._noted = noted
        self._fingerprint: _FingerprintOf | None = None if document is None else document.held
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
        until = end_of_belief(self._until, now)
        current = _current(names, self._uri, create=self._document is not None)
        check_noted(self._uri, self._noted, 0 if current is None else current.version)
        if current is None or (current.version == 0 and self._document is None):
            return None
        if self._is_equal(names, current):
            return _renew(names, current, until=until, now=now, source=self._source)
        event = self._new_version(names, current, now)
        names.run(
            "set_current",
            resource=current.rid,
            n=current.version + 1,
            present=self._document is not None,
            until=until,
            now=now,
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
            clear_suspicion(names, [str(self._value["digest"])])

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
        facets = current.facets(names)
        before, after = _held_before(names, current, facets), self._hold_facets(names, current)
        kind = ChangeKind.WITHDRAWN if document is None else ChangeKind.CHANGED
        what = (kind, current.version + 1, self._source)
        return _record(names, current, what, differing(facets, before, after), now)

    def _hold_facets(self, names: Names, current: _Current) -> dict[str, str]:
        """HOLDS for each facet of the resource: fingerprints by the keys of facets."""
        if self._fingerprint is None:
            return {}
        held = {}
        for rid, key, selector in _facets(names.connection, current.rid):
            held[key] = self._fingerprint(selector)
            precondition = names.precondition(FacetRef(self._uri, selector), held[key], rid)
            names.run("add_holds", facet=rid, n=current.version + 1, precondition=precondition)
        return held


_What = tuple[ChangeKind, int, str]  # kind, to which version, source


def _record(
    names: Names, current: _Current, what: _What, changed: tuple[FacetChange, ...], now: int
) -> ChangeEvent:
    """Write a change event, and open its walk."""
    kind, version, source = what
    event = ChangeEvent(
        id=new_id(now),
        resource=current.uri,
        kind=kind,
        from_version=current.version,
        to_version=version,
        source=source,
        at=now,
        changed=changed,
    )
    columns = event.model_dump(exclude={"resource", "changed"}, mode="json")
    rid = names.add("add_change_event", ns=names.ns, resource=current.rid, **columns)
    names.connection.executemany(
        QUERIES["add_changed"],
        [(rid, it.before, it.after, names.ns, it.facet) for it in changed],
    )
    open_walk_of_event(names, rid, now)
    return event


def _renew(
    names: Names, current: _Current, *, until: int | None, now: int, source: str
) -> ChangeEvent | None:
    """Set ``until`` of a version that stays; the event if that brings it back."""
    names.run("set_until", resource=current.rid, until=until, now=now)
    if not current.present or not current.expired or (until is not None and until <= now):
        return None
    changed = differing(current.facets(names), {}, _held(names, current))
    return _record(names, current, (ChangeKind.RENEWED, current.version, source), changed, now)


def renew(
    connection: sqlite3.Connection,
    namespace: str,
    noted: Mapping[str, int],
    until: datetime | timedelta | None,
    source: str,
) -> frozenset[str]:
    """Believe versions that stay, and say which of those noted do."""
    with writing(connection):
        names, now = Names(connection, namespace), now_ms()
        renewed = set()
        for uri, version in noted.items():
            current = _current(names, uri, create=False)
            if current is None or current.version != version:
                continue
            renewed.add(uri)
            if current.present:
                _renew(names, current, until=end_of_belief(until, now), now=now, source=source)
    return frozenset(renewed)


def expire(connection: sqlite3.Connection, namespace: str) -> list[ChangeEvent]:
    """Record expiries that no event tells of yet."""
    ns = find(connection, "namespace", name=namespace)
    if ns is None or not _due(connection, ns, now_ms()):
        return []
    with writing(connection):
        names, now = Names(connection, namespace), now_ms()
        return [_expire(names, uri, now) for uri in _due(connection, names.ns, now)]


def _due(connection: sqlite3.Connection, ns: int, now: int) -> list[str]:
    """What is no longer to be believed, and no event says so."""
    at = {"ns": ns, "now": now, "ahead": now + SLACK_MS}
    return [uri for (uri,) in connection.execute(QUERIES["due"], at)]


def _expire(names: Names, uri: str, now: int) -> ChangeEvent:
    current = _current(names, uri, create=False)
    assert current is not None
    names.run("set_expired", resource=current.rid)
    changed = differing(current.facets(names), _held(names, current), {})
    return _record(names, current, (ChangeKind.EXPIRED, current.version, EXPIRY), changed, now)


def _held(names: Names, current: _Current) -> dict[str, str]:
    """The fingerprints that its version holds, by the keys of facets."""
    at = {"resource": current.rid, "n": current.version}
    return dict(names.connection.execute(QUERIES["held_fingerprints"], at).fetchall())


def _held_before(names: Names, current: _Current, facets: Mapping[str, FacetRef]) -> dict[str, str]:
    """What a version that is being replaced held: none where it is not to be believed."""
    if not current.present or current.expired:
        return {}
    held = _held(names, current)
    late = {key: facet for key, facet in facets.items() if key not in held}
    # Facets first required after that version came, and computed for none yet. If its payload is
    # damaged, what they were is lost.
    if late and (document := _stored_document(names, current)) is not None:
        held |= {key: document.held(facet.selector) for key, facet in late.items()}
    return held


def _stored_document(names: Names, current: _Current) -> Document | None:
    at = {"resource": current.rid, "n": current.version}
    stored = names.connection.execute(QUERIES["version"], at).fetchone()
    if stored is None:
        return None
    digest = stored[0]
    rows = names.connection.execute(
        QUERIES["values"], {"ns": names.ns, "digests": f'["{digest}"]'}
    ).fetchall()
    data = payload(*rows[0]) if rows else None
    return None if data is None else Document(Value(digest=digest, data=data))


def _facets(connection: sqlite3.Connection, resource: int) -> list[tuple[int, str, str | None]]:
    return connection.execute(QUERIES["facets_of_resource"], {"resource": resource}).fetchall()


def _current(names: Names, uri: str, *, create: bool) -> _Current | None:
    row = names.row("resource", ns=names.ns, uri=uri)
    if row is None:
        return _Current(uri, names.resource(uri), 0, False, False) if create else None
    rid, version, present, _, _, expired = row
    return _Current(uri, rid, version, bool(present), bool(expired))


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
