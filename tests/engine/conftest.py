"""A small world for engine tests: a scripted model over HTTP, tools that count, both stores."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import Engine, Result
from execgraph.adapters.messages_api import Answer, Brain, MessagesServer
from execgraph.engine.agent import Agent
from execgraph.tests.models import MODEL


def results(body: dict[str, Any]) -> list[Any]:
    """The outputs of all tool calls in a conversation, in order; JSON is decoded."""
    blocks = [
        block
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    return [_decoded(block["content"]) for block in blocks]


def turn(body: dict[str, Any]) -> int:
    """How many replies the model has given in this conversation."""
    return sum(message["role"] == "assistant" for message in body["messages"])


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass
class World:
    """The model, the store, and what the tools did. ``script`` is what the model thinks."""

    url: str
    namespace: str
    server: MessagesServer
    client: AsyncAnthropic
    script: list[Callable[[dict[str, Any]], Answer]]
    done: list[str] = field(default_factory=list)

    def think(self, brain: Brain) -> None:
        self.script[:] = [brain]

    def engine(self, **settings: Any) -> Engine:
        return Engine(self.url, **{"namespace": self.namespace, **settings})

    def agent(self, engine: Engine, tools: list[Any], **settings: Any) -> Agent:
        chosen = {"model": MODEL, "system": "You deploy.", "client": self.client, **settings}
        return engine.agent(chosen.pop("name", "deployer"), tools=tools, **chosen)

    async def count(self, work: Any) -> tuple[Any, int, list[str]]:
        """What ``work`` gives, how often it asked the model, and what the tools did."""
        self.done.clear()
        before = self.server.requests
        outcome = await work
        return outcome, self.server.requests - before, list(self.done)

    def from_outside(self, change: Callable[[Any], Any]) -> None:
        """Let another process's engine change facts now; callable from any thread."""
        with self.engine().sync() as other:
            change(other)


@pytest.fixture(scope="session")
def leaving() -> Iterator[ThreadPoolExecutor]:
    """Where servers come to their ends while the next tests run already."""
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def server(leaving: ThreadPoolExecutor) -> Iterator[tuple[MessagesServer, list[Any]]]:
    script: list[Any] = []

    def think(body: dict[str, Any]) -> Answer:
        answer: Answer = script[0](body)
        return answer

    running = MessagesServer(think, keep_bodies=True).__enter__()
    try:
        yield running, script
    finally:
        leaving.submit(running.__exit__, None, None, None)


@pytest.fixture
async def world(url: str, server: tuple[MessagesServer, list[Any]]) -> AsyncIterator[World]:
    running, script = server
    async with AsyncAnthropic(base_url=running.url, api_key="test-key", max_retries=2) as client:
        yield World(url, f"test-{uuid.uuid4().hex[:12]}", running, client, script)
    await asyncio.sleep(0)


@pytest.fixture
async def client(world: World, engine: Engine) -> AsyncIterator[AsyncAnthropic]:
    """A client as a framework would have it, of the module's own ``engine``."""
    async with AsyncAnthropic(
        base_url=world.server.url,
        api_key="test-key",
        middleware=[engine.middleware()],
        max_retries=2,
    ) as made:
        yield made


def outcomes(result: Result) -> list[tuple[str, str]]:
    """Name and outcome of each step; a decision's name is ``?``."""
    return [
        ("?" if step.kind == "decision" else step.name, str(step.outcome)) for step in result.steps
    ]


def misses(result: Result) -> list[str]:
    return [str(cause.kind) for cause in result.miss]
