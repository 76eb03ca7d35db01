"""What is to happen once happens at most once, whatever else has changed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from execgraph import (
    Acl,
    Agent,
    ConfigurationError,
    EffectInDoubt,
    EffectUnknown,
    Engine,
    Json,
    NotPerformed,
    Opaque,
    RunFailed,
    ToolError,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.effects import once
from execgraph.graphstore.model import EffectState
from execgraph.graphstore.retention import Retention

from .conftest import World, outcomes, results, turn

REFUND: dict[str, Json] = {"invoice": "i-1", "cents": 500}


class Receipt(BaseModel):
    """What a refund gives."""

    id: Annotated[str, Opaque]
    cents: int


def refunder(world: World, **declared: Any) -> tuple[Engine, Agent]:
    """An agent that refunds what its task says."""
    engine = world.engine()

    def refund(invoice: str, cents: int) -> dict[str, Any]:
        """Give money back."""
        world.done.append(f"refund {invoice} {cents}")
        return {"receipt": len(world.done), "cents": cents}

    tool = engine.tool(refund, effect="once", **{"requires": [Acl("refund")], **declared})

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("refund", asked_for(body))])
        return Answer([text(f"said: {results(body)[-1]}")])

    world.think(brain)
    return engine, world.agent(engine, [tool])


def asked_for(body: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the task names."""
    content = body["messages"][0]["content"]
    told = content if isinstance(content, str) else content[0]["text"]
    asked: dict[str, Any] = {**REFUND, **json.loads(told)}
    return {name: asked[name] for name in REFUND}


async def test_a_replay_does_not_do_it_again(world: World) -> None:
    engine, agent = refunder(world)
    async with engine:
        await engine.observe("acl:refund", 1)
        first, _, done = await world.count(agent.execute(REFUND))
        assert done == ["refund i-1 500"]
        assert [(it.state, it.reused) for it in first.effects] == [("done", False)]
        again, asked, done = await world.count(agent.execute(REFUND))
        assert (asked, done) == (0, [])
        assert outcomes(again) == [("?", "replayed"), ("refund", "reused"), ("?", "replayed")]
        assert again.output == first.output
        assert again.identical


async def test_nor_under_new_facts_or_new_code_or_by_itself(world: World) -> None:
    engine, agent = refunder(world)
    async with engine:
        await engine.observe("acl:refund", 1)
        first, *_ = await world.count(agent.execute(REFUND))
        await engine.observe("acl:refund", 2)
        again, asked, done = await world.count(agent.execute(REFUND))
        assert (asked, done) == (1, []), "the decision rests on the rule; what was done is done"
        assert [(it.state, it.reused) for it in again.effects] == [("done", True)]
        assert again.output == first.output
        anew, asked, done = await world.count(agent.execute(REFUND, replay=False))
        assert (asked, done) == (2, []), "also if nothing is served"
        assert anew.output == first.output
    engine, agent = refunder(world, requires=[], version="2")
    async with engine:
        other, asked, done = await world.count(agent.execute(REFUND))
        assert (asked, done) == (1, []), "in another process, by other code"
        assert other.output == first.output


async def test_other_arguments_and_other_tasks_are_other_effects(world: World) -> None:
    engine, agent = refunder(world, requires=[])
    async with engine:
        for task in (REFUND, {**REFUND, "cents": 1}, {**REFUND, "why": "another task"}):
            _, _, done = await world.count(agent.execute(task))
            assert len(done) == 1


async def test_once_per_tells_effects_apart(world: World) -> None:
    engine, agent = refunder(world, requires=[], once_per="{invoice}")
    async with engine:
        first, _, done = await world.count(agent.execute({**REFUND, "n": 1}))
        assert done == ["refund i-1 500"]
        again, _, done = await world.count(agent.execute({**REFUND, "n": 2}))
        assert done == [], "another task, the same invoice"
        assert again.output == first.output
        other, _, done = await world.count(agent.execute({**REFUND, "cents": 501}))
        assert done == []
        assert "its effect is to happen once, and was begun with other arguments" in other.output
        _, _, done = await world.count(agent.execute({**REFUND, "invoice": "i-2"}))
        assert done == ["refund i-2 500"]


async def test_once_per_takes_inputs_of_the_task(world: World) -> None:
    engine, agent = refunder(world, requires=[], once_per="{task.order}")
    async with engine:
        done = [
            (await world.count(agent.execute({**REFUND, "order": order, "n": n})))[2]
            for n, order in enumerate(("a", "a", "b"))
        ]
    assert done == [["refund i-1 500"], [], ["refund i-1 500"]]


async def test_equal_calls_of_one_run_are_several_effects(world: World) -> None:
    engine, agent = refunder(world, requires=[])
    world.think(
        lambda body: Answer([call("refund", REFUND)]) if turn(body) < 2 else Answer([text("both")])
    )
    async with engine:
        for expected in (2, 0):
            _, _, done = await world.count(agent.execute("twice"))
            assert len(done) == expected


async def test_a_tool_that_raises_leaves_it_in_doubt(world: World) -> None:
    engine = world.engine()
    fails = [True]

    @engine.tool(effect="once", requires=[])
    def refund(invoice: str) -> str:
        """Give money back."""
        world.done.append(invoice)
        if fails:
            raise TimeoutError("no answer")
        return "refunded"

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) < 2:
            return Answer([call("refund", {"invoice": "i-1"})])
        return Answer([text(f"said: {results(body)}")])

    world.think(brain)
    agent = world.agent(engine, [refund])
    async with engine:
        result, _, done = await world.count(agent.execute("go"))
        assert done == ["i-1"], "a model that repeats the call does not repeat the effect"
        assert "TimeoutError: no answer" in result.output
        assert "may have done what it does" in result.output
        [effect] = result.effects
        assert effect.state is EffectState.INTENDED
        fails.clear()
        with pytest.raises(RunFailed, match="is not known to have ended") as raised:
            await agent.execute("go")
        assert isinstance(raised.value.__cause__, EffectInDoubt)
        assert [it.id for it in raised.value.in_doubt] == [effect.id]
        assert not raised.value.safe_to_retry
        assert world.done == ["i-1"]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "PAUSES", (0.01, 0.01))


async def in_doubt(world: World) -> tuple[Engine, Agent, str]:
    """An agent whose effect was begun by a run that was killed."""
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    async def refund(invoice: str) -> str:
        """Give money back."""
        world.done.append(invoice)
        if len(world.done) == 1:
            await asyncio.Event().wait()
        return f"refunded {invoice}"

    world.think(
        lambda body: (
            Answer([call("refund", {"invoice": "i-1"})])
            if turn(body) == 0
            else Answer([text(results(body)[-1])])
        )
    )
    agent = world.agent(engine, [refund])
    async with engine:
        await cancelled_at_work(world, agent.execute("go"))
        [effect] = await engine.session().store.doubts()
    return engine, agent, effect.id


async def cancelled_at_work(world: World, wanted: Coroutine[Any, Any, object]) -> None:
    """Have a run cancelled while its tool is at work."""
    run = asyncio.ensure_future(wanted)
    while not world.done:  # noqa: ASYNC110  (seen from outside)
        await asyncio.sleep(0.01)
    run.cancel()
    await asyncio.wait({run})
    assert run.cancelled()


async def test_what_is_resolved_as_done_gives_what_a_person_says(world: World) -> None:
    engine, agent, effect = await in_doubt(world)
    async with engine:
        with pytest.raises(RunFailed, match=f"`execgraph resolve {effect} --done --store "):
            await agent.execute("go")
        resolved = await engine.resolve(effect, done=True, output="refunded by hand")
        assert resolved.state is EffectState.DONE
        result = await agent.execute("go")
        assert result.output == "refunded by hand"
        assert world.done == ["i-1"]
        assert await engine.resolve(effect, done=True) == await engine.session().store.effect(
            effect
        ), "saying it again changes nothing"
        with pytest.raises(ConfigurationError, match="is no longer in doubt: it is done"):
            await engine.resolve(effect, done=False)
        with pytest.raises(EffectUnknown):
            await engine.resolve("unknown", done=True)


async def test_what_is_resolved_as_not_done_happens(world: World) -> None:
    engine, agent, effect = await in_doubt(world)
    async with engine:
        await engine.resolve(effect, done=False)
        result = await agent.execute("go")
        assert result.output == "refunded i-1"
        assert world.done == ["i-1", "i-1"]
        assert await engine.session().store.doubts() == []
        with pytest.raises(ConfigurationError, match="is no longer in doubt: it is not performed"):
            await engine.resolve(effect, done=True)


async def test_the_beginning_of_an_effects_id_is_enough_if_no_other_begins_so(
    world: World,
) -> None:
    engine, _, effect = await in_doubt(world)
    async with engine:
        store = engine.session().store
        found = await store.effect(effect)
        assert found is not None
        other = found.model_copy(update={"id": f"{effect[:-1]}x", "execution": "other"})
        await store.intend(other.model_copy(update={"once": None}), [])
        for several in (effect[:-1], effect[:6]):
            with pytest.raises(ConfigurationError, match="beginning of several"):
                await engine.resolve(several, done=True)
        with pytest.raises(EffectUnknown):
            await engine.resolve("", done=True)
        assert len(await store.doubts()) == 2, "nothing was resolved"
        resolved = await engine.resolve(other.id, done=False)
        assert resolved.id == other.id
    async with world.engine(namespace=f"{world.namespace}-b") as alone:
        store = alone.session().store
        await store.intend(found.model_copy(update={"once": None}), [])
        assert (await alone.resolve(effect[:9], done=True)).id == effect


async def test_the_command_resolves(world: World) -> None:
    if world.url.startswith("neo4j"):
        pytest.skip("the command is the same")
    _, _, effect = await in_doubt(world)
    command = [str(Path(sys.executable).parent / "execgraph"), "resolve", effect]
    where = ["--store", world.url, "--namespace", world.namespace]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more, *where], capture_output=True, text=True, check=False
        )

    assert run().returncode == 2, "it has to be said"
    assert run("--not-done", "--output", "1").returncode == 2
    assert run("--done", "--output", "{").returncode == 2
    told = run("--done", "--output", '"by hand"', "--json")
    assert json.loads(told.stdout) == {"effect": effect, "tool": "refund", "state": "done"}
    assert run("--not-done").returncode == 2


async def test_not_performed_lets_it_be_tried_again(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[], once_per="{invoice}")
    def refund(invoice: str) -> str:
        """Give money back."""
        world.done.append(invoice)
        if len(world.done) == 1:
            raise NotPerformed("the till is closed")
        return "refunded"

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) < 2:
            return Answer([call("refund", {"invoice": "i-1"})])
        return Answer([text(f"said: {results(body)}")])

    world.think(brain)
    agent = world.agent(engine, [refund])
    async with engine:
        result = await agent.execute("go")
        assert result.output == "said: ['NotPerformed: the till is closed', 'refunded']"
        assert [str(it.state) for it in result.effects] == ["not performed", "done"]
        assert await engine.session().store.doubts() == []
        again, _, done = await world.count(agent.execute("go"))
        assert again.output == "said: ['refunded', 'refunded']"
        assert done == []


async def test_callers_at_once_do_it_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refund(invoice: str) -> str:
        """Give money back."""
        world.done.append(invoice)
        await asyncio.sleep(0.05)
        return "refunded"

    monkeypatch.setattr(once, "PAUSES", (0.1,) * 100)
    engine, other = world.engine(), world.engine()
    for each in (engine, other):
        each.tool(refund, effect="once", requires=[], once_per="{invoice}")
    async with engine, other:

        async def pay(number: int) -> Any:
            where = engine if number % 2 else other
            async with where.run("pay", {"number": number}) as run:
                return (await run.act(where.tools["refund"], invoice="i-1")).value

        assert await asyncio.gather(*(pay(n) for n in range(12))) == ["refunded"] * 12
    assert world.done == ["i-1"]


async def test_a_program_gets_what_was_given(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    def refund(invoice: str) -> Receipt:
        """Give money back."""
        world.done.append(invoice)
        return Receipt(id=f"r-{len(world.done)}", cents=5)

    async with engine:
        for n in range(3):
            async with engine.run("pay", {"invoice": "i-1"}, replay=n < 2) as run:
                assert (await run.act(refund, invoice="i-1")).value == Receipt(id="r-1", cents=5)
    assert world.done == ["i-1"]


async def test_a_program_is_told_that_it_is_in_doubt(world: World) -> None:
    engine, _, effect = await in_doubt(world)
    refund = engine.tools["refund"]
    async with engine:
        await engine.resolve(effect, done=False)
        world.done.clear()

        async def pay() -> None:
            async with engine.run("pay", {"n": 1}) as run:
                await run.act(refund, invoice="i-1")

        await cancelled_at_work(world, pay())
        with pytest.raises(EffectInDoubt):
            await pay()
    assert world.done == ["i-1"]


async def test_opaque_values_tell_effects_apart(world: World) -> None:
    engine = world.engine()

    @engine.tool(effect="once", requires=[])
    def close(ticket: str) -> str:
        """Close a ticket."""
        world.done.append(ticket)
        return "closed"

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            told = body["messages"][0]["content"]
            told = told if isinstance(told, str) else told[0]["text"]
            return Answer([call("close", {"ticket": json.loads(told)["ticket"]})])
        return Answer([text("done")])

    world.think(brain)
    agent = world.agent(engine, [close], opaque=["$.ticket"])
    async with engine:
        for ticket, asked, done in (("t-1", 2, ["t-1"]), ("t-2", 0, ["t-2"]), ("t-1", 0, [])):
            _, *found = await world.count(agent.execute({"ticket": ticket}))
            assert found == [asked, done]


async def test_it_outlives_everything_that_is_collected(world: World) -> None:
    engine, agent = refunder(world, requires=[], once_per="{invoice}")
    async with engine:
        first = await agent.execute(REFUND)
        store = engine.session().store
        await store.unpublish(first.execution_id, "enough")
        await engine.collect(Retention(max_age=None, history=0, max_bytes=1))
        _, _, done = await world.count(agent.execute({**REFUND, "n": 2}))
        assert done == []
        rows = await engine.cypher(
            "MATCH (e:Execution)-[:PERFORMED]->(f:SideEffect {namespace: $namespace})"
            " RETURN f.state AS state, f.tool AS tool"
        )
        assert [dict(row) for row in rows] == [{"state": "done", "tool": "refund"}]


async def test_while_the_store_is_away_it_does_not_begin(world: World) -> None:
    engine = world.engine(on_store_error="live")

    @engine.tool(effect="once", requires=[])
    def refund(invoice: str) -> str:
        """Give money back."""
        world.done.append(invoice)
        return "refunded"

    world.think(
        lambda body: (
            Answer([call("refund", {"invoice": "i"})]) if turn(body) == 0 else Answer([text("ok")])
        )
    )
    agent = world.agent(engine, [refund])
    async with engine:
        store = engine.session().store

        async def gone(*_: Any, **__: Any) -> Any:
            from execgraph import StoreUnavailable

            raise StoreUnavailable("gone")

        for name in ("intend", "lookup", "incarnation", "ping"):
            setattr(store, name, gone)
        with pytest.raises(RunFailed, match="gone"):
            await agent.execute("go")
    assert world.done == []


def test_what_tells_nothing_apart_is_refused() -> None:
    engine = Engine("sqlite:///unused.db")

    def pay(invoice: str) -> str:
        """Pay."""
        return invoice

    with pytest.raises(ToolError, match="performed once for ever"):
        engine.tool(effect="once", requires=[], once_per="invoice")(pay)
    with pytest.raises(
        ConfigurationError, match=r"^once_per='\{order\}' of .* is no argument of it"
    ):
        engine.tool(effect="once", requires=[], once_per="{order}")(pay)
    with pytest.raises(ConfigurationError, match=r"the braces in once_per='\{in voice\}' name "):
        engine.tool(effect="once", requires=[], once_per="{in voice}")(pay)
    with pytest.raises(ToolError, match="leave it out or change the effect"):
        engine.tool(effect="write", requires=[], once_per="{invoice}")(pay)
    with pytest.raises(ToolError, match=r"it has the effect once.*state requires="):
        engine.tool(effect="once")(pay)
