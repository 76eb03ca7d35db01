"""What versions hold: facets computed early, late, and of resources not yet observed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import FactState, Span
from execgraph.graphstore.model import NEVER, FacetRef, Precondition
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import guard, sample_recording

_URI = "schema:orders"
_A: dict[str, frozenset[str | None]] = {_URI: frozenset({"$.a"})}
_ONE, _TWO = Document.of({"a": 1, "b": 1}), Document.of({"a": 2, "b": 1})


async def _held(store: GraphStore) -> dict[str | None, str]:
    return dict((await store.read_facts(_A)).of(_URI).fingerprints)


async def test_a_late_facet_is_missing_then_computed(store: GraphStore) -> None:
    await store.change(_URI, _ONE)
    found = await store.read_facts(_A)
    assert found.missing(_A) == [FacetRef(_URI, "$.a")], "a facet nobody required is not computed"
    found = await store.facts(_A)
    at = {"$.a": _ONE.fingerprint("$.a")}
    assert dict(found.of(_URI).fingerprints) == at, "`facts` computes it from the document"
    assert await _held(store) == at, "and the version holds it from then on"


async def test_a_change_computes_the_facets_it_knows(store: GraphStore) -> None:
    await store.change(_URI, _ONE)
    await store.facts({_URI: frozenset({"$.a", None, "$.zzz"})})
    await store.change(_URI, _TWO)
    wanted: dict[str, frozenset[str | None]] = {_URI: frozenset({"$.a", None, "$.zzz", "$.new"})}
    fact = (await store.read_facts(wanted)).of(_URI)
    assert dict(fact.fingerprints) == {s: _TWO.fingerprint(s) for s in ("$.a", None, "$.zzz")}, (
        "a new version holds each known facet, also one that matches nothing, and no other"
    )


async def test_only_selectors_asked_for_are_answered(store: GraphStore) -> None:
    await store.change(_URI, _ONE)
    await store.facts({_URI: frozenset({"$.a", "$.b", None})})
    assert set(await _held(store)) == {"$.a"}, "only what was asked for"
    fact = (await store.read_facts({_URI: frozenset()})).of(_URI)
    assert (fact.version, dict(fact.fingerprints)) == (1, {}), "a version can be asked for alone"


async def test_restored_document_holds_the_same(store: GraphStore) -> None:
    await store.change(_URI, _ONE)
    await store.facts(_A)
    before = await _held(store)
    await store.change(_URI, _TWO)
    assert await _held(store) != before, "another content has another fingerprint"
    await store.change(_URI, _ONE)
    assert await _held(store) == before, "the earlier content has the earlier one again"


async def test_hold_of_a_superseded_version(store: GraphStore) -> None:
    await store.change(_URI, _ONE)
    await store.change(_URI, _TWO)
    await store.hold(_URI, 1, {"$.a": _ONE.fingerprint("$.a")})
    assert await _held(store) == {}, "what version 1 holds says nothing of version 2"
    await store.change(_URI, _ONE)
    assert await _held(store) == {"$.a": _ONE.fingerprint("$.a")}, (
        "but the facet stays, and the next change computes it"
    )


async def test_hold_may_be_repeated(store: GraphStore) -> None:
    await store.change(_URI, _ONE)
    for _ in range(3):
        await store.hold(_URI, 1, {"$.a": _ONE.fingerprint("$.a")})
    assert await _held(store) == {"$.a": _ONE.fingerprint("$.a")}, "once is enough"


async def test_withdrawn_version_holds_nothing(store: GraphStore, namespace: str) -> None:
    await store.change(_URI, _ONE)
    await store.facts(_A)
    await store.change(_URI, None)
    await store.hold(_URI, 2, {"$.a": _ONE.fingerprint("$.a")})
    assert await _held(store) == {}, "a withdrawn version holds nothing, held or not"
    one = guard(namespace, _URI, {"a": 1}, "$.a").id
    unbroken = await store.unbroken([Span(one, _URI, 1, 2)])
    assert unbroken == [False], "so a span that reaches it is broken"


async def test_facet_of_an_absent_resource(store: GraphStore, namespace: str) -> None:
    never = Precondition.of(namespace, FacetRef(_URI, "$.a"), NEVER)
    await store.write(sample_recording(guards=[never]))
    fact = (await store.read_facts(_A)).of(_URI)
    assert (fact.version, fact.state) == (0, FactState.ABSENT), "to be required is not observed"
    event = await store.change(_URI, _ONE)
    assert event is not None
    changed = [(it.selector, it.before, it.after) for it in event.changed]
    assert changed == [("$.a", None, _ONE.fingerprint("$.a"))], "the first document has the facet"
    assert await _held(store) == {"$.a": _ONE.fingerprint("$.a")}, (
        "a facet required before its resource was observed is computed with the first document"
    )


async def test_expiry(store: GraphStore) -> None:
    await store.change(_URI, _ONE, until=timedelta(hours=1))
    facts = await store.facts(_A)
    assert facts.of(_URI).believed(facts.now), "until then it is believed"
    await store.renew({_URI: 1}, until=timedelta(milliseconds=1))
    await asyncio.sleep(0.05)
    facts = await store.read_facts(_A)
    assert not facts.of(_URI).believed(facts.now), "from then on it is not"
    assert facts.of(_URI).state == FactState.PRESENT, "though it is still there"
    await store.change(_URI, _ONE, until=timedelta(hours=1))
    facts = await store.read_facts(_A)
    assert facts.of(_URI).believed(facts.now), "renewed, it is believed again"
    assert facts.of(_URI).version == 1, "as the same version"


async def test_unbroken(store: GraphStore, namespace: str) -> None:
    await store.change(_URI, _ONE)
    await store.facts(_A)
    other = Document.of({"a": 1, "b": 2})
    for document in (other, _TWO, _ONE, None, _ONE):
        await store.change(_URI, document)
    # versions: 1 one, 2 another b, 3 two, 4 one, 5 withdrawn, 6 one
    one = guard(namespace, _URI, {"a": 1}, "$.a").id
    spans = {
        (0, 1): True,
        (0, 2): True,  # a change of another facet is none
        (1, 1): True,  # nothing happened
        (0, 3): False,
        (1, 4): False,  # A-B-A
        (3, 4): True,
        (3, 5): False,  # withdrawn
        (4, 6): False,
        (5, 6): True,
        (5, 7): False,  # a version that is not there holds nothing
    }
    answers = await store.unbroken([Span(one, _URI, *span) for span in spans])
    assert dict(zip(spans, answers, strict=True)) == spans, "every version in the span holds it"
    unknown = guard(namespace, _URI, {"a": 9}, "$.a").id
    never = Precondition.of(namespace, FacetRef("acl:none", None), NEVER).id
    answers = await store.unbroken(
        [Span(unknown, _URI, 0, 1), Span(one, _URI, 0, 1), Span(never, "acl:none", 0, 0)]
    )
    assert answers == [False, True, True], "answers come in the order of the spans"
    assert await store.unbroken([]) == [], "no span, no answer"


async def test_two_versions_of_a_late_facet(store: GraphStore, namespace: str) -> None:
    await store.change(_URI, _ONE)
    await store.change(_URI, Document.of({"a": 1, "b": 2}))
    await store.facts(_A)  # computed for version 2 only
    one = guard(namespace, _URI, {"a": 1}, "$.a").id
    answers = await store.unbroken([Span(one, _URI, 0, 2), Span(one, _URI, 1, 2)])
    assert answers == [False, True], "a version for which nobody computed it does not hold it"
    await store.change(_URI, None)
    await store.compute(FacetRef(_URI, "$.a"), range(5))
    spans = [Span(one, _URI, *span) for span in ((0, 2), (2, 3))]
    assert await store.unbroken(spans) == [True, False], "computed later, it does"
    found = await store.document(_URI, 1)
    assert (found and found[1].content) == _ONE.content, "versions that were superseded are there"
    for version in (3, 4):
        assert await store.document(_URI, version) is None, "withdrawn, or never there"
