"""Any framework on the Anthropic SDK: its calls inside a run are decisions of that run."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic, Middleware, beta_async_tool
from typing_extensions import override

from execgraph import ConfigurationError, Engine
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.tests.models import MODEL, OTHER_MODEL

from .conftest import World, misses, outcomes, results, turn

HI: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def engine(world: World) -> Engine:
    world.think(lambda body: Answer([text(f"I heard {body['messages'][-1]['content']}")]))
    return world.engine()


def words(message: Any) -> str:
    said: str = message.content[0].text
    return said


async def test_a_call_inside_a_run_is_recorded_and_replayed_as_it_was(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async with engine:
        seen = []
        run = engine.run("framework", "go")
        for expected in (1, 0, 0):
            before = world.server.requests
            async with (run := engine.run("framework", "go")):
                message = await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
                seen.append(message)
                run.output = words(message)
            assert world.server.requests - before == expected
        assert seen[0] == seen[1] == seen[2], "ids and usage too"
        assert seen[0].usage.output_tokens > 0
        assert run.result.identical
        assert (run.result.tokens, run.result.saved_tokens) == (
            0,
            seen[0].usage.input_tokens + seen[0].usage.output_tokens,
        )
    elsewhere = world.engine()
    async with elsewhere, elsewhere.run("framework", "go") as run:
        again = await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
        assert again == seen[0]
    assert run.result.replayed


async def test_a_raw_response_has_the_recorded_bytes(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async with engine:
        bodies = []
        for _ in range(2):
            async with engine.run("framework", "go"):
                raw = await client.messages.with_raw_response.create(
                    model=MODEL, max_tokens=10, messages=HI
                )
                assert raw.status_code == 200
                assert raw.headers["content-type"] == "application/json"
                bodies.append(await raw.read())
                assert words(await raw.parse()) == "I heard hi"
        assert world.server.requests == 1
        assert bodies[0] == bodies[1]


async def test_the_synchronous_client_is_recorded_in_a_synchronous_run(
    world: World, engine: Engine
) -> None:
    def work() -> list[Any]:
        seen = []
        with (
            Anthropic(
                base_url=world.server.url, api_key="test-key", middleware=[engine.middleware()]
            ) as client,
            engine.sync() as e,
        ):
            for identical in (False, True):
                with e.run("framework", "go") as run:
                    seen.append(client.messages.create(model=MODEL, max_tokens=10, messages=HI))
                    raw = client.messages.with_raw_response.create(
                        model=MODEL, max_tokens=11, messages=HI
                    )
                    seen.append(raw.parse())
                assert run.result.identical == identical
        return seen

    a, b, c, d = await asyncio.to_thread(work)
    assert (a, b) == (c, d)
    assert world.server.requests == 2


async def test_the_synchronous_client_is_refused_where_it_would_block_the_run(
    world: World, engine: Engine
) -> None:
    with Anthropic(
        base_url=world.server.url, api_key="test-key", middleware=[engine.middleware()]
    ) as client:
        async with engine, engine.run("framework", "go"):
            with pytest.raises(ConfigurationError, match="would block the event loop"):
                client.messages.create(model=MODEL, max_tokens=10, messages=HI)
            message = await asyncio.to_thread(
                client.messages.create, model=MODEL, max_tokens=10, messages=HI
            )
            assert words(message) == "I heard hi"


async def test_retries_are_counted_once_and_are_no_answers(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async with engine:
        world.server.fail(529, times=2)
        async with engine.run("framework", "go") as run:
            await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
            assert world.server.requests == 3
        assert len(run.result.steps) == 1
        assert run.result.tokens == world.server.counts.tokens
        assert run.result.recorded
        async with engine.run("framework", "go") as run:
            await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
        assert world.server.requests == 3
        assert run.result.identical


async def test_errors_of_the_service_reach_the_program_as_the_sdk_s_own(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async with engine:
        async with engine.run("framework", "go") as run:
            world.server.fail(400, message="too long")
            with pytest.raises(anthropic.BadRequestError, match="too long") as failure:
                await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
            assert failure.value.request_id is not None
            world.server.fail(529, times=3)
            with pytest.raises(anthropic.APIStatusError, match="injected"):
                await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
            message = await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
            assert words(message) == "I heard hi"
        assert len(run.result.steps) == 1
        before = world.server.requests
        async with engine.run("framework", "go"):
            await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
        assert world.server.requests == before


async def test_an_unreachable_service_is_the_sdk_s_own_error(world: World, engine: Engine) -> None:
    async with (
        AsyncAnthropic(
            base_url="http://127.0.0.1:9",
            api_key="k",
            max_retries=0,
            middleware=[engine.middleware()],
        ) as away,
        engine,
        engine.run("framework", "go") as run,
    ):
        with pytest.raises(anthropic.APIConnectionError):
            await away.messages.create(model=MODEL, max_tokens=10, messages=HI)
        assert run.running.steps == []


async def test_outside_of_any_run_calls_pass_or_are_refused(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    settings: Any = {"base_url": world.server.url, "api_key": "test-key"}
    message = await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
    assert words(message) == "I heard hi", "the engine need not even be open"
    async with (
        engine,
        AsyncAnthropic(**settings, middleware=[engine.middleware(outside="raise")]) as strict,
    ):
        with pytest.raises(ConfigurationError, match="outside any run"):
            await strict.messages.create(model=MODEL, max_tokens=10, messages=HI)
        async with engine.run("framework", "go"):
            await strict.messages.create(model=MODEL, max_tokens=10, messages=HI)
        with pytest.raises(ConfigurationError, match="outside any run"):
            await strict.messages.create(model=MODEL, max_tokens=10, messages=HI)
        await strict.messages.count_tokens(model=MODEL, messages=HI)
        assert world.server.requests == 2
    with pytest.raises(ConfigurationError, match="outside='no' is unknown"):
        engine.middleware(outside="no")  # type: ignore[arg-type]


async def test_counting_tokens_is_no_decision(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async with engine:
        async with engine.run("framework", "go") as run:
            counted = await client.messages.count_tokens(model=MODEL, messages=HI)
            assert counted.input_tokens > 0
        assert run.result.steps == ()
        assert (world.server.counts.token_counts, world.server.requests) == (1, 0)


async def test_the_beta_header_can_change_an_answer(world: World, engine: Engine) -> None:
    async def ask(beta: str | None) -> int:
        before = world.server.requests
        headers = {} if beta is None else {"Anthropic-Beta": beta}
        async with (
            AsyncAnthropic(
                base_url=world.server.url,
                api_key="test-key",
                middleware=[engine.middleware()],
            ) as client,
            engine.run("framework", "go"),
        ):
            await client.messages.create(
                model=MODEL,
                max_tokens=10,
                messages=HI,
                extra_headers=headers,
            )
        return world.server.requests - before

    async with engine:
        assert [await ask(it) for it in (None, "a", "b", None, "a", "b")] == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("setting", ["default_headers", "default_query"])
@pytest.mark.parametrize("others", [0, 1])
async def test_what_a_client_adds_to_every_call_can_change_an_answer(
    world: World, engine: Engine, setting: str, others: int
) -> None:
    """The SDK hides the client from middleware; `others` stand between it and ours."""

    class Passing(Middleware):
        @override
        async def handle_async(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

    async def ask(value: str) -> int:
        before = world.server.requests
        added: Any = {setting: {"anthropic-beta": value}}
        chain = [engine.middleware(), *(Passing() for _ in range(others))]
        async with (
            AsyncAnthropic(
                base_url=world.server.url, api_key="test-key", middleware=chain, **added
            ) as client,
            engine.run("framework", setting),
        ):
            await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
        return world.server.requests - before

    async with engine:
        assert [await ask(it) for it in ("a", "b", "a", "b")] == [1, 1, 0, 0]


async def test_what_an_agents_client_adds_to_every_call_can_change_an_answer(
    world: World, engine: Engine
) -> None:
    async def ask(value: str) -> int:
        before = world.server.requests
        headers = {"anthropic-beta": value}
        async with AsyncAnthropic(
            base_url=world.server.url, api_key="test-key", default_headers=headers
        ) as client:
            await world.agent(engine, [], client=client).execute("hi")
        return world.server.requests - before

    async with engine:
        assert [await ask(it) for it in ("a", "b", "a", "b")] == [1, 1, 0, 0]


@pytest.mark.parametrize("extra", ["extra_body", "extra_query"])
async def test_what_one_call_adds_can_change_its_answer(
    world: World, engine: Engine, client: AsyncAnthropic, extra: str
) -> None:
    async def ask(value: str) -> int:
        before = world.server.requests
        more: Any = {extra: {"field": value}}
        async with engine.run("framework", extra):
            await client.messages.create(model=MODEL, max_tokens=10, messages=HI, **more)
        return world.server.requests - before

    async with engine:
        assert [await ask(it) for it in ("a", "b", "a", "b")] == [1, 1, 0, 0]


async def test_what_cannot_change_an_answer_is_no_part_of_a_request(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    hint = {"cache_control": {"type": "ephemeral"}}
    async with engine:
        for number in range(2):
            more = hint if number else {}
            block: Any = {"type": "text", "text": "hi", **more}
            tool: Any = {"name": "t", "input_schema": {"type": "object"}, **more}
            async with engine.run("framework", "go"):
                await client.messages.create(
                    model=MODEL,
                    max_tokens=10,
                    system=[block],
                    tools=[tool],
                    messages=[{"role": "user", "content": [block] if number else "hi"}],
                    extra_headers={"x-trace": str(number)},
                    timeout=30 + number,
                )
        assert world.server.requests == 1


async def test_what_can_change_an_answer_is_part_of_a_request(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"max_tokens": 11},
        {"model": OTHER_MODEL},
        {"system": "Be brief."},
        {"stop_sequences": ["x"]},
        {"extra_body": {"temperature": 0}},
        {"messages": [{"role": "user", "content": "ho"}]},
        {"messages": [*HI, {"role": "assistant", "content": "I heard"}]},
    ]
    async with engine:
        for _ in range(2):
            async with engine.run("framework", "go"):
                for variant in variants:
                    await client.messages.create(
                        **{"model": MODEL, "max_tokens": 10, "messages": HI, **variant}
                    )
        assert world.server.requests == len(variants)


async def test_images_and_blocks_of_the_sdk_s_own_types_are_recorded(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([text("Let me look."), call("look", {"at": "it"})])
        return Answer([text(f"It is {results(body)[-1]}.")])

    world.think(brain)

    async def work(pixels: bytes) -> str:
        source = {
            "type": "base64",
            "media_type": "image/png",
            "data": base64.b64encode(pixels).decode(),
        }
        tool: Any = {"name": "look", "input_schema": {"type": "object"}}
        messages: list[Any] = [{"role": "user", "content": [{"type": "image", "source": source}]}]
        async with engine.run("framework", "go") as run:
            first = await client.messages.create(
                model=MODEL, max_tokens=10, tools=[tool], messages=messages
            )
            used = first.content[1]
            assert used.type == "tool_use"
            messages.append({"role": "assistant", "content": first.content})
            result = {"type": "tool_result", "tool_use_id": used.id, "content": "blue"}
            messages.append({"role": "user", "content": [result]})
            last = await client.messages.create(
                model=MODEL, max_tokens=10, tools=[tool], messages=messages
            )
            run.output = words(last)
        return words(last)

    async with engine:
        for pixels, expected in ((b"\x89PNG", 2), (b"\x89PNG", 2), (b"other", 4), (b"other", 4)):
            assert await work(pixels) == "It is blue."
            assert world.server.requests == expected


async def test_messages_changed_in_place_give_no_stale_answer(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async with engine:
        for expected in (3, 3):
            messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
            heard = []
            async with engine.run("framework", "go"):
                for said in "abc":
                    messages[0]["content"][0]["text"] = said
                    answer = await client.messages.create(
                        model=MODEL, max_tokens=10, messages=messages
                    )
                    heard.append(words(answer)[-4:-2])
            assert heard == ["a'", "b'", "c'"]
            assert world.server.requests == expected


async def test_what_the_program_does_with_a_reply_changes_no_recording(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async with engine:
        for _ in range(3):
            async with engine.run("framework", "go"):
                message = await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
                assert words(message) == "I heard hi"
                message.content.clear()
        assert world.server.requests == 1


async def test_a_tool_runner_of_the_sdk_is_replayed(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("add", {"a": 1, "b": 2})])
        return Answer([text(f"It is {results(body)[-1]}.")])

    world.think(brain)

    @beta_async_tool
    async def add(a: int, b: int) -> str:
        """Add."""
        world.done.append("add")
        return str(a + b)

    async with engine:
        for expected in (2, 0):
            before = world.server.requests
            async with engine.run("framework", "go") as run:
                runner = client.beta.messages.tool_runner(
                    model=MODEL, max_tokens=100, tools=[add], messages=HI, thread=False
                )
                final = await runner.until_done()
                assert final.content[0].type == "text"
                assert final.content[0].text == "It is 3."
            assert world.server.requests - before == expected
            assert outcomes(run.result) == [("?", "asked" if expected else "replayed")] * 2
    assert world.done == ["add", "add"], "its tools are its own affair"


async def test_an_agent_whose_client_has_the_middleware_is_recorded_once(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    agent = engine.agent("talker", client=client, model=MODEL)
    async with engine:
        result = await agent.execute("hi")
        assert len(result.steps) == 1
        async with engine.run("outer", "go", client=client) as run:
            inner = await agent.execute("hello")
            reply = await run.decide({"model": MODEL, "max_tokens": 10, "messages": HI})
            await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
        assert len(inner.steps) == 1
        assert len(run.result.steps) == 2, "the agent's is its own"
        assert reply.value["role"] == "assistant"
        assert world.server.requests == 4


async def test_a_task_that_outlives_its_run_is_outside_of_it(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    ended = asyncio.Event()

    async def late() -> Any:
        await ended.wait()
        return await client.messages.create(model=MODEL, max_tokens=10, messages=HI)

    async with engine:
        async with engine.run("framework", "go") as run:
            task = asyncio.create_task(late())
        ended.set()
        assert words(await task) == "I heard hi"
        assert run.result.steps == ()


async def test_concurrent_calls_are_told_apart(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async def one(said: str) -> str:
        message = await client.messages.create(
            model=MODEL, max_tokens=10, messages=[{"role": "user", "content": said}]
        )
        return words(message)

    async with engine:
        for expected in (4, 4):
            async with engine.run("framework", "go") as run:
                heard = await asyncio.gather(*(one(said) for said in ("x", "y", "x", "z")))
            assert heard == ["I heard x", "I heard y", "I heard x", "I heard z"]
            assert world.server.requests == expected
            assert len(run.result.steps) == 4


async def test_a_cut_answer_is_given_and_not_replayed(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    world.think(lambda body: Answer([text("half a sen")], stop_reason="max_tokens"))
    async with engine:
        for expected in (1, 2):
            async with engine.run("framework", "go") as run:
                await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
            assert world.server.requests == expected
            assert "incomplete answer" in misses(run.result)


async def test_no_key_is_stored_or_logged(
    world: World, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="execgraph")
    secret = "sk-ant-very-secret"
    async with (
        engine,
        AsyncAnthropic(
            base_url=world.server.url, api_key=secret, middleware=[engine.middleware()]
        ) as client,
    ):
        async with engine.run("framework", "go") as run:
            await client.messages.create(model=MODEL, max_tokens=10, messages=HI)
        kept = await engine.session().store.execution(run.execution_id)
        assert kept is not None
        values = await engine.session().store.values(
            [digest for step in kept.steps for digest in step.payloads]
        )
        assert all(secret.encode() not in value for value in values.values())
    assert secret not in caplog.text
