"""What may ever be served: what accept= let pass, what was approved, and nothing rejected."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from execgraph import (
    Acl,
    Agent,
    AgentError,
    Engine,
    ExecutionUnknown,
    MissKind,
    NotApprovable,
    NotRejectable,
    PreconditionChanged,
    Result,
    Retention,
    RunFailed,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.graphstore.model import Execution

from .conftest import World, misses, results, turn

HARSHEST = Retention(
    traces=1,
    history=0,
    versions=0,
    max_age=timedelta(0),
    history_age=timedelta(0),
    max_bytes=0,
    grace=timedelta(0),
)


def says(*words: str) -> Callable[[dict[str, Any]], Answer]:
    """A model that says these, one after the other, and then the last one for ever."""
    left = list(words)
    return lambda body: Answer([text(left.pop(0) if len(left) > 1 else left[0])])


async def kept(engine: Engine, execution: str) -> Execution:
    found = await engine.session().store.execution(execution)
    assert found is not None
    return found.execution


def greeter(world: World, *words: str, **settings: Any) -> tuple[Engine, Agent]:
    world.think(says(*words))
    engine = world.engine()
    return engine, world.agent(engine, [], **settings)


# accept= ----------------------------------------------------------------------------------


async def test_only_what_is_accepted_is_served(world: World) -> None:
    engine, agent = greeter(world, "bad", "good", accept=lambda result: result.output == "good")
    async with engine:
        refused = await agent.execute("hi")
        assert (refused.output, refused.recorded) == ("bad", False), (
            "the answer is given all the same"
        )
        assert misses(refused)[-1] == "not accepted"
        execution = await kept(engine, refused.execution_id)
        assert (execution.state, execution.reason) == ("unpublished", "not accepted: deployer")
        accepted = await agent.execute("hi")
        assert (accepted.output, accepted.recorded, accepted.tokens > 0) == ("good", True, True)
        replayed, asked, _ = await world.count(agent.execute("hi"))
        assert (replayed.output, asked) == ("good", 0)


async def test_accept_is_asked_once_for_a_trace_and_not_for_its_replays(world: World) -> None:
    asked: list[Result] = []

    async def accept(result: Result) -> bool:
        asked.append(result)
        return True

    engine, agent = greeter(world, "hello", accept=accept)
    async with engine:
        result = await agent.execute("hi")
        await agent.execute("hi")
    [shown] = asked
    assert replace(shown, duration_ms=result.duration_ms) == result, "as it is returned"


async def test_a_synchronous_accept_runs_in_a_thread(world: World) -> None:
    def accept(result: Result) -> bool:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return True

    engine, agent = greeter(world, "hello", accept=accept)
    async with engine:
        assert (await agent.execute("hi")).recorded


async def test_what_cannot_be_published_anyway_is_not_shown_to_accept(world: World) -> None:
    asked: list[Result] = []

    def accept(result: Result) -> bool:
        asked.append(result)
        return True

    engine = world.engine()
    agent = world.agent(engine, [], requires=[Acl("talk")], accept=accept)

    def brain(body: dict[str, Any]) -> Answer:
        world.from_outside(lambda e: e.observe("acl:talk", "changed"))
        return Answer([text("hello")])

    world.think(brain)
    async with engine:
        await engine.observe("acl:talk", "first")
        assert "torn" in misses(await agent.execute("hi"))
    assert asked == []


async def test_an_accept_that_raises_accepts_nothing_and_loses_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def accept(result: Result) -> bool:
        raise ValueError("no judge today")

    engine, agent = greeter(world, "hello", accept=accept)
    async with engine:
        with caplog.at_level(logging.WARNING, "execgraph"):
            result = await agent.execute("hi")
        assert (result.output, result.recorded) == ("hello", False)
        cause = result.miss[-1]
        assert cause.kind is MissKind.NOT_ACCEPTED
        assert "ValueError: no judge today" in cause.node
        assert "no judge today" in str((await kept(engine, result.execution_id)).reason)
        assert len([it for it in caplog.records if "accept=" in it.message]) == 1


class Speechless(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class Undecided:
    """Neither true nor false."""

    def __bool__(self) -> bool:
        raise Speechless


@pytest.mark.parametrize("raises", [True, False])
async def test_an_accept_that_gives_no_answer_loses_none(world: World, *, raises: bool) -> None:
    def accept(result: Result) -> Any:
        if raises:
            raise Speechless
        return Undecided()

    engine, agent = greeter(world, "hello", accept=accept)
    async with engine:
        result = await agent.execute("hi")
        assert (result.output, result.recorded) == ("hello", False)
        assert "accept raised Speechless" in result.miss[-1].node


async def test_a_run_that_is_cancelled_while_it_is_judged_is_kept_as_cancelled(
    world: World,
) -> None:
    begun = asyncio.Event()

    async def accept(result: Result) -> bool:
        begun.set()
        await asyncio.sleep(60)
        return True

    engine, agent = greeter(world, "hello", accept=accept)
    async with engine:
        work = asyncio.ensure_future(agent.execute("hi"))
        await begun.wait()
        [newest] = await engine.session().store.executions(limit=1)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    async with engine:  # by now it is written
        execution = await kept(engine, newest.id)
        assert (execution.state, execution.reason) == ("unpublished", "cancelled")
        assert (await engine.stats()).traces == 0


async def test_a_slow_accept_holds_up_nobody_else(world: World) -> None:
    goes_on = asyncio.Event()

    async def accept(result: Result) -> bool:
        await goes_on.wait()
        return True

    engine, agent = greeter(world, "hello", accept=accept)
    other = world.agent(engine, [], name="other")
    async with engine:
        slow = asyncio.ensure_future(agent.execute("hi"))
        assert (await other.execute("hi")).recorded
        await engine.observe("acl:a", 1)
        assert not slow.done()
        goes_on.set()
        assert (await slow).recorded


async def test_a_program_has_accept_too(world: World) -> None:
    engine = world.engine()

    async def ask(request: Any) -> Any:
        return "bad"

    async def once() -> Result:
        run = engine.run("greet", {"whom": "Ann"}, accept=lambda result: result.output != "bad")
        async with run:
            run.output = (await run.decide({"greet": "her"}, call=ask)).value
        return run.result

    async with engine:
        assert misses(await once()) == ["new task", "not accepted"]
        assert (await once()).mode == "live"


def test_what_is_no_function_and_what_is_no_way_to_publish_is_refused(world: World) -> None:
    engine = world.engine()
    with pytest.raises(AgentError, match="accept=True; give a function"):
        world.agent(engine, [], accept=True)
    with pytest.raises(AgentError, match="publish='later'; use 'auto' or 'manual'"):
        world.agent(engine, [], publish="later")
    with pytest.raises(AgentError, match="the run greet has publish='later'"):
        engine.run("greet", "hi", publish="later")  # type: ignore[arg-type]


# approve ----------------------------------------------------------------------------------


async def test_a_run_that_waits_serves_nobody_until_it_is_approved(world: World) -> None:
    engine, agent = greeter(world, "hello", publish="manual")
    async with engine:
        first = await agent.execute("hi")
        assert (first.output, first.recorded) == ("hello", False)
        assert misses(first)[-1] == "not approved"
        assert first.miss[-1].node == first.execution_id
        assert (await engine.stats()).unapproved == 1
        second, asked, _ = await world.count(agent.execute("hi"))
        assert asked == 1
        assert second.miss[-1].node == first.execution_id, "equal ones wait as one"
        await engine.approve(first.execution_id)
        third, asked, _ = await world.count(agent.execute("hi"))
        assert (third.output, asked) == ("hello", 0)
        stats = await engine.stats()
        assert (stats.unapproved, stats.traces) == (0, 1)


async def test_approving_twice_or_by_an_equal_run_or_a_replay_is_harmless(world: World) -> None:
    engine, agent = greeter(world, "hello", publish="manual")
    async with engine:
        first, second = await agent.execute("hi"), await agent.execute("hi")
        await engine.approve(second.execution_id)
        await engine.approve(first.execution_id)
        replay = await agent.execute("hi")
        assert replay.replayed
        await engine.approve(replay.execution_id)
        assert (await kept(engine, first.execution_id)).state == "published"


async def test_an_accepted_run_waits_if_it_is_to_be_approved(world: World) -> None:
    engine, agent = greeter(
        world, "bad", "good", publish="manual", accept=lambda result: result.output == "good"
    )
    async with engine:
        assert misses(await agent.execute("hi"))[-1] == "not accepted"
        assert misses(await agent.execute("hi"))[-1] == "not approved"


async def test_what_is_approved_is_what_no_change_tore(world: World) -> None:
    engine = world.engine()
    during = ["changed"]

    @engine.tool(effect="read", requires=[Acl("{name}")])
    def read(name: str) -> str:
        """Read."""
        if name == "b" and during:
            document = during.pop()
            world.from_outside(lambda e: e.observe("acl:b", document))
        return f"read {name}"

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) < 2:
            return Answer([call("read", {"name": "ab"[turn(body)]})])
        return Answer([text("done")])

    world.think(brain)
    agent = world.agent(engine, [read], publish="manual")
    async with engine:
        for name in "ab":
            await engine.observe(f"acl:{name}", "first")
        result = await agent.execute("go")
        assert misses(result)[-2:] == ["torn", "not approved"]
        await engine.observe("acl:b", "first")
        await engine.approve(result.execution_id)
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 1, "d1, a and d2 stand before the tear"


async def test_what_cannot_be_approved_is_told_with_what_to_do(world: World) -> None:
    engine, agent = greeter(world, "hello", accept=lambda result: False)
    async with engine:
        refused = await agent.execute("hi")
        for overrule in (False, True):
            told = r"accept= has refused it \(not accepted: deployer\).* mend accept= and run"
            with pytest.raises(NotApprovable, match=told):
                await engine.approve(refused.execution_id, overrule=overrule)
        with pytest.raises(ExecutionUnknown):
            await engine.approve("never heard of")
        world.think(lambda body: Answer([call("nothing", {})]))
        with pytest.raises(RunFailed) as failure:
            await world.agent(engine, [], max_turns=1).execute("fail")
        with pytest.raises(NotApprovable, match="it failed, and has no answer"):
            await engine.approve(failure.value.execution_id)


async def test_a_run_torn_at_its_first_step_cannot_be_approved(world: World) -> None:
    engine = world.engine()
    agent = world.agent(engine, [], requires=[Acl("talk")], publish="manual")

    def brain(body: dict[str, Any]) -> Answer:
        world.from_outside(lambda e: e.observe("acl:talk", "changed"))
        return Answer([text("hello")])

    world.think(brain)
    async with engine:
        await engine.observe("acl:talk", "first")
        torn = await agent.execute("hi")
        assert misses(torn)[-1] == "torn"
        with pytest.raises(NotApprovable, match="a fact changed during its first step"):
            await engine.approve(torn.execution_id)


# reject -----------------------------------------------------------------------------------


async def test_a_rejected_answer_never_comes_back(world: World) -> None:
    engine, agent = greeter(world, "bad", "bad", "good")
    async with engine:
        bad = await agent.execute("hi")
        assert await engine.reject(bad.execution_id, reason="rude") == (bad.execution_id,)
        again = await agent.execute("hi")
        assert (again.output, again.recorded) == ("bad", False), "it was asked, and said so"
        cause = again.miss[-1]
        assert cause.kind is MissKind.REJECTED
        assert "rude" in cause.node
        assert bad.execution_id in cause.node
        good = await agent.execute("hi")
        assert (good.output, good.recorded) == ("good", True)
        served, asked, _ = await world.count(agent.execute("hi"))
        assert (served.output, asked) == ("good", 0)
        assert (await engine.stats()).rejected == 2


async def test_it_does_not_come_back_by_any_process_that_has_it_in_memory(world: World) -> None:
    engine, agent = greeter(world, "bad", "good")
    async with engine:
        bad = await agent.execute("hi")
        assert (await agent.execute("hi")).replayed
        assert (await agent.execute("hi")).replayed, "from memory"
        world.from_outside(lambda e: e.reject(bad.execution_id, reason="rude"))
        result, asked, _ = await world.count(agent.execute("hi"))
        assert (result.output, asked) == ("good", 1)


async def test_it_does_not_come_back_when_a_person_rejects_it_in_another_process(
    world: World,
) -> None:
    engine, agent = greeter(world, "bad", "good")
    async with engine:
        bad = await agent.execute("hi")
        assert (await agent.execute("hi")).replayed
        command = [sys.executable, "-c", "from execgraph.adapters.cli import main; main()"]
        where = ["--store", world.url, "--namespace", world.namespace]
        reject = ["reject", bad.execution_id, "--reason", "rude", *where]
        run = await asyncio.to_thread(subprocess.run, [*command, *reject], check=False)
        assert run.returncode == 0
        result, asked, _ = await world.count(agent.execute("hi"))
        assert (result.output, asked) == ("good", 1)


async def test_it_does_not_come_back_when_facts_do(world: World) -> None:
    engine, agent = greeter(world, "bad", "good", requires=[Acl("talk")])
    async with engine:
        await engine.observe("acl:talk", "first")
        bad = await agent.execute("hi")
        await engine.observe("acl:talk", "second")
        await agent.execute("hi")
        await engine.reject(bad.execution_id, reason="rude")
        await engine.observe("acl:talk", "first")
        result = await agent.execute("hi")
        assert result.output == "good"


async def test_it_does_not_come_back_under_other_facts(world: World) -> None:
    engine, agent = greeter(world, "bad", requires=[Acl("talk")])
    async with engine:
        await engine.observe("acl:talk", "first")
        first = await agent.execute("hi")
        await engine.observe("acl:talk", "second")
        second = await agent.execute("hi")
        assert second.recorded
        rejected = await engine.reject(first.execution_id, reason="rude")
        assert rejected == (first.execution_id, second.execution_id)
        _, asked, _ = await world.count(agent.execute("hi"))
        assert asked == 1
        await engine.observe("acl:talk", "third")
        assert misses(await agent.execute("hi"))[-1] == "rejected"


async def test_it_does_not_come_back_after_the_harshest_collection(world: World) -> None:
    engine, agent = greeter(world, "bad")
    async with engine:
        bad = await agent.execute("hi")
        await agent.execute("hi")
        await engine.reject(bad.execution_id, reason="rude")
        await engine.collect(HARSHEST)
        again, asked, _ = await world.count(agent.execute("hi"))
        assert (asked, again.recorded) == (1, False)
        assert "rude" in again.miss[-1].node
        await engine.collect(HARSHEST)
        _, asked, _ = await world.count(agent.execute("hi"))
        assert asked == 1


async def test_of_a_replay_what_it_replayed_is_rejected(world: World) -> None:
    engine, agent = greeter(world, "bad", "good")
    async with engine:
        bad = await agent.execute("hi")
        replay = await agent.execute("hi")
        assert replay.replayed
        assert await engine.reject(replay.execution_id, reason="rude") == (bad.execution_id,)
        assert (await agent.execute("hi")).output == "good"


async def test_of_a_replay_whose_recording_is_gone_nothing_is_decided(world: World) -> None:
    engine, agent = greeter(world, "fine")
    async with engine:
        first = await agent.execute("hi")
        replay = await agent.execute("hi")
        await engine.settle()
        await engine.session().store.unpublish(first.execution_id, "gone")
        await engine.collect(Retention(history=1, grace=timedelta(0)))
        for decide in (engine.approve, partial(engine.reject, reason="rude")):
            with pytest.raises((NotApprovable, NotRejectable), match="no longer kept"):
                await decide(replay.execution_id)


async def test_nothing_is_no_beginning_of_an_id(world: World) -> None:
    engine, agent = greeter(world, "fine")
    async with engine:
        await agent.execute("hi")
        for ask in (engine.approve, partial(engine.reject, reason="rude"), engine.why):
            with pytest.raises(ExecutionUnknown):
                await ask("")


async def test_what_waits_can_be_rejected(world: World) -> None:
    engine, agent = greeter(world, "bad", publish="manual")
    async with engine:
        bad = await agent.execute("hi")
        await engine.reject(bad.execution_id, reason="rude")
        with pytest.raises(NotApprovable, match=r"it was rejected \(rude\).*overrule=True"):
            await engine.approve(bad.execution_id)
        assert misses(await agent.execute("hi"))[-1] == "rejected"


async def test_a_rejection_is_lifted_by_who_says_so(world: World) -> None:
    engine, agent = greeter(world, "fine")
    async with engine:
        first = await agent.execute("hi")
        await engine.reject(first.execution_id, reason="by mistake")
        copy = await agent.execute("hi")
        with pytest.raises(NotApprovable, match="by mistake"):
            await engine.approve(copy.execution_id)
        await engine.approve(copy.execution_id, overrule=True)
        served, asked, _ = await world.count(agent.execute("hi"))
        assert (served.output, asked) == ("fine", 0)


async def test_what_has_no_answer_or_no_reason_is_not_rejected(world: World) -> None:
    engine, agent = greeter(world, "hello")
    async with engine:
        result = await agent.execute("hi")
        with pytest.raises(NotRejectable, match="a reason is missing"):
            await engine.reject(result.execution_id, reason=" ")
        with pytest.raises(ExecutionUnknown):
            await engine.reject("never heard of", reason="rude")
        world.think(lambda body: Answer([call("nothing", {})]))
        with pytest.raises(RunFailed) as failure:
            await world.agent(engine, [], max_turns=1).execute("fail")
        with pytest.raises(NotRejectable, match="it failed, and has no answer"):
            await engine.reject(failure.value.execution_id, reason="rude")


async def test_a_trace_goes_on_that_shares_earlier_steps_only(world: World) -> None:
    engine = world.engine()
    weather = ["rain"]

    @engine.tool(effect="read")
    def look() -> str:
        """Look."""
        return weather[0]

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("look", {})])
        return Answer([text(f"it is {results(body)[0]}")])

    world.think(brain)
    agent = world.agent(engine, [look])
    async with engine:
        rain = await agent.execute("go")
        weather[:] = ["sun"]
        sun, asked, _ = await world.count(agent.execute("go"))
        assert (sun.recorded, asked) == (True, 1)
        assert await engine.reject(rain.execution_id, reason="wrong") == (rain.execution_id,)
        served, asked, _ = await world.count(agent.execute("go"))
        assert (served.output, asked) == ("it is sun", 0)


# A run under way --------------------------------------------------------------------------


def deployer(world: World, engine: Engine, during: list[Callable[[], None]]) -> Agent:
    """Looks, deploys, and says so; ``during`` is done once, in the look."""

    @engine.tool(effect="read")
    def look() -> str:
        """Look."""
        if during:
            during.pop()()
        return "fine"

    @engine.tool(effect="write", requires=[])
    def deploy(to: str) -> str:
        """Deploy."""
        world.done.append(to)
        return f"deployed to {to}"

    def brain(body: dict[str, Any]) -> Answer:
        steps = [call("look", {}), call("deploy", {"to": world.targets[0]})]  # type: ignore[attr-defined]
        return Answer([steps[turn(body)]] if turn(body) < 2 else [text("deployed")])

    world.think(brain)
    return world.agent(engine, [look, deploy])


async def test_no_effect_begins_once_what_serves_the_run_is_rejected(world: World) -> None:
    world.targets = ["eu"]  # type: ignore[attr-defined]
    engine = world.engine()
    during: list[Callable[[], None]] = []
    agent = deployer(world, engine, during)
    async with engine:
        bad = await agent.execute("go")
        world.targets = ["us"]  # type: ignore[attr-defined]
        during.append(
            lambda: world.from_outside(lambda e: e.reject(bad.execution_id, reason="wrong region"))
        )
        result, asked, done = await world.count(agent.execute("go"))
        assert done == ["us"], "it was decided anew"
        assert asked == 3
        assert misses(result)[0] == "rejected"
        assert "wrong region" in result.miss[0].node
        assert result.recorded
        _, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (0, ["us"])


async def test_a_run_goes_on_unpublished_if_it_has_acted_before(world: World) -> None:
    engine = world.engine()
    during: list[Callable[[], None]] = []

    @engine.tool(effect="write", requires=[])
    def deploy(to: str) -> str:
        """Deploy."""
        world.done.append(to)
        if to == "eu" and during:
            during.pop()()
        return f"deployed to {to}"

    def brain(body: dict[str, Any]) -> Answer:
        steps = [call("deploy", {"to": "eu"}), call("deploy", {"to": "us"})]
        return Answer([steps[turn(body)]] if turn(body) < 2 else [text("deployed")])

    world.think(brain)
    agent = world.agent(engine, [deploy])
    async with engine:
        bad = await agent.execute("go")
        during.append(
            lambda: world.from_outside(lambda e: e.reject(bad.execution_id, reason="wrong"))
        )
        result, asked, done = await world.count(agent.execute("go"))
        assert done == ["eu", "us"], "the second by a decision that was asked"
        assert asked == 2
        assert not result.recorded
        assert "rejected" in misses(result)


async def test_a_programs_write_is_refused_when_what_chose_it_is_rejected(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="write", requires=[])
    def deploy(to: str) -> str:
        """Deploy."""
        world.done.append(to)
        return f"deployed to {to}"

    async def ask(request: Any) -> Any:
        return "eu"

    async def once(between: Callable[[], None] = lambda: None) -> Result:
        async with engine.run("deploy", {"what": "checkout"}) as run:
            where = await run.decide({"where": "to"}, call=ask)
            await asyncio.to_thread(between)
            run.output = (await run.act(deploy, to=where)).value
        return run.result

    async with engine:
        bad = await once()
        world.done.clear()
        reject = lambda e: e.reject(bad.execution_id, reason="wrong")  # noqa: E731
        with pytest.raises(PreconditionChanged, match="rejected"):
            await once(lambda: world.from_outside(reject))
        assert world.done == []


async def test_a_rejection_by_another_process_meets_the_end_of_a_run(world: World) -> None:
    """What follows a trace to its end while that is rejected is a replay of it, and no trace."""
    engine = world.engine()
    during: list[Callable[[], None]] = []

    @engine.tool(effect="read")
    def look() -> str:
        """Look."""
        if during:
            during.pop()()
        return "fine"

    world.think(
        lambda body: Answer([call("look", {})] if turn(body) == 0 else [text("all is fine")])
    )
    agent = world.agent(engine, [look])
    async with engine:
        bad = await agent.execute("go")
        during.append(
            lambda: world.from_outside(lambda e: e.reject(bad.execution_id, reason="wrong"))
        )
        assert (await agent.execute("go")).output == "all is fine"
        again, asked, _ = await world.count(agent.execute("go"))
        assert (asked, again.recorded) == (2, False)


def test_the_sync_face_approves_and_rejects(world: World) -> None:
    world.think(says("hello"))
    engine = world.engine()
    agent = world.agent(engine, [], publish="manual", accept=lambda result: True)
    with engine.sync() as e:
        result = e.agent(agent).execute("hi")
        e.approve(result.execution_id)
        assert e.agent(agent).execute("hi").replayed
        assert e.reject(result.execution_id, reason="rude") == (result.execution_id,)
        assert not e.agent(agent).execute("hi").replayed
