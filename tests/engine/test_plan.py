"""agent.plan: what a run would do; and on_partial=, which decides by it before the first effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from execgraph import (
    Acl,
    Agent,
    AgentError,
    BusinessRule,
    Mode,
    NotReplayable,
    RunFailed,
    RunPlan,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.outcome.fate import Fate

from .conftest import World, misses, outcomes, results, turn


class Desk:
    """An agent that reads a status, computes, deploys (under an ACL), and answers (under a rule).
    ``status`` is what the world says."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = world
        self.status = "fine"
        self.while_mailing: Callable[[], object] = lambda: None
        self.engine = world.engine()
        world.think(self.brain)
        self.agent = self._agent(**settings)

    def _agent(self, **settings: Any) -> Agent:
        done = self.world.done

        @self.engine.tool(effect="read")
        def status() -> str:
            """Read the status."""
            done.append("status")
            return self.status

        @self.engine.tool(effect="pure")
        def score(text: str) -> int:
            """Score a text."""
            return len(text)

        @self.engine.tool(effect="write", requires=[Acl("prod")])
        def deploy() -> str:
            """Deploy."""
            done.append("deploy")
            return "deployed"

        @self.engine.tool(effect="write", requires=[BusinessRule("mail")])
        def mail() -> str:
            """Mail."""
            done.append("mail")
            self.while_mailing()
            return "mailed"

        return self.world.agent(self.engine, [status, score, deploy, mail], **settings)

    def brain(self, body: dict[str, Any]) -> Answer:
        match turn(body):
            case 0:
                return Answer([call("status", {}), call("score", {"text": "abc"})])
            case 1:
                return Answer([call("deploy", {})])
            case 2:
                return Answer([call("mail", {})])
            case _:
                return Answer([text(f"{results(body)[0]}")])

    async def begin(self) -> None:
        await self.engine.observe("acl:prod", 1)
        await self.engine.observe("rule:mail", 1)


def fates(plan: RunPlan) -> list[tuple[str, str]]:
    return [("?" if step.kind == "decision" else step.name, step.fate.value) for step in plan.steps]


WHOLE = [
    ("?", "served"),
    ("status", "run again"),
    ("score", "served"),
    ("?", "served"),
    ("deploy", "run again"),
    ("?", "served"),
    ("mail", "run again"),
    ("?", "served"),
]


def with_asked(*positions: int) -> list[tuple[str, str]]:
    return [(name, "asked" if at in positions else fate) for at, (name, fate) in enumerate(WHOLE)]


# plan -------------------------------------------------------------------------------------


async def test_a_plan_of_what_is_not_recorded_knows_no_tokens(world: World) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        plan, asked, done = await world.count(desk.agent.plan("go"))
    assert (asked, done) == (0, [])
    assert (plan.mode, plan.steps, plan.trace) == ("live", (), None)
    assert (plan.tokens, plan.tokens_at_most, plan.saved_tokens) == (None, None, 0)
    assert [cause.kind for cause in plan.causes] == ["new task"]


async def test_a_plan_of_a_replay_pays_nothing_if_the_world_is_as_it_was(world: World) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        first = await desk.agent.execute("go")
        plan, asked, done = await world.count(desk.agent.plan("go"))
        assert (asked, done) == (0, []), "nothing is asked, and nothing done"
        assert (plan.mode, plan.trace, plan.causes) == ("replay", first.execution_id, ())
        assert sorted(fates(plan)[1:3]) == sorted(WHOLE[1:3])
        assert fates(plan)[3:] == WHOLE[3:]
        assert plan.writes == ("deploy", "mail")
        assert (plan.tokens, plan.saved_tokens) == (0, first.tokens)
        decisions = [step.tokens for step in plan.steps if step.kind == "decision"]
        assert plan.tokens_at_most == sum(decisions[1:]), "all that follows the read"
        assert await desk.agent.plan("go", context={"other": "task"}) != plan


async def test_a_plan_says_what_would_be_asked_and_why_and_comes_true(world: World) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
        await desk.engine.observe("rule:mail", 2)
        plan, asked, done = await world.count(desk.agent.plan("go"))
        assert (asked, done) == (0, [])
        [(position, step)] = [(at, it) for at, it in enumerate(plan.steps) if it.fate is Fate.ASKED]
        assert (plan.mode, position, step.kind) == ("partial", 5, "decision")
        assert step.cause is not None
        assert step.cause.kind == "precondition changed"
        assert plan.causes[0] == step.cause
        assert plan.tokens == step.tokens
        result, asked, _ = await world.count(desk.agent.execute("go"))
        assert (result.mode, result.tokens, result.saved_tokens, asked) == (
            plan.mode,
            plan.tokens,
            plan.saved_tokens,
            1,
        )


async def test_a_plan_knows_what_other_traces_serve(world: World) -> None:
    """What the longest prefix does not have another trace has."""
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
        await desk.engine.observe("acl:prod", 2)
        await desk.agent.execute("go")  # a trace with the new ACL and the old rule
        await desk.engine.observe("acl:prod", 1)
        await desk.engine.observe("rule:mail", 2)
        await desk.agent.execute("go")  # the old ACL and the new rule
        await desk.engine.observe("acl:prod", 2)  # recorded, but not together
        plan = await desk.agent.plan("go")
        result, asked, _ = await world.count(desk.agent.execute("go"))
        assert (plan.mode, result.mode, asked, result.tokens) == ("replay", "replay", 0, 0)
        assert plan.saved_tokens == result.saved_tokens


async def test_a_plan_goes_on_as_the_trace_does_that_says_something_else(world: World) -> None:
    """Under the new rule the model does not mail: a shorter conversation."""
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
        await desk.engine.observe("acl:prod", 2)
        await desk.engine.observe("rule:mail", 2)
        world.think(lambda body: desk.brain(body) if turn(body) != 2 else Answer([text("no")]))
        assert (await desk.agent.execute("go")).output == "no"
        await desk.engine.observe("acl:prod", 1)  # the first one to the deployment, then the other
        plan = await desk.agent.plan("go")
        result, asked, _ = await world.count(desk.agent.execute("go"))
        assert (result.output, asked) == ("no", 0)
        assert (plan.mode, plan.tokens, plan.saved_tokens) == ("replay", 0, result.saved_tokens)
        assert (plan.writes, len(plan.steps)) == (("deploy",), len(result.steps))


async def test_a_plan_of_what_was_torn_ends_with_a_question_of_unknown_price(
    world: World,
) -> None:
    desk = Desk(world)
    desk.while_mailing = lambda: world.from_outside(lambda e: e.observe("rule:mail", 2))
    async with desk.engine:
        await desk.begin()
        assert "torn" in misses(await desk.agent.execute("go"))
        plan = await desk.agent.plan("go")
        assert (plan.mode, plan.tokens) == ("partial", None)
        assert plan.steps[-1].fate is Fate.ASKED
        assert plan.steps[-1].cause is not None
        assert plan.steps[-1].cause.kind == "recording ends"


async def test_a_once_that_has_happened_is_served_by_plan(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[Acl("pay")])
    def pay() -> str:
        """Pay."""
        return "paid"

    world.think(lambda body: Answer([text("ok") if turn(body) else call("pay", {})]))
    agent = world.agent(engine, [pay])
    async with engine:
        await engine.observe("acl:pay", 1)
        await agent.execute("pay")
        plan = await agent.plan("pay")
        assert fates(plan) == [("?", "served"), ("pay", "served"), ("?", "served")]
        assert plan.writes == ()


async def test_a_plan_under_a_mode_that_serves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
    monkeypatch.setenv("EXECGRAPH_MODE", "record")
    async with desk.engine:
        plan = await desk.agent.plan("go")
        assert (plan.mode, [it.kind for it in plan.causes]) == ("live", ["replay off"])


async def test_a_plan_is_written_as_json(world: World) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
        await desk.engine.observe("rule:mail", 2)
        plan = await desk.agent.plan("go")
    told = plan.as_json()
    assert (told["mode"], told["tokens"], told["writes"]) == (
        "partial",
        plan.tokens,
        ["deploy", "mail"],
    )
    assert told["steps"][5]["fate"] == "asked"
    assert "rule:mail" in told["steps"][5]["cause"]


def test_an_engine_without_await_plans_too(world: World) -> None:
    world.think(lambda body: Answer([text("hello")]))
    with world.engine().sync() as engine:
        agent = engine.agent(world.agent(engine.asynchronous, []))
        agent.execute("hi")
        assert agent.plan("hi").mode is Mode.REPLAY


# on_partial -------------------------------------------------------------------------------


async def partial(desk: Desk) -> None:
    """From now on the mail's decision would have to be asked, and nothing else."""
    await desk.begin()
    await desk.agent.execute("go")
    await desk.engine.observe("rule:mail", 2)


@pytest.mark.parametrize("choice", [None, "continue", lambda plan: "continue"])
async def test_by_default_a_partial_run_goes_on(world: World, choice: Any) -> None:
    desk = Desk(world)
    async with desk.engine:
        await partial(desk)
        result, asked, done = await world.count(desk.agent.execute("go", on_partial=choice))
        assert (result.mode, asked, done) == ("partial", 1, ["status", "deploy", "mail"])


@pytest.mark.parametrize("choice", ["live", lambda plan: "live"])
async def test_a_partial_run_can_be_served_nothing(world: World, choice: Any) -> None:
    desk = Desk(world)
    async with desk.engine:
        await partial(desk)
        result, asked, done = await world.count(desk.agent.execute("go", on_partial=choice))
        assert (result.mode, asked, result.recorded) == ("live", 4, True)
        assert done == ["status", "deploy", "mail"], "once each"
        assert misses(result) == ["precondition changed"], "why it would have been partial"


@pytest.mark.parametrize("choice", ["stop", lambda plan: "stop"])
async def test_a_partial_run_can_be_stopped_before_anything_is_done(
    world: World, choice: Any
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await partial(desk)
        before = (await desk.engine.stats()).executions
        world.done.clear()
        asked = world.server.requests
        with pytest.raises(NotReplayable, match=r"on_partial= stops.*rule:mail") as stopped:
            await desk.agent.execute("go", on_partial=choice)
        assert [it.kind for it in stopped.value.causes] == ["precondition changed"]
        assert (world.server.requests - asked, world.done) == (0, [])
        assert (await desk.engine.stats()).executions == before


@pytest.mark.parametrize("choice", ["live", "stop"])
async def test_what_is_new_and_what_is_a_replay_is_no_matter_of_it(
    world: World, choice: Any
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        first, asked, _ = await world.count(desk.agent.execute("go", on_partial=choice))
        assert (first.mode, asked) == ("live", 4)
        second, asked, _ = await world.count(desk.agent.execute("go", on_partial=choice))
        assert (second.mode, asked) == ("replay", 0)


async def test_a_function_decides_from_the_plan(world: World) -> None:
    desk = Desk(world)
    shown: list[RunPlan] = []

    async def choose(plan: RunPlan) -> Any:
        shown.append(plan)
        return "live" if (plan.tokens or 0) > 0 else "continue"

    async with desk.engine:
        await partial(desk)
        expected = await desk.agent.plan("go")
        result = await desk.agent.execute("go", on_partial=choose)
        assert (shown, result.mode) == ([expected], "live")


async def test_what_shows_in_the_middle_is_decided_if_no_effect_has_begun(world: World) -> None:
    """It looked like a replay, but the status is another one."""
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
        assert (await desk.agent.plan("go")).mode is Mode.REPLAY
        desk.status = "bad"
        result, asked, done = await world.count(desk.agent.execute("go", on_partial="live"))
        assert (result.mode, result.output, asked) == ("live", "bad", 4)
        assert done == ["status", "status", "deploy", "mail"], "what only reads is read again"
        assert [fate for name, fate in outcomes(result) if name == "?"] == ["asked"] * 4
        assert misses(result) == ["output diverged"], "all of it was asked for one reason"
        again, asked, _ = await world.count(desk.agent.execute("go", on_partial="live"))
        assert (again.mode, asked) == ("replay", 0)


async def test_what_shows_in_the_middle_can_stop_a_run(world: World) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
        desk.status = "bad"
        world.done.clear()
        asked = world.server.requests
        with pytest.raises(RunFailed, match="on_partial= stops") as stopped:
            await desk.agent.execute("go", on_partial="stop")
        assert (world.server.requests - asked, world.done) == (0, ["status"])
        assert stopped.value.safe_to_retry


async def test_a_function_is_shown_what_was_done_by_then(world: World) -> None:
    desk = Desk(world)
    shown: list[RunPlan] = []

    def choose(plan: RunPlan) -> Any:
        shown.append(plan)
        return "continue"

    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
        desk.status = "bad"
        result = await desk.agent.execute("go", on_partial=choose)
        [plan] = shown
        assert result.mode == "partial"
        assert sorted(fates(plan)) == sorted(
            [("?", "served"), ("status", "run again"), ("score", "served"), ("?", "asked")]
        )
        assert (plan.mode, plan.tokens) == ("partial", None)
        assert "output diverged" in [cause.kind for cause in plan.causes]


async def test_nothing_is_decided_once_an_effect_has_begun(world: World) -> None:
    """What cannot be gone back on is gone on with."""
    desk = Desk(world)
    shown: list[RunPlan] = []

    def choose(plan: RunPlan) -> Any:
        shown.append(plan)
        return "stop"

    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
        deploy = desk.agent.tools["deploy"]

        def other() -> str:
            world.done.append("deploy")
            return "deployed otherwise"

        deploy.function = other
        result, asked, done = await world.count(desk.agent.execute("go", on_partial=choose))
        assert (result.mode, shown) == ("partial", [])
        assert (asked, done) == (2, ["status", "deploy", "mail"])


def raises(plan: RunPlan) -> Any:
    raise ValueError("nobody is here to say")


@pytest.mark.parametrize(
    ("choice", "error"),
    [(lambda plan: "maybe", AgentError), (lambda plan: None, AgentError), (raises, ValueError)],
)
async def test_a_function_that_chooses_nothing_begins_nothing(
    world: World, choice: Callable[[RunPlan], Any], error: type[Exception]
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await partial(desk)
        world.done.clear()
        with pytest.raises(error, match=r"on_partial= gave|nobody is here"):
            await desk.agent.execute("go", on_partial=choice)
        assert world.done == []


async def test_a_function_that_raises_in_the_middle_fails_the_run(world: World) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.begin()
        await desk.agent.execute("go")
        desk.status = "bad"
        with pytest.raises(RunFailed, match="nobody is here to say"):
            await desk.agent.execute("go", on_partial=raises)


async def test_a_choice_that_is_none_is_refused(world: World) -> None:
    desk = Desk(world)
    async with desk.engine:
        with pytest.raises(AgentError, match="'maybe' is unknown; give one of 'continue'"):
            await desk.agent.execute("go", on_partial="maybe")  # type: ignore[arg-type]
        with pytest.raises(AgentError, match="leave one of them out"):
            await desk.agent.execute("go", require="replay", on_partial="live")
