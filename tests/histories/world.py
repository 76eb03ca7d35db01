"""Real engines on a real store, and the scripted model they ask: what a history is done to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from anthropic import AsyncAnthropic
from pydantic import BeforeValidator
from typing_extensions import override

from execgraph import Engine, Resource, Result
from execgraph.adapters.anthropic.client import AnthropicClient
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.adapters.messages_wire import message
from execgraph.engine.agent import Agent
from execgraph.engine.errors import PreconditionChanged
from execgraph.graphstore.canonical import Json, encode
from execgraph.graphstore.model import Effect
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.watching.watcher import Watcher
from execgraph.tests.models import MODEL

from .between import unwatch_lookup, watch_effects, watch_lookup
from .oracle import Senses, behave
from .script import AGENTS, PROGRAM, REFUSED, TOOLS, Facet, Tool, marked, question, think, tokens

__all__ = ["WATCHED", "Process", "Source", "World", "brain"]

PAST, FUTURE = timedelta(days=-1), timedelta(days=400)
#: What the source of each world has; everything else is pushed.
WATCHED = ("schema:a", "schema:b")


def brain(body: Mapping[str, Any]) -> Answer:
    """The model, as a function of a request to the Messages API."""
    agent = body["system"].split()[0]
    inputs = json.loads(body["messages"][0]["content"][0]["text"])
    rounds = [
        tuple(_decoded(block["content"]) for block in said["content"])
        for said in body["messages"][2::2]
    ]
    reply = think(agent, inputs, rounds)
    content = (
        [text(reply)]
        if isinstance(reply, str)
        else [call(it.tool, dict(it.arguments)) for it in reply]
    )
    return Answer(content, usage=tokens(len(rounds)))


def _decoded(content: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content


class Client(AnthropicClient):
    """Asks over HTTP, or where there is no server the brain itself, in the process."""

    def __init__(self, world: World, given: AsyncAnthropic | None) -> None:
        super().__init__(given)
        self._over_http = given is not None
        self._world = world

    @override
    async def ask(self, request: Mapping[str, Json]) -> bytes:
        await self._world.asked()
        if self._over_http:
            return await super().ask(request)
        answer = brain(request)
        return encode(message(request, answer.content, answer.stop_reason, answer.usage))


class Source:
    """A source whose documents and hints a history sets."""

    name = "scripted"
    max_age = None
    interval = timedelta(days=1)

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.reads = 0
        self.hints: asyncio.Queue[str | None] = asyncio.Queue()

    async def resources(self) -> Sequence[str]:
        return list(self.documents)

    async def read(self, uri: str) -> Any:
        self.reads += 1
        document = self.documents.get(uri)
        if document == "broken":
            raise OSError("it cannot be read")
        return document

    async def changes(self) -> AsyncIterator[str | None]:
        while True:
            yield await self.hints.get()


@dataclass
class Process:
    """An engine with a memory of its own, as another process would have it."""

    engine: Engine
    agents: Mapping[str, Agent]
    stack: AsyncExitStack
    watcher: Watcher | None = None

    @property
    def store(self) -> GraphStore:
        return self.engine.session().store


@dataclass(frozen=True)
class Armed:
    """What is to happen in the middle of an execute of ``process``."""

    point: str
    process: int
    changes: tuple[tuple[str, Any], ...]


@dataclass
class World:
    """One store with two processes; ``done``: the tools that ran, with their arguments."""

    url: str
    namespace: str
    client: AsyncAnthropic | None = None  # None: the model is asked without HTTP
    readings: dict[str, int] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    done: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    calls: int = 0
    source: Source = field(default_factory=Source)
    code: list[dict[str, str]] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    meanwhile: Armed | None = None

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    async def open(self, code: Sequence[Mapping[str, str]]) -> None:
        self.code = [dict(it) for it in code]
        self.processes = [await self._start(number) for number in range(len(code))]

    async def close(self) -> None:
        for process in self.processes:
            await process.stack.aclose()
        self.processes = []

    async def restart(self, number: int) -> None:
        """End a process and start it again, with the code of now."""
        await self.processes[number].stack.aclose()
        self.processes[number] = await self._start(number)

    async def _start(self, number: int) -> Process:
        engine = Engine(self.url, namespace=self.namespace)
        code = self.code[number]
        tools = {name: self._declare(engine, TOOLS[name][code[name]]) for name in TOOLS}
        agents = {
            it.name: engine.agent(
                it.name,
                client=Client(self, self.client),
                model=MODEL,
                system=f"{it.name} {code['agents']}",
                tools=[tools[name] for name in it.tools],
                requires=[_resource(facet) for facet in it.requires],
            )
            for it in AGENTS.values()
        }
        stack = AsyncExitStack()
        await stack.enter_async_context(engine)
        process = Process(engine, agents, stack)
        watch_effects(self, process.store)
        if number == 0:
            process.watcher = await stack.enter_async_context(engine.watch([self.source]))
        return process

    def _declare(self, engine: Engine, tool: Tool) -> Any:
        def ran(**arguments: Any) -> Any:
            self.done.append((tool.name, tuple(arguments.values())))
            return behave(tool, arguments, Senses(self.readings, self.documents.get))

        async def probe(name: str) -> int:
            """Probe."""
            return int(ran(name=name))

        async def peek(name: str) -> int | None:
            """Peek."""
            return ran(name=name)  # type: ignore[no-any-return]

        async def price(item: str) -> int | None:
            """Price."""
            return ran(item=item)  # type: ignore[no-any-return]

        async def square(n: int) -> int:
            """Square."""
            return int(ran(n=n))

        async def deploy(target: str) -> str:
            """Deploy."""
            return str(ran(target=target))

        async def notify(user: str) -> str:
            """Notify."""
            return str(ran(user=user))

        async def log(text: Annotated[str, BeforeValidator(marked)]) -> str:
            """Log."""
            return str(ran(text=text))

        functions: list[Callable[..., Any]] = [probe, peek, price, square, deploy, notify, log]
        return engine.tool(
            {it.__name__: it for it in functions}[tool.name],
            effect=Effect(tool.effect),
            requires=[_resource(facet) for facet in tool.requires],
            version=tool.version,
        )

    # What a history does ------------------------------------------------------------------

    async def asked(self) -> None:
        self.calls += 1
        await self.reached("ask")

    async def reached(self, point: str) -> None:
        """Let what is to happen at this point of an execute happen."""
        if (armed := self.meanwhile) is not None and armed.point == point:
            self.meanwhile = None
            for uri, document in armed.changes:
                await self._from_elsewhere(armed, uri, document)

    def arm(self, point: str, process: int, changes: Sequence[tuple[str, Any]]) -> None:
        """Have another process make these changes when ``process`` is at this point."""
        self.meanwhile = Armed(point, process, tuple(changes))
        if point == "lookup":
            watch_lookup(self)

    async def disarm(self) -> None:
        """Make those changes now, if the point was not reached."""
        if self.meanwhile is not None:
            await self.reached(self.meanwhile.point)
        unwatch_lookup(self)

    async def _from_elsewhere(self, armed: Armed, uri: str, document: Any) -> None:
        other = 1 - armed.process
        if document is None:
            await self.withdraw(other, uri)
        else:
            await self.observe(other, uri, document)

    async def execute(
        self, number: int, agent: str, task: int, *, replay: bool = True, alone: bool = False
    ) -> Result:
        """``alone``: without waiting for equal runs, or leading them."""
        inputs = dict(AGENTS[agent].tasks[task])
        agents, waits = self.processes[number].agents, False if alone else None
        return await agents[agent].execute(inputs, replay=replay, single_flight=waits)

    async def program(self, number: int, *, replay: bool = True) -> Result:
        """The program: it probes, asks the same thing twice, may deploy, and asks once more."""
        engine = self.processes[number].engine
        # An expiry that somebody records in the middle of it is dated after what it asks.
        await self.processes[number].store.expire()

        async def answer(request: Mapping[str, Any]) -> str:
            await self.asked()
            return f"{request['question']} {request['state']}"

        requires = [_resource(facet) for facet in PROGRAM.requires]
        inputs = dict(PROGRAM.tasks[0])
        async with engine.run(PROGRAM.name, inputs, requires=requires, replay=replay) as run:
            state = (await run.act(engine.tools["probe"], name="eu")).value
            answers = [await run.decide(question(state, None), call=answer) for _ in range(2)]
            deployed = None
            if state != 2 and answers[-1].value:
                try:
                    deployed = (await run.act(engine.tools["deploy"], target="eu")).value
                except PreconditionChanged:
                    deployed = REFUSED
            answers.append(await run.decide(question(state, deployed), call=answer))
            run.output = {"answers": [it.value for it in answers]}
        return run.result

    async def observe(
        self, number: int, uri: str, document: Any, *, until: datetime | timedelta | None = None
    ) -> Any:
        self.documents[uri] = document
        return await self.processes[number].engine.observe(uri, document, until=until)

    async def withdraw(self, number: int, uri: str) -> Any:
        self.documents[uri] = None
        return await self.processes[number].engine.withdraw(uri)

    async def scan(self) -> None:
        watcher = self.processes[0].watcher
        assert watcher is not None
        await watcher.scan()

    async def settle(self) -> None:
        for process in self.processes:
            await process.engine.settle()


def _resource(facet: Facet) -> Resource:
    return Resource(facet.uri, facet.part)


def past(how: int) -> datetime | timedelta:
    """A moment that is over by the store's clock, however it is given."""
    return datetime.now(UTC) + PAST if how else PAST
