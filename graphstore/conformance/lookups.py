"""Lookups: which traces come, with which facts and payloads; and whether they still stand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from ..document import Document
from ..facts import Facts, FactState
from ..model import NEVER, ExecutionState, FacetRef, Precondition, Trace, manifest, signature
from ..store import GraphStore
from .expect import equal, true
from .samples import guard, newest, none, published, sample_recording

__all__ = ["CHECKS"]

_URI = "acl:prod"


async def check_unknown_task(store: GraphStore, namespace: str) -> None:
    for _ in range(2):  # in a namespace that nobody wrote to, and in one that is known
        found = await store.lookup(namespace, "nothing", newest)
        equal((found.traces, found.chosen, found.damaged), ((), None, ()), "it has no traces")
        equal(dict(found.values), {}, "and no payloads")
        await store.change(namespace, _URI, Document.of(1))


async def check_a_trace_comes_back_whole(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, Document.of({"a": 1}))
    held = guard(namespace, _URI, {"a": 1}, "$.a")
    recording = sample_recording(guards=[held, guard(namespace, _URI, {"a": 1})], turns=6)
    await published(store, namespace, recording)
    found = await store.lookup(namespace, "deploy", newest)
    equal((len(found.traces), found.damaged), (1, ()), "the trace is found whole")
    trace = found.traces[0]
    equal(trace.steps, recording.steps, "its steps have every field they were recorded with")
    equal(
        dict(trace.preconditions),
        {it.id: it for it in recording.preconditions},
        "its preconditions too",
    )
    expected = recording.execution.model_copy(
        update={
            "state": ExecutionState.PUBLISHED,
            "published_steps": len(recording.steps),
            "manifest": manifest(recording.steps),
            "signature": signature(recording.steps),
        }
    )
    equal(trace.execution, expected, "and its execution")
    true(trace.intact(namespace), "what is read is what was published")
    exact = {value.digest: value.data for value in recording.values}
    equal(found.chosen, recording.execution.id, "the chosen trace is named")
    equal(
        dict(found.values),
        {digest: exact[digest] for digest in trace.payloads},
        "the chosen trace's payloads come with it, exactly",
    )


async def check_only_published_runs_are_found(store: GraphStore, namespace: str) -> None:
    states = (ExecutionState.RUNNING, ExecutionState.FAILED, ExecutionState.PUBLISHED)
    for number, state in enumerate(states):
        await store.write(namespace, sample_recording(number=number, state=state))
    found = await store.lookup(namespace, "deploy", newest)
    equal(found.traces, (), "to be written is not to be published, whatever state is claimed")
    equal(found.damaged, (), "nor is it damaged")


async def check_only_the_published_steps_are_found(store: GraphStore, namespace: str) -> None:
    later = guard(namespace, "acl:later", {"a": 1})
    recording = sample_recording(turns=3)
    steps = (*recording.steps[:5], recording.steps[5].model_copy(update={"guards": (later.id,)}))
    recording = recording.model_copy(update={"steps": steps, "preconditions": (later,)})
    await published(store, namespace, recording, steps=4)
    (trace,) = (await store.lookup(namespace, "deploy", newest)).traces
    equal(trace.steps, steps[:4], "a trace ends where it was published to end")
    equal(dict(trace.preconditions), {}, "what only guards later steps does not guard it")
    whole = await store.execution(namespace, recording.execution.id)
    assert whole is not None
    equal(whole.steps, steps, "the rest is kept for people")


async def check_newest_first_and_choice(store: GraphStore, namespace: str) -> None:
    recordings = [sample_recording(number=n, says=f"way {n}") for n in (2, 3, 1)]
    for recording in recordings:
        await published(store, namespace, recording)

    def second(traces: Sequence[Trace], _facts: Facts) -> str:
        return traces[1].id

    found = await store.lookup(namespace, "deploy", second)
    ids = [trace.id for trace in found.traces]
    equal(ids, ["deploy-3", "deploy-2", "deploy-1"], "the newest trace comes first")
    equal(found.chosen, "deploy-2", "`choose` decides")
    equal(found.values.keys(), found.traces[1].payloads, "payloads are those of the chosen one")
    found = await store.lookup(namespace, "deploy", none)
    equal((len(found.traces), found.chosen, dict(found.values)), (3, None, {}), "or of none")


async def check_lookup_brings_the_facts(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, Document.of({"a": 1}))
    guards = [
        guard(namespace, _URI, {"a": 1}, "$.a"),
        guard(namespace, "acl:gone", {}, None),
        Precondition.of(namespace, FacetRef("acl:absent", None), NEVER),
    ]
    await store.change(namespace, "acl:gone", Document.of({}))
    await published(store, namespace, sample_recording(guards=guards))
    await store.change(namespace, "acl:gone", None)
    seen: list[Facts] = []

    def keep(traces: Sequence[Trace], facts: Facts) -> str | None:
        seen.append(facts)
        return newest(traces, facts)

    found = await store.lookup(namespace, "deploy", keep)
    true(seen, "`choose` is called with the facts")
    for facts in (found.facts, seen[-1]):
        fact = facts.of(_URI)
        equal((fact.version, fact.state), (1, FactState.PRESENT), "current version of a resource")
        equal(
            dict(fact.fingerprints),
            {"$.a": guards[0].fingerprint},
            "a facet nobody computed at the current version is completed",
        )
        equal(facts.of("acl:gone").state, FactState.WITHDRAWN, "a withdrawn one holds nothing")
        equal(facts.of("acl:absent").state, FactState.ABSENT, "nor does an absent one")


async def check_lookup_sees_each_change(store: GraphStore, namespace: str) -> None:
    one, two = Document.of({"a": 1}), Document.of({"a": 2})
    held = guard(namespace, _URI, {"a": 1}, "$.a")
    await store.change(namespace, _URI, one)
    await published(store, namespace, sample_recording(guards=[held]))
    for version, document in enumerate((one, two, one), start=1):
        await store.change(namespace, _URI, document)
        fact = (await store.lookup(namespace, "deploy", newest)).facts.of(_URI)
        equal(fact.version, version, "a lookup sees the change that was committed before it")
        equal(
            fact.fingerprints["$.a"] == held.fingerprint,
            document is one,
            "a guard holds iff the current document gives its fingerprint, restored ones included",
        )


async def check_never_holds_nowhere(store: GraphStore, namespace: str) -> None:
    never = Precondition.of(namespace, FacetRef(_URI, "$.a"), NEVER)
    await published(store, namespace, sample_recording(guards=[never]))
    for content in ({"a": 1}, {}, {"a": "never"}):
        await store.change(namespace, _URI, Document.of(content))
        found = await store.lookup(namespace, "deploy", newest)
        equal(len(found.traces), 1, "the trace is there")
        true(found.facts.of(_URI).fingerprints["$.a"] != NEVER, "no version holds NEVER")


async def check_expired_facts_are_told(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, Document.of({}), until=timedelta(milliseconds=1))
    await published(store, namespace, sample_recording(guards=[guard(namespace, _URI, {})]))
    await asyncio.sleep(0.05)
    facts = (await store.lookup(namespace, "deploy", newest)).facts
    true(not facts.of(_URI).believed(facts.now), "an expired fact is not believed")


async def check_still(store: GraphStore, namespace: str) -> None:
    recording = sample_recording()
    run = recording.execution.id
    for uri in ("acl:1", "acl:2"):
        await store.change(namespace, uri, Document.of(1))
    both = {"acl:1": 1, "acl:2": 1}
    equal(await store.still(namespace, run, both), False, "an unknown execution is not a trace")
    await store.write(namespace, recording)
    equal(await store.still(namespace, run, both), False, "nor is a written one")
    await published(store, namespace, recording)
    equal(await store.still(namespace, run, both), True, "published, and all as accepted")
    equal(await store.still(namespace, run, {}), True, "a trace may rest on nothing")
    await store.change(namespace, "acl:2", Document.of(1))
    equal(await store.still(namespace, run, both), True, "an equal document changes nothing")
    for wrong in ({"acl:1": 2}, {"acl:1": 0}, {"acl:3": 1}, {"acl:3": 0}, {"acl:1": 1, "acl:2": 2}):
        equal(await store.still(namespace, run, wrong), False, f"{wrong} is not what is")
    await store.change(namespace, "acl:2", Document.of(2))
    equal(await store.still(namespace, run, both), False, "one resource moved")
    equal(await store.still(namespace, run, {"acl:1": 1}), True, "the other did not")
    await store.change(namespace, "acl:2", Document.of(1))
    equal(await store.still(namespace, run, both), False, "a restored document is a new version")
    await store.change(namespace, "acl:1", None)
    equal(await store.still(namespace, run, {"acl:1": 2}), False, "withdrawn is not believed")
    await store.unpublish(namespace, run, "test")
    equal(await store.still(namespace, run, {}), False, "an unpublished trace is none")


async def check_still_expires(store: GraphStore, namespace: str) -> None:
    await published(store, namespace, sample_recording())
    await store.change(namespace, _URI, Document.of(1), until=timedelta(hours=1))
    equal(await store.still(namespace, "deploy-1", {_URI: 1}), True, "until then it is believed")
    await store.renew(namespace, {_URI: 1}, until=timedelta(milliseconds=1))
    await asyncio.sleep(0.05)
    equal(await store.still(namespace, "deploy-1", {_URI: 1}), False, "from then on it is not")
    await store.change(namespace, _URI, Document.of(1), until=timedelta(hours=1))
    equal(await store.still(namespace, "deploy-1", {_URI: 1}), True, "renewed, it is again")


async def check_still_with_many_resources(store: GraphStore, namespace: str) -> None:
    await published(store, namespace, sample_recording())
    accepted = {f"acl:{n}": 1 for n in range(120)}
    for uri in accepted:
        await store.change(namespace, uri, Document.of(1))
    equal(await store.still(namespace, "deploy-1", accepted), True, "all are as accepted")
    await store.change(namespace, "acl:60", Document.of(2))
    equal(await store.still(namespace, "deploy-1", accepted), False, "one of them moved")


CHECKS = (
    check_unknown_task,
    check_a_trace_comes_back_whole,
    check_only_published_runs_are_found,
    check_only_the_published_steps_are_found,
    check_newest_first_and_choice,
    check_lookup_brings_the_facts,
    check_lookup_sees_each_change,
    check_never_holds_nowhere,
    check_expired_facts_are_told,
    check_still,
    check_still_expires,
    check_still_with_many_resources,
)
