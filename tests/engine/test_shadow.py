"""Shadow runs: nothing is served, nothing is done twice, and what is recorded is compared."""

from __future__ import annotations

from typing import Any

import pytest

from execgraph import Acl, AgentError, ConfigurationError, Engine, NotReplayable, Result, RunFailed
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.asking.why import Why

from .conftest import World, misses, outcomes, turn


@pytest.fixture
def shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")


class Desk:
    """Reads, deploys once in each run, pays once for ever, and answers with ``word``."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world, self.word, self.score = world, "fine", 1
        self.engine = world.engine(**settings.pop("engine", {}))
        world.think(self.brain)
        done = world.done

        @self.engine.tool(effect="read")
        def look() -> str:
            """Look."""
            done.append("look")
            return "good"

        @self.engine.tool(effect="pure", version="1")
        def score() -> int:
            """Score."""
            done.append("score")
            return self.score

        @self.engine.tool(effect="write", requires=[Acl("prod")])
        def deploy() -> str:
            """Deploy."""
            done.append("deploy")
            return "deployed"

        @self.engine.tool(effect="once", requires=[Acl("prod")])
        def pay() -> str:
            """Pay."""
            done.append("pay")
            return "paid"

        self.agent = world.agent(self.engine, [look, score, deploy, pay], **settings)

    def brain(self, body: dict[str, Any]) -> Answer:
        match turn(body):
            case 0:
                return Answer([call("look", {})])
            case 1:
                return Answer([call("score", {})])
            case 2:
                return Answer([call("deploy", {})])
            case 3:
                return Answer([call("pay", {})])
            case _:
                return Answer([text(self.word)])

    async def record(self) -> Result:
        await self.engine.observe("acl:prod", 1)
        return await self.agent.execute("go")


async def test_a_shadow_run_asks_as_if_nothing_were_recorded_and_does_everything_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(world)
    async with desk.engine:
        first = await desk.record()
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")
    async with desk.engine:
        run, asked, done = await world.count(desk.agent.execute("go"))
        assert (asked, run.saved_tokens, run.tokens) == (5, 0, first.tokens)
        assert done == ["look", "score", "deploy"], "what happens once has happened"
        assert run.shadow == (5, 5)
        assert misses(run) == ["shadow same"]
        assert [(it.tool, it.reused) for it in run.effects] == [("deploy", False), ("pay", True)]
        assert (await desk.engine.stats()).shadow == (5, 5)
        assert (await desk.engine.stats()).missed_calls["shadow same"] == 5
    monkeypatch.delenv("EXECGRAPH_MODE")
    async with desk.engine:
        replay, asked, done = await world.count(desk.agent.execute("go"))
        assert (replay.mode, asked) == ("replay", 0)
        assert replay.shadow == (0, 0)


async def test_what_is_new_is_recorded_by_a_shadow_run(world: World, shadow: None) -> None:
    desk = Desk(world)
    async with desk.engine:
        first = await desk.record()
        assert (first.recorded, misses(first), first.shadow) == (True, ["new task"], (0, 0))
        again, asked, _ = await world.count(desk.agent.execute("go"))
        assert (asked, again.shadow) == (5, (5, 5))


async def test_what_differs_is_told_and_changes_nothing_that_serves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(world)
    async with desk.engine:
        first = await desk.record()
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")
    desk.word = "fine too"
    async with desk.engine:
        run = await desk.agent.execute("go")
        assert (run.output, run.recorded, run.shadow) == ("fine too", False, (4, 5))
        cause = run.steps[-1].cause
        assert cause is not None
        assert (cause.kind, cause.node) == ("shadow differs", first.execution_id)
        [where] = cause.differences
        assert (where.path, where.before, where.after) == (
            "$.content[0].text",
            '"fine"',
            '"fine too"',
        )
        assert "reject" in cause.remedy
        why: Why = await desk.engine.why(run.execution_id)
        told = why.steps[-1].why
        assert told is not None
        assert told.cause == cause
        assert why.execution.state == "unpublished"
        assert why.execution.reason == str(cause)
        stats = await desk.engine.stats()
        assert (stats.shadow, stats.shadow.rate, stats.traces) == ((4, 5), 0.8, 1)
        assert stats.as_json()["shadow"] == {"same": 4, "compared": 5}
    monkeypatch.delenv("EXECGRAPH_MODE")
    async with desk.engine:
        replay, asked, _ = await world.count(desk.agent.execute("go"))
        assert (replay.output, asked) == ("fine", 0)


async def test_what_follows_from_another_reply_is_not_counted_as_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.record()
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")

    def otherwise(body: dict[str, Any]) -> Answer:
        if turn(body) == 1:
            return Answer([call("look", {})])
        return desk.brain(body)

    world.think(otherwise)
    async with desk.engine:
        run = await desk.agent.execute("go")
        assert run.shadow == (1, 2)
        kinds = [step.cause.kind for step in run.steps if step.kind == "decision" and step.cause]
        assert kinds == ["shadow same", "shadow differs", *["shadow follows"] * 3]
        assert (await desk.engine.stats()).missed_calls == {
            "shadow same": 1,
            "shadow differs": 1,
            "shadow follows": 3,
            "new task": 5,
        }


async def test_what_would_not_be_served_is_not_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ACL has changed: the decisions that chose under it would be asked anyway."""
    desk = Desk(world)
    async with desk.engine:
        await desk.record()
        await desk.engine.observe("acl:prod", 2)
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")
    async with desk.engine:
        run = await desk.agent.execute("go")
        kinds = [step.cause.kind for step in run.steps if step.kind == "decision" and step.cause]
        assert kinds == [
            "shadow same",
            "shadow same",
            "precondition changed",
            "precondition changed",
            "shadow same",
        ]
        assert (run.shadow, run.recorded) == ((3, 3), True)


async def test_a_pure_tool_that_gives_something_else_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.record()
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")
    desk.score = 2
    async with desk.engine:
        run = await desk.agent.execute("go")
        [cause] = [it.cause for it in run.steps if it.name == "score"]
        assert cause is not None
        assert (cause.kind, cause.node) == ("shadow differs", "score")
        assert [str(it) for it in cause.differences] == ["$: 1 -> 2"]
        assert (run.shadow, run.recorded) == ((2, 2), False)
        assert ("score", "diverged") in outcomes(run)
    monkeypatch.delenv("EXECGRAPH_MODE")
    async with desk.engine:
        replay, asked, _ = await world.count(desk.agent.execute("go"))
        assert (replay.mode, asked) == ("replay", 0)


async def test_a_shadow_run_that_is_killed_by_its_model_fails_as_a_live_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.record()
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")
    world.think(lambda body: Answer([text("no")], stop_reason="refusal"))
    async with desk.engine:
        with pytest.raises(RunFailed):
            await desk.agent.execute("go")
        assert (await desk.engine.stats()).traces == 1


async def test_a_replay_that_is_required_is_no_shadow_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.record()
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")
    async with desk.engine:
        replay, asked, _ = await world.count(desk.agent.execute("go", require="replay"))
        assert (replay.mode, asked) == ("replay", 0)
        with pytest.raises(NotReplayable):
            await desk.agent.execute("something new", require="replay")


async def test_what_is_served_nothing_anyway_is_compared_with_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.record()
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")
    async with desk.engine:
        run = await desk.agent.execute("go", replay=False)
        assert (misses(run), run.shadow) == (["replay off"], (0, 0))


async def test_a_share_of_runs_is_asked_in_shadow(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lots = iter([0.3, 0.2])
    monkeypatch.setattr("execgraph.engine.run.lot._RANDOM.random", lambda: next(lots))
    desk = Desk(world, engine={"shadow": 1.0}, shadow=0.25)
    async with desk.engine:
        await desk.engine.observe("acl:prod", 1)
        await desk.agent.execute("go", replay=False)
        served, asked, _ = await world.count(desk.agent.execute("go"))
        assert (served.mode, asked) == ("replay", 0)
        shadow, asked, _ = await world.count(desk.agent.execute("go"))
        assert (asked, shadow.shadow) == (5, (5, 5))


@pytest.mark.parametrize(("of_engine", "of_agent"), [(1.0, None), (0.0, 1.0)])
async def test_the_share_is_the_engines_where_an_agent_has_none(
    world: World, of_engine: float, of_agent: float | None
) -> None:
    desk = Desk(world, engine={"shadow": of_engine}, shadow=of_agent)
    async with desk.engine:
        await desk.record()
        assert (await desk.agent.execute("go")).shadow == (5, 5)


async def test_an_agent_may_be_left_out(world: World) -> None:
    desk = Desk(world, engine={"shadow": 1.0}, shadow=0.0)
    async with desk.engine:
        await desk.record()
        assert (await desk.agent.execute("go")).mode == "replay"


@pytest.mark.parametrize("wrong", [-0.1, 1.5, "half", True, float("nan")])
def test_what_is_no_share_is_refused(world: World, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"shadow=.* from 0 to 1"):
        world.engine(shadow=wrong)
    with pytest.raises(AgentError, match=r"shadow=.* from 0 to 1"):
        world.agent(world.engine(), [], shadow=wrong)


async def test_a_program_is_asked_in_shadow_too(world: World) -> None:
    words = ["hello", "hello", "good day"]
    engine = world.engine()

    @engine.tool(effect="pure", version="1")
    def count(text: str) -> int:
        """Count."""
        world.done.append("count")
        return len(text)

    async def ask(request: Any) -> str:
        return words.pop(0)

    async def greet(engine: Engine, share: float) -> Result:
        async with engine.run("greet", {"whom": "Ann"}, shadow=share) as run:
            said = await run.decide({"greet": "her"}, call=ask)
            run.output = [said.value, (await run.act(count, text=said)).value]
        return run.result

    async with engine:
        await greet(engine, 0)
        same = await greet(engine, 1)
        assert (same.shadow, same.mode, world.done) == ((1, 1), "live", ["count"] * 2)
        other = await greet(engine, 1)
        assert (other.output, other.shadow, other.recorded) == (["good day", 8], (0, 1), False)
        assert [str(it) for it in other.miss[0].differences] == ['$: "hello" -> "good day"']
        assert (await greet(engine, 0)).output == ["hello", 5]


async def test_a_shadow_run_is_no_partial_one(world: World) -> None:
    desk = Desk(world, shadow=1.0)
    async with desk.engine:
        await desk.record()
        await desk.engine.observe("acl:prod", 2)
        run, asked, _ = await world.count(desk.agent.execute("go", on_partial="stop"))
        assert (asked, run.shadow) == (5, (3, 3))


async def test_a_plan_tells_what_would_be_served_but_for_lots(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(world, shadow=1.0)
    async with desk.engine:
        await desk.record()
        assert (await desk.agent.plan("go")).mode == "replay"
    monkeypatch.setenv("EXECGRAPH_MODE", "shadow")
    async with desk.engine:
        assert (await desk.agent.plan("go")).mode == "live"
