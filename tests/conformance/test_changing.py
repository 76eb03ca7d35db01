"""A change makes a new version, or none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import ABSENT, FactState
from execgraph.graphstore.model import ChangeKind
from execgraph.graphstore.store import GraphStore

_URI = "acl:prod/deploy"
_WHOLE = {_URI: frozenset({None})}


async def test_unknown_resource_is_absent(store: GraphStore) -> None:
    facts = await store.read_facts(_WHOLE)
    assert facts.of(_URI) == ABSENT, "a resource nobody observed is absent"
    assert await store.document(_URI) is None, "an absent resource has no document"
    assert await store.changes() == [], "nothing changed yet"


async def test_first_change_makes_version_1(store: GraphStore) -> None:
    document = Document.of({"allow": ["ops"]})
    event = await store.change(_URI, document, source="test")
    assert event is not None
    assert (event.from_version, event.to_version) == (0, 1), "a first document is version 1"
    assert (event.resource, event.source) == (_URI, "test"), "the event says what and who"
    assert event.kind == ChangeKind.CHANGED, "a document is not a withdrawal"
    fact = (await store.read_facts(_WHOLE)).of(_URI)
    assert (fact.version, fact.state, fact.until) == (1, FactState.PRESENT, None), "present at 1"
    found = await store.document(_URI)
    assert found is not None
    assert (found[0], found[1].payload) == (1, document.payload), "the document's exact bytes stay"


async def test_versions_only_grow(store: GraphStore) -> None:
    contents: list[int | None] = [1, 2, None, 1, None, 2, 1]
    for n, content in enumerate(contents, start=1):
        document = None if content is None else Document.of({"v": content})
        event = await store.change(_URI, document)
        assert event is not None, "each of these documents differs from the one before"
        assert (event.from_version, event.to_version) == (n - 1, n), "n grows by one a change"
        fact = (await store.read_facts(_WHOLE)).of(_URI)
        assert fact.version == n, "`current` is the newest version"


async def test_equal_document_only_renews_until(store: GraphStore) -> None:
    first = Document.of({"a": 1, "b": [2.0]})
    await store.change(_URI, first)
    other_bytes = Document.of({"b": [2], "a": 1})
    assert await store.change(_URI, other_bytes, until=timedelta(hours=1)) is None, (
        "an equal document is no change, whatever its bytes"
    )
    facts = await store.read_facts(_WHOLE)
    assert facts.of(_URI).version == 1, "an equal document makes no version"
    _is_about(facts.of(_URI).until, facts.now + 3_600_000, "an equal document renews `until`")
    found = await store.document(_URI)
    assert found is not None
    assert found[1].payload == first.payload, "a version's document is immutable"
    assert len(await store.changes()) == 1, "an equal document makes no event"
    await store.change(_URI, first)
    fact = (await store.read_facts(_WHOLE)).of(_URI)
    assert fact.until is None, "`until` None: until replaced, also when renewed"


async def test_until_is_by_the_clock_of_the_store(store: GraphStore) -> None:
    await store.change(_URI, Document.of(1), until=timedelta(minutes=1))
    facts = await store.read_facts(_WHOLE)
    _is_about(facts.of(_URI).until, facts.now + 60_000, "a timedelta counts from the store's now")
    moment = datetime(2031, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
    await store.change(_URI, Document.of(2), until=moment)
    facts = await store.read_facts(_WHOLE)
    assert facts.of(_URI).until == 1_927_857_906_789, "a moment is kept to the millisecond"
    await store.change(_URI, Document.of(3))
    facts = await store.read_facts(_WHOLE)
    assert facts.of(_URI).until is None, "a new version does not inherit `until`"


async def test_withdrawing(store: GraphStore) -> None:
    await store.change(_URI, Document.of({"allow": []}))
    await store.facts(_WHOLE)
    event = await store.change(_URI, None)
    assert event is not None
    assert event.kind == ChangeKind.WITHDRAWN, "the event says that it is a withdrawal"
    assert event.to_version == 2, "a withdrawal is a version"
    fact = (await store.read_facts(_WHOLE)).of(_URI)
    assert (fact.version, fact.state) == (2, FactState.WITHDRAWN), "withdrawn at 2"
    assert dict(fact.fingerprints) == {}, "a withdrawn version holds nothing"
    assert await store.document(_URI) is None, "a withdrawn resource has no document"
    assert await store.change(_URI, None) is None, "withdrawn again is no change"
    assert (await store.read_facts(_WHOLE)).of(_URI).version == 2, "and no version"


async def test_withdrawing_what_was_never_observed(store: GraphStore) -> None:
    assert await store.change(_URI, None) is None, "there is nothing to withdraw"
    assert (await store.read_facts(_WHOLE)).of(_URI) == ABSENT, "it stays absent"
    assert await store.changes() == [], "and nothing changed"


async def test_event_lists_the_facets_that_differ(store: GraphStore) -> None:
    wanted: dict[str, frozenset[str | None]] = {_URI: frozenset({"$.a", "$.b", "$.c"})}
    one, two = Document.of({"a": 1, "b": 1}), Document.of({"a": 1, "b": 2})
    await store.change(_URI, one)
    await store.facts(wanted)
    event = await store.change(_URI, two)
    assert event is not None
    changed = [(it.resource, it.selector, it.before, it.after) for it in event.changed]
    expected = [(_URI, "$.b", one.fingerprint("$.b"), two.fingerprint("$.b"))]
    assert changed == expected, "only facets whose fingerprint differs are listed"
    assert await store.changes(limit=1) == [event], "the event is kept as it was returned"
    event = await store.change(_URI, None)
    assert event is not None
    assert {(it.selector, it.before, it.after) for it in event.changed} == {
        (s, two.fingerprint(s), None) for s in ("$.a", "$.b", "$.c")
    }, "after a withdrawal no facet has a fingerprint"
    event = await store.change(_URI, one)
    assert event is not None
    assert {(it.selector, it.before, it.after) for it in event.changed} == {
        (s, None, one.fingerprint(s)) for s in ("$.a", "$.b", "$.c")
    }, "before a return no facet had a fingerprint"


async def test_event_knows_facets_that_were_not_computed(store: GraphStore) -> None:
    one, two, three = (Document.of({"a": a, "b": b}) for a, b in ((1, 1), (2, 1), (3, 1)))
    await store.change(_URI, one)
    await store.change(_URI, two)
    late: dict[str | None, str] = {s: one.fingerprint(s) for s in ("$.a", "$.b")}
    await store.hold(_URI, 1, late)  # version 2 came first: it lacks them
    event = await store.change(_URI, three)
    assert event is not None
    assert [(it.selector, it.before, it.after) for it in event.changed] == [
        ("$.a", two.fingerprint("$.a"), three.fingerprint("$.a"))
    ], "a fingerprint is a function of the document, computed before or not"


async def test_changes_are_listed_newest_first(store: GraphStore) -> None:
    events = [await store.change(f"acl:{n % 2}", Document.of(n), source=f"s{n}") for n in range(6)]
    newest_first = events[::-1]
    assert await store.changes() == newest_first, "the newest change comes first"
    assert await store.changes(limit=2) == newest_first[:2], "`limit` keeps the newest"
    assert await store.changes(resource="acl:1", limit=2) == [events[5], events[3]], (
        "`resource` leaves only its own changes, before `limit` counts"
    )
    assert await store.changes(resource="acl:9") == [], "an unknown resource has none"


def _is_about(actual: int | None, expected: int, promise: str) -> None:
    near = actual is not None and abs(actual - expected) < 10_000
    assert near, f"{promise}: expected about {expected}, got {actual}"
