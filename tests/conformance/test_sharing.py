"""Several stores on the same data, as in several processes, at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Expected, Facts
from execgraph.graphstore.model import Trace
from execgraph.graphstore.retention import TRACES_PER_TASK
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    none,
    published,
    sample_effect,
    sample_recording,
)

_URI = "acl:prod"


async def test_changes_are_seen_at_once(one: GraphStore, two: GraphStore, namespace: str) -> None:
    held = guard(namespace, _URI, 1)
    await one.change(_URI, Document.of(1))
    await published(one, sample_recording(guards=[held]))
    assert await two.still("deploy-1", {_URI: 1}), "what one wrote two reads"
    for version in range(2, 12):
        await one.change(_URI, Document.of(version))
        accepted = {_URI: version - 1}
        assert not await two.still("deploy-1", accepted), "no stale acceptance"
        effect = sample_effect(f"run-{version}")
        expected = [Expected(_URI, version - 1, believed=True)]
        assert not await two.intend(effect, expected), "no stale effect"
        found = await two.lookup("deploy", newest)
        assert found.facts.of(_URI).version == version, "a lookup reads what was committed before"
    await one.unpublish("deploy-1", "test")
    assert (await two.lookup("deploy", newest)).traces == (), "unpublished for all"


async def test_no_concurrent_change_is_lost(one: GraphStore, two: GraphStore) -> None:
    many = 40
    events = await asyncio.gather(
        *((one, two)[n % 2].change(_URI, Document.of({"n": n}), source=f"{n}") for n in range(many))
    )
    steps = sorted((event.from_version, event.to_version) for event in events if event)
    assert steps == [(n, n + 1) for n in range(many)], "each change follows the one before it"
    facts = await one.facts({_URI: frozenset({None})})
    assert facts.of(_URI).version == many, "`current` counts them all"
    (last,) = await two.changes(limit=1)
    assert facts.of(_URI).fingerprints[None] == Document.of({"n": int(last.source)}).whole, (
        "the current document is that of the last change"
    )


async def test_equal_concurrent_changes_are_one(one: GraphStore, two: GraphStore) -> None:
    events = await asyncio.gather(
        *((one, two)[n % 2].change(_URI, Document.of("same")) for n in range(20))
    )
    assert sum(event is not None for event in events) == 1, "only the first of them is a change"


async def test_change_and_hold_miss_no_facet(one: GraphStore, two: GraphStore) -> None:
    """Whichever comes first, the current version holds each facet or it reads as missing."""
    for n in range(12):
        uri, selector = f"acl:{n}", "$.a"
        before, after = Document.of({"a": 1}), Document.of({"a": 2})
        await one.change(uri, before)
        wanted: dict[str, frozenset[str | None]] = {uri: frozenset({selector})}
        await asyncio.gather(one.facts(wanted), two.change(uri, after))
        fact = (await one.facts(wanted)).of(uri)
        assert (fact.version, fact.fingerprints[selector]) == (2, after.fingerprint(selector)), (
            "a fingerprint belongs to the version it is read with"
        )
        await two.change(uri, before)
        fact = (await one.read_facts(wanted)).of(uri)
        assert selector in fact.fingerprints, "a facet that was added is known to the next change"


async def test_concurrent_writers_share_what_they_name(
    one: GraphStore, two: GraphStore, namespace: str
) -> None:
    guards = [guard(namespace, f"acl:{n}", {"a": n}, "$.a") for n in range(5)]
    recordings = [
        sample_recording(number=n, says=f"way {n}", guards=guards[n % 3 :][:: (-1) ** n])
        for n in range(16)
    ]
    stores = (one, two)
    await asyncio.gather(
        *(stores[n % 2].write(it) for n, it in enumerate(recordings)),
        *(stores[n % 2].change(f"acl:{n}", Document.of({"a": n})) for n in range(5)),
    )
    for recording in recordings:
        found = await two.execution(recording.execution.id)
        assert found is not None
        assert found.steps == recording.steps, "writers of common nodes do not disturb each other"
    wanted = {it.resource: frozenset({it.selector}) for it in guards}
    facts = await one.facts(wanted)
    held = {(it.resource, facts.of(it.resource).fingerprints["$.a"]) for it in guards}
    assert held == {(it.resource, it.fingerprint) for it in guards}, "and all facets are held"


async def test_one_of_equal_runs_is_published(one: GraphStore, two: GraphStore) -> None:
    answers = await asyncio.gather(
        *(
            published((one, two)[n % 2], sample_recording(number=n, says="the same"))
            for n in range(10)
        )
    )
    assert sum(it.published for it in answers) == 1, "of equal runs published at once one is kept"
    assert len((await one.lookup("deploy", none)).traces) == 1, "and one is found"


async def test_the_limit_holds_under_concurrency(one: GraphStore, two: GraphStore) -> None:
    many = TRACES_PER_TASK + 6
    await asyncio.gather(
        *(
            published((one, two)[n % 2], sample_recording(number=n, says=f"{n}"))
            for n in range(many)
        )
    )
    found = await two.lookup("deploy", none)
    assert len(found.traces) == TRACES_PER_TASK, "a task keeps its limit of traces"


async def test_a_lookup_is_of_one_moment(one: GraphStore, two: GraphStore, namespace: str) -> None:
    """``acl:1`` always moves first, so at no moment is ``acl:2`` ahead, or two behind."""
    uris = ("acl:1", "acl:2")
    for uri in uris:
        await one.change(uri, Document.of({"a": 0}))
    guards = [guard(namespace, uri, {"a": 0}, "$.a") for uri in uris]
    await published(one, sample_recording(guards=guards))
    moving = asyncio.create_task(_move(one, uris, rounds=60))

    def consistent(traces: Sequence[Trace], facts: Facts) -> str | None:
        for uri in uris:
            fact = facts.of(uri)
            at = Document.of({"a": fact.version - 1}).fingerprint("$.a")
            assert fact.fingerprints["$.a"] == at, "a version is read with what it holds"
        return newest(traces, facts)

    while not moving.done():
        found = await two.lookup("deploy", consistent)
        if found.traces:
            first, second = (found.facts.of(uri).version for uri in uris)
            assert first - second in (0, 1), f"{first} and {second} held at no moment together"
        await asyncio.sleep(0)
    await moving


async def _move(store: GraphStore, uris: Sequence[str], rounds: int) -> None:
    for n in range(1, rounds + 1):
        for uri in uris:
            await store.change(uri, Document.of({"a": n}))


async def test_a_lookup_pairs_traces_with_facts(one: GraphStore, two: GraphStore) -> None:
    """Trace n is published only while version n is current, so no moment shows it with another."""
    await one.change(_URI, Document.of({"a": 1}))
    moving = asyncio.create_task(_publish_and_move(one, rounds=25))
    while not moving.done():
        found = await two.lookup("deploy", newest)
        for trace in found.traces:
            versions = (trace.execution.id, found.facts.of(_URI).version)
            assert versions[0] == f"deploy-{versions[1]}", "traces and facts are of one moment"
        assert found.damaged == (), "and a trace is read whole"
        await asyncio.sleep(0)
    await moving


async def _publish_and_move(store: GraphStore, rounds: int) -> None:
    for n in range(1, rounds + 1):
        held = guard(store.namespace, _URI, {"a": n}, "$.a")
        recording = sample_recording(number=n, says=f"{n}", guards=[held], turns=30)
        await published(store, recording)
        await store.unpublish(recording.execution.id, "it moves on")
        await store.change(_URI, Document.of({"a": n + 1}))


async def test_an_effect_and_a_change_come_in_some_order(one: GraphStore, two: GraphStore) -> None:
    """Effects that expect version 1 race with the change to version 2."""
    await one.change(_URI, Document.of(1))
    expected = [Expected(_URI, 1, believed=True)]
    intents = [two.intend(sample_effect(f"run-{n}"), expected) for n in range(10)]
    *begun, event = await asyncio.gather(*intents, one.change(_URI, Document.of(2)))
    assert event, "the change is made"
    for n, was_begun in enumerate(begun):
        effects = await one.effects(f"run-{n}")
        assert len(effects) == int(bool(was_begun)), "an effect is written iff it was begun"
    late = await two.intend(sample_effect("late"), expected)
    assert not late, "after the change none is begun"
