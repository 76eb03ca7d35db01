"""What the Messages API has beside texts and calls is asked once, and served as it was."""

from __future__ import annotations

import base64
import secrets
from typing import Any

import httpx2
import pytest
from anthropic import AsyncAnthropic
from pydantic import BaseModel

from execgraph import Engine
from execgraph.adapters import messages_wire
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.tests.models import MODEL

from .conftest import World, misses, results, turn

HI: Any = [{"role": "user", "content": "hi"}]
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 10, "messages": HI}
THOUGHT = {"type": "thinking", "thinking": "Hm. " * 20}
HIDDEN = {"type": "redacted_thinking", "data": "c2VjcmV0"}
SEARCH = {"type": "server_tool_use", "name": "web_search", "input": {"query": "Oslo"}}
FOUND: dict[str, Any] = {"type": "web_search_tool_result", "content": []}


class Weather(BaseModel):
    """A structured output."""

    city: str
    degrees: int


@pytest.fixture
def engine(world: World) -> Engine:
    return world.engine()


def api_of(client: AsyncAnthropic, api: str) -> Any:
    return client.messages if api == "messages" else client.beta.messages


@pytest.mark.parametrize("api", ["messages", "beta"])
@pytest.mark.parametrize("how", ["parse", "stream"])
async def test_a_structured_output_is_parsed_again(
    world: World, engine: Engine, client: AsyncAnthropic, api: str, how: str
) -> None:
    world.think(lambda _: Answer([text('{"city": "Oslo", "degrees": -3}')]))

    async def ask(kind: type[BaseModel]) -> Any:
        if how == "parse":
            return await api_of(client, api).parse(**ASKED, output_format=kind)
        async with api_of(client, api).stream(**ASKED, output_format=kind) as stream:
            return await stream.get_final_message()

    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (run := engine.run("framework", "go")):
                message = await ask(Weather)
            assert message.parsed_output == Weather(city="Oslo", degrees=-3)
            assert world.server.requests == 1
        assert run.result.identical

        class Other(Weather):
            """Another shape."""

            wind: float = 0.0

        async with engine.run("framework", "go"):
            await ask(Other)
        assert world.server.requests == 2, "its schema is what was asked for"


def thoughtful(body: dict[str, Any]) -> Answer:
    if turn(body) < 2:
        return Answer([THOUGHT, HIDDEN, text("Let me look."), call("look", {"at": turn(body)})])
    return Answer([THOUGHT, text(f"It is {results(body)}.")])


@pytest.mark.parametrize("stream", [False, True])
async def test_thoughts_are_sent_back_with_their_signatures(
    world: World, engine: Engine, client: AsyncAnthropic, *, stream: bool
) -> None:
    world.think(thoughtful)
    tool: Any = {"name": "look", "input_schema": {"type": "object"}}
    given: list[list[Any]] = []

    async def ask(messages: list[Any]) -> Any:
        asked: dict[str, Any] = {**ASKED, "messages": messages, "tools": [tool]}
        if not stream:
            return await client.messages.create(**asked)
        async with client.messages.stream(**asked) as events:
            return await events.get_final_message()

    async def work() -> None:
        messages = [*HI]
        for _ in range(3):
            reply = await ask(messages)
            messages.append({"role": "assistant", "content": reply.content})
            used = [it.id for it in reply.content if it.type == "tool_use"]
            told = [{"type": "tool_result", "tool_use_id": it, "content": "blue"} for it in used]
            messages.append({"role": "user", "content": told})
        given.append([it["content"] for it in messages[1::2]])

    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (run := engine.run("framework", "go")):
                await work()
        assert run.result.identical
    assert world.server.requests == 3
    assert given[0] == given[1], "signatures and ids too"
    sent = [
        it["content"] for it in world.server.bodies[-1]["messages"] if it["role"] == "assistant"
    ]
    assert [block["signature"] for content in sent for block in content[:1]] == [
        reply[0].signature for reply in given[0][:2]
    ]


async def test_an_agent_sends_thoughts_back_with_their_signatures(
    world: World, engine: Engine
) -> None:
    @engine.tool(effect="read")
    def look(at: int) -> str:
        """Look."""
        return colours[at]

    colours = ["blue", "green"]
    world.think(thoughtful)
    agent = world.agent(engine, [look])
    async with engine:
        await agent.execute("go")
        recorded = world.server.bodies[-1]["messages"]
        assert (await agent.execute("go")).identical
        colours[1] = "red"
        result, asked, _ = await world.count(agent.execute("go"))
    assert (result.output, asked) == ("It is ['blue', 'red'].", 1)
    again = world.server.bodies[-1]["messages"]
    assert again[1:4] == recorded[1:4], "what was served is sent back as it came"
    assert again[1]["content"][0]["signature"]


@pytest.mark.parametrize("kind", ["image", "document"])
async def test_what_is_attached_is_part_of_what_is_asked(
    world: World, engine: Engine, client: AsyncAnthropic, kind: str
) -> None:
    world.think(lambda _: Answer([text("I see.")]))
    media = {"image": "image/png", "document": "application/pdf"}[kind]

    async def ask(data: bytes) -> None:
        encoded = base64.b64encode(data).decode()
        source = {"type": "base64", "media_type": media, "data": encoded}
        said: Any = [{"role": "user", "content": [{"type": kind, "source": source}]}]
        async with engine.run("framework", "go"):
            await client.messages.create(**{**ASKED, "messages": said})

    async with engine:
        for data, expected in ((b"one", 1), (b"one", 1), (b"other", 2), (b"one", 2)):
            await ask(data)
            assert world.server.requests == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_of_the_service_are_its_own_affair(
    world: World, engine: Engine, client: AsyncAnthropic, *, stream: bool
) -> None:
    world.think(lambda _: Answer([SEARCH, FOUND, text("It rains.")]))
    tool: Any = {"type": "web_search_20250305", "name": "web_search"}

    async def ask() -> Any:
        if not stream:
            return await client.messages.create(**ASKED, tools=[tool])
        async with client.messages.stream(**ASKED, tools=[tool]) as events:
            return await events.get_final_message()

    seen = []
    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (run := engine.run("framework", "go")):
                seen.append(await ask())
        assert run.result.identical
    assert world.server.requests == 1
    assert seen[0] == seen[1]
    assert [it.type for it in seen[0].content] == [SEARCH["type"], FOUND["type"], "text"]


@pytest.mark.parametrize("reason", ["refusal", "max_tokens", "pause_turn"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_that_is_no_end_is_kept_for_people_and_not_served(
    world: World, engine: Engine, client: AsyncAnthropic, reason: str, *, stream: bool
) -> None:
    world.think(lambda _: Answer([text("I")], stop_reason=reason))
    async with engine:
        for expected in (1, 2):
            async with engine.run("framework", "go") as run:
                if stream:
                    async with client.messages.stream(**ASKED) as events:
                        message: Any = await events.get_final_message()
                else:
                    message = await client.messages.create(**ASKED)
            assert message.stop_reason == reason
            assert world.server.requests == expected
            assert not run.result.recorded
            assert "incomplete answer" in misses(run.result)
            kept = await engine.session().store.execution(run.execution_id)
            assert kept is not None
            assert kept.steps[0].usage is not None


async def test_a_stream_may_break_at_each_of_its_events(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    world.think(lambda _: Answer([THOUGHT, text("So. " * 9), call("look", {"at": "it", "n": 1})]))
    tool: Any = {"name": "look", "input_schema": {"type": "object"}}

    async def read(number: int) -> bytes:
        async with engine.run("framework", str(number)) as run:
            stream = await client.messages.create(**ASKED, tools=[tool], stream=True)
            data = b"".join([piece async for piece in stream.response.aiter_raw()])
        assert run.result.recorded or run.result.identical
        return data

    async with engine:
        whole = await read(-1)
        for number in range(whole.count(b"event:")):
            world.server.cut(number)
            with pytest.raises(httpx2.TransportError):
                await read(number)
            asked = world.server.requests
            served = [await read(number) for _ in range(2)]
            assert served[0] == served[1]
            assert world.server.requests == asked + 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_of_20_mb_is_served_as_it_was(
    world: World,
    engine: Engine,
    client: AsyncAnthropic,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stream: bool,
) -> None:
    monkeypatch.setattr(messages_wire, "_DELTA_CHARACTERS", 4000)
    large = secrets.token_hex(10_000_000)
    world.think(lambda _: Answer([text(large)]))
    async with engine:
        for _ in range(2):
            async with engine.run("framework", "go"):
                if stream:
                    events = await client.messages.create(**ASKED, stream=True)
                    said = "".join(
                        [it.delta.text async for it in events if it.type == "content_block_delta"]
                    )
                else:
                    said = (await client.messages.create(**ASKED)).content[0].text
            assert said == large
            assert world.server.requests == 1
