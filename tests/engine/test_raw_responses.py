"""What the SDK tells of a response beside its message works for a served one, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic

from execgraph import Engine
from execgraph.adapters.anthropic.events import REQUEST_ID
from execgraph.adapters.messages_api import Answer, text
from execgraph.graphstore.canonical import decode
from execgraph.tests.models import MODEL

from .conftest import World

ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}


@pytest.fixture
def engine(world: World) -> Engine:
    world.think(lambda _: Answer([text("hello, and more of it than fits into one event")]))
    return world.engine()


def seen(response: Any) -> dict[str, Any]:
    """What a program reads of a response that it has read to its end."""
    assert response.elapsed.total_seconds() >= 0
    assert response.http_request.method == response.method == "POST"
    assert response.is_closed
    return {
        "status": response.status_code,
        "kind": response.headers["content-type"],
        "id": response.headers["request-id"],
        "request_id": response.request_id,
        "retries": response.retries_taken,
        "version": response.http_version,
        "path": response.url.path,
    }


async def raw_plain(client: AsyncAnthropic) -> Any:
    response: Any = await client.messages.with_raw_response.create(**ASKED)
    message = await response.parse()
    return seen(response), message, message._request_id


async def raw_stream(client: AsyncAnthropic) -> Any:
    response: Any = await client.messages.with_raw_response.create(**ASKED, stream=True)
    events = [event async for event in await response.parse()]
    return seen(response), events


async def streaming_plain(client: AsyncAnthropic) -> Any:
    async with client.messages.with_streaming_response.create(**ASKED) as response:
        message: Any = await response.parse()
        return seen(response), message, message._request_id, await response.json()


async def streaming_stream(client: AsyncAnthropic) -> Any:
    async with client.messages.with_streaming_response.create(**ASKED, stream=True) as response:
        pieces = [piece async for piece in response.iter_text()]
        return seen(response), "".join(pieces)


async def helper(client: AsyncAnthropic) -> Any:
    async with client.messages.stream(**ASKED) as stream:
        message: Any = await stream.get_final_message()
        return stream.request_id, stream.response.headers["request-id"], message


async def plain(client: AsyncAnthropic) -> Any:
    message: Any = await client.messages.create(**ASKED)
    return message, message._request_id


def sync_raw_plain(client: Anthropic) -> Any:
    response: Any = client.messages.with_raw_response.create(**ASKED)
    message = response.parse()
    return seen(response), message, message._request_id


def sync_raw_stream(client: Anthropic) -> Any:
    response: Any = client.messages.with_raw_response.create(**ASKED, stream=True)
    return list(response.parse()), seen(response)


def sync_streaming_plain(client: Anthropic) -> Any:
    with client.messages.with_streaming_response.create(**ASKED) as response:
        return response.parse(), seen(response)


def sync_streaming_stream(client: Anthropic) -> Any:
    with client.messages.with_streaming_response.create(**ASKED, stream=True) as response:
        return "".join(response.iter_text()), seen(response)


def sync_helper(client: Anthropic) -> Any:
    with client.messages.stream(**ASKED) as stream:
        return stream.get_final_message(), stream.request_id


ASYNC = [raw_plain, raw_stream, streaming_plain, streaming_stream, helper, plain]
SYNC = [
    sync_raw_plain,
    sync_raw_stream,
    sync_streaming_plain,
    sync_streaming_stream,
    sync_helper,
]


@pytest.mark.parametrize("read", ASYNC)
async def test_a_served_response_tells_what_the_recorded_one_told(
    world: World, engine: Engine, client: AsyncAnthropic, read: Callable[[Any], Any]
) -> None:
    told = []
    async with engine:
        for _ in range(2):
            async with engine.run("framework", "go"):
                told.append(await read(client))
    assert world.server.requests == 1
    assert told[0] == told[1]


@pytest.mark.parametrize("read", SYNC)
async def test_so_does_one_of_the_synchronous_client(
    world: World, engine: Engine, read: Callable[[Any], Any]
) -> None:
    def work() -> list[Any]:
        told = []
        settings: Any = {"base_url": world.server.url, "api_key": "test-key"}
        with (
            Anthropic(**settings, middleware=[engine.middleware()]) as client,
            engine.sync() as e,
        ):
            for _ in range(2):
                with e.run("framework", "go"):
                    told.append(read(client))
        return told

    first, again = await asyncio.to_thread(work)
    assert world.server.requests == 1
    assert first == again


async def test_what_was_streamed_has_its_id_when_it_serves_a_plain_call(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    async with engine:
        async with engine.run("framework", "go"):
            streamed = await helper(client)
        async with engine.run("framework", "go"):
            served = await plain(client)
    assert served[1] == streamed[0] is not None
    assert world.server.requests == 1


async def test_a_reply_whose_id_is_not_recorded_has_none(
    world: World, engine: Engine, client: AsyncAnthropic
) -> None:
    """As replies have that an agent, or ``run.decide``, has got."""
    async with engine:
        async with engine.run("framework", "go", client=world.client) as run:
            await run.decide(ASKED)
        async with engine.run("framework", "go") as run:
            message: Any = await client.messages.create(**ASKED)
            response = await client.messages.with_raw_response.create(**{**ASKED, "max_tokens": 11})
        assert run.result.saved_tokens > 0
    assert message._request_id is None
    assert response.request_id is not None
    assert world.server.requests == 2


@pytest.mark.parametrize("read", [plain, helper])
async def test_how_a_reply_came_is_no_part_of_what_a_program_gets_of_it(
    world: World, engine: Engine, client: AsyncAnthropic, read: Callable[[Any], Any]
) -> None:
    async with engine:
        async with engine.run("framework", "go") as run:
            await read(client)
        kept = await engine.session().store.execution(run.execution_id)
        assert kept is not None
        output = kept.steps[0].output
        (data,) = (await engine.session().store.values([output])).values()
        reply = decode(data)
        assert isinstance(reply, Mapping)
        assert reply[REQUEST_ID].startswith("req_")
        async with engine.run("framework", "go", client=world.client) as run:
            served = (await run.decide(ASKED)).value
    assert not [field for field in served if field.startswith("execgraph")]
