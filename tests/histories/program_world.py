"""Real engines on a real store, on which random programs run while facts change between any two of
their statements."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from typing_extensions import override

from execgraph import Engine, Resource
from execgraph.adapters.anthropic.client import AnthropicClient
from execgraph.adapters.messages_api import call, text
from execgraph.adapters.messages_wire import message
from execgraph.engine.agent import Agent
from execgraph.engine.errors import PreconditionChanged
from execgraph.engine.program import ProgramRun
from execgraph.graphstore.canonical import Json, encode
from execgraph.graphstore.model import Effect
from execgraph.graphstore.retention import Retention
from execgraph.graphstore.store import GraphStore
from execgraph.tests.models import MODEL

from .programs import AGENT, OWN, TOOLS, Program, Statement, answer
from .telling import Act, Ask, Decided, Told, acting, deciding, key_of
from .timeline import Timeline

__all__ = ["AGENT_SAYS", "ProgramWorld"]

AGENT_SAYS = "the agent says"
_FUTURE = timedelta(days=400)
Edit = tuple[str, str, int]
#: What changes at which point of a run, by the number of the point.
Edits = Mapping[int, Sequence[Edit]]


@dataclass
class _Process:
    engine: Engine
    client: AnthropicClient
    agent: Agent
    stack: AsyncExitStack
    version: str

    @property
    def store(self) -> GraphStore:
        return self.engine.session().store


@dataclass
class ProgramWorld:
    """One store with two processes."""

    url: str
    namespace: str
    timeline: Timeline = field(default_factory=Timeline)
    readings: dict[str, int] = field(default_factory=lambda: dict.fromkeys("ab", 0))
    processes: list[_Process] = field(default_factory=list)
    told: Told | None = None  # the run that is under way
    agent_asks: int = 0
    _points: int = 0
    _edits: dict[int, Sequence[Edit]] = field(default_factory=dict)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def open(self) -> None:
        self.processes = [await self._start("1") for _ in range(2)]

    async def close(self) -> None:
        for process in self.processes:
            await process.stack.aclose()
        self.processes = []

    async def restart(self, number: int, version: str | None = None) -> None:
        """End a process and start it again, perhaps with other code."""
        await self.processes[number].stack.aclose()
        self.processes[number] = await self._start(version or self.processes[number].version)

    async def _start(self, version: str) -> _Process:
        engine = Engine(self.url, namespace=self.namespace)
        self._declare(engine, version)
        client = _Client(self)
        tools = [engine.tools["look"], engine.tools["ship"]]
        agent = engine.agent(AGENT, client=client, model=MODEL, tools=tools)
        stack = AsyncExitStack()
        await stack.enter_async_context(engine)
        process = _Process(engine, client, agent, stack, version)
        self._watch_effects(process.store)
        return process

    def _watch_effects(self, store: GraphStore) -> None:
        intend = store.intend

        async def watched(*arguments: Any, **more: Any) -> Any:
            await self.point()
            mark = self.timeline.mark()
            let = await intend(*arguments, **more)
            if let and (act := acting.get()) is not None:
                assert act.begun is None, "an effect is begun once"
                act.begun, act.moment = self.timeline.since(mark), next(act.run.moments)
                act.begun_inside = self.told is not None and not self.told.over
            return let

        vars(store)["intend"] = watched

    # Tools --------------------------------------------------------------------------------

    def _declare(self, engine: Engine, version: str) -> None:
        async def look(name: str) -> str:
            """Look."""
            await self._ran(name=name)
            return f"{name}{self.readings.get(name, 0)}"

        async def tell(what: Any) -> str:
            """Tell."""
            await self._ran(what=what)
            return f"told-{len(json.dumps(what))}"

        async def ship(to: str) -> str:
            """Ship."""
            await self._ran(to=to)
            return f"shipped-{to}"

        async def pay(to: str) -> str:
            """Pay."""
            await self._ran(to=to)
            return f"paid-{to}"

        async def send(order: Any) -> str:
            """Send."""
            await self._ran(order=order)
            return f"sent-{len(json.dumps(order))}"

        async def page(to: str) -> str:
            """Page."""
            await self._ran(to=to)
            return f"paged-{to}"

        for function in (look, tell, ship, pay, send, page):
            effect, versions = TOOLS[function.__name__]
            requires = versions.get(version, versions["1"])
            engine.tool(
                function,
                effect=Effect(effect),
                requires=[Resource(it.uri, it.part) for it in requires],
                version="1",
            )

    async def _ran(self, **given: Any) -> None:
        act = acting.get()
        if act is None:  # of an agent
            return
        act.entered += 1
        act.received = given
        await self.point()
        act.started.set()
        await act.release.wait()

    # Changes ------------------------------------------------------------------------------

    async def point(self) -> None:
        """Between any two statements: what is to change here changes, by the other process."""
        self._points += 1
        for uri, part, value in self._edits.pop(self._points, ()):
            assert self.told is not None
            await self.edit(1 - self.told.process, uri, part, value)

    async def edit(self, process: int, uri: str, part: str, value: int) -> None:
        """Change a part of a document, or withdraw it (``part``: gone)."""
        before = self.timeline.now.document(uri) or {"on": 0, "note": 0}
        await self.change(process, uri, None if part == "gone" else {**before, part: value})

    async def change(
        self, process: int, uri: str, document: Any, *, is_believed: bool = True
    ) -> None:
        """Let a resource be this; None: withdraw it."""
        engine = self.processes[process].engine
        async with (
            self._one_at_a_time,
            self.timeline.changing(uri, document, is_believed=is_believed),
        ):
            if self.told is not None:
                self.told.moved = True
            if document is None:
                await engine.withdraw(uri)
            else:
                until = _FUTURE if is_believed else timedelta(milliseconds=1)
                await engine.observe(uri, document, until=until)
                if not is_believed:  # time is to pass
                    await asyncio.sleep(0.005)

    # Running ------------------------------------------------------------------------------

    async def run(self, number: int, program: Program, edits: Edits, *, replay: bool) -> Told:
        """Run a program, and tell what it did. What still runs when it ends is waited for."""
        process = self.processes[number]
        told = Told(number, program, process.version, replay, self.timeline.mark())
        self.told, self._points, self._edits = told, 0, dict(edits)
        own = [Resource(OWN.uri, OWN.part)] if program.own else []
        running = process.engine.run(
            program.name, program.task, requires=own, client=process.client, replay=replay
        )
        at_work = _Interpreter(self, process, running, told)
        try:
            async with running:
                await self.point()
                await at_work.do(program.statements, frozenset())
                await self.point()
                told.over = True
            told.result = running.result
        except Exception as error:  # noqa: BLE001 - the judge says whether it may be
            told.error = error
        await at_work.wind_up()
        self._edits, self.told = {}, None
        return told

    async def ask(self, request: Mapping[str, Json], how: str) -> Json:
        """What the model says to a program, by the facts of now; they may change as it does."""
        decided = deciding.get()
        assert decided is not None
        assert self.told is not None
        read = self.timeline.mark()
        seen = self.timeline.now
        documents = {uri: seen.document(uri) for uri in seen.versions}
        said = answer(_question(request, how), documents)
        reply = said if how == "plain" else _message(request, said)
        own = frozenset([OWN] if self.told.who.own else [])
        decided.ask = Ask(
            "", reply, self.timeline.since(read), self.timeline.since(decided.began), own, self.told
        )
        await self.point()
        return reply

    async def execute(self, number: int, task: str) -> str:
        """Execute the agent; its text."""
        result = await self.processes[number].agent.execute(task)
        return str(result.output)

    async def collect(self, number: int, traces: int) -> None:
        """Keep no more traces of each task."""
        kept = Retention(traces=traces, history=0, versions=0, grace=timedelta(0))
        await self.processes[number].engine.collect(kept)


class _Client(AnthropicClient):
    """Asks the world."""

    def __init__(self, world: ProgramWorld) -> None:
        super().__init__(None)
        self._world = world

    @override
    async def ask(self, request: Mapping[str, Json]) -> bytes:
        if deciding.get() is None:
            self._world.agent_asks += 1
            return encode(_of_agent(request))
        how = "offering" if "tools" in request else "messages"
        return encode(await self._world.ask(request, how))


def _of_agent(request: Mapping[str, Any]) -> Json:
    """The agent looks, ships, and says so."""
    turn = len(request["messages"]) // 2
    said = {0: [call("look", {"name": "a"})], 1: [call("ship", {"to": "a"})]}
    content = said.get(turn, [text(f"{AGENT_SAYS}: done")])
    stop = "tool_use" if turn in said else "end_turn"
    return message(request, content, stop, (10, 1))


def _question(request: Mapping[str, Any], how: str) -> str:
    return str(request["question"] if how == "plain" else request["messages"][0]["content"])


def _message(request: Mapping[str, Any], said: str) -> Json:
    return message(request, [text(said)], "end_turn", (10, 1))


@dataclass
class _Known:
    """What a name of a program stands for: a handle, and the decisions that it came from."""

    handle: Any
    kind: str  # how it was decided, or the tool
    flows: frozenset[Decided]
    decided: Decided | None = None

    @property
    def takes_text(self) -> bool:
        """Whether its handle can stand where a text is wanted: a whole message cannot."""
        return self.kind not in ("messages", "offering")


class _Interpreter:
    """Does what the statements of a program say."""

    def __init__(
        self, world: ProgramWorld, process: _Process, running: ProgramRun, told: Told
    ) -> None:
        self._world, self._process = world, process
        self._running, self._told = running, told
        self._known: dict[str, _Known] = {}
        self._opened: set[Decided] = set()
        self._tasks: dict[asyncio.Task[Any], Act] = {}

    async def do(self, statements: Sequence[Statement], steered: frozenset[Decided]) -> None:
        for name, *arguments in statements:
            await self._world.point()
            await getattr(self, f"_{name}")(*arguments, steered)

    async def wind_up(self) -> None:
        """After the block: what was begun and not awaited comes to its end."""
        self._told.unfinished |= any(not it.ended for it in self._told.acts)
        await self._join(frozenset())
        for decided in self._told.decided:  # by now it steers nothing any more
            if decided.handle is not None:
                decided.reply = decided.handle.value
            decided.key = key_of(self._told.who[:3], decided.how, _shown(decided.request))
            if decided.ask is not None:
                decided.ask.key = decided.key
        for act in self._told.acts:
            act.given = _shown(act.given)

    # Statements ---------------------------------------------------------------------------

    async def _decide(self, x: str, question: str, how: str, passed: Sequence[str], _: Any) -> None:
        handles = [self._known[it] for it in passed if it in self._known]
        request = _request(question, how, handles)
        mark, moment = self._world.timeline.mark(), next(self._told.moments)
        decided = Decided(how, request, mark, moment)
        self._told.decided.append(decided)
        token = deciding.set(decided)
        try:
            if how == "plain":
                handle = await self._running.decide(
                    request, call=lambda body: self._world.ask(body, how), version="1"
                )
            else:
                handle = await self._running.decide(request)
        finally:
            deciding.reset(token)
        decided.handle = handle
        decided.served = self._world.timeline.since(self._told.began)
        held = [it for it in handles if how == "plain" or it.takes_text]
        flows = frozenset([decided]).union(*(it.flows for it in held))
        self._known[x] = _Known(handle, how, flows, decided)

    async def _open(self, x: str, _: Any) -> Any:
        if (known := self._known.get(x)) is None:
            return None
        self._opened |= known.flows
        return _text(known.handle.value)

    async def _if(self, x: str, body: Sequence[Statement], steered: frozenset[Decided]) -> None:
        if x in self._known and await self._open(x, steered) != "no":
            await self.do(body, steered | self._known[x].flows)

    async def _gather(self, bodies: Sequence[Any], steered: frozenset[Decided]) -> None:
        done = await asyncio.gather(
            *(self.do(body, steered) for body in bodies), return_exceptions=True
        )
        for it in done:
            if isinstance(it, BaseException):
                raise it

    async def _loop(
        self, times: int, body: Sequence[Statement], steered: frozenset[Decided]
    ) -> None:
        for _ in range(times):
            await self.do(body, steered)

    async def _join(self, _: Any) -> None:
        tasks, self._tasks = self._tasks, {}
        for act in tasks.values():
            act.release.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _act(
        self, x: str, tool: str, given: tuple[str, str], way: str, steered: frozenset[Decided]
    ) -> None:
        value, flows = await self._given(tool, given)
        name = "order" if tool == "send" else {"look": "name", "tell": "what"}.get(tool, "to")
        chosen = frozenset(self._opened) | flows | steered
        act = Act(self._told, tool, {name: value}, steered | flows, chosen)
        act.moment = next(self._told.moments)
        self._told.acts.append(act)
        if way == "wait":
            act.release.set()
            await self._awaited(x, act, flows)
            return
        task = asyncio.ensure_future(self._awaited(x, act, flows))
        self._tasks[task] = act
        if way == "late":
            return
        started = asyncio.ensure_future(act.started.wait())
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if way == "timeout" and not task.done():
            task.cancel()
            self._told.unfinished = True
        if task.done() or way == "timeout":
            self._tasks.pop(task, None)
            with suppress(asyncio.CancelledError):
                await task

    async def _given(self, tool: str, given: tuple[str, str]) -> tuple[Any, frozenset[Decided]]:
        """A value for a tool, and the decisions that it came from."""
        how, what = given
        if how == "text":
            return what, frozenset()
        if (known := self._known.get(what)) is None:
            return "a", frozenset()
        takes_any = tool in ("send", "tell")
        if how == "open":
            return await self._open(what, frozenset()), known.flows
        if takes_any:
            return {"items": [{"to": known.handle}, "b"]}, known.flows
        if not known.takes_text:
            return "b", frozenset()  # these take no message
        return known.handle, known.flows

    async def _awaited(self, x: str, act: Act, flows: frozenset[Decided]) -> None:
        token = acting.set(act)
        try:
            act.handle = await self._running.act(self._process.engine.tools[act.tool], **act.given)
            act.ended = not self._told.over
            self._known[x] = _Known(act.handle, act.tool, flows)
        except PreconditionChanged:
            act.refused = act.ended = True
            if not self._told.who.stubborn:
                raise
        finally:
            acting.reset(token)
            act.chosen |= self._opened  # by now; when exactly it began, nobody sees from here


def _request(question: str, how: str, handles: Sequence[_Known]) -> dict[str, Any]:
    if how == "plain":
        return {"model": "local", "question": question, "with": [it.handle for it in handles]}
    texts = [it for it in handles if it.takes_text]
    blocks = [{"type": "text", "text": it.handle} for it in texts]
    content = [{"type": "text", "text": question}, *blocks]
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
    if how == "offering":
        schema = {"type": "object", "properties": {"to": {"type": "string"}}}
        body["tools"] = [{"name": "ship", "description": "Ship.", "input_schema": schema}]
    return body


def _may_hold(known: _Known, how: str) -> bool:
    """Whether such a request can hold this: a message is no text."""
    return how == "plain" or known.kind not in ("messages", "offering")


def _text(value: Any) -> Any:
    """What was said, without what is around it."""
    return value["content"][0]["text"] if isinstance(value, dict) else value


def _shown(value: Any) -> Any:
    """A value with the handles in it opened, when it steers nothing any more."""
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value.value if hasattr(value, "position") else value
