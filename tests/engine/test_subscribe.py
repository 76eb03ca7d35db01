"""The typed event log of this process."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from execgraph import RunFailed
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.outcome.events import Event, ResourceChanged, RunEnded, RunStarted, StepEnded

from .conftest import World, outcomes, results
from .test_replay import TASK, example, observe_both


def shape(log: list[Event]) -> list[Any]:
    """The log with what matters of each event."""
    found: list[Any] = []
    for event in log:
        match event:
            case RunStarted():
                found.append("started")
            case StepEnded(kind=kind, name=name, outcome=outcome):
                found.append(("?" if kind == "decision" else name, str(outcome)))
            case RunEnded(mode=mode, failed=failed):
                found.append("failed" if failed else str(mode))
            case ResourceChanged(event=change):
                found.append(change.resource)
    return found


async def test_a_run_tells_what_its_result_tells(world: World) -> None:
    engine, agent = example(world)
    log: list[Event] = []
    unsubscribe = engine.subscribe(log.append)
    async with engine:
        await observe_both(engine)
        assert shape(log) == ["acl:one", "acl:two"]
        log.clear()
        for mode in ("live", "replay"):
            result = await agent.execute(TASK)
            assert shape(log) == ["started", *outcomes(result), mode]
            end = log[-1]
            assert isinstance(end, RunEnded)
            assert (end.execution_id, end.tokens) == (result.execution_id, result.tokens)
            assert (end.recorded, end.steps) == (result.recorded, len(result.steps))
            assert end.miss == result.miss
            assert [it.position for it in log if isinstance(it, StepEnded)] == list(range(7))
            assert {getattr(it, "execution_id", None) for it in log} == {result.execution_id}
            log.clear()
        await engine.observe("acl:two", {"rule": 2})
        result = await agent.execute(TASK)
        assert shape(log) == ["acl:two", "started", *outcomes(result), "partial"]
        asked = [it for it in log if isinstance(it, StepEnded) and it.cause is not None]
        assert [str(it.cause.kind) for it in asked if it.cause] == ["precondition changed"] * 2
        unsubscribe()
        log.clear()
        await agent.execute(TASK)
        assert log == []
        unsubscribe()


async def test_a_subscriber_that_fails_disturbs_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    engine, agent = example(world)
    log: list[Event] = []

    def failing(event: Event) -> None:
        raise ValueError(f"cannot take {type(event).__name__}")

    async def failing_later(_: Event) -> None:
        await asyncio.sleep(0)
        raise KeyError("later")

    for it in (failing, failing_later, log.append):
        engine.subscribe(it)
    async with engine:
        await observe_both(engine)
        result = await agent.execute(TASK)
    assert result.recorded
    assert len(log) == 2 + 1 + 7 + 1, "the others are told"
    failures = [it for it in caplog.records if it.levelno == logging.ERROR]
    assert len(failures) == 2 * len(log)


async def test_coroutines_are_begun_in_order_and_ended_before_the_engine_closes(
    world: World,
) -> None:
    engine, agent = example(world)
    began: list[Event] = []
    ended: list[Event] = []

    async def take(event: Event) -> None:
        began.append(event)
        await asyncio.sleep(0.05)
        ended.append(event)

    engine.subscribe(take)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
    assert shape(began)[:3] == ["acl:one", "acl:two", "started"]
    assert len(ended) == len(began) == 2 + 1 + 7 + 1


async def test_a_failed_run_ends_as_failed(world: World) -> None:
    engine, _ = example(world)
    log: list[Event] = []
    engine.subscribe(log.append)
    short = world.agent(engine, [engine.tools["look"]], name="short", max_turns=1)
    async with engine:
        with pytest.raises(RunFailed) as failed:
            await short.execute(TASK)
    assert shape(log) == ["started", ("?", "asked"), ("look", "executed"), "failed"]
    end = log[-1]
    assert isinstance(end, RunEnded)
    assert end.execution_id == failed.value.execution_id
    assert "max_turns" in (end.reason or "")


async def test_a_program_tells_its_steps_too(world: World) -> None:
    engine = world.engine()
    log: list[Event] = []
    engine.subscribe(log.append)

    @engine.tool(effect="pure")
    def double(number: int) -> int:
        """Double."""
        return 2 * number

    async def work() -> None:
        async with engine.run("sums", "go") as run:
            await run.act(double, number=2)

    async with engine:
        await work()
        await work()
    assert shape(log) == [
        *("started", ("double", "executed"), "live"),
        *("started", ("double", "reused"), "replay"),
    ]


async def test_subscribers_of_one_engine_are_not_told_of_another(world: World) -> None:
    engine, _ = example(world)
    other = world.engine()
    log: list[Event] = []
    other.subscribe(log.append)
    async with engine, other:
        await observe_both(engine)
    assert log == []


async def test_a_tool_that_raises_is_flagged_and_logged_once_with_its_traceback(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    engine = world.engine()

    @engine.tool(effect="read", requires=[])
    def look() -> str:
        """Look."""
        raise LookupError("nothing is there")

    world.think(lambda body: Answer([text("done")] if results(body) else [call("look", {})]))
    log: list[Event] = []
    engine.subscribe(log.append)
    async with engine:
        await world.agent(engine, [look]).execute(TASK)
    ended = [it for it in log if isinstance(it, StepEnded)]
    assert [(it.name, it.error) for it in ended if it.kind == "action"] == [("look", True)]
    assert [it.error for it in ended if it.kind == "decision"] == [False, False]
    [told] = [it for it in caplog.records if it.name == "execgraph" and it.exc_info]
    assert "look" in told.getMessage()
    assert told.exc_info is not None
    assert isinstance(told.exc_info[1], LookupError)
    assert "nothing is there" in caplog.text
