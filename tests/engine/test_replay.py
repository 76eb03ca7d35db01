"""What is served, and what is asked: the main promise."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from execgraph import Acl, Agent, DeploymentTarget, Engine, NotReplayable, Resource, Schema
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.graphstore.model import ChangeKind

from .conftest import World, misses, outcomes, results, turn

TASK = {"service": "checkout", "target": "eu"}


def two_writes(body: dict[str, Any]) -> Answer:
    """The example of the design: r1, then w1, then w2, then an answer."""
    match turn(body):
        case 0:
            return Answer([text("Let me look."), call("look", {})])
        case 1:
            return Answer([call("first", {"at": "eu"})])
        case 2:
            return Answer([call("second", {})])
    return Answer([text("Done.")])


def example(world: World) -> tuple[Engine, Agent]:
    world.think(two_writes)
    engine = world.engine()

    @engine.tool(effect="read")
    async def look() -> dict[str, int]:
        """Look."""
        world.done.append("look")
        return {"seen": 1}

    @engine.tool(effect="write", requires=[Acl("one")])
    async def first(at: str) -> str:
        """Write first."""
        world.done.append("first")
        return f"one at {at}"

    @engine.tool(effect="write", requires=[Acl("two", "$.rule")])
    def second() -> str:
        """Write second."""
        world.done.append("second")
        return "two"

    return engine, world.agent(engine, [look, first, second])


async def observe_both(engine: Engine) -> None:
    await engine.observe("acl:one", {"rule": 1})
    await engine.observe("acl:two", {"rule": 1, "comment": "none"})


async def test_the_second_run_asks_nothing_and_does_everything(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first, asked, done = await world.count(agent.execute(TASK))
        assert (asked, done) == (4, ["look", "first", "second"])
        assert (first.mode, first.recorded, first.replayed) == ("live", True, False)
        assert first.tokens > 0
        assert first.cost is not None
        assert misses(first) == ["new task"]

        second, asked, done = await world.count(agent.execute(TASK))
        assert (asked, done) == (0, ["look", "first", "second"])
        assert (second.mode, second.recorded, second.replayed) == ("replay", False, True)
        assert second.identical
        assert (second.tokens, second.saved_tokens) == (0, first.tokens)
        assert second.output == first.output == "Done."
        assert second.miss == ()
        assert [effect.state for effect in second.effects] == ["done", "done"]


async def test_another_process_replays_what_this_one_recorded(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
    elsewhere, same = example(world)
    async with elsewhere:
        result, asked, done = await world.count(same.execute(TASK))
    assert (asked, done) == (0, ["look", "first", "second"])
    assert result.identical


async def test_only_the_decision_whose_write_rests_on_the_change_is_asked(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.observe("acl:two", {"rule": 2, "comment": "none"})
        result, asked, done = await world.count(agent.execute(TASK))
        assert asked == 1
        assert done == ["look", "first", "second"]
        assert outcomes(result) == [
            ("?", "replayed"),
            ("look", "replayed"),
            ("?", "replayed"),
            ("first", "replayed"),
            ("?", "asked"),
            ("second", "replayed"),
            ("?", "replayed"),
        ]
        assert (result.mode, result.recorded) == ("partial", True)
        assert misses(result) == ["precondition changed"]
        assert result.miss[0].node == "acl:two $.rule"

        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0
        await engine.observe("acl:two", {"rule": 1, "comment": "none"})
        reverted, asked, done = await world.count(agent.execute(TASK))
        assert (asked, done) == (0, ["look", "first", "second"])
        assert not reverted.recorded


async def test_a_change_outside_the_facet_costs_nothing(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        event = await engine.observe("acl:two", {"rule": 1, "comment": "rewritten"})
        assert event is not None
        assert event.changed == ()
        result, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0
        assert result.miss == ()


async def test_an_equal_document_is_no_change(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        assert await engine.observe("acl:one", {"rule": 1.0}) is None
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0


async def test_a_withdrawn_resource_fails_closed_until_it_is_back(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.withdraw("acl:one")
        result, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 1
        assert misses(result) == ["precondition withdrawn"]
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 1, "what was recorded while a fact was gone must not be served"
        await engine.observe("acl:one", {"rule": 1})
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0


async def test_an_expired_fact_holds_nothing_until_renewed(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.observe("acl:one", {"rule": 1}, until=timedelta(seconds=5))
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0
        await asyncio.sleep(5.1)
        result, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 1
        assert misses(result) == ["precondition expired"]
        until = datetime.now(UTC) + timedelta(hours=1)
        renewed = await engine.observe("acl:one", {"rule": 1}, until=until)
        # An event if the expiry was recorded by then; nothing has changed otherwise.
        assert renewed is None or renewed.kind is ChangeKind.RENEWED
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0


async def test_what_rests_on_a_resource_never_observed_is_asked_each_time(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await engine.observe("acl:one", {"rule": 1})
        await agent.execute(TASK)
        result, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 1
        assert misses(result) == ["precondition never observed"]
        assert "observe it" in result.miss[0].remedy
        await engine.observe("acl:two", {"rule": 1})
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 1, "the first run under the fact records it"
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 0


async def test_a_read_that_says_something_else_leaves_the_path_and_comes_back(
    world: World,
) -> None:
    seen = {"n": 1}

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("look", {})])
        return Answer([text(f"It is {results(body)[0]['n']}.")])

    world.think(brain)
    engine = world.engine()

    @engine.tool(effect="read")
    def look() -> dict[str, int]:
        """Look."""
        return dict(seen)

    agent = world.agent(engine, [look])
    async with engine:
        await agent.execute("what is it?")
        seen["n"] = 2
        other, asked, _ = await world.count(agent.execute("what is it?"))
        assert (asked, other.output) == (1, "It is 2.")
        assert outcomes(other) == [("?", "replayed"), ("look", "diverged"), ("?", "asked")]
        assert misses(other)[0] == "output diverged"
        again, asked, _ = await world.count(agent.execute("what is it?"))
        assert (asked, again.output, again.identical) == (0, "It is 2.", True)
        seen["n"] = 1
        back, asked, _ = await world.count(agent.execute("what is it?"))
        assert (asked, back.output, back.recorded) == (0, "It is 1.", False)


async def test_an_invalid_read_with_an_unchanged_output_costs_no_token(world: World) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        return Answer([text("ok")] if turn(body) else [call("check", {"name": "a"})])

    world.think(brain)
    engine = world.engine()

    @engine.tool(effect="read", requires=[Schema("{name}")])
    def check(name: str) -> str:
        """Check."""
        world.done.append("check")
        return "fine"

    agent = world.agent(engine, [check])
    async with engine:
        await engine.observe("schema:a", {"v": 1})
        await agent.execute("check a")
        await engine.observe("schema:a", {"v": 2})
        result, asked, done = await world.count(agent.execute("check a"))
        assert (asked, done) == (0, ["check"])
        assert (result.replayed, result.recorded) == (True, True)
        assert outcomes(result)[1] == ("check", "replayed")
        assert result.miss == (), "nobody was asked"
        assert [str(it.cause.kind) for it in result.steps if it.cause] == ["precondition changed"]
        later, asked, _ = await world.count(agent.execute("check a"))
        assert (asked, later.recorded, later.miss) == (0, False, ())


async def test_a_pure_action_is_reused_and_run_again_only_when_its_fact_moved(
    world: World,
) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        return Answer([text("ok")] if turn(body) else [call("compute", {"n": 3})])

    world.think(brain)
    engine = world.engine()

    @engine.tool(effect="pure", requires=[Resource("config:factor")])
    def compute(n: int) -> int:
        """Compute."""
        world.done.append("compute")
        return n * 2

    agent = world.agent(engine, [compute])
    async with engine:
        await engine.observe("config:factor", 2)
        await agent.execute("compute")
        result, asked, done = await world.count(agent.execute("compute"))
        assert (asked, done) == (0, [])
        assert outcomes(result)[1] == ("compute", "reused")
        assert result.identical
        await engine.observe("config:factor", 3)
        _, asked, done = await world.count(agent.execute("compute"))
        assert (asked, done) == (0, ["compute"])


async def test_calls_of_one_reply_run_at_the_same_time_and_in_their_order(world: World) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("slow", {"n": 1}), call("slow", {"n": 2}), call("slow", {"n": 1})])
        return Answer([text(str(results(body)))])

    world.think(brain)
    engine = world.engine()
    inside = {"now": 0, "most": 0}

    @engine.tool(effect="read")
    async def slow(n: int) -> int:
        """Take time."""
        inside["now"] += 1
        inside["most"] = max(inside["most"], inside["now"])
        await asyncio.sleep(0.05)
        inside["now"] -= 1
        return n

    agent = world.agent(engine, [slow])
    async with engine:
        first = await agent.execute("go")
        assert first.output == "[1, 2, 1]"
        assert inside["most"] == 3
        second, asked, _ = await world.count(agent.execute("go"))
        assert (asked, second.output, second.identical) == (0, "[1, 2, 1]", True)


async def test_ids_that_the_service_makes_up_do_not_matter(world: World) -> None:
    """The middle decision is asked again; its new call ids must not break the last one."""
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.observe("acl:one", {"rule": 2})
        result, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 1
        assert outcomes(result)[2] == ("?", "asked")
        assert outcomes(result)[-1] == ("?", "replayed")


async def test_other_inputs_context_or_agent_are_another_task(world: World) -> None:
    engine, agent = example(world)
    other = world.agent(engine, list(agent.tools.values()), name="other")
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        for work in (
            agent.execute({**TASK, "target": "us"}),
            agent.execute(TASK, context={"user": "ann"}),
            agent.execute(str(TASK)),
            other.execute(TASK),
        ):
            _, asked, _ = await world.count(work)
            assert asked == 4
        _, asked, _ = await world.count(
            agent.execute({"target": "eu", "service": "checkout"}, labels={"ticket": "7"})
        )
        assert asked == 0, "neither the order of members nor a label is part of a task"


async def test_namespaces_do_not_see_each_other(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
    world.namespace += "-other"
    elsewhere, same = example(world)
    async with elsewhere:
        result, asked, _ = await world.count(same.execute(TASK))
    assert asked == 4
    assert misses(result) == ["new task"]


async def test_replay_false_asks_anew_and_require_replay_asks_nothing(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        with pytest.raises(NotReplayable, match="new task"):
            await agent.execute(TASK, require="replay")
        assert world.server.requests == 0
        await agent.execute(TASK)
        anew, asked, _ = await world.count(agent.execute(TASK, replay=False))
        assert (asked, anew.mode) == (4, "live")
        required, asked, _ = await world.count(agent.execute(TASK, require="replay"))
        assert (asked, required.identical) == (0, True)
        await engine.observe("acl:two", {"rule": 9})
        world.done.clear()
        with pytest.raises(NotReplayable, match="acl:two"):
            await agent.execute(TASK, require="replay")
        assert world.done == [], "nothing may happen before it is known that all will replay"


async def test_traces_of_many_facts_are_kept_and_the_ninth_displaces_the_oldest(
    world: World,
) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        for rule in range(1, 10):
            await engine.observe("acl:two", {"rule": rule})
            _, asked, _ = await world.count(agent.execute(TASK))
            assert asked == (4 if rule == 1 else 1)
        for rule in range(2, 10):
            await engine.observe("acl:two", {"rule": rule})
            _, asked, _ = await world.count(agent.execute(TASK))
            assert asked == 0, rule
        await engine.observe("acl:two", {"rule": 1})
        _, asked, _ = await world.count(agent.execute(TASK))
        assert asked == 1


async def test_a_requirement_may_name_an_input_of_the_task(world: World) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        return Answer([text("ok")] if turn(body) else [call("ship", {"target": "eu"})])

    world.think(brain)
    engine = world.engine()

    @engine.tool(effect="write", requires=[Acl("{task.user}/ship"), DeploymentTarget("{target}")])
    def ship(target: str) -> str:
        """Ship."""
        return "shipped"

    agent = world.agent(engine, [ship])
    async with engine:
        for name in ("acl:ann/ship", "acl:bob/ship", "target:eu"):
            await engine.observe(name, "yes")
        for user in ("ann", "bob"):
            await agent.execute({"user": user})
        await engine.observe("acl:ann/ship", "no")
        _, asked, _ = await world.count(agent.execute({"user": "ann"}))
        assert asked == 1
        _, asked, _ = await world.count(agent.execute({"user": "bob"}))
        assert asked == 0
        await engine.observe("target:eu", "moved")
        _, asked, _ = await world.count(agent.execute({"user": "bob"}))
        assert asked == 1
