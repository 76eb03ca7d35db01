"""What a run has paid is told even if its process is killed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.outcome.events import Event, RunEnded
from execgraph.graphstore.model import KILLED_AFTER_MS, Execution, ExecutionState, Mode
from execgraph.graphstore.retention import Collected, Retention

from .conftest import World, results

TASK = "go"
RUNNING = ExecutionState.RUNNING


async def abandoned(world: World) -> Execution:
    """The execution of a run that has had a reply, as another process finds it."""
    engine = world.engine()

    @engine.tool(effect="read", requires=[])
    async def hang() -> str:
        """Never end."""
        await asyncio.Event().wait()
        return "never"

    world.think(lambda body: Answer([call("hang", {})], usage=(100, 10)))
    async with engine, world.engine() as other:
        run = asyncio.ensure_future(world.agent(engine, [hang]).execute(TASK))
        store = other.session().store
        while not (found := await _running(other)):  # noqa: ASYNC110  (seen from outside)
            await asyncio.sleep(0.01)
        [execution_id] = found
        trace = await store.execution(execution_id)
        assert trace is not None
        # The task ends here; to the store it is as if the process were gone.
        engine.session().replay_writer.running.forget(execution_id)
        store_of_run = engine.session().store
        store_of_run.write = _nothing  # type: ignore[assignment,method-assign]
        run.cancel()
        await asyncio.wait({run})
    return trace.execution


async def _nothing(*_: Any) -> dict[str, int]:
    return {}


async def _running(engine: Engine) -> list[str]:
    rows = await engine.cypher(
        "MATCH (e:Execution {namespace: $namespace, state: 'running'})"
        " WHERE e.input_tokens > 0 RETURN e.id AS id"
    )
    return [row["id"] for row in rows]


async def test_its_tokens_count_from_the_reply_on(world: World) -> None:
    execution = await abandoned(world)
    assert (execution.usage.total, execution.asked) == (110, 1)
    assert execution.cost == pytest.approx(100 * 2e-6 + 10 * 1e-5)
    async with world.engine() as engine:
        stats = await engine.stats()
        assert (stats.running, stats.killed, stats.executions) == (1, 0, 0)
        assert (stats.tokens, stats.calls_asked) == (110, 1)
        assert stats.agents["deployer"].tokens == 110
        why = await engine.why(execution.id)
        assert str(why.execution.state) == "running"
        assert why.hint is not None
        assert "not ended" in why.hint


async def test_after_an_hour_of_silence_it_is_told_as_killed_and_later_folded(
    world: World,
) -> None:
    execution = await abandoned(world)
    early = execution.started_at - KILLED_AFTER_MS - 60_000
    async with world.engine() as engine:
        store = engine.session().store
        old = execution.model_copy(update={"started_at": early})
        await store.note_running([old])
        stats = await engine.stats()
        assert (stats.running, stats.killed, stats.tokens) == (0, 1, 110)
        why = await engine.why(execution.id)
        assert str(why.execution.state) == "killed"
        assert why.steps == ()
        short = Retention(history_age=timedelta(minutes=30), grace=timedelta(minutes=30))
        assert await store.collectable(short) == Collected(executions=1, more=True)
        assert (await engine.collect(short)).executions == 1
        after = await engine.stats()
        assert (after.killed, after.tokens, after.cost) == (1, 110, stats.cost)
        assert await store.execution(execution.id) is None


async def test_a_run_that_ends_replaces_what_was_known_of_it(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="read", requires=[])
    async def look() -> str:
        """Look."""
        await asyncio.sleep(0.05)
        return "seen"

    world.think(lambda body: Answer([text("ok")] if results(body) else [call("look", {})]))
    async with engine:
        result = await world.agent(engine, [look]).execute(TASK)
        stats = await engine.stats()
        assert (stats.live, stats.running, stats.tokens) == (1, 0, result.tokens)
        late = Execution(
            id=result.execution_id, task="", agent="x", mode=Mode.LIVE, state=RUNNING, started_at=1
        )
        await engine.session().store.note_running([late])
        assert (await engine.stats()).tokens == result.tokens, "it was written already"


async def test_a_cancelled_run_tells_what_it_paid(world: World) -> None:
    engine, log = world.engine(), list[Event]()
    engine.subscribe(log.append)

    @engine.tool(effect="read", requires=[])
    async def hang() -> str:
        """Never end."""
        run.cancel()
        await asyncio.Event().wait()
        return "never"

    world.think(lambda body: Answer([call("hang", {})], usage=(100, 10)))
    async with engine:
        run = asyncio.ensure_future(world.agent(engine, [hang]).execute(TASK))
        await asyncio.wait({run})
    async with engine:
        stats = await engine.stats()
        assert (stats.failed, stats.running, stats.tokens) == (1, 0, 110)
    [ended] = [it for it in log if isinstance(it, RunEnded)]
    assert ended.tokens == 110
