"""A clock that is set back makes no fact last longer than it was to be believed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Expected
from execgraph.graphstore.model import ChangeKind
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.sqlite import clock
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import guard, published, sample_effect, sample_recording

from .conftest import Cypher

_URI, _HOUR_MS = "acl:prod", 3_600_000
_LASTS = timedelta(minutes=5)
_EXPECTED = [Expected(_URI, 1, believed=True)]


@pytest.fixture
async def sqlite_store(tmp_path: Path, space: str) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(str(tmp_path / "graph.db"), namespace=space)
    await store.open()
    yield store
    await store.close()


async def _observed(store: GraphStore, *, lasts: timedelta | None = _LASTS) -> None:
    await store.change(_URI, Document.of({"a": 1}), until=lasts)
    await published(store, sample_recording(guards=[guard(store.namespace, _URI, {"a": 1})]))


async def _believed(store: GraphStore) -> set[bool]:
    """What each way to ask says: facts, lookup, the check from memory, and that of an effect."""
    facts = await store.facts({_URI: frozenset({None})})
    found = await store.lookup("deploy", lambda traces, _: traces[0].id)
    number = time.monotonic_ns()
    return {
        facts.of(_URI).believed(facts.now),
        found.facts.of(_URI).believed(found.facts.now),
        await store.still("deploy-1", {_URI: 1}),
        await store.intend(sample_effect("deploy-2", number), _EXPECTED) is not None,
    }


async def test_sqlite_believes_nothing_that_was_told_in_the_future(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _observed(sqlite_store)
    assert await _believed(sqlite_store) == {True}
    now = clock.now_ms()
    for module in ("clock", "facts", "recording", "changes", "store"):
        monkeypatch.setattr(f"execgraph.graphstore.sqlite.{module}.now_ms", lambda: now - _HOUR_MS)
    assert await _believed(sqlite_store) == {False}
    await sqlite_store.renew({_URI: 1}, until=_LASTS)
    assert await _believed(sqlite_store) == {True}


async def test_sqlite_believes_nothing_again_when_the_clock_has_caught_up(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _observed(sqlite_store)
    set_back = [_HOUR_MS]
    now = clock.now_ms()
    for module in ("clock", "facts", "recording", "changes", "store"):
        monkeypatch.setattr(
            f"execgraph.graphstore.sqlite.{module}.now_ms", lambda: now - set_back[0]
        )
    [event] = await sqlite_store.expire()  # as the walker does when it is met
    assert (event.resource, event.kind) == (_URI, ChangeKind.EXPIRED)
    for by in (_HOUR_MS, 0, _HOUR_MS):
        set_back[0] = by
        assert await _believed(sqlite_store) == {False}
        assert await sqlite_store.expire() == [], "it is told once"
    await sqlite_store.renew({_URI: 1}, until=_LASTS)
    assert await _believed(sqlite_store) == {True}


async def test_sqlite_believes_nothing_again_that_has_expired_before_the_clock_was_set_back(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _observed(sqlite_store)
    ahead = [_HOUR_MS]
    now = clock.now_ms()
    for module in ("clock", "facts", "recording", "changes", "store"):
        monkeypatch.setattr(f"execgraph.graphstore.sqlite.{module}.now_ms", lambda: now + ahead[0])
    assert len(await sqlite_store.expire()) == 1
    ahead[0] = 0
    assert await _believed(sqlite_store) == {False}


async def test_what_holds_until_it_is_replaced_does_not_depend_on_a_clock(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _observed(sqlite_store, lasts=None)
    now = clock.now_ms()
    for module in ("clock", "facts", "recording", "changes", "store"):
        monkeypatch.setattr(f"execgraph.graphstore.sqlite.{module}.now_ms", lambda: now - _HOUR_MS)
    assert await _believed(sqlite_store) == {True}


@pytest.mark.neo4j
async def test_neo4j_believes_nothing_that_was_told_in_the_future(
    neo4j_store: Neo4jStore, cypher: Cypher
) -> None:
    await _observed(neo4j_store)
    assert await _believed(neo4j_store) == {True}
    # The server's clock cannot be set here: what it wrote is put ahead instead.
    await cypher(
        "MATCH (r:Resource {namespace: $space})"
        " SET r.since = r.since + $by, r.until = r.until + $by",
        by=_HOUR_MS,
    )
    assert await _believed(neo4j_store) == {False}
    await neo4j_store.renew({_URI: 1}, until=_LASTS)
    assert await _believed(neo4j_store) == {True}


@pytest.mark.neo4j
async def test_neo4j_believes_nothing_again_when_the_clock_has_caught_up(
    neo4j_store: Neo4jStore, cypher: Cypher
) -> None:
    await _observed(neo4j_store)
    moved = (
        "MATCH (r:Resource {namespace: $space})"
        " SET r.since = r.since + $by, r.until = CASE r.until WHEN 0 THEN 0 ELSE r.until + $by END"
    )
    await cypher(moved, by=_HOUR_MS)
    [event] = await neo4j_store.expire()
    assert (event.resource, event.kind) == (_URI, ChangeKind.EXPIRED)
    await cypher(moved, by=-_HOUR_MS)
    assert await _believed(neo4j_store) == {False}
    assert await neo4j_store.expire() == [], "it is told once"
    await neo4j_store.renew({_URI: 1}, until=_LASTS)
    assert await _believed(neo4j_store) == {True}
