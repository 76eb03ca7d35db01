"""Verdicts: what waits to be approved, what is approved, and what is rejected for good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from execgraph.graphstore.canonical import fingerprint
from execgraph.graphstore.model import (
    Execution,
    ExecutionState,
    Recording,
    Step,
    StepKind,
    manifest,
    signature,
)
from execgraph.graphstore.retention import UNAPPROVED, Retention
from execgraph.graphstore.roles.recording import Published
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import (
    guard,
    none,
    published,
    sample_effect,
    sample_recording,
)

HARSHEST = Retention(
    traces=1,
    history=0,
    versions=0,
    max_age=timedelta(0),
    history_age=timedelta(0),
    max_bytes=0,
    grace=timedelta(0),
)


async def _execution(store: GraphStore, execution: str) -> Execution:
    found = await store.execution(execution)
    assert found is not None, f"{execution} is in the store"
    return found.execution


async def _state(store: GraphStore, execution: str) -> str:
    return (await _execution(store, execution)).state


async def _traces(store: GraphStore, task: str = "deploy") -> list[str]:
    return [trace.id for trace in (await store.lookup(task, none)).traces]


async def _waiting(
    store: GraphStore, recording: Recording, steps: int | None = None, keep: int = 8
) -> Published:
    """Write the recording, whose first steps (None: all) then wait to be approved."""
    await store.write(recording)
    return await _published_again(store, recording, steps, keep, approved=False)


async def _published_again(
    store: GraphStore,
    recording: Recording,
    steps: int | None = None,
    keep: int = 8,
    *,
    approved: bool = True,
) -> Published:
    part = recording.steps[:steps]
    return await store.publish(
        recording.execution.id,
        steps=len(part),
        manifest=manifest(part),
        signature=signature(part),
        keep=keep,
        approved=approved,
    )


async def _reject(store: GraphStore, recording: Recording, why: str = "wrong") -> tuple[str, ...]:
    return await store.reject(recording.execution.id, why, signature(recording.steps))


async def _collected(store: GraphStore) -> None:
    while (await store.collect(HARSHEST)).more:
        pass


def _with_last_answer(of: Recording, by: Recording) -> Recording:
    """The recording ``of``, with the last decision of ``by`` in place of its own."""
    answer = _last_decision(by.steps)
    steps = [answer if it.position == answer.position else it for it in of.steps]
    values = {it.digest: it for it in (*of.values, *by.values)}
    return of.model_copy(update={"steps": tuple(steps), "values": tuple(values.values())})


def _last_decision(steps: Sequence[Step]) -> Step:
    return [it for it in steps if it.kind is StepKind.DECISION][-1]


# What waits -------------------------------------------------------------------------------


async def test_what_waits_to_be_approved_is_found_by_no_lookup(store: GraphStore) -> None:
    recording = sample_recording()
    answer = await _waiting(store, recording)
    assert answer == Published(False, waits=True)
    assert await _traces(store) == []
    assert not await store.still("deploy-1", {})
    found = await _execution(store, "deploy-1")
    assert (found.state, found.reason) == (ExecutionState.UNAPPROVED, UNAPPROVED)
    assert (found.published_steps, found.manifest) == (4, manifest(recording.steps))


async def test_waiting_again_changes_nothing(store: GraphStore) -> None:
    recording = sample_recording()
    await _waiting(store, recording)
    assert (await _waiting(store, recording)).waits
    assert (await _published_again(store, recording)).published is False, "it is for `approve`"
    assert await _state(store, "deploy-1") == "unapproved"


async def test_an_approved_run_is_a_trace_as_any_other(store: GraphStore) -> None:
    recording = sample_recording()
    await _waiting(store, recording, steps=2)
    answer = await store.approve("deploy-1")
    assert (answer.published, answer.waits) == (True, False)
    [trace] = (await store.lookup("deploy", none)).traces
    assert trace.steps == recording.steps[:2]
    assert trace.execution.reason is None
    assert await store.still("deploy-1", {})


async def test_approving_twice_is_harmless(store: GraphStore) -> None:
    await _waiting(store, sample_recording())
    await store.approve("deploy-1")
    before = await store.execution("deploy-1")
    assert (await store.approve("deploy-1")).published
    assert await store.execution("deploy-1") == before


async def test_only_what_waits_is_approved(store: GraphStore) -> None:
    await store.write(sample_recording(number=1, state=ExecutionState.FAILED))
    await store.write(sample_recording(number=2, says="undecided"))
    await store.write(sample_recording(number=3, says="refused"))
    await store.unpublish("deploy-3", "not accepted")
    for number in (1, 2, 3):
        for overrule in (False, True):
            answer = await store.approve(f"deploy-{number}", overrule=overrule)
            assert not answer.published
    assert not (await store.approve("never heard of")).published
    assert await _traces(store) == []
    assert await _state(store, "deploy-1") == "failed"
    assert (await _execution(store, "deploy-3")).reason == "not accepted"


async def test_of_equal_runs_one_waits(store: GraphStore) -> None:
    await _waiting(store, sample_recording(number=1))
    answer = await _waiting(store, sample_recording(number=2))
    assert answer == Published(False, "deploy-1", waits=True)
    assert await _waiting(store, sample_recording(number=2)) == answer, "asked again"
    assert await _state(store, "deploy-2") == "unpublished"
    await store.approve("deploy-1")
    third = await _waiting(store, sample_recording(number=3))
    assert third == Published(False, "deploy-1"), "which is a trace by now"


async def test_what_equals_a_trace_by_the_time_it_is_approved_is_none(store: GraphStore) -> None:
    await _waiting(store, sample_recording(number=1))
    await published(store, sample_recording(number=2))
    answer = await store.approve("deploy-1")
    assert (answer.published, answer.equal_to) == (False, "deploy-2")
    assert await _traces(store) == ["deploy-2"]


async def test_a_task_keeps_so_many_runs_that_wait(store: GraphStore) -> None:
    for number in range(4):
        await _waiting(store, sample_recording(number=number, says=f"{number}"), keep=2)
    states = [await _state(store, f"deploy-{number}") for number in range(4)]
    assert states == ["unpublished", "unpublished", "unapproved", "unapproved"]


async def test_approving_keeps_so_many_traces(store: GraphStore) -> None:
    await published(store, sample_recording(number=1, says="old"))
    await _waiting(store, sample_recording(number=2))
    answer = await store.approve("deploy-2", keep=1)
    assert answer.unpublished == ("deploy-1",)
    assert await _traces(store) == ["deploy-2"]


async def test_what_waits_can_be_unpublished(store: GraphStore) -> None:
    await _waiting(store, sample_recording())
    await store.unpublish("deploy-1", "cancelled")
    assert not (await store.approve("deploy-1")).published
    assert (await _execution(store, "deploy-1")).reason == "cancelled"


async def test_approving_opens_a_walk_if_a_guard_does_not_hold(store: GraphStore) -> None:
    held = guard(store.namespace, "acl:a", 1)
    await _waiting(store, sample_recording(guards=[held]))
    answer = await store.approve("deploy-1")
    assert (answer.published, answer.moved) == (True, True)
    assert "deploy-1" in [walk.id for walk in await store.walks()]


async def test_what_waits_goes_with_age_and_not_for_number(store: GraphStore) -> None:
    await _waiting(store, sample_recording())
    squeezed = Retention(history=0, max_bytes=0, grace=timedelta(0))
    while (await store.collect(squeezed)).more:
        pass
    assert await _state(store, "deploy-1") == "unapproved"
    assert (await store.approve("deploy-1")).published, "with all its payloads"
    await _waiting(store, sample_recording("other"))
    await _collected(store)
    assert await store.execution("other-1") is None


# What is rejected -------------------------------------------------------------------------


async def test_what_is_rejected_is_no_trace_and_keeps_the_reason(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    assert await store.still("deploy-1", {})
    assert await _reject(store, recording, "wrong region") == ()
    assert await _traces(store) == []
    assert not await store.still("deploy-1", {})
    found = await _execution(store, "deploy-1")
    assert (found.state, found.reason) == (ExecutionState.REJECTED, "wrong region")
    assert await store.rejected(["deploy-1", "another"]) == {"deploy-1": "wrong region"}


async def test_rejecting_again_changes_nothing_but_the_reason(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    await _reject(store, recording, "wrong")
    await _reject(store, recording, "very wrong")
    assert (await _execution(store, "deploy-1")).reason == "very wrong"
    assert await _traces(store) == []


async def test_nothing_brings_a_rejected_run_back_by_itself(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    await _reject(store, recording)
    await published(store, recording)
    await store.unpublish("deploy-1", "cancelled")
    await store.approve("deploy-1")
    await published(store, recording)
    assert await _state(store, "deploy-1") == "rejected"
    assert await _traces(store) == []


async def test_what_failed_or_is_unknown_is_not_rejected(store: GraphStore) -> None:
    failed = sample_recording(state=ExecutionState.FAILED)
    await store.write(failed)
    assert await _reject(store, failed) == ()
    assert await store.reject("never heard of", "wrong", "") == ()
    assert await _state(store, "deploy-1") == "failed"
    await store.intend(sample_effect("begun"), [])
    await store.reject("begun", "wrong", "")
    assert await _state(store, "begun") == "running", "it has not ended"


@pytest.mark.parametrize("approved", [True, False])
async def test_an_equal_recording_is_not_published(store: GraphStore, approved: bool) -> None:  # noqa: FBT001
    first = sample_recording(number=1)
    await published(store, first)
    await _reject(store, first, "wrong region")
    second = sample_recording(number=2)
    await store.write(second)
    answer = await _published_again(store, second, approved=approved)
    assert (answer.published, answer.waits, answer.equal_to) == (False, False, "deploy-1")
    assert answer.rejected is not None
    assert "wrong region" in answer.rejected
    assert "deploy-1" in answer.rejected
    assert await _traces(store) == []
    found = await _execution(store, "deploy-2")
    assert (found.state, found.reason) == (ExecutionState.REJECTED, answer.rejected)
    assert await _published_again(store, second, approved=approved) == answer, "asked again"


async def test_the_same_answer_under_other_facts_is_not_published(store: GraphStore) -> None:
    first = sample_recording(number=1)
    await published(store, first)
    await _reject(store, first)
    other = sample_recording(number=2, guards=[guard(store.namespace, "acl:a", 1)])
    assert (await published(store, other)).rejected is not None


async def test_traces_that_have_the_answer_are_rejected_with_it(store: GraphStore) -> None:
    bad = sample_recording(number=1, says="bad")
    copied = _with_last_answer(sample_recording(number=2, says="other"), bad)
    apart = sample_recording(number=3, says="third")
    for each in (bad, copied, apart):
        await published(store, each)
    waiting = sample_recording(number=4, says="bad", guards=[guard(store.namespace, "acl:a", 1)])
    await _waiting(store, waiting)
    others = await _reject(store, bad, "wrong")
    assert sorted(others) == ["deploy-2", "deploy-4"]
    assert await _traces(store) == ["deploy-3"], "what has another answer goes on"
    for execution in others:
        found = await _execution(store, execution)
        assert found.state == "rejected"
        assert found.reason is not None
        assert "deploy-1" in found.reason


async def test_a_trace_goes_on_that_shares_only_earlier_steps(store: GraphStore) -> None:
    bad = sample_recording(number=1, says="bad")
    other = sample_recording(number=2, says="other")
    shared = other.model_copy(
        update={
            "steps": (*bad.steps[:2], *other.steps[2:]),
            "values": tuple({it.digest: it for it in (*bad.values, *other.values)}.values()),
        }
    )
    await published(store, bad)
    await published(store, shared)
    assert await _reject(store, bad) == ()
    assert await _traces(store) == ["deploy-2"]


async def test_a_prefix_without_the_answer_goes_on(store: GraphStore) -> None:
    bad = sample_recording(number=1)
    other = sample_recording(number=2, guards=[guard(store.namespace, "acl:a", 1)])
    await published(store, bad)
    await published(store, other, steps=2)
    assert await _reject(store, bad) == ()
    assert await _traces(store) == ["deploy-2"], "whose last decision is asked again"


async def test_the_same_request_with_another_answer_is_published(store: GraphStore) -> None:
    bad = sample_recording(number=1)
    await published(store, bad)
    await _reject(store, bad)
    answer = _last_decision(bad.steps)
    better = answer.model_copy(update={"output_key": fingerprint("better")})
    steps = tuple(better if it is answer else it for it in bad.steps)
    execution = bad.execution.model_copy(update={"id": "deploy-2"})
    second = bad.model_copy(update={"steps": steps, "execution": execution})
    assert (await published(store, second)).published


async def test_a_run_without_decisions_is_known_by_its_steps(store: GraphStore) -> None:
    def only_actions(number: int, says: str = "yes") -> Recording:
        made = sample_recording(number=number, says=says)
        actions = [it for it in made.steps if it.kind is StepKind.ACTION]
        moved = [
            it.model_copy(update={"position": at, "decision": None, "call": None, "feeds": ()})
            for at, it in enumerate(actions)
        ]
        return made.model_copy(update={"steps": tuple(moved)})

    first = only_actions(1)
    await published(store, first)
    await _reject(store, first)
    assert (await published(store, only_actions(2))).rejected is not None
    assert (await published(store, only_actions(3, "no"))).published


async def test_another_task_is_not_touched(store: GraphStore) -> None:
    bad = sample_recording("deploy")
    await published(store, bad)
    await published(store, sample_recording("other"))
    await _reject(store, bad)
    assert await _traces(store, "other") == ["other-1"]


async def test_what_was_never_published_can_be_rejected(store: GraphStore) -> None:
    recording = sample_recording(number=1)
    await store.write(recording)
    await store.unpublish("deploy-1", "not accepted")
    await _reject(store, recording, "wrong")
    assert (await published(store, sample_recording(number=2))).rejected is not None


async def test_no_effect_begins_once_what_served_it_is_rejected(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    assert await store.intend(sample_effect("run", 1), [], traces=["deploy-1", "gone"])
    await _reject(store, recording)
    assert not await store.intend(sample_effect("run", 2), [], traces=["deploy-1", "gone"])
    assert await store.intend(sample_effect("run", 3), [], traces=["gone"])
    assert [it.id for it in await store.effects("run")] == ["run-effect-1", "run-effect-3"]


async def test_a_trace_that_is_only_unpublished_stops_no_effect(store: GraphStore) -> None:
    await published(store, sample_recording())
    await store.unpublish("deploy-1", "too old")
    assert await store.intend(sample_effect("run"), [], traces=["deploy-1"])


async def test_a_rejection_outlives_the_harshest_collection(store: GraphStore) -> None:
    bad = sample_recording(number=1)
    await published(store, bad)
    await _reject(store, bad, "wrong region")
    copy = sample_recording(number=2)
    await published(store, copy)
    await _collected(store)
    assert (await _execution(store, "deploy-1")).reason == "wrong region"
    assert await store.execution("deploy-2") is None, "of which only the answer was rejected"
    assert (await published(store, sample_recording(number=3))).rejected is not None
    assert await _traces(store) == []


# Overruled --------------------------------------------------------------------------------


async def test_a_rejection_is_overruled_by_word_only(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    await _reject(store, recording)
    answer = await store.approve("deploy-1")
    assert (answer.published, answer.rejected) == (False, "wrong")
    assert (await store.approve("deploy-1", overrule=True)).published
    assert await _traces(store) == ["deploy-1"]
    assert await store.rejected(["deploy-1"]) == {}


async def test_overruling_releases_what_was_rejected_with_it(store: GraphStore) -> None:
    bad = sample_recording(number=1)
    other = sample_recording(number=2, guards=[guard(store.namespace, "acl:a", 1)])
    await published(store, bad)
    await published(store, other)
    await _reject(store, bad)
    assert (await store.approve("deploy-1", overrule=True)).published
    assert await _state(store, "deploy-2") == "unpublished"
    again = sample_recording(number=3, guards=[guard(store.namespace, "acl:a", 1)])
    assert (await published(store, again)).published


async def test_overruling_for_a_copy_lifts_the_rejection_of_its_answer(store: GraphStore) -> None:
    bad = sample_recording(number=1)
    await published(store, bad)
    await _reject(store, bad)
    await published(store, sample_recording(number=2))
    assert (await store.approve("deploy-2", overrule=True)).published
    assert await _traces(store) == ["deploy-2"]
    found = await _execution(store, "deploy-1")
    assert found.state == "unpublished"
    assert found.reason is not None
    assert "deploy-2" in found.reason


async def test_two_rejections_of_one_answer_are_overruled_together(store: GraphStore) -> None:
    first, second = sample_recording(number=1), sample_recording(number=2)
    await published(store, first)
    await store.write(second)
    await _reject(store, first)
    await _reject(store, second)
    assert (await store.approve("deploy-1", overrule=True)).published
    assert await _state(store, "deploy-2") == "unpublished"


# At the same time -------------------------------------------------------------------------


async def test_rejecting_and_publishing_an_equal_run_at_once(
    one: GraphStore, two: GraphStore
) -> None:
    for number in range(0, 20, 2):
        task = f"task-{number}"
        bad, equal = sample_recording(task, number=1), sample_recording(task, number=2)
        await published(one, bad)
        await one.write(equal.model_copy(update={"steps": equal.steps}))
        await asyncio.gather(_reject(one, bad), _published_again(two, equal))
        assert await _traces(two, task) == []


async def test_rejecting_and_approving_at_once_ends_rejected(
    one: GraphStore, two: GraphStore
) -> None:
    for number in range(10):
        recording = sample_recording(f"task-{number}")
        await _waiting(one, recording)
        execution = recording.execution.id
        await asyncio.gather(two.approve(execution), _reject(one, recording))
        assert await _state(one, execution) == "rejected"
        assert await _traces(one, f"task-{number}") == []


async def test_rejecting_what_is_collected_at_once(one: GraphStore, two: GraphStore) -> None:
    for number in range(10):
        task = f"task-{number}"
        recording = sample_recording(task)
        await published(one, recording)
        await asyncio.gather(_collected(two), _reject(one, recording))
        assert await _traces(one, task) == []
        if (found := await one.execution(recording.execution.id)) is not None:
            assert found.execution.state == "rejected", "or it was gone before"
