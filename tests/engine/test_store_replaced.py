"""Another file is put in the place of the store while a service runs on it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from execgraph import Acl, Agent, DeploymentTarget, Engine, FileSource, RunFailed
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, misses, turn
from .test_effects import allow, deployer, once

Replace = Callable[[Path], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept/graph.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


def delete(path: Path) -> None:
    shutil.rmtree(path.parent)


def restore(path: Path) -> None:
    """A proper backup, put in place by a rename, as one that manages configurations does."""
    copy = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as other:
        live.backup(other)
    copy.rename(path)
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


ways = pytest.mark.parametrize("replace", [delete, restore], ids=["deleted", "restored"])


@ways
async def test_a_rule_that_others_changed_is_in_force_in_a_service_that_went_on(
    world: World, path: Path, replace: Replace
) -> None:
    service, agent, _ = deployer(world)
    async with service:
        await allow(service)
        await agent.execute("go")
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 0
        replace(path)
        async with world.engine() as other:
            await other.observe("acl:deploy", {"allow": False})
            result, asked, _ = await world.count(agent.execute("go"))
        wanted = (2, ["new task"]) if replace is delete else (1, ["precondition changed"])
        assert (asked, misses(result)) == wanted


@ways
async def test_a_rule_that_a_service_changed_is_in_force_for_others(
    world: World, path: Path, replace: Replace
) -> None:
    service, agent, _ = deployer(world)
    async with service:
        await allow(service)
        await agent.execute("go")
        replace(path)
        other, its_agent, _ = deployer(world)
        async with other:
            await service.observe("acl:deploy", {"allow": False})
            result, asked, _ = await world.count(its_agent.execute("go"))
    assert asked
    assert not result.replayed


def looks_first(world: World, engine: Engine, meanwhile: Callable[[], None]) -> Agent:
    """An agent whose recorded run looks, and then writes."""

    def brain(body: dict[str, Any]) -> Answer:
        calls = [call("look", {}), call("deploy", {"target": "eu"})]
        return Answer([calls[turn(body)] if turn(body) < 2 else text("done")])

    @engine.tool(effect="read", requires=[])
    async def look() -> str:
        """Look."""
        meanwhile()
        return "looked"

    @engine.tool(effect="write", requires=[Acl("deploy"), DeploymentTarget("{target}")])
    async def deploy(target: str) -> str:
        """Deploy."""
        world.done.append(f"deploy {target}")
        return "deployed"

    world.think(brain)
    return world.agent(engine, [look, deploy])


@ways
@pytest.mark.parametrize("on_store_error", ["raise", "live"])
async def test_what_was_decided_by_the_old_file_does_nothing_by_the_new_one(
    world: World, path: Path, replace: Replace, on_store_error: Literal["raise", "live"]
) -> None:
    """Both files know the rule by the same number; the new one forbids what the old allows."""
    service = world.engine(on_store_error=on_store_error)
    happenings: list[Callable[[], None]] = []

    def meanwhile() -> None:
        while happenings:
            happenings.pop(0)()

    agent = looks_first(world, service, meanwhile)
    forbid = once(lambda e: e.observe("acl:deploy", {"allow": False}), world)
    async with service:
        await allow(service)
        await agent.execute("go")
        happenings += [lambda: replace(path), forbid]
        world.done.clear()
        before = world.server.requests
        if on_store_error == "raise":
            with pytest.raises(RunFailed, match="Begin it anew"):
                await agent.execute("go")
            assert world.done == []
        else:
            result = await agent.execute("go")
            assert world.server.requests > before, "the write was decided again"
            assert not result.recorded
        result, asked, _ = await world.count(agent.execute("go"))
        assert asked, "what is there now forbids it"
        assert result.recorded


async def test_watched_files_are_told_to_the_new_store(
    world: World, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "acl").mkdir()
    (tmp_path / "acl/deploy.json").write_text('{"allow": true}', encoding="utf-8")
    source = FileSource(
        "acl/*.json",
        resource="acl:{path.stem}",
        root=tmp_path,
        interval=timedelta(milliseconds=50),
        max_age=timedelta(seconds=30),
    )
    async with world.engine() as engine, engine.watch([source]):
        delete(path)
        async with world.engine() as other, asyncio.timeout(20):
            store = other.session().store
            while (found := await store.document("acl:deploy")) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert found[1].content == {"allow": True}


def copy_anew(path: Path) -> None:
    copy = path.read_bytes()
    delete(path)
    path.parent.mkdir()
    path.write_bytes(copy)


async def test_what_a_process_remembers_does_not_outlive_its_store(
    world: World, path: Path
) -> None:
    """Closed in between: the new file may have the old one's inode."""
    service, agent, _ = deployer(world)
    async with service:
        await allow(service)
        await agent.execute("go")
        await agent.execute("go")
    copy_anew(path)
    async with world.engine() as other:
        await other.observe("acl:deploy", {"allow": False})
    async with service:
        result, asked, _ = await world.count(agent.execute("go"))
    assert asked
    assert not result.replayed
