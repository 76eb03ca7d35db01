"""Recording: what is written, and that writing it again changes nothing."""

from __future__ import annotations

from execgraph.graphstore.document import Document
from execgraph.graphstore.model import (
    NEVER,
    EffectState,
    ExecutionState,
    FacetRef,
    Precondition,
    StepKind,
    Usage,
)
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import guard, sample_effect, sample_recording


async def test_unknown_keys_are_absent(store: GraphStore) -> None:
    assert await store.execution("none") is None, "an unknown execution is None"
    assert await store.task("none") is None, "an unknown task is None"
    assert await store.effects("none") == [], "an unknown execution performed nothing"


async def test_what_is_written_can_be_read(store: GraphStore, namespace: str) -> None:
    recording = sample_recording(
        guards=[guard(namespace, "acl:a", {"x": 1}, "$.x"), guard(namespace, "acl:b", {})],
        state=ExecutionState.FAILED,
    )
    await store.write(recording)
    found = await store.execution(recording.execution.id)
    assert found is not None
    assert found.execution == recording.execution, "the execution has every field"
    assert found.steps == recording.steps, "so have its steps"
    assert dict(found.preconditions) == {it.id: it for it in recording.preconditions}, (
        "and their guards"
    )
    assert await store.task(recording.task.key) == recording.task, "and the task"
    digests = [value.digest for value in recording.values]
    exact = {value.digest: value.data for value in recording.values}
    assert await store.values(digests) == exact, "and all payloads"


async def test_absent_and_zero_stay_apart(store: GraphStore) -> None:
    recording = sample_recording(turns=1)
    decision, action = recording.steps
    free = decision.model_copy(update={"usage": Usage(), "messages": (), "head": None})
    by_program = action.model_copy(
        update={"decision": None, "call": None, "feeds": (), "effect": None, "arguments": None}
    )
    execution = recording.execution.model_copy(
        update={"cost": None, "labels": {}, "output": None, "replayed": None, "reason": ""}
    )
    task = recording.task.model_copy(update={"context": None})
    recording = recording.model_copy(
        update={"steps": (free, by_program), "execution": execution, "task": task}
    )
    await store.write(recording)
    found = await store.execution(execution.id)
    assert found is not None
    assert found.steps == (free, by_program), "None, zero, false and empty come back as they were"
    assert found.execution == execution, "in an execution too"
    assert await store.task(task.key) == task, "and in a task"


async def test_published_is_never_written(store: GraphStore) -> None:
    for number, state in enumerate(ExecutionState):
        recording = sample_recording(number=number, state=state)
        await store.write(recording)
        found = await store.execution(recording.execution.id)
        assert found is not None
        if state is ExecutionState.PUBLISHED:
            assert found.execution.state is not state, "only `publish` publishes"
        else:
            assert found.execution.state == state, "any other state is stored as given"


async def test_write_returns_current(store: GraphStore, namespace: str) -> None:
    for version in (1, 2, 3):
        await store.change("acl:a", Document.of(version))
    await store.change("acl:other", Document.of(1))
    guards = [
        guard(namespace, "acl:a", 3),
        guard(namespace, "acl:a", 3, "$.x"),
        Precondition.of(namespace, FacetRef("acl:absent", None), NEVER),
    ]
    current = await store.write(sample_recording(guards=guards))
    expected = {"acl:a": 3, "acl:absent": 0}
    assert current == expected, (
        "`current` of every resource that guards a step, 0 if never observed"
    )
    await store.change("acl:a", Document.of(4))
    current = await store.write(sample_recording(guards=guards))
    assert current == expected | {"acl:a": 4}, "as it is now, also when the write is repeated"


async def test_writing_again_changes_nothing(store: GraphStore, namespace: str) -> None:
    first = sample_recording(turns=2, guards=[guard(namespace, "acl:a", 1)])
    await store.write(first)
    before = await store.execution(first.execution.id)
    await store.write(first)
    await store.write(sample_recording(turns=5, says="something else"))
    assert await store.execution(first.execution.id) == before, (
        "an execution is written once: a repetition changes nothing"
    )


async def test_write_completes_what_an_effect_began(store: GraphStore) -> None:
    recording = sample_recording()
    run = recording.execution.id
    await store.intend(sample_effect(run, 1), [])
    await store.intend(sample_effect(run, 2), [])
    done = sample_effect(run, 1, done=True, step=f"{run}/1")
    await store.write(recording.model_copy(update={"effects": (done,)}))
    found = await store.execution(run)
    assert found is not None
    assert found.execution == recording.execution, "the execution is as written"
    assert found.steps == recording.steps, "with its steps"
    expected = [done, sample_effect(run, 2)]
    assert await store.effects(run) == expected, "its effects stay, and one is done"
    await store.write(recording.model_copy(update={"effects": (sample_effect(run, 1),)}))
    states = [effect.state for effect in await store.effects(run)]
    assert states == [EffectState.DONE, EffectState.INTENDED], "what is done stays done"


async def test_a_conversation_is_shared_by_reference(store: GraphStore) -> None:
    recording = sample_recording(turns=12)
    await store.write(recording)
    found = await store.execution(recording.execution.id)
    assert found is not None
    decisions = [step for step in found.steps if step.kind is StepKind.DECISION]
    assert [(step.extends, step.shared, len(step.messages)) for step in decisions[:3]] == [
        (None, 0, 1),
        (0, 1, 1),
        (2, 2, 1),
    ], "a decision names the one it extends, and only its own messages"


async def test_two_runs_share_preconditions(store: GraphStore, namespace: str) -> None:
    held = guard(namespace, "acl:a", {"a": 1}, "$.a")
    for number in (1, 2):
        await store.write(sample_recording(number=number, guards=[held]))
    for number in (1, 2):
        found = await store.execution(f"deploy-{number}")
        assert found is not None
        assert list(found.preconditions) == [held.id], "a precondition is shared by all its steps"
        assert all(step.guards == (held.id,) for step in found.steps), "and guards each of them"


async def test_a_reason_may_quote_what_is_no_text(store: GraphStore, namespace: str) -> None:
    recording = sample_recording(state=ExecutionState.FAILED)
    quoting = recording.execution.model_copy(update={"reason": "it said \ud83d"})
    await store.write(recording.model_copy(update={"execution": quoting}))
    found = await store.execution(quoting.id)
    assert found is not None
    assert found.execution.reason == r"it said \ud83d"
