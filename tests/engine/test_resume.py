"""A run that failed, or was killed, is not paid twice: the next one goes on where it was."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import BusinessRule, Engine, Json, RunFailed
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.agent import Agent
from execgraph.graphstore.retention import Retention
from execgraph.tests.models import MODEL

from .conftest import World, outcomes, turn

TURNS = 4


class Overloaded(Exception):
    """The model's service has a bad day."""


def reader(world: World, **settings: Any) -> tuple[Engine, Agent, list[int]]:
    """An agent that looks at four pages; its service fails at the replies that are listed."""
    engine = world.engine()
    failing: list[int] = []

    @engine.tool(effect="read")
    def look(page: int) -> str:
        """Look at a page."""
        world.done.append(f"page {page}")
        return f"page {page}"

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) in failing:
            raise Overloaded
        page = turn(body)
        return Answer([call("look", {"page": page})] if page < TURNS else [text("done")])

    world.think(brain)
    client = AsyncAnthropic(base_url=world.server.url, api_key="test-key", max_retries=0)
    return engine, world.agent(engine, [look], **{"client": client, **settings}), failing


async def failed(agent: Agent, task: str = "go", **options: Any) -> RunFailed:
    with pytest.raises(RunFailed) as raised:
        await agent.execute(task, **options)
    return raised.value


async def kept(engine: Engine) -> int:
    """How many decisions of unfinished runs are kept."""
    session = engine.session()
    await session.journal.flush()
    [key] = await session.store.task_keys()
    return len((await session.store.unfinished(key)).entries)


async def test_what_was_decided_before_the_service_failed_is_not_asked_again(world: World) -> None:
    engine, agent, failing = reader(world)
    async with engine:
        failing.append(3)
        _, asked, _ = await world.count(failed(agent))
        assert asked == 4
        assert await kept(engine) == 3
        failing.clear()
        result, asked, done = await world.count(agent.execute("go"))
        assert asked == 2, "the one that failed, and the last"
        assert done == ["page 0", "page 1", "page 2", "page 3"], "reads run again"
        assert [it for it in outcomes(result) if it[0] == "?"] == [
            *[("?", "replayed")] * 3,
            *[("?", "asked")] * 2,
        ]
        assert result.recorded
        assert await kept(engine) == 0, "what has ended is a trace"
        again, asked, _ = await world.count(agent.execute("go"))
        assert (asked, again.output) == (0, "done")
        assert again.saved_tokens > 0


async def test_an_outage_is_paid_once_however_often_it_is_tried(world: World) -> None:
    engine, agent, failing = reader(world)
    async with engine:
        requests = []
        for number in (1, 1, 3, 3, 3):
            failing[:] = [number]
            _, asked, _ = await world.count(failed(agent))
            requests.append(asked)
        failing.clear()
        _, asked, _ = await world.count(agent.execute("go"))
        requests.append(asked)
    assert requests == [2, 1, 3, 1, 1, 2]


async def test_another_process_goes_on(world: World) -> None:
    engine, agent, failing = reader(world)
    async with engine:
        failing.append(2)
        await failed(agent)
    other, agent, _ = reader(world)
    async with other:
        _, asked, _ = await world.count(agent.execute("go"))
    assert asked == 3


async def test_it_is_the_same_task_and_the_same_code(world: World) -> None:
    engine, agent, failing = reader(world)
    async with engine:
        failing.append(3)
        await failed(agent)
        failing.clear()
        _, asked, _ = await world.count(agent.execute("another"))
        assert asked == 5
        _, asked, _ = await world.count(agent.execute("go", replay=False))
        assert asked == 5, "nothing is served to who wants it anew"
    engine, agent, failing = reader(world)
    async with engine:
        failing.append(3)
        await failed(agent, "third")
    engine, agent, _ = reader(world, system="You deploy with care.")
    async with engine:
        _, asked, _ = await world.count(agent.execute("third"))
        assert asked == 5


@pytest.mark.parametrize("back", [False, True], ids=["changed", "and back"])
async def test_what_rested_on_a_fact_that_moved_is_asked_again(world: World, *, back: bool) -> None:
    engine, agent, failing = reader(world, requires=[BusinessRule("pages")])
    async with engine:
        await engine.observe("rule:pages", 1)
        failing.append(3)
        await failed(agent)
        failing.clear()
        await engine.observe("rule:pages", 2)
        if back:  # whether it was so while they were asked is not known any more
            await engine.observe("rule:pages", 1)
        result, asked, _ = await world.count(agent.execute("go"))
        assert asked == 5
        assert result.recorded


async def test_another_facet_may_move(world: World) -> None:
    engine, agent, failing = reader(world, requires=[BusinessRule("pages", "$.most")])
    async with engine:
        await engine.observe("rule:pages", {"most": 4, "who": "a"})
        failing.append(3)
        await failed(agent)
        failing.clear()
        await engine.observe("rule:pages", {"most": 4, "who": "b"})
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 2


async def test_what_failed_by_what_the_model_said_is_decided_anew(world: World) -> None:
    engine, agent, _ = reader(world, max_turns=3)
    async with engine:
        for _ in range(2):
            _, asked, _ = await world.count(failed(agent))
            assert asked == 3
            assert await kept(engine) == 0


async def program(world: World, engine: Engine, work: Callable[[Any, Any], Any]) -> Any:
    """A program that decides twice, with ``work`` in between."""

    async def ask(request: Mapping[str, Json]) -> Json:
        world.done.append(str(request["prompt"]))
        return {"said": request["prompt"]}

    async with engine.run("program", {"n": 1}) as run:
        first = await run.decide({"prompt": "first"}, call=ask)
        await work(run, first.value)
        second = await run.decide({"prompt": "second"}, call=ask)
        run.output = second.value["said"]
    return run.result


async def test_a_program_that_raises_by_itself_decides_anew(world: World) -> None:
    engine = world.engine()

    async def refuse(_run: Any, reply: Any) -> None:
        raise ValueError(reply)

    async with engine:
        for _ in range(2):
            world.done.clear()
            with pytest.raises(ValueError, match="first"):
                await program(world, engine, refuse)
            assert world.done == ["first"]
            assert await kept(engine) == 0


async def test_a_tool_that_raises_is_tried_again_once_with_what_was_decided(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="read")
    def look() -> str:
        """Look."""
        raise LookupError("nothing there")

    async def look_it_up(run: Any, _reply: Any) -> None:
        await run.act(look)

    async with engine:
        for expected in (["first"], [], ["first"], []):
            world.done.clear()
            with pytest.raises(LookupError):
                await program(world, engine, look_it_up)
            assert world.done == expected, "else a bad decision would be kept for ever"


async def test_who_is_cancelled_goes_on(world: World) -> None:
    engine = world.engine()

    async def hang(_run: Any, _reply: Any) -> None:
        await asyncio.sleep(60)

    async with engine:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(program(world, engine, hang), 0.5)
        world.done.clear()

        async def go_on(_run: Any, _reply: Any) -> None:
            return

        result = await program(world, engine, go_on)
        assert (world.done, result.output) == (["second"], "second")


async def test_old_decisions_are_deleted(world: World) -> None:
    engine, agent, failing = reader(world)
    async with engine:
        failing.append(3)
        await failed(agent)
        assert await kept(engine) == 3
        await engine.collect(Retention())
        assert await kept(engine) == 3
        await engine.collect(Retention(history_age=timedelta(0)))
        assert len(await engine.session().store.task_keys()) <= 1
        failing.clear()
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 5


CHILD = """
import asyncio
from anthropic import AsyncAnthropic
from execgraph import Engine

engine = Engine({url!r}, namespace={namespace!r})

@engine.tool(effect="read", version="1")
def look(page: int) -> str:
    "Look at a page."
    return f"page {{page}}"

async def main():
    client = AsyncAnthropic(base_url={server!r}, api_key="test-key")
    agent = engine.agent("deployer", client=client, model={model!r}, system="s", tools=[look])
    async with engine:
        await agent.execute("go")

asyncio.run(main())
"""


async def test_a_process_that_is_killed_loses_one_reply_at_most(world: World) -> None:
    """It is killed while it waits for its fourth reply."""
    reached, release = threading.Event(), threading.Event()

    def brain(body: dict[str, Any]) -> Answer:
        page = turn(body)
        if page == 3 and not release.is_set():
            reached.set()
            raise Overloaded  # which the client tries again, after a while
        return Answer([call("look", {"page": page})] if page < TURNS else [text("done")])

    world.think(brain)
    names = {"url": world.url, "namespace": world.namespace, "server": world.server.url}
    code = textwrap.dedent(CHILD).format(**names, model=MODEL)
    child = subprocess.Popen([sys.executable, "-c", code])  # noqa: ASYNC220
    assert await asyncio.to_thread(reached.wait, 30)
    child.kill()
    await asyncio.to_thread(child.wait)
    release.set()
    engine = world.engine()

    @engine.tool(effect="read")
    def look(page: int) -> str:
        """Look at a page."""
        return f"page {page}"

    agent = world.agent(engine, [look], system="s")
    async with engine:
        result, asked, _ = await world.count(agent.execute("go"))
    assert result.output == "done"
    assert asked in (2, 3)


async def test_only_a_run_that_remembers_nothing_reads_it_and_once(world: World) -> None:
    engine, agent, _ = reader(world)
    async with engine:
        store = engine.session().store
        read: list[str] = []
        unfinished = store.unfinished

        async def watched(task: str, **options: Any) -> Any:
            read.append(task)
            return await unfinished(task, **options)

        vars(store)["unfinished"] = watched
        await agent.execute("go")
        assert len(read) == 1, "a new task"
        for _ in range(3):
            assert (await agent.execute("go")).replayed
        assert len(read) <= 2, "once more, to see the trace of its own"
        read.clear()
        assert (await agent.execute("go")).replayed
        assert read == []


@pytest.mark.parametrize("run_id", [None, "r1"])
async def test_what_was_served_of_a_failed_run_has_its_price(
    world: World, run_id: str | None
) -> None:
    engine, agent, failing = reader(world)
    async with engine:
        whole = await agent.execute("no")  # as long as the other
        failing.append(3)
        await failed(agent, run_id=run_id)
        failing.clear()
        result = await agent.execute("go", run_id=run_id)
        assert result.cost is not None
        assert result.saved_cost is not None
        assert result.cost + result.saved_cost == pytest.approx(whole.cost)
        again = await agent.execute("go")
        assert again.saved_cost == pytest.approx(whole.cost), "and in what is recorded of it"
        recorded = await engine.execution(result.execution_id)
        costs = [it.cost for it in recorded.steps if it.kind == "decision"]
        assert None not in costs
        assert (await engine.stats()).saved_unpriced == 0
