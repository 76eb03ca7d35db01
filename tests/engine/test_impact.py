"""What a change would cost, before it is made: equal to what then happens."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from execgraph import Agent, Engine
from execgraph.graphstore.canonical import Json
from execgraph.graphstore.document import GONE
from execgraph.graphstore.errors import ConfigurationError, NotJson
from execgraph.invalidation.impact import Impact

from .conftest import World
from .test_replay import TASK, example, observe_both

OTHER = {"service": "billing", "target": "us"}

#: Each is made in turn: a change and what it does to the facets that are rested on.
CHANGES: list[dict[str, Json]] = [
    {"acl:two": {"rule": 2, "comment": "none"}},
    {"acl:two": {"rule": 2, "comment": "another"}},  # no facet that anybody rests on
    {"acl:one": {"rule": 2}, "acl:two": {"rule": 3}},
    {"acl:one": {"rule": 1}},  # restored, while acl:two is not
    {"acl:one": None},
    {"acl:one": {"rule": 2}},  # from withdrawn to what it was in between
    {"acl:two": {"rule": 1}, "acl:one": {"rule": 1}},  # the first traces stand again
    {"acl:three": {"rule": 1}},
]


async def settle(engine: Engine) -> None:
    """Walk until the marks are exact."""
    store = engine.session().store
    await engine.settle()
    await store.expire()
    while walks := await store.walks():
        for walk in walks:
            while (it := await store.walk(walk.id)) is not None and it.ended_at is None:
                pass


async def marks(engine: Engine) -> dict[str, str]:
    """The invalid steps of all traces: why, by the step's id."""
    store = engine.session().store
    traces = [it.id for it in await store.executions(limit=100) if it.state == "published"]
    return {
        f"{trace}/{position}": guard
        for trace in traces
        for position, guard in (await store.marks(trace)).items()
    }


async def change(engine: Engine, changes: dict[str, Json]) -> None:
    for uri, document in changes.items():
        if document is None:
            await engine.withdraw(uri)
        else:
            await engine.observe(uri, document)


async def asked_tokens(agent: Agent, *tasks: Any) -> int:
    return sum([(await agent.execute(task)).tokens for task in tasks])


async def test_an_impact_is_what_then_happens(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        assert await asked_tokens(agent, TASK, OTHER) > 0
        costs = []
        for changes in CHANGES:
            await settle(engine)
            before = await marks(engine)
            impact = await engine.impact_of(changes)
            await settle(engine)
            assert await marks(engine) == before, "asking changes nothing"

            await change(engine, changes)
            await settle(engine)
            after = await marks(engine)
            invalid = {step: why for step, why in after.items() if step not in before}
            valid = {step: why for step, why in before.items() if step not in after}
            assert {it.id: it.guard for it in impact.invalid} == invalid, changes
            assert {it.id: it.guard for it in impact.valid} == valid, changes
            fallen = {step.rpartition("/")[0] for step in invalid}
            assert set(impact.fallen) <= fallen
            assert {it.rpartition("/")[0] for it in after} & set(impact.standing) == set()

            assert await asked_tokens(agent, TASK, OTHER) == impact.tokens, changes
            assert impact.tokens <= impact.tokens_at_most
            costs.append(impact.tokens)
        zero = [cost == 0 for cost in costs]
        assert zero == [False, True, False, True, False, True, True, True], costs


async def test_it_names_facets_steps_traces_and_tasks(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first = await agent.execute(TASK)
        impact = await engine.impact("acl:two", {"rule": 2})
        assert impact
        [facet] = impact.facets
        assert (facet.resource, facet.selector) == ("acl:two", "$.rule")
        assert facet.before != facet.after
        run = first.execution_id
        assert [it.id for it in impact.invalid] == [f"{run}/{n}" for n in (4, 5, 6)]
        assert (impact.valid, impact.fallen, impact.standing) == ((), (run,), ())
        [task] = impact.tasks
        assert (task.agent, task.execution, task.asked) == ("deployer", run, (f"{run}/4",))
        assert impact.tokens == first.steps[4].tokens
        assert impact.tokens_at_most == first.steps[4].tokens + first.steps[6].tokens
        assert impact.tokens_now == 0
        assert impact.as_json()["tasks"][0]["asked"] == [f"{run}/4"]


async def test_a_whole_facet_that_nothing_rests_on_is_not_counted(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        impact = await engine.impact("acl:two", {"rule": 1, "comment": "rewritten"})
        assert (impact.facets, impact.invalid, impact.tokens, impact.hints) == ((), (), 0, ())


async def test_an_equal_document_has_no_impact(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        same: Json = {"comment": "none", "rule": 1}
        assert await engine.impact("acl:two", same) == Impact(("acl:two",))


async def test_an_unknown_resource_has_no_impact_and_a_hint(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        for document in ({"rule": 2}, None):
            impact = await engine.impact("acl:tow", document)
            assert not impact
            assert "acl:tow" in impact.hints[0]
        assert await engine.session().store.facets("acl:tow") == frozenset()


async def test_what_has_expired_is_judged_by_its_last_document(world: World) -> None:
    """Else a gate would be open whenever nobody has looked at the files for a while."""
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        other: Json = {"rule": 9, "comment": "none"}
        expected = await engine.impact("acl:two", other)
        assert expected.tokens > 0
        for uri in ("acl:one", "acl:two"):
            found = await engine.session().store.document(uri)
            assert found is not None
            await engine.observe(uri, found[1].content, until=timedelta(milliseconds=1))
        await asyncio.sleep(0.05)
        impact = await engine.impact("acl:two", other)
        assert replace(impact, hints=()) == expected
        assert sorted(hint.split()[0] for hint in impact.hints) == ["acl:one", "acl:two"]
        found = await engine.session().store.document("acl:two")
        assert found is not None
        assert not await engine.impact("acl:two", found[1].content)


async def test_of_several_changes_each_task_is_counted_once(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first = await agent.execute(TASK)
        both: dict[str, Json] = {"acl:one": {"rule": 9}, "acl:two": None}
        impact = await engine.impact_of(both)
        assert len(impact.tasks) == 1
        alone = [await engine.impact(uri, document) for uri, document in both.items()]
        assert impact.tokens == sum(it.tokens for it in alone)
        assert impact.tokens_at_most == alone[0].tokens_at_most, "which includes the other's"
        assert impact.fallen == (first.execution_id,)


async def test_a_second_trace_that_serves_costs_nothing(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.observe("acl:two", {"rule": 2})
        await agent.execute(TASK)
        impact = await engine.impact("acl:two", {"rule": 1})
        assert len(impact.invalid) == len(impact.valid) == 3
        assert impact.tokens == impact.tokens_at_most == 0, "the first trace serves again"
        assert (len(impact.fallen), len(impact.standing)) == (1, 1)


async def test_what_is_no_document_or_no_resource(world: World) -> None:
    async with world.engine() as engine:
        nothing: Any = object()
        with pytest.raises(NotJson):
            await engine.impact("acl:one", nothing)
        with pytest.raises(ConfigurationError):
            await engine.impact("one", {})


async def test_the_sync_face(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)

    def ask() -> tuple[Impact, int, int]:
        with world.engine().sync() as e:
            return e.impact("acl:two", None), e.stats().live, len(e.why().steps)

    impact, live, steps = await asyncio.to_thread(ask)
    assert (len(impact.fallen), live, steps) == (1, 1, 7)


async def test_null_is_a_document_and_what_is_gone_is_none(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await engine.observe("acl:two", None)
        await agent.execute(TASK)
        assert (await agent.execute(TASK)).replayed
        assert not (await engine.impact("acl:two", None)).fallen
        assert len((await engine.impact("acl:two", GONE)).fallen) == 1
        await engine.withdraw("acl:two")
        assert not (await agent.execute(TASK)).replayed
