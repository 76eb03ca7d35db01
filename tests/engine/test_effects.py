"""No stale effect (I5): facts are checked right before it, in every window there is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import pytest

from execgraph import (
    Acl,
    Agent,
    DeploymentTarget,
    Engine,
    IdempotencyKey,
    PreconditionChanged,
    RunFailed,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.graphstore.facts import Expected
from execgraph.graphstore.model import SideEffect
from execgraph.graphstore.store import GraphStore
from execgraph.tests.models import MODEL

from .conftest import World, misses, outcomes, results, turn

REFUSED = "precondition changed, not executed"


def deploy_once(body: dict[str, Any]) -> Answer:
    if turn(body) == 0:
        return Answer([call("deploy", {"target": "eu"})])
    return Answer([text(f"said: {results(body)[-1]}")])


def deployer(
    world: World, before: Callable[[], None] = lambda: None
) -> tuple[Engine, Agent, dict[str, str]]:
    """An agent with one write; ``before`` happens inside the tool."""
    world.think(deploy_once)
    engine = world.engine()
    keys: dict[str, str] = {}

    @engine.tool(effect="write", requires=[Acl("deploy"), DeploymentTarget("{target}")])
    async def deploy(target: str, *, key: Annotated[str, IdempotencyKey]) -> str:
        """Deploy."""
        before()
        world.done.append(f"deploy {target}")
        keys[f"{len(keys)}"] = key
        return "deployed"

    return engine, world.agent(engine, [deploy]), keys


async def allow(engine: Engine) -> None:
    await engine.observe("acl:deploy", {"allow": True})
    await engine.observe("target:eu", {"host": "a"})


def once(change: Callable[[Any], Any], world: World) -> Callable[[], None]:
    """Change facts from outside, the first time it is called."""
    left = [change]

    def happen() -> None:
        if left:
            world.from_outside(left.pop())

    return happen


def right_before_an_effect(
    store: GraphStore, happen: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let something happen in the last moment before the facts are checked."""
    intend = store.intend

    async def late(
        effect: SideEffect, expected: Sequence[Expected], **wish: Any
    ) -> SideEffect | None:
        await asyncio.to_thread(happen)
        return await intend(effect, expected, **wish)

    monkeypatch.setattr(store, "intend", late)


async def test_a_rule_tightened_while_the_model_thinks_makes_it_decide_again(
    world: World,
) -> None:
    engine, agent, _ = deployer(world)
    tighten = once(lambda e: e.observe("acl:deploy", {"allow": False}), world)

    def brain(body: dict[str, Any]) -> Answer:
        tighten()
        return deploy_once(body)

    world.think(brain)
    async with engine:
        await allow(engine)
        result, asked, done = await world.count(agent.execute("go"))
        assert asked == 3, "the decision, the same again under the new rule, and the answer"
        assert done == ["deploy eu"]
        assert outcomes(result) == [("?", "asked"), ("deploy", "executed"), ("?", "asked")]
        assert result.tokens > sum(step.tokens for step in result.steps), "both were paid"
        assert result.recorded
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 0


async def test_a_target_moved_between_reply_and_effect_makes_it_decide_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, agent, _ = deployer(world)
    move = once(lambda e: e.observe("target:eu", {"host": "b"}), world)
    async with engine:
        await allow(engine)
        store = engine.session().store
        right_before_an_effect(store, move, monkeypatch)
        _, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (3, ["deploy eu"])
        event, *_ = await store.changes(resource="target:eu")
        assert event.to_version == 2


async def test_a_fact_that_never_rests_refuses_the_effect_and_nothing_is_published(
    world: World,
) -> None:
    engine, agent, _ = deployer(world)
    flips = iter(range(100))

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            rule = next(flips)
            world.from_outside(lambda e: e.observe("acl:deploy", {"allow": rule}))
        return deploy_once(body)

    world.think(brain)
    async with engine:
        await allow(engine)
        result, asked, done = await world.count(agent.execute("go"))
        assert asked == 4, "asked, twice again, and the ending"
        assert done == []
        assert result.output == f"said: {REFUSED}"
        assert outcomes(result)[1] == ("deploy", "refused")
        assert not result.recorded
        assert result.effects == ()
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked > 0


async def test_a_served_write_is_checked_again_when_its_fact_moves_after_the_lookup(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, agent, _ = deployer(world)
    async with engine:
        await allow(engine)
        await agent.execute("go")
        tighten = once(lambda e: e.observe("acl:deploy", {"allow": False}), world)
        store = engine.session().store
        right_before_an_effect(store, tighten, monkeypatch)

        def refuse(body: dict[str, Any]) -> Answer:
            return Answer([text("no longer allowed")])

        world.think(refuse)
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (1, [])
        assert result.output == "no longer allowed"
        assert outcomes(result) == [("?", "asked")]
        assert misses(result) == ["precondition changed"]
        again, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, again.output) == (0, [], "no longer allowed")
        await engine.observe("acl:deploy", {"allow": True})
        _, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (0, ["deploy eu"])


async def test_a_change_of_another_facet_right_before_the_effect_does_not_stop_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.think(deploy_once)
    engine = world.engine()

    @engine.tool(effect="write", requires=[Acl("deploy", "$.allow")])
    def deploy(target: str) -> str:
        """Deploy."""
        world.done.append("deploy")
        return "deployed"

    agent = world.agent(engine, [deploy])
    async with engine:
        await engine.observe("acl:deploy", {"allow": True, "note": 1})
        await agent.execute("go")
        note = once(lambda e: e.observe("acl:deploy", {"allow": True, "note": 2}), world)
        store = engine.session().store
        right_before_an_effect(store, note, monkeypatch)
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, result.identical) == (0, ["deploy"], True)


async def test_of_two_writes_the_second_is_refused_when_its_fact_moves_after_the_first(
    world: World,
) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("one", {}), call("two", {})])
        return Answer([text(str(results(body)))])

    world.think(brain)
    engine = world.engine()
    moving = once(lambda e: e.observe("acl:two", "changed"), world)
    async with engine:
        await engine.observe("acl:one", "ok")
        await engine.observe("acl:two", "ok")
        store = engine.session().store
        intend = store.intend
        begun: list[str] = []

        async def watched(effect: Any, expected: Any, **wish: Any) -> SideEffect | None:
            if begun:
                await asyncio.to_thread(moving)
            begun.append(effect.tool)
            return await intend(effect, expected, **wish)

        store.intend = watched  # type: ignore[method-assign]

        @engine.tool(effect="write", requires=[Acl("one")])
        def one() -> str:
            """One."""
            world.done.append("one")
            return "did one"

        @engine.tool(effect="write", requires=[Acl("two")])
        def two() -> str:
            """Two."""
            world.done.append("two")
            return "did two"

        agent = world.agent(engine, [one, two])
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done) == (2, ["one"])
        assert result.output == str(["did one", REFUSED])
        assert [step.outcome for step in result.steps[1:3]] == ["executed", "refused"]
        assert not result.recorded
        assert misses(result)[-1] == "precondition changed"


async def test_effects_are_kept_as_nodes_intended_then_done(world: World) -> None:
    engine, agent, keys = deployer(world)
    async with engine:
        await allow(engine)
        first = await agent.execute("go")
        second = await agent.execute("go")
        await engine.settle()
        store = engine.session().store
        [recorded] = await store.effects(first.execution_id)
        [replayed] = await store.effects(second.execution_id)
        assert (recorded.tool, recorded.state, recorded.target) == (
            "deploy",
            "done",
            '{"target":"eu"}',
        )
        assert replayed.state == "done"
        assert recorded.step == replayed.step == f"{first.execution_id}/1"
        assert list(keys.values()) == [recorded.idempotency_key, replayed.idempotency_key]
        assert recorded.idempotency_key != replayed.idempotency_key


async def test_an_effect_that_raises_is_in_doubt_and_the_model_is_told(world: World) -> None:
    def boom() -> None:
        raise TimeoutError("no answer from the target")

    engine, agent, _ = deployer(world, boom)
    async with engine:
        await allow(engine)
        result = await agent.execute("go")
        assert result.output == "said: TimeoutError: no answer from the target"
        assert [effect.state for effect in result.effects] == ["intended"]
        assert result.steps[1].error
        again, asked, _ = await world.count(agent.execute("go"))
        assert asked == 0, "the same error again is the same output"
        assert again.steps[1].outcome == "replayed"


async def test_an_error_output_is_never_reused(world: World) -> None:
    world.think(
        lambda body: Answer(
            [text(f"said: {results(body)[-1]}")] if turn(body) else [call("compute", {})]
        )
    )
    engine = world.engine()
    fails = [True]

    @engine.tool(effect="pure")
    def compute() -> int:
        """Compute."""
        world.done.append("compute")
        if fails.pop():
            fails.append(False)
            raise ValueError("not yet")
        fails.append(False)
        return 7

    agent = world.agent(engine, [compute])
    async with engine:
        first = await agent.execute("go")
        assert first.output == "said: ValueError: not yet"
        second, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, second.output) == (1, ["compute"], "said: 7")


async def test_a_failed_run_says_what_it_did_and_publishes_nothing(world: World) -> None:
    engine, agent, _ = deployer(world)

    def brain(body: dict[str, Any]) -> Answer:
        if turn(body) == 0:
            return Answer([call("deploy", {"target": "eu"})])
        raise LookupError("the model is down")

    world.think(brain)
    async with engine:
        await allow(engine)
        with pytest.raises(RunFailed, match="deployer failed") as failure:
            await agent.execute("go")
        assert [effect.tool for effect in failure.value.effects] == ["deploy"]
        assert not failure.value.safe_to_retry
        kept = await engine.session().store.execution(failure.value.execution_id)
        assert kept is not None
        assert kept.execution.state == "failed"
        assert [step.kind for step in kept.steps] == ["decision", "action"]
        world.think(deploy_once)
        _, asked, _ = await world.count(agent.execute("go"))
        assert asked == 1, "what was decided before the model was down is served"


async def test_a_program_is_told_that_its_effect_was_refused(world: World) -> None:
    engine, _agent, _ = deployer(world)
    deploy = engine.tools["deploy"]
    world.think(lambda body: Answer([text("deploy it")]))
    request = {
        "model": MODEL,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "what shall I do?"}],
        "tools": [{"name": "deploy", "description": "Deploy.", "input_schema": deploy.schema}],
    }
    async with engine:
        await allow(engine)

        async def program() -> None:
            async with engine.run("triage", "go", client=world.client) as run:
                assert (await run.decide(request)).value
                await engine.observe("acl:deploy", {"allow": False})
                await run.act(deploy, target="eu")

        with pytest.raises(PreconditionChanged, match="acl:deploy"):
            await program()
        assert world.done == []
