"""What a change of code costs: only the steps that it made (I1, I2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from execgraph import Acl, Agent, Engine, NotReplayable
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.tests.models import OTHER_MODEL

from .conftest import World, misses, outcomes, turn

TASK = "go"


def brain(body: dict[str, Any]) -> Answer:
    """d1: look; d2: ship; d3: the answer."""
    match turn(body):
        case 0:
            return Answer([call("look", {})])
        case 1:
            return Answer([call("ship", {"target": "eu"})])
    return Answer([text("Done.")])


class Version:
    """One version of the program: its tools and its agent. Each is an engine of its own."""

    def __init__(self, world: World, **agent: Any) -> None:
        world.think(brain)
        self.world = world
        self.engine = world.engine()
        self.agent_settings = agent
        self.tools: dict[str, Any] = {}
        self.declare("look", effect="read", body=look_v1)
        self.declare("ship", effect="write", requires=[Acl("ship")], body=ship_v1)

    def declare(self, name: str, *, body: Callable[..., Any], **settings: Any) -> None:
        """Declare a tool, or declare it anew: in an engine of its own, as after a restart."""
        declared = self.world.engine().tool(name=name, **settings)(counted(self.world, body))
        self.tools[name] = declared

    @property
    def agent(self) -> Agent:
        return self.world.agent(self.engine, list(self.tools.values()), **self.agent_settings)

    async def run(self) -> Any:
        async with self.engine:
            return await self.world.count(self.agent.execute(TASK))


def counted(world: World, body: Callable[..., Any]) -> Callable[..., Any]:
    """``body``, whose source counts, with a count of its calls."""
    import functools

    @functools.wraps(body)
    def count(**arguments: Any) -> Any:
        world.done.append(body.__name__)
        return body(**arguments)

    return count


def look_v1() -> dict[str, int]:
    """Look."""
    return {"seen": 1}


def look_refactored() -> dict[str, int]:
    """Look."""
    seen = 1
    return {"seen": seen}


def look_changed() -> dict[str, int]:
    """Look."""
    return {"seen": 2}


def look_redescribed() -> dict[str, int]:
    """Look closely."""
    return {"seen": 1}


def look_with_more(depth: int = 1) -> dict[str, int]:
    """Look."""
    return {"seen": depth}


def ship_v1(target: str) -> str:
    """Ship."""
    return f"shipped to {target}"


def ship_refactored(target: str) -> str:
    """Ship."""
    return "shipped to " + target


def other() -> str:
    """Do something else."""
    return "else"


@pytest.fixture
async def recorded(world: World) -> Version:
    """The first version, run once: three decisions, and both tools."""
    version = Version(world)
    async with version.engine:
        await version.engine.observe("acl:ship", "yes")
    _, asked, done = await version.run()
    assert (asked, done) == (3, ["look_v1", "ship_v1"])
    return version


async def test_the_same_code_declared_anew_replays(world: World, recorded: Version) -> None:
    result, asked, done = await Version(world).run()
    assert (asked, done, result.miss) == (0, ["look_v1", "ship_v1"], ())
    assert result.identical


async def test_a_read_whose_body_changed_is_run_and_costs_no_token(
    world: World, recorded: Version
) -> None:
    version = Version(world)
    version.declare("look", effect="read", body=look_refactored)
    result, asked, done = await version.run()
    assert (asked, done) == (0, ["look_refactored", "ship_v1"])
    assert outcomes(result) == [
        ("?", "replayed"),
        ("look", "replayed"),
        ("?", "replayed"),
        ("ship", "replayed"),
        ("?", "replayed"),
    ]
    assert result.miss == (), "nobody was asked"
    assert [(str(it.cause.kind), it.cause.node) for it in result.steps if it.cause] == [
        ("code changed", "look")
    ]
    assert result.recorded
    again, asked, _ = await version.run()
    assert (asked, again.miss, again.recorded) == (0, (), False)


async def test_a_read_that_gives_something_else_has_the_rest_asked(
    world: World, recorded: Version
) -> None:
    version = Version(world)
    version.declare("look", effect="read", body=look_changed)
    result, asked, _ = await version.run()
    assert asked == 2
    assert outcomes(result)[:3] == [("?", "replayed"), ("look", "diverged"), ("?", "asked")]
    assert misses(result)[0] == "code changed"


async def test_a_pure_action_whose_body_changed_is_run_again(world: World) -> None:
    for body, expected in ((look_v1, 3), (look_refactored, 0)):
        version = Version(world)
        version.declare("look", effect="pure", body=body)
        async with version.engine:
            await version.engine.observe("acl:ship", "yes")
        _, asked, done = await version.run()
        assert (asked, done) == (expected, [body.__name__, "ship_v1"])
        _, _, done = await version.run()
        assert done == ["ship_v1"]


async def test_a_write_whose_body_changed_is_run_without_asking(
    world: World, recorded: Version
) -> None:
    version = Version(world)
    version.declare("ship", effect="write", requires=[Acl("ship")], body=ship_refactored)
    result, asked, done = await version.run()
    assert (asked, done) == (0, ["look_v1", "ship_refactored"])
    assert result.miss == ()
    assert [str(it.cause.kind) for it in result.steps if it.cause] == ["code changed"]
    async with version.engine:
        await version.engine.observe("acl:ship", "no")
    result, asked, _ = await version.run()
    assert asked == 1
    assert outcomes(result)[2] == ("?", "asked"), "its decision is guarded as before"


@pytest.mark.parametrize(
    "requires",
    [[], [Acl("ship", "$")], [Acl("ship"), Acl("more")], [Acl("{target}")], [Acl("more")]],
)
async def test_a_write_that_requires_something_else_has_its_decision_asked(
    world: World, recorded: Version, requires: list[Any]
) -> None:
    version = Version(world)
    version.declare("ship", effect="write", requires=requires, body=ship_v1)
    async with version.engine:
        for name in ("acl:more", "acl:eu"):
            await version.engine.observe(name, "yes")
    result, asked, done = await version.run()
    assert (asked, done) == (1, ["look_v1", "ship_v1"])
    assert outcomes(result)[2] == ("?", "asked")
    assert outcomes(result)[4] == ("?", "replayed")
    assert set(misses(result)) == {"code changed"}
    again, asked, _ = await version.run()
    assert (asked, again.miss) == (0, ())
    back, asked, _ = await Version(world).run()
    assert (asked, back.recorded) == (0, False)


async def test_a_read_that_becomes_a_write_has_its_decision_asked(
    world: World, recorded: Version
) -> None:
    version = Version(world)
    version.declare("look", effect="write", requires=[Acl("look")], body=look_v1)
    async with version.engine:
        await version.engine.observe("acl:look", "yes")
    result, asked, done = await version.run()
    assert (asked, done) == (1, ["look_v1", "ship_v1"])
    assert outcomes(result)[0] == ("?", "asked")
    async with version.engine:
        await version.engine.observe("acl:look", "no")
    _, asked, _ = await version.run()
    assert asked == 1


@pytest.mark.parametrize(
    "change",
    [
        {"system": "You deploy with care."},
        {"system": None},
        {"model": OTHER_MODEL},
        {"max_tokens": 4095},
        {"params": {"temperature": 0}},
        {"params": {"tool_choice": {"type": "auto"}}},
        {"requires": [Acl("agent")]},
    ],
)
async def test_a_change_of_the_agent_has_every_decision_asked(
    world: World, recorded: Version, change: dict[str, Any]
) -> None:
    version = Version(world, **change)
    async with version.engine:
        await version.engine.observe("acl:agent", "yes")
    result, asked, done = await version.run()
    assert (asked, done) == (3, ["look_v1", "ship_v1"])
    assert misses(result)[0] == "code changed"
    assert set(misses(result)) <= {"code changed", "request changed"}
    assert outcomes(result)[1::2] == [("look", "replayed"), ("ship", "replayed")]
    _, asked, _ = await version.run()
    assert asked == 0
    back, asked, _ = await Version(world).run()
    assert (asked, back.identical, back.recorded) == (0, True, False), "the roll-back"


async def test_a_new_or_redescribed_tool_has_every_decision_asked(
    world: World, recorded: Version
) -> None:
    added = Version(world)
    added.declare("other", effect="read", body=other)
    redescribed = Version(world)
    redescribed.declare("look", effect="read", body=look_redescribed)
    reshaped = Version(world)
    reshaped.declare("look", effect="read", body=look_with_more)
    for version in (added, redescribed, reshaped):
        result, asked, _ = await version.run()
        assert asked == 3
        assert misses(result)[0] == "code changed"
        _, asked, _ = await version.run()
        assert asked == 0
    _, asked, _ = await Version(world).run()
    assert asked == 0


async def test_a_tool_that_is_gone_is_told_to_the_model(world: World, recorded: Version) -> None:
    version = Version(world)
    del version.tools["look"]
    result, asked, done = await version.run()
    assert asked == 3
    assert done == ["ship_v1"]
    assert result.steps[1].error


async def test_an_agent_s_new_requirement_guards_from_now_on(
    world: World, recorded: Version
) -> None:
    version = Version(world, requires=[Acl("agent", "$.may")])
    async with version.engine:
        await version.engine.observe("acl:agent", {"may": True})
    _, asked, _ = await version.run()
    assert asked == 3
    async with version.engine:
        await version.engine.observe("acl:agent", {"may": False})
    result, asked, _ = await version.run()
    assert asked == 3
    assert result.miss[0].node == "acl:agent $.may"
    async with version.engine:
        await version.engine.observe("acl:agent", {"may": True})
    _, asked, _ = await version.run()
    assert asked == 0


async def test_a_required_replay_names_the_code_that_changed(
    world: World, recorded: Version
) -> None:
    version = Version(world, system="Other.")
    async with version.engine:
        with pytest.raises(NotReplayable, match="code changed"):
            await version.agent.execute(TASK, require="replay")
    assert world.server.requests == 3


async def test_two_versions_in_one_process_do_not_disturb_each_other(
    world: World, recorded: Version
) -> None:
    engine: Engine = recorded.engine
    first = recorded.agent
    second = world.agent(engine, list(recorded.tools.values()), system="Other.")
    async with engine:
        _, asked, _ = await world.count(second.execute(TASK))
        assert asked == 3
        for agent in (first, second, first, second):
            result, asked, _ = await world.count(agent.execute(TASK))
            assert (asked, result.identical) == (0, True)
