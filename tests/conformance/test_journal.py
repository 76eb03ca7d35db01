"""What unfinished runs have decided: kept until they end, and given the newest first."""

from __future__ import annotations

from execgraph.graphstore.facts import Expected
from execgraph.graphstore.model import ExecutionState, JournalEntry
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import published, sample_effect, sample_recording


async def entries(store: GraphStore, task: str, limit: int = 1000) -> list[JournalEntry]:
    return list((await store.unfinished(task, limit=limit)).entries)


def entry(execution: str, number: int, task: str = "deploy") -> JournalEntry:
    at = 1_700_000_000_000 + number
    return JournalEntry(task, execution, number, at, f"{execution} {number}".encode())


async def test_entries_are_given_by_task_the_newest_first(store: GraphStore) -> None:
    first, second, other = entry("run-1", 0), entry("run-1", 1), entry("run-2", 2, "other")
    for _ in range(2):
        await store.journal([first, second])
        await store.journal([other])
    assert await entries(store, "deploy") == [second, first]
    assert await entries(store, "deploy", limit=1) == [second]
    assert await entries(store, "other") == [other]
    assert await entries(store, "unknown") == []
    await store.journal([entry("run-1", 0)._replace(entry=b"another")])
    assert await entries(store, "deploy") == [second, first], "what is kept stays"
    await store.journal([])


async def test_entries_are_dropped(store: GraphStore) -> None:
    await store.journal([entry("run-1", 0), entry("run-1", 1), entry("run-2", 2)])
    for _ in range(2):
        await store.forget_journal(["run-1", "unknown"])
        assert await entries(store, "deploy") == [entry("run-2", 2)]
    await store.forget_journal([])


async def test_old_entries_go(store: GraphStore) -> None:
    await store.journal([entry("run-1", number) for number in range(4)])
    await store.age_journal(entry("run-1", 2).at)
    assert await entries(store, "deploy") == [entry("run-1", 3), entry("run-1", 2)]


async def test_what_has_ended_well_is_not_given(store: GraphStore) -> None:
    recording = sample_recording()
    kept = entry(recording.execution.id, 0)
    await store.journal([kept])
    failed = recording.execution.model_copy(
        update={"id": "deploy-2", "state": ExecutionState.FAILED}
    )
    await store.write(recording.model_copy(update={"execution": failed, "effects": ()}))
    await store.journal([entry("deploy-2", 1)])
    assert await entries(store, "deploy") == [entry("deploy-2", 1), kept]
    await published(store, recording)
    assert await entries(store, "deploy") == [entry("deploy-2", 1)]


async def test_a_namespace_has_its_own(store: GraphStore) -> None:
    await store.journal([entry("run-1", 0)])
    assert await entries(store.of(f"{store.namespace}-other"), "deploy") == []


async def test_entries_are_kept_with_the_effect_that_begins(store: GraphStore) -> None:
    effect, refused = sample_effect("run-1"), [Expected("acl:a", 7, believed=True)]
    first, second = entry("run-1", 0), entry("run-1", 1)
    assert await store.intend(effect, refused, entries=[first]) is None
    assert await entries(store, "deploy") == [], "nothing begins, so nothing is kept"
    assert await store.intend(effect, [], entries=[first, second]) == effect
    assert await entries(store, "deploy") == [second, first]


async def test_entries_are_kept_with_an_effect_that_begins_again(store: GraphStore) -> None:
    effect = sample_effect("run-1").model_copy(update={"once": "it"})
    await store.intend(effect, [])
    same = sample_effect("run-2").model_copy(update={"once": "it"})
    await store.intend(same, [], entries=[entry("run-2", 0)])
    assert await entries(store, "deploy") == [], "another one has begun it"
    await store.intend(effect, [], entries=[entry("run-3", 0)])
    assert await entries(store, "deploy") == [entry("run-3", 0)]
