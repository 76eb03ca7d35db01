"""A write whose requirements guard its actions, and not the decisions that chose them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from execgraph import Acl, Agent, BusinessRule, Engine, PreconditionChanged, ToolError
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, misses, outcomes, results, turn


def shipper(world: World, on_change: Any = "rerun", **settings: Any) -> tuple[Engine, Agent]:
    """An agent that ships under a rule."""
    engine = world.engine()

    @engine.tool(effect="write", requires=[Acl("ship/{target}")], on_change=on_change)
    async def ship(target: str) -> str:
        """Ship."""
        world.done.append(target)
        return f"shipped to {target}"

    world.think(
        lambda body: (
            Answer([text(f"said: {results(body)}")])
            if turn(body)
            else Answer([call("ship", {"target": "eu"})])
        )
    )
    return engine, world.agent(engine, [ship], **settings)


@pytest.mark.parametrize(("on_change", "asked"), [("ask", 1), ("rerun", 0)])
async def test_a_change_runs_the_write_again_and_asks_nobody(
    world: World, on_change: str, asked: int
) -> None:
    engine, agent = shipper(world, on_change)
    async with engine:
        await engine.observe("acl:ship/eu", 1)
        await agent.execute("go")
        await engine.observe("acl:ship/eu", 2)
        result, *found = await world.count(agent.execute("go"))
        assert found == [asked, ["eu"]]
        assert outcomes(result)[1] == ("ship", "replayed")
        again, *found = await world.count(agent.execute("go"))
        assert found == [0, ["eu"]]
        assert again.identical
        await engine.withdraw("acl:ship/eu")
        _, *found = await world.count(agent.execute("go"))
        assert found == [asked, ["eu"]]


async def test_it_says_what_guards_what(world: World) -> None:
    engine, agent = shipper(world, requires=[BusinessRule("freeze")])
    async with engine:
        await engine.observe("acl:ship/eu", 1)
        await engine.observe("rule:freeze", "no")
        await agent.execute("go")
        rows = await engine.cypher(
            "MATCH (p:Precondition {namespace: $namespace})-[:GUARDS]->(s:Step)"
            " RETURN p.resource AS resource, s.position AS position ORDER BY position, resource"
        )
        assert [tuple(dict(row).values()) for row in rows] == [
            ("rule:freeze", 0),
            ("acl:ship/eu", 1),
            ("rule:freeze", 1),
            ("rule:freeze", 2),
        ]
        await engine.observe("rule:freeze", "yes")
        result, *found = await world.count(agent.execute("go"))
        assert found == [2, ["eu"]], "the agent's own requirement guards its decisions and writes"
        assert misses(result) == ["precondition changed"] * len(misses(result))


@pytest.mark.parametrize(("on_change", "asked"), [("ask", 3), ("rerun", 2)])
async def test_a_change_right_before_the_effect_is_noted_and_hinders_nobody(
    world: World, on_change: str, asked: int
) -> None:
    engine, agent = shipper(world, on_change)
    async with engine:
        await engine.observe("acl:ship/eu", 1)
        intend = engine.session().store.intend
        changes = iter([2])

        async def meanwhile(*arguments: Any, **more: Any) -> Any:
            for number in changes:
                await engine.observe("acl:ship/eu", number)
            return await intend(*arguments, **more)

        vars(engine.session().store)["intend"] = meanwhile
        result, *found = await world.count(agent.execute("go"))
        assert found == [asked, ["eu"]]
        assert result.recorded
        again, *found = await world.count(agent.execute("go"))
        assert found == [0, ["eu"]], "it is recorded under what was noted right before it"
        assert again.identical


async def test_what_another_write_of_the_reply_requires_guards_the_decision_all_the_same(
    world: World,
) -> None:
    engine, _ = shipper(world)

    @engine.tool(effect="write", requires=[Acl("ship/eu")])
    def tell() -> str:
        """Tell."""
        world.done.append("tell")
        return "told"

    world.think(
        lambda body: (
            Answer([text("ok")])
            if turn(body)
            else Answer([call("ship", {"target": "eu"}), call("tell", {})])
        )
    )
    agent = world.agent(engine, [engine.tools["ship"], tell])
    async with engine:
        await engine.observe("acl:ship/eu", 1)
        await agent.execute("go")
        await engine.observe("acl:ship/eu", 2)
        _, *found = await world.count(agent.execute("go"))
        assert found == [1, ["eu", "tell"]]


@pytest.mark.parametrize("on_change", ["ask", "rerun"])
async def test_in_a_program_the_decisions_need_not_have_known_it(
    world: World, on_change: str
) -> None:
    engine, _ = shipper(world, on_change)
    ship = engine.tools["ship"]
    world.think(lambda _: Answer([text("eu")]))
    question = {"role": "user", "content": "where?"}

    async def work() -> Any:
        async with engine.run("ships", "go", client=world.client) as run:
            decided = await run.decide({"model": "m", "max_tokens": 9, "messages": [question]})
            target = decided.value["content"][0]["text"]
            await engine.observe("acl:ship/eu", len(world.done) + 10)
            return (await run.act(ship, target=target)).value

    async with engine:
        await engine.observe("acl:ship/eu", 1)
        if on_change == "ask":
            with pytest.raises(PreconditionChanged):
                await work()
            return
        for asked in (1, 0):
            assert await world.count(work()) == ("shipped to eu", asked, ["eu"])


async def test_another_answer_changes_the_terms(world: World) -> None:
    for on_change, asked in (("rerun", 2), ("ask", 1), ("ask", 0)):
        engine, agent = shipper(world, on_change)
        async with engine:
            await engine.observe("acl:ship/eu", 1)
            _, *found = await world.count(agent.execute("go"))
            assert found == [asked, ["eu"]]


async def test_changes_all_the_time_end_in_a_refusal_and_not_in_a_loop(world: World) -> None:
    engine, agent = shipper(world)
    async with engine:
        await engine.observe("acl:ship/eu", 0)
        intend, number = engine.session().store.intend, [0]

        async def meanwhile(*arguments: Any, **more: Any) -> Any:
            number[0] += 1
            await engine.observe("acl:ship/eu", number[0])
            return await intend(*arguments, **more)

        vars(engine.session().store)["intend"] = meanwhile
        result, _, done = await world.count(asyncio.wait_for(agent.execute("go"), 60))
        assert done == []
        assert "precondition changed, not executed" in result.output


def test_where_it_says_nothing_it_is_refused() -> None:
    engine = Engine("sqlite:///unused.db")

    def look() -> str:
        """Look."""
        return ""

    with pytest.raises(ToolError, match="guard its actions only anyway"):
        engine.tool(look, effect="read", on_change="rerun")
    with pytest.raises(ToolError, match="it is 'ask'"):
        engine.tool(look, effect="write", requires=[], on_change="never")  # type: ignore[call-overload]
