"""Tools: what may be declared, what the model is shown, and what a step is known by."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import math
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, StringConstraints

from execgraph import (
    Acl,
    ConfigurationError,
    DeploymentTarget,
    Engine,
    IdempotencyKey,
    Resource,
    Tool,
)
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, outcomes, results, turn


@pytest.fixture
def engine() -> Engine:
    """For declarations only: never opened, so nothing is kept."""
    return Engine("sqlite:///never-opened.db")


# What cannot be declared ------------------------------------------------------------------


def undocumented(x: int) -> int:
    return x


def unannotated(x) -> int:  # type: ignore[no-untyped-def]
    """A parameter without annotation."""
    return 1


def silent(x: int):  # type: ignore[no-untyped-def]
    """Says nothing of its output."""
    return x


def variadic(*names: str) -> int:
    """Takes any number."""
    return len(names)


def keywords(**names: str) -> int:
    """Takes any names."""
    return len(names)


def positional(x: int, /) -> int:
    """By position."""
    return x


def yielding(n: int) -> Iterator[int]:
    """Yields."""
    yield from range(n)


async def yielding_later(n: int) -> AsyncIterator[int]:
    """Yields."""
    yield n


def unknown_type(x: Missing) -> int:  # type: ignore[name-defined]  # noqa: F821
    """Its type is nowhere."""
    return 1


def takes_a_lock(lock: threading.Event) -> int:
    """No JSON."""
    return 1


def gives_a_lock() -> threading.Event:
    """No JSON."""
    return threading.Event()


def takes_a_function(work: Callable[[], int]) -> int:
    """No JSON Schema."""
    return work()


class Adder:
    """An object that can be called."""

    def __call__(self, x: int) -> int:
        return x


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (undocumented, "undocumented has no docstring"),
        (unannotated, "parameter x of the tool unannotated has no annotation"),
        (silent, "silent does not say what it returns; annotate it, as in '-> dict'"),
        (variadic, r"variadic takes \*names"),
        (keywords, r"keywords takes \*\*names"),
        (positional, "positional takes x by position only"),
        (yielding, "yielding yields"),
        (yielding_later, "yielding_later yields"),
        (unknown_type, "'Missing' is not defined"),
        (takes_a_lock, "takes_a_lock cannot be written as JSON"),
        (gives_a_lock, "gives_a_lock cannot be written as JSON"),
        (takes_a_function, "takes_a_function cannot be told to a model"),
        (Adder(), "is no function"),
        (functools.partial(silent, 1), "is no function"),
    ],
)
def test_what_cannot_serve_as_a_tool_is_told_where_it_is_declared(
    engine: Engine, function: Callable[..., Any], complaint: str
) -> None:
    if isinstance(function, functools.partial):
        function.__doc__ = "A partial."
    with pytest.raises(ConfigurationError, match=complaint):
        engine.tool(effect="read")(function)
    assert dict(engine.tools) == {}


def look(name: str = "eu", *, key: Annotated[str, IdempotencyKey] = "") -> str:
    """Look."""
    return name


@pytest.mark.parametrize(
    ("declaration", "complaint"),
    [
        ({"effect": "deletes"}, "the effect 'deletes'; use one of 'pure', 'read', 'write'"),
        ({}, "look writes .an undeclared effect is a write."),
        ({"effect": "write"}, r"it has the effect write.*state requires=\[\.\.\.\]"),
        ({"effect": "read", "requires": ["acl:prod"]}, "requires 'acl:prod', which is no requ"),
        ({"effect": "read", "requires": [Acl("{nme}")]}, r"\{nme\}, which is no argument of it"),
        ({"effect": "read", "requires": [Acl("{key}")]}, r"\{key\}, which is no argument of it"),
        ({"effect": "read", "uses": [len]}, "the source of 'len' of the tool look cannot be read"),
    ],
)
def test_a_declaration_that_cannot_be_kept_is_refused(
    engine: Engine, declaration: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        engine.tool(**declaration)(look)


@pytest.mark.parametrize("selector", ["$.", "$[", "rules", "$..[?(", "$.a b"])
def test_an_unparsable_selector_is_refused_where_it_is_written(selector: str) -> None:
    with pytest.raises(ConfigurationError, match="RFC 9535"):
        Acl("prod", selector)


@pytest.mark.parametrize("name", ["{", "{}", "{not this}", "{a.b}", "}"])
def test_braces_that_name_nothing_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="braces"):
        Acl(name)


def test_two_tools_of_one_name_are_refused(engine: Engine) -> None:
    engine.tool(effect="read")(look)
    with pytest.raises(ConfigurationError, match="has a tool named look already"):
        engine.tool(effect="read")(look)
    engine.tool(effect="read", name="look_again")(look)
    assert sorted(engine.tools) == ["look", "look_again"]
    with pytest.raises(ConfigurationError, match="two tools named look"):
        engine.agent("a", model="m", tools=[engine.tools["look"], engine.tools["look"]])


def test_an_agent_takes_tools_only(engine: Engine) -> None:
    with pytest.raises(ConfigurationError, match="is no tool; declare it with"):
        engine.agent("a", model="m", tools=[look])  # type: ignore[list-item]


def test_what_is_given_where_a_list_is_meant_is_told(engine: Engine) -> None:
    tool: Any = engine.tool(effect="read")(look)
    with pytest.raises(ConfigurationError, match=r"is no list; write tools=\[look\]"):
        engine.agent("a", model="m", tools=tool)
    for requires in ("acl:ship", Acl("ship")):
        one: Any = requires
        with pytest.raises(ConfigurationError, match=r"give a list: \[Acl\('prod/deploy'\)\]"):
            engine.agent("a", model="m", requires=one)


def test_source_that_cannot_be_read_needs_a_version(engine: Engine) -> None:
    space: dict[str, Any] = {}
    exec("def made() -> int:\n    'Made at run time.'\n    return 1", space)
    with pytest.raises(ConfigurationError, match="state version='1'"):
        engine.tool(effect="read")(space["made"])
    tool = engine.tool(effect="read", version="1")(space["made"])
    assert tool() == 1


def test_a_tool_is_still_the_function(engine: Engine) -> None:
    tool = engine.tool(effect="read")(look)
    assert tool("us") == "us"
    assert repr(tool) == "<Tool look (read)>"


# What the model is shown ------------------------------------------------------------------


class Region(StrEnum):
    EU = "eu"
    US = "us"


class Level(Enum):
    LOW = 1
    HIGH = 2


class Window(BaseModel):
    start: date
    hours: int = Field(default=1, ge=1, description="How long.")


@dataclass
class Report:
    found: int
    where: tuple[str, ...]


def test_the_model_is_shown_every_parameter_but_the_idempotency_key(engine: Engine) -> None:
    @engine.tool(effect="read")
    def plan(  # noqa: PLR0917
        service: Annotated[str, Field(description="What to plan.", min_length=1)],
        window: Window,
        region: Region = Region.EU,
        level: Level = Level.LOW,
        day: date | None = None,
        limit: float = math.inf,
        *,
        key: Annotated[str, IdempotencyKey],
        other: Annotated[str, IdempotencyKey()] = "",
    ) -> Report:
        """Plan a release."""
        return Report(1, ("eu",))

    shown = plan.schema["properties"]
    assert plan.description == "Plan a release."
    assert plan.parameters == ("service", "window", "region", "level", "day", "limit")
    assert plan.schema["required"] == ["service", "window"]
    assert plan.schema["additionalProperties"] is False
    assert shown["service"] == {
        "type": "string",
        "description": "What to plan.",
        "minLength": 1,
    }
    assert shown["window"] == {"$ref": "#/$defs/Window"}
    assert shown["region"] == {"$ref": "#/$defs/Region", "default": "eu"}
    assert shown["level"] == {"$ref": "#/$defs/Level", "default": 1}
    assert shown["day"] == {
        "anyOf": [{"type": "string", "format": "date"}, {"type": "null"}],
        "default": None,
    }
    assert shown["limit"] == {"type": "number"}, "no JSON parser would read the infinity"
    window = plan.schema["$defs"]["Window"]["properties"]
    assert window["hours"]["description"] == "How long."
    assert plan.schema["$defs"]["Region"]["enum"] == ["eu", "us"]


def test_a_tool_without_parameters_has_an_empty_object(engine: Engine) -> None:
    @engine.tool(effect="read")
    def nothing() -> None:
        """Nothing."""

    assert nothing.schema == {"type": "object", "properties": {}, "additionalProperties": False}


async def test_arguments_arrive_as_the_types_that_were_declared(world: World) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        given = {"window": {"start": "2026-01-02"}, "region": "us", "level": 2}
        return Answer([text(str(results(body)[0]))] if turn(body) else [call("plan", given)])

    world.think(brain)
    engine = world.engine()
    seen: list[Any] = []

    @engine.tool(effect="pure")
    def plan(window: Window, region: Region, level: Level, name: str = "none") -> Report:
        """Plan."""
        seen.append((window, region, level, name))
        return Report(2, ("a", "b"))

    agent = world.agent(engine, [plan])
    async with engine:
        result, asked, _ = await world.count(agent.execute("go"))
        assert asked == 2
        assert seen == [(Window(start=date(2026, 1, 2)), Region.US, Level.HIGH, "none")]
        assert result.output == str({"found": 2, "where": ["a", "b"]})
        again, asked, _ = await world.count(agent.execute("go"))
        assert (asked, again.identical, len(seen)) == (0, True, 1)


# What a step is known by ------------------------------------------------------------------

ORIGINAL = """
    from execgraph import Acl, Engine
    engine = Engine("sqlite:///never-opened.db")
    def helper(n: int) -> int:
        return n + 1
    @engine.tool(effect="write", requires=[Acl("prod")], uses=[helper])
    async def ship(n: int) -> int:
        '''Ship.'''
        return helper(n)
"""


@pytest.fixture
def declared(tmp_path: Path) -> Iterator[Callable[[str], Tool]]:
    """Imports a module from this source, and gives its tool ``ship``."""
    names: list[str] = []

    def load(source: str) -> Tool:
        name = f"declared_{len(names)}"
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(source))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        names.append(name)
        spec.loader.exec_module(module)
        tool: Tool = module.ship
        return tool

    yield load
    for name in names:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return helper(n)", "# why\n        return (helper(\n            n))  # what"),
        ("'''Ship.'''", '"Ship."'),
        ("return n + 1", "return n   +   1  # one more"),
        ("    def helper", "\n\n    ANSWER = 42\n\n    def helper"),
        (", uses=[helper])", ",\n        uses=(helper,),\n    )"),
        ('"sqlite:///never-opened.db"', '"sqlite:///elsewhere.db"'),
    ],
)
def test_comments_layout_and_the_decorator_are_no_code(
    declared: Callable[[str], Tool], before: str, after: str
) -> None:
    assert before in ORIGINAL
    first, second = declared(ORIGINAL), declared(ORIGINAL.replace(before, after))
    assert first.code_key == second.code_key


@pytest.mark.parametrize(
    ("before", "after", "same_terms"),
    [
        ("return helper(n)", "return helper(n) * 2", True),
        ("return n + 1", "return n + 2", True),
        ("(n: int) -> int:\n        '''", "(n: float) -> int:\n        '''", True),
        ("(n: int) -> int:\n        '''", "(n: int = 1) -> int:\n        '''", True),
        ("'''Ship.'''", "'''Ship it.'''", True),
        ("async def ship", "def ship", True),
        (", uses=[helper]", "", True),
        ("uses=[helper]", "version='1'", True),
        ("uses=[helper]", "uses=[helper], name='send'", True),
        ('effect="write"', 'effect="read"', False),
        ('[Acl("prod")]', "[]", False),
        ('Acl("prod")', 'Acl("prod", "$.users")', False),
        ('[Acl("prod")]', '[Acl("prod"), Acl("staging")]', False),
    ],
)
def test_whatever_makes_a_step_what_it_is_is_in_its_code_key(
    declared: Callable[[str], Tool], before: str, after: str, same_terms: Any
) -> None:
    assert before in ORIGINAL
    first, second = declared(ORIGINAL), declared(ORIGINAL.replace(before, after, 1))
    assert first.code_key != second.code_key
    assert second.same_terms(first.code_key) == same_terms


def test_a_version_stands_for_the_source(declared: Callable[[str], Tool]) -> None:
    versioned = ORIGINAL.replace("uses=[helper]", "version='1'")
    first = declared(versioned)
    assert declared(versioned.replace("helper(n)", "helper(n) * 2")).code_key == first.code_key
    assert declared(versioned.replace("'1'", "'2'")).code_key != first.code_key


def test_a_default_from_elsewhere_is_in_the_code_key(declared: Callable[[str], Tool]) -> None:
    source = ORIGINAL.replace("ship(n: int)", "ship(n: int = LIMIT)")
    first = declared(source.replace("def helper", "LIMIT = 1\n    def helper"))
    second = declared(source.replace("def helper", "LIMIT = 2\n    def helper"))
    assert first.code_key != second.code_key


# What comes back --------------------------------------------------------------------------


class Measure(BaseModel):
    value: float


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Window, Window(start=date(2026, 1, 2), hours=3)),
        (Report, Report(1, ("a", "b"))),
        (tuple[int, str], (1, "a")),
        (date, date(2026, 1, 2)),
        (dict[str, date], {"on": date(2026, 1, 2)}),
        (float, math.nan),
        (Measure, Measure(value=math.nan)),
        (Measure, Measure(value=-math.inf)),
        (list[Measure], [Measure(value=math.inf)]),
        (int, 2**80),
        (int, 2**53 + 1),
        (dict[str, Any], {"big": 2**100, "nan": math.nan}),
        (str, "half \ud800 pair"),
        (dict[str, str], {"": "half \ud800 pair", "✓": ""}),
        (set[int], {1, 2}),
        (dict[int, str], {1: "a"}),
        (Region, Region.US),
        (str | None, None),
        (Any, [1, {"a": None}]),
    ],
)
async def test_an_output_is_reused_as_the_function_had_returned_it(
    world: World, kind: Any, value: Any
) -> None:
    engine = world.engine()

    def give() -> Any:
        """Give."""
        world.done.append("give")
        return value

    give.__annotations__["return"] = kind
    tool = engine.tool(effect="pure")(give)
    async with engine:
        for ran in (["give"], []):
            world.done.clear()
            async with engine.run("program", "go") as run:
                given = (await run.act(tool)).value
            assert type(given) is type(value)
            assert repr(given) == repr(value)
            assert world.done == ran
            assert run.result.replayed == (not ran)


async def test_an_output_that_is_not_what_was_declared_is_reused_as_plain_json(
    world: World,
) -> None:
    world.think(
        lambda body: Answer([text(str(results(body)))] if turn(body) else [call("count", {})])
    )
    engine = world.engine()

    @engine.tool(effect="pure")
    def count() -> int:
        """Count."""
        world.done.append("count")
        return "many"  # type: ignore[return-value]

    agent = world.agent(engine, [count])
    async with engine:
        await agent.execute("go")
        again, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, again.output) == (0, [], "['many']")


@pytest.mark.parametrize("value", [object(), {"a": threading.Lock}, b"\xff", {1: {2: object()}}])
async def test_an_output_that_is_no_json_was_given_by_a_tool_that_did_its_work(
    world: World, value: Any
) -> None:
    world.think(
        lambda body: Answer([text(str(results(body)[0]))] if turn(body) else [call("give", {})])
    )
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    def give() -> Any:
        """Give."""
        world.done.append("give")
        return value

    agent = world.agent(engine, [give])
    async with engine:
        result, _, done = await world.count(agent.execute("go"))
        assert done == ["give"]
        assert "give is done; do not repeat it" in result.output
        assert not result.steps[1].error
        assert [effect.state for effect in result.effects] == ["done"], "it returned"
        _, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (0, ["give"])


async def test_a_generator_that_is_returned_is_recorded_as_a_list(world: World) -> None:
    world.think(
        lambda body: Answer([text(str(results(body)))] if turn(body) else [call("give", {})])
    )
    engine = world.engine()

    @engine.tool(effect="read")
    def give() -> Any:
        """Give."""
        return (n for n in (1, 2))

    agent = world.agent(engine, [give])
    async with engine:
        assert (await agent.execute("go")).output == "[[1, 2]]"
        again, asked, _ = await world.count(agent.execute("go"))
        assert (asked, again.identical) == (0, True)


async def test_a_tool_that_raises_stop_iteration_does_not_hang_the_run(world: World) -> None:
    world.think(
        lambda body: Answer([text(str(results(body)[0]))] if turn(body) else [call("first", {})])
    )
    engine = world.engine()

    @engine.tool(effect="read")
    def first() -> int:
        """Give the first of none."""
        return next(iter(list[int]()))

    agent = world.agent(engine, [first])
    async with engine, asyncio.timeout(10):
        assert "StopIteration" in (await agent.execute("go")).output


async def test_a_synchronous_tool_does_not_hold_up_the_event_loop(world: World) -> None:
    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("wait", {})]))
    engine = world.engine()
    entered, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @engine.tool(effect="read")
    def wait() -> str:
        """Wait."""
        loop.call_soon_threadsafe(entered.set)
        assert leave.wait(10), "the event loop did not go on"
        return threading.current_thread().name

    agent = world.agent(engine, [wait])
    async with engine:
        running = asyncio.create_task(agent.execute("go"))
        await entered.wait()
        leave.set()
        result = await running
        assert not result.steps[1].error
        assert threading.current_thread() is threading.main_thread()


async def test_context_variables_reach_a_synchronous_tool(world: World) -> None:
    import contextvars

    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("who", {})]))
    engine = world.engine()
    user = contextvars.ContextVar[str]("user")

    @engine.tool(effect="read")
    def who() -> str:
        """Say who."""
        world.done.append(user.get())
        return "seen"

    agent = world.agent(engine, [who])
    async with engine:
        user.set("ann")
        _, _, done = await world.count(agent.execute("go"))
        assert done == ["ann"]


async def test_a_tool_that_changes_its_arguments_changes_no_recording(world: World) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        given = {"items": [3, 1, 2], "more": {"deep": ["x"]}}
        return Answer([text(str(results(body)))] if turn(body) else [call("sort", given)])

    world.think(brain)
    engine = world.engine()

    @engine.tool(effect="read")
    def sort(items: list[int], more: dict[str, Any]) -> list[int]:
        """Sort in place."""
        world.done.append(f"{items} {more}")
        items.sort()
        more["deep"].append("y")
        return items

    agent = world.agent(engine, [sort])
    untouched = "[3, 1, 2] {'deep': ['x']}"
    async with engine:
        for expected in (2, 0, 0):
            result, asked, done = await world.count(agent.execute("go"))
            assert (asked, done, result.output) == (expected, [untouched], "[[1, 2, 3]]")
    elsewhere = world.engine()
    same = world.agent(elsewhere, [elsewhere.tool(effect="read")(sort.function)])
    async with elsewhere:
        _, asked, done = await world.count(same.execute("go"))
        assert (asked, done) == (0, [untouched])


@pytest.mark.parametrize("effect", ["pure", "read"])
async def test_whoever_changes_what_a_step_gave_changes_no_recording(
    world: World, effect: Any
) -> None:
    engine = world.engine()

    @engine.tool(effect=effect)
    def give() -> list[int]:
        """Give."""
        return [1]

    async with engine:
        for _ in range(3):
            async with engine.run("program", "go") as run:
                given = await run.act(give)
                assert given.value == [1]
                given.value.append(2)
            assert run.result.miss == () or run.result.recorded


# What the model gets wrong ----------------------------------------------------------------


async def test_bad_arguments_and_unknown_tools_are_told_to_the_model(world: World) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        match turn(body):
            case 0:
                return Answer(
                    [
                        call("double", {"n": "many"}),
                        call("double", {"n": 1, "m": 2}),
                        call("double", {}),
                        call("triple", {"n": 1}),
                    ]
                )
            case 1:
                return Answer([call("double", {"n": 21})])
        return Answer([text("\n".join(map(str, results(body))))])

    world.think(brain)
    engine = world.engine()

    @engine.tool(effect="write", requires=[Acl("double")])
    def double(n: int) -> int:
        """Double."""
        world.done.append(f"double {n}")
        return 2 * n

    agent = world.agent(engine, [double])
    async with engine:
        await engine.observe("acl:double", "yes")
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (3, ["double 21"])
        wrong, extra, missing, unknown, right = result.output.splitlines()
        assert "double does not take these arguments: n: Input should be a valid integer" in wrong
        assert "m: Extra inputs are not permitted" in extra
        assert "n: Field required" in missing
        assert unknown == "there is no tool triple; the tools are: double"
        assert right == "42"
        assert [step.error for step in result.steps[1:5]] == [True] * 4
        assert len(result.effects) == 1
        again, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, again.identical) == (0, ["double 21"], True)


async def test_a_missing_argument_is_guarded_by_its_default(world: World) -> None:
    world.think(lambda body: Answer([text("ok")] if turn(body) else [call("ship", {})]))
    engine = world.engine()

    @engine.tool(effect="write", requires=[DeploymentTarget("{region}/{level}/{day}")])
    def ship(
        region: Region = Region.EU, level: Level = Level.HIGH, day: date = date(2026, 1, 2)
    ) -> str:
        """Ship."""
        world.done.append(f"{region} {level} {day}")
        return "shipped"

    agent = world.agent(engine, [ship])
    async with engine:
        await engine.observe("target:eu/2/2026-01-02", "a")
        _, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (2, ["eu Level.HIGH 2026-01-02"])
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 0
        await engine.observe("target:eu/2/2026-01-02", "b")
        result, asked, _ = await world.count(agent.execute("go"))
        assert asked == 1
        assert outcomes(result)[0] == ("?", "asked"), "the decision is guarded as well"


async def test_an_argument_guards_in_the_form_in_which_the_tool_takes_it(world: World) -> None:
    world.think(
        lambda body: Answer([text("ok")] if turn(body) else [call("ship", {"region": " EU "})])
    )
    engine = world.engine()

    @engine.tool(effect="write", requires=[DeploymentTarget("{region}")])
    def ship(
        region: Annotated[str, StringConstraints(to_lower=True, strip_whitespace=True)],
    ) -> str:
        """Ship."""
        world.done.append(region)
        return "shipped"

    agent = world.agent(engine, [ship])
    async with engine:
        await engine.observe("target:eu", "a")
        await agent.execute("go")
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, result.miss) == (0, ["eu"], ())
        await engine.observe("target:eu", "b")
        result, asked, _ = await world.count(agent.execute("go"))
        assert asked == 1
        assert outcomes(result)[0] == ("?", "asked")


@pytest.mark.parametrize("given", ["", " ", "\n"])
async def test_an_argument_that_names_no_resource_is_an_error_and_no_unguarded_write(
    world: World, given: str
) -> None:
    world.think(
        lambda body: Answer(
            [text(str(results(body)[0]))] if turn(body) else [call("ship", {"target": given})]
        )
    )
    engine = world.engine()

    @engine.tool(effect="write", requires=[DeploymentTarget("{target}")])
    def ship(target: str) -> str:
        """Ship."""
        world.done.append("ship")
        return "shipped"

    agent = world.agent(engine, [ship])
    async with engine:
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (2, [])
        assert "ship cannot be called with these arguments" in result.output
        assert result.effects == ()
        _, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (0, [])


async def test_an_argument_cannot_break_out_of_a_selector(world: World) -> None:
    names = iter(["a'] || $['b", "a", 'quote"d'])
    world.think(
        lambda body: Answer([text("ok")] if turn(body) else [call("read", {"name": next(names)})])
    )
    engine = world.engine()

    @engine.tool(effect="read", requires=[Acl("rules", "$['{name}']")])
    def read(name: str) -> str:
        """Read."""
        world.done.append(name)
        return "read"

    agent = world.agent(engine, [read])
    async with engine:
        await engine.observe("acl:rules", {"a": 1, "b": 1})
        for number in range(3):
            result = await agent.execute(f"task {number}")
            assert not result.steps[1].error
        await engine.observe("acl:rules", {"a": 1, "b": 2})
        for number in range(3):
            result, asked, _ = await world.count(agent.execute(f"task {number}"))
            assert (asked, result.miss) == (0, ()), "no name reaches b"


@pytest.mark.parametrize(
    ("uri", "selector", "given", "said"),
    [
        ("acl:db", "$.tables.{name}", "a'] || $['b", "cannot stand for"),
        ("acl:db", "$.rows[{name}]", "007", "is not RFC 9535 JSONPath"),
        ("acl:db", "$[?match(@.name, '{name}')]", "(a", "no regular expression"),
        ("sql:{name}", None, "SELECT " + "x" * 9_000, "9,011 bytes"),
    ],
)
async def test_the_model_is_told_of_arguments_that_make_no_requirement_and_nothing_is_done(
    world: World, uri: str, selector: str | None, given: str, said: str
) -> None:
    world.think(
        lambda body: Answer(
            [text(str(results(body)[0]))] if turn(body) else [call("write", {"name": given})]
        )
    )
    engine = world.engine()

    @engine.tool(effect="write", requires=[Resource(uri, selector)])
    def write(name: str) -> str:
        """Write."""
        world.done.append(name)
        return "written"

    agent = world.agent(engine, [write])
    async with engine:
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (2, [])
        assert said in result.output


async def test_a_long_argument_within_the_bound_names_a_resource(world: World) -> None:
    engine, statement = world.engine(), "SELECT " + "x" * 3_900

    @engine.tool(effect="write", requires=[Resource("sql:{statement}")])
    def write(statement: str) -> str:
        """Write."""
        world.done.append(statement)
        return "written"

    async with engine:
        await engine.observe(f"sql:{statement}", "approved")
        for mode in ("live", "replay"):
            async with engine.run("program", "go") as run:
                await run.act(write, statement=statement)
            assert run.result is not None
            assert run.result.mode == mode
