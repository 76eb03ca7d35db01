"""Where two outputs differ is told by place, with both values, and without secrets."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from execgraph import Cause, Result
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.outcome.differences import differences
from execgraph.tests.models import MODEL

from .conftest import World, turn


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3]}, ["$.b[1]: 2 -> 3"]),
        ({"a": 1}, {"a b": 1}, ["$.a: 1 -> nothing", '$["a b"]: nothing -> 1']),
        ([1], [1, {}], ["$: 1 items -> 2 items"]),
        ("a", "b", ['$: "a" -> "b"']),
        ({"a": {}}, {"a": []}, ["$.a: an object -> 0 items"]),
        ({"a": 1}, {"a": True}, ["$.a: 1 -> true"]),
        ({"a": 1}, {"a": 1.0}, ["$.a: 1 -> 1.0"]),
        ({"a": "x" * 99}, {"a": ""}, [f'$.a: "{"x" * 56}... -> ""']),
        ({"api_key": "a"}, {"api_key": "b"}, ["$.api_key: hidden -> hidden"]),
        ({"o": {"token": ["a"]}}, {"o": {}}, ["$.o.token: hidden -> nothing"]),
        ({"a": 1}, {"a": 1}, []),
    ],
)
def test_differences_are_told_by_place(before: Any, after: Any, expected: list[str]) -> None:
    assert [str(it) for it in differences(before, after)] == expected


def test_of_many_differences_the_first_are_told() -> None:
    assert len(differences(list(range(100)), list(range(1, 101)))) == 8


async def diverging(world: World, kind: str) -> list[Cause]:
    """The causes of a second run, in which a tool gave another ticket."""
    engine, numbers = world.engine(), itertools.count(1)

    @engine.tool(effect="read")
    def look() -> dict[str, Any]:
        """Look."""
        return {"ticket": {"id": f"INC-{next(numbers)}"}, "status": "open"}

    world.think(
        lambda body: (
            Answer([call("look", {})])
            if turn(body) == 0 and body.get("tools")
            else Answer([text("done")])
        )
    )
    agent = world.agent(engine, [look])

    async def once() -> Result:
        if kind == "agent":
            return await agent.execute("go")
        async with engine.run("p", "go") as run:
            run.output = (await run.act(look)).value["status"]
        return run.result

    async with engine:
        await once()
        result = await once()
        why = await engine.why(result.execution_id)
    told = [it for step in why.steps if step.why for it in step.why.cause.differences]
    assert [str(it) for it in told][:1] == ['$.ticket.id: "INC-1" -> "INC-2"']
    return [step.cause for step in result.steps if step.cause is not None]


@pytest.mark.parametrize("kind", ["agent", "program"])
async def test_a_diverged_output_names_the_field_and_the_mark(world: World, kind: str) -> None:
    cause = (await diverging(world, kind))[0]
    assert str(cause) == 'output diverged: look ($.ticket.id: "INC-1" -> "INC-2")'
    assert "opaque=['$.ticket.id']" in cause.remedy


async def test_a_changed_request_names_what_changed(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    prompt = "You are careful. " * 9
    async with engine:
        run = engine.run("p", "go", client=world.client)
        for day in ("Monday", "Tuesday"):
            async with (run := engine.run("p", "go", client=world.client)):
                await run.decide(
                    {
                        "model": MODEL,
                        "max_tokens": 9,
                        "system": f"{prompt} Today is {day}.",
                        "messages": [{"role": "user", "content": "hi"}],
                    }
                )
    [cause] = run.result.miss
    assert str(cause.differences[0]) == (
        '$.system: "...ful.  Today is Monday." -> "...ful.  Today is Tuesday."'
    )
    assert "make '$.system' the same on every run" in cause.remedy
