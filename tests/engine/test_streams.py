"""Streamed replies are recorded as they pass, and served as streams again."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_async_tool

from execgraph import Acl, Engine, PreconditionChanged, RunFailed
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.tests.models import MODEL

from .conftest import World, misses, results, turn

HI: Any = [{"role": "user", "content": "hi"}]
TOOLS: Any = [{"name": "look", "input_schema": {"type": "object"}}]
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 10, "messages": HI}
EVENTS = 16  # as which the first two blocks are streamed
SAID: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Hm. " * 20},
    text("A text that comes in several pieces, since it is long. ä \u2028 \U0001f600"),
    call("look", {"page": 1, "deep": [1, {"a": "}\n"}], "e": {}}),
    call("look", {}),
]


@pytest.fixture
def engine(world: World) -> Engine:
    world.think(lambda body: Answer(SAID if body.get("tools") else SAID[:2]))
    return world.engine()


async def test_events_are_served_one_by_one_as_they_came(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    seen = []
    async with engine:
        run = engine.run("framework", "go")
        for _ in range(3):
            async with (run := engine.run("framework", "go")):
                stream = await client.messages.create(**ASKED, tools=TOOLS, stream=True)
                seen.append([event async for event in stream])
        assert run.result.identical
    assert world.server.requests == 1
    assert seen[0] == seen[1] == seen[2]


async def test_the_bytes_of_a_served_stream_come_event_by_event(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    pieces: list[list[bytes]] = []
    async with engine:
        for _ in range(2):
            async with engine.run("framework", "go"):
                stream = await client.messages.create(**ASKED, stream=True)
                pieces.append([piece async for piece in stream.response.aiter_raw()])
    assert world.server.requests == 1
    assert b"".join(pieces[0]) == b"".join(pieces[1])
    assert all(piece.count(b"event:") == 1 for piece in pieces[1])


@pytest.mark.parametrize("api", ["messages", "beta"])
async def test_the_helpers_of_the_sdk_see_the_same_stream_twice(
    world: World, engine: Engine, client: AsyncAnthropic, api: str
) -> None:
    messages: Any = client.messages if api == "messages" else client.beta.messages
    seen = []
    async with engine:
        for _ in range(2):
            async with (
                engine.run("framework", "go"),
                messages.stream(**ASKED, tools=TOOLS) as stream,
            ):
                texts = [piece async for piece in stream.text_stream]
                seen.append((texts, await stream.get_final_message()))
    assert world.server.requests == 1
    assert seen[0] == seen[1]
    assert "".join(seen[0][0]) == SAID[1]["text"]


async def test_what_was_streamed_serves_a_plain_call_and_the_other_way_round(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async def plain(limit: int) -> Any:
        return await client.messages.create(**{**ASKED, "max_tokens": limit}, tools=TOOLS)

    async def streamed(limit: int) -> Any:
        asked: dict[str, Any] = {**ASKED, "max_tokens": limit, "tools": TOOLS}
        async with client.messages.stream(**asked) as stream:
            return await stream.get_final_message()

    async with engine:
        for first, then in ((plain, streamed), (streamed, plain)):
            limit = 10 + (first is plain)
            async with engine.run("framework", str(limit)):
                one = await first(limit)
            async with engine.run("framework", str(limit)) as run:
                other = await then(limit)
            assert run.result.identical
            assert one.model_dump() == other.model_dump()
    assert world.server.requests == 2


def by_synchronous_client(world: World, engine: Engine, api: str) -> list[Any]:
    seen = []
    with (
        Anthropic(
            base_url=world.server.url, api_key="test-key", middleware=[engine.middleware()]
        ) as client,
        engine.sync() as e,
    ):
        messages: Any = client.messages if api == "messages" else client.beta.messages
        run = e.run("framework", "go")
        for _ in range(2):
            with (run := e.run("framework", "go")):
                with messages.stream(**ASKED, tools=TOOLS) as stream:
                    events = [event.type for event in stream]
                    seen.append((events, stream.get_final_message()))
                for event in messages.create(**{**ASKED, "max_tokens": 11}, stream=True):
                    if event.type == "message_stop":
                        break
        assert run.result.identical
    return seen


@pytest.mark.parametrize("api", ["messages", "beta"])
async def test_the_synchronous_client_streams_too(world: World, engine: Engine, api: str) -> None:
    first, second = await asyncio.to_thread(by_synchronous_client, world, engine, api)
    assert first == second
    assert world.server.requests == 2


async def test_a_streaming_tool_runner_replays(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    @beta_async_tool
    async def look(page: int) -> str:
        """Look at a page."""
        return f"page {page}"

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([text("Let me look."), call("look", {"page": 7})])
        return Answer([text(f"It says {results(body)[-1]}.")])

    world.think(brain)
    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (run := engine.run("framework", "go")):
                runner = client.beta.messages.tool_runner(
                    **ASKED, tools=[look], stream=True, thread=False
                )
                said: Any = None
                async for stream in runner:
                    said = await stream.get_final_message()
                run.output = said.content[0].text
            assert run.output == "It says page 7."
        assert run.result.identical
    assert world.server.requests == 2


async def test_a_streaming_response_is_read_as_it_is(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    lines: list[list[str]] = []
    async with engine:
        for _ in range(2):
            async with engine.run("framework", "go"):
                async with client.messages.with_streaming_response.create(
                    **ASKED, stream=True
                ) as response:
                    lines.append([line async for line in response.iter_lines()])
                async with client.messages.with_streaming_response.create(
                    **{**ASKED, "max_tokens": 11}
                ) as plain:
                    assert (await plain.parse()).content
    assert world.server.requests == 2
    assert lines[0] == lines[1]


async def test_a_program_that_leaves_a_stream_at_its_last_event_has_read_it(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (run := engine.run("framework", "go")):
                async for event in await client.messages.create(**ASKED, stream=True):
                    if event.type == "message_stop":
                        break
        assert run.result.identical
    assert world.server.requests == 1


@pytest.mark.parametrize("leave", ["close", "forget"])
async def test_a_stream_that_is_left_early_is_paid_and_kept_and_not_served(
    world: World, engine: Engine, client: AsyncAnthropic, leave: str
) -> None:
    async with engine:
        run = engine.run("framework", "go")
        for number in range(2):
            async with (run := engine.run("framework", "go")):
                stream = await client.messages.create(**ASKED, stream=True)
                async for event in stream:
                    if event.type == "content_block_delta":
                        break
                if leave == "close":
                    await stream.close()
                run.output = "left"
            await stream.close()
            assert world.server.requests == number + 1
            assert run.result.output == "left"
            assert not run.result.recorded
            assert "incomplete answer" in misses(run.result)
            assert run.result.tokens > 0
            assert [str(step.outcome) for step in run.result.steps] == ["asked"]


@pytest.mark.parametrize("error", [None, "overloaded_error"])
@pytest.mark.parametrize("events", [0, 1, 5, -1])
async def test_a_stream_that_breaks_is_an_error_for_the_program_and_never_served(
    world: World, engine: Engine, client: AsyncAnthropic, events: int, error: str | None
) -> None:
    async def read() -> Any:
        async with client.messages.stream(**ASKED) as stream:
            return await stream.get_final_message()

    async with engine:
        world.server.cut(events % EVENTS, error=error)
        async with (run := engine.run("framework", "go")):
            with pytest.raises((anthropic.APIError, httpx2.TransportError)):
                await read()
            await read()  # as a program would
        assert not run.result.recorded
        assert world.server.requests == 2
        async with (run := engine.run("framework", "go")):
            await read()
        assert run.result.recorded
        assert world.server.requests == 3
        async with (run := engine.run("framework", "go")):
            await read()
        assert run.result.identical


async def test_errors_before_a_stream_are_retried_by_the_sdk(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    world.server.fail(529, times=2)
    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (
                (run := engine.run("framework", "go")),
                client.messages.stream(**ASKED) as stream,
            ):
                await stream.get_final_message()
        assert run.result.identical
    assert world.server.requests == 3


async def test_streams_side_by_side_are_told_apart(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    world.think(lambda body: Answer([text(f"limit {body['max_tokens']} " * 5)]))

    async def read(limit: int) -> str:
        async with client.messages.stream(**{**ASKED, "max_tokens": limit}) as stream:
            return "".join([piece async for piece in stream.text_stream])

    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (run := engine.run("framework", "go")):
                said = await asyncio.gather(*map(read, range(10, 20)))
            assert said == [f"limit {limit} " * 5 for limit in range(10, 20)]
        assert run.result.identical
    assert world.server.requests == 10


async def test_a_cancelled_program_ends_its_stream(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    reading = asyncio.Event()

    async def work() -> None:
        async with engine.run("framework", "go"):
            async for _ in await client.messages.create(**ASKED, stream=True):
                reading.set()
                await asyncio.sleep(60)

    async with engine:
        task = asyncio.create_task(work())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with (
            (run := engine.run("framework", "go")),
            client.messages.stream(**ASKED) as stream,
        ):
            await stream.get_final_message()
        assert run.result.recorded
    assert world.server.requests == 2


async def test_a_large_reply_is_streamed_as_it_was(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    large = "".join(f"line {number} " for number in range(20_000))
    world.think(lambda _: Answer([text(large)]))
    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (
                (run := engine.run("framework", "go")),
                client.messages.stream(**ASKED) as stream,
            ):
                said = "".join([piece async for piece in stream.text_stream])
            assert said == large
        assert run.result.identical
    assert world.server.requests == 1


async def test_a_write_in_the_middle_of_a_stream_rests_on_what_the_decision_rests_on(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    """What a program has read of a reply may have chosen what it does."""

    @engine.tool(effect="write", requires=[])
    def deploy(words: str) -> str:
        """Deploy."""
        world.done.append(words)
        return "done"

    async def work() -> Any:
        async with engine.run("eager", "go", requires=[Acl("prod/deploy")]) as run:
            async for event in await client.messages.create(**ASKED, stream=True):
                if event.type == "content_block_stop" and event.index == 1:
                    await run.act(deploy, words="the text has come")
        return run.result

    async with engine:
        await engine.observe("acl:prod/deploy", {"allow": ["bot"]})
        for expected in ("live", "replay", "replay"):
            result = await work()
            assert str(result.mode) == expected
        assert world.server.requests == 1
        await engine.observe("acl:prod/deploy", {"allow": []})
        result = await work()
        assert world.server.requests == 2, "the decision that chose it is asked again"
        assert [str(step.outcome) for step in result.steps] == ["asked", "replayed"]
        assert (await work()).identical
    assert world.done == ["the text has come"] * 5


async def test_a_write_in_the_middle_is_refused_if_a_fact_of_the_decision_moved(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    @engine.tool(effect="write", requires=[])
    def deploy(words: str) -> str:
        """Deploy."""
        world.done.append(words)
        return "done"

    async with engine:
        await engine.observe("acl:prod/deploy", {"allow": ["bot"]})
        async with engine.run("eager", "go", requires=[Acl("prod/deploy")]) as run:
            async for event in await client.messages.create(**ASKED, stream=True):
                if event.type == "content_block_stop" and event.index == 1:
                    await engine.observe("acl:prod/deploy", {"allow": []})
                    with pytest.raises(PreconditionChanged):
                        await run.act(deploy, words="the text has come")
    assert world.done == []


async def test_attempts_that_gave_no_answer_are_told_with_what_they_cost(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    agent = world.agent(engine, [])
    async with engine:
        world.server.fail(429)
        world.server.fail(529)
        world.server.cut(5)
        result = await agent.execute("go")
        assert [attempt.status for attempt in result.attempts] == [429, 529, None]
        assert "broke off" in result.attempts[-1].error
        assert result.attempts[-1].tokens > 0
        assert result.tokens == result.attempts[-1].tokens + result.steps[0].tokens
        assert result.recorded
        assert world.server.requests == 4
        assert (await agent.execute("go")).attempts == ()

        world.server.fail(500)
        async with (run := engine.run("framework", "go")):
            await client.messages.create(**ASKED)
        assert [attempt.status for attempt in run.result.attempts] == [500]


@pytest.mark.parametrize("error", [None, "overloaded_error"])
@pytest.mark.parametrize("kind", ["later", "sync"])
async def test_a_stream_with_stand_ins_that_breaks_off_is_paid(
    world: World, engine: Engine, kind: str, error: str | None
) -> None:
    known: dict[str, Any] = {
        "base_url": world.server.url,
        "api_key": "test-key",
        "middleware": [engine.middleware()],
        "max_retries": 0,
    }

    def at_once() -> None:
        with Anthropic(**known) as client, client.messages.stream(**ASKED) as stream:
            stream.get_final_message()

    async def ask() -> None:
        async with AsyncAnthropic(**known) as client, client.messages.stream(**ASKED) as stream:
            await stream.get_final_message()

    world.server.cut(4, error=error)
    broken = (anthropic.APIConnectionError, httpx2.TransportError)
    run = engine.run("framework", {"id": "INC-471100"}, opaque=["$.id"])
    async with engine, run:
        with pytest.raises(broken):
            await (asyncio.to_thread(at_once) if kind == "sync" else ask())
    (attempt,) = run.result.attempts
    assert attempt.error.startswith("the reply broke off")
    assert attempt.tokens == run.result.tokens > 0


async def test_a_reply_that_breaks_off_every_time_fails_the_run(
    world: World, engine: Engine
) -> None:
    world.server.cut(5, times=9)
    async with engine:
        with pytest.raises(RunFailed, match="broke off, 3 times in a row"):
            await world.agent(engine, []).execute("go")
    assert world.server.requests == 3


async def from_another_loop(world: World, engine: Engine, how: str) -> Any:
    """What a synchronous part of a program does that calls asyncio.run in its thread."""

    async def work() -> Any:
        async with AsyncAnthropic(
            base_url=world.server.url, api_key="test-key", middleware=[engine.middleware()]
        ) as client:
            if how == "plain":
                return (await client.messages.create(**ASKED)).id
            async with client.messages.stream(**ASKED) as events:
                return (await events.get_final_message()).id

    return await asyncio.wait_for(asyncio.to_thread(lambda: asyncio.run(work())), 20)


@pytest.mark.parametrize("how", ["plain", "stream"])
async def test_a_thread_with_an_event_loop_of_its_own_asks_in_the_run(
    world: World, engine: Engine, how: str
) -> None:
    said = []
    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (run := engine.run("framework", "go")):
                said.append(await from_another_loop(world, engine, how))
        assert run.result.identical
    assert said[0] == said[1]
    assert world.server.requests == 1


async def test_a_synchronous_stream_that_is_read_in_the_event_loop_waits_for_nobody(
    world: World, engine: Engine
) -> None:
    async with engine:
        run = engine.run("framework", "go")
        with Anthropic(
            base_url=world.server.url, api_key="test-key", middleware=[engine.middleware()]
        ) as client:

            def begin() -> Any:
                return client.messages.create(**ASKED, stream=True)

            for _ in range(2):
                async with (run := engine.run("framework", "go")):
                    assert len(list(await asyncio.to_thread(begin))) == EVENTS - 1  # but the ping
        assert run.result.identical
    assert world.server.requests == 1


async def test_a_run_that_ends_while_a_stream_is_being_recorded_waits_for_it(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    """Whoever leaves it second would else record a reply that says nothing."""
    async with engine:
        run = engine.run("framework", "go")
        for _ in range(2):
            async with (run := engine.run("framework", "go")):
                stream = await client.messages.create(**ASKED, stream=True)
                reading = asyncio.create_task(_all_of(stream))
                while not any(it.finished for it in _under_way(run)):
                    await asyncio.sleep(0)
                    if reading.done():
                        break
            await reading
        assert run.result.identical
    assert world.server.requests == 1


async def _all_of(stream: Any) -> list[Any]:
    return [event async for event in stream]


def _under_way(run: Any) -> list[Any]:
    return [work.__self__ for work in run._before_end]


@pytest.mark.parametrize("way", ["asked", "passed"])
async def test_a_streaming_response_tells_how_long_it_took(
    world: World, engine: Engine, client: AsyncAnthropic, way: str
) -> None:
    async def read() -> Any:
        async with client.messages.with_streaming_response.create(**ASKED, stream=True) as response:
            assert [line async for line in response.iter_lines()]
            return response.elapsed.total_seconds()

    def of_a_thread() -> Any:
        with (
            Anthropic(
                base_url=world.server.url, api_key="test-key", middleware=[engine.middleware()]
            ) as made,
            made.messages.with_streaming_response.create(**ASKED, stream=True) as response,
        ):
            assert list(response.iter_lines())
            return response.elapsed.total_seconds()

    def elsewhere() -> Any:
        return contextvars.Context().run(of_a_thread)

    async with engine:
        for number in range(2):
            async with engine.run("framework", "go"):
                took = await (read() if way == "asked" else asyncio.to_thread(elsewhere))
            assert (took > 0) == (number == 0 or way == "passed")
