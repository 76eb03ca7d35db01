"""An output that a tool gives again is known without being written; one that is another is not."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, PlainSerializer

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, results


class Shelf:
    """What a tool gives."""

    def __init__(self, it: Any) -> None:
        self.it = it


class Place(BaseModel):
    name: str


class Sized(Place):
    size: int = 1


async def replays(world: World, engine: Engine, kind: Any, shelf: Shelf, then: Any) -> list[bool]:
    """Whether three runs, and one after ``then``, gave what is recorded of ``shelf``."""

    async def fetch():  # type: ignore[no-untyped-def]
        """Fetch it."""
        return shelf.it

    fetch.__annotations__["return"] = kind
    tool = engine.tool(effect="read", requires=[], version="1")(fetch)
    world.think(lambda body: Answer([text("ok")] if results(body) else [call("fetch", {})]))
    agent = world.agent(engine, [tool])
    async with engine:
        await agent.execute("go")
        same = [(await agent.execute("go")).identical for _ in range(3)]
        then()
        return [*same, (await agent.execute("go")).identical]


@pytest.mark.parametrize(
    ("kind", "first", "other"),
    [
        (Any, 1, True),
        (Any, {"n": 1}, {"n": "1"}),
        (Any, {"n": None}, {"n": False}),
        (Any, {"n": [1, 2]}, {"n": [2, 1]}),
        (dict[str, Any], {"rows": ["x"] * 5000}, {"rows": ["x"] * 4999 + ["y"]}),
        (str, "a" * 100_000, "a" * 99_999 + "b"),
        (Place, Place(name="a"), Place(name="b")),
        (Place, Place(name="a"), Sized(name="a")),
    ],
)
async def test_an_output_that_changes_after_some_replays_is_noticed(
    world: World, kind: Any, first: Any, other: Any
) -> None:
    shelf = Shelf(first)
    same = await replays(world, world.engine(), kind, shelf, lambda: setattr(shelf, "it", other))
    assert same == [True, True, True, False]


async def test_a_list_that_a_tool_keeps_and_adds_to_is_noticed(world: World) -> None:
    shelf = Shelf([1])
    same = await replays(world, world.engine(), list[int], shelf, lambda: shelf.it.append(2))
    assert same == [True, True, True, False]


async def test_a_writer_of_the_type_that_goes_by_something_else_is_asked_each_time(
    world: World,
) -> None:
    unit = Shelf("cm")
    kind = Annotated[int, PlainSerializer(lambda value: f"{value} {unit.it}")]
    same = await replays(world, world.engine(), kind, Shelf(1), lambda: setattr(unit, "it", "in"))
    assert same == [True, True, True, False]


async def test_a_set_is_the_same_whatever_order_it_is_in(world: World) -> None:
    shelf = Shelf({f"it{n}" for n in range(100)})
    other: set[str] = set()
    for it in sorted(shelf.it, reverse=True):
        other.add(it)
    same = await replays(world, world.engine(), Any, shelf, lambda: setattr(shelf, "it", other))
    assert same == [True, True, True, True]
