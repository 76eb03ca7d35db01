"""Clients of the platforms that serve the models: agents and programs ask and replay by them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anthropic
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from execgraph.adapters.messages_wire import as_events, message

from .conftest import World

MODEL = "claude-somewhere"


@dataclass
class Platform:
    """A service that answers at any address, as the platforms have theirs; what it was asked."""

    url: str = ""
    paths: list[str] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        body = json.loads(await request.body())
        reply = message(
            {"model": MODEL, "messages": body["messages"]}, [{"type": "text", "text": "ok"}], None
        )
        if body.get("stream"):
            return StreamingResponse(_pieces(reply), media_type="text/event-stream")
        return JSONResponse(reply)  # of Bedrock too: of its streams see test_bedrock_frames


async def _pieces(reply: dict[str, Any]) -> AsyncIterator[bytes]:
    for event in as_events(reply):
        yield event


_P = TypeVar("_P", bound=Platform)


@contextmanager
def serving(service: _P) -> Iterator[_P]:
    """Have ``service`` answer over HTTP."""
    app = Starlette(routes=[Route("/{path:path}", service.answer, methods=["POST"])])
    config = uvicorn.Config(app, log_config=None, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        service.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.002)
        yield service
        server.should_exit = True
        thread.join()


@pytest.fixture
def platform() -> Iterator[Platform]:
    with serving(Platform()) as service:
        yield service


Make = Callable[..., Any]
AWS: dict[str, Any] = {"api_key": "key", "aws_region": "eu-west-1"}
CLIENTS: dict[str, tuple[Make, str]] = {
    "Bedrock": (
        lambda **more: anthropic.AsyncAnthropicBedrock(**AWS, **more),
        f"/model/{MODEL}/invoke-with-response-stream",
    ),
    "Bedrock Mantle": (
        lambda **more: anthropic.AsyncAnthropicBedrockMantle(**AWS, **more),
        "/v1/messages",
    ),
    "AWS": (
        lambda **more: anthropic.AsyncAnthropicAWS(workspace_id="w", **AWS, **more),
        "/v1/messages",
    ),
    "Vertex": (
        lambda **more: anthropic.AsyncAnthropicVertex(
            region="eu", project_id="p", access_token="token", **more
        ),
        f"/projects/p/locations/eu/publishers/anthropic/models/{MODEL}:streamRawPredict",
    ),
    "Foundry": (
        lambda **more: anthropic.AsyncAnthropicFoundry(api_key="key", **more),
        "/v1/messages",
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
async def test_an_agent_asks_and_replays_by_the_client_of_a_platform(
    world: World, platform: Platform, name: str
) -> None:
    make, path = CLIENTS[name]
    engine = world.engine()
    async with engine, make(base_url=platform.url) as client:
        agent = engine.agent("platform", model=MODEL, client=client, tools=[])
        first, again = await agent.execute("go"), await agent.execute("go")
    assert first.output == again.output == "ok"
    assert first.tokens > 0
    assert again.identical
    assert platform.paths == [path]


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_program_asks_and_replays_by_the_client_of_a_platform(
    world: World, platform: Platform, name: str
) -> None:
    make, _ = CLIENTS[name]
    engine = world.engine()
    asked: Any = {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    async with engine, make(base_url=platform.url, middleware=[engine.middleware()]) as client:
        run = engine.run("platform", "go")
        for _ in range(2):
            async with (run := engine.run("platform", "go")):
                reply = await client.messages.create(model=MODEL, **asked)
                assert reply.content[0].text == "ok"
        assert run.result.identical
    assert len(platform.paths) == 1
