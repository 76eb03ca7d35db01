"""Real engines on a real store, that are called again and again: they are killed, lose their runs
to each other, and wait for people, while facts change and an outside world counts what is done."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from typing import Annotated, Any
from unittest.mock import patch

from typing_extensions import override

from execgraph import (
    Approved,
    ConfirmationRequest,
    Denied,
    Engine,
    IdempotencyKey,
    Resource,
)
from execgraph.adapters.anthropic.client import AnthropicClient
from execgraph.adapters.messages_api import call, text
from execgraph.adapters.messages_wire import message
from execgraph.engine.effects import once, performing
from execgraph.engine.run import wish as run_wish
from execgraph.engine.sessions import at_work
from execgraph.graphstore.canonical import Json, encode
from execgraph.graphstore.errors import StoreUnavailable
from execgraph.graphstore.model import Effect, SideEffect, Wish
from execgraph.graphstore.store import GraphStore
from execgraph.tests.models import MODEL

from .judge import Wrong
from .script import Facet
from .timeline import Timeline, values
from .wish_telling import Act, Ask, Begun, Happening, Killed, Overloaded, Said, Told, Wanted
from .wishes import END, OWN, TOOLS, WHO, Call, Job, answer, needed

__all__ = ["WishWorld"]

_CALLS = (
    "answer", "approval", "attempts", "claim", "end_effect", "end_wish", "facts", "intend",
    "lookup", "publish", "read_facts", "request", "unbroken", "unfinished", "write",
)  # fmt: skip
_KEYED = ("ship", "sign")  # tools that take an idempotency key
_IN_BACKGROUND = ("journal", "forget_journal", "write_replays")

_running: ContextVar[Told | None] = ContextVar("running", default=None)
_serial = itertools.count()
_DEAD: set[str] = set()  # the names of processes that were killed


@dataclass
class _Process:
    """An engine with a name of its own, as another process has one."""

    engine: Engine
    stack: AsyncExitStack
    name: str

    @property
    def dead(self) -> bool:
        """Whether it was killed: it says nothing to the store any more."""
        return self.name in _DEAD

    @property
    def store(self) -> GraphStore:
        return self.engine.session().store


@dataclass
class WishWorld:
    """One store with two processes. ``done``: what has happened outside, by key where the other
    side is given one; ``said``: what people have said."""

    url: str
    namespace: str
    timeline: Timeline = field(default_factory=Timeline)
    processes: list[_Process] = field(default_factory=list)
    asked: list[tuple[Job, Ask]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    done: dict[str, Call] = field(default_factory=dict)
    judge: Callable[[Told], None] = lambda told: None
    calls: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)
    _wrong: Wrong | None = None  # of a run within another one
    _holders: dict[str, Told] = field(default_factory=dict)
    _beginners: dict[str, list[Told]] = field(default_factory=dict)  # by effect

    async def open(self) -> None:
        self._stack.enter_context(_several_processes())
        self.processes = [await self._start(number) for number in range(2)]

    async def close(self) -> None:
        for process in self.processes:
            await process.stack.aclose()
        self.processes = []
        self._stack.close()

    async def restart(self, number: int) -> None:
        """End a process, if it was not killed, and start it again."""
        process = self.processes[number]
        with suppress(StoreUnavailable):
            await process.stack.aclose()
        self.processes[number] = await self._start(number)

    async def _start(self, number: int) -> _Process:
        engine = Engine(self.url, namespace=self.namespace, single_flight=False)
        self._declare(engine)
        stack = AsyncExitStack()
        await stack.enter_async_context(engine)
        process = _Process(engine, stack, f"here/{number}/{next(_serial)}")
        for name in (*_CALLS, *_IN_BACKGROUND):
            self._watch(process, name)
        return process

    # What a run does ----------------------------------------------------------------------

    def _watch(self, process: _Process, name: str) -> None:
        """Have a call of the store be refused to the dead, and lie between two points of a run."""
        real = getattr(process.store, name)
        known = {"intend": self._intended, "claim": self._claimed, "write": self._written}
        noted: Any = known.get(name)

        @wraps(real)
        async def watched(*arguments: Any, **more: Any) -> Any:
            told = None if name in _IN_BACKGROUND else _running.get()
            await self._point(told)
            if process.dead:
                raise StoreUnavailable("the process was killed")
            mark = self.timeline.mark()
            found = await real(*arguments, **more)
            if noted is not None and told is not None:
                noted(told, arguments[0], found, mark)
            await self._point(told)
            return found

        vars(process.store)[name] = watched

    def _intended(
        self, told: Told, effect: SideEffect, found: SideEffect | None, mark: int
    ) -> None:
        if found is not None and found.id == effect.id:
            item = json.loads(effect.target)["item"]
            meanwhile = self.timeline.since(mark)
            key = effect.idempotency_key
            told.begun.append(Begun(effect.id, effect.tool, item, key, meanwhile))
            self._beginners.setdefault(effect.id, []).append(told)

    def _claimed(self, told: Told, wish: Wish, found: Wish, _: int) -> None:
        if wish.run_id is None or found.execution != wish.execution:
            return
        before = self._holders.get(wish.key)
        if before is not None and before is not told and before.lost is None:
            before.lost = len(before.begun)
        self._holders[wish.key] = told

    def _written(self, told: Told, *_: Any) -> None:
        told.kept = True

    async def _point(self, told: Told | None) -> None:
        """Between any two things that a run does: what is to happen here happens."""
        if told is None or self.processes[told.process].dead:
            return
        told.points += 1
        match told.happenings.pop(told.points, None):
            case ("edit", uri, part, value):
                await self.edit(1 - told.process, uri, part, value)
            case ("kill",):
                self._kill(told)
            case ("take over",) if told.run_id is not None:
                await self._take_over(told)

    def _kill(self, told: Told) -> None:
        process = self.processes[told.process]
        _DEAD.add(process.name)
        told.killed = True
        at_work._HERE.difference_update(process.engine.session().at_work._own)
        raise Killed

    async def _take_over(self, told: Told) -> None:
        """The other process takes this run for dead."""
        wanted = Wanted(told.job, told.run_id, confirm=told.wanted.confirm)
        with patch.object(at_work.AtWork, "is_alive", lambda *_: False):
            try:
                await self.call(1 - told.process, wanted, within=True)
            except Wrong as wrong:
                self._wrong = self._wrong or wrong

    def _declare(self, engine: Engine) -> None:
        def tool(name: str, effect: str, rule: Facet | None, function: Any, **more: Any) -> None:
            requires = [] if rule is None else [Resource(rule.uri, rule.part)]
            function.__name__ = name
            function.__doc__ = name
            engine.tool(function, effect=Effect(effect), requires=requires, version="1", **more)

        for name, (effect, rule) in TOOLS.items():
            more = {"once_per": "{item}"} if effect == "once" else {}
            function = self._keyed(name) if name in _KEYED else self._bare(name)
            tool(name, effect, rule, function, **more)

    def _bare(self, name: str) -> Callable[..., Awaitable[str]]:
        async def bare(item: str, said: str) -> str:
            return await self._do(Call(name, item, said), None)

        return bare

    def _keyed(self, name: str) -> Callable[..., Awaitable[str]]:
        async def keyed(item: str, said: str, *, key: Annotated[str, IdempotencyKey]) -> str:
            return await self._do(Call(name, item, said), str(key))

        return keyed

    async def _do(self, called: Call, key: str | None) -> str:
        """What a tool does. The other side does it once for a key."""
        told = _running.get()
        assert told is not None
        act = Act(called, key)
        told.acts.append(act)
        await self._point(told)
        if TOOLS[called.tool][0] != "read":
            self.done[key or f"{called.tool} number {len(self.done)}"] = called
        act.happened = True
        await self._point(told)
        told.around = self.timeline.mark()
        return f"{called.item} is done"

    def _say(self, job: Job, turn: int) -> Call:
        """What the model says now. Raises Overloaded."""
        told = _running.get()
        assert told is not None
        if turn == told.wanted.fails:
            told.failed = True
            raise Overloaded
        now = [self.timeline.now]
        known = {it: next(iter(values(now, it))).is_ for it in (OWN, *needed(job.tool(turn)))}
        said = answer(job, turn, known)
        told.asks.append(Ask(turn, said, self.timeline.since(told.around), time.time_ns() // 10**6))
        return said

    async def ask(self, job: Job, turn: int) -> Call:
        """Ask the model."""
        await self._point(_running.get())
        said = self._say(job, turn)
        await self._point(_running.get())
        told = _running.get()
        assert told is not None
        told.asks[-1].ended = time.time_ns() // 10**6
        told.asks[-1].around = self.timeline.since(told.around)
        self.asked.append((job, told.asks[-1]))
        told.around = self.timeline.mark()
        return said

    # What is done to it -------------------------------------------------------------------

    async def call(
        self,
        number: int,
        wanted: Wanted,
        happenings: Sequence[tuple[int, Happening]] = (),
        *,
        within: bool = False,
    ) -> None:
        """Have a job done, and the judge told what came of it. ``within``: another run of it."""
        process, mark = self.processes[number], self.timeline.mark()
        self.calls += 1
        at = time.time_ns() // 10**6
        told = Told(self.calls, number, process.name, wanted, mark, at, dict(happenings), within)
        told.around = mark
        with _as(told):
            try:
                is_agents = told.job.who == WHO[0]
                told.result = await (self._execute(told) if is_agents else self._program(told))
            except (Killed, Exception) as error:  # noqa: BLE001 - the judge says whether it may be
                told.error = error
        if process.dead:
            await self.restart(number)
        else:
            await process.engine.settle()
        self.judge(told)
        if self._wrong is not None:
            raise self._wrong

    def _trust(self, told: Told) -> dict[str, Any]:
        age = None if told.wanted.max_age is None else timedelta(milliseconds=told.wanted.max_age)
        return {"max_age": age, "shadow": 1.0 if told.wanted.how == "shadow" else 0.0}

    def _confirm(self, told: Told) -> Any:
        if told.wanted.confirm is None:
            return None

        async def confirm(request: ConfirmationRequest) -> Approved | Denied | None:
            await self._point(told)
            if told.wanted.confirm == "later":
                return None
            self._answered(request, approved=told.wanted.confirm == "yes")
            return Approved("ann") if told.wanted.confirm == "yes" else Denied("bob")

        return confirm

    def _answered(self, request: ConfirmationRequest, *, approved: bool) -> None:
        asked: Any = request.arguments
        call = Call(request.tool, asked["item"], asked["said"])
        told: Any = {it.resource: it.says for it in request.facts}
        shown = {uri: repr(says["on"]) for uri, says in told.items()}
        self.said.append(Said(call, shown, approved))

    async def _execute(self, told: Told) -> Any:
        engine = self.processes[told.process].engine
        agent = engine.agent(
            told.job.who,
            client=_Client(self, told.job),
            model=MODEL,
            system="You do what is asked.",
            tools=list(engine.tools.values()),
            requires=[Resource(OWN.uri, OWN.part)],
            **self._trust(told),
        )
        return await agent.execute(
            told.job.name,
            run_id=told.run_id,
            replay=told.wanted.how != "anew",
            confirm=self._confirm(told),
        )

    async def _program(self, told: Told) -> Any:
        engine, job = self.processes[told.process].engine, told.job

        async def ask(request: Mapping[str, Any]) -> list[str]:
            return list(await self.ask(job, request["turn"]))

        async with engine.run(
            job.who,
            job.name,
            run_id=told.run_id,
            replay=told.wanted.how != "anew",
            requires=[Resource(OWN.uri, OWN.part)],
            confirm=self._confirm(told),
            **self._trust(told),
        ) as run:
            for turn in range(job.turns):
                reply = await run.decide({"job": job.name, "turn": turn}, call=ask, version="1")
                said = Call(*reply.value)
                if said.tool == END:
                    run.output = said.said
                else:
                    await run.act(engine.tools[said.tool], item=said.item, said=said.said)
        return run.result

    async def edit(self, process: int, uri: str, part: str, value: int) -> None:
        """Change a part of what a rule says."""
        before = self.timeline.now.document(uri) or {"on": 0, "note": 0}
        document = {**before, part: value}
        async with self.timeline.changing(uri, document, is_believed=True):
            with _as(None):
                await self.processes[process].engine.observe(uri, document)

    async def answer(self, process: int, *, approved: bool) -> None:
        """A person answers what was asked first, from elsewhere."""
        engine = self.processes[process].engine
        if waiting := await engine.approvals():
            await (engine.approve if approved else engine.deny)(waiting[0].id, by="ann")
            self._answered(waiting[0], approved=approved)

    async def settle(self, process: int) -> None:
        """A person looks what happened of what is in doubt, and says so."""
        engine = self.processes[process].engine
        for effect in await engine.session().store.doubts():
            item = json.loads(effect.target)["item"]
            acts = [act for told in self._beginners[effect.id] for act in told.acts]
            done = any(it.happened and it.call[:2] == (effect.tool, item) for it in acts)
            output = f"{item} is done" if done else None
            await engine.resolve(effect.id, done=done, output=output)


@contextmanager
def _several_processes() -> Iterator[None]:
    """Have engines go by the names of their processes, and the killed ones be known as dead."""

    def this_process() -> str | None:
        told = _running.get()
        return None if told is None else told.name

    with ExitStack() as stack:
        for module in (at_work, performing, run_wish):
            stack.enter_context(patch.object(module, "this_process", this_process))
        for module in (at_work, once):
            stack.enter_context(patch.object(module, "is_dead", _DEAD.__contains__))
        stack.enter_context(patch.object(at_work, "is_here", lambda _: True))
        stack.enter_context(patch.object(once, "PAUSES", (0.001,)))
        yield


@contextmanager
def _as(told: Told | None) -> Any:
    token = _running.set(told)
    try:
        yield
    finally:
        _running.reset(token)


class _Client(AnthropicClient):
    """Asks the model in the process."""

    def __init__(self, world: WishWorld, job: Job) -> None:
        super().__init__(None)
        self._world = world
        self._job = job

    @override
    async def ask(self, request: Mapping[str, Json]) -> bytes:
        messages: Any = request["messages"]
        turn = sum(it["role"] == "assistant" for it in messages)
        said = await self._world.ask(self._job, turn)
        arguments = {"item": said.item, "said": said.said}
        content = [text(said.said) if said.tool == END else call(said.tool, arguments)]
        reason = "end_turn" if said.tool == END else "tool_use"
        return encode(message(request, content, reason))
