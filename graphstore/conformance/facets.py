"""What versions hold: facets computed early, late, and of resources not yet observed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from ..document import Document
from ..facts import FactState, Span
from ..model import NEVER, FacetRef, Precondition
from ..store import GraphStore
from .expect import equal, true
from .samples import guard, sample_recording

__all__ = ["CHECKS"]

_URI = "schema:orders"
_A: dict[str, frozenset[str | None]] = {_URI: frozenset({"$.a"})}
_ONE, _TWO = Document.of({"a": 1, "b": 1}), Document.of({"a": 2, "b": 1})


async def _held(store: GraphStore, namespace: str) -> dict[str | None, str]:
    return dict((await store.read_facts(namespace, _A)).of(_URI).fingerprints)


async def check_a_late_facet_is_missing_then_computed(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE)
    found = await store.read_facts(namespace, _A)
    equal(found.missing(_A), [FacetRef(_URI, "$.a")], "a facet nobody required is not computed")
    found = await store.facts(namespace, _A)
    at = {"$.a": _ONE.fingerprint("$.a")}
    equal(dict(found.of(_URI).fingerprints), at, "`facts` computes it from the document")
    equal(await _held(store, namespace), at, "and the version holds it from then on")


async def check_a_change_computes_the_facets_it_knows(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE)
    await store.facts(namespace, {_URI: frozenset({"$.a", None, "$.zzz"})})
    await store.change(namespace, _URI, _TWO)
    wanted: dict[str, frozenset[str | None]] = {_URI: frozenset({"$.a", None, "$.zzz", "$.new"})}
    fact = (await store.read_facts(namespace, wanted)).of(_URI)
    equal(
        dict(fact.fingerprints),
        {s: _TWO.fingerprint(s) for s in ("$.a", None, "$.zzz")},
        "a new version holds each known facet, also one that matches nothing, and no other",
    )


async def check_only_selectors_asked_for_are_answered(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE)
    await store.facts(namespace, {_URI: frozenset({"$.a", "$.b", None})})
    equal(set(await _held(store, namespace)), {"$.a"}, "only what was asked for")
    fact = (await store.read_facts(namespace, {_URI: frozenset()})).of(_URI)
    equal((fact.version, dict(fact.fingerprints)), (1, {}), "a version can be asked for alone")


async def check_restored_document_holds_the_same(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE)
    await store.facts(namespace, _A)
    before = await _held(store, namespace)
    await store.change(namespace, _URI, _TWO)
    true(await _held(store, namespace) != before, "another content has another fingerprint")
    await store.change(namespace, _URI, _ONE)
    equal(await _held(store, namespace), before, "the earlier content has the earlier one again")


async def check_hold_of_a_superseded_version(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE)
    await store.change(namespace, _URI, _TWO)
    await store.hold(namespace, _URI, 1, {"$.a": _ONE.fingerprint("$.a")})
    equal(await _held(store, namespace), {}, "what version 1 holds says nothing of version 2")
    await store.change(namespace, _URI, _ONE)
    equal(
        await _held(store, namespace),
        {"$.a": _ONE.fingerprint("$.a")},
        "but the facet stays, and the next change computes it",
    )


async def check_hold_may_be_repeated(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE)
    for _ in range(3):
        await store.hold(namespace, _URI, 1, {"$.a": _ONE.fingerprint("$.a")})
    equal(await _held(store, namespace), {"$.a": _ONE.fingerprint("$.a")}, "once is enough")


async def check_withdrawn_version_holds_nothing(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE)
    await store.facts(namespace, _A)
    await store.change(namespace, _URI, None)
    await store.hold(namespace, _URI, 2, {"$.a": _ONE.fingerprint("$.a")})
    equal(await _held(store, namespace), {}, "a withdrawn version holds nothing, held or not")
    one = guard(namespace, _URI, {"a": 1}, "$.a").id
    unbroken = await store.unbroken(namespace, [Span(one, _URI, 1, 2)])
    equal(unbroken, [False], "so a span that reaches it is broken")


async def check_facet_of_an_absent_resource(store: GraphStore, namespace: str) -> None:
    never = Precondition.of(namespace, FacetRef(_URI, "$.a"), NEVER)
    await store.write(namespace, sample_recording(guards=[never]))
    fact = (await store.read_facts(namespace, _A)).of(_URI)
    equal((fact.version, fact.state), (0, FactState.ABSENT), "to be required is not observed")
    event = await store.change(namespace, _URI, _ONE)
    assert event is not None
    changed = [(it.selector, it.before, it.after) for it in event.changed]
    equal(changed, [("$.a", None, _ONE.fingerprint("$.a"))], "the first document has the facet")
    equal(
        await _held(store, namespace),
        {"$.a": _ONE.fingerprint("$.a")},
        "a facet required before its resource was observed is computed with the first document",
    )


async def check_expiry(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE, until=timedelta(hours=1))
    facts = await store.facts(namespace, _A)
    true(facts.of(_URI).believed(facts.now), "until then it is believed")
    await store.renew(namespace, {_URI: 1}, until=timedelta(milliseconds=1))
    await asyncio.sleep(0.05)
    facts = await store.read_facts(namespace, _A)
    true(not facts.of(_URI).believed(facts.now), "from then on it is not")
    equal(facts.of(_URI).state, FactState.PRESENT, "though it is still there")
    await store.change(namespace, _URI, _ONE, until=timedelta(hours=1))
    facts = await store.read_facts(namespace, _A)
    true(facts.of(_URI).believed(facts.now), "renewed, it is believed again")
    equal(facts.of(_URI).version, 1, "as the same version")


async def check_unbroken(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE)
    await store.facts(namespace, _A)
    other = Document.of({"a": 1, "b": 2})
    for document in (other, _TWO, _ONE, None, _ONE):
        await store.change(namespace, _URI, document)
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
    answers = await store.unbroken(namespace, [Span(one, _URI, *span) for span in spans])
    equal(dict(zip(spans, answers, strict=True)), spans, "every version in the span holds it")
    unknown = guard(namespace, _URI, {"a": 9}, "$.a").id
    never = Precondition.of(namespace, FacetRef("acl:none", None), NEVER).id
    answers = await store.unbroken(
        namespace, [Span(unknown, _URI, 0, 1), Span(one, _URI, 0, 1), Span(never, "acl:none", 0, 0)]
    )
    equal(answers, [False, True, True], "answers come in the order of the spans")
    equal(await store.unbroken(namespace, []), [], "no span, no answer")


async def check_two_versions_of_a_late_facet(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE)
    await store.change(namespace, _URI, Document.of({"a": 1, "b": 2}))
    await store.facts(namespace, _A)  # computed for version 2 only
    one = guard(namespace, _URI, {"a": 1}, "$.a").id
    answers = await store.unbroken(namespace, [Span(one, _URI, 0, 2), Span(one, _URI, 1, 2)])
    equal(answers, [False, True], "a version for which nobody computed it does not hold it")
    await store.change(namespace, _URI, None)
    await store.compute(namespace, FacetRef(_URI, "$.a"), range(5))
    spans = [Span(one, _URI, *span) for span in ((0, 2), (2, 3))]
    equal(await store.unbroken(namespace, spans), [True, False], "computed later, it does")
    found = await store.document(namespace, _URI, 1)
    equal(found and found[1].content, _ONE.content, "versions that were superseded are there")
    for version in (3, 4):
        equal(await store.document(namespace, _URI, version), None, "withdrawn, or never there")


CHECKS = (
    check_a_late_facet_is_missing_then_computed,
    check_a_change_computes_the_facets_it_knows,
    check_only_selectors_asked_for_are_answered,
    check_restored_document_holds_the_same,
    check_hold_of_a_superseded_version,
    check_hold_may_be_repeated,
    check_withdrawn_version_holds_nothing,
    check_facet_of_an_absent_resource,
    check_expiry,
    check_unbroken,
    check_two_versions_of_a_late_facet,
)
