"""Which decisions chose a program's write, and what an effect stands on (I2, I5)."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from execgraph import (
    Acl,
    AgentError,
    ArgumentsInvalid,
    BusinessRule,
    Engine,
    Handle,
    NotOpen,
    PreconditionChanged,
    Resource,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.program import ProgramRun, current_run
from execgraph.engine.run.family import Family
from execgraph.graphstore.model import ChangeEvent

from .conftest import World, misses

PROD = Acl("prod")
THERE: Any = ("a run", 3)


class Asked:
    """A provider that answers what it ``says``; ``meanwhile`` is done while it thinks."""

    def __init__(self) -> None:
        self.times = 0
        self.says = "yes"
        self.meanwhile: Any = None

    async def __call__(self, request: Any) -> str:
        self.times += 1
        if self.meanwhile is not None:
            await self.meanwhile()
        return self.says


class Desk(NamedTuple):
    engine: Engine
    model: Asked
    done: list[str]

    def run(self) -> ProgramRun:
        return self.engine.run("triage", "go")

    async def asks(self, run: ProgramRun, what: str = "May I?") -> Any:
        request = {"model": "m", "prompt": what}
        return await run.decide(request, call=self.model, version="1")  # whatever it says

    async def deploy(self, run: ProgramRun, service: Any = "shop") -> Any:
        return await run.act(self.engine.tools["deploy"], service=service)


def desk(world: World, requires: Sequence[Resource] = (PROD,), **settings: Any) -> Desk:
    engine, done = world.engine(**settings), world.done

    @engine.tool(effect="write", requires=requires)
    async def deploy(service: str) -> str:
        """Deploy."""
        done.append(service)
        return "deployed"

    @engine.tool(effect="read")
    async def state(of: str) -> str:
        """How a service does."""
        return world.namespace if of == "shop" else of

    return Desk(engine, Asked(), done)


async def allow(it: Desk, *, allowed: bool = True, uri: str = "acl:prod", **more: Any) -> None:
    await it.engine.observe(uri, {"allow": allowed, **more})


async def test_a_rule_that_moves_while_the_model_thinks_stops_the_write_it_leads_to(
    world: World,
) -> None:
    it = desk(world)

    async def work() -> None:
        async with it.run() as run:
            if (await it.asks(run)).value == "yes":
                await it.deploy(run)

    async with it.engine:
        await allow(it)
        it.model.meanwhile = lambda: allow(it, allowed=False)
        with pytest.raises(PreconditionChanged, match="acl:prod"):
            await work()
        it.model.meanwhile = None
        assert it.done == []
        await work()
        assert (it.model.times, it.done) == (2, ["shop"])


async def test_a_run_that_may_go_on_without_its_store_knows_what_held_before_while_it_is_there(
    world: World,
) -> None:
    it = desk(world, on_store_error="live")
    async with it.engine:
        await allow(it)
        async with it.run() as run:
            if (await it.asks(run)).value == "yes":
                await it.deploy(run)
        assert (it.model.times, it.done) == (1, ["shop"])


_PASSED_ON = ["opened", "passed on", "passed on through a read", "passed on to a decision"]


@pytest.mark.parametrize("how", _PASSED_ON)
async def test_every_decision_that_led_to_a_write_rests_on_its_rule(world: World, how: str) -> None:
    it = desk(world)
    state = it.engine.tools["state"]

    async def work() -> Any:
        async with it.run() as run:
            first, second = await it.asks(run, "1"), await it.asks(run, "2")
            if how == "opened":
                assert first.value == second.value
                await it.deploy(run)
            elif how == "passed on":
                await it.deploy(run, {"a": [first, second]}["a"][0])
                await it.deploy(run, second)
            elif how == "passed on to a decision":
                third = await run.decide({"model": "m", "of": [first, second]}, call=it.model)
                await it.deploy(run, third)
            else:
                await it.deploy(run, await run.act(state, of=first))
                await it.deploy(run, await run.act(state, of=second))
        return run.result

    async with it.engine:
        await allow(it)
        await work()
        assert (await work()).replayed
        await allow(it, allowed=True, since="today")
        before = it.model.times
        await work()
        assert it.model.times - before == (3 if how == "passed on to a decision" else 2)


async def _is_asked_again(it: Desk, work: Callable[[], Awaitable[None]]) -> None:
    """Once the rule of the write has changed; and nothing is done, as the answer is no."""
    async with it.engine:
        await allow(it)
        await work()
        assert it.done == ["shop"]
        await allow(it, allowed=False)
        it.model.says = "no"
        await work()
        assert (it.model.times, it.done) == (2, ["shop"])


async def _through_a_check(it: Desk, run: ProgramRun, decision: Any) -> None:
    await run.act(it.engine.tools["check"], of=decision)


async def _through_an_argument(it: Desk, run: ProgramRun, decision: Any) -> None:
    await run.act(it.engine.tools["only_yes"], of=decision)


async def _through_another_provider(it: Desk, run: ProgramRun, decision: Any) -> None:
    async def judge(request: Any) -> str:
        if request["of"] != "yes":
            raise ValueError("refused")
        return "fine"

    await run.decide({"of": decision}, call=judge)


@pytest.mark.parametrize(
    "given", [_through_a_check, _through_an_argument, _through_another_provider]
)
async def test_that_a_step_raised_or_did_not_tells_of_what_it_was_given(
    world: World, given: Callable[[Desk, ProgramRun, Any], Awaitable[None]]
) -> None:
    it = desk(world)

    @it.engine.tool(effect="read")
    def check(of: str) -> str:
        """Check."""
        if of != "yes":
            raise ValueError("refused")
        return "fine"

    @it.engine.tool(effect="read")
    def only_yes(of: Literal["yes"]) -> str:
        """Check."""
        return "fine"

    async def work() -> None:
        async with it.run() as run:
            decision = await it.asks(run)
            try:
                await given(it, run, decision)
            except (ValueError, ArgumentsInvalid):
                return
            await it.deploy(run)

    await _is_asked_again(it, work)


@pytest.mark.parametrize("how", ["itself", "inside of a list"])
async def test_what_a_run_comes_to_tells_the_run_around_it(world: World, how: str) -> None:
    it = desk(world)

    async def work() -> None:
        async with it.run() as outer:
            async with it.engine.run("part", "go") as inner:
                says = await it.asks(inner)
                inner.output = says if how == "itself" else [says]
            if inner.result.output in ("yes", ["yes"]):
                await it.deploy(outer)

    async with it.engine:
        await allow(it)
        await work()
        await allow(it, allowed=False)
        it.model.says = "no"
        with pytest.raises(PreconditionChanged):  # its recording does not know of the write
            await work()
        await work()
        assert (it.model.times, it.done) == (2, ["shop"])


async def test_what_a_tool_was_given_chose_what_is_done_in_a_run_inside_it(world: World) -> None:
    it = desk(world)

    @it.engine.tool(effect="read")
    async def handle(of: str) -> str:
        """Do it, or not."""
        if of == "yes":
            async with it.engine.run("part", "go") as inner:
                await it.deploy(inner)
        return "handled"

    async def work() -> None:
        async with it.run() as run:
            await run.act(handle, of=await it.asks(run))

    await _is_asked_again(it, work)


async def test_what_a_tool_was_given_chose_what_it_does_in_its_own_run(world: World) -> None:
    it = desk(world)

    @it.engine.tool(effect="read")
    async def handle(of: str) -> str:
        """Do it, or not."""
        run = current_run()
        assert run is not None
        if of == "yes":
            await it.deploy(run)
        return "handled"

    async def work() -> None:
        async with it.run() as run:
            await run.act(handle, of=await it.asks(run))

    await _is_asked_again(it, work)


async def test_that_a_step_has_not_ended_yet_tells_of_what_it_was_given(world: World) -> None:
    it = desk(world)

    @it.engine.tool(effect="read")
    async def check(of: str) -> str:
        """Check, for long if it is forbidden."""
        await asyncio.sleep(0 if of == "no" else 0.05)
        return "checked"

    async def work() -> None:
        async with it.run() as run:
            act = asyncio.ensure_future(run.act(check, of=await it.asks(run)))
            done, _ = await asyncio.wait({act}, timeout=0.01)
            if not done:
                await it.deploy(run)
            await act

    await _is_asked_again(it, work)


async def test_a_task_that_a_run_has_begun_is_steered_by_it_after_its_end(world: World) -> None:
    it = desk(world)

    async def later() -> None:
        await ended.wait()
        async with it.engine.run("part", "go") as inner:
            await it.deploy(inner)

    async def work() -> None:
        ended.clear()
        async with it.run() as run:
            yes = (await it.asks(run)).value == "yes"
            task = asyncio.ensure_future(later()) if yes else None
        ended.set()
        if task is not None:
            await task

    ended = asyncio.Event()
    async with it.engine:
        await allow(it)
        await work()
        assert it.done == ["shop"]
        await allow(it, allowed=False)
        it.model.says = "no"
        with pytest.raises(PreconditionChanged):  # its recording does not know of the write
            await work()
        await work()
        assert (it.model.times, it.done) == (2, ["shop"])


async def test_a_handle_of_another_store_says_so(world: World, tmp_path: Path) -> None:
    it = desk(world)
    other = Engine(f"sqlite:///{tmp_path}/other.db")
    async with it.engine, other, it.run() as run, other.run("other", "go") as there:
        says = await it.asks(there)
        with pytest.raises(AgentError, match=r"another store or namespace.*open it with \.value"):
            await it.deploy(run, says)
        assert it.done == []


async def test_a_decision_that_nobody_looked_at_before_a_write_did_not_choose_it(
    world: World,
) -> None:
    it = desk(world)

    async def work() -> Any:
        async with it.run() as run:
            aside = await it.asks(run, "How is the weather?")
            assert (await it.asks(run)).value == "yes"
            await it.deploy(run)
            run.output = aside.value
        return run.result

    async with it.engine:
        await allow(it)
        await work()
        await allow(it, allowed=True, since="today")
        before = it.model.times
        result = await work()
        assert (it.model.times - before, result.output) == (1, "yes")


async def test_a_requirement_named_by_an_argument_is_known_if_it_has_held_since(
    world: World,
) -> None:
    it = desk(world, [Acl("{service}")])

    async def work(*, change: bool = False) -> Any:
        async with it.run() as run:
            if (await it.asks(run)).value == "yes":
                if change:  # while somebody approves, say
                    await allow(it, allowed=False, uri="acl:shop")
                await it.deploy(run)
        return run.result

    async with it.engine:
        await allow(it, uri="acl:shop")
        with pytest.raises(PreconditionChanged, match="acl:shop"):
            await work(change=True)
        assert it.done == []
        assert (await work()).recorded
        assert (await work()).replayed
        await allow(it, uri="acl:shop")
        before = it.model.times
        await work()
        assert it.model.times - before == 1


@pytest.mark.parametrize("requires", [PROD, Acl("{service}")], ids=["named", "by argument"])
@pytest.mark.parametrize("moved", [False, True], ids=["since", "not since"])
async def test_a_served_decision_leads_to_a_new_write_only_if_its_rule_has_held_since(
    world: World, requires: Resource, *, moved: bool
) -> None:
    it, uri = desk(world, [requires]), "acl:prod" if requires is PROD else "acl:shop"

    async def work(*, broken: bool) -> Any:
        async with it.run() as run:
            says = (await it.asks(run)).value
            if broken and says == "yes":
                await it.deploy(run)
        return run.result

    async with it.engine:
        await allow(it, uri=uri)
        await work(broken=False)
        if moved:
            await allow(it, allowed=False, uri=uri)
            with pytest.raises(PreconditionChanged, match=uri):
                await work(broken=True)
            assert it.done == []
        before = it.model.times
        result = await work(broken=True)  # which, after a refusal, asks again
        assert (it.model.times - before, it.done) == (int(moved), ["shop"])
        assert result.recorded


async def test_a_refused_write_is_refused_again_until_something_was_decided_anew(
    world: World,
) -> None:
    it = desk(world)
    async with it.engine:
        await allow(it)
        async with it.run() as run:
            assert (await it.asks(run)).value
            await allow(it, allowed=False)
            for _ in range(3):
                with pytest.raises(PreconditionChanged):
                    await it.deploy(run)
            await it.asks(run, "What is the weather?")  # nothing follows from it
            with pytest.raises(PreconditionChanged):
                await it.deploy(run)
            assert it.done == []
            assert (await it.asks(run)).value
            await it.deploy(run)
        assert it.done == ["shop"]
        assert not run.result.recorded


async def test_a_change_of_another_facet_than_an_argument_names_stops_no_write(
    world: World,
) -> None:
    it = desk(world, [Acl("{service}", "$.allow")])
    async with it.engine as engine:
        await engine.observe("acl:shop", {"allow": True})
        async with it.run() as run:
            assert (await it.asks(run)).value
            await engine.observe("acl:shop", {"allow": True, "who": "all"})
            await it.deploy(run)  # nobody has asked for $.allow before
        assert (run.result.recorded, it.done) == (True, ["shop"])
        async with it.run() as run:
            assert (await it.asks(run, "And now?")).value
            await engine.observe("acl:shop", {"allow": False, "who": "all"})
            await engine.observe("acl:shop", {"allow": True, "who": "all"})
            with pytest.raises(PreconditionChanged):
                await it.deploy(run)


async def test_a_refusal_tells_of_what_moved_and_of_nothing_else(world: World) -> None:
    """A program that was refused, and has asked something else since, still acts on old words."""
    it = desk(world, [Acl("{service}")])
    async with it.engine as engine:
        for service in ("a", "b"):
            await engine.observe(f"acl:{service}", {"allow": True})
        async with it.run() as run:
            assert (await it.asks(run)).value
            for service in ("a", "b"):
                await engine.observe(f"acl:{service}", {"allow": False})
            with pytest.raises(PreconditionChanged):
                await it.deploy(run, "a")
            assert (await it.asks(run, "What is the weather?")).value
            await it.deploy(run, "a")  # of this it was told
            with pytest.raises(PreconditionChanged):
                await it.deploy(run, "b")
        assert it.done == ["a"]


async def test_a_requirement_added_to_a_write_has_what_chose_it_asked_again(world: World) -> None:
    async def day(requires: Any) -> int:
        it = desk(world, requires)
        async with it.engine:
            await allow(it)
            async with it.run() as run:
                if (await it.asks(run)).value == "yes":
                    await it.deploy(run)
        return it.model.times

    assert await day([]) == 1
    assert await day([]) == 0
    assert await day([Acl("prod")]) == 1
    assert await day([Acl("prod")]) == 0


@pytest.mark.parametrize("how", ["timed out", "not awaited"])
async def test_a_run_with_an_effect_that_became_no_step_is_no_trace(world: World, how: str) -> None:
    engine, model, began = world.engine(), Asked(), asyncio.Event()

    @engine.tool(effect="write", requires=[Acl("prod")])
    async def deploy() -> str:
        """Deploy."""
        began.set()
        await asyncio.sleep(0.2)
        return "deployed"

    async with engine:
        await engine.observe("acl:prod", {"allow": True})
        async with engine.run("triage", "go") as run:
            assert (await run.decide({"model": "m"}, call=model)).value == "yes"
            act = asyncio.ensure_future(run.act(deploy))
            await began.wait()
            if how == "timed out":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(act, 0.01)
        assert not run.result.recorded
        assert "unfinished effect" in misses(run.result)
        await asyncio.gather(act, return_exceptions=True)


async def test_an_effect_does_not_begin_after_its_run_has_ended(world: World) -> None:
    it = desk(world)
    async with it.engine:
        await allow(it)
        async with it.run() as run:
            act = asyncio.ensure_future(it.deploy(run))
        with pytest.raises(NotOpen):
            await act
        assert it.done == []


async def test_an_agent_and_a_program_of_one_name_have_tasks_of_their_own(world: World) -> None:
    it = desk(world)
    agent = world.agent(it.engine, [it.engine.tools["state"]], name="triage")
    world.think(lambda body: Answer([text("from the model")]))
    async with it.engine:
        async with it.run() as run:
            run.output = (await run.act(it.engine.tools["state"], of="a")).value
        result, asked, _ = await world.count(agent.execute("go"))
        assert (asked, result.output) == (1, "from the model")
        async with it.run() as run:
            run.output = (await run.act(it.engine.tools["state"], of="a")).value
        assert run.result.replayed


@pytest.mark.parametrize(
    ("calls", "asked_again"),
    [(["look", "page"], 3), (["look", "look", "page"], 4), (["page", "look", "page"], 3)],
    ids=["its decision", "a decision before", "an effect before"],
)
async def test_what_a_write_stands_on_is_checked_right_before_it(
    world: World, calls: list[str], asked_again: int
) -> None:
    """Not only its own facts. A slow read is time in which a rule moves; what an effect has
    followed is history, and else all that rests on the rule is asked again."""
    engine, began, slow = world.engine(), asyncio.Event(), asyncio.Event()

    @engine.tool(effect="read")
    async def look() -> str:
        """Look."""
        began.set()
        await slow.wait()
        return "same"

    @engine.tool(effect="write", requires=[])
    async def page() -> str:
        """Wake somebody."""
        world.done.append("page")
        return "paged"

    agent = world.agent(engine, [look, page], requires=[BusinessRule("freeze")])
    world.think(lambda body: _next_of(calls, body))
    async with engine:
        slow.set()
        await engine.observe("rule:freeze", {"on": False})
        assert (await agent.execute("go")).recorded
        slow.clear()
        began.clear()
        going = asyncio.ensure_future(world.count(agent.execute("go")))
        await began.wait()
        await engine.observe("rule:freeze", {"on": True})
        slow.set()
        result, asked, done = await going
        assert (asked, done) == (asked_again, ["page"] * calls.count("page"))
        assert result.recorded == (calls[0] == "look")


def _next_of(calls: list[str], body: dict[str, Any]) -> Answer:
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    return Answer([call(calls[turn], {})] if turn < len(calls) else [text("done")])


def test_a_handle_shows_no_value_and_tells_when_it_is_opened() -> None:
    family = Family()
    handle = Handle("secret", 3, frozenset({THERE}), family)
    assert (repr(handle), family.opened) == ("<Handle of step 3>", set())
    assert (handle.value, family.opened) == ("secret", {THERE})


@pytest.mark.parametrize("how", ["opened outside", "passed inside", "opened inside"])
async def test_a_run_inside_another_one_goes_on_from_its_decisions(world: World, how: str) -> None:
    it = desk(world)

    async def work(*, broken: bool = False) -> None:
        async with it.run() as outer, it.engine.run("part", "go") as inner:
            decision = await it.asks(inner if how == "opened inside" else outer)
            if broken:
                await allow(it, allowed=False)
            if how == "passed inside":
                await it.deploy(inner, decision)
            elif decision.value == "yes":
                await it.deploy(outer if how == "opened inside" else inner)

    async with it.engine:
        await allow(it)
        await work()
        await work()
        assert (it.model.times, len(it.done)) == (1, 2)
        with pytest.raises(PreconditionChanged):
            await work(broken=True)
        assert len(it.done) == 2
        await work()
        assert (it.model.times, len(it.done)) == (2, 3)


async def test_what_a_run_inside_decides_after_a_refusal_counts_for_the_outer_one(
    world: World,
) -> None:
    it = desk(world)
    async with it.engine:
        await allow(it)
        async with it.run() as outer:
            assert (await it.asks(outer)).value
            await allow(it, allowed=False)
            async with it.engine.run("part", "go") as inner, it.engine.run("aside", "go") as aside:
                assert (await it.asks(aside)).value
                with pytest.raises(PreconditionChanged):
                    await it.deploy(inner)
            async with it.engine.run("again", "go") as again:
                assert (await it.asks(again)).value
                await it.deploy(again)
        assert it.done == ["shop"]
        recorded = [run.result.recorded for run in (outer, inner, again)]
        assert recorded == [False, False, True]


async def test_a_run_inside_that_has_ended_is_asked_again_if_its_rule_has_moved(
    world: World,
) -> None:
    it = desk(world)

    async def work(*, broken: bool = False) -> None:
        async with it.run() as outer:
            async with it.engine.run("part", "go") as inner:
                answer = (await it.asks(inner)).value
            if broken:
                await allow(it, allowed=False)
            if answer == "yes":
                await it.deploy(outer)

    async with it.engine:
        await allow(it)
        with pytest.raises(PreconditionChanged):
            await work(broken=True)
        await work()
        await work()
        assert (it.model.times, len(it.done)) == (2, 2)
        await allow(it, since="today")
        with pytest.raises(PreconditionChanged):  # its recording does not know of the write
            await work()
        await work()
        assert it.model.times == 3


def test_a_copy_of_a_handle_is_the_handle() -> None:
    handle = Handle("secret", 3, frozenset({THERE}), Family())
    assert copy.deepcopy({"plan": [handle]})["plan"][0] is handle is copy.copy(handle)
    with pytest.raises(TypeError, match=r"pickle its \.value"):
        pickle.dumps(handle)


@pytest.mark.parametrize("how", ["recorded", "not recorded"])
@pytest.mark.parametrize("when", ["before it was asked", "since it was asked"])
async def test_a_decision_knew_of_an_expiry_only_if_it_was_asked_later(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str, how: str
) -> None:
    """Whether the expiry is recorded, so that only its event tells when that was, or is told to
    have been at a moment that was long ago."""
    it = desk(world, [Acl("{service}")])

    async def expire() -> None:
        await it.engine.observe("acl:shop", {"allow": True}, until=timedelta(days=-1))
        if how == "recorded":
            await it.engine.settle()

    async def nothing() -> list[ChangeEvent]:
        return []

    async with it.engine:
        await allow(it, uri="acl:shop")
        if how == "not recorded":  # not by the walker either, at a moment of its own
            monkeypatch.setattr(it.engine.session().store, "expire", nothing)
        if when == "before it was asked":
            await expire()
            await asyncio.sleep(0.002)  # what is of one millisecond counts as not known
        async with it.run() as run:
            assert (await it.asks(run)).value == "yes"
            if when == "before it was asked":
                await it.deploy(run)
            else:
                await expire()
                with pytest.raises(PreconditionChanged, match="acl:shop"):
                    await it.deploy(run)
    assert it.done == (["shop"] if when == "before it was asked" else [])
