"""One recording serves every value of what is opaque; what was done for one was not for another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from execgraph import Acl, Agent, IdempotencyKey, Mode, RunFailed, RunIdReused, Unseen
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, misses, results, turn


class Desk:
    """An agent that looks an incident up and pages a team, which is the same for all of them.

    ``fail``: after how many replies the model refuses. ``hangs``: paging does not end.
    """

    hangs = False

    def __init__(self, world: World) -> None:
        self.world, self.engine = world, world.engine()
        self.fail: int | None = None
        self.keys: list[str] = []
        world.think(self.brain)

        @self.engine.tool(effect="read", opaque=["$.incident"])
        def look(incident: str) -> dict[str, str]:
            """How bad it is."""
            return {"incident": incident, "severity": "high"}

        @self.engine.tool(effect="write", requires=[Acl("page")])
        async def page(team: str, *, key: Annotated[str, IdempotencyKey]) -> str:
            """Page a team."""
            self.keys.append(key)
            if self.hangs:
                await asyncio.sleep(3600)
            return f"paged {team}"

        tools = [look, page]
        self.agent: Agent = world.agent(self.engine, tools, opaque=["$.incident"])

    def brain(self, body: dict[str, Any]) -> Answer:
        incident = json.loads(body["messages"][0]["content"][0]["text"])["incident"]
        if turn(body) == self.fail:
            return Answer([text("")], stop_reason="refusal")
        match turn(body):
            case 0:
                return Answer([call("look", {"incident": incident})])
            case 1:
                return Answer([call("page", {"team": "web"})])
        seen = results(body)[0]
        return Answer([text(f"{seen['severity']} for {seen['incident']}, {incident}")])

    async def run(self, incident: str, **settings: Any) -> Any:
        try:
            return (await self.agent.execute({"incident": incident}, **settings)).output
        except RunFailed:
            return None


ONE, TWO = "INC-1001", "INC-2002"


@pytest.fixture
async def desk(world: World) -> AsyncIterator[Desk]:
    made = Desk(world)
    async with made.engine:
        await made.engine.observe("acl:page", {"team": "web"})
        yield made


def told(incident: str) -> str:
    return f"high for {incident}, {incident}"


async def test_a_run_id_is_of_one_incident(desk: Desk) -> None:
    assert await desk.run(ONE, run_id="r") == told(ONE)
    assert await desk.run(ONE, run_id="r") == told(ONE)
    with pytest.raises(RunIdReused):
        await desk.run(TWO, run_id="r")
    assert await desk.run(TWO, run_id="r2") == told(TWO)
    assert len(set(desk.keys)) == len(desk.keys) == 2


async def test_a_retry_has_its_own_key_and_another_incident_another(desk: Desk) -> None:
    desk.fail = 2
    assert await desk.run(ONE) is None
    desk.fail = None
    result = await desk.agent.execute({"incident": TWO})
    assert "unfinished run" not in misses(result)
    assert (await desk.run(ONE)) == told(ONE)
    first, second, again = desk.keys
    assert second != first == again


async def test_a_replay_from_memory_finds_what_is_left_of_its_own_incident(desk: Desk) -> None:
    for incident in ("INC-0000", "INC-0001"):
        assert await desk.run(incident) == told(incident)
    desk.hangs = True
    hanging = asyncio.create_task(desk.run(ONE))
    while len(desk.keys) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    desk.hangs = False
    result = await desk.agent.execute({"incident": TWO})
    assert (result.output, misses(result)) == (told(TWO), [])
    result = await desk.agent.execute({"incident": ONE})
    assert (result.output, misses(result)) == (told(ONE), ["unfinished run"])
    hung, other, again = desk.keys[2:]
    assert other != hung == again


async def test_runs_inside_a_program_go_on_with_their_own_incident(desk: Desk) -> None:
    desk.fail = 2

    async def batch(*incidents: str) -> dict[str, Any]:
        async with desk.engine.run("batch", {}, run_id="b") as run:
            told = {it: await desk.run(it) for it in incidents}
            run.output = told
            if desk.fail is not None:
                raise TimeoutError
        return told

    with pytest.raises(TimeoutError):
        await batch(ONE, TWO)
    desk.fail = None
    assert await batch(TWO, ONE) == {ONE: told(ONE), TWO: told(TWO)}
    assert len(set(desk.keys)) == len(desk.keys) == 2, "each is paged for once"


class Invoice(BaseModel):
    """A task."""

    invoice: str
    as_of: Annotated[str, Unseen] = ""


async def test_a_run_id_is_of_a_task_whatever_is_unseen_of_it(world: World) -> None:
    engine, keys = world.engine(), list[str]()

    @engine.tool(effect="write", requires=[])
    def pay(*, key: Annotated[str, IdempotencyKey]) -> str:
        """Pay."""
        keys.append(key)
        return "paid"

    pays: Callable[[dict[str, Any]], Answer]
    pays = lambda body: Answer([text("ok") if turn(body) else call("pay", {})])  # noqa: E731
    world.think(pays)
    agent = world.agent(engine, [pay])
    async with engine:
        await agent.execute(Invoice(invoice="I", as_of="10:41"), run_id="r")
        result = await agent.execute(Invoice(invoice="I", as_of="10:42"), run_id="r")
        assert result.mode is Mode.RETURNED
    assert len(keys) == 1
