"""Recording: what is written, and that writing it again changes nothing."""

from __future__ import annotations

from ..document import Document
from ..model import NEVER, EffectState, ExecutionState, FacetRef, Precondition, StepKind, Usage
from ..store import GraphStore
from .expect import equal, true
from .samples import guard, sample_effect, sample_recording

__all__ = ["CHECKS"]


async def check_unknown_keys_are_absent(store: GraphStore, namespace: str) -> None:
    equal(await store.execution(namespace, "none"), None, "an unknown execution is None")
    equal(await store.task(namespace, "none"), None, "an unknown task is None")
    equal(await store.effects(namespace, "none"), [], "an unknown execution performed nothing")


async def check_what_is_written_can_be_read(store: GraphStore, namespace: str) -> None:
    recording = sample_recording(
        guards=[guard(namespace, "acl:a", {"x": 1}, "$.x"), guard(namespace, "acl:b", {})],
        state=ExecutionState.FAILED,
    )
    await store.write(namespace, recording)
    found = await store.execution(namespace, recording.execution.id)
    assert found is not None
    equal(found.execution, recording.execution, "the execution has every field")
    equal(found.steps, recording.steps, "so have its steps")
    equal(
        dict(found.preconditions), {it.id: it for it in recording.preconditions}, "and their guards"
    )
    equal(await store.task(namespace, recording.task.key), recording.task, "and the task")
    digests = [value.digest for value in recording.values]
    exact = {value.digest: value.data for value in recording.values}
    equal(await store.values(namespace, digests), exact, "and all payloads")


async def check_absent_and_zero_stay_apart(store: GraphStore, namespace: str) -> None:
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
    await store.write(namespace, recording)
    found = await store.execution(namespace, execution.id)
    assert found is not None
    equal(found.steps, (free, by_program), "None, zero, false and empty come back as they were")
    equal(found.execution, execution, "in an execution too")
    equal(await store.task(namespace, task.key), task, "and in a task")


async def check_published_is_never_written(store: GraphStore, namespace: str) -> None:
    for number, state in enumerate(ExecutionState):
        recording = sample_recording(number=number, state=state)
        await store.write(namespace, recording)
        found = await store.execution(namespace, recording.execution.id)
        assert found is not None
        if state is ExecutionState.PUBLISHED:
            true(found.execution.state is not state, "only `publish` publishes")
        else:
            equal(found.execution.state, state, "any other state is stored as given")


async def check_write_returns_current(store: GraphStore, namespace: str) -> None:
    for version in (1, 2, 3):
        await store.change(namespace, "acl:a", Document.of(version))
    await store.change(namespace, "acl:other", Document.of(1))
    guards = [
        guard(namespace, "acl:a", 3),
        guard(namespace, "acl:a", 3, "$.x"),
        Precondition.of(namespace, FacetRef("acl:absent", None), NEVER),
    ]
    current = await store.write(namespace, sample_recording(guards=guards))
    expected = {"acl:a": 3, "acl:absent": 0}
    equal(current, expected, "`current` of every resource that guards a step, 0 if never observed")
    await store.change(namespace, "acl:a", Document.of(4))
    current = await store.write(namespace, sample_recording(guards=guards))
    equal(current, expected | {"acl:a": 4}, "as it is now, also when the write is repeated")


async def check_writing_again_changes_nothing(store: GraphStore, namespace: str) -> None:
    first = sample_recording(turns=2, guards=[guard(namespace, "acl:a", 1)])
    await store.write(namespace, first)
    before = await store.execution(namespace, first.execution.id)
    await store.write(namespace, first)
    await store.write(namespace, sample_recording(turns=5, says="something else"))
    equal(
        await store.execution(namespace, first.execution.id),
        before,
        "an execution is written once: a repetition changes nothing",
    )


async def check_write_completes_what_an_effect_began(store: GraphStore, namespace: str) -> None:
    recording = sample_recording()
    run = recording.execution.id
    await store.intend(namespace, sample_effect(run, 1), [])
    await store.intend(namespace, sample_effect(run, 2), [])
    done = sample_effect(run, 1, done=True, step=f"{run}/1")
    await store.write(namespace, recording.model_copy(update={"effects": (done,)}))
    found = await store.execution(namespace, run)
    assert found is not None
    equal(found.execution, recording.execution, "the execution is as written")
    equal(found.steps, recording.steps, "with its steps")
    expected = [done, sample_effect(run, 2)]
    equal(await store.effects(namespace, run), expected, "its effects stay, and one is done")
    await store.write(namespace, recording.model_copy(update={"effects": (sample_effect(run, 1),)}))
    states = [effect.state for effect in await store.effects(namespace, run)]
    equal(states, [EffectState.DONE, EffectState.INTENDED], "what is done stays done")


async def check_a_conversation_is_shared_by_reference(store: GraphStore, namespace: str) -> None:
    recording = sample_recording(turns=12)
    await store.write(namespace, recording)
    found = await store.execution(namespace, recording.execution.id)
    assert found is not None
    decisions = [step for step in found.steps if step.kind is StepKind.DECISION]
    equal(
        [(step.extends, step.shared, len(step.messages)) for step in decisions[:3]],
        [(None, 0, 1), (0, 1, 1), (2, 2, 1)],
        "a decision names the one it extends, and only its own messages",
    )


async def check_two_runs_share_preconditions(store: GraphStore, namespace: str) -> None:
    held = guard(namespace, "acl:a", {"a": 1}, "$.a")
    for number in (1, 2):
        await store.write(namespace, sample_recording(number=number, guards=[held]))
    for number in (1, 2):
        found = await store.execution(namespace, f"deploy-{number}")
        assert found is not None
        equal(list(found.preconditions), [held.id], "a precondition is shared by all its steps")
        true(all(step.guards == (held.id,) for step in found.steps), "and guards each of them")


CHECKS = (
    check_unknown_keys_are_absent,
    check_what_is_written_can_be_read,
    check_absent_and_zero_stay_apart,
    check_published_is_never_written,
    check_write_returns_current,
    check_writing_again_changes_nothing,
    check_write_completes_what_an_effect_began,
    check_a_conversation_is_shared_by_reference,
    check_two_runs_share_preconditions,
)
