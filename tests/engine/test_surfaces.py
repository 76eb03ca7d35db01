"""Each way in which the SDK asks a model: what the first run asks, the second one is served."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_async_tool, beta_tool
from pydantic import BaseModel

from execgraph import Engine, Result
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.tests.models import MODEL

from .conftest import World, results, turn

HI: Any = [{"role": "user", "content": "hi"}]
PAGE = Path(__file__).parents[2] / "docs" / "programs.md"


class Weather(BaseModel):
    """A structured output."""

    city: str
    degrees: int


def brain(body: dict[str, Any]) -> Answer:
    if body.get("tools") and turn(body) == 0:
        return Answer([text("Let me look."), call("look", {"page": 7})])
    degrees = results(body)[-1] if turn(body) else -3
    return Answer([text(f'{{"city": "Oslo", "degrees": {degrees}}}')])


# The surfaces ------------------------------------------------------------------------------
# Each is given the SDK's ``messages`` and what is asked, and gives what it was told.

STREAMED: Any = {"stream": True}


def look(page: int) -> str:
    """Look at a page."""
    return str(page)


async def created(messages: Any, asked: dict[str, Any]) -> Any:
    return await messages.create(**asked)


def created_sync(messages: Any, asked: dict[str, Any]) -> Any:
    return messages.create(**asked)


async def events(messages: Any, asked: dict[str, Any]) -> Any:
    return [event async for event in await messages.create(**asked, **STREAMED)]


def events_sync(messages: Any, asked: dict[str, Any]) -> Any:
    return list(messages.create(**asked, **STREAMED))


async def helper(messages: Any, asked: dict[str, Any]) -> Any:
    async with messages.stream(**asked) as stream:
        return [event async for event in stream], await stream.get_final_message()


def helper_sync(messages: Any, asked: dict[str, Any]) -> Any:
    with messages.stream(**asked) as stream:
        return list(stream), stream.get_final_message()


async def parsed(messages: Any, asked: dict[str, Any]) -> Any:
    return (await messages.parse(**asked, output_format=Weather)).parsed_output


def parsed_sync(messages: Any, asked: dict[str, Any]) -> Any:
    return messages.parse(**asked, output_format=Weather).parsed_output


async def parsed_stream(messages: Any, asked: dict[str, Any]) -> Any:
    async with messages.stream(**asked, output_format=Weather) as stream:
        return (await stream.get_final_message()).parsed_output


def parsed_stream_sync(messages: Any, asked: dict[str, Any]) -> Any:
    with messages.stream(**asked, output_format=Weather) as stream:
        return stream.get_final_message().parsed_output


async def raw(messages: Any, asked: dict[str, Any]) -> Any:
    response = await messages.with_raw_response.create(**asked)
    return await response.parse(), response.request_id


def raw_sync(messages: Any, asked: dict[str, Any]) -> Any:
    response = messages.with_raw_response.create(**asked)
    return response.parse(), response.request_id


async def raw_events(messages: Any, asked: dict[str, Any]) -> Any:
    response = await messages.with_raw_response.create(**asked, **STREAMED)
    return [event async for event in await response.parse()], response.request_id


def raw_events_sync(messages: Any, asked: dict[str, Any]) -> Any:
    response = messages.with_raw_response.create(**asked, **STREAMED)
    return list(response.parse()), response.request_id


async def streaming(messages: Any, asked: dict[str, Any]) -> Any:
    async with messages.with_streaming_response.create(**asked) as response:
        return await response.parse()


def streaming_sync(messages: Any, asked: dict[str, Any]) -> Any:
    with messages.with_streaming_response.create(**asked) as response:
        return response.parse()


async def streaming_events(messages: Any, asked: dict[str, Any]) -> Any:
    async with messages.with_streaming_response.create(**asked, **STREAMED) as response:
        return [line async for line in response.iter_lines()]


def streaming_events_sync(messages: Any, asked: dict[str, Any]) -> Any:
    with messages.with_streaming_response.create(**asked, **STREAMED) as response:
        return list(response.iter_lines())


async def a_look(page: int) -> str:
    """Look at a page."""
    return look(page)


async def ran(messages: Any, asked: dict[str, Any]) -> Any:
    tools = [beta_async_tool(a_look, name="look")]
    return [it async for it in messages.tool_runner(**asked, tools=tools)][-1].content


def ran_sync(messages: Any, asked: dict[str, Any]) -> Any:
    return list(messages.tool_runner(**asked, tools=[beta_tool(look)]))[-1].content


async def ran_alone(messages: Any, asked: dict[str, Any]) -> Any:
    return await ran(messages, {**asked, "thread": False})


def ran_alone_sync(messages: Any, asked: dict[str, Any]) -> Any:
    return ran_sync(messages, {**asked, "thread": False})


async def ran_streams(messages: Any, asked: dict[str, Any]) -> Any:
    tools = [beta_async_tool(a_look, name="look")]
    streams = messages.tool_runner(**asked, tools=tools, **STREAMED)
    return [(await it.get_final_message()).content async for it in streams]


def ran_streams_sync(messages: Any, asked: dict[str, Any]) -> Any:
    streams = messages.tool_runner(**asked, tools=[beta_tool(look)], **STREAMED)
    return [it.get_final_message().content for it in streams]


class Surface(NamedTuple):
    """One way to ask. ``requests``: of a first run; ``beta``: only that API has it."""

    name: str
    ask: Callable[[Any, dict[str, Any]], Any]
    ask_sync: Callable[[Any, dict[str, Any]], Any]
    requests: int = 1
    beta: bool = False


SURFACES = [
    Surface("create(...)", created, created_sync),
    Surface("create(..., stream=True)", events, events_sync),
    Surface("stream(...)", helper, helper_sync),
    Surface("parse(..., output_format=...)", parsed, parsed_sync),
    Surface("stream(..., output_format=...)", parsed_stream, parsed_stream_sync),
    Surface("with_raw_response.create(...)", raw, raw_sync),
    Surface("with_raw_response.create(..., stream=True)", raw_events, raw_events_sync),
    Surface("with_streaming_response.create(...)", streaming, streaming_sync),
    Surface(
        "with_streaming_response.create(..., stream=True)", streaming_events, streaming_events_sync
    ),
    Surface("tool_runner(...)", ran, ran_sync, 2, beta=True),
    Surface("tool_runner(..., thread=False)", ran_alone, ran_alone_sync, 2, beta=True),
    Surface("tool_runner(..., stream=True)", ran_streams, ran_streams_sync, 2, beta=True),
]
ROWS = [
    (surface, api)
    for surface in SURFACES
    for api in ("messages", "beta")
    if api == "beta" or not surface.beta
]
EXPECTED = {(it.name, api): (it.requests, 0, "the same") for it, api in ROWS}

# How they are called -----------------------------------------------------------------------

Told = tuple[Any, Result]


class Caller:
    """Asks in runs of a program, each of which is one of a task of its own."""

    def __init__(self, world: World, engine: Engine) -> None:
        self.world = world
        self.engine = engine
        settings: Any = {"base_url": world.server.url, "api_key": "k", "max_retries": 0}
        self.client = AsyncAnthropic(**settings, middleware=[engine.middleware()])
        self.sync_client = Anthropic(**settings, middleware=[engine.middleware()])

    async def close(self) -> None:
        await self.client.close()
        self.sync_client.close()

    def messages(self, client: Any, api: str) -> Any:
        return client.messages if api == "messages" else client.beta.messages

    def asked(self, surface: Surface, api: str) -> tuple[str, dict[str, Any]]:
        return f"{surface.name} {api}", {"model": MODEL, "max_tokens": 99, "messages": HI}

    async def in_the_event_loop(self, surface: Surface, api: str) -> Told:
        task, asked = self.asked(surface, api)
        async with self.engine.run("p", task) as run:
            told = await surface.ask(self.messages(self.client, api), asked)
        return told, run.result

    async def in_a_loop_of_a_thread(self, surface: Surface, api: str) -> Told:
        """An event loop of its own in another thread, with a client of its own."""
        task, asked = self.asked(surface, api)

        async def ask() -> Any:
            settings: Any = {"base_url": self.world.server.url, "api_key": "k", "max_retries": 0}
            middleware = [self.engine.middleware()]
            async with AsyncAnthropic(**settings, middleware=middleware) as client:
                return await surface.ask(self.messages(client, api), asked)

        async with self.engine.run("p", task) as run:
            told = await asyncio.to_thread(lambda: asyncio.run(ask()))
        return told, run.result

    async def by_a_thread_of_a_run(self, surface: Surface, api: str) -> Told:
        task, asked = self.asked(surface, api)
        messages = self.messages(self.sync_client, api)
        async with self.engine.run("p", task) as run:
            told = await asyncio.to_thread(surface.ask_sync, messages, asked)
        return told, run.result

    async def without_an_event_loop(self, surface: Surface, api: str) -> Told:
        return await asyncio.to_thread(self._in_a_synchronous_run, surface, api, None)

    async def by_a_pool_of_threads(self, surface: Surface, api: str) -> Told:
        with ThreadPoolExecutor(1) as pool:
            return await asyncio.to_thread(self._in_a_synchronous_run, surface, api, pool)

    def _in_a_synchronous_run(
        self, surface: Surface, api: str, pool: ThreadPoolExecutor | None
    ) -> Told:
        task, asked = self.asked(surface, api)
        messages = self.messages(self.sync_client, api)
        with self.engine.sync() as e, e.run("p", task) as run:
            if pool is None:
                told = surface.ask_sync(messages, asked)
            else:
                context = contextvars.copy_context()
                told = pool.submit(context.run, surface.ask_sync, messages, asked).result()
        return told, run.result


WAYS = [
    Caller.in_the_event_loop,
    Caller.in_a_loop_of_a_thread,
    Caller.by_a_thread_of_a_run,
    Caller.without_an_event_loop,
    Caller.by_a_pool_of_threads,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda it: it.__name__)
async def test_whatever_way_a_program_asks_its_second_run_is_served(
    world: World, way: Callable[..., Any]
) -> None:
    world.think(brain)
    engine = world.engine()
    caller = Caller(world, engine)
    table = {}
    async with engine:
        for surface, api in ROWS:
            told, requests, identical = [], [], False
            for _ in range(2):
                before = world.server.requests
                said, result = await way(caller, surface, api)
                requests.append(world.server.requests - before)
                told.append(said)
                identical = result.identical
            same = "the same" if told[0] == told[1] and identical else told
            table[surface.name, api] = (*requests, same)
    await caller.close()
    assert table == EXPECTED


@pytest.mark.parametrize("face", ["async", "sync"])
async def test_an_agent_is_served(world: World, face: str) -> None:
    world.think(brain)
    engine = world.engine()
    tools = [engine.tool(effect="read")(look)]
    settings: Any = {"model": MODEL, "max_tokens": 64_000}  # the SDK demands a stream for so many

    def by_the_sync_face() -> Result:
        with engine.sync() as e:
            return e.agent("deployer", client=client, tools=tools, **settings).execute("go")

    agent = engine.agent("deployer", client=world.client, tools=tools, **settings)
    table = []
    async with AsyncAnthropic(base_url=world.server.url, api_key="k") as client, engine:
        for _ in range(2):
            before = world.server.requests
            if face == "sync":
                result = await asyncio.to_thread(by_the_sync_face)
            else:
                result = await agent.execute("go")
            table.append((world.server.requests - before, result.output))
    assert table == [(2, '{"city": "Oslo", "degrees": 7}'), (0, '{"city": "Oslo", "degrees": 7}')]


def test_the_page_has_each_surface_with_its_requests() -> None:
    [section] = re.findall(
        r"^## In a framework$(.*?)^## ", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    rows = re.findall(r"^\| `([^|]*)` \| (\d)[^|]* \| (\d) \|$", section, re.MULTILINE)
    assert rows == [(it.name, str(it.requests), "0") for it in SURFACES]
