"""Publishing: which runs become traces, how many a task keeps, and how they cease to be."""

from __future__ import annotations

from execgraph.graphstore.model import Execution, ExecutionState
from execgraph.graphstore.retention import TRACES_PER_TASK
from execgraph.graphstore.roles.recording import Published
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import newest, none, published, sample_recording


async def _execution(store: GraphStore, execution: str) -> Execution:
    found = await store.execution(execution)
    assert found is not None, f"{execution} is in the store"
    return found.execution


async def _traces(store: GraphStore, task: str = "deploy") -> list[str]:
    return [trace.id for trace in (await store.lookup(task, none)).traces]


async def test_publish_makes_a_trace(store: GraphStore) -> None:
    recording = sample_recording()
    answer = await published(store, recording)
    assert answer == Published(True), "a run like no other is published"
    before = await _execution(store, "deploy-1")
    assert before.state == ExecutionState.PUBLISHED, "its state says so"
    answer = await published(store, recording)
    assert (answer.published, answer.equal_to) == (True, None), "a repetition gives the same answer"
    assert await _execution(store, "deploy-1") == before, "and changes nothing"


async def test_equal_run_is_not_published(store: GraphStore) -> None:
    await published(store, sample_recording(number=1))
    for _ in range(2):
        answer = await published(store, sample_recording(number=2))
        assert (answer.published, answer.equal_to) == (False, "deploy-1"), "one of them is enough"
    found = await _execution(store, "deploy-2")
    assert found.state == ExecutionState.UNPUBLISHED, "the later one becomes unpublished"
    assert found.reason, "and says why"
    assert await _traces(store) == ["deploy-1"], "the first is the trace"


async def test_equality_is_within_a_task(store: GraphStore) -> None:
    for task in ("one", "two"):
        answer = await published(store, sample_recording(task))
        assert answer.published, "another task's equal trace is no obstacle"


async def test_an_unpublished_equal_is_no_obstacle(store: GraphStore) -> None:
    await published(store, sample_recording(number=1))
    await store.unpublish("deploy-1", "rejected")
    answer = await published(store, sample_recording(number=2))
    assert answer == Published(True), "only published traces count as equal"
    assert await _traces(store) == ["deploy-2"], "so the later one is the trace"


async def test_a_task_keeps_its_newest_traces(store: GraphStore) -> None:
    for number in range(1, TRACES_PER_TASK + 1):
        answer = await published(store, sample_recording(number=number, says=f"{number}"))
        assert answer.unpublished == (), "up to the limit all are kept"
    await published(store, sample_recording("other"))
    answer = await published(store, sample_recording(number=90, says="more"))
    assert answer == Published(True, None, ("deploy-1",)), "beyond it the oldest is unpublished"
    assert await _traces(store) == [
        "deploy-90",
        *(f"deploy-{n}" for n in range(TRACES_PER_TASK, 1, -1)),
    ], "and the newest stay"
    found = await _execution(store, "deploy-1")
    assert found.state == ExecutionState.UNPUBLISHED, "the oldest is still there for people"
    assert found.reason, "and says why it is no trace"
    assert not await store.still("deploy-1", {}), "nobody replays it"
    assert await _traces(store, "other") == ["other-1"], "other tasks keep theirs"


async def test_what_cannot_be_published(store: GraphStore) -> None:
    answer = await store.publish("none", steps=1, manifest="m", signature="s")
    assert not answer.published, "an unknown execution is not published"
    failed = sample_recording(state=ExecutionState.FAILED)
    assert not (await published(store, failed)).published, "nor is a failed one"
    found = await _execution(store, "deploy-1")
    assert found.state == ExecutionState.FAILED, "which stays failed"


async def test_unpublish(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    await store.unpublish("deploy-1", "wrong answer")
    assert (await store.lookup("deploy", newest)).traces == (), "no lookup finds it"
    assert not await store.still("deploy-1", {}), "no cached one is accepted"
    found = await _execution(store, "deploy-1")
    expected = (ExecutionState.UNPUBLISHED, "wrong answer")
    assert (found.state, found.reason) == expected, "the reason is kept"
    await store.unpublish("deploy-1", "wrong answer")
    await store.unpublish("none", "unknown ids are ignored")
    assert await store.execution("none") is None, "and not created"


async def test_a_late_publish_revives_nothing(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    await store.unpublish("deploy-1", "rejected")
    answer = await published(store, recording)
    assert not answer.published, "a repeated `publish` changes nothing"
    assert await _traces(store) == [], "what was unpublished stays so"
