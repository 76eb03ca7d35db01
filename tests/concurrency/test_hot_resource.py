"""While one resource changes all the time, in another process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from execgraph import Acl, Engine, Handle, Result, Tool
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.sqlite import traces
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.graphstore.store import GraphStore

from .conftest import SECONDS, Place

HOT = "acl:hot"
CALM = {"calm": 1}
RUNS = 40
LEAST, CHANGES = 10, round(10 * SECONDS)


class Desk:
    """Programs that decide and do one write, each under requirements of its own."""

    def __init__(self, place: Place, *requires: Acl, name: str = "work") -> None:
        self.engine: Engine = place.engine()
        self.name = name
        self.requires = requires
        self.asked = 0
        self.done = 0

        @self.engine.tool(effect="write", requires=list(requires), version="1")
        async def ship(what: str) -> str:
            """Ship."""
            self.done += 1
            return f"shipped {what}"

        self.ship: Tool = ship

    async def model(self, request: Any) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        return {"says": request["prompt"]}

    async def run(self, **settings: Any) -> Result:
        async with self.engine.run(self.name, "go", requires=self.requires, **settings) as run:
            reply: Handle = await run.decide({"prompt": "what?"}, call=self.model)
            run.output = (await run.act(self.ship, what=reply.value["says"])).value
        return run.result

    def forget(self) -> None:
        """Have the next run look up its traces, as in a process that has just begun."""
        self.engine._host._memory._kept.clear()


@contextmanager
def tries(store: GraphStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often the steps of lookups are done."""
    counts: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        if isinstance(store, Neo4jStore):
            run = store._client.run

            async def counted(name: str, *args: Any, **kwargs: Any) -> Any:
                counts[name] += 1
                return await run(name, *args, **kwargs)

            patch.setattr(store._client, "run", counted)
        else:
            assert isinstance(store, SqliteStore)
            look = traces.look

            def looked(connection: Any, *args: Any, **lost: Any) -> Any:
                if connection is store._read:
                    counts.update(["lookup", "confirm"])
                return look(connection, *args, **lost)

            patch.setattr(traces, "look", looked)
        yield counts


async def lookups(desk: Desk) -> int:
    """Look up and replay until the resource has changed often; how often that was."""
    many, end = 0, await version(desk) + CHANGES
    while many < LEAST or await version(desk) < end:
        desk.forget()
        await desk.run()
        many += 1
    return many


async def version(desk: Desk) -> int:
    found = await desk.engine.session().store.document(HOT)
    assert found is not None
    return found[0]


async def test_what_does_not_rest_on_it_is_looked_up_once_and_never_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, hot = Desk(place, Acl("calm")), Desk(place, Acl("hot"), name="other")
    async with calm.engine, hot.engine:
        await calm.engine.observe("acl:calm", 1)
        await calm.engine.observe(HOT, {"hot": 0})
        await hot.run()
        await calm.run()
        async with place.beside("hot", resource=HOT, rate=50, calm=CALM) as changer:
            store = calm.engine.session().store
            with tries(store, monkeypatch) as counts:
                beside = asyncio.gather(*(hot.run() for _ in range(5)), return_exceptions=True)
                many = await lookups(calm)
                await beside
            changer.say("stop")
            assert (await changer.told())["errors"] == []
        assert calm.asked == 1
        assert calm.done == many + 1
        assert (counts["lookup"], counts["confirm"]) == (many, many)


async def test_what_rests_on_it_ends_with_a_bounded_number_of_calls(place: Place) -> None:
    desk = Desk(place, Acl("hot"))
    async with desk.engine:
        await desk.engine.observe(HOT, {"hot": 0})
        async with place.beside("hot", resource=HOT, rate=50, calm=CALM):
            ended = await asyncio.gather(
                *(asyncio.wait_for(desk.run(), 30) for _ in range(RUNS)), return_exceptions=True
            )
        refused = [it for it in ended if isinstance(it, BaseException)]
        assert {type(it).__name__ for it in refused} <= {"PreconditionChanged"}
        assert desk.asked <= RUNS, "each run asks at most once"
        assert desk.done == RUNS - len(refused)


@pytest.mark.parametrize("rate", [50, 0])
async def test_what_rests_on_another_facet_of_it_is_never_asked_nor_refused(
    place: Place, rate: int
) -> None:
    desk = Desk(place, Acl("hot", "$.calm"))
    async with desk.engine:
        await desk.engine.observe(HOT, {"hot": 0, **CALM})
        async with place.beside("hot", resource=HOT, rate=rate, calm=CALM) as changer:
            assert (await desk.run()).recorded
            many = await lookups(desk)
            assert (await desk.run()).replayed, "what is remembered of it, too"
            changer.say("stop")
            assert (await changer.told())["errors"] == []
        assert (desk.asked, desk.done) == (1, many + 2)
