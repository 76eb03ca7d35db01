"""What a tool is called with: what the model said, live and on each kind of replay."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

from execgraph import ConfigurationError, DeploymentTarget, Engine
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, outcomes, turn


class Patch(BaseModel):
    name: str | None = None
    email: str | None = None


class Order(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    item_name: str = "(default)"


Cents = Annotated[float, AfterValidator(lambda dollars: dollars * 100)]
Source = Annotated[str, Field(alias="from")]
Hidden = Annotated[str, Field(exclude=True)]


def told(value: Any) -> str:
    """What a tool can tell of an argument."""
    if isinstance(value, SecretStr):
        return f"secret {value.get_secret_value()}"
    if isinstance(value, datetime):
        return value.isoformat()  # of UTC there are several classes
    if isinstance(value, BaseModel):
        return f"{value!r} of {sorted(value.model_fields_set)}"
    if isinstance(value, set | frozenset):  # whose members have no order of their own
        return f"{type(value).__name__} of {sorted(map(repr, value))}"
    return repr(value)


@pytest.mark.parametrize("effect", ["read", "write"])
@pytest.mark.parametrize(
    ("kind", "given", "received"),
    [
        (Cents, {"it": 12.5}, "1250.0"),
        (Patch, {"it": {"name": "b"}}, "Patch(name='b', email=None) of ['name']"),
        (SecretStr, {"it": "hunter2"}, "secret hunter2"),
        (Order, {"it": {"itemName": "x"}}, "Order(item_name='x') of ['item_name']"),
        (Source, {"from": "attic"}, "'attic'"),
        (Hidden, {"it": "x"}, "'x'"),
    ],
)
async def test_a_tool_is_called_with_what_the_model_said(
    world: World, effect: Any, kind: Any, given: dict[str, Any], received: str
) -> None:
    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("take", given)]))

    def declared(engine: Engine) -> Any:
        def take(it) -> str:  # type: ignore[no-untyped-def]
            """Take it."""
            world.done.append(told(it))
            return "taken"

        take.__annotations__["it"] = kind
        return world.agent(engine, [engine.tool(effect=effect, requires=[], version="1")(take)])

    engine = world.engine()
    agent = declared(engine)
    async with engine:
        for asked in (2, 0, 0):
            assert (await world.count(agent.execute("go")))[1:] == (asked, [received])
    engine = world.engine()
    agent = declared(engine)
    async with engine:
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, result.identical) == (0, [received], True)


async def test_a_validator_runs_once_for_each_call(world: World) -> None:
    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("take", {"it": 1})]))
    engine = world.engine()

    def counted(value: int) -> int:
        world.done.append("read")
        return value

    def take(it) -> str:  # type: ignore[no-untyped-def]
        """Take it."""
        return "taken"

    take.__annotations__["it"] = Annotated[int, AfterValidator(counted)]
    agent = world.agent(engine, [engine.tool(effect="write", requires=[])(take)])
    async with engine:
        for _ in range(3):
            _, _, done = await world.count(agent.execute("go"))
            assert done == ["read"]


async def test_arguments_that_no_longer_validate_are_told_to_the_model(world: World) -> None:
    world.think(
        lambda body: Answer(
            [text(str(body["messages"][-1]["content"][0]["content"]))]
            if turn(body)
            else [call("take", {"it": 1})]
        )
    )
    engine = world.engine()
    largest = [1]

    def bounded(value: int) -> int:
        if value > largest[0]:
            raise ValueError("too large now")
        return value

    def take(it) -> str:  # type: ignore[no-untyped-def]
        """Take it."""
        world.done.append("take")
        return "taken"

    take.__annotations__["it"] = Annotated[int, AfterValidator(bounded)]
    agent = world.agent(engine, [engine.tool(effect="read")(take)])
    async with engine:
        assert (await agent.execute("go")).output == "taken"
        largest[0] = 0
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (1, [])
        assert "too large now" in result.output
        assert outcomes(result)[1] == ("take", "diverged")


async def test_a_default_that_a_tool_changes_is_as_declared_for_the_next_call(
    world: World,
) -> None:
    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("take", {})]))
    engine = world.engine()

    @engine.tool(effect="read")
    def take(it: list[int] = []) -> int:  # noqa: B006
        """Take it."""
        it.append(1)
        return len(it)

    agent = world.agent(engine, [take])
    async with engine:
        for identical in (False, True, True):
            assert (await agent.execute("go")).identical == identical


# Keys of a program's calls ------------------------------------------------------------------


class Kept(BaseModel):
    amount: float = Field(default=0, exclude=True)


class Special(Kept):
    note: str


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (SecretStr, SecretStr("a"), SecretStr("b")),
        (Patch, Patch(name="a"), Patch(name="a", email=None)),
        (Kept, Kept(amount=1), Kept(amount=2)),
        (Kept, Special(note="a"), Special(note="b")),
        (Any, 1, 1.0),
        (Any, 1, True),
        (Any, 0.0, -0.0),
        (Any, {"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (dict[Any, int], {1: 1}, {"1": 1}),
        (Hidden, "a", "b"),
    ],
)
async def test_calls_that_a_tool_can_tell_apart_are_not_served_for_one_another(
    world: World, kind: Any, one: Any, other: Any
) -> None:
    engine = world.engine()

    def take(it) -> str:  # type: ignore[no-untyped-def]
        """Take it."""
        world.done.append("take")
        return f"{told(it)} {getattr(it, 'amount', '')}"

    take.__annotations__["it"] = kind
    tool = engine.tool(effect="pure")(take)

    async def taken(value: Any) -> Any:
        async with engine.run("program", "go") as run:
            return (await run.act(tool, it=value)).value

    async with engine:
        assert await taken(one) != await taken(other)
        world.done.clear()
        assert await taken(one) != await taken(other)
        assert world.done == [], "each is found by its own key"


async def test_a_secret_is_no_part_of_what_is_stored_of_a_programs_call(
    world: World, tmp_path: Any
) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    def login(password: SecretStr) -> str:
        """Log in."""
        world.done.append(password.get_secret_value())
        return "in"

    async with engine:
        for _ in range(2):
            async with engine.run("program", "go") as run:
                await run.act(login, password="hunter2")
        await engine.settle()
        rows = await engine.cypher("MATCH (n {namespace: $namespace}) RETURN n")
    assert world.done == ["hunter2"] * 2
    assert "hunter2" not in str(rows)
    assert all(b"hunter2" not in it.read_bytes() for it in tmp_path.glob("graph.db*"))


async def test_a_tool_cannot_change_what_a_program_passes(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="pure")
    def sort(it: Any) -> int:
        """Sort in place."""
        it.sort()
        return len(it)

    async with engine:
        for _ in range(2):
            given = [2, 1]
            async with engine.run("program", "go") as run:
                await run.act(sort, it=given)
            assert given == [2, 1], "on replay, it is not run"


# What comes back ----------------------------------------------------------------------------


class Price(BaseModel):
    cents: Cents


@dataclass
class Place:
    name: str


@dataclass
class Town(Place):
    mayor: str = "none"


class Point(NamedTuple):
    x: int
    y: float


class Receipt:
    """What JSON cannot tell."""


@pytest.mark.parametrize(
    ("kind", "value", "reused"),
    [
        (Patch, Patch(name="a"), True),
        (Patch, Patch(name="a", email=None), True),
        (Order, Order.model_validate({"itemName": "x"}), True),
        (Point, Point(1, 2.0), True),
        (list[Place], [Place("a")], True),
        (set[date], {date(2026, 1, 2), date(2026, 1, 1)}, True),
        (datetime, datetime(2026, 1, 2, 3, tzinfo=UTC), True),
        (Decimal, Decimal("1.10"), True),
        (int | str, "1", True),
        (frozenset[int] | list[int], frozenset({1, 2}), False),
        (Price, Price(cents=5), False),
        (SecretStr, SecretStr("a"), False),
        (Kept, Kept(amount=2), False),
        (Place, Town("a", "b"), False),
        (dict[Any, Any], {1: date(2026, 1, 1)}, False),
        (Any, (1, 2), False),
        (float, 1, False),
        (Any, date(2026, 1, 1), False),
        (Any, Receipt(), False),
    ],
)
async def test_a_program_gets_the_same_value_each_time(
    world: World, kind: Any, value: Any, reused: Any
) -> None:
    engine = world.engine()

    def give() -> Any:
        """Give."""
        world.done.append("give")
        return value

    give.__annotations__["return"] = kind
    tool = engine.tool(effect="pure")(give)
    async with engine:
        for number in range(3):
            world.done.clear()
            async with engine.run("program", "go") as run:
                given = (await run.act(tool)).value
            assert (type(given), told(given)) == (type(value), told(value))
            assert world.done == ([] if reused and number else ["give"])
            assert run.result.recorded == (number == 0)


async def test_an_effect_whose_output_is_no_json_is_done_for_the_program_too(
    world: World,
) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    def pay() -> Any:
        """Pay."""
        world.done.append("pay")
        return Receipt()

    async with engine:
        for _ in range(2):
            async with engine.run("program", "go") as run:
                assert isinstance((await run.act(pay)).value, Receipt)
            assert [effect.state for effect in run.result.effects] == ["done"]
    assert world.done == ["pay", "pay"]


async def test_members_that_json_cannot_tell_apart_are_not_lost_in_silence(world: World) -> None:
    world.think(
        lambda body: Answer(
            [text(str(body["messages"][-1]["content"][0]["content"]))]
            if turn(body)
            else [call("give", {})]
        )
    )
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    def give() -> dict[int | str, str]:
        """Give."""
        return {1: "a", "1": "b"}

    agent = world.agent(engine, [give])
    async with engine:
        assert "give is done; do not repeat it" in (await agent.execute("go")).output


async def test_what_a_subclass_adds_is_told_to_the_model(world: World) -> None:
    world.think(
        lambda body: Answer(
            [text(str(body["messages"][-1]["content"][0]["content"]))]
            if turn(body)
            else [call("give", {})]
        )
    )
    engine = world.engine()

    @engine.tool(effect="read")
    def give() -> list[Place | Kept]:
        """Give."""
        return [Town("a", "b"), Special(note="c")]

    agent = world.agent(engine, [give])
    async with engine:
        told_of = (await agent.execute("go")).output
        assert told_of == '[{"name":"a","mayor":"b"},{"note":"c"}]'


# What is async behind a decorator -----------------------------------------------------------


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


async def test_an_async_tool_behind_a_decorator_that_is_not_is_awaited(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    @logged
    async def deploy(service: str) -> str:
        """Deploy."""
        await asyncio.sleep(0)
        world.done.append(service)
        return f"{service} runs"

    async with engine, engine.run("program", "go") as run:
        assert (await run.act(deploy, service="checkout")).value == "checkout runs"
    assert world.done == ["checkout"]


async def test_a_tool_may_return_an_awaitable_and_say_so(world: World) -> None:
    engine = world.engine()

    async def later() -> int:
        return 1

    @engine.tool(effect="read")
    def give() -> Awaitable[int]:
        """Give."""
        return later()

    @engine.tool(effect="read")
    def count() -> AsyncIterator[int]:
        """Count."""

        async def numbers() -> AsyncIterator[int]:
            yield 1
            yield 2

        return numbers()

    async with engine, engine.run("program", "go") as run:
        assert (await run.act(give)).value == 1
        assert (await run.act(count)).value == [1, 2]


# What is refused where it is declared, and what is not ---------------------------------------


class Bank:
    """Has functions of several kinds."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    def pay(self, cents: int) -> str:
        """Pay."""
        self.paid.append(cents)
        return "paid"

    @classmethod
    def greet(cls, name: str) -> str:
        """Greet."""
        return f"hello {name}"

    @staticmethod
    def add(one: int, two: int = 2) -> int:
        """Add."""
        return one + two


async def test_methods_serve_as_tools(world: World) -> None:
    engine, bank = world.engine(), Bank()
    declare = engine.tool(effect="read", version="1")
    pay, greet, add = (declare(it) for it in (bank.pay, Bank.greet, Bank.__dict__["add"]))
    async with engine, engine.run("program", "go") as run:
        assert (await run.act(pay, cents=1)).value == "paid"
        assert (await run.act(greet, name="ann")).value == "hello ann"
        assert (await run.act(add, one=1)).value == 3
    assert bank.paid == [1]


def takes_field(it: int = Field(default=1)) -> int:
    """Take."""
    return it


def unlocks(code: SecretStr | None) -> str:
    """Unlock."""
    return "open"


@pytest.mark.parametrize(
    ("function", "requires", "complaint"),
    [
        (Bank.__dict__["greet"], [], r"declare Class.greet as a tool"),
        (Bank.pay, [], "parameter self of the tool pay has no annotation"),
        (takes_field, [], r"has Field\(...\) as its default"),
        (unlocks, [DeploymentTarget("{code}")], "named by the secret code"),
        (len, [], "by position only"),
    ],
)
def test_what_would_go_wrong_at_a_call_is_refused_where_it_is_declared(
    function: Any, requires: Any, complaint: str
) -> None:
    engine = Engine("sqlite:///never-opened.db")
    with pytest.raises(ConfigurationError, match=complaint):
        engine.tool(effect="read", requires=requires, version="1")(function)


async def test_a_requirement_names_an_argument_as_the_function_does(world: World) -> None:
    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("ship", {"to": "EU"})]))
    engine = world.engine()

    @engine.tool(effect="write", requires=[DeploymentTarget("{region}")])
    def ship(region: Annotated[str, Field(alias="to"), AfterValidator(str.lower)]) -> str:
        """Ship."""
        world.done.append(region)
        return "shipped"

    agent = world.agent(engine, [ship])
    async with engine:
        await engine.observe("target:eu", 1)
        for asked in (2, 0):
            assert (await world.count(agent.execute("go")))[1:] == (asked, ["eu"])
        await engine.observe("target:eu", 2)
        assert (await world.count(agent.execute("go")))[1] == 1
