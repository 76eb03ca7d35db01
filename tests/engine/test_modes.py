"""What the environment may override: EXECGRAPH_MODE and EXECGRAPH_STORE."""

from __future__ import annotations

import logging
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from execgraph import Acl, Agent, ConfigurationError, Engine, NotReplayable
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, misses, outcomes, turn


def shipper(world: World, engine: Engine) -> Agent:
    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("ship", {})]))

    @engine.tool(effect="write", requires=[Acl("ship")])
    def ship() -> str:
        """Ship."""
        world.done.append("ship")
        return "shipped"

    return world.agent(engine, [ship])


async def test_off_runs_everything_live_and_touches_no_store(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EXECGRAPH_MODE", "off")
    where = tmp_path / "nothing" / "graph.db"
    for url in (f"sqlite:///{where}", "neo4j://user:password@127.0.0.1:9/graph"):
        engine = Engine(url)
        agent = shipper(world, engine)
        async with engine:
            assert await engine.observe("acl:ship", "yes") is None
            assert await engine.withdraw("acl:ship") is None
            for _ in range(2):
                result, asked, done = await world.count(agent.execute("go"))
                assert (asked, done) == (2, ["ship"])
                assert (result.mode, result.recorded, result.output) == ("live", False, "ok")
                assert [effect.state for effect in result.effects] == ["done"]
            async with engine.run("program", "go", client=world.client) as run:
                run.output = (await run.act(engine.tools["ship"])).value
            assert run.result.output == "shipped"
            await engine.settle()
    assert not where.parent.exists()


async def test_record_never_serves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = world.engine()
    agent = shipper(world, engine)
    monkeypatch.setenv("EXECGRAPH_MODE", "record")
    async with engine:
        await engine.observe("acl:ship", "yes")
        for _ in range(2):
            result, asked, _ = await world.count(agent.execute("go"))
            assert (asked, result.mode) == (2, "live")
            assert misses(result) == ["replay off"]
        with pytest.raises(NotReplayable, match="do not set EXECGRAPH_MODE=record"):
            await agent.execute("go", require="replay")
    monkeypatch.delenv("EXECGRAPH_MODE")
    async with engine:
        result, asked, _ = await world.count(agent.execute("go"))
        assert (asked, result.identical) == (0, True), "what was recorded serves later"


async def test_replay_never_asks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = world.engine()
    agent = shipper(world, engine)
    async with engine:
        await engine.observe("acl:ship", "yes")
        await agent.execute("go")
    monkeypatch.setenv("EXECGRAPH_MODE", "replay")
    async with engine:
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, result.identical) == (0, ["ship"], True)
        world.done.clear()
        with pytest.raises(NotReplayable, match="new task"):
            await agent.execute("other")
        with pytest.raises(NotReplayable, match="replay off"):
            await agent.execute("go", replay=False)
        await engine.observe("acl:ship", "no")
        with pytest.raises(NotReplayable, match="acl:ship"):
            await agent.execute("go")
        assert world.done == []
    monkeypatch.setenv("EXECGRAPH_MODE", "")
    async with engine:
        result, asked, _ = await world.count(agent.execute("go"))
        assert asked == 1
        assert outcomes(result)[0] == ("?", "asked")


async def test_an_unknown_mode_is_told_when_the_engine_is_opened(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.engine()
    monkeypatch.setenv("EXECGRAPH_MODE", "rpelay")
    with pytest.raises(ConfigurationError, match="'rpelay' is unknown; use one of off, record"):
        await engine.__aenter__()
    monkeypatch.delenv("EXECGRAPH_MODE")
    async with engine:
        pass


async def test_the_store_may_come_from_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXECGRAPH_STORE", world.url)
    engine = Engine(namespace=world.namespace)
    agent = shipper(world, engine)
    async with engine:
        await engine.observe("acl:ship", "yes")
        await agent.execute("go")
    assert not (tmp_path / ".execgraph").exists()
    named = world.engine()
    same = shipper(world, named)
    monkeypatch.setenv("EXECGRAPH_STORE", "sqlite:///elsewhere.db")
    async with named:
        _, asked, _ = await world.count(same.execute("go"))
        assert asked == 0, "what the program names comes first"
    assert not (tmp_path / "elsewhere.db").exists()


async def test_a_wrong_store_in_the_environment_is_told_when_the_engine_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EXECGRAPH_STORE", "mysql://user:secret@host/db")
    engine = Engine()
    assert "secret" not in repr(engine)
    with pytest.raises(ConfigurationError, match="no store answers") as failure:
        await engine.__aenter__()
    assert "secret" not in str(failure.value)


async def test_by_default_the_graph_is_kept_in_a_closed_folder_of_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXECGRAPH_STORE", raising=False)
    caplog.set_level(logging.INFO, logger="execgraph")
    engine = Engine()
    folder = tmp_path / ".execgraph"
    assert not folder.exists(), "constructing does no I/O"
    for _ in range(2):
        async with engine:
            await engine.observe("acl:ship", "yes")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "graph.db").stat().st_mode) == 0o600
    assert (folder / ".gitignore").read_text() == "*\n"
    told = [record.message for record in caplog.records if "kept in" in record.message]
    assert told == [f"the graph is kept in {folder / 'graph.db'}"], "once"


async def test_a_relative_path_is_of_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Engine("sqlite:///kept.db") as engine:
        await engine.observe("acl:ship", "yes")
    assert (tmp_path / "kept.db").exists()


async def test_a_relative_path_stays_where_the_engine_was_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXECGRAPH_STORE", raising=False)
    named, default = Engine("sqlite:///kept.db"), Engine()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for engine in (named, default):
        async with engine:
            await engine.observe("acl:ship", "yes")
            assert await engine.cypher("MATCH (r:Resource) RETURN r.uri")
    monkeypatch.setenv("EXECGRAPH_STORE", "sqlite:///told.db")
    async with default:
        await default.observe("acl:ship", "yes")
    assert not list((tmp_path / "elsewhere").iterdir())
    for path in ("kept.db", ".execgraph/graph.db", "told.db"):
        assert (tmp_path / path).exists()


async def test_where_a_relative_path_begins_may_be_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    async with Engine(f"sqlite:///{tmp_path}/graph.db") as engine:
        await engine.observe("acl:ship", "yes")
    with pytest.raises(ConfigurationError, match="working folder, which was deleted"):
        Engine("sqlite:///graph.db")


def test_off_works_for_the_sync_face(world_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECGRAPH_MODE", "off")
    before = set(threading.enumerate())
    with Engine(world_url).sync() as e, e.run("program", "go") as run:
        run.output = 1
    assert run.result.output == 1
    assert set(threading.enumerate()) <= before, "a thread was left behind"


@pytest.fixture
def world_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/none.db"
