"""What a statement costs does not grow with the store: all begin at an index, none scans."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.neo4j.queries import given, queries, query, schema_statements
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.roles.history import BY, By
from execgraph.tests.conformance.samples import guard, published, sample_recording, sample_replay

if TYPE_CHECKING:
    from neo4j import AsyncDriver

pytestmark = pytest.mark.neo4j

_OF_THE_SERVER = {"await_indexes", "indexes", "made", "now", "server"}
_STATEMENTS = sorted(queries().keys() - {*schema_statements(), *_OF_THE_SERVER})


def _operators(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["operatorType"].partition("@")[0]
    for child in plan.get("children", ()):
        yield from _operators(child)


def _read_by(plan: dict[str, Any]) -> Iterator[str]:
    """By which properties each index is sought."""
    if "Seek" in plan["operatorType"]:
        yield str(plan["args"].get("Details"))
    for child in plan.get("children", ()):
        yield from _read_by(child)


def _hits(plan: dict[str, Any]) -> int:
    return int(plan.get("dbHits", 0)) + sum(map(_hits, plan.get("children", ())))


@pytest.mark.parametrize("name", _STATEMENTS)
async def test_a_statement_begins_at_an_index(
    neo4j_store: object, neo4j_driver: AsyncDriver, name: str
) -> None:
    async with neo4j_driver.session() as session:
        summary = await (await session.run(f"EXPLAIN {query(name)}")).consume()
    assert summary.plan is not None
    operators = set(_operators(summary.plan))
    assert not {it for it in operators if "Scan" in it or "HashJoin" in it}
    assert {it for it in operators if "Seek" in it}
    # Else all payloads in doubt of a namespace are read for each that is named.
    assert not [it for it in _read_by(summary.plan) if "suspect IS NOT NULL" in it]


@pytest.mark.parametrize("name", _STATEMENTS)
def test_a_statement_is_planned_once(name: str) -> None:
    """Of a map the planner sees no sizes, lengths and nulls, for each of which it would plan."""
    assert set(re.findall(r"\$(\w+)", query(name))) <= {"given"}


async def test_a_lookup_costs_the_same_whatever_else_is_stored(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, space: str
) -> None:
    async def hits(name: str, **parameters: Any) -> int:
        async with neo4j_driver.session() as session:
            parameters["namespace"] = space
            summary = await (
                await session.run(f"PROFILE {query(name)}", given(name, parameters))
            ).consume()
        assert summary.profile is not None
        return _hits(summary.profile)

    async def costs() -> list[int]:
        return [
            await hits("lookup", task="deploy"),
            await hits("lookup", task="unknown"),
            await hits(
                "still", execution="deploy-1", accepted=[["acl:prod", 1]], exact=None, alive=[]
            ),
        ]

    held = guard(space, "acl:prod", {"a": 1}, "$.a")
    recording = sample_recording(guards=[held])
    await neo4j_store.change("acl:prod", Document.of({"a": 1}))
    await published(neo4j_store, recording)
    before = await costs()
    await neo4j_store.write_replays([sample_replay(recording, n) for n in range(200)])
    for number in range(20):
        await neo4j_store.change(f"acl:{number}", Document.of({"a": 1}))
        other = sample_recording(f"task-{number}", guards=[held], says=f"{number}")
        await published(neo4j_store, other)
    # The server keeps the relationships of a node that has many in groups: a few hits more, once.
    assert all(after <= 1.1 * hits for after, hits in zip(await costs(), before, strict=True))


async def test_the_newest_tasks_of_an_agent_cost_the_same_whatever_else_is_stored(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, space: str
) -> None:
    async def costs() -> list[int]:
        parameters = {"namespace": space, "agent": "deployer", "limit": 5}
        async with neo4j_driver.session() as session:
            ran = await session.run(
                f"PROFILE {query('tasks_of_agent')}", given("tasks_of_agent", parameters)
            )
            summary = await ran.consume()
        assert summary.profile is not None
        return [_hits(summary.profile)]

    recording = sample_recording()
    await published(neo4j_store, recording)
    await neo4j_store.write_replays([sample_replay(recording, n) for n in range(5)])
    before = await costs()
    others = [sample_replay(recording, n) for n in range(1000, 1200)]
    of_another = [
        it.model_copy(update={"execution": it.execution.model_copy(update={"agent": "reviewer"})})
        for it in others
    ]
    await neo4j_store.write_replays(of_another)  # newer ones, of somebody else
    await neo4j_store.write_replays([sample_replay(recording, -n) for n in range(1, 200)])
    assert all(after <= 1.1 * hits for after, hits in zip(await costs(), before, strict=True))


@pytest.mark.parametrize("by", [None, *BY])
async def test_a_list_of_runs_costs_what_it_gives_whatever_else_is_stored(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, space: str, by: By | None
) -> None:
    wanted = {"agent": "deployer", "task": "deploy", "state": "unpublished", "mode": "replay"}
    others = {"agent": "reviewer", "task": "review", "state": "failed", "mode": "live"}

    async def cost(place: int) -> int:
        name = "executions" if by is None else f"executions_of_{by}"
        of = {"value": wanted[by] if by else "", "since": 0, "started_at": place, "id": "r9"}
        parameters = {"namespace": space, "ended": True, "limit": 5, **of}
        async with neo4j_driver.session() as session:
            summary = await (
                await session.run(f"PROFILE {query(name)}", given(name, parameters))
            ).consume()
        assert summary.profile is not None
        return _hits(summary.profile)

    async def add(first: int, many: int, properties: dict[str, str]) -> None:
        numbers = list(range(first, first + many))
        rows = [{**properties, "id": f"r{it}", "started_at": it} for it in numbers]
        async with neo4j_driver.session() as session:
            create = "UNWIND $rows AS row CREATE (e:Execution {namespace: $space}) SET e += row"
            await (await session.run(create, rows=rows, space=space)).consume()

    await add(5000, 20, wanted)
    before = [await cost(5019), await cost(5010)]
    await add(0, 5000, wanted)
    if by is not None:
        await add(5020, 5000, others)
    assert [await cost(5019 if by is None else 20_000), await cost(5010)] <= [
        hits + 10 for hits in before
    ]


async def test_a_walk_goes_to_each_step_once(
    neo4j_store: object, neo4j_driver: AsyncDriver
) -> None:
    """Without distinct ends a graph whose branches meet has exponentially many paths."""
    async with neo4j_driver.session() as session:
        summary = await (await session.run(f"EXPLAIN {query('walk')}")).consume()
    assert summary.plan is not None
    expansions = [it for it in _operators(summary.plan) if it.startswith("VarLength")]
    assert expansions
    assert all(it.startswith("VarLengthExpand(Pruning") for it in expansions)


async def test_a_walk_costs_the_same_whatever_else_is_stored(
    neo4j_store: Neo4jStore, neo4j_driver: AsyncDriver, space: str
) -> None:
    async def hits(name: str, **parameters: Any) -> int:
        async with neo4j_driver.session() as session:
            store = neo4j_store._client.identity.store
            parameters |= {"namespace": space, "walk": walk, "store": store}
            summary = await (
                await session.run(f"PROFILE {query(name)}", given(name, parameters))
            ).consume()
        assert summary.profile is not None
        return _hits(summary.profile)

    async def costs() -> list[int]:
        executions = [["deploy-1", [0, 1, 2, 3]]]
        return [
            await hits("walk_of_event", limit=100),
            await hits("walk", executions=executions, cursor="", ended=False),
        ]

    held, other = (guard(space, it, {"a": 1}, "$.a") for it in ("acl:prod", "acl:other"))
    await neo4j_store.change("acl:prod", Document.of({"a": 1}))
    await neo4j_store.change("acl:other", Document.of({"a": 1}))
    await published(neo4j_store, sample_recording(guards=[held]))
    event = await neo4j_store.change("acl:prod", Document.of({"a": 2}))
    assert event is not None
    walk = event.id
    await hits("walk", executions=[["deploy-1", [0, 1, 2, 3]]], cursor="", ended=False)  # marks it
    before = await costs()
    for number in range(30):
        recording = sample_recording(f"task-{number}", guards=[other], says=f"{number}")
        await published(neo4j_store, recording)
    assert all(after <= 1.1 * hits for after, hits in zip(await costs(), before, strict=True))


@pytest.mark.parametrize("name", ["walk", "publish"])
async def test_what_judges_guards_waits_for_a_version_that_is_being_committed(
    neo4j_store: object, neo4j_driver: AsyncDriver, name: str
) -> None:
    """A plain read may see the new `current` before its version, and would judge wrongly. A seek
    that locks waits for the commit; an update statement's seek of a unique key does."""
    async with neo4j_driver.session() as session:
        summary = await (await session.run(f"EXPLAIN {query(name)}")).consume()
    assert summary.plan is not None
    seeks = [
        it
        for it in _plans(summary.plan)
        if "Seek" in it["operatorType"] and ":Version(" in it["args"].get("Details", "")
    ]
    assert seeks
    assert all("Locking" in it["operatorType"] for it in seeks)


def _plans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("children", ()):
        yield from _plans(child)
