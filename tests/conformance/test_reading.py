"""Asking about what is stored: dependants of preconditions, totals, the newest executions."""

from __future__ import annotations

import dataclasses

from execgraph.graphstore.canonical import encode
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import (
    Execution,
    ExecutionState,
    Outline,
    OutlineStep,
    Recording,
    Replay,
    StepKind,
    Usage,
    Value,
    manifest,
    signature,
)
from execgraph.graphstore.store import GraphStore
from execgraph.graphstore.totals import Totals
from execgraph.tests.conformance.samples import guard, published, sample_recording, sample_replay

_NOTHING = Totals()


async def test_dependants_are_whole_traces_in_outline(store: GraphStore, namespace: str) -> None:
    first, second = guard(namespace, "acl:a", 1), guard(namespace, "acl:b", {"x": 1}, "$.x")
    recording = sample_recording(guards=[first, second])
    await published(store, recording)
    [outline] = await store.dependants([first.id])
    _outlines(recording, outline)
    assert outline.complete, "all its steps are published"
    used = {key: outline.preconditions[key] for key in (first.id, second.id)}
    assert used == {first.id: first, second.id: second}, "it tells all that guards its steps"


def _outlines(recording: Recording, outline: Outline, steps: int | None = None) -> None:
    execution = recording.execution
    assert (outline.execution, outline.task, outline.agent, outline.started_at) == (
        execution.id,
        recording.task.key,
        execution.agent,
        execution.started_at,
    ), "an outline says whose it is"
    expected = tuple(
        OutlineStep(
            it.position, it.kind, it.name, it.key, it.occurrence, it.tokens, it.guards, it.feeds
        )
        for it in recording.steps[:steps]
    )
    assert outline.steps == expected, "and has the published steps, in their order"
    assert {type(it.kind) for it in outline.steps} == {StepKind}, "kinds are kinds"


async def test_dependants_come_with_the_tasks_other_traces(
    store: GraphStore, namespace: str
) -> None:
    old, new = guard(namespace, "acl:a", 1), guard(namespace, "acl:a", 2)
    await published(store, sample_recording(number=1, says="old", guards=[old]))
    await published(store, sample_recording(number=2, says="new", guards=[new]))
    await published(store, sample_recording("other", guards=[new]))
    await published(store, sample_recording("free"))

    async def ids(*wanted: str) -> list[str]:
        found = await store.dependants(wanted)
        assert found == sorted(found, key=lambda it: it.started_at, reverse=True), "newest first"
        return sorted(it.execution for it in found)

    assert await ids(old.id) == ["deploy-1", "deploy-2"], "a task comes with all its traces"
    both = ["deploy-1", "deploy-2", "other-1"]
    assert await ids(old.id, new.id, new.id) == both, "each trace comes once"
    assert await ids("unknown") == [], "nothing rests on what nobody stated"
    assert await ids() == [], "and nothing on nothing"


async def test_only_published_steps_are_dependants(store: GraphStore, namespace: str) -> None:
    it = guard(namespace, "acl:a", 1)
    recording = sample_recording(guards=[it], turns=3)
    await store.write(recording)
    assert await store.dependants([it.id]) == [], "a run that is no trace has none"
    await published(store, recording, steps=3)
    [outline] = await store.dependants([it.id])
    _outlines(recording, outline, 3)
    assert not outline.complete, "what is not published was cut off"
    await store.unpublish(recording.execution.id, "rejected")
    assert await store.dependants([it.id]) == [], "nor has one that is a trace no more"


async def test_a_guard_beyond_the_published_steps_has_no_dependants(
    store: GraphStore, namespace: str
) -> None:
    it = guard(namespace, "acl:a", 1)
    recording = sample_recording(guards=[it], turns=2)
    steps = tuple(
        step.model_copy(update={"guards": step.guards if step.position == 3 else ()})
        for step in recording.steps
    )
    recording = recording.model_copy(update={"steps": steps})
    await published(store, recording, steps=2)
    assert await store.dependants([it.id]) == [], "only what may be replayed counts"


async def test_totals(store: GraphStore) -> None:
    assert await store.totals() == _NOTHING, "an empty namespace comes to nothing"
    recording = sample_recording(number=1)
    await published(store, recording)
    await store.write_replays([sample_replay(recording, n) for n in (10, 20)])
    failed = sample_recording("other", number=30, state=ExecutionState.FAILED)
    await store.write(failed)
    found = await store.totals()
    assert found.executions == {"partial": 1, "replay": 2}, "those that ended well, by mode"
    assert (found.failed, found.traces) == (1, 1), "failed ones and traces"
    misses = {"precondition changed": (2, 1800), "request changed": (4, 2200)}
    assert found.misses == misses, "each kind of cause, by calls and tokens"
    assert (found.tokens, found.saved_tokens) == (2 * 2007, 2 * 4200 + 2 * 3), "tokens of all"
    assert round(found.cost, 6) == 0.025, "cost of those whose price is known"
    later = await store.totals(since=recording.execution.started_at + 20)
    assert (later.executions, later.failed) == ({"replay": 1}, 1), "`since` counts from then on"
    assert later.traces == 1, "traces are those of now, whatever `since`"
    none = await store.totals(since=recording.execution.started_at + 10_000)
    assert none == dataclasses.replace(_NOTHING, traces=1), "nothing started since then"


async def test_the_newest_executions(store: GraphStore) -> None:
    assert await store.executions() == [], "an empty namespace has none"
    recording = sample_recording(number=1)
    await published(store, recording)
    other = sample_recording("other", number=5)
    reviewer = other.execution.model_copy(update={"agent": "reviewer"})
    await published(store, other.model_copy(update={"execution": reviewer}))
    await store.write_replays([sample_replay(recording, 2)])

    async def ids(agent: str | None = None, limit: int = 20) -> list[str]:
        found = await store.executions(agent=agent, limit=limit)
        assert all(isinstance(it, Execution) for it in found), "they are executions"
        return [it.id for it in found]

    assert await ids() == ["other-5", "deploy-replay-2", "deploy-1"], "the newest comes first"
    assert await ids("deployer") == ["deploy-replay-2", "deploy-1"], "those of one agent"
    assert await ids(limit=1) == ["other-5"], "not more than asked for"
    assert await ids("nobody") == [], "an agent that never ran has none"


async def test_a_replay_brings_its_report(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    report = Value.of(encode({"steps": ["what became of each"]}))
    plain = sample_replay(recording, 7).execution
    told = plain.model_copy(
        update={"report": report.digest, "miss": ("output diverged",), "usage": Usage()}
    )
    replay = Replay(execution=told, values=(report,))
    for _ in range(2):
        await store.write_replays([replay, sample_replay(recording, 8)])
    found = await store.execution(told.id)
    assert found is not None
    assert (found.execution.miss, found.execution.report) == (told.miss, told.report), "kept"
    kept = await store.values([report.digest])
    assert kept == {report.digest: report.data}, "its report is a value"


async def test_namespaces_are_named_in_order(store: GraphStore, namespace: str) -> None:
    first, second = f"{namespace}-1", f"{namespace}-2"
    await published(store.of(second), sample_recording())
    await store.of(first).change("acl:a", Document.of(1))
    many = await store.namespaces(limit=100_000)
    assert [it for it in many if it.startswith(namespace)] == [first, second], "those there are"
    assert await store.namespaces(limit=1) == many[:1], "no more than are wanted"


async def test_why_a_run_is_not_published_is_told_alike(store: GraphStore) -> None:
    await published(store, sample_recording(number=1))
    await published(store, sample_recording(number=2))
    await _publish_keeping(store, sample_recording(number=3, says="other"), keep=1)
    lost = sample_recording(number=4, says="lost")
    await _publish_keeping(store, lost.model_copy(update={"values": ()}), keep=1)
    expected = {
        "deploy-1": "the task keeps its 1 newest traces",
        "deploy-2": "it takes the same steps under the same guards as deploy-1",
        "deploy-4": "a payload that its steps name is gone",
    }
    for execution, reason in expected.items():
        found = await store.execution(execution)
        assert found is not None, execution
        assert found.execution.reason == reason, f"why {execution} is no trace"


async def _publish_keeping(store: GraphStore, recording: Recording, keep: int) -> None:
    await store.write(recording)
    await store.publish(
        recording.execution.id,
        steps=len(recording.steps),
        manifest=manifest(recording.steps),
        signature=signature(recording.steps),
        keep=keep,
    )
