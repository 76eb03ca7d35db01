"""Asking about what is stored: dependants of preconditions, totals, the newest executions."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from execgraph.graphstore.canonical import encode
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import (
    ApprovalState,
    Execution,
    ExecutionState,
    Mode,
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
from execgraph.graphstore.roles.history import BY, By, Executions, Place
from execgraph.graphstore.store import GraphStore
from execgraph.graphstore.totals import Totals
from execgraph.tests.conformance.samples import (
    guard,
    published,
    sample_approval,
    sample_effect,
    sample_recording,
    sample_replay,
)

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
        of = Executions() if agent is None else Executions("agent", agent)
        found = await store.executions(of, limit=limit)
        assert all(isinstance(it, Execution) for it in found), "they are executions"
        return [it.id for it in found]

    assert await ids() == ["other-5", "deploy-replay-2", "deploy-1"], "the newest comes first"
    assert await ids("deployer") == ["deploy-replay-2", "deploy-1"], "those of one agent"
    assert await ids(limit=1) == ["other-5"], "not more than asked for"
    assert await ids("nobody") == [], "an agent that never ran has none"


async def test_executions_are_listed_by_each_property(store: GraphStore) -> None:
    recording = sample_recording(number=1)
    await published(store, recording)
    failed = sample_recording("other", number=5, state=ExecutionState.FAILED)
    await store.write(failed)
    await store.write_replays([sample_replay(recording, 2)])
    assert await store.intend(sample_effect("begun"), []) is not None
    asked = Execution(
        id="asked",
        task="",
        agent="deployer",
        mode=Mode.LIVE,
        state=ExecutionState.RUNNING,
        started_at=recording.execution.started_at + 8,
        asked=1,
    )
    await store.note_running([asked])

    async def ids(by: By | None = None, value: str = "", *, ended: bool = False) -> list[str]:
        return [it.id for it in await store.executions(Executions(by, value, ended=ended))]

    # One that only began started by the store's own clock.
    everything = ["begun", "asked", "other-5", "deploy-replay-2", "deploy-1"]
    assert await ids() == everything, "those that have not ended are told, too"
    assert await ids(ended=True) == everything[2:], "or left out"
    assert await ids("agent", "deployer") == everything[1:], "of one that began none is known"
    assert await ids("task", "deploy") == ["deploy-replay-2", "deploy-1"], "those of one task"
    assert await ids("task", "unknown") == [], "a task that was never given has none"
    assert await ids("state", "running") == ["begun", "asked"], "those in one state"
    assert await ids("state", "running", ended=True) == [], "none of them has ended"
    assert await ids("state", "failed") == ["other-5"], "those that failed"
    assert await ids("mode", "live") == ["asked"], "of one that only began it is not known"
    assert await ids("mode", "replay") == ["deploy-replay-2"], "those of one mode"


@pytest.mark.parametrize("by", [None, *BY])
async def test_a_list_goes_on_where_it_ended(store: GraphStore, by: By | None) -> None:
    recording = sample_recording(number=1)
    await store.write(recording)
    replays = [sample_replay(recording, number) for number in range(21, 33)]
    at_once = [  # three in each millisecond
        it.model_copy(
            update={
                "execution": it.execution.model_copy(
                    update={
                        "started_at": recording.execution.started_at + number // 3,
                        "mode": Mode.PARTIAL,
                    }
                )
            }
        )
        for number, it in enumerate(replays, 21)
    ]
    await store.write_replays(at_once)
    value = {"agent": "deployer", "task": "deploy", "mode": "partial", "state": "unpublished"}
    of = Executions(by, value[by]) if by else Executions()
    found: list[str] = []
    while some := await store.executions(of, limit=4):
        assert len(some) <= 4, "no more than asked for"
        found += [it.id for it in some]
        of = of._replace(before=Place.of(some[-1]))
    expected = [f"deploy-replay-{number}" for number in range(32, 20, -1)]
    ended = [] if by == "state" else ["deploy-1"]
    assert found == [*expected, *ended], "each once, the newest and then the greatest id first"
    since = at_once[6].execution.started_at
    newest = await store.executions(of._replace(before=Executions().before, since=since))
    assert [it.id for it in newest] == expected[:6], "or those that started then or later"


async def test_ids_are_found_by_how_they_begin(store: GraphStore) -> None:
    recording = sample_recording(number=1)
    await published(store, recording)
    await store.write_replays([sample_replay(recording, number) for number in (10, 11, 20)])
    found = await store.execution_ids("deploy-replay-1")
    assert found == ["deploy-replay-10", "deploy-replay-11"], "in order"
    assert await store.execution_ids("deploy-replay-1", limit=1) == found[:1], "no more than that"
    assert await store.execution_ids("deploy-replay-20") == ["deploy-replay-20"], "a whole one"
    for nothing in ("deploy-replay-3", "x", "deploy_replay", "deploy-%"):
        assert await store.execution_ids(nothing) == [], "nothing begins so"


async def test_ids_of_effects_and_approvals_are_found_by_how_they_begin(store: GraphStore) -> None:
    for number in (10, 11, 20):
        await store.intend(sample_effect("run", number), [])
        asked = sample_approval(number, digest=f"digest {number}")
        await store.request(asked, timedelta(days=1))
    await store.answer("approval-11", ApprovalState.DENIED)
    assert await store.effect_ids("run-effect-1") == ["run-effect-10", "run-effect-11"]
    assert await store.effect_ids("run-effect-1", limit=1) == ["run-effect-10"]
    assert await store.approval_ids("approval-1") == ["approval-10", "approval-11"], "in any state"
    assert await store.approval_ids("approval-1", limit=1) == ["approval-10"]
    assert await store.approval_ids("approval-20") == ["approval-20"], "a whole one"
    for nothing in ("run-effect-3", "x", "run_effect", "approval-%"):
        assert await store.effect_ids(nothing) == [], "nothing begins so"
        assert await store.approval_ids(nothing) == []


async def test_the_lengths_of_what_was_recorded(store: GraphStore) -> None:
    recording = sample_recording(turns=2)
    await store.write(recording)
    await store.intend(sample_effect("begun"), [])
    found = await store.lengths([recording.execution.id, "begun", "unknown"])
    assert found == {recording.execution.id: recording.execution.steps}, "of what has ended"
    assert await store.lengths([]) == {}


async def test_who_carries_out_what_has_not_ended_is_told_until_it_has(store: GraphStore) -> None:
    effect = sample_effect("deploy-1").model_copy(update={"process": "here/1/1"})
    assert await store.intend(effect, [], agent="deployer") is not None
    other = sample_effect("other").model_copy(update={"process": "here/2/2"})
    assert await store.intend(other, []) is not None
    running = Executions("state", "running", ended=False)
    told = {it.id: (it.agent, it.process) for it in await store.executions(running)}
    assert told == {"deploy-1": ("deployer", "here/1/1"), "other": ("", "here/2/2")}
    [found] = await store.executions(Executions("agent", "deployer", ended=False))
    assert (found.id, found.mode, found.duration_ms) == ("deploy-1", "live", 0.0)
    states = {"deployer": "killed", "": "running"}
    totals = await store.totals(dead=["here/1/1", "of nobody"])
    assert {it.agent: it.state for it in totals.tallies} == states, "killed, as far as is known"
    assert (await store.totals()).tallies != totals.tallies
    noted = found.model_copy(update={"process": "here/3/3", "asked": 1})
    await store.note_running([noted])
    assert {it.process for it in await store.executions(running)} == {"here/2/2", "here/3/3"}
    await store.write(sample_recording(number=1))
    [ended] = await store.executions(Executions("agent", "deployer"))
    assert (ended.id, ended.process) == ("deploy-1", None)


async def test_agents_are_named_in_order(store: GraphStore) -> None:
    assert await store.agents() == [], "an empty namespace has none"
    for number, agent in enumerate(("reviewer", "deployer", "zéro", "deployer"), 1):
        it = sample_recording(number=number)
        execution = it.execution.model_copy(update={"agent": agent})
        await store.write(it.model_copy(update={"execution": execution}))
    assert await store.intend(sample_effect("begun"), []) is not None
    assert await store.agents() == ["deployer", "reviewer", "zéro"], "each once"
    assert await store.agents(limit=2) == ["deployer", "reviewer"], "no more than are wanted"


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


async def test_the_recent_tasks_of_an_agent_are_those_that_can_be_served(store: GraphStore) -> None:
    assert await store.recent_tasks("deployer") == [], "an empty namespace has none"
    runs = [sample_recording(f"task-{number}", number=number) for number in range(1, 6)]
    for recording in runs[:4]:
        await published(store, recording)
    await store.write(runs[4])  # and never published
    again = sample_replay(runs[0], 20)
    await store.write_replays([again])
    await store.unpublish(runs[1].execution.id, "it is wrong")
    newest = await store.recent_tasks("deployer")
    assert newest == [runs[0].task, runs[3].task, runs[2].task]
    assert await store.recent_tasks("deployer", limit=2) == [runs[0].task], "the limit is of runs"
    assert await store.recent_tasks("somebody else") == []
