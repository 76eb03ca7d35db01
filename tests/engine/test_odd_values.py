"""Odd values: each is recorded and found again, or refused before anything is done."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from execgraph import ConfigurationError, Engine, ExecgraphError
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.graphstore.errors import NotJson

from .conftest import World, turn

HALF = "half \ud800 pair"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ODD = [
    "",
    "\x00",
    HALF,
    "\U0001f600\u2028",
    math.nan,
    -math.inf,
    -0.0,
    2**53 + 1,
    10**4000,
    10**5000,
    nested(150),
    nested(400),
    nested(100_000),
    {"": None, "$int": "1", "a\x00": HALF},
    {HALF: 1},
    {1: "a"},
    {1: "a", "1": "b"},
    {True: "a", "true": "b"},
    {None: "a", "null": "b"},
    b"\xff",
    {1, 2},
    object(),
]


async def program_with(engine: Engine, tool: Any, odd: Any) -> Any:
    async with engine.run("program", {"odd": odd}, labels={"a": "\x00"}) as run:
        value = (await run.act(tool, it=odd)).value
    return run.result, value


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
async def test_an_odd_value_is_found_again_or_refused_before_anything_is_done(
    world: World, odd: Any
) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    def take(it: Any) -> Any:
        """Take it, and give it."""
        world.done.append("take")
        return it

    async with engine:
        try:
            _, value = await program_with(engine, take, odd)
        except ExecgraphError:
            assert world.done == []
            return
        assert repr(value) == repr(odd)
        second, value = await program_with(engine, take, odd)
        assert (repr(value), second.mode) == (repr(odd), "replay"), second.miss
        await engine.why(second.execution_id)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
async def test_an_effect_with_an_odd_output_is_done_once_and_recorded(
    world: World, odd: Any
) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    def give() -> Any:
        """Give it."""
        world.done.append("give")
        return odd

    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("give", {})]))
    agent = world.agent(engine, [give])
    async with engine:
        for asked in (2, 0):
            result, count, done = await world.count(agent.execute("go"))
            assert (count, done, result.output) == (asked, ["give"], "ok")
            await engine.why(result.execution_id)


@pytest.mark.parametrize("odd", ["", "\x00", HALF, {"a": HALF}, {"\x00": [2**70, math.nan]}])
async def test_an_agent_does_an_odd_task(world: World, odd: Any) -> None:
    world.think(lambda body: Answer([text("ok")]))
    engine = world.engine()
    agent = world.agent(engine, [])
    async with engine:
        for asked in (1, 0):
            result, count, _ = await world.count(agent.execute(odd, context=odd))
            assert (count, result.output) == (asked, "ok")


@pytest.mark.parametrize("label", [5, True, None, uuid.uuid4(), HALF, b"a", ["a"]])
async def test_labels_that_are_no_text_are_refused_before_anything_is_done(
    world: World, label: Any
) -> None:
    engine = world.engine()
    async with engine:
        for labels in ({"about": label}, {label: "about"} if label != ["a"] else {"": label}):
            with pytest.raises(ConfigurationError, match="labels are texts by texts"):
                engine.run("program", "go", labels=labels)
            with pytest.raises(ConfigurationError, match="labels are texts by texts"):
                await world.agent(engine, []).execute("go", labels=labels)


@pytest.mark.parametrize("name", ["", HALF, 5, None])
def test_names_that_are_no_text_are_refused_where_they_are_given(name: Any) -> None:
    engine = Engine("sqlite:///never-opened.db")
    with pytest.raises(ConfigurationError, match="needs a name"):
        engine.run(name, "go")
    with pytest.raises(ConfigurationError, match="needs a name"):
        engine.agent(name, model="m")
    with pytest.raises(ConfigurationError, match="needs a name"):
        Engine("sqlite:///never-opened.db", namespace=name)
    if name:

        def take() -> int:
            """Take."""
            return 1

        with pytest.raises(ConfigurationError, match="needs a name"):
            engine.tool(effect="read", name=name)(take)


async def test_a_run_that_fails_with_an_odd_message_is_kept(world: World) -> None:
    engine = world.engine()
    async with engine:
        run = engine.run("program", "go")
        with pytest.raises(ValueError, match="half"):
            async with run:
                raise ValueError(HALF)
        assert (await engine.why(run.execution_id)).execution.id == run.execution_id


@pytest.mark.parametrize("inputs", [{1: "a", "1": "b"}, {"deep": [{None: 1, "null": 2}]}])
async def test_members_that_json_cannot_tell_apart_are_refused(world: World, inputs: Any) -> None:
    engine = world.engine()
    agent = world.agent(engine, [])
    async with engine:
        with pytest.raises(NotJson, match="the same key in JSON"):
            await agent.execute(inputs)
        with pytest.raises(NotJson, match="the same key in JSON"):
            await agent.execute("go", context=inputs)


# Tasks that are models ----------------------------------------------------------------------


class Filter(BaseModel):
    pass


class ByRegion(Filter):
    region: str


@dataclass
class Place:
    name: str


@dataclass
class Town(Place):
    mayor: str


class Report(BaseModel):
    filter: Filter
    place: Place = Place("a")


async def test_what_subclasses_add_to_a_task_tells_tasks_apart(world: World) -> None:
    world.think(lambda body: Answer([text(str(body["messages"][0]["content"][0]["text"]))]))
    engine = world.engine()
    agent = world.agent(engine, [])
    tasks = [
        Report(filter=ByRegion(region="eu")),
        Report(filter=ByRegion(region="us")),
        Report(filter=Filter(), place=Town("a", "ann")),
        Report(filter=Filter(), place=Town("a", "bob")),
    ]
    async with engine:
        answers = [(await agent.execute(task)).output for task in tasks]
    assert len(set(answers)) == len(tasks)
    assert '{"filter":{"region":"eu"},"place":{"name":"a"}}' in answers


SETS = """
import asyncio, sys
from pydantic import BaseModel
from execgraph import Engine

NAMES = frozenset({"alpha", "beta", "gamma", "delta", "epsilon"})

class Task(BaseModel):
    names: set[str]

engine = Engine(sys.argv[1])

@engine.tool(effect="read")
def names(among: frozenset[str] = NAMES) -> dict:
    '''Names.'''
    return {"names": set(NAMES), "pairs": {(a, len(a)) for a in NAMES}}

async def main():
    async with engine, engine.run("program", Task(names=set(NAMES))) as run:
        await run.act(names)
        await run.act(names, among=NAMES)
    print(run.result.mode, run.result.identical, names.code_key)

asyncio.run(main())
"""


def test_sets_are_in_one_order_in_every_process(tmp_path: Any) -> None:
    told = []
    for seed in ("1", "2", "3"):
        command = [sys.executable, "-c", SETS.replace("engine.tool(", "engine.tool(version='1', ")]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run(
            [*command, f"sqlite:///{tmp_path}/graph.db"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(ran.stdout.split())
    assert [it[:2] for it in told] == [["live", "False"], *[["replay", "True"]] * 2]
    assert len({key for _, _, key in told}) == 1
