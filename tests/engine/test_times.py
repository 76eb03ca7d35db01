"""When each step began, and how long it took: in the graph, whoever recorded or served it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from execgraph import Acl, Engine
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, outcomes, turn


def now() -> int:
    return time.time_ns() // 1_000_000


async def stored(engine: Engine, execution: str) -> list[dict[str, Any]]:
    return list(
        await engine.cypher(
            "MATCH (s:Step {namespace: $namespace, execution: $execution})"
            " RETURN s.kind AS kind, s.name AS name, s.started_at AS at, s.duration_ms AS took"
            " ORDER BY s.position",
            {"execution": execution},
        )
    )


async def test_each_step_has_its_start_and_how_long_it_took(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    async def ship() -> str:
        """Ship."""
        await asyncio.sleep(0.05)
        return "shipped"

    world.think(lambda body: Answer([text("done")] if turn(body) else [call("ship", {})]))
    async with engine:
        before = now()
        result = await world.agent(engine, [ship]).execute("go")
        asked, shipped, told = await stored(engine, result.execution_id)
        assert before <= asked["at"] <= shipped["at"] < told["at"] <= now()
        assert shipped["at"] >= asked["at"] + int(asked["took"])
        assert 50 <= shipped["took"] <= told["at"] - shipped["at"] + 1
        assert [it["took"] for it in (asked, shipped, told)] == [
            it.duration_ms for it in result.steps
        ]


async def test_a_served_decision_keeps_its_day_and_an_action_that_ran_again_has_its_own(
    world: World,
) -> None:
    engine = world.engine()

    @engine.tool(effect="read", requires=[])
    def look() -> str:
        """Look."""
        return "fine"

    @engine.tool(effect="pure")
    def add(n: int) -> int:
        """Add."""
        return n + 1

    @engine.tool(effect="read", requires=[Acl("ship")])
    async def ask() -> str:
        """Ask."""
        return str(await engine.current("acl:ship"))

    def think(body: dict[str, Any]) -> Answer:
        plan = [call("look", {}), call("add", {"n": 1}), call("ask", {}), text("done")]
        return Answer([plan[turn(body)]])

    world.think(think)
    async with engine:
        await engine.observe("acl:ship", "yes")
        agent = world.agent(engine, [look, add, ask])
        first = await agent.execute("go")
        await engine.observe("acl:ship", "no")
        between = now()
        second = await agent.execute("go")
        assert outcomes(second)[:5] == [
            ("?", "replayed"),
            ("look", "replayed"),
            ("?", "replayed"),
            ("add", "reused"),
            ("?", "replayed"),
        ]
        assert second.recorded
        then = await stored(engine, first.execution_id)
        now_ = await stored(engine, second.execution_id)
        kept = [here == there for here, there in zip(then, now_, strict=True)]
        assert kept == [True, False, True, True, True, False, False]
        assert all(step["at"] >= between for step in (now_[1], *now_[5:]))


async def test_a_decision_served_by_key_keeps_its_day(world: World) -> None:
    engine, seen = world.engine(), iter(("a", "b", "a", "c"))

    @engine.tool(effect="read", requires=[])
    def look() -> str:
        """Look."""
        return next(seen)

    async def reply(_: Any) -> Any:
        return {"says": "yes"}

    async with engine:
        ids = []
        for _ in range(2):
            async with engine.run("p", "go") as run:
                await run.decide({"q": 1}, call=reply)
                await run.act(look)
            ids.append(run.result.execution_id)
        one, other = [await stored(engine, it) for it in ids]
        assert one[0] == other[0]
        assert one[1]["at"] < other[1]["at"] or one[1]["took"] != other[1]["took"]


async def test_a_call_that_never_began_has_no_start(world: World) -> None:
    engine = world.engine()
    world.think(lambda body: Answer([text("done")] if turn(body) else [call("nothing", {})]))
    async with engine:
        result = await world.agent(engine, []).execute("go")
        steps = await stored(engine, result.execution_id)
        assert [it["at"] is None for it in steps] == [False, True, False]
