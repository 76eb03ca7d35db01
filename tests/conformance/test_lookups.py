"""Lookups: which traces come, with which facts and payloads; and whether they still stand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Facts, FactState
from execgraph.graphstore.model import (
    NEVER,
    ExecutionState,
    FacetRef,
    Precondition,
    Trace,
    manifest,
    signature,
)
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import guard, newest, none, published, sample_recording

_URI = "acl:prod"


async def test_unknown_task(store: GraphStore) -> None:
    for _ in range(2):  # in a namespace that nobody wrote to, and in one that is known
        found = await store.lookup("nothing", newest)
        assert (found.traces, found.chosen, found.damaged) == ((), None, ()), "it has no traces"
        assert dict(found.values) == {}, "and no payloads"
        await store.change(_URI, Document.of(1))


async def test_a_trace_of_a_version_that_told_no_start_of_steps(store: GraphStore) -> None:
    recording = sample_recording()
    steps = tuple(step.model_copy(update={"started_at": None}) for step in recording.steps)
    await published(store, recording.model_copy(update={"steps": steps}))
    found = await store.lookup("deploy", newest)
    assert (found.damaged, [trace.steps for trace in found.traces]) == ((), [steps])


async def test_a_trace_comes_back_whole(store: GraphStore, namespace: str) -> None:
    await store.change(_URI, Document.of({"a": 1}))
    held = guard(namespace, _URI, {"a": 1}, "$.a")
    recording = sample_recording(guards=[held, guard(namespace, _URI, {"a": 1})], turns=6)
    await published(store, recording)
    found = await store.lookup("deploy", newest)
    assert (len(found.traces), found.damaged) == (1, ()), "the trace is found whole"
    trace = found.traces[0]
    assert trace.steps == recording.steps, "its steps have every field they were recorded with"
    assert dict(trace.preconditions) == {it.id: it for it in recording.preconditions}, (
        "its preconditions too"
    )
    expected = recording.execution.model_copy(
        update={
            "state": ExecutionState.PUBLISHED,
            "published_steps": len(recording.steps),
            "manifest": manifest(recording.steps),
            "signature": signature(recording.steps),
        }
    )
    assert trace.execution == expected, "and its execution"
    assert trace.intact(namespace), "what is read is what was published"
    exact = {value.digest: value.data for value in recording.values}
    assert found.chosen == recording.execution.id, "the chosen trace is named"
    assert dict(found.values) == {digest: exact[digest] for digest in trace.payloads}, (
        "the chosen trace's payloads come with it, exactly"
    )


async def test_only_published_runs_are_found(store: GraphStore) -> None:
    states = (ExecutionState.RUNNING, ExecutionState.FAILED, ExecutionState.PUBLISHED)
    for number, state in enumerate(states):
        await store.write(sample_recording(number=number, state=state))
    found = await store.lookup("deploy", newest)
    assert found.traces == (), "to be written is not to be published, whatever state is claimed"
    assert found.damaged == (), "nor is it damaged"


async def test_only_the_published_steps_are_found(store: GraphStore, namespace: str) -> None:
    later = guard(namespace, "acl:later", {"a": 1})
    recording = sample_recording(turns=3)
    steps = (*recording.steps[:5], recording.steps[5].model_copy(update={"guards": (later.id,)}))
    recording = recording.model_copy(update={"steps": steps, "preconditions": (later,)})
    await published(store, recording, steps=4)
    (trace,) = (await store.lookup("deploy", newest)).traces
    assert trace.steps == steps[:4], "a trace ends where it was published to end"
    assert dict(trace.preconditions) == {}, "what only guards later steps does not guard it"
    whole = await store.execution(recording.execution.id)
    assert whole is not None
    assert whole.steps == steps, "the rest is kept for people"


async def test_newest_first_and_choice(store: GraphStore) -> None:
    recordings = [sample_recording(number=n, says=f"way {n}") for n in (2, 3, 1)]
    for recording in recordings:
        await published(store, recording)

    def second(traces: Sequence[Trace], _facts: Facts) -> str:
        return traces[1].id

    found = await store.lookup("deploy", second)
    ids = [trace.id for trace in found.traces]
    assert ids == ["deploy-3", "deploy-2", "deploy-1"], "the newest trace comes first"
    assert found.chosen == "deploy-2", "`choose` decides"
    assert found.values.keys() == found.traces[1].payloads, "payloads are those of the chosen one"
    found = await store.lookup("deploy", none)
    assert (len(found.traces), found.chosen, dict(found.values)) == (3, None, {}), "or of none"


async def test_lookup_brings_the_facts(store: GraphStore, namespace: str) -> None:
    await store.change(_URI, Document.of({"a": 1}))
    guards = [
        guard(namespace, _URI, {"a": 1}, "$.a"),
        guard(namespace, "acl:gone", {}, None),
        Precondition.of(namespace, FacetRef("acl:absent", None), NEVER),
    ]
    await store.change("acl:gone", Document.of({}))
    await published(store, sample_recording(guards=guards))
    await store.change("acl:gone", None)
    seen: list[Facts] = []

    def keep(traces: Sequence[Trace], facts: Facts) -> str | None:
        seen.append(facts)
        return newest(traces, facts)

    found = await store.lookup("deploy", keep)
    assert seen, "`choose` is called with the facts"
    for facts in (found.facts, seen[-1]):
        fact = facts.of(_URI)
        assert (fact.version, fact.state) == (1, FactState.PRESENT), "current version of a resource"
        assert dict(fact.fingerprints) == {"$.a": guards[0].fingerprint}, (
            "a facet nobody computed at the current version is completed"
        )
        assert facts.of("acl:gone").state == FactState.WITHDRAWN, "a withdrawn one holds nothing"
        assert facts.of("acl:absent").state == FactState.ABSENT, "nor does an absent one"


async def test_lookup_sees_each_change(store: GraphStore, namespace: str) -> None:
    one, two = Document.of({"a": 1}), Document.of({"a": 2})
    held = guard(namespace, _URI, {"a": 1}, "$.a")
    await store.change(_URI, one)
    await published(store, sample_recording(guards=[held]))
    for version, document in enumerate((one, two, one), start=1):
        await store.change(_URI, document)
        fact = (await store.lookup("deploy", newest)).facts.of(_URI)
        assert fact.version == version, "a lookup sees the change that was committed before it"
        assert (fact.fingerprints["$.a"] == held.fingerprint) == (document is one), (
            "a guard holds iff the current document gives its fingerprint, restored ones included"
        )


async def test_never_holds_nowhere(store: GraphStore, namespace: str) -> None:
    never = Precondition.of(namespace, FacetRef(_URI, "$.a"), NEVER)
    await published(store, sample_recording(guards=[never]))
    for content in ({"a": 1}, {}, {"a": "never"}):
        await store.change(_URI, Document.of(content))
        found = await store.lookup("deploy", newest)
        assert len(found.traces) == 1, "the trace is there"
        assert found.facts.of(_URI).fingerprints["$.a"] != NEVER, "no version holds NEVER"


async def test_expired_facts_are_told(store: GraphStore, namespace: str) -> None:
    await store.change(_URI, Document.of({}), until=timedelta(milliseconds=1))
    await published(store, sample_recording(guards=[guard(namespace, _URI, {})]))
    await asyncio.sleep(0.05)
    facts = (await store.lookup("deploy", newest)).facts
    assert not facts.of(_URI).believed(facts.now), "an expired fact is not believed"


async def test_still(store: GraphStore) -> None:
    recording = sample_recording()
    run = recording.execution.id
    for uri in ("acl:1", "acl:2"):
        await store.change(uri, Document.of(1))
    both = {"acl:1": 1, "acl:2": 1}
    assert not await store.still(run, both), "an unknown execution is not a trace"
    await store.write(recording)
    assert not await store.still(run, both), "nor is a written one"
    await published(store, recording)
    assert await store.still(run, both), "published, and all as accepted"
    assert await store.still(run, {}), "a trace may rest on nothing"
    await store.change("acl:2", Document.of(1))
    assert await store.still(run, both), "an equal document changes nothing"
    for wrong in ({"acl:1": 2}, {"acl:1": 0}, {"acl:3": 1}, {"acl:3": 0}, {"acl:1": 1, "acl:2": 2}):
        assert not await store.still(run, wrong), f"{wrong} is not what is"
    await store.change("acl:2", Document.of(2))
    assert not await store.still(run, both), "one resource moved"
    assert await store.still(run, {"acl:1": 1}), "the other did not"
    await store.change("acl:2", Document.of(1))
    assert not await store.still(run, both), "a restored document is a new version"
    await store.change("acl:1", None)
    assert not await store.still(run, {"acl:1": 2}), "withdrawn is not believed"
    await store.unpublish(run, "test")
    assert not await store.still(run, {}), "an unpublished trace is none"


async def test_still_expires(store: GraphStore) -> None:
    await published(store, sample_recording())
    await store.change(_URI, Document.of(1), until=timedelta(hours=1))
    assert await store.still("deploy-1", {_URI: 1}), "until then it is believed"
    await store.renew({_URI: 1}, until=timedelta(milliseconds=1))
    await asyncio.sleep(0.05)
    assert not await store.still("deploy-1", {_URI: 1}), "from then on it is not"
    await store.change(_URI, Document.of(1), until=timedelta(hours=1))
    assert await store.still("deploy-1", {_URI: 1}), "renewed, it is again"


async def test_still_with_many_resources(store: GraphStore) -> None:
    await published(store, sample_recording())
    accepted = {f"acl:{n}": 1 for n in range(120)}
    for uri in accepted:
        await store.change(uri, Document.of(1))
    assert await store.still("deploy-1", accepted), "all are as accepted"
    await store.change("acl:60", Document.of(2))
    assert not await store.still("deploy-1", accepted), "one of them moved"
