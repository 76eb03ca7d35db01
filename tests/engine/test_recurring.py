"""A miss names the fields that differ on every run, the mark that helps, and what it would save."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from execgraph import Result
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.agent import Agent
from execgraph.engine.engine import Engine
from execgraph.engine.outcome.cause import Recurring

from .conftest import World, misses, results, turn


def brain(body: dict[str, Any]) -> Answer:
    """Opens a ticket and closes it by its id."""
    if turn(body) == 0:
        return Answer([call("open_ticket", {})])
    if turn(body) == 1:
        return Answer([call("close_ticket", {"ticket": results(body)[0]["id"]})])
    return Answer([text("done")])


def ticket_agent(world: World, engine: Engine, **marks: Any) -> Agent:
    numbers = itertools.count(4711)

    @engine.tool(effect="write", requires=[], **marks)
    def open_ticket() -> dict[str, Any]:
        """Open a ticket."""
        number = next(numbers)
        state = ["open", "busy"][number % 2]
        return {"id": f"INC-{number}", "took_ms": number / 7, "state": state if marks else "open"}

    @engine.tool(effect="write", requires=[])
    def close_ticket(ticket: str) -> str:
        """Close a ticket."""
        return "closed"

    world.think(brain)
    return world.agent(engine, [open_ticket, close_ticket])


async def test_a_field_of_an_output_that_differs_each_time_is_named_with_its_mark(
    world: World,
) -> None:
    engine = world.engine()
    agent = ticket_agent(world, engine)
    async with engine:
        runs = [await agent.execute("go") for _ in range(4)]
        why = await engine.why(runs[2].execution_id)
    assert [misses(it) for it in runs[1:]] == [["output diverged"]] * 3
    assert runs[1].miss[0].recurring is None, "of two runs nobody can tell"
    for number, run in enumerate(runs[2:], 3):
        cause = run.miss[0]
        assert cause.recurring == Recurring(
            ("$.id",), ("$.took_ms",), number, alone=True, tokens=run.tokens
        ), "the model carries the one, and has never mentioned the other"
        assert f"another $.id and $.took_ms in each of the last {number} runs" in str(cause)
        assert cause.remedy == (
            'declare opaque=["$.id"], unseen=["$.took_ms"] for the tool open_ticket if a model'
            " only carries what is opaque and no model need see what is unseen; that would have"
            f" saved this run up to {run.tokens} tokens"
        )
    assert why.misses[0].cause.recurring == runs[2].miss[0].recurring, "and it is kept"
    assert why.as_json()["misses"][0]["recurring"]["tokens"] == runs[2].tokens > 0


async def test_the_named_marks_make_it_a_hit(world: World) -> None:
    engine = world.engine()
    agent = ticket_agent(world, engine)
    async with engine:
        named = [await agent.execute("go") for _ in range(3)][-1].miss[0].recurring
    assert named is not None
    engine = world.engine()
    numbers = itertools.count(9000)

    @engine.tool(effect="write", requires=[], opaque=named.opaque, unseen=named.unseen)
    def open_ticket() -> dict[str, Any]:
        """Open a ticket."""
        number = next(numbers)
        return {"id": f"INC-{number}", "took_ms": number / 7, "state": "open"}

    @engine.tool(effect="write", requires=[])
    def close_ticket(ticket: str) -> str:
        """Close a ticket."""
        world.done.append(ticket)
        return "closed"

    agent = world.agent(engine, [open_ticket, close_ticket])
    async with engine:
        await agent.execute("go")
        for _ in range(3):
            result, requests, done = await world.count(agent.execute("go"))
            assert (requests, result.identical) == (0, True)
            assert done == [f"INC-{next(numbers) - 1}"]


async def test_what_is_marked_or_chosen_from_a_few_is_not_named(world: World) -> None:
    engine = world.engine()
    agent = ticket_agent(world, engine, opaque=["$.id"], unseen=["$.took_ms"])
    async with engine:
        runs = [await agent.execute("go", replay=number > 1) for number in range(5)]
        assert misses(runs[1]) == ["replay off"]
        assert all(cause.recurring is None for run in runs for cause in run.miss)


@pytest.mark.parametrize(
    ("telling", "declaration"),
    [
        ("Say something of {}.", 'opaque=["$.rows[*].trace"]'),
        ("{}", 'unseen=["$.rows[*].trace"]'),
    ],
    ids=["in words of its own", "whole"],
)
async def test_a_program_is_told_of_its_outputs_what_then_serves(
    world: World, telling: str, declaration: str
) -> None:
    numbers = itertools.count(4711)

    async def runs(many: int, **marks: Any) -> list[Result]:
        engine = world.engine()

        @engine.tool(effect="read", **marks)
        def look() -> dict[str, Any]:
            """Look."""
            return {"rows": [{"trace": f"t-{next(numbers)}"}]}

        async def once() -> Result:
            async with engine.run("p", "go", client=world.client) as run:
                said = telling.format(json.dumps((await run.act(look)).value))
                request = {"model": "claude-sonnet-5", "max_tokens": 9}
                await run.decide({**request, "messages": [{"role": "user", "content": said}]})
            return run.result

        async with engine:
            return [await once() for _ in range(many)]

    world.think(lambda _: Answer([text("done")]))
    [cause] = (await runs(3))[-1].miss
    assert cause.recurring is not None
    assert cause.recurring.declaration == declaration
    marks = {"opaque": cause.recurring.opaque, "unseen": cause.recurring.unseen}
    assert (await runs(2, **marks))[-1].identical


async def test_an_input_that_differs_each_time_is_named_with_its_mark(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    agent = world.agent(engine, [])
    tasks = [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("c", 5)]
    async with engine:
        runs = [
            await agent.execute({"service": service, "incident": f"INC-{4710 + number}"})
            for service, number in tasks
        ]
    assert [it.miss[0].recurring is not None for it in runs] == [False, False, True, True, True]
    assert runs[3].miss[0].recurring == Recurring(
        ("$.incident",), (), 4, alone=True, tokens=runs[3].tokens
    )
    assert 'declare opaque=["$.incident"] for the task if' in runs[3].miss[0].remedy
    assert f"up to {runs[3].tokens} tokens" in runs[3].miss[0].remedy
    assert runs[4].miss[0].remedy.endswith("; more than that differs this time")
    assert runs[4].miss[0].recurring == Recurring(("$.incident",), (), 5, alone=False)


async def test_a_hit_looks_for_nothing_and_a_miss_reads_a_few_payloads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.engine()
    agent = ticket_agent(world, engine)
    world.think(lambda body: brain(body) if turn(body) < 1 else Answer([text("done")]))
    read: list[str] = []

    def counted(name: str, real: Any) -> Any:
        async def call(*given: Any, **named: Any) -> Any:
            read.append(name)
            return await real(*given, **named)

        return call

    async with engine:
        for _ in range(12):
            await agent.execute("go")
        store = engine.session().store
        for name in ("values", "executions", "execution", "recent_tasks", "task"):
            monkeypatch.setattr(store, name, counted(name, getattr(store, name)))
        assert (await agent.execute("go")).miss[0].recurring is not None
        assert set(read) == {"values"}
        assert len(read) <= 3
