"""A Neo4j that is emptied, or comes back empty, under services that go on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from neo4j import GraphDatabase

from execgraph import Acl, Agent, Engine, RunFailed, StoreError
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.graphstore.errors import StoreDamaged
from execgraph.graphstore.neo4j.queries import made_names

from .conftest import World, misses, turn
from .test_server_killed import Server, own, world

pytestmark = pytest.mark.neo4j

__all__ = ["own", "world"]  # its fixtures

TWINS = """
MATCH (n) WHERE n.namespace IS NOT NULL
WITH labels(n)[0] AS label, n.namespace AS space, coalesce(n.uri, n.key, n.id, n.digest) AS key,
     n.n AS version, n.resource AS of, count(*) AS many
WHERE many > 1 AND key IS NOT NULL
RETURN label, key, many
"""


def asked(server: Server, query: str) -> list[list[Any]]:
    with GraphDatabase.driver(server.uri) as driver:
        return [list(record.values()) for record in driver.execute_query(query).records]


def made(server: Server) -> set[str]:
    rows = asked(server, "SHOW INDEXES YIELD name RETURN name")
    return {name for (name,) in rows if name.startswith("execgraph_")}


def delete_all(server: Server) -> None:
    asked(server, "MATCH (n) DETACH DELETE n")


def drop_all(server: Server) -> None:
    delete_all(server)
    for (name,) in asked(server, "SHOW CONSTRAINTS YIELD name RETURN name"):
        asked(server, f"DROP CONSTRAINT {name}")


def come_back_empty(server: Server) -> None:
    server.kill()
    shutil.rmtree(server.home)
    server.home.mkdir()
    server.start()


ways = pytest.mark.parametrize(
    "empty", [delete_all, drop_all, come_back_empty], ids=lambda it: it.__name__
)


@pytest.fixture(autouse=True)
async def whole(own: Server) -> AsyncIterator[None]:
    """However a test leaves the server, the next one finds it empty."""
    yield
    await asyncio.to_thread(drop_all, own)


def shipper(world: World, engine: Engine, meanwhile: Callable[[], None] = lambda: None) -> Agent:
    def brain(body: dict[str, Any]) -> Answer:
        calls = [call("look", {}), call("ship", {})]
        return Answer([calls[turn(body)] if turn(body) < 2 else text("ok")])

    @engine.tool(effect="read", requires=[])
    def look() -> str:
        """Look."""
        meanwhile()
        return "looked"

    @engine.tool(effect="write", requires=[Acl("ship")])
    async def ship() -> str:
        """Ship."""
        world.done.append("ship")
        return "shipped"

    world.think(brain)
    return world.agent(engine, [look, ship])


@ways
async def test_it_is_made_a_store_again_that_everybody_can_open(
    world: World, own: Server, empty: Callable[[Server], None]
) -> None:
    engine, other = world.engine(), world.engine()
    agent = shipper(world, engine)
    async with engine, other:
        await engine.observe("acl:ship", "yes")
        await agent.execute("go")
        assert (await agent.execute("go")).replayed
        await asyncio.to_thread(empty, own)
        work = [it.observe(f"acl:{n % 4}", n % 4) for n in range(16) for it in (engine, other)]
        await asyncio.gather(*work)
        result = await agent.execute("go")
        assert not result.replayed
        assert misses(result) == ["new task"]
    assert await asyncio.to_thread(made, own) >= made_names()
    assert await asyncio.to_thread(asked, own, TWINS) == []
    async with world.engine() as fresh:
        await fresh.observe("acl:ship", "yes")


@ways
async def test_nothing_that_was_read_before_begins_an_effect(
    world: World, own: Server, empty: Callable[[Server], None]
) -> None:
    """Both stores know the rule by the same number; the new one forbids what the old allows."""
    engine, happenings = world.engine(), list[Callable[[], None]]()

    def meanwhile() -> None:
        while happenings:
            happenings.pop(0)()

    agent = shipper(world, engine, meanwhile)
    async with engine:
        await engine.observe("acl:ship", "yes")
        await agent.execute("go")
        world.done.clear()
        happenings += [
            lambda: empty(own),
            lambda: world.from_outside(lambda e: e.observe("acl:ship", "no")),
        ]
        with pytest.raises((RunFailed, StoreError)):
            await agent.execute("go")
        assert world.done == []
        assert not (await agent.execute("go")).replayed


async def test_constraints_that_are_missing_are_made_after_an_outage(
    world: World, own: Server
) -> None:
    async with world.engine() as engine:
        await engine.observe("acl:ship", "yes")
        await asyncio.to_thread(asked, own, "DROP CONSTRAINT execgraph_resource")
        await asyncio.to_thread(own.kill)
        await asyncio.to_thread(own.start)
        await engine.observe("acl:ship", "no")
    assert "execgraph_resource" in await asyncio.to_thread(made, own)


async def test_a_store_with_duplicates_says_which_and_what_to_do(world: World, own: Server) -> None:
    async with world.engine() as engine:
        await engine.observe("acl:ship", "yes")
    await asyncio.to_thread(asked, own, "DROP CONSTRAINT execgraph_resource")
    twins = "MATCH (r:Resource) CREATE (:Resource {namespace: r.namespace, uri: r.uri})"
    await asyncio.to_thread(asked, own, twins)
    with pytest.raises(StoreDamaged, match=r"several nodes Resource that agree.*Empty the"):
        await world.engine().__aenter__()
