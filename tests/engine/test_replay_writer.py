"""What is written behind: no replay is lost under load, and the event loop has its turns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from execgraph import Acl, Engine, FileSource, StoreUnavailable
from execgraph.graphstore.model import Replay

Write = Callable[[Sequence[Replay]], Awaitable[None]]


async def replay(engine: Engine, times: int) -> None:
    """A program of one pure action: it never waits for anything."""

    for _ in range(times):
        async with engine.run("program", "go") as run:
            await run.act(engine.tools["double"], number=2)
        assert run.result.steps


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = Engine(f"sqlite:///{tmp_path}/graph.db")

    @engine.tool(effect="pure", version="1")
    async def double(number: int) -> int:
        """Twice the number."""
        return 2 * number

    return engine


def written_by(engine: Engine, monkeypatch: pytest.MonkeyPatch, how: Any) -> None:
    """Have replays written by ``how``, which is given the store's own way of it."""
    store = engine.session().store
    own: Write = store.write_replays

    async def write(replays: Sequence[Replay]) -> None:
        await how(own, replays)

    monkeypatch.setattr(store, "write_replays", write)


async def test_no_replay_is_lost_while_runs_end_faster_than_they_are_written(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("execgraph.engine.sessions.replay_writer._CROWD", 50)
    most = 0

    async def slowly(own: Write, replays: Sequence[Replay]) -> None:
        nonlocal most
        await asyncio.sleep(0.02)
        most = max(most, engine.session().replay_writer.waiting)
        await own(replays)

    async with engine:
        written_by(engine, monkeypatch, slowly)
        await asyncio.gather(*(replay(engine, 50) for _ in range(10)))
        await engine.settle()
        assert (await engine.stats()).executions == 500
    assert most < 120, "those who add wait for those who were before"
    assert [it for it in caplog.records if it.levelno >= logging.WARNING] == []


async def test_replays_are_kept_while_they_cannot_be_written(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("execgraph.engine.sessions.replay_writer._CROWD", 50)
    monkeypatch.setattr("execgraph.engine.sessions.replay_writer._AGAIN_SECONDS", 0.05)
    away = True

    async def perhaps(own: Write, replays: Sequence[Replay]) -> None:
        if away:
            raise StoreUnavailable("it is away")
        await own(replays)

    async with engine:
        written_by(engine, monkeypatch, perhaps)
        async with asyncio.timeout(20):
            await replay(engine, 300)
        assert len([it for it in caplog.records if "wait to be written" in it.message]) == 1
        away = False
        await engine.settle()
        assert (await engine.stats()).executions == 300


async def test_only_what_could_not_be_written_is_dropped_and_that_is_told_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("execgraph.engine.sessions.replay_writer._LIMIT", 100)
    away = True

    async def perhaps(own: Write, replays: Sequence[Replay]) -> None:
        if away:
            raise StoreUnavailable("it is away")
        await own(replays)

    async with engine:
        written_by(engine, monkeypatch, perhaps)
        await replay(engine, 200)
        assert len([it for it in caplog.records if "the oldest go" in it.message]) == 1
        away = False
        await engine.settle()
        assert (await engine.stats()).executions == 101, "the recording, and the newest replays"
        assert not engine.session().at_work._own, "what was dropped is not at work for ever"


async def test_a_run_that_waits_to_be_written_can_be_cancelled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execgraph.engine.sessions.replay_writer._CROWD", 20)
    on = asyncio.Event()

    async def held(own: Write, replays: Sequence[Replay]) -> None:
        await on.wait()
        await own(replays)

    async with engine:
        written_by(engine, monkeypatch, held)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await replay(engine, 1000)
        on.set()
        await engine.settle()
        stats = await engine.stats()
        assert stats.failed == 1
        assert stats.executions == 21, "the recording, and what waited"


async def test_replays_in_a_loop_leave_turns_to_others(engine: Engine) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with engine:
        await replay(engine, 1)
        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        turns = 0
        await replay(engine, 200)
        counting.cancel()
        assert turns > 2


async def test_a_long_run_leaves_turns_to_others(engine: Engine) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def long() -> None:
        async with engine.run("long", "go") as run:
            for number in range(300):
                await run.act(engine.tools["double"], number=number)

    async with engine:
        await long()
        counting = asyncio.create_task(count())
        await long()
        counting.cancel()
        assert turns > 2


async def test_a_rule_is_in_force_soon_beside_replays_that_never_wait(tmp_path: Path) -> None:
    rule = tmp_path / "prod.json"
    rule.write_text('{"allow": true}')
    engine = Engine(f"sqlite:///{tmp_path}/graph.db")
    asked = runs = 0

    async def ask(_: Any) -> str:
        nonlocal asked
        asked += 1
        return "yes"

    async def program() -> None:
        nonlocal runs
        async with engine.run("deploy", "go", requires=[Acl("prod")]) as run:
            await run.decide({"may": "I"}, call=ask)
        runs += 1

    hour = timedelta(hours=1)
    source = FileSource(str(tmp_path / "*.json"), resource="acl:{path.stem}", interval=hour)
    async with engine, engine.watch([source]):
        for _ in range(20):
            await program()
        assert asked == 1
        rule.write_text('{"allow": false}')
        async with asyncio.timeout(20):
            while asked == 1:
                await program()
        await engine.settle()
        assert (await engine.stats()).executions == runs, "no replay is lost"
