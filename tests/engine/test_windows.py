"""Every window around a step is forced: a fact changes right before, and right after, each call
that a run makes to its store (each statement, on Neo4j).

The model looks at the world when it decides, and says what it saw: what it chose is right as long
as the world is so. That is what its guards are for; so whatever is done on an old word shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from execgraph import Acl, Agent, Engine, Result
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.sync import SyncEngine
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.store import GraphStore

from .conftest import World, outcomes, results, turn

REFUSED = "precondition changed, not executed"
STORE_CALLS = (
    *("lookup", "unfinished", "still", "values", "read_facts", "document", "hold"),
    *("intend", "unbroken", "write", "publish"),
)
STATEMENTS = {*STORE_CALLS, "confirm"}


class Window(NamedTuple):
    """Right before or right after the call with this number."""

    call: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} call {self.call}"


@dataclass
class Calls:
    """The calls of a store, as they come; in one window of a run something happens."""

    names: list[str] = field(default_factory=list)
    window: Window | None = None
    happen: Callable[[], None] = lambda: None
    on_intend: Callable[[], None] = lambda: None
    asked: dict[int, int] = field(default_factory=dict)  # by turn: how many calls came before

    def begin(
        self, window: Window | None = None, happen: Callable[[], None] = lambda: None
    ) -> None:
        """From here on calls are counted anew."""
        self.names, self.window, self.happen = [], window, happen
        self.asked.clear()

    async def around(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        number = len(self.names)
        self.names.append(name)
        await self._in(Window(number, after=False))
        if name == "intend":
            self.on_intend()
        given = await work()
        await self._in(Window(number, after=True))
        return given

    async def _in(self, window: Window) -> None:
        if self.window == window:
            await asyncio.to_thread(self.happen)


def watched(store: GraphStore, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """All calls that runs make to ``store`` pass through, and are counted."""
    calls = Calls()

    def passing(name: str, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        return lambda *given, **named: calls.around(name, lambda: real(*given, **named))

    if not isinstance(store, Neo4jStore):
        for name in STORE_CALLS:
            monkeypatch.setattr(store, name, passing(name, getattr(store, name)))
        return calls
    run = store._client.run

    async def statement(name: str, *rest: Any) -> Any:
        if name not in STATEMENTS:
            return await run(name, *rest)
        return await calls.around(name, lambda: run(name, *rest))

    monkeypatch.setattr(store._client, "run", statement)
    return calls


# The world ---------------------------------------------------------------------------------


@dataclass
class Facts:
    """What the world is like, and another process that tells it to the store."""

    other: SyncEngine
    truth: dict[str, str] = field(default_factory=dict)
    on_ask: Callable[[int], None] = lambda turn: None

    def become(self, rule: str, *values: str) -> None:
        """Let ``rule`` become each of these, one after another."""
        for value in values:
            before, self.truth[rule] = self.truth.get(rule), value
            match value:
                case "withdrawn":
                    self.other.withdraw(f"acl:{rule}")
                case "expired":
                    self.other.observe(f"acl:{rule}", before, until=timedelta(0))
                case _:
                    self.other.observe(f"acl:{rule}", value)


#: What happens in the window, of a rule that was A.
HAPPENINGS = {
    "changes": ("B",),
    "changes there and back": ("B", "A"),
    "is withdrawn": ("withdrawn",),
    "expires": ("expired",),
}


@dataclass
class Deployer:
    """An agent that reads, deploys what it saw when it decided, and reports."""

    engine: Engine
    agent: Agent
    facts: Facts
    calls: Calls
    done: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    _at_intent: dict[str, str] = field(default_factory=dict)
    _rule: str = ""

    def about_to_begin(self) -> None:
        """Note what is true when the check right before an effect begins."""
        self._at_intent = dict(self.facts.truth)

    def deploy(self, chosen: str) -> None:
        self.done.append(chosen)
        if (now := self._at_intent[self._rule]) != chosen:
            self.stale.append(f"{chosen} was deployed when {self._rule} was {now}")

    async def execute(self, rule: str) -> tuple[Result, list[str]]:
        """The result, and what was deployed."""
        self.done.clear()
        self._rule = rule
        result = await self.agent.execute({"rule": rule})
        return result, list(self.done)


async def deployer(
    world: World,
    stack: AsyncExitStack,
    monkeypatch: pytest.MonkeyPatch,
    facts: Facts,
    **settings: Any,
) -> Deployer:
    """A process of its own that deploys. Its tools need no thread, so that the order in which those
    of one reply do their work is the order in which they may begin."""
    engine = world.engine(**settings)
    made: list[Deployer] = []

    @engine.tool(effect="read", requires=[])
    async def look() -> str:
        """Look around."""
        return "all is well"

    @engine.tool(effect="write", requires=[Acl("{task.rule}")])
    async def deploy(chosen: str) -> str:
        """Deploy."""
        made[0].deploy(chosen)
        return f"deployed {chosen}"

    @engine.tool(effect="write", requires=[])
    async def announce() -> str:
        """Tell everybody."""
        made[0].done.append("announced")
        return "announced"

    agent = world.agent(engine, [look, deploy, announce])
    await stack.enter_async_context(engine)
    session = engine.session()
    monkeypatch.setattr(session.walker, "kick", lambda: None)  # marks authorise nothing
    calls = watched(session.store, monkeypatch)
    made.append(Deployer(engine, agent, facts, calls))
    calls.on_intend = made[0].about_to_begin
    return made[0]


def looks_then_deploys(facts: Facts) -> Callable[[dict[str, Any]], Answer]:
    def brain(body: dict[str, Any]) -> Answer:
        facts.on_ask(turn(body))
        match turn(body):
            case 0:
                return Answer([call("look", {})])
            case 1:
                return Answer([call("deploy", {"chosen": facts.truth[rule_of(body)]})])
        return Answer([text(f"said: {results(body)[-1]}")])

    return brain


def announces_and_deploys(facts: Facts) -> Callable[[dict[str, Any]], Answer]:
    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            chosen = facts.truth[rule_of(body)]
            return Answer([call("announce", {}), call("deploy", {"chosen": chosen})])
        return Answer([text(f"said: {results(body)[-1]}")])

    return brain


def rule_of(body: dict[str, Any]) -> str:
    """The rule that the task names."""
    told = str(body["messages"][0]["content"])
    return next(
        word for word in told.replace('"', " ").replace("\\", " ").split() if "rule-" in word
    )


@pytest.fixture
def facts(world: World) -> Iterator[Facts]:
    with world.engine().sync() as other:
        facts = Facts(other)
        world.think(looks_then_deploys(facts))
        yield facts


# Scenarios ---------------------------------------------------------------------------------


async def hot(recorder: Deployer, replayer: Deployer, rule: str) -> None:
    """The trace is remembered by who is to run it."""
    recorder.facts.become(rule, "A")
    await recorder.execute(rule)
    result, _ = await replayer.execute(rule)
    assert result.replayed


async def from_store(recorder: Deployer, replayer: Deployer, rule: str) -> None:
    """The trace is in the store."""
    recorder.facts.become(rule, "A")
    await recorder.execute(rule)


async def partial(recorder: Deployer, replayer: Deployer, rule: str) -> None:
    """The trace stands up to the decision that rests on the rule."""
    recorder.facts.become(rule, "C")
    await recorder.execute(rule)
    recorder.facts.become(rule, "A")


async def first(recorder: Deployer, replayer: Deployer, rule: str) -> None:
    """Nothing is recorded."""
    recorder.facts.become(rule, "A")


SCENARIOS = {it.__name__: it for it in (hot, from_store, partial, first)}
Prepare = Callable[[Deployer, Deployer, str], Awaitable[None]]


@dataclass
class Trial:
    """One scenario, in one window after the other; each with a rule and a task to itself."""

    world: World
    recorder: Deployer
    replayer: Deployer
    live: dict[str, tuple[Any, list[str]]]
    _count: int = 0

    async def calls_of(self, prepare: Prepare) -> tuple[list[str], dict[int, int]]:
        """The calls of a run in which nothing happens; and how many came before each turn."""
        calls = self.replayer.calls
        await self.ran(prepare, None, ())  # so that there is a task to compare a new one with
        self.replayer.facts.on_ask = lambda turn: calls.asked.update({turn: len(calls.names)})
        await self.ran(prepare, None, ())
        self.replayer.facts.on_ask = lambda turn: None
        return list(calls.names), dict(calls.asked)

    async def ran(
        self, prepare: Prepare, window: Window | None, becomes: tuple[str, ...]
    ) -> tuple[str, Result, list[str], int]:
        """The rule, the result, what was deployed, and how often the model was asked."""
        self._count += 1
        rule = f"rule-{self._count}"
        await prepare(self.recorder, self.replayer, rule)
        facts = self.replayer.facts
        self.replayer.calls.begin(window, lambda: facts.become(rule, *becomes))
        before = self.world.server.requests
        result, done = await self.replayer.execute(rule)
        self.replayer.calls.window = None
        return rule, result, done, self.world.server.requests - before

    async def replays_truly(self, rule: str, result: Result, because: str) -> None:
        """Whatever was kept gives, under each value, what a fresh run gives under it."""
        for value in ("B", "A") if result.recorded else ("A",):
            self.replayer.facts.become(rule, value)
            result, done = await self.replayer.execute(rule)
            assert (result.output, done) == self.live[value], because


async def trial(
    world: World, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, facts: Facts
) -> Trial:
    """Two processes, and what runs that nothing was recorded of give under each value."""
    live = {}
    for value in ("A", "B"):
        async with AsyncExitStack() as apart:
            elsewhere = f"{world.namespace}-{value}"
            with world.engine(namespace=elsewhere).sync() as other:
                there = Facts(other, facts.truth)
                fresh = await deployer(world, apart, monkeypatch, there, namespace=elsewhere)
                there.become("rule-0", value)
                result, done = await fresh.execute("rule-0")
                live[value] = (result.output, done)
    recorder = await deployer(world, stack, monkeypatch, facts)
    replayer = await deployer(world, stack, monkeypatch, facts)
    return Trial(world, recorder, replayer, live)


def windows_around(names: list[str], happening: str) -> list[Window]:
    """Before and after each call. What comes right after one comes before the next, too, unless
    the model is asked or a tool runs in between: the plain change is tried on both sides."""
    sides = (False, True) if happening == "changes" else (False,)
    return [Window(number, after) for number in range(len(names)) for after in sides]


def some(world: World, windows: list[Window], scenario: str) -> list[Window]:
    """On Neo4j each scenario tries every third window, beginning with another one."""
    if world.url.startswith("sqlite"):
        return windows
    return windows[list(SCENARIOS).index(scenario) % 3 :: 3]


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_no_window_lets_an_old_fact_through(
    world: World,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    happening: str,
) -> None:
    prepare, becomes = SCENARIOS[scenario], HAPPENINGS[happening]
    async with AsyncExitStack() as stack:
        it = await trial(world, stack, monkeypatch, facts)
        names, asks = await it.calls_of(prepare)
        assert "intend" in names
        for window in some(world, windows_around(names, happening), scenario):
            because = f"{scenario}, {happening} {window} of {names}"
            rule, result, done, asked = await it.ran(prepare, window, becomes)
            assert it.replayer.stale == [], because
            assert len(done) == 1, f"deployed once: {because}"
            assert result.output == f"said: deployed {done[0]}", because
            assert asked <= len(asks) + 2, f"one decision again, and what follows: {because}"
            if becomes == ("B", "A") and tears(names, asks, window):
                again, _ = await it.replayer.execute(rule)
                assert not again.replayed, f"torn, and replayed as a whole: {because}"
            await it.replays_truly(rule, result, because)


def tears(names: list[str], asks: dict[int, int], window: Window) -> bool:
    """Whether the window lies within the decision to deploy, if it was asked, or the effect:
    after what they rest on was noted, and before the read that confirms it."""
    if 1 not in asks:
        return False
    noted = max(number for number in range(asks[1]) if names[number] == "read_facts")
    rest = range(names.index("intend"), len(names))
    confirmed = next(number for number in rest if names[number] in ("read_facts", "write"))
    return (noted, True) <= window <= (confirmed, False)


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize("scenario", ["from_store", "first"])
async def test_what_a_reply_has_begun_is_history_in_every_window(
    world: World,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    happening: str,
) -> None:
    """Of two writes the first rests on nothing, and the second on what changes."""
    world.think(announces_and_deploys(facts))
    prepare, becomes = SCENARIOS[scenario], HAPPENINGS[happening]
    refused = 0
    async with AsyncExitStack() as stack:
        it = await trial(world, stack, monkeypatch, facts)
        names, _ = await it.calls_of(prepare)
        assert names.count("intend") == 2
        for window in windows_around(names, happening):
            because = f"{scenario}, {happening} {window} of {names}"
            rule, result, done, _ = await it.ran(prepare, window, becomes)
            assert it.replayer.stale == [], because
            assert done[0] == "announced", because
            assert done.count("announced") == 1, f"no effect comes twice: {because}"
            if len(done) == 1:
                refused += 1
                assert result.output == f"said: {REFUSED}", because
                assert ("deploy", "refused") in outcomes(result), because
                assert not result.recorded, f"not a trace: {because}"
            else:
                assert result.output == f"said: deployed {done[1]}", because
            await it.replays_truly(rule, result, because)
    assert refused > 0 or becomes == ("B", "A"), "there was a window between the two"
