"""A Neo4j server that is killed, and started again, in the middle of runs and changes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import Acl, Agent, Engine, IdempotencyKey, Result, RunFailed, StoreUnavailable
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import ChangeEvent, EffectState
from execgraph.graphstore.store import GraphStore
from execgraph.scripts._neo4j_control import is_free

from .conftest import World, misses, turn
from .outage import repeat_for

pytestmark = pytest.mark.neo4j

SCRIPT = Path(__file__).parents[2] / "scripts" / "neo4j"


class Server:
    """A server of this module's own, with a home and a port that outlive it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = _lasting_port()
        self.uri = f"neo4j://127.0.0.1:{self.port}"
        self.pid = 0

    def start(self) -> None:
        told = self._script("start", "--port", str(self.port), "--memory", "512m", "--json")
        self.pid = json.loads(told.splitlines()[-1])["pid"]

    def kill(self) -> None:
        """Gone once its port is: the process counts as ended before all its threads have."""
        os.kill(self.pid, signal.SIGKILL)
        while not is_free(self.port):
            time.sleep(0.01)

    def stop(self) -> None:
        self._script("stop")

    def _script(self, command: str, *options: str) -> str:
        argv = [sys.executable, str(SCRIPT), command, "--home", str(self.home), *options]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _lasting_port() -> int:
    """A free port that nobody is given while the server is away: those that systems hand out by
    themselves begin at 32768."""
    return next(it for _ in range(1000) if is_free(it := random.randrange(20_000, 32_000)))


@pytest.fixture(scope="module")
def own(neo4j_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Only where there is a Neo4j for the other tests: else it would have to be downloaded."""
    server = Server(tmp_path_factory.mktemp("neo4j"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def world(own: Server, server: tuple[MessagesServer, list[Any]]) -> AsyncIterator[World]:
    running, script = server
    async with AsyncAnthropic(base_url=running.url, api_key="test-key", max_retries=0) as client:
        yield World(own.uri, f"test-{uuid.uuid4().hex[:12]}", running, client, script)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(200):
        while not condition():  # noqa: ASYNC110  (what is waited for happens elsewhere)
            await asyncio.sleep(0.01)


@dataclass
class Fleet:
    """Runs that begin one after another, and what became of them. Each run has one effect."""

    agent: Agent
    keys: list[str]
    results: list[Result] = field(default_factory=list)
    failed: list[RunFailed] = field(default_factory=list)
    not_begun: int = 0
    stop: bool = False

    async def run(self, task: str) -> None:
        while not self.stop:
            try:
                self.results.append(await self.agent.execute(task))
            except RunFailed as error:
                self.failed.append(error)
            except StoreUnavailable:
                self.not_begun += 1
            await asyncio.sleep(0)


def shipper(world: World, engine: Engine) -> Fleet:
    keys: list[str] = []
    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("ship", {})]))

    @engine.tool(effect="write", requires=[Acl("ship")])
    async def ship(*, key: Annotated[str, IdempotencyKey]) -> str:
        """Ship."""
        keys.append(key)
        await asyncio.sleep(0)
        return "shipped"

    return Fleet(world.agent(engine, [ship]), keys)


@dataclass
class Changes:
    """Changes of one resource, one after another, and those that were acknowledged."""

    uri: str
    acknowledged: list[ChangeEvent] = field(default_factory=list)
    number: int = 0
    refused: int = 0
    stop: bool = False

    async def run(self, engine: Engine) -> None:
        while not self.stop:
            self.number += 1
            try:
                event = await engine.observe(self.uri, {"n": self.number})
            except StoreUnavailable:
                self.refused += 1
                continue
            assert event is not None
            self.acknowledged.append(event)


async def changes_are_kept(store: GraphStore, changes: Changes) -> None:
    """Each acknowledged one is there once, in order; the last one written is what holds."""
    kept = await store.changes(resource=changes.uri, limit=None)
    ids = [event.id for event in reversed(kept)]
    assert [it for it in ids if it in {event.id for event in changes.acknowledged}] == [
        event.id for event in changes.acknowledged
    ]
    versions = [event.to_version for event in reversed(kept)]
    assert versions == list(range(1, len(versions) + 1)), "none is lost, and none is doubled"
    assert len(changes.acknowledged) <= len(kept) <= len(changes.acknowledged) + changes.refused
    current = await store.document(changes.uri)
    assert current is not None
    assert current[0] == versions[-1]
    if not changes.refused:
        assert current[1].whole == Document.of({"n": changes.number}).whole


async def effects_are_told(store: GraphStore, fleet: Fleet) -> None:
    """No run had its effect twice; each effect there was is told, by its run and in the store."""
    assert [key for key, count in Counter(fleet.keys).items() if count > 1] == []
    told: dict[str, EffectState] = {}
    for result in fleet.results:
        [effect] = result.effects
        told[effect.idempotency_key] = effect.state
        assert result.output == "ok"
    for error in fleet.failed:
        told |= {it.idempotency_key: it.state for it in (*error.effects, *error.in_doubt)}
    assert set(told) == set(fleet.keys)
    runs = [it.execution_id for it in fleet.results]
    runs += [it.execution_id for it in fleet.failed]
    kept = [it for run in runs for it in await store.effects(run)]
    assert set(fleet.keys) <= {it.idempotency_key for it in kept}
    for it in kept:
        if it.state is EffectState.DONE:
            assert it.idempotency_key in fleet.keys


async def test_what_was_acknowledged_is_kept_and_what_waited_goes_on(
    world: World, own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is back within the time that calls are repeated."""
    repeat_for(monkeypatch, 120.0)  # whatever else this machine does
    engine = world.engine()
    fleet = shipper(world, engine)
    changes = [Changes(f"rule:{number}") for number in range(2)]

    def done(runs: int, changed: int) -> bool:
        least = min(len(it.acknowledged) for it in changes)
        return len(fleet.results) >= runs and least >= changed

    async with engine:
        await engine.observe("acl:ship", {"rule": 0})
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(fleet.run(f"task {number % 2}"))
            for it in changes:
                group.create_task(it.run(engine))
            await until(lambda: done(6, 3))
            own.kill()
            runs, most = len(fleet.results), max(len(it.acknowledged) for it in changes)
            await asyncio.to_thread(own.start)
            await until(lambda: done(runs + 4, most + 2))
            fleet.stop = True
            for it in changes:
                it.stop = True
        await engine.settle()
    assert fleet.not_begun == 0
    async with world.engine() as other:
        store = other.session().store
        for it in changes:
            assert it.refused == 0, "each was repeated until it succeeded"
            await changes_are_kept(store, it)
        await effects_are_told(store, fleet)


async def test_nothing_stale_is_served_once_it_is_back(
    world: World, own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from memory either; what is not back in time is told; a walk that was open is done."""
    strict, lively = world.engine(), world.engine(on_store_error="live")
    fleet, live = shipper(world, strict), shipper(world, lively)
    changes = Changes("rule:0")
    async with strict, lively:
        await strict.observe("acl:ship", {"rule": 0})
        recorded = await fleet.agent.execute("go")
        for it in (fleet, live):
            assert (await it.agent.execute("go")).identical
        await strict.settle()
        store = strict.session().store
        assert await store.lease("walker", "who died", timedelta(seconds=3))
        repeat_for(monkeypatch, 1.0)
        async with asyncio.TaskGroup() as group:
            for work in (fleet.run("go"), live.run("go"), changes.run(strict)):
                group.create_task(work)
            await until(lambda: len(fleet.results) > 3 and len(changes.acknowledged) > 3)
            # Acknowledged, and nobody has walked yet.
            assert await strict.observe("acl:ship", {"rule": 1}) is not None
            own.kill()
            await until(lambda: bool(fleet.not_begun and changes.refused))
            await until(lambda: AWAY in misses(live.results[-1]))
            fleet.stop = live.stop = changes.stop = True
        assert not live.failed
        with pytest.raises(StoreUnavailable):
            await world.engine().__aenter__()
        late = world.engine(on_store_error="live")
        async with late:  # a service that starts while its store is away
            await asyncio.to_thread(own.start)
            repeat_for(monkeypatch, 120.0)
            outages = [it.session().outage for it in (lively, late)]
            await until(lambda: not any(it is not None and it.ongoing for it in outages))
            await nothing_stale(world, strict, [fleet, live])
            await late.settle()
        await changes_are_kept(store, changes)
        for it in (fleet, live):
            assert [key for key, count in Counter(it.keys).items() if count > 1] == []
        await strict.settle()
        assert await store.walks() == []
        assert await store.marks(recorded.execution_id) != {}
        assert await store.lease("walker", "anybody", timedelta(seconds=0))


async def nothing_stale(world: World, engine: Engine, fleets: list[Fleet]) -> None:
    """Each asks after each change, though it remembers a trace, and replays while there is none."""
    for fleet in fleets:
        assert (await fleet.agent.execute("go")).output == "ok"
        await engine.observe("acl:ship", {"rule": uuid.uuid4().hex})
        result, asked, _ = await world.count(fleet.agent.execute("go"))
        assert asked >= 1
        assert "precondition changed" in misses(result)
        again, asked, _ = await world.count(fleet.agent.execute("go"))
        assert (asked, again.identical) == (0, True)


AWAY = "store away"
