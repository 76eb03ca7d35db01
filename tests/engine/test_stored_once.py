"""What a tool gave is stored once, and not as an output and again in a message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, turn

LONG = "a line of a log, \N{SNOWMAN} and all\n" * 100


@pytest.mark.parametrize("output", [LONG, {"log": LONG}], ids=["text", "json"])
async def test_a_message_names_the_output_that_it_tells(world: World, output: Any) -> None:
    engine = world.engine()

    @engine.tool(effect="read")
    async def fetch() -> Any:
        """Fetch."""
        return output

    agent = world.agent(engine, [fetch])
    replies = [Answer([call("fetch", {}), call("fetch", {})]), Answer([text("done")])]
    world.think(lambda body: replies[turn(body)])
    async with engine:
        await agent.execute("go")
        assert (await agent.execute("go")).identical
        values = await engine.cypher(
            "MATCH (v:Value {namespace: $namespace}) WHERE v.text IS NOT NULL"
            " RETURN v.digest AS digest, v.text AS text"
        )
        by_digest = {row["digest"]: json.loads(row["text"]) for row in values}
        assert [it for it in by_digest.values() if "log" in json.dumps(it)] == [output]
        told = [
            block["content"]
            for it in by_digest.values()
            if isinstance(it, dict) and it.get("role") == "user"
            for block in it["content"]
            if block["type"] == "tool_result"
        ]
        assert len(told) == 2
        assert [by_digest[it["$value"]] for it in told] == [output, output]


async def test_a_conversation_that_goes_on_is_still_known_by_its_messages(world: World) -> None:
    """Also where only a later turn differs, what was told before is found by its key."""
    engine, found = world.engine(), ["first"]

    @engine.tool(effect="read")
    async def fetch() -> str:
        """Fetch."""
        return LONG

    @engine.tool(effect="read")
    async def look() -> str:
        """Look."""
        return found[0]

    agent = world.agent(engine, [fetch, look])
    replies = [Answer([call("fetch", {})]), Answer([call("look", {})]), Answer([text("done")])]
    world.think(lambda body: replies[turn(body)])
    async with engine:
        await agent.execute("go")
        found[0] = "second"
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 1
        found[0] = "first"
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 0
