"""A recording torn by a change is not replayable from the tear on (I6)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from execgraph import Acl, Agent, Engine
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, misses, turn


def three_reads(body: dict[str, Any]) -> Answer:
    names = ["a", "b", "c"]
    if turn(body) < len(names):
        return Answer([call("read", {"name": names[turn(body)]})])
    return Answer([text("done")])


def observe(name: str, document: Any, engine: Any) -> None:
    engine.observe(name, document)


def reader(
    world: World, during: dict[str, list[Any]], selector: str | None
) -> tuple[Engine, Agent]:
    """Reads a, b and c; ``during`` says which documents of acl:<name> arrive in the middle."""
    world.think(three_reads)
    engine = world.engine()

    @engine.tool(effect="read", requires=[Acl("{name}", selector)])
    def read(name: str) -> str:
        """Read."""
        for document in during.pop(name, []):
            world.from_outside(partial(observe, f"acl:{name}", document))
        return f"read {name}"

    return engine, world.agent(engine, [read])


@pytest.mark.parametrize(
    ("documents", "selector", "asks_again"),
    [
        ([{"v": 2}], None, 2),
        ([{"v": 2}, {"v": 1}], None, 2),  # A-B-A
        ([{"v": 1, "other": 1}], "$.v", 0),  # another facet
        ([{"v": 1, "other": 1}, {"v": 1}], "$.v", 0),
        ([{"v": 2, "other": 1}, {"v": 1}], "$.v", 2),
    ],
)
async def test_a_change_during_a_step_tears_it(
    world: World, documents: list[Any], selector: str | None, asks_again: int
) -> None:
    engine, agent = reader(world, {"b": documents}, selector)
    async with engine:
        for name in "abc":
            await engine.observe(f"acl:{name}", {"v": 1})
        result = await agent.execute("go")
        assert result.output == "done"
        assert result.recorded, "the part before the tear is a trace"
        assert ("torn" in misses(result)) == (asks_again > 0)
        for name in "abc":
            await engine.observe(f"acl:{name}", {"v": 1})
        again, asked, _ = await world.count(agent.execute("go"))
        # d1, a and d2 stand before the tear; b was torn, so d3 and the answer are asked again.
        assert asked == asks_again
        assert again.steps[3].outcome == ("executed" if asks_again else "replayed")
        assert ("recording ends" in misses(again)) == (asks_again > 0)


async def test_a_change_after_a_step_does_not_tear_it(world: World) -> None:
    engine, agent = reader(world, {}, None)

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 2:  # a and b were read
            world.from_outside(lambda e: e.observe("acl:a", {"v": 2}))
        return three_reads(body)

    world.think(brain)
    async with engine:
        for name in "abc":
            await engine.observe(f"acl:{name}", {"v": 1})
        result = await agent.execute("go")
        assert result.recorded
        assert "torn" not in misses(result)
        await engine.observe("acl:a", {"v": 1})
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 0


async def test_a_run_torn_at_its_first_step_is_kept_for_people_only(world: World) -> None:
    world.think(lambda body: Answer([text("hello")]))
    engine = world.engine()
    agent = world.agent(engine, [], requires=[Acl("talk")])

    def brain(body: dict[str, Any]) -> Answer:
        world.from_outside(lambda e: e.observe("acl:talk", "changed"))
        return Answer([text("hello")])

    async with engine:
        await engine.observe("acl:talk", "first")
        world.think(brain)
        result = await agent.execute("hi")
        assert not result.recorded
        assert "torn" in misses(result)
        kept = await engine.session().store.execution(result.execution_id)
        assert kept is not None
        assert (kept.execution.state, len(kept.steps)) == ("unpublished", 1)
        await engine.observe("acl:talk", "first")
        world.think(lambda body: Answer([text("hello")]))
        _, asked, _ = await world.count(agent.execute("hi"))
        assert asked == 1


async def test_a_step_is_torn_whatever_becomes_of_a_store_that_is_away(world: World) -> None:
    """What says whether a recording is torn is the store itself, and nothing in its place."""
    world.think(three_reads)
    engine = world.engine(on_store_error="live")
    during = {"b": [{"v": 2}, {"v": 1}]}

    @engine.tool(effect="pure", requires=[Acl("{name}")])
    def read(name: str) -> str:
        """Read."""
        for document in during.pop(name, []):
            world.from_outside(partial(observe, f"acl:{name}", document))
        return f"read {name}"

    agent = world.agent(engine, [read])
    async with engine:
        for name in "abc":
            await engine.observe(f"acl:{name}", {"v": 1})
        result = await agent.execute("go")
        assert "torn" in misses(result)
        again, asked, _ = await world.count(agent.execute("go"))
        assert asked == 2
        assert again.steps[3].outcome == "executed"
