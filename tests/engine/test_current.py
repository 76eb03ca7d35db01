"""A tool that sees a rule itself: what it asks for is what its step rests on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from execgraph import Engine, NotCurrent
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World


def once(body: dict[str, Any]) -> Answer:
    done = any(message["role"] == "assistant" for message in body["messages"])
    return Answer([text("done")] if done else [call("rule", {})])


async def test_it_is_the_document_as_it_is_now(world: World) -> None:
    async with world.engine() as engine:
        with pytest.raises(NotCurrent, match="never observed"):
            await engine.current("acl:prod")
        await engine.observe("acl:prod", None)
        assert await engine.current("acl:prod") is None
        await engine.observe("acl:prod", {"allow": ["ann"]})
        assert await engine.current("acl:prod") == {"allow": ["ann"]}
        await engine.withdraw("acl:prod")
        with pytest.raises(NotCurrent, match="withdrawn"):
            await engine.current("acl:prod")


@pytest.mark.parametrize("effect", ["pure", "read", "write"])
async def test_what_a_tool_asks_for_its_step_rests_on(world: World, effect: Any) -> None:
    engine = world.engine()

    @engine.tool(effect=effect, requires=[])
    async def rule() -> Any:
        """The rule."""
        world.done.append("looked")
        return (await engine.current("rule:freeze"))["on"]

    agent = world.agent(engine, [rule])
    world.think(once)
    async with engine:
        await engine.observe("rule:freeze", {"on": False})
        assert (await agent.execute("go")).recorded
        for _ in range(2):
            result, asked, _ = await world.count(agent.execute("go"))
            assert (asked, result.identical) == (0, True)
        # Another part of the document: the output is equal, so nobody is asked.
        await engine.observe("rule:freeze", {"on": False, "why": "nothing"})
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (0, ["looked"])
        assert [str(it.cause.kind) for it in result.steps if it.cause is not None] == (
            [] if effect == "write" else ["precondition changed"]
        )
        result, asked, _ = await world.count(agent.execute("go"))
        assert (asked, [it.cause for it in result.steps]) == (0, [None] * len(result.steps))
        await engine.observe("rule:freeze", {"on": True})
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (1, ["looked"])
        # And back: what was recorded then stands again.
        await engine.observe("rule:freeze", {"on": False})
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 0


async def test_what_a_tool_asked_for_guards_it_when_it_is_found_by_its_key(world: World) -> None:
    """Also a step that is copied into a new trace rests on it."""
    engine, outside = world.engine(), ["first"]

    @engine.tool(effect="read")
    async def state() -> str:
        """What there is."""
        return outside[0]

    @engine.tool(effect="pure", requires=[])
    async def rule() -> Any:
        """The rule."""
        return (await engine.current("rule:freeze"))["on"]

    async def work() -> Any:
        async with engine.run("triage", "go") as run:
            await run.act(state)
            reply = await run.decide({"state": outside[0]}, call=_yes)
            run.output = [reply.value, (await run.act(rule)).value]
        return run.result

    async with engine:
        await engine.observe("rule:freeze", {"on": False})
        assert (await work()).output == ["yes", False]
        outside[0] = "second"
        assert (await work()).output == ["yes", False]
        await engine.observe("rule:freeze", {"on": True})
        assert (await work()).output == ["yes", True]


async def _yes(request: Any) -> str:
    del request
    return "yes"


async def test_a_synchronous_tool_asks_through_the_synchronous_face(world: World) -> None:
    engine = Engine(world.url, namespace=world.namespace)

    def work() -> list[tuple[bool, bool]]:
        with engine.sync() as face:

            @engine.tool(effect="pure", requires=[])
            def rule() -> bool:
                """The rule."""
                return bool(face.current("rule:freeze")["on"])

            def outcome() -> tuple[bool, bool]:
                with face.run("triage", "go") as run:
                    run.output = run.act(rule).value
                return run.result.output, run.result.replayed

            face.observe("rule:freeze", {"on": False})
            told = [outcome(), outcome()]
            face.observe("rule:freeze", {"on": True})
            return [*told, outcome()]

    told = await asyncio.to_thread(work)
    assert [output for output, _ in told] == [False, False, True]
