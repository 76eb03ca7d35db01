"""A read whose output is used again for a time."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from execgraph import Acl, Agent, Engine, ToolError
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.steps import stopwatch
from execgraph.graphstore.model import Effect

from .conftest import World, outcomes, results, turn

TEN = timedelta(minutes=10)


class Clock:
    """The wall clock, which a test sets forward."""

    def __init__(self) -> None:
        self.ahead = 0

    def pass_by(self, **time_: float) -> None:
        self.ahead += int(timedelta(**time_).total_seconds() * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    it, real = Clock(), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + it.ahead)
    return it


def looker(world: World, engine: Engine, **declared: Any) -> Agent:
    """An agent that looks once and tells what it saw."""

    @engine.tool(effect="read", **{"fresh_for": TEN, **declared})
    def look(where: str) -> str:
        """Look."""
        world.done.append(where)
        return f"{where} is well"

    world.think(
        lambda body: (
            Answer([text(f"said: {results(body)}")])
            if turn(body)
            else Answer([call("look", {"where": "eu"})])
        )
    )
    return world.agent(engine, [look])


async def test_it_runs_again_once_it_is_too_old(world: World, clock: Clock) -> None:
    engine = world.engine()
    agent = looker(world, engine)
    async with engine:
        first = await agent.execute("go")
        for minutes, done in ((0, []), (9, []), (2, ["eu"]), (9, []), (2, ["eu"]), (0, [])):
            clock.pass_by(minutes=minutes)
            result, *found = await world.count(agent.execute("go"))
            assert found == [0, done]
            assert outcomes(result)[1] == ("look", "replayed" if done else "reused")
            assert (result.output, result.identical) == (first.output, True)


async def test_another_process_goes_by_the_recording(world: World, clock: Clock) -> None:
    async with (engine := world.engine()):
        await looker(world, engine).execute("go")
    for minutes, done in ((9, []), (2, ["eu"])):
        clock.pass_by(minutes=minutes)
        async with (engine := world.engine()):
            _, *found = await world.count(looker(world, engine).execute("go"))
            assert found == [0, done]


async def test_a_copy_is_as_old_as_what_it_is_a_copy_of(world: World, clock: Clock) -> None:
    """A later run that had to ask again is a trace of its own, with the old output in it."""
    async with (engine := world.engine()):
        agent = looker(world, engine)

        @engine.tool(effect="read")
        def ask() -> int:
            """Ask."""
            return len(world.done)

        world.think(
            lambda body: (
                Answer([text(f"said: {results(body)}")])
                if turn(body) == 2
                else Answer([call(*[("look", {"where": "eu"}), ("ask", {})][turn(body)])])
            )
        )
        agent = world.agent(engine, [engine.tools["look"], ask])
        await agent.execute("go")
        clock.pass_by(minutes=6)
        world.done.append("something else")
        result = await agent.execute("go")
        assert [it for _, it in outcomes(result)] == [
            "replayed", "reused", "replayed", "diverged", "asked",
        ]  # fmt: skip
        assert result.recorded
    async with (engine := world.engine()):
        clock.pass_by(minutes=6)
        looker(world, engine)
        agent = world.agent(
            engine, [engine.tools["look"], engine.tool(ask.function, effect="read")]
        )
        world.done[:] = ["x", "x"]
        result = await agent.execute("go")
        assert outcomes(result)[1] == ("look", "replayed"), "twelve minutes old, and not six"


async def test_facts_that_it_requires_must_hold(world: World, clock: Clock) -> None:
    async with (engine := world.engine()):
        agent = looker(world, engine, requires=[Acl("look")])
        await engine.observe("acl:look", 1)
        await agent.execute("go")
        for number, done in ((1, []), (2, ["eu"]), (2, []), (None, ["eu"]), (1, [])):
            if number is None:
                await engine.withdraw("acl:look")
            else:
                await engine.observe("acl:look", number)
            _, *found = await world.count(agent.execute("go"))
            assert found == [0, done], number


async def test_a_clock_that_was_set_back_makes_nothing_fresh(world: World, clock: Clock) -> None:
    async with (engine := world.engine()):
        agent = looker(world, engine)
        await agent.execute("go")
        clock.pass_by(hours=-1)
        _, *found = await world.count(agent.execute("go"))
        assert found == [0, ["eu"]]


async def test_errors_and_other_code_run_again(world: World, clock: Clock) -> None:
    async with (engine := world.engine()):

        @engine.tool(effect="read", fresh_for=TEN)
        def look(where: str) -> str:
            """Look."""
            world.done.append(where)
            raise OSError("no answer")

        looker(world, world.engine())
        agent = world.agent(engine, [look])
        for _ in range(2):
            _, _, done = await world.count(agent.execute("go"))
            assert done == ["eu"]
    for version, done in (("1", ["eu"]), ("1", []), ("2", ["eu"])):
        async with (engine := world.engine()):
            agent = looker(world, engine, version=version)
            _, _, found = await world.count(agent.execute("go"))
            assert found == done


@pytest.mark.parametrize(
    ("value", "again"), [({"a": [1, 2]}, []), ((1, 2), ["look"]), ({1, 2}, ["look"])]
)
async def test_a_program_gets_the_value_itself_or_it_runs_again(
    world: World, clock: Clock, value: Any, again: list[str]
) -> None:
    async with (engine := world.engine()):

        @engine.tool(effect="read", fresh_for=TEN)
        def look() -> Any:
            """Look."""
            world.done.append("look")
            return value

        async def work() -> Any:
            async with engine.run("looks", "go") as run:
                return (await run.act(look)).value

        for done in (["look"], again, again):
            given, _, found = await world.count(work())
            assert (given, found) == (value, done)
            assert type(given) is type(value)


async def test_what_is_not_for_it_is_refused() -> None:
    engine = Engine("sqlite:///unused.db")

    def look() -> str:
        """Look."""
        return ""

    for effect in ("pure", "write", "once"):
        with pytest.raises(ToolError, match="fresh_for="):
            engine.tool(look, effect=Effect(effect), requires=[], fresh_for=TEN)
    for wrong in (timedelta(0), timedelta(-1), 60):
        with pytest.raises(ToolError, match="give a positive timedelta"):
            engine.tool(look, effect="read", fresh_for=wrong)  # type: ignore[call-overload]


assert vars(stopwatch)["time"] is time, "the clock that is set is the one that steps are told by"
