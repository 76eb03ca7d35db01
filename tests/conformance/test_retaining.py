"""Retention: what a collection takes away, what it leaves, and who is not in its way."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from execgraph.graphstore.canonical import Json
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import PayloadCorrupted
from execgraph.graphstore.facts import Span
from execgraph.graphstore.model import (
    ApprovalState,
    ChangeKind,
    ExecutionState,
    Recording,
    Replay,
    Value,
)
from execgraph.graphstore.retention import Collected, Retention
from execgraph.graphstore.store import GraphStore
from execgraph.graphstore.totals import Totals
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    none,
    published,
    sample_approval,
    sample_effect,
    sample_recording,
    sample_replay,
)

_URI = "acl:prod"
_EVER = timedelta(days=36_500)
_AT_ONCE = timedelta(0)
#: Keeps all but what a check asks to be taken away; samples are years old.
_ALL = Retention(traces=1000, history=1000, versions=1000, history_age=_EVER, grace=_AT_ONCE)
#: Keeps one trace of each task, and nothing else.
_LEAST = replace(_ALL, traces=1, history=0, versions=0)
_MOST_BATCHES = 1000


async def _collect(store: GraphStore, retention: Retention, batch: int = 500) -> Collected:
    """A whole collection."""
    found = Collected()
    for _ in range(_MOST_BATCHES):
        found += await store.collect(retention, batch=batch)
        if not found.more:
            return found
    raise AssertionError("a collection comes to an end")


async def _took(store: GraphStore, retention: Retention, expected: Collected, promise: str) -> None:
    """The collection takes away what is expected; payloads are counted elsewhere."""
    found = await _collect(store, retention)
    assert _nodes(found) == _nodes(expected), promise
    assert await _collect(store, retention) == Collected(), "and nothing a second time"


def _nodes(collected: Collected) -> Collected:
    return replace(collected, values=0, bytes=0, more=False)


async def _walk_all(store: GraphStore) -> None:
    for walk in await store.walks(limit=1000):
        await store.walk(walk.id)


async def _change(store: GraphStore, *contents: Json, source: str = "push") -> None:
    """Change ``_URI`` so, and walk."""
    for content in contents:
        await store.change(_URI, Document.of(content), source=source)
    await _walk_all(store)


async def _traces(store: GraphStore, task: str = "deploy") -> list[str]:
    found = await store.lookup(task, newest)
    assert found.damaged == (), "no trace is damaged by a collection"
    return [trace.id for trace in found.traces]


async def _stored(store: GraphStore) -> set[str]:
    return {it.id for it in await store.executions(limit=10_000)}


async def _missing(store: GraphStore, digests: Iterable[str]) -> set[str]:
    """Those of the payloads that are not there."""
    try:
        await store.values(set(digests))
    except PayloadCorrupted as error:
        return set(error.digests)
    return set()


async def _document(store: GraphStore, uri: str = _URI) -> tuple[int, str] | None:
    found = await store.document(uri)
    return None if found is None else (found[0], found[1].payload.digest)


def _ended(task: str = "deploy", **how: Any) -> Recording:
    return sample_recording(task, **{"state": ExecutionState.UNPUBLISHED, **how})


def _now() -> int:
    return time.time_ns() // 1_000_000


def _changed(replay: Replay, **update: Any) -> Replay:
    execution = replay.execution.model_copy(update=update)
    return replay.model_copy(update={"execution": execution})


def _without_traces(totals: Totals) -> Totals:
    return replace(totals, traces=0).rounded()


async def test_what_is_wanted_stays(store: GraphStore, namespace: str) -> None:
    assert await store.collect(_LEAST) == Collected(), "there is nothing yet"
    assert await store.collectable(_LEAST) == Collected(), "and nothing to be told of"
    await _change(store, {"a": 1}, {"a": 2})
    recording = _ended(guards=[guard(namespace, _URI, {"a": 2}, "$.a")])
    await published(store, recording)
    await store.write_replays([sample_replay(recording, 1)])
    await _walk_all(store)
    before = await store.lookup("deploy", newest)
    assert await store.collectable(_ALL) == Collected(), "all of it is within the limits"
    assert await store.collect(_ALL) == Collected(), "so nothing is collected"
    found = await store.lookup("deploy", newest)
    assert (found.traces, found.values) == (before.traces, before.values), "a lookup finds the same"


async def test_history_is_folded_into_totals(store: GraphStore) -> None:
    recording = _ended(number=1)
    await published(store, recording)
    effects = [sample_effect("deploy-replay-2", n, done=True) for n in (1, 2)]
    await store.write_replays(
        [sample_replay(recording, n, effects if n == 2 else ()) for n in range(1, 6)],
    )
    await store.write(_ended(number=2, state=ExecutionState.FAILED))
    await store.write(_ended(number=100, says="not published"))
    before = await store.totals()
    expected = Collected(replays=4, executions=1, effects=2)
    few = replace(_ALL, history=2)
    await _took(store, few, expected, "all but the newest of the history goes")
    stay = {"deploy-1", "deploy-100", "deploy-replay-5"}
    assert await _stored(store) == stay, "the trace, and the newest others, stay"
    assert await store.effects("deploy-replay-2") == [], "effects go with who did them"
    after = await store.totals()
    assert _without_traces(after) == _without_traces(before), "the totals are what they were"
    assert after.traces == before.traces, "and so is the number of traces"


async def test_totals_since_a_day(store: GraphStore) -> None:
    day = 1_700_000_000_000 // 86_400_000 * 86_400_000
    for number, at in enumerate((day, day + 86_399_999, day + 86_400_000)):
        recording = _ended(f"task-{number}")
        execution = recording.execution.model_copy(update={"started_at": at})
        await store.write(recording.model_copy(update={"execution": execution}))
    sinces = (None, day - 1, day, day + 86_400_000, day + 2 * 86_400_000)
    before = [_without_traces(await store.totals(since=it)) for it in sinces]
    await _took(store, _LEAST, Collected(executions=3, tasks=3), "all of them go")
    after = [_without_traces(await store.totals(since=it)) for it in sinces]
    assert after == before, "they count in the totals of their day"
    found = await store.totals(since=day + 1)
    assert found.executions == {"partial": 3}, "and a day counts as long as it has not ended"


async def test_traces_beyond_the_limit(store: GraphStore) -> None:
    for number in (1, 2, 3):
        await published(store, _ended(number=number, says=f"{number}"))
    later = replace(_LEAST, grace=timedelta(hours=1))
    await _took(store, later, Collected(unpublished=2), "the oldest are unpublished")
    assert await _traces(store) == ["deploy-3"], "so that no lookup finds them"
    assert not await store.still("deploy-2", {}), "and no process goes on with them"
    for number in (1, 2):
        found = await store.execution(f"deploy-{number}")
        assert found is not None, "who is replaying it has its time to end"
        assert found.execution.state == ExecutionState.UNPUBLISHED, "it is no trace any more"
        assert found.execution.reason, "and says why"
        assert await _missing(store, found.payloads) == set(), "its payloads are there"
    await _took(store, _LEAST, Collected(executions=2), "after that they are deleted")
    assert await _traces(store) == ["deploy-3"], "and the newest is as it was"


async def test_a_trace_that_is_used_is_kept(store: GraphStore) -> None:
    for task in ("used", "unused"):
        recording = _ended(task)
        await published(store, recording)
        at = _now() if task == "used" else recording.execution.started_at + 1
        old = [sample_replay(recording, n) for n in (1, 2)]
        await store.write_replays([*old, _changed(sample_replay(recording, 3), started_at=at)])
    least = replace(_LEAST, max_age=timedelta(days=1))
    expected = Collected(unpublished=1, executions=1, replays=2 + 3, tasks=1)
    await _took(store, least, expected, "only what nobody replayed lately goes")
    assert await _traces(store, "used") == ["used-1"], "a trace in use stays a trace"
    assert await _stored(store) == {"used-1", "used-replay-3"}, "with its newest replay"
    assert await store.task("unused") is None, "and a task goes with its last execution"


async def test_small_batches_make_no_room_for_traces_beyond_the_limit(store: GraphStore) -> None:
    """The newest one goes for its age, the one before it though it was used today."""
    older, newer = _ended(number=9, says="a"), _ended(number=10, says="b")
    for recording in (older, newer):
        await published(store, recording)
    use = sample_replay(older, 1)
    today = use.execution.model_copy(update={"started_at": _now()})
    await store.write_replays([Replay(execution=today)])
    way = replace(_ALL, traces=1, max_age=timedelta(days=1))
    told = await store.collectable(way)
    done = await _collect(store, way, batch=1)
    assert (told.unpublished, done.unpublished) == (2, 2)
    assert await _traces(store) == []


async def test_a_trace_for_its_age_goes_after_grace(store: GraphStore) -> None:
    await published(store, _ended())
    old = replace(_ALL, max_age=timedelta(days=1), grace=timedelta(hours=1))
    await _took(store, old, Collected(unpublished=1), "an unused trace is unpublished")
    after = replace(old, grace=_AT_ONCE)
    expected = Collected(executions=1, tasks=1)
    await _took(store, after, expected, "and deleted whatever the history is to be")


async def test_grace_counts_from_the_end(store: GraphStore) -> None:
    """A run that took long was begun long ago, and has ended just now."""
    recording = _ended()
    long = {"started_at": _now() - 7_200_000, "duration_ms": 7_199_000.0}
    execution = recording.execution.model_copy(update=long)
    await store.write(recording.model_copy(update={"execution": execution}))
    least = replace(_LEAST, grace=timedelta(hours=1))
    await _took(store, least, Collected(), "it may be about to be published")
    await published(store, recording)
    await store.unpublish("deploy-1", "rejected")
    await _took(store, least, Collected(), "what was unpublished just now stays too")


async def test_history_has_an_age(store: GraphStore) -> None:
    await store.write(_ended(number=1))
    fresh = _ended(number=2, says="more")
    execution = fresh.execution.model_copy(update={"started_at": _now()})
    await store.write(fresh.model_copy(update={"execution": execution}))
    young = replace(_ALL, history_age=timedelta(days=1))
    await _took(store, young, Collected(executions=1), "what is older goes")
    assert await _stored(store) == {"deploy-2"}, "what is not stays"


async def test_effects_in_doubt_stay(store: GraphStore) -> None:
    failed = {"state": ExecutionState.FAILED}
    for number in (1, 2):
        run = f"deploy-{number}"
        await store.intend(sample_effect(run), [])
        done = (sample_effect(run, done=True),) if number == 2 else ()
        recording = _ended(number=number, **failed)
        await store.write(recording.model_copy(update={"effects": done}))
    await store.intend(sample_effect("begun"), [])
    expected = Collected(executions=1, effects=1)
    await _took(store, _LEAST, expected, "only what is known to have ended goes")
    for run in ("deploy-1", "begun"):
        assert await store.effects(run) == [sample_effect(run)], "what is in doubt stays"
        assert await store.execution(run), "with the run that began it"
    found = await store.execution("deploy-1")
    assert found is not None
    assert await _missing(store, found.payloads) == set(), "and with all its payloads"


async def test_what_happened_once_stays(store: GraphStore) -> None:
    once = {
        number: sample_effect(f"deploy-{number}").model_copy(
            update={"once": f"refund {number}", "arguments_key": "a"}
        )
        for number in (1, 2)
    }
    ended = {1: once[1].ended(b'"paid"'), 2: once[2].not_performed()}
    for number, effect in once.items():
        await store.intend(effect, [])
        await store.end_effect(ended[number])
        await store.write(
            _ended(number=number, state=ExecutionState.FAILED).model_copy(
                update={"effects": (ended[number],)}
            )
        )
    begun = sample_effect("begun").model_copy(update={"once": "refund 3", "arguments_key": "a"})
    await store.intend(begun, [])
    await store.end_effect(begun.ended(b"1"))
    expected = Collected(executions=1, effects=1)
    await _took(store, _LEAST, expected, "only what was not performed goes")
    assert await store.effects("deploy-1") == [ended[1]], "what happened is known for ever"
    assert await store.effects("begun") == [begun.ended(b"1")], "also of a run that was killed"
    assert await store.execution("deploy-1"), "with the run that did it"


async def test_approvals_stay_that_somebody_answered(store: GraphStore) -> None:
    soon = timedelta(seconds=1)  # a server may take its time for the first of each statement
    for number, state in enumerate((None, ApprovalState.DENIED, ApprovalState.APPROVED)):
        await store.request(sample_approval(number, digest=f"{number}"), soon)
        if state is not None:
            await store.answer(f"approval-{number}", state)
    await store.request(sample_approval(4, digest="4"), _EVER)
    used = sample_effect("begun").model_copy(update={"approval": "approval-4"})
    assert await store.intend(used, []) is not None
    await store.request(sample_approval(5, digest="5"), _EVER)
    await asyncio.sleep(1.1)
    kept = replace(_LEAST, history_age=timedelta(milliseconds=50))
    later = replace(kept, history_age=_EVER)
    await _took(store, later, Collected(), "it is history for a time")
    await _took(store, kept, Collected(approvals=1), "then what nobody answered goes")
    assert await store.approval("approval-0") is None
    for number in (1, 2, 4, 5):
        assert await store.approval(f"approval-{number}"), "what was answered or waits stays"


async def test_open_walks_stay(store: GraphStore, namespace: str) -> None:
    await _change(store, 1)
    await store.facts({_URI: frozenset({None})})
    answer = await published(store, _ended(guards=[guard(namespace, _URI, 2)]))
    assert answer.moved, "its guard does not hold, so a walk of the execution is open"
    await store.unpublish("deploy-1", "rejected")
    for content in (3, 4):
        await store.change(_URI, Document.of(content))
    kept = Retention(traces=1, history=0, versions=0, history_age=_EVER, grace=_AT_ONCE)
    expected = Collected(versions=1, events=1, preconditions=1)
    await _took(store, kept, expected, "what has an open walk stays")
    assert await store.execution("deploy-1"), "the execution"
    events = await store.changes()
    assert [it.to_version for it in events] == [3, 2], "and the events, of old versions too"
    await _walk_all(store)
    assert await store.walks() == [], "all walks can be ended"
    expected = Collected(executions=1, tasks=1, versions=1, events=1, preconditions=3, facets=1)
    await _took(store, kept, expected, "then they go")


async def test_versions(store: GraphStore, namespace: str) -> None:
    await _change(store, {"a": 1}, source="git")
    await store.facts({_URI: frozenset({"$.a"})})
    await _change(store, *({"a": n} for n in range(2, 6)), source="git")
    documents = [Document.of({"a": n}) for n in range(1, 6)]
    expected = Collected(versions=3, events=3, preconditions=3)
    one = replace(_ALL, versions=1)
    later = replace(one, grace=timedelta(hours=1))
    await _took(store, later, Collected(), "who noted one may still compare with it")
    await _took(store, one, expected, "old versions go with their events")
    events = await store.changes(resource=_URI)
    assert [it.to_version for it in events] == [5, 4], "the newest stay"
    gone = await _missing(store, [it.payload.digest for it in documents])
    assert gone == {it.payload.digest for it in documents[:3]}, "and so do their documents"
    assert await _document(store) == (5, documents[4].payload.digest), "what is now is as it was"
    assert await store.resources("git") == {_URI: 5}, "and by whose word is known"
    await _took(store, _LEAST, Collected(versions=1, events=1, preconditions=1), "all")
    assert await store.resources("git") == {_URI: 5}, "but the one that made it so"
    held = [guard(namespace, _URI, {"a": n}, "$.a").id for n in (4, 5)]
    spans = [Span(held[n], _URI, *upto) for n, upto in ((0, (3, 4)), (1, (4, 5)), (1, (3, 5)))]
    assert await store.unbroken(spans) == [False, True, False], "what is gone holds nothing"
    event = await store.change(_URI, documents[0])
    assert event is not None
    assert event.to_version == 6, "numbers only grow"
    facts = await store.facts({_URI: frozenset({"$.a"})})
    at = documents[0].fingerprint("$.a")
    assert facts.of(_URI).fingerprints["$.a"] == at, "and a facet that stayed is held"
    assert await _document(store) == (6, documents[0].payload.digest), "with its document"


async def test_versions_have_an_age(store: GraphStore) -> None:
    await _change(store, 1, 2)
    await store.change(_URI, None)
    await _walk_all(store)
    old = replace(_ALL, history_age=_AT_ONCE)
    await _took(store, old, Collected(versions=2, events=2), "what is older goes")
    (event,) = await store.changes(resource=_URI)
    assert event.kind == ChangeKind.WITHDRAWN, "that it is gone is known"
    assert await store.document(_URI) is None, "and stays so"


async def test_expiries_do_not_pile_up(store: GraphStore) -> None:
    await _change(store, 1)
    for _ in range(3):
        await store.change(_URI, Document.of(1), until=_AT_ONCE)
        await store.expire()
        await store.change(_URI, Document.of(1))
    await _walk_all(store)
    assert len(await store.changes()) == 7, "each expiry and each renewal is an event"
    two = replace(_ALL, versions=2)
    await _took(store, two, Collected(events=4), "only the newest of them stay")
    kinds = [it.kind for it in await store.changes()]
    stay = [ChangeKind.RENEWED, ChangeKind.EXPIRED, ChangeKind.CHANGED]
    assert kinds == stay, "with the one that made the version"
    await _took(store, _LEAST, Collected(events=1), "the newest always stays")
    kinds = [it.kind for it in await store.changes()]
    assert kinds == [ChangeKind.RENEWED, ChangeKind.CHANGED], "and so does that one"


async def test_facets_go_with_what_rests_on_them(store: GraphStore, namespace: str) -> None:
    await _change(store, {"a": 1, "b": 1})
    wanted: dict[str, frozenset[str | None]] = {_URI: frozenset({"$.a", "$.b"})}
    await store.facts(wanted)
    on_a, on_both = (
        [guard(namespace, _URI, {"a": 1, "b": n}, it) for it in parts]
        for n, parts in ((1, ["$.a"]), (2, ["$.a", "$.b"]))
    )
    await published(store, _ended("one", guards=on_a))
    await published(store, _ended("two", guards=on_both))
    await store.unpublish("two-1", "rejected")
    await _change(store, {"a": 1, "b": 3})
    expected = Collected(executions=1, tasks=1, preconditions=3, facets=1)
    few = replace(_ALL, history=0)
    await _took(store, few, expected, "a facet goes with all that it was found to be")
    assert await store.facets(_URI) == frozenset({"$.a"}), "one that guards stays"
    for event in await store.changes():
        told = {it.selector for it in event.changed}
        assert "$.b" not in told, "events do not speak of what nobody wants"
    assert await _traces(store, "one") == ["one-1"], "what stays can be replayed"
    facts = await store.facts(wanted)
    now = Document.of({"a": 1, "b": 3})
    at = {it: now.fingerprint(it) for it in ("$.a", "$.b")}
    assert dict(facts.of(_URI).fingerprints) == at, "who requires it again has it computed again"


async def test_preconditions_go_with_steps_and_versions(store: GraphStore, namespace: str) -> None:
    await _change(store, 1)
    await store.facts({_URI: frozenset({None})})
    for number in (1, 2, 3):
        held = guard(namespace, _URI, number)
        await published(store, _ended(number=number, says=f"{number}", guards=[held]))
    await _walk_all(store)
    await store.unpublish("deploy-1", "rejected")
    await store.unpublish("deploy-2", "rejected")
    few = replace(_ALL, history=0)
    expected = Collected(executions=2, preconditions=1)
    await _took(store, few, expected, "one goes that holds at no version and guards nothing")
    facts = await store.read_facts({_URI: frozenset({None})})
    assert facts.of(_URI).fingerprints, "what the current version holds needs not be computed again"


async def test_a_task_can_come_back(store: GraphStore, namespace: str) -> None:
    recording = _ended(guards=[guard(namespace, _URI, 1)])
    for _ in range(2):
        await _change(store, 1)
        await published(store, recording)
        await _walk_all(store)
        found = await store.lookup("deploy", newest)
        assert (len(found.traces), found.damaged) == (1, ()), "it is recorded"
        assert len(found.values) == len(found.traces[0].payloads), "with its payloads"
        await store.unpublish("deploy-1", "rejected")
        expected = Collected(executions=1, tasks=1, preconditions=1, facets=1)
        await _took(store, _LEAST, expected, "it is all deleted")
        assert await store.task("deploy") is None, "the task too"
        digests = [it.digest for it in recording.values]
        assert await _missing(store, digests) == set(digests), "and its payloads"


async def test_payloads_that_are_named_stay(store: GraphStore) -> None:
    gone, kept = _ended("gone", says="one"), _ended("kept", says="two")
    await published(store, gone)
    await store.unpublish("gone-1", "rejected")
    await published(store, kept)
    told = next(it for it in gone.values if b"what is at 0" in it.data)
    document = Document(told)
    await store.change("rule:told", document)
    found = await _collect(store, _LEAST)
    named = {it.digest for it in kept.values} | {told.digest}
    digests = {it.digest for it in (*gone.values, *kept.values)}
    assert await _missing(store, digests) == digests - named, "what nobody names goes"
    assert found.values == len(digests - named), "and is counted"
    assert found.bytes > 0, "with what it took"
    assert await _collect(store, _LEAST) == Collected(), "once"


async def test_reports_and_outputs_go_with_replays(store: GraphStore) -> None:
    recording = _ended()
    await published(store, recording)
    own = [Value.of(f'{{"of":{n}}}'.encode()) for n in range(6)]
    replays = [
        _changed(
            sample_replay(recording, n), report=own[2 * n].digest, output=own[2 * n + 1].digest
        )
        for n in range(3)
    ]
    await store.write_replays(
        [it.model_copy(update={"values": own[2 * n : 2 * n + 2]}) for n, it in enumerate(replays)],
    )
    found = await _collect(store, _LEAST)
    assert (found.replays, found.values) == (2, 4), "what only a replay named goes with it"
    digests = {it.digest for it in own}
    left = {own[4].digest, own[5].digest}
    assert digests - await _missing(store, digests) == left, "and no more"
    assert await _traces(store) == ["deploy-1"], "the trace is whole"


async def test_who_names_a_payload_keeps_it(store: GraphStore) -> None:
    """A run that ends between any two batches, and names payloads without bringing them."""
    for number, batches in enumerate((*range(6), *[2] * 10)):  # when a look has just been
        task = f"at-{number}"
        await published(store, _ended(task, says=task))
        await store.unpublish(f"{task}-1", "rejected")
        for _ in range(batches):
            await store.collect(_LEAST, batch=1)
        later = _ended(task, number=2, says=task)
        bare = later.model_copy(update={"values": ()})
        answer = await published(store, bare)
        named = {digest for step in later.steps for digest in step.payloads}
        missing = await _missing(store, named)
        assert answer.published == (not missing), "it is a trace iff its payloads are all there"
        await _collect(store, _LEAST, batch=1)
        if answer.published:
            assert await _missing(store, named) == set(), "what a trace names stays"
        assert len(await _traces(store, task)) == int(answer.published), "as it stays"
        await published(store, _ended(task, number=3, says=task))
        assert len(await _traces(store, task)) == 1, "who brings them has them stored"
        await _collect(store, _LEAST)


async def test_a_document_seen_again_stays(store: GraphStore) -> None:
    for batches in range(10):
        for again in range(3):
            uri = f"rule:{batches}-{again}"
            documents = [Document.of({"rule": uri, "n": n}) for n in range(4)]
            for document in documents:
                await store.change(uri, document)
            await _walk_all(store)
            for _ in range(batches):
                await store.collect(_LEAST, batch=1)
            await store.change(uri, documents[again])
            await _collect(store, _LEAST, batch=1)
            found = await _document(store, uri)
            assert found == (5, documents[again].payload.digest), "what is the document now stays"
            await _walk_all(store)
            await _collect(store, _LEAST)


async def test_publish_refuses_what_lost_a_payload(store: GraphStore, namespace: str) -> None:
    recording = _ended()
    decision, action = recording.steps[:2]
    assert decision.head is not None and action.arguments is not None  # noqa: PT018
    for lost in (decision.head, *decision.messages, action.arguments, action.output):
        there = store.of(f"{namespace}-{lost[:8]}")
        left = tuple(value for value in recording.values if value.digest != lost)
        for _ in range(2):
            bare = recording.model_copy(update={"values": left})
            answer = await published(there, bare)
            assert (answer.published, answer.equal_to) == (False, None), "it cannot be replayed"
        found = await there.execution("deploy-1")
        assert found is not None
        assert found.execution.state == ExecutionState.UNPUBLISHED, "it is kept for people"
        assert found.execution.reason, "and says why"
    *whole, last = recording.steps
    last = last.model_copy(update={"output": Value.of(b'"gone"').digest})
    part = recording.model_copy(update={"steps": (*whole, last)})
    answer = await published(store, part, steps=len(whole))
    assert answer.published, "what is not published may miss some"


async def test_a_replay_may_come_late(store: GraphStore) -> None:
    recording = _ended()
    await published(store, recording)
    await store.unpublish("deploy-1", "rejected")
    await _collect(store, _LEAST)
    before = await store.totals()
    late = sample_replay(recording, 7, [sample_effect("deploy-replay-7")])
    await store.write_replays([late])
    assert await store.execution(late.execution.id) is None, "its task is gone"
    after = await store.totals()
    expected = {**before.executions, "replay": 1}
    assert dict(after.executions) == expected, "but it was made, and counts"
    saved = before.saved_tokens + late.execution.saved_tokens
    assert after.saved_tokens == saved, "with what it saved"
    assert await _collect(store, _LEAST) == Collected(), "and there is nothing to collect"
    doubtful = sample_effect("deploy-replay-8", 2)
    await store.intend(doubtful, [])
    await store.write_replays([sample_replay(recording, 8)])
    left = [effect.id for effect in await store.doubts()]
    assert left == [doubtful.id], "an effect in doubt stays, whatever becomes of its run"
    once = sample_effect("deploy-replay-9", 3).model_copy(update={"once": "it"})
    await store.intend(once, [])
    await store.end_effect(once.ended(b"1"))
    await store.write_replays([sample_replay(recording, 9, [once.ended(b"1")])])
    assert await store.effect(once.id) == once.ended(b"1"), "and so does what happened once"


async def _mixed(store: GraphStore) -> None:
    """Something of everything that a collection may take away."""
    await _change(store, {"a": 0, "b": 0})
    await store.facts({_URI: frozenset({"$.a", "$.b"})})
    for number in range(1, 7):
        content = {"a": number, "b": number // 3}
        await _change(store, content)
        guards = [guard(store.namespace, _URI, content, it) for it in ("$.a", "$.b")]
        recording = _ended(number=number, says=f"{number}", guards=guards[: 1 + number % 2])
        await published(store, recording)
        effects = [sample_effect(f"deploy-replay-{number * 10}", done=True)]
        await store.write_replays(
            [sample_replay(recording, number * 10 + n, effects[n:]) for n in range(3)]
        )
        other = _ended(f"other-{number}", says=f"{number}", guards=guards)
        await published(store, other)
        if number % 2:
            await store.unpublish(other.execution.id, "rejected")
    await store.write(_ended(number=99, state=ExecutionState.FAILED, says="no"))
    await _walk_all(store)


_WAYS = (
    _LEAST,
    replace(_ALL, traces=2, history=3, versions=2),
    replace(_ALL, traces=2, history=3, versions=2, grace=timedelta(hours=1)),
    replace(_ALL, max_age=timedelta(days=1), history=1, versions=4),
    replace(_ALL, history_age=timedelta(days=1)),
    replace(_ALL, traces=3, history=0),
)


async def test_a_dry_run_tells_what_is_done(one: GraphStore) -> None:
    for number, way in enumerate(_WAYS):
        store = one.of(f"{one.namespace}-{number}")
        await _mixed(store)
        told = await store.collectable(way)
        assert await store.collectable(way) == told, "telling changes nothing"
        done = await _collect(store, way, batch=1 + 3 * number)
        assert _nodes(told) == _nodes(done), f"a dry run tells what is done, by {way}"
        assert told.values >= done.values, "and at least as many payloads"
        assert told.bytes >= done.bytes, "and what they take"
        assert told.more, "and that there is something"
        assert await store.collectable(way) == Collected(), "then there is nothing left"


async def test_a_collection_changes_no_answer(one: GraphStore) -> None:
    for number, way in enumerate(_WAYS):
        store = one.of(f"{one.namespace}-{number}")
        await _mixed(store)
        tasks = ["deploy", *(f"other-{n}" for n in range(1, 7))]
        before = {task: await store.lookup(task, none) for task in tasks}
        totals = await store.totals()
        await _collect(store, way, batch=2)
        kept = 0
        for task in tasks:
            after = await store.lookup(task, newest)
            known = {trace.id: trace for trace in before[task].traces}
            ids = [trace.id for trace in after.traces]
            assert ids == [it for it in known if it in ids], "traces that stay stay in their order"
            for trace in after.traces:
                assert trace == known[trace.id], "a trace that stays is as it was"
                kept += 1
                for it in trace.preconditions.values():
                    was, now = (look.facts.of(it.resource) for look in (before[task], after))
                    at = (now.version, now.fingerprints.get(it.selector))
                    stood = (was.version, was.fingerprints.get(it.selector))
                    assert at == stood, "what it rests on is what it was"
                payloads = await _missing(store, trace.payloads)
                assert payloads == set(), "and its payloads are there"
                marks = await store.marks(trace.id)
                assert set(marks) <= {step.position for step in trace.steps}, "so are its marks"
        assert kept or way.max_age is not None, "something stays"
        after_all = await store.totals()
        assert _without_traces(after_all) == _without_traces(totals), "no total changes"


async def test_marks_stay(store: GraphStore) -> None:
    await _mixed(store)
    ids = [f"deploy-{n}" for n in range(1, 7)]
    before = {it: await store.marks(it) for it in ids}
    assert any(before.values()), "some steps are invalid"
    assert not all(before.values()), "and some are not"
    await _collect(store, replace(_LEAST, traces=4), batch=2)
    for it in ids[2:]:
        assert await store.marks(it) == before[it], "marks of what stays stay"
    for it in ids[:2]:
        assert await store.marks(it) == {}, "marks go with their execution"


async def test_other_namespaces_are_left_alone(store: GraphStore, namespace: str) -> None:
    here, there = (store.of(f"{namespace}-{it}") for it in ("here", "there"))
    for each in (here, there):
        await _mixed(each)
    told = await there.collectable(_LEAST)
    stored = await _stored(there)
    await _collect(here, _LEAST)
    assert await _stored(there) == stored, "what is another's stays"
    assert await there.collectable(_LEAST) == told, "all of it"
    values = sample_recording(says="1").values
    digests = {it.digest for it in values if b"is at" in it.data}
    assert await _missing(there, digests) == set(), "payloads too, though they are equal"


def _large(task: str, number: int) -> Recording:
    noise = random.Random(task).randbytes(20_000).hex()
    return _ended(task, number=number, says=noise)


async def _take(store: GraphStore, task: str) -> int:
    """What the payloads of such a task take."""
    await published(store, _large(task, 1))
    await store.unpublish(f"{task}-1", "rejected")
    return (await _collect(store, replace(_ALL, history=0))).bytes


async def test_a_size_is_kept(store: GraphStore) -> None:
    size = await _take(store, "measured")
    recordings = [_large(task, number) for number, task in enumerate(("one", "two", "three"))]
    for recording in recordings:
        await published(store, recording)
    replay = _changed(sample_replay(recordings[0], 1), started_at=_now())
    await store.write_replays([replay])
    await store.write(_ended("one", number=5, says="no trace"))
    roomy = replace(_ALL, max_bytes=5 * size)
    await _took(store, roomy, Collected(), "what fits stays")
    tight = replace(_ALL, max_bytes=int(2.5 * size), grace=timedelta(hours=1))
    expected = Collected(executions=1, unpublished=1)
    await _took(store, tight, expected, "history goes, and what was used longest ago")
    assert await _traces(store, "two") == [], "which was not replayed"
    assert await _traces(store, "one") == ["one-0"], "as this one was"
    expected = Collected(executions=1, tasks=1)
    after = replace(tight, grace=_AT_ONCE)
    await _took(store, after, expected, "no more goes than is needed")
    none_left = replace(after, max_bytes=0)
    await _change(store, 1, 2)
    expected = Collected(unpublished=2, executions=2, replays=1, tasks=2, versions=1, events=1)
    await _took(store, none_left, expected, "the limit goes before everything")
    found = await _document(store)
    assert found == (2, Document.of(2).payload.digest), "but what is now"


async def test_collecting_beside_runs(one: GraphStore, two: GraphStore, namespace: str) -> None:
    """Two processes collect at once all they may, while a third and a fourth record and replay."""
    ended = False
    taken = [Collected(), Collected()]

    async def collect(number: int, store: GraphStore) -> None:
        while not ended:
            taken[number] += await store.collect(_LEAST, batch=2 + number)
            await asyncio.sleep(0)

    async def run(number: int, store: GraphStore) -> int:
        task, runs = f"task-{number}", 0
        for n in range(12):
            content = {"a": n % 3}
            await store.change(f"acl:{number}", Document.of(content))
            held = guard(namespace, f"acl:{number}", content, "$.a")
            recording = _ended(task, number=n, says=f"{n % 4}", guards=[held])
            answer = await published(store, recording)
            found = await store.lookup(task, newest)
            assert found.damaged == (), "a trace is found whole"
            assert found.chosen or not answer.published, "and what was published can be replayed"
            replays = [sample_replay(recording, 100 * n + it) for it in range(3)]
            await store.write_replays(replays)
            runs += 1 + len(replays)
        return runs

    collecting = [asyncio.create_task(collect(n, it)) for n, it in enumerate((one, two))]
    try:
        runs = sum(await asyncio.gather(run(0, two), run(1, one)))
    finally:
        ended = True
        await asyncio.gather(*collecting)
    totals = await one.totals()
    assert sum(totals.executions.values()) == runs, "each run is counted once, folded or not"
    for walk in await one.walks(limit=1000):
        await one.walk(walk.id)
    gone = taken[0] + taken[1] + await _collect(one, _LEAST)
    kept = len(await _stored(two))
    assert gone.replays + gone.executions + kept <= runs, "what one has taken no other takes"
    assert await two.collectable(_LEAST) == Collected(), "and nothing is left over"
    totals = await two.totals()
    assert sum(totals.executions.values()) == runs, "whatever was collected"
