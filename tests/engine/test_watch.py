"""Watched sources and runs: facts are there before the first run, and are read again when due."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from execgraph import Acl, Engine
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.graphstore.model import ChangeKind

from .conftest import World, misses, turn

_RULE = "acl:prod/deploy"


class Rules:
    """A source that is never late, unless the test says so."""

    name = "rules"
    interval = timedelta(hours=1)

    def __init__(self, max_age: timedelta | None = None) -> None:
        self.documents: dict[str, Any] = {_RULE: {"allow": ["ops"]}}
        self.max_age = max_age
        self.reads = 0
        self.stuck = False

    async def resources(self) -> list[str]:
        return list(self.documents)

    async def read(self, uri: str) -> Any:
        self.reads += 1
        if self.stuck:
            await asyncio.Event().wait()
        return self.documents.get(uri)

    async def changes(self) -> AsyncIterator[str | None]:
        yield None
        await asyncio.Event().wait()


def think(body: dict[str, Any]) -> Answer:
    if turn(body) == 0:
        return Answer([text("I deploy."), call("deploy", {"service": "checkout"})])
    return Answer([text("Done.")])


def deployer(world: World, engine: Engine) -> Any:
    @engine.tool(effect="write", requires=[Acl("prod/deploy")])
    def deploy(service: str) -> str:
        """Deploy a service."""
        world.done.append(service)
        return "deployed"

    world.think(think)
    return world.agent(engine, [deploy])


async def test_what_is_watched_is_known_to_the_first_run(world: World) -> None:
    engine, rules = world.engine(), Rules()
    agent = deployer(world, engine)
    async with engine, engine.watch([rules]):
        first, asked, done = await world.count(agent.execute("deploy checkout"))
        assert (asked, done, first.recorded) == (2, ["checkout"], True)
        second, asked, done = await world.count(agent.execute("deploy checkout"))
        assert (asked, done, second.identical) == (0, ["checkout"], True)


async def test_a_lookup_reads_an_expired_fact_of_a_watched_source_again(world: World) -> None:
    engine, rules = world.engine(), Rules(max_age=timedelta(seconds=1))
    agent = deployer(world, engine)
    async with engine, engine.watch([rules]):
        await agent.execute("deploy checkout")
        await asyncio.sleep(1.05)
        reads = rules.reads
        again, asked, _ = await world.count(agent.execute("deploy checkout"))
        assert (asked, misses(again)) == (0, [])
        assert rules.reads == reads + 1
        await asyncio.sleep(1.05)
        rules.documents[_RULE] = {"allow": []}
        changed, asked, _ = await world.count(agent.execute("deploy checkout"))
        assert misses(changed) == ["precondition changed"]
        assert asked == 1


async def test_an_expired_fact_of_no_watched_source_fails_closed(world: World) -> None:
    engine = world.engine()
    agent = deployer(world, engine)
    async with engine:
        async with engine.watch([Rules(max_age=timedelta(milliseconds=300))]):
            await agent.execute("deploy checkout")
        await asyncio.sleep(0.35)
        result, asked, _ = await world.count(agent.execute("deploy checkout"))
        assert (asked, misses(result)) == (1, ["precondition expired"])


async def test_a_source_that_does_not_answer_keeps_no_run_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execgraph.engine.sessions.session._REFRESH_SECONDS", 0.1)
    engine, rules = world.engine(), Rules(max_age=timedelta(milliseconds=300))
    agent = deployer(world, engine)
    async with engine, engine.watch([rules]):
        await agent.execute("deploy checkout")
        await asyncio.sleep(0.35)
        rules.stuck = True
        result, asked, _ = await world.count(agent.execute("deploy checkout"))
        assert (asked, misses(result)) == (1, ["precondition expired"])


async def test_facts_noted_for_a_step_are_read_again_when_expired(world: World) -> None:
    """Else a first run after a pause would be recorded under a guard that never holds."""
    engine, rules = world.engine(), Rules(max_age=timedelta(milliseconds=300))
    agent = deployer(world, engine)
    async with engine, engine.watch([rules]):
        await asyncio.sleep(0.35)
        await agent.execute("deploy checkout")
        await asyncio.sleep(0.35)
        _, asked, _ = await world.count(agent.execute("deploy checkout"))
        assert asked == 0


async def test_changes_of_any_process_are_told(world: World) -> None:
    engine, rules = world.engine(), Rules()
    told = []

    async def listen() -> None:
        async for event in engine.changes():
            told.append(event)
            if len(told) == 2:
                return

    async with engine:
        listening = asyncio.ensure_future(listen())
        await asyncio.sleep(0.3)
        async with engine.watch([rules]):
            await asyncio.to_thread(world.from_outside, lambda e: e.withdraw(_RULE))
            await asyncio.wait_for(listening, 20)
    assert [(it.kind, it.source) for it in told] == [
        (ChangeKind.CHANGED, "rules"),
        (ChangeKind.WITHDRAWN, "push"),
    ]


def test_without_an_event_loop(world: World) -> None:
    engine, rules = world.engine(), Rules()
    agent = deployer(world, engine)
    with engine.sync() as e:
        following = e.changes()
        with e.watch([rules]) as watcher:
            assert watcher.resources == {_RULE}
            deploying = e.agent(agent)
            assert deploying.execute("deploy checkout").recorded
            assert deploying.execute("deploy checkout").tokens == 0
        event = e.observe(_RULE, {"allow": []})
        assert event is not None
        e.withdraw(_RULE)
        kinds = [next(following).kind for _ in range(3)]
        found = e.cypher("MATCH (r:Resource {namespace: $namespace}) RETURN r.uri AS uri")
        assert list(found) == [{"uri": _RULE}]
        assert kinds == [ChangeKind.CHANGED, ChangeKind.CHANGED, ChangeKind.WITHDRAWN]
