"""Message threads: the service holds what was said, and each request says only what is new."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import AsyncAnthropic, beta_async_tool

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.tests.models import MODEL

from .conftest import World, results, turn

ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}


def brain(body: dict[str, Any]) -> Answer:
    """Looks at three pages, then says what was on them."""
    if not body.get("tools"):
        return Answer([text(f"answer {turn(body)}")])
    if (page := turn(body)) < 3:
        return Answer([call("look", {"page": page})])
    return Answer([text(" ".join(results(body)))])


@pytest.fixture
def engine(world: World) -> Engine:
    world.think(brain)
    return world.engine()


async def run_tools(
    engine: Engine, client: AsyncAnthropic, pages: list[str], *, stream: bool = False
) -> Any:
    """A run of the SDK's tool runner, whose tool gives these pages."""

    @beta_async_tool
    async def look(page: int) -> str:
        """Look at a page."""
        return pages[page]

    async with engine.run("framework", "go") as run:
        runner: Any = client.beta.messages.tool_runner(**ASKED, tools=[look], stream=stream)
        last: Any = None
        async for reply in runner:
            last = await reply.get_final_message() if stream else reply
        run.output = last.content[0].text
    assert run.output == " ".join(pages)
    return run.result


@pytest.mark.parametrize("how", ["create", "stream"])
async def test_a_tool_runner_that_continues_a_thread_replays(
    world: World, engine: Engine, client: AsyncAnthropic, how: str
) -> None:
    async with engine:
        await run_tools(engine, client, ["a", "b", "c"], stream=how == "stream")
        threads = [body["thread"]["type"] for body in world.server.bodies]
        assert threads == ["create", "continue", "continue", "continue"]
        assert (await run_tools(engine, client, ["a", "b", "c"], stream=how == "stream")).identical
    assert world.server.requests == 4


@pytest.mark.parametrize("how", ["create", "stream"])
async def test_where_a_recording_ends_all_is_said_again_in_a_thread_that_is_held(
    world: World, engine: Engine, client: AsyncAnthropic, how: str
) -> None:
    async with engine:
        await run_tools(engine, client, ["a", "b", "c"], stream=how == "stream")
        world.server.threads.forget()
        for asked in (2, 0, 0):
            before = world.server.requests
            result = await run_tools(engine, client, ["a", "B", "c"], stream=how == "stream")
            assert world.server.requests - before == asked
            assert result.attempts == ()
            assert result.identical == (not asked)
        assert (await run_tools(engine, client, ["a", "b", "c"], stream=how == "stream")).identical
    assert world.server.counts.failed == 0, "nobody is asked in vain"


async def test_a_reply_that_was_asked_again_and_says_the_same_is_the_same(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    """The id by which the next request goes on is another one then."""

    async def talk(**how: Any) -> Any:
        async with engine.run("framework", "go", **how) as run:
            one = await client.beta.messages.create(**ASKED, thread={"type": "create"})
            thread: Any = {"type": "continue", "previous_message_id": one.id}
            await client.beta.messages.create(**ASKED, thread=thread)
        return one.id, run.result

    async with engine:
        first, _ = await talk()
        other, result = await talk(replay=False)
        assert other != first
        assert not result.recorded, "there is such a trace already"
        again, result = await talk()
        assert (again, result.identical) == (first, True)
    assert world.server.requests == 4
