"""Replay equals live, at the tool's door: random signatures, arguments and outputs.

What a function receives in each kind of replay is what a fresh live run hands it, and what a
program gets from a tool is the same value each time: same types, same fields set.
"""

from __future__ import annotations

import asyncio
import copy
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import pytest
from anthropic import AsyncAnthropic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    TypeAdapter,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.engine.keys.exact import exact
from execgraph.tests.models import MODEL

from .conftest import turn

# Types, and what a model may say of each ------------------------------------------------------


class Level(Enum):
    LOW = 1
    HIGH = 2


class Patch(BaseModel):
    name: str | None = None
    email: str | None = None


class Order(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow")
    item_name: str
    unit_price: Annotated[float, AfterValidator(lambda price: price * 100)] = 1.0
    kept: Annotated[int, Field(exclude=True)] = 0


class Circle(BaseModel):
    kind: Literal["circle"] = "circle"
    radius: int


class Square(BaseModel):
    kind: Literal["square"] = "square"
    side: int = 1


Shape = Annotated[Circle | Square, Field(discriminator="kind")]


@dataclass
class Place:
    name: str
    tags: set[str] = field(default_factory=set)


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Options(TypedDict):
    deep: NotRequired[bool]
    since: date


Rounded = Annotated[float, PlainSerializer(lambda value: str(int(value)))]
Upper = Annotated[str, BeforeValidator(str.upper)]
Choice = Annotated[str, Field(validation_alias=AliasChoices("pick", "choose"))]

words = st.text("ab \u00e9\U0001f600", max_size=3)
numbers = st.integers(-5, 5) | st.just(2**70)
floats = st.floats(-5, 5) | st.sampled_from([0.0, -0.0, 1.25])
days = st.dates(date(2026, 1, 1), date(2026, 1, 9)).map(str)
moments = st.sampled_from(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05+02:00", "2026-01-02"])


def partly(**members: Any) -> Any:
    return st.fixed_dictionaries({}, optional=members)


#: A type, and the JSON that may be said of it.
TYPES: list[tuple[Any, Any]] = [
    (int, numbers),
    (float, floats | numbers),
    (str, words),
    (int | str, numbers | words),
    (Any, st.recursive(numbers | floats | words | st.none(), lambda it: st.lists(it, max_size=2))),
    (date, days),
    (datetime, moments),
    (Decimal, st.sampled_from(["1.10", "1.1", 1.5, 2])),
    (bytes, words),
    (SecretStr, words),
    (Level, st.sampled_from([1, 2])),
    (set[str], st.lists(words, max_size=3)),
    (frozenset[int] | None, st.lists(numbers, max_size=3) | st.none()),
    (tuple[int, str], st.tuples(numbers, words).map(list)),
    (list[Patch], st.lists(partly(name=words, email=words | st.none()), max_size=2)),
    (dict[int, Any], st.dictionaries(st.sampled_from(["1", "02", "-3"]), words, max_size=2)),
    (Patch, partly(name=words, email=words | st.none())),
    (
        Order,
        st.builds(
            lambda rest, name: {"itemName": name, **rest},
            partly(unitPrice=floats, kept=numbers, other=words),
            words,
        ),
    ),
    (
        Shape,
        st.one_of(
            numbers.map(lambda it: {"kind": "circle", "radius": it}),
            partly(side=numbers).map(lambda it: {"kind": "square", **it}),
        ),
    ),
    (
        Place,
        st.builds(
            lambda name, rest: {"name": name, **rest},
            words,
            partly(tags=st.lists(words, max_size=3)),
        ),
    ),
    (Point, st.lists(numbers, min_size=1, max_size=2)),
    (
        Options,
        st.builds(lambda since, rest: {"since": since, **rest}, days, partly(deep=st.booleans())),
    ),
    (Rounded, floats),
    (Upper, words),
    (Annotated[float, AfterValidator(lambda it: it * 2)], floats),
    (Annotated[int, Field(alias="from")], numbers),
    (Choice, words),
    (Annotated[str, Field(exclude=True)], words),
]

#: A function gives no field, of which an alias could be told.
OUTPUTS = TYPES[:-3]


def said_as(kind: Any, name: str) -> str:
    """The name by which a model gives an argument of this type."""
    if kind is Choice:
        return "choose"
    marks = (getattr(it, "alias", None) for it in getattr(kind, "__metadata__", ()))
    return next((alias for alias in marks if alias), name)


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[Any], dict[str, Any]]:
    """The types of a tool's parameters, and the arguments of a call."""
    indexes = st.lists(st.integers(0, len(TYPES) - 1), min_size=1, max_size=3, unique=True)
    chosen = [TYPES[index] for index in draw(indexes)]
    names = [said_as(kind, f"p{number}") for number, (kind, _) in enumerate(chosen)]
    said = [draw(values) for _, values in chosen]
    return [kind for kind, _ in chosen], dict(zip(names, said, strict=True))


# The world ------------------------------------------------------------------------------------

TAKE = """
def take({names}, more=[]):
    "Take what there is, tell what it was, and change it."
    received.append(exact([{names}, more]))
    for it in (more, {names}):
        if isinstance(it, list):
            it.append("changed")
        elif isinstance(it, set | dict):
            it.clear()
    return "taken"
"""


class Door:
    """An agent that calls a tool of these parameters, and an engine of its own."""

    def __init__(self, url: str, server: MessagesServer, kinds: list[Any], effect: Any) -> None:
        self.received: list[str] = []
        self.seen = 0
        self.engine = Engine(url)
        self.take = self.engine.tool(effect=effect, requires=[], version="1")(self._take(kinds))
        look = self.engine.tool(effect="read", version="1", name="look")(self._look)
        client = AsyncAnthropic(base_url=server.url, api_key="x")
        self.agent = self.engine.agent("a", client=client, model=MODEL, tools=[look, self.take])

    def _look(self) -> int:
        """Look what there is now."""
        return self.seen

    def _take(self, kinds: list[Any]) -> Any:
        names = [f"p{number}" for number in range(len(kinds))]
        scope: dict[str, Any] = {"received": self.received, "exact": exact}
        exec(TAKE.format(names=", ".join(names)), scope)
        typed = dict(zip(names, kinds, strict=True))
        scope["take"].__annotations__ = {**typed, "more": list[str], "return": str}
        return scope["take"]

    async def execute(self) -> tuple[str, bool]:
        """What the tool received, and whether that was a replay."""
        self.received.clear()
        result = await self.agent.execute("go")
        [received] = self.received
        return received, result.replayed

    async def act(self, arguments: dict[str, Any]) -> str:
        """What the tool received from a program."""
        self.received.clear()
        async with self.engine.run("program", "go") as run:
            await run.act(self.take, **arguments)
        [received] = self.received
        return received


@pytest.fixture
def store() -> Iterator[Callable[[], str]]:
    """Gives the address of a fresh store."""
    with tempfile.TemporaryDirectory() as folder:
        yield lambda: f"sqlite:///{folder}/{uuid.uuid4().hex}.db"


@pytest.fixture
def server() -> Iterator[tuple[MessagesServer, dict[str, Any]]]:
    said: dict[str, Any] = {}

    def think(body: dict[str, Any]) -> Answer:
        replies = [[call("look", {})], [call("take", said)], [text("done")]]
        return Answer(replies[turn(body)])

    with MessagesServer(think) as running:
        yield running, said


many = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("effect", ["read", "write"])
@many
@given(called=calls())
def test_a_tool_receives_in_each_replay_what_a_fresh_run_hands_it(
    store: Callable[[], str], server: Any, effect: Any, called: Any
) -> None:
    kinds, arguments = called
    running, said = server
    said.clear()
    said.update(arguments)

    async def received() -> None:
        url = store()
        fresh = Door(store(), running, kinds, effect)
        async with fresh.engine:
            live, _ = await fresh.execute()
        first, second = (Door(url, running, kinds, effect) for _ in range(2))
        async with first.engine:
            assert await first.execute() == (live, False)
            assert await first.execute() == (live, True), "along the path"
            assert await first.execute() == (live, True), "from memory"
        async with second.engine:
            assert await second.execute() == (live, True), "in another process"
            second.seen = 1
            assert await second.execute() == (live, False), "by its key"
            assert await second.execute() == (live, True), "of another trace"

    asyncio.run(received())


@many
@given(called=calls())
def test_a_tool_receives_from_a_program_the_same_each_time(
    store: Callable[[], str], server: Any, called: Any
) -> None:
    kinds, arguments = called

    async def received() -> None:
        url = store()
        first, second = (Door(url, server[0], kinds, "read") for _ in range(2))
        async with first.engine, second.engine:
            live = await first.act(arguments)
            assert [await it.act(arguments) for it in (first, second)] == [live, live]

    asyncio.run(received())


@many
@given(data=st.data())
def test_a_program_gets_from_a_pure_tool_the_same_value_each_time(
    store: Callable[[], str], data: st.DataObject
) -> None:
    kind, values = data.draw(st.sampled_from(OUTPUTS), label="type")
    value = TypeAdapter(kind).validate_json(json.dumps(data.draw(values)))
    declared = data.draw(st.sampled_from([kind, Any]), label="declared")

    def give() -> Any:
        """Give."""
        return copy.deepcopy(value)

    give.__annotations__["return"] = declared

    async def given_each_time(url: str) -> None:
        async with Engine(url) as engine:
            tool = engine.tool(effect="pure", version="1")(give)
            for _ in range(2):
                async with engine.run("program", "go") as run:
                    assert exact((await run.act(tool)).value) == exact(value)

    url = store()
    for _ in range(2):
        asyncio.run(given_each_time(url))
