"""max_age=: a reply that is older is not served, wherever its recording was copied to since."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from execgraph import Acl, Agent, AgentError, Engine, NotReplayable, Result
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, misses, outcomes, turn

AGES = timedelta(days=1)
PAST = timedelta(milliseconds=1)


def let_time_pass(age: timedelta = PAST) -> None:
    time.sleep(age.total_seconds() + 0.01)


async def kept(engine: Engine, execution: str) -> tuple[str, str | None]:
    found = await engine.session().store.execution(execution)
    assert found is not None
    return str(found.execution.state), found.execution.reason


def hello(world: World) -> Engine:
    world.think(lambda body: Answer([text("hello")]))
    return world.engine()


async def test_a_reply_that_is_older_is_not_served(world: World) -> None:
    engine = hello(world)
    lenient, strict = (world.agent(engine, [], max_age=age) for age in (AGES, PAST))
    async with engine:
        await lenient.execute("hi")
        replay, asked, _ = await world.count(lenient.execute("hi"))
        assert (replay.mode, asked) == ("replay", 0)
        let_time_pass()
        again, asked, _ = await world.count(strict.execute("hi"))
        assert (again.mode, asked) == ("live", 1), "although this process remembers it"
        [cause] = again.miss
        assert cause.kind == "too old"
        assert "asked on 20" in cause.node
        assert "max_age=" in cause.remedy


async def test_what_is_said_again_takes_the_place_of_what_was_too_old(world: World) -> None:
    engine = hello(world)
    lenient, strict = (world.agent(engine, [], max_age=age) for age in (AGES, PAST))
    async with engine:
        first = await lenient.execute("hi")
        let_time_pass()
        again = await strict.execute("hi")
        assert again.recorded, "else every later run would find it too old, too"
        state, reason = await kept(engine, first.execution_id)
        assert state == "unpublished"
        assert reason is not None
        assert again.execution_id in reason
        assert (await engine.stats()).traces == 1
        replay, asked, _ = await world.count(lenient.execute("hi"))
        assert (replay.replayed, asked) == (True, 0)


async def test_what_was_approved_and_is_said_again_need_not_be_approved_again(
    world: World,
) -> None:
    engine = hello(world)
    lenient, strict = (
        world.agent(engine, [], publish="manual", max_age=age) for age in (AGES, PAST)
    )
    async with engine:
        first = await lenient.execute("hi")
        await engine.approve(first.execution_id)
        let_time_pass()
        assert (await strict.execute("hi")).recorded


async def test_another_answer_needs_to_be_approved(world: World) -> None:
    engine = hello(world)
    lenient, strict = (
        world.agent(engine, [], publish="manual", max_age=age) for age in (AGES, PAST)
    )
    async with engine:
        first = await lenient.execute("hi")
        await engine.approve(first.execution_id)
        let_time_pass()
        world.think(lambda body: Answer([text("good day")]))
        again = await strict.execute("hi")
        assert (again.recorded, misses(again)) == (False, ["too old", "not approved"])
        assert (await kept(engine, first.execution_id))[0] == "published"


def deployer(world: World, engine: Engine, max_age: timedelta | None) -> Agent:
    @engine.tool(effect="read")
    def look() -> str:
        """Look."""
        return "fine"

    @engine.tool(effect="write", requires=[Acl("prod")])
    def deploy() -> str:
        """Deploy."""
        world.done.append("deploy")
        return "done"

    return world.agent(engine, [look, deploy], max_age=max_age)


def deploys(body: dict[str, Any]) -> Answer:
    match turn(body):
        case 0:
            return Answer([call("look", {})])
        case 1:
            return Answer([call("deploy", {})])
        case _:
            return Answer([text("deployed")])


async def test_a_reply_is_as_old_in_a_copy_as_it_was(world: World) -> None:
    age = timedelta(seconds=0.3)
    world.think(deploys)
    engine = world.engine()
    agent = deployer(world, engine, None)
    async with engine:
        await engine.observe("acl:prod", 1)
        await agent.execute("deploy it")
        let_time_pass(age)
        await engine.observe("acl:prod", 2)
        partial = await agent.execute("deploy it")
        assert (partial.mode, partial.recorded) == ("partial", True)
        assert outcomes(partial)[0] == ("?", "replayed")
    strict_engine = world.engine()
    strict = deployer(world, strict_engine, age)
    async with strict_engine:
        again = await strict.execute("deploy it")
        assert outcomes(again)[0] == ("?", "asked")
        assert "too old" in misses(again)


async def test_a_change_that_is_taken_back_makes_no_old_reply_young(world: World) -> None:
    world.think(looks)
    engine = world.engine()

    @engine.tool(effect="read")
    def look() -> str:
        """Look."""
        return "fine"

    lenient, strict = (
        world.agent(engine, [look], requires=[Acl("talk")], max_age=age) for age in (AGES, PAST)
    )

    def meanwhile(body: dict[str, Any]) -> Answer:
        world.from_outside(lambda e: e.observe("acl:talk", 1))
        return looks(body)

    async with engine:
        await engine.observe("acl:talk", 1)
        await lenient.execute("hi")
        await engine.observe("acl:talk", 2)
        let_time_pass()
        world.think(meanwhile)
        again = await strict.execute("hi")
        decided = [outcome for name, outcome in outcomes(again) if name == "?"]
        assert decided == ["asked", "asked"]


def looks(body: dict[str, Any]) -> Answer:
    return Answer([call("look", {})]) if turn(body) == 0 else Answer([text("fine")])


async def test_a_program_has_max_age_too(world: World) -> None:
    asked: list[Any] = []

    async def ask(request: Any) -> str:
        asked.append(request)
        return "hello"

    async def greet(engine: Engine, max_age: timedelta) -> Result:
        async with engine.run("greet", {"whom": "Ann"}, max_age=max_age) as run:
            run.output = (await run.decide({"greet": "her"}, call=ask)).value
        return run.result

    engine = world.engine()
    async with engine:
        await greet(engine, AGES)
        assert (await greet(engine, AGES)).replayed
        let_time_pass()
        again = await greet(engine, PAST)
        assert (again.recorded, misses(again), len(asked)) == (True, ["too old"], 2)


@pytest.mark.parametrize("resumed", [True, False], ids=["copied", "not copied"])
async def test_what_an_unfinished_run_has_decided_is_as_old_as_it_is(
    world: World, *, resumed: bool
) -> None:
    asked: list[Any] = []
    age = timedelta(seconds=0.3)

    async def ask(request: Any) -> str:
        asked.append(request)
        return "hello"

    async def greet(engine: Engine, max_age: timedelta, *, fails: bool = False) -> Result:
        async with engine.run("greet", {"whom": "Ann"}, max_age=max_age) as run:
            run.output = (await run.decide({"greet": "her"}, call=ask)).value
            if fails:
                raise KeyboardInterrupt
        return run.result

    engine = world.engine()
    async with engine:
        with pytest.raises(KeyboardInterrupt):
            await greet(engine, AGES, fails=True)
        let_time_pass(age)
        if resumed:
            await greet(engine, AGES)
            assert len(asked) == 1
        assert (await greet(engine, age)).recorded
    assert len(asked) == 2


async def test_a_required_replay_of_what_is_too_old_asks_nobody(world: World) -> None:
    engine = hello(world)
    strict = world.agent(engine, [], max_age=PAST)
    async with engine:
        await strict.execute("hi")
        let_time_pass()
        with pytest.raises(NotReplayable, match="too old"):
            await strict.execute("hi", require="replay")


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(days=-1), 30, "a day"])
def test_a_max_age_that_is_none_is_refused(world: World, wrong: Any) -> None:
    engine = world.engine()
    with pytest.raises(AgentError, match=r"max_age=.*positive timedelta"):
        world.agent(engine, [], max_age=wrong)
    with pytest.raises(AgentError, match=r"max_age=.*positive timedelta"):
        engine.run("greet", {}, max_age=wrong)
