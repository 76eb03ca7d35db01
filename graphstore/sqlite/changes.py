"""Changing facts: new versions, belief for another while, expiry. All of it blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..document import Document
from ..model import ChangeEvent, ChangeKind, FacetChange, FacetRef, Value, new_id
from ..store import EXPIRY, check_noted
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

    rid: int
    version: int
    present: bool
    expired: bool  # and an event says so


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
            return _renew(names, self._uri, current, until=until, now=now, source=self._source)
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
        kind = ChangeKind.WITHDRAWN if document is None else ChangeKind.CHANGED
        at = (self._uri, kind, current.version, current.version + 1, self._source)
        return _record(names, current.rid, at, self._hold_facets(names, current), now)

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


_What = tuple[str, ChangeKind, int, int, str]  # resource, kind, from version, to version, source


def _record(
    names: Names, resource: int, what: _What, differing: Mapping[int, FacetChange], now: int
) -> ChangeEvent:
    """Write a change event, with the facets that differ by rid, and open its walk."""
    uri, kind, before, after, source = what
    event = ChangeEvent(
        id=new_id(now),
        resource=uri,
        kind=kind,
        from_version=before,
        to_version=after,
        source=source,
        at=now,
        changed=tuple(sorted(differing.values(), key=lambda it: it.facet)),
    )
    columns = event.model_dump(exclude={"resource", "changed"}, mode="json")
    rid = names.add("add_change_event", ns=names.ns, resource=resource, **columns)
    for facet, it in differing.items():
        names.run("add_changed", event=rid, facet=facet, before=it.before, after=it.after)
    open_walk_of_event(names, rid, now)
    return event


def _renew(
    names: Names, uri: str, current: _Current, *, until: int | None, now: int, source: str
) -> ChangeEvent | None:
    """Set ``until`` of a version that stays; the event if that brings it back."""
    names.run("set_until", resource=current.rid, until=until, now=now)
    if not current.present or not current.expired or (until is not None and until <= now):
        return None
    changed = {
        rid: change.model_copy(update={"before": None, "after": change.before})
        for rid, change in _expiring(names, uri, current).items()
    }
    what = (uri, ChangeKind.RENEWED, current.version, current.version, source)
    return _record(names, current.rid, what, changed, now)


def _expiring(names: Names, uri: str, current: _Current) -> dict[int, FacetChange]:
    """What the facets of a version turn to when it may no longer be believed."""
    at = {"resource": current.rid, "n": current.version}
    held = dict(names.connection.execute(QUERIES["held_fingerprints"], at).fetchall())
    return {
        rid: FacetChange(facet=key, resource=uri, selector=selector, before=held[rid], after=None)
        for rid, key, selector in _facets(names.connection, current.rid)
        if rid in held
    }


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
                _renew(names, uri, current, until=end_of_belief(until, now), now=now, source=source)
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
    names = ("expired_by_now", "believed_ahead")
    found = [row for name in names for row in connection.execute(QUERIES[name], at)]
    return list(dict.fromkeys(uri for (uri,) in found))


def _expire(names: Names, uri: str, now: int) -> ChangeEvent:
    current = _current(names, uri, create=False)
    assert current is not None
    names.run("set_expired", resource=current.rid)
    what = (uri, ChangeKind.EXPIRED, current.version, current.version, EXPIRY)
    return _record(names, current.rid, what, _expiring(names, uri, current), now)


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
        """None where no believable version was, or its payload is damaged."""
        if not self._current.present or self._current.expired:
            return None
        if facet in self._held:
            return self._held[facet]
        # A facet first required after that version came, and computed for none yet.
        if self._document is None:
            self._document = _stored_document(self._names, self._current)
        return None if self._document is None else self._document.held(selector)


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
    row = names.row("resource_to_change", ns=names.ns, uri=uri)
    if row is None and create:
        row = (names.resource(uri), 0, 0, 0)
    if row is None:
        return None
    return _Current(rid=row[0], version=row[1], present=bool(row[2]), expired=bool(row[3]))


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
