"""Programs: an agent written as plain Python, each step served by its own key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from execgraph import (
    Acl,
    ArgumentsInvalid,
    ConfigurationError,
    DeploymentTarget,
    Engine,
    ExecgraphError,
    Handle,
    NotOpen,
    NotReplayable,
    PreconditionChanged,
    RunFailed,
    Tool,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.tests.models import MODEL

from .conftest import World, misses, outcomes


def request(words: str, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": words}],
        **more,
    }


def says(reply: Handle) -> str:
    words: str = reply.value["content"][0]["text"]
    return words


def echo(body: dict[str, Any]) -> Answer:
    """The model says what it was told last, in capitals."""
    return Answer([text(str(body["messages"][-1]["content"]).upper())])


class Desk:
    """An engine with a few tools that count."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.engine = world.engine()
        self.fetched = {"a": 1, "b": 2}
        world.think(echo)

        @self.engine.tool(effect="read")
        async def fetch(name: str) -> int:
            """Fetch."""
            world.done.append(f"fetch {name}")
            await asyncio.sleep(0)
            return self.fetched[name]

        @self.engine.tool(effect="pure")
        def add(numbers: list[int], names: dict[str, int] | None = None) -> int:
            """Add."""
            world.done.append(f"add {numbers}")
            return sum(numbers) + sum((names or {}).values())

        @self.engine.tool(effect="write", requires=[DeploymentTarget("{target}")])
        async def ship(target: str) -> str:
            """Ship."""
            world.done.append(f"ship {target}")
            return f"shipped to {target}"

        self.fetch: Tool = fetch
        self.add: Tool = add
        self.ship: Tool = ship

    def run(self, name: str = "triage", inputs: Any = "go", **settings: Any) -> Any:
        return self.engine.run(name, inputs, **{"client": self.world.client, **settings})


async def test_a_program_is_replayed_with_no_call_here_and_in_another_process(
    world: World,
) -> None:
    async def work(desk: Desk) -> Any:
        async with desk.run(inputs={"names": ["a", "b"]}) as run:
            found = [await run.act(desk.fetch, name=name) for name in ("a", "b")]
            total = await run.act(desk.add, numbers=found)
            reply = await run.decide(request(f"the sum is {total.value}"))
            run.output = {"said": says(reply)}
        return run.result

    desk = Desk(world)
    async with desk.engine:
        result, asked, done = await world.count(work(desk))
        assert (asked, done) == (1, ["fetch a", "fetch b", "add [1, 2]"])
        assert (result.mode, result.recorded, result.output) == (
            "live",
            True,
            {"said": "THE SUM IS 3"},
        )
        assert outcomes(result) == [
            ("fetch", "executed"),
            ("fetch", "executed"),
            ("add", "executed"),
            ("?", "asked"),
        ]
        again, asked, done = await world.count(work(desk))
        assert (asked, done) == (0, ["fetch a", "fetch b"]), "pure actions are not run"
        assert (again.identical, again.recorded, again.output) == (True, False, result.output)
        assert (again.tokens, again.saved_tokens) == (0, result.tokens)
    elsewhere = Desk(world)
    async with elsewhere.engine:
        again, asked, done = await world.count(work(elsewhere))
        assert (asked, done, again.identical) == (0, ["fetch a", "fetch b"], True)


async def test_handles_are_passed_on_wherever_they_are(world: World) -> None:
    desk = Desk(world)
    async with desk.engine, desk.run() as run:
        a, b = await run.act(desk.fetch, name="a"), await run.act(desk.fetch, name="b")
        assert isinstance(a, Handle)
        both = await run.act(desk.add, numbers=[a, b], names={"more": b})
        assert both.value == 5
        told = await run.decide(
            request("x", system=[{"type": "text", "text": "sum"}], metadata={"user_id": str(a)})
        )
        again = await run.decide({**request("x"), "messages": [_said(told)]})
        assert says(again) == "X"
    assert run.result.recorded


def _said(told: Handle) -> dict[str, Any]:
    return {"role": "user", "content": told.value["content"][0]["text"]}


async def test_any_other_provider_is_asked_by_a_function(world: World) -> None:
    desk = Desk(world)
    asked: list[Any] = []

    async def ask(body: Any) -> Any:
        asked.append(body)
        return {"echo": body["prompt"], "n": len(asked)}

    async with desk.engine:
        for identical in (False, True):
            async with desk.run(client=None) as run:
                reply = await run.decide({"prompt": "hi", "model": "local"}, call=ask)
                assert reply.value == {"echo": "hi", "n": 1}
                run.output = reply.value
            assert run.result.identical == identical
            assert [step.name for step in run.result.steps] == ["local"]
        assert len(asked) == 1
        assert world.server.requests == 0


async def test_loops_and_branches_follow_what_was_found(world: World) -> None:
    desk = Desk(world)

    async def work() -> Any:
        async with desk.run() as run:
            count = 0
            while (await run.act(desk.fetch, name="a")).value > count:
                count += 1
                await run.decide(request(f"round {count}"))
            if count > 1:
                await run.decide(request("many"))
            run.output = count
        return run.result

    async with desk.engine:
        result, asked, _ = await world.count(work())
        assert (asked, result.output) == (1, 1)
        desk.fetched["a"] = 3
        result, asked, _ = await world.count(work())
        assert (asked, result.output) == (3, 3), "round 1 is served, two rounds and 'many' asked"
        assert result.mode == "partial"
        assert misses(result)[0] == "output diverged"
        for number in (1, 3):
            desk.fetched["a"] = number
            result, asked, _ = await world.count(work())
            assert (asked, result.output, result.recorded) == (0, number, False)


async def test_concurrent_steps_are_recorded_once_each_and_replayed(world: World) -> None:
    desk = Desk(world)

    async def work() -> Any:
        async with desk.run() as run:
            acts = await asyncio.gather(*(run.act(desk.fetch, name=n) for n in ("a", "b", "a")))
            replies = await asyncio.gather(
                *(run.decide(request(words)) for words in ("x", "y", "x", "x"))
            )
            run.output = [[it.value for it in acts], [says(it) for it in replies]]
        return run.result

    async with desk.engine:
        result, asked, done = await world.count(work())
        assert (asked, len(done)) == (4, 3), "the same question three times is three decisions"
        assert result.output == [[1, 2, 1], ["X", "Y", "X", "X"]]
        assert len(result.steps) == 7
        again, asked, done = await world.count(work())
        assert (asked, len(done), again.output) == (0, 3, result.output)
        assert again.identical
        assert not again.recorded


async def test_equal_decisions_are_told_apart_by_their_order(world: World) -> None:
    desk = Desk(world)
    numbers = iter(range(100))
    world.think(lambda body: Answer([text(f"number {next(numbers)}")]))

    async def work(times: int) -> Any:
        async with desk.run() as run:
            run.output = [says(await run.decide(request("draw"))) for _ in range(times)]
        return run.result

    async with desk.engine:
        assert (await work(2)).output == ["number 0", "number 1"]
        again, asked, _ = await world.count(work(2))
        assert (asked, again.output) == (0, ["number 0", "number 1"])
        more, asked, _ = await world.count(work(3))
        assert (asked, more.output) == (1, ["number 0", "number 1", "number 2"])


async def test_a_program_that_fails_raises_its_own_error_and_publishes_nothing(
    world: World,
) -> None:
    desk = Desk(world)
    async with desk.engine:
        await desk.engine.observe("target:eu", "a")
        run = desk.run()

        async def work() -> None:
            async with run:
                await run.decide(request("x"))
                await run.act(desk.ship, target="eu")
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError) as failure:
            await work()
        [note] = failure.value.__notes__
        assert run.execution_id in note
        assert "effects begun: ship (done)" in note
        with pytest.raises(NotOpen):
            _ = run.result
        kept = await desk.engine.session().store.execution(run.execution_id)
        assert kept is not None
        assert (kept.execution.state, len(kept.steps)) == ("failed", 2)
        async with desk.run() as again:
            _, asked, _ = await world.count(again.decide(request("x")))
            assert asked == 1


async def test_what_a_tool_raises_is_raised_to_the_program_and_replayed(world: World) -> None:
    desk = Desk(world)
    desk.fetched.clear()

    async def work() -> Any:
        async with desk.run() as run:
            with pytest.raises(KeyError, match="a"):
                await run.act(desk.fetch, name="a")
            await run.decide(request("it is gone"))
        return run.result

    async with desk.engine:
        result, asked, _ = await world.count(work())
        assert (asked, result.recorded, result.steps[0].error) == (1, True, True)
        again, asked, done = await world.count(work())
        assert (asked, done, again.identical) == (0, ["fetch a"], True)


async def test_bad_arguments_are_raised_to_the_program_and_are_no_step(world: World) -> None:
    desk = Desk(world)
    async with desk.engine, desk.run() as run:
        with pytest.raises(ArgumentsInvalid, match="nme"):
            await run.act(desk.fetch, nme="a")
        with pytest.raises(ArgumentsInvalid, match="cannot be called"):
            await run.act(desk.ship, target="")
        assert run.running.steps == []
    assert world.done == []


async def test_a_run_is_used_inside_its_block_and_once(world: World) -> None:
    desk = Desk(world)
    run = desk.run()
    with pytest.raises(NotOpen, match="use the run inside"):
        await run.decide(request("x"))
    with pytest.raises(NotOpen):
        async with run:
            pass
    async with desk.engine:
        run = desk.run()
        async with run:
            with pytest.raises(NotOpen, match="when its block has ended"):
                _ = run.result
            with pytest.raises(ConfigurationError, match="entered once"):
                await run.begin()
        assert run.result.steps == ()
        with pytest.raises(ConfigurationError, match="entered once"):
            async with run:
                pass
        with pytest.raises(NotOpen):
            await run.decide(request("x"))
        with pytest.raises(NotOpen):
            await run.act(desk.fetch, name="a")
        assert (world.server.requests, world.done) == (0, [])


async def test_only_tools_of_the_engine_can_be_acted_with(world: World) -> None:
    desk, other = Desk(world), Desk(world)

    def fetch(name: str) -> int:
        return 1

    async with desk.engine, desk.run() as run:
        for stranger in (other.fetch, fetch, "fetch", None):
            with pytest.raises(ConfigurationError, match="is no tool of this engine"):
                await run.act(stranger, name="a")
    assert world.done == []


async def test_an_output_that_is_no_json_fails_the_run(world: World) -> None:
    desk = Desk(world)
    async with desk.engine:
        run = desk.run()

        async def work() -> None:
            async with run:
                await run.act(desk.fetch, name="a")
                run.output = object()

        with pytest.raises(ExecgraphError, match="the output cannot be recorded"):
            await work()
        kept = await desk.engine.session().store.execution(run.execution_id)
        assert kept is not None
        assert kept.execution.state == "failed"
        with pytest.raises(ExecgraphError, match="the inputs cannot be recorded"):
            desk.run(inputs={"x": object()})


async def test_changed_requests_are_a_miss_and_nothing_worse(world: World) -> None:
    desk = Desk(world)

    async def work(words: str) -> Any:
        async with desk.run() as run:
            await run.act(desk.fetch, name="a")
            await run.decide(request(words))
            reply = await run.decide(request("always"))
            run.output = says(reply)
        return run.result

    async with desk.engine:
        await work("first")
        result, asked, _ = await world.count(work("second"))
        assert (asked, result.mode, result.output) == (1, "partial", "ALWAYS")
        assert misses(result) == ["request changed"]
        assert outcomes(result) == [("fetch", "replayed"), ("?", "asked"), ("?", "replayed")]
        for words in ("first", "second"):
            _, asked, _ = await world.count(work(words))
            assert asked == 0


async def test_runs_of_one_engine_do_not_mix(world: World) -> None:
    desk = Desk(world)

    async def work(name: str) -> Any:
        async with desk.run("triage", {"name": name}) as run:
            await run.act(desk.fetch, name=name)
            reply = await run.decide(request(f"about {name}"))
            await asyncio.sleep(0.01)
            run.output = says(reply)
        return run.result

    async with desk.engine:
        for expected in (2, 0):
            (a, b), asked, done = await world.count(asyncio.gather(work("a"), work("b")))
            assert (asked, sorted(done)) == (expected, ["fetch a", "fetch b"])
            assert (a.output, b.output) == ("ABOUT A", "ABOUT B")
            assert len(a.steps) == len(b.steps) == 2


async def test_the_same_task_twice_at_once_is_recorded_without_harm(world: World) -> None:
    desk = Desk(world)

    async def work() -> Any:
        async with desk.run() as run:
            run.output = says(await run.decide(request("x")))
        return run.result

    async with desk.engine:
        first, second = await asyncio.gather(work(), work())
        assert first.output == second.output
        assert [first.recorded, second.recorded].count(True) == 1, "they are equal"
        _, asked, _ = await world.count(work())
        assert asked == 0


async def test_runs_may_be_nested(world: World) -> None:
    desk = Desk(world)

    async def work() -> Any:
        async with desk.run("outer") as outer:
            await outer.act(desk.fetch, name="a")
            async with desk.run("inner") as inner:
                inner.output = says(await inner.decide(request("inside")))
            outer.output = says(await outer.decide(request(inner.result.output)))
        return outer.result, inner.result

    async with desk.engine:
        for expected in (2, 0):
            (outer, inner), asked, _ = await world.count(work())
            assert asked == expected
            assert (outer.output, inner.output) == ("INSIDE", "INSIDE")
            assert (len(outer.steps), len(inner.steps)) == (2, 1)


async def test_what_rests_on_a_change_is_asked_and_the_rest_served(world: World) -> None:
    desk = Desk(world)

    async def work() -> Any:
        async with desk.run(requires=[]) as run:
            await run.decide(request("which?"))
            await run.act(desk.fetch, name="a")
            assert says(await run.decide(request("where to?")))
            shipped = await run.act(desk.ship, target="eu")
            run.output = says(await run.decide(request(shipped.value)))
        return run.result

    async with desk.engine:
        await desk.engine.observe("target:eu", "a")
        _, asked, _ = await world.count(work())
        assert asked == 3
        await desk.engine.observe("target:eu", "b")
        result, asked, done = await world.count(work())
        assert (asked, done) == (1, ["fetch a", "ship eu"])
        assert outcomes(result) == [
            ("?", "replayed"),
            ("fetch", "replayed"),
            ("?", "asked"),
            ("ship", "replayed"),
            ("?", "replayed"),
        ]
        assert misses(result) == ["precondition changed"]
        _, asked, _ = await world.count(work())
        assert asked == 0
        await desk.engine.observe("target:eu", "a")
        back, asked, _ = await world.count(work())
        assert (asked, back.recorded) == (0, False)


async def test_a_run_s_own_requirements_guard_its_decisions_and_writes(world: World) -> None:
    desk = Desk(world)

    async def work() -> Any:
        requires = [Acl("{task.user}")]
        async with desk.run(inputs={"user": "ann"}, requires=requires) as run:
            await run.act(desk.fetch, name="a")
            await run.decide(request("x"))
            await run.act(desk.ship, target="eu")
        return run.result

    async with desk.engine:
        await desk.engine.observe("target:eu", "a")
        await desk.engine.observe("acl:ann", "may")
        await work()
        _, asked, _ = await world.count(work())
        assert asked == 0
        await desk.engine.observe("acl:ann", "may not")
        result, asked, _ = await world.count(work())
        assert asked == 1
        assert outcomes(result)[0] == ("fetch", "replayed")
        assert {cause.node for cause in result.miss} == {"acl:ann"}
        with pytest.raises(ConfigurationError, match="user"):
            desk.run(inputs={"name": "ann"}, requires=[Acl("{task.user}")])
        with pytest.raises(ConfigurationError, match="target"):
            desk.run(inputs={"target": "eu"}, requires=[DeploymentTarget("{target}")])


async def test_a_fact_that_moves_after_a_decision_was_served_stops_the_write(
    world: World,
) -> None:
    """Also a write that is not recorded: its arguments follow from what a read gives now."""
    desk = Desk(world)
    targets = {1: "eu", 2: "us"}

    async def work(change: Any = None) -> Any:
        async with desk.run(requires=[Acl("ship")]) as run:
            found = await run.act(desk.fetch, name="a")
            await run.decide(request("shall I?"))
            if change is not None:
                await desk.engine.observe("acl:ship", change)
            await run.act(desk.ship, target=targets[found.value])
        return run.result

    async with desk.engine:
        for name in ("acl:ship", "target:eu", "target:us"):
            await desk.engine.observe(name, "yes")
        await work()
        world.done.clear()
        with pytest.raises(PreconditionChanged, match="acl:ship"):
            await work("no")
        await desk.engine.observe("acl:ship", "yes")
        desk.fetched["a"] = 2
        with pytest.raises(PreconditionChanged, match="acl:ship"):
            await work("no")
        assert world.done == ["fetch a", "fetch a"]


async def test_a_required_replay_is_refused_before_any_effect_or_fails_where_it_diverges(
    world: World,
) -> None:
    desk = Desk(world)

    async def work(words: str, **wish: Any) -> Any:
        async with desk.run(**wish) as run:
            await run.act(desk.ship, target="eu")
            await run.decide(request(words))
        return run.result

    async with desk.engine:
        await desk.engine.observe("target:eu", "a")
        with pytest.raises(NotReplayable, match="new task"):
            await work("x", require="replay")
        assert world.done == []
        await work("x")
        result, asked, done = await world.count(work("x", require="replay"))
        assert (asked, done, result.identical) == (0, ["ship eu"], True)
        with pytest.raises(RunFailed, match="request changed") as failure:
            await work("y", require="replay")
        assert [effect.tool for effect in failure.value.effects] == ["ship"]
        await desk.engine.observe("target:eu", "b")
        world.done.clear()
        with pytest.raises(NotReplayable, match="target:eu"):
            await work("x", require="replay")
        assert world.done == []
        assert world.server.requests == 1


async def test_a_decision_that_is_tried_again_by_the_program_is_the_same_decision(
    world: World,
) -> None:
    desk = Desk(world)

    async def work() -> Any:
        async with desk.run() as run:
            for _ in range(3):
                try:
                    run.output = says(await run.decide(request("x")))
                    break
                except ExecgraphError:
                    raise
                except Exception:  # noqa: BLE001
                    continue
        return run.result

    async with desk.engine:
        world.server.fail(400, times=2)
        result, asked, _ = await world.count(work())
        assert (asked, result.output, len(result.steps)) == (3, "X", 1)
        _, asked, _ = await world.count(work())
        assert asked == 0


async def test_effects_are_told_even_where_a_sibling_broke_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two writes of a reply was done when the store went away under the other."""
    desk = Desk(world)
    world.think(lambda body: Answer([call("ship", {"target": name}) for name in ("eu", "us")]))
    agent = world.agent(desk.engine, [desk.ship])
    async with desk.engine:
        for name in ("target:eu", "target:us"):
            await desk.engine.observe(name, "a")
        store = desk.engine.session().store
        intend = store.intend

        async def lost(effect: Any, expected: Any, **wish: Any) -> Any:
            if "us" in effect.target:
                raise ConnectionError("the store is away")
            return await intend(effect, expected, **wish)

        monkeypatch.setattr(store, "intend", lost)
        with pytest.raises(RunFailed, match="the store is away") as failure:
            await agent.execute("go")
        assert world.done == ["ship eu"]
        assert [effect.target for effect in failure.value.effects] == ['{"target":"eu"}']
        assert not failure.value.safe_to_retry
        [kept] = await store.effects(failure.value.execution_id)
        assert kept.state == "done"


async def test_an_effect_that_is_given_up_stays_in_doubt(world: World) -> None:
    desk = Desk(world)

    @desk.engine.tool(effect="write", requires=[])
    async def slow() -> str:
        """Take for ever."""
        world.done.append("slow")
        await asyncio.sleep(60)
        return "never"

    async with desk.engine:
        async with desk.run() as run:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(run.act(slow), 0.5)
        assert world.done == ["slow"]
        assert [(it.tool, it.state) for it in run.result.effects] == [("slow", "intended")]


async def test_an_effect_in_doubt_stays_so_in_a_replay(world: World) -> None:
    desk = Desk(world)

    @desk.engine.tool(effect="write", requires=[])
    async def breaks() -> str:
        """Break."""
        raise ValueError("no answer")

    async def work() -> Any:
        async with desk.run() as run:
            with pytest.raises(ValueError, match="no answer"):
                await run.act(breaks)
        return run.result

    async with desk.engine:
        for identical in (False, True):
            result = await work()
            assert result.identical == identical
            await desk.engine.settle()
            store = desk.engine.session().store
            [kept] = await store.effects(result.execution_id)
            assert kept.state == "intended"


def test_a_name_is_needed(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="needs a name"):
        Engine(f"sqlite:///{tmp_path}/x.db").run("", "go")


async def test_a_run_may_be_left_in_another_context_than_it_was_entered_in(world: World) -> None:
    """As in the two halves of a fixture."""
    engine = world.engine()
    async with engine:
        run = engine.run("triage", "go")
        await asyncio.create_task(run.__aenter__())
        await asyncio.create_task(run.__aexit__(None, None, None))
        assert not run.is_open
        assert run.result.output is None
