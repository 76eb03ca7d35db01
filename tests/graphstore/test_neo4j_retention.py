"""What collects and what records meet on a read-committed server: the windows, one by one.

A transaction of one is held open while the other runs. What the other must wait for it then waits
for; where nothing made it wait, it does its damage in that time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from execgraph.graphstore.collecting import Deletions
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import PayloadCorrupted
from execgraph.graphstore.model import ExecutionState, Recording, Value, manifest, signature
from execgraph.graphstore.neo4j import changing, retention
from execgraph.graphstore.neo4j.client import Client
from execgraph.graphstore.neo4j.mapping import GATES
from execgraph.graphstore.neo4j.planned_change import PlannedChange, until_parameters
from execgraph.graphstore.neo4j.queries import given, query
from execgraph.graphstore.neo4j.recording import replay_parameters, write_parameters
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.retention import Collected, Retention
from execgraph.graphstore.roles.recording import Published
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    published,
    sample_recording,
    sample_replay,
)

from .conftest import Cypher

if TYPE_CHECKING:
    from neo4j import AsyncDriver

pytestmark = pytest.mark.neo4j

_URI = "acl:prod"
_EVER = timedelta(days=36_500)
_ALL = Retention(traces=9, history=99, versions=99, history_age=_EVER, grace=timedelta(0))
_NO_HISTORY = replace(_ALL, history=0)
_LEAST = replace(_ALL, history=0, versions=0)
_WINDOW = 0.7  # seconds in which who is not stopped has done it, as a rule


@asynccontextmanager
async def _held_open(driver: AsyncDriver, name: str, **parameters: Any) -> AsyncIterator[None]:
    """A transaction in which this statement was run, committed when the block is left."""
    async with driver.session() as session, await session.begin_transaction() as transaction:
        schema = await transaction.run("MATCH (s:ExecgraphSchema) RETURN s.store AS store")
        store = (await schema.single(strict=True))["store"]
        await (
            await transaction.run(query(name), given(name, {**parameters, "store": store}))
        ).consume()
        yield
        await transaction.commit()


async def _meanwhile(work: Any) -> asyncio.Task[Any]:
    """Let this go on for a while."""
    task = asyncio.create_task(work)
    await asyncio.wait({task}, timeout=_WINDOW)
    return task


async def _collect(
    store: Neo4jStore, limits: Retention = _NO_HISTORY, batch: int = 500
) -> Collected:
    total = Collected()
    while (found := await store.collect(limits, batch=batch)).more:
        total += found
    return total


def _ended(task: str, **how: Any) -> Recording:
    return sample_recording(task, **{"state": ExecutionState.UNPUBLISHED, **how})


def _carrying(recording: Recording, *digests: str) -> Recording:
    """The recording of a run that carries these payloads only, and else names stored ones."""
    values = tuple(value for value in recording.values if value.digest in digests)
    return recording.model_copy(update={"values": values})


def _own(recording: Recording) -> list[str]:
    """The payloads of its own that such a run would carry."""
    it, task = recording.execution, recording.task
    return [digest for digest in (task.inputs, task.context, it.output, it.report) if digest]


async def _publish(store: Neo4jStore, it: Recording) -> Published:
    return await store.publish(
        it.execution.id,
        steps=len(it.steps),
        manifest=manifest(it.steps),
        signature=signature(it.steps),
    )


async def _is_whole(store: Neo4jStore, task: str) -> bool:
    """Whether the task's trace can be replayed."""
    found = await store.lookup(task, newest)
    return not found.damaged and found.chosen is not None


async def _unpublished(store: Neo4jStore, recording: Recording) -> None:
    await published(store, recording)
    await store.unpublish(recording.execution.id, "rejected")


# Payloads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("carries", [True, False])
async def test_a_look_begins_when_those_who_saw_no_suspicion_have_ended(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, space: str, *, carries: bool
) -> None:
    await _unpublished(neo4j_store, _ended("old"))
    written = sample_recording("new")
    if not carries:
        written = _carrying(written, *_own(written))
    async with _held_open(neo4j_driver, "write", **write_parameters(space, written)):
        collecting = await _meanwhile(_collect(neo4j_store))
    await collecting
    assert (await _publish(neo4j_store, written)).published
    assert await _is_whole(neo4j_store, "new")
    assert (await _collect(neo4j_store)).values == 0


async def test_a_look_waits_for_replays_too(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, space: str
) -> None:
    report = Value.of(b'{"of": "two runs"}')

    def told(recording: Recording, number: int) -> Any:
        replay = sample_replay(recording, number)
        execution = replay.execution.model_copy(update={"report": report.digest})
        return replay.model_copy(update={"execution": execution, "values": (report,)})

    old, kept = _ended("old"), _ended("kept", says="other")
    await published(neo4j_store, kept)
    await _unpublished(neo4j_store, old)
    await neo4j_store.write_replays([told(old, 1)])
    late = replay_parameters(space, [told(kept, 1)])
    async with _held_open(neo4j_driver, "write_replays", **late):
        collecting = await _meanwhile(_collect(neo4j_store))
    await collecting
    assert await neo4j_store.values([report.digest])


async def test_a_look_waits_for_a_change_too(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, space: str
) -> None:
    document = Document.of({"a": 1})
    for content in ({"a": 1}, {"a": 2}, {"a": 3}):
        await neo4j_store.change(_URI, Document.of(content))
    for walk in await neo4j_store.walks():
        await neo4j_store.walk(walk.id)
    before = await changing.read_before(neo4j_store._client, "acl:other")
    planned = PlannedChange(space, "acl:other", before, document, "push")
    async with _held_open(neo4j_driver, "change", **planned.parameters(), **until_parameters(None)):
        collecting = await _meanwhile(_collect(neo4j_store, _LEAST))
    assert (await collecting).versions == 2
    found = await neo4j_store.document("acl:other")
    assert found is not None
    assert found[1].payload == document.payload


@pytest.mark.parametrize("carries", [True, False])
async def test_who_names_a_payload_that_is_being_deleted_waits_and_looks_again(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, cypher: Cypher, space: str, *, carries: bool
) -> None:
    """A property set on a node that was deleted meanwhile is set on nothing, without an error."""
    await _unpublished(neo4j_store, _ended("old"))
    written = sample_recording("new")
    if not carries:
        written = _carrying(written, *_own(written))
    await _about_to_delete(neo4j_store, cypher)
    rows = await cypher(
        "MATCH (c:Collection {of: $space}) MATCH (x:Value {namespace: $space})"
        " WHERE x.suspect <= c.scanned RETURN c.scanned, collect(x.digest)"
    )
    scanned, digests = rows[0]
    assert digests
    async with _held_open(
        neo4j_driver,
        "delete_values",
        namespace=space,
        phase="delete",
        scanned=scanned,
        digests=digests,
    ):
        writing = await _meanwhile(neo4j_store.write(written))
    await writing
    assert (await _publish(neo4j_store, written)).published == carries
    assert await _is_whole(neo4j_store, "new") == carries
    assert (await _collect(neo4j_store, _ALL)).executions == 0


async def test_who_clears_a_payload_first_keeps_it(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, cypher: Cypher, space: str
) -> None:
    await _unpublished(neo4j_store, _ended("old"))
    written = sample_recording("new")
    written = _carrying(written, *_own(written))
    await _about_to_delete(neo4j_store, cypher)
    async with _held_open(neo4j_driver, "write", **write_parameters(space, written)):
        collecting = await _meanwhile(_collect(neo4j_store))
    await collecting
    assert (await _publish(neo4j_store, written)).published
    assert await _is_whole(neo4j_store, "new")


async def _about_to_delete(store: Neo4jStore, cypher: Cypher) -> None:
    """Go on with a collection up to the deletion of payloads, and no farther."""
    contents = retention.Contents(store._client)
    await contents.delete(Deletions(executions=["old-1"]))
    await contents.rows("begin_look", gates=GATES, phase=retention._PHASES[0])
    look = "MATCH (c:Collection {of: $space}) RETURN c.phase, c.cursor, c.scanned"
    while (now := (await cypher(look))[0])[0] != "delete":
        await contents._look(*now)


async def test_a_look_is_gone_on_with_by_whoever_comes(
    neo4j_store: Neo4jStore, neo4j_uri: str, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_LOOKED_AT", 3)
    old, kept = _ended("old"), _ended("kept", turns=5)
    await published(neo4j_store, kept)
    await _unpublished(neo4j_store, old)
    other = Neo4jStore(neo4j_uri, namespace=space)
    await other.open()
    found, calls = Collected(), 0
    while (batch := await (neo4j_store, other)[calls % 2].collect(_NO_HISTORY)).more:
        found, calls = found + batch, calls + 1
    await other.close()
    assert calls >= 5  # so many pages
    assert found.executions == 1
    own = {it.digest for it in old.values} - {it.digest for it in kept.values}
    assert found.values == len(own) > 0
    with pytest.raises(PayloadCorrupted):
        await neo4j_store.values(own)
    assert await _is_whole(neo4j_store, "kept")


async def test_a_look_is_put_off_until_it_is_worth_it(
    neo4j_store: Neo4jStore, cypher: Cypher
) -> None:
    kept, old = _ended("kept"), _ended("old", says="other")
    await published(neo4j_store, kept)
    await _unpublished(neo4j_store, old)
    read = "MERGE (c:Collection {of: $space}) SET c.looked = $steps"
    await cypher(read, steps=1_000_000)
    found = await _collect(neo4j_store)
    assert (found.executions, found.values) == (1, 0)
    await cypher(read, steps=5_000)
    assert (await _collect(neo4j_store)).values > 5
    await _unpublished(neo4j_store, old)  # what a look has read is known to the next
    assert await cypher("MATCH (c:Collection {of: $space}) RETURN c.looked") == [[4]]


# What others join to ----------------------------------------------------------------------


async def _with_idle_guard(store: Neo4jStore) -> Recording:
    """A recording that is deleted, and whose guard is left with nothing that rests on it."""
    await store.change(_URI, Document.of({"a": 1}))
    await store.facts({_URI: frozenset({"$.a"})})
    for walk in await store.walks():
        await store.walk(walk.id)
    held = guard(store.namespace, _URI, {"a": 1}, "$.a")
    old = _ended("old", guards=[held])
    await _unpublished(store, old)
    await retention.Contents(store._client).delete(Deletions(executions=["old-1"]))
    return sample_recording("new", guards=[held])


_STRAY = (
    "MATCH (p:Precondition {namespace: $space})"
    " RETURN COUNT { (p)<-[:HAS_VALUE]-()<-[:HAS_FACET]-() }, COUNT { (p)-[:GUARDS]->() }"
)


async def test_a_guard_that_is_written_meanwhile_is_not_deleted(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, cypher: Cypher, space: str
) -> None:
    written = await _with_idle_guard(neo4j_store)
    async with _held_open(neo4j_driver, "write", **write_parameters(space, written)):
        collecting = await _meanwhile(_collect(neo4j_store))
    await collecting
    assert (await _publish(neo4j_store, written)).published
    assert await _is_whole(neo4j_store, "new")
    assert await cypher(_STRAY) == [[1, 4]]


async def test_a_guard_that_is_deleted_meanwhile_is_written_again(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, cypher: Cypher, space: str
) -> None:
    written = await _with_idle_guard(neo4j_store)
    idle = [it.id for it in written.preconditions]
    async with _held_open(
        neo4j_driver,
        "delete_preconditions",
        namespace=space,
        resources=[_URI],
        preconditions=idle,
    ):
        writing = await _meanwhile(neo4j_store.write(written))
    await writing
    assert (await _publish(neo4j_store, written)).published
    assert await _is_whole(neo4j_store, "new")
    assert await cypher(_STRAY) == [[1, 4]]


async def test_a_task_that_is_deleted_meanwhile_is_written_again(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, space: str
) -> None:
    await _unpublished(neo4j_store, _ended("deploy"))
    written = sample_recording("deploy", number=2, says="more")
    async with _held_open(
        neo4j_driver,
        "delete_executions",
        namespace=space,
        executions=["deploy-1"],
    ):
        writing = await _meanwhile(neo4j_store.write(written))
    await writing
    assert (await _publish(neo4j_store, written)).published
    assert await neo4j_store.task("deploy") == written.task


async def test_a_change_sees_that_other_facets_are_there_though_as_many(
    neo4j_store: Neo4jStore, cypher: Cypher, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _with_idle_guard(neo4j_store)
    read = changing.read_before
    times = 0

    async def read_and_be_overtaken(client: Client, resource: str) -> Any:
        nonlocal times
        found = await read(client, resource)
        times += 1
        if times == 1:
            assert (await _collect(neo4j_store)).facets == 1
            await neo4j_store.facts({_URI: frozenset({"$.b"})})
        return found

    monkeypatch.setattr(changing, "read_before", read_and_be_overtaken)
    event = await neo4j_store.change(_URI, Document.of({"a": 2, "b": 2}))
    assert event is not None
    assert [it.selector for it in event.changed] == ["$.b"]
    rows = await cypher(
        "MATCH (:Resource {namespace: $space})-[:HAS_FACET]->(f)"
        " RETURN f.selector, EXISTS { (f)-[:HAS_VALUE]->()<-[:HOLDS]-(:Version {n: 2}) }"
    )
    assert rows == [["$.b", True]]


# Cost -------------------------------------------------------------------------------------


async def test_a_batch_costs_the_same_however_often_a_task_was_replayed(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, cypher: Cypher, space: str
) -> None:
    recording = _ended("deploy")
    await published(neo4j_store, recording)

    pages: dict[str, dict[str, Any]] = {
        "traces": {"after": "", "most": 25},
        "histories": {"tasks": ["deploy"], "going": [], "reasons": [], "kept": 10},
        "runs": {"task": "deploy", "going": [], "started_at": 0, "id": "", "until": 2**53},
    }
    pages["runs"]["most"] = 20

    async def hits() -> int:
        await cypher("CALL db.prepareForReplanning()")  # with what there is by now
        found = 0
        for name, parameters in pages.items():
            async with neo4j_driver.session() as session:
                statement = f"PROFILE {query(name)}"
                result = await session.run(
                    statement, given(name, {"namespace": space, **parameters})
                )
                summary = await result.consume()
            assert summary.profile is not None
            found += _hits(summary.profile)
        return found

    await neo4j_store.write_replays([sample_replay(recording, n) for n in range(50)])
    before = await hits()
    await neo4j_store.write_replays([sample_replay(recording, n) for n in range(50, 500)])
    assert await hits() <= 1.2 * before


def _hits(plan: dict[str, Any]) -> int:
    return int(plan.get("dbHits", 0)) + sum(map(_hits, plan.get("children", ())))
