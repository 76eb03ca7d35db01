"""Retention as an agent service meets it: what one process deletes while another replays."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from execgraph import Agent, Collected, Engine, Retention, Stats
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.sessions import collector as keeping
from execgraph.invalidation.resources import Acl

from .conftest import World, misses, turn

TASK = {"service": "checkout"}
LEAST = Retention(traces=1, history=0, versions=0, grace=timedelta(0))
NONE = replace(LEAST, max_age=timedelta(0))
LATER = replace(NONE, grace=timedelta(hours=1))


class Door:
    """A tool waits at it, once it is closed."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.reached = asyncio.Event()

    def close(self) -> None:
        self._open.clear()
        self.reached.clear()

    def open(self) -> None:
        self._open.set()

    async def enter(self) -> None:
        self.reached.set()
        await self._open.wait()


def look_then_deploy(body: dict[str, Any]) -> Answer:
    match turn(body):
        case 0:
            return Answer([call("look", {})])
        case 1:
            return Answer([call("deploy", {"to": "eu"})])
    return Answer([text("Done.")])


def deployer(
    world: World, door: Door | None = None, retention: Retention | None = None
) -> tuple[Engine, Agent]:
    world.think(look_then_deploy)
    engine = world.engine(retention=retention)

    @engine.tool(effect="read")
    async def look() -> dict[str, int]:
        """Look."""
        if door is not None:
            await door.enter()
        world.done.append("look")
        return {"seen": 1}

    @engine.tool(effect="write", requires=[Acl("prod", "$.rule")])
    def deploy(to: str) -> str:
        """Deploy."""
        world.done.append("deploy")
        return f"deployed to {to}"

    return engine, world.agent(engine, [look, deploy])


def runs(stats: Stats) -> int:
    return stats.hits + stats.partial + stats.live + stats.failed


def counted(stats: Stats) -> Stats:
    return replace(stats, traces=0)


async def test_a_run_in_the_middle_ends_as_a_replay_within_the_grace(world: World) -> None:
    door = Door()
    engine, agent = deployer(world, door)
    other, _ = deployer(world)
    async with engine, other:
        await engine.observe("acl:prod", {"rule": 1})
        recorded = await agent.execute(TASK)
        door.close()
        running = asyncio.ensure_future(world.count(agent.execute(TASK)))
        await door.reached.wait()
        taken = await other.collect(LATER)
        assert (taken.unpublished, taken.executions) == (1, 0)
        door.open()
        result, asked, done = await running
        assert (asked, done) == (0, ["look", "deploy"])
        assert result.identical
        assert result.output == recorded.output

        again, asked, done = await world.count(agent.execute(TASK))
        assert asked == 3, "a trace that another process took away is served from no memory"
        assert (again.recorded, done) == (True, ["look", "deploy"])


@pytest.mark.parametrize("leaves_the_path", [False, True])
async def test_a_run_in_the_middle_ends_right_without_any_grace(
    world: World, *, leaves_the_path: bool
) -> None:
    door = Door()
    engine, agent = deployer(world, door)
    other, _ = deployer(world)
    async with engine, other:
        await engine.observe("acl:prod", {"rule": 1})
        await agent.execute(TASK)
        door.close()
        running = asyncio.ensure_future(world.count(agent.execute(TASK)))
        await door.reached.wait()
        if leaves_the_path:
            await other.observe("acl:prod", {"rule": 2})
        await other.settle()
        taken = await other.collect(NONE)
        assert (taken.unpublished, taken.executions, taken.tasks) == (1, 1, 1)
        door.open()
        result, asked, done = await running
        assert done == ["look", "deploy"]
        assert result.output == "Done."
        assert asked == (1 if leaves_the_path else 0)
        await engine.settle()

        again, asked, _ = await world.count(agent.execute(TASK))
        assert again.output == "Done."
        assert asked in (0, 3)
        final, asked, done = await world.count(agent.execute(TASK))
        assert (asked, done) == (0, ["look", "deploy"])
        assert final.identical
        assert runs(await engine.stats()) == 4, "those that were deleted are counted too"


async def test_stats_are_what_they_were(world: World) -> None:
    engine, agent = deployer(world)
    async with engine:
        for rule in (1, 2, 1, 3):
            await engine.observe("acl:prod", {"rule": rule})
            for _ in range(3):
                await agent.execute(TASK)
        await engine.settle()
        before = await engine.stats()
        told = await engine.collect(LEAST, dry_run=True)
        assert counted(await engine.stats()) == counted(before)
        seen: list[Collected] = []
        taken = await engine.collect(LEAST, progress=seen.append)
        assert replace(told, more=False) == taken == seen[-1]
        assert taken.unpublished == 2
        assert taken.replays > 5
        assert taken.effects > 5
        assert counted(await engine.stats()) == counted(before)
        assert await engine.collect(LEAST) == Collected()


async def test_what_returns_to_a_content_whose_version_is_gone_replays_again(
    world: World,
) -> None:
    engine, agent = deployer(world)
    async with engine:
        for rule in (1, 2):
            await engine.observe("acl:prod", {"rule": rule})
            await agent.execute(TASK)
        await engine.settle()
        taken = await engine.collect(replace(LEAST, traces=8))
        assert (taken.versions, taken.unpublished) == (1, 0)
        await engine.observe("acl:prod", {"rule": 1})
        result, asked, done = await world.count(agent.execute(TASK))
        assert (asked, done) == (0, ["look", "deploy"])
        assert result.identical


async def test_a_facet_that_was_deleted_guards_again(world: World) -> None:
    engine, agent = deployer(world)
    async with engine:
        await engine.observe("acl:prod", {"rule": 1})
        await agent.execute(TASK)
        taken = await engine.collect(NONE)
        assert taken.facets > 0
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 3
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0
        await engine.observe("acl:prod", {"rule": 2})
        result, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 1
        assert "precondition changed" in misses(result)
        await engine.observe("acl:prod", {"rule": 1})
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0


async def test_why_tells_of_a_run_whose_trace_is_gone(world: World) -> None:
    engine, agent = deployer(world)
    async with engine:
        await engine.observe("acl:prod", {"rule": 1})
        first = await agent.execute(TASK)
        replayed = await agent.execute(TASK)
        await engine.observe("acl:prod", {"rule": 2})
        partial = await agent.execute(TASK)
        await engine.settle()
        await engine.collect(replace(LEAST, history=1))
        store = engine.session().store
        assert await store.execution(first.execution_id) is None
        for run in (replayed, partial):
            assert (await engine.why(run.execution_id)).execution.id == run.execution_id


async def test_as_many_traces_are_kept_as_the_engine_says(world: World) -> None:
    engine, agent = deployer(world, retention=replace(LEAST, traces=2))
    async with engine:
        for rule in (1, 2, 3):
            await engine.observe("acl:prod", {"rule": rule})
            await agent.execute(TASK)
        assert (await engine.stats()).traces == 2


async def _settled(engine: Engine) -> None:
    """Until the collector is idle."""
    await engine.session().collector.background.ended()


async def test_runs_have_what_is_old_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_INTERVAL_SECONDS", 0.0)
    engine, agent = deployer(world, retention=replace(LEAST, history=3))
    async with engine:
        await engine.observe("acl:prod", {"rule": 1})
        for _ in range(12):
            await agent.execute(TASK)
        await engine.settle()
        await _settled(engine)
        await agent.execute(TASK)
        await _settled(engine)
        stored = await engine.session().store.executions()
        assert len(stored) <= 1 + 3 + 1
        assert runs(await engine.stats()) == 13
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0


async def test_processes_take_turns(world: World) -> None:
    one, agent = deployer(world, retention=replace(LEAST, history=0))
    async with one:
        store = one.session().store
        turn = timedelta(minutes=10)
        assert await store.lease(keeping.LEASE, "another", turn)
        await one.observe("acl:prod", {"rule": 1})
        for _ in range(4):
            await agent.execute(TASK)
        await one.settle()
        await _settled(one)
        assert len(await store.executions()) == 4
        await store.release(keeping.LEASE, "another")
        one.session().collector._next = 0.0
        one.session().collector.kick()
        await _settled(one)
        assert len(await store.executions()) == 2
        assert not await store.lease(keeping.LEASE, "another", turn)


async def test_nothing_is_collected_by_itself_where_nobody_wants_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_INTERVAL_SECONDS", 0.0)
    engine, agent = deployer(world, retention=None)
    async with engine:
        await engine.observe("acl:prod", {"rule": 1})
        for _ in range(3):
            await agent.execute(TASK)
        await _settled(engine)
        assert await engine.collect() == Collected()
        assert (await engine.collect(LEAST)).replays == 1


async def test_processes_that_live_shortly_collect_when_they_close(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_INTERVAL_SECONDS", 0.0)
    for number in range(6):
        engine, agent = deployer(world, retention=replace(LEAST, history=1))
        async with engine:
            if number == 0:
                await engine.observe("acl:prod", {"rule": 1})
            await agent.execute(TASK)
            await agent.execute(TASK)
    engine, _ = deployer(world)
    async with engine:
        assert len(await engine.session().store.executions()) < 8
        assert runs(await engine.stats()) == 12


def test_the_sync_face_collects_too(world_url: str) -> None:
    engine = Engine(world_url, namespace="sync")
    with engine.sync() as e:
        e.observe("acl:prod", {"rule": 1})
        e.observe("acl:prod", {"rule": 2})
        e.settle()
        assert e.collect(LEAST, dry_run=True).versions == 1
        assert e.collect(LEAST).versions == 1
        assert e.collect(LEAST) == Collected()


@pytest.fixture
def world_url(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/graph.db"
