"""What a tool is called with: what the model said, live and on each kind of replay."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

from execgraph import Engine
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
    if isinstance(value, BaseModel):
        return f"{value!r} of {sorted(value.model_fields_set)}"
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
        rows = await engine.cypher("MATCH (n) RETURN n")
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
