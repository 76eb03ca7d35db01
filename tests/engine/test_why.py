"""What became of each step of a run, and the change that was behind it."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from execgraph import Acl, Engine, RunFailed
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.asking.diff import Diff
from execgraph.engine.asking.why import Why, WhyMiss
from execgraph.engine.errors import ExecutionUnknown
from execgraph.graphstore.canonical import Json
from execgraph.graphstore.model import ChangeKind, Mode, Replay

from .conftest import World, outcomes, turn
from .test_replay import TASK, example, observe_both


def fates(why: Why) -> list[str]:
    return [str(step.fate) for step in why.steps]


async def test_a_recorded_run_says_that_all_of_it_was_new(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first = await agent.execute(TASK)
        why = await engine.why(first.execution_id)
        assert why.execution.id == first.execution_id
        assert fates(why) == ["asked", "executed"] * 3 + ["asked"]
        assert [step.tokens for step in why.steps] == [step.tokens for step in first.steps]
        assert [str(miss.cause.kind) for miss in why.misses] == ["new task"]
        assert all(miss.change is None for miss in why.misses)
        assert [step.step for step in why.steps] == [f"{first.execution_id}/{n}" for n in range(7)]


async def test_a_plain_replay_is_told_by_the_trace_it_replayed(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first = await agent.execute(TASK)
        second = await agent.execute(TASK)
        why = await engine.why(second.execution_id)
        assert why.execution.report is None, "nothing is written for it"
        assert why.execution.miss == ()
        assert fates(why) == ["served", "run again"] * 3 + ["served"]
        assert [(it.name, str(it.outcome)) for it in why.steps if it.kind == "action"] == [
            it for it in outcomes(second) if it[0] != "?"
        ]
        assert sum(step.saved_tokens for step in why.steps) == first.tokens
        assert (why.misses, why.hint) == ((), None)
        assert why.steps[0].step == f"{first.execution_id}/0"


async def test_a_step_that_was_asked_names_the_change_the_facet_and_both_fingerprints(
    world: World,
) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.observe("acl:two", {"rule": 1, "comment": "not looked at"})
        event = await engine.observe("acl:two", {"rule": 2, "comment": "none"})
        assert event is not None
        result = await agent.execute(TASK)
        await engine.observe("acl:two", {"rule": 3})
        why = await engine.why(result.execution_id)
        told = result.steps
        assert fates(why) == [
            *("served", "run again") * 2,
            *("asked", "run again", "served"),
        ]
        assert why.steps[4].tokens == told[4].tokens == result.tokens
        asked = why.steps[4].why
        assert asked is not None
        [differs] = event.changed
        assert asked.change == event
        assert (asked.cause.before, asked.cause.after) == (differs.before, differs.after)
        assert str(asked.cause.facet) == "acl:two $.rule"
        path = why.as_json()["steps"][4]
        json.dumps(why.as_json())
        assert path["step"] == f"{result.execution_id}/4"
        assert path["cause"]["change"]["id"] == event.id
        assert (path["cause"]["resource"], path["cause"]["selector"]) == ("acl:two", "$.rule")
        assert path["cause"]["before"] == differs.before


async def test_of_several_changes_the_one_that_took_the_guard_away_is_named(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        taken_away = await engine.observe("acl:one", {"rule": 2})
        await engine.observe("acl:one", {"rule": 3})
        result = await agent.execute(TASK)
        why = await engine.why(result.execution_id)
        [miss] = why.misses
        assert miss.change == taken_away, "not the last one, which found it gone already"


async def test_withdrawn_expired_and_never_observed(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        gone = await engine.withdraw("acl:one")
        why = await engine.why((await agent.execute(TASK)).execution_id)
        assert [(str(it.cause.kind), it.change) for it in why.misses] == [
            ("precondition withdrawn", gone)
        ]
        await engine.observe("acl:one", {"rule": 1}, until=timedelta(milliseconds=1))
        await asyncio.sleep(0.05)
        store = engine.session().store
        await store.expire()
        changes = await store.changes(resource="acl:one")
        [expired] = [it for it in changes if it.kind is ChangeKind.EXPIRED]
        why = await engine.why((await agent.execute(TASK)).execution_id)
        kinds = {str(it.cause.kind): it.change for it in why.misses}
        assert kinds["precondition expired"] == expired


async def test_a_change_is_named_however_much_else_has_changed_since(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        event = await engine.observe("acl:two", {"rule": 2, "comment": "none"})
        assert event is not None
        for number in range(110):
            await engine.observe("acl:two", {"rule": 2, "comment": f"{number}"})
        result = await agent.execute(TASK)
        [miss] = (await engine.why(result.execution_id)).misses
        assert miss.change is not None
        assert miss.change.id == event.id


async def test_of_two_expiries_the_one_since_the_renewal_is_named(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        store = engine.session().store
        await observe_both(engine)
        await agent.execute(TASK)
        again: Json = {"rule": 1, "comment": "none"}
        for _ in range(2):
            await engine.observe("acl:two", again, until=timedelta(milliseconds=1))
            await asyncio.sleep(0.02)
            await store.expire()
        await engine.observe("acl:two", again, until=timedelta(milliseconds=1))
        await asyncio.sleep(0.02)
        result = await agent.execute(TASK)
        await engine.settle()  # which records the expiry, after the run
        [newest] = await store.changes(resource="acl:two", limit=1)
        assert newest.kind is ChangeKind.EXPIRED
        changes = {
            it.change.id for it in (await engine.why(result.execution_id)).misses if it.change
        }
        assert changes == {newest.id}


async def test_what_was_asked_only_because_it_follows_names_the_first_cause(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        event = await engine.observe("acl:one", {"rule": 2})

        def otherwise(body: dict[str, Any]) -> Answer:
            match turn(body):
                case 0:
                    return Answer([text("Let me look."), call("look", {})])
                case 1:
                    return Answer([text("The rule is new."), call("first", {"at": "us"})])
                case 2:
                    return Answer([text("So is this."), call("second", {})])
            return Answer([text("Done otherwise.")])

        world.think(otherwise)
        result = await agent.execute(TASK)
        why = await engine.why(result.execution_id)
        asked = [step for step in why.steps if step.fate == "asked"]
        assert [step.position for step in asked] == [2, 4, 6]
        assert [step.follows for step in asked] == [None, 2, 2]
        assert all(step.why is not None and step.why.change == event for step in asked)


async def test_in_a_program_a_changed_request_names_the_step_it_follows_from(world: World) -> None:
    engine = world.engine()
    seen = {"a": 1, "b": 1}

    @engine.tool(effect="read")
    def look(at: str) -> int:
        """Look."""
        return seen[at]

    async def said(body: Any) -> Any:
        return {"said": body}

    async def work() -> str:
        async with engine.run("triage", "go") as run:
            for name in ("a", "b"):
                it = await run.act(look, at=name)
                await run.decide({"ask": f"what of {name} at {it.value}"}, call=said)
        return run.execution_id

    async with engine:
        await work()
        seen["b"] = 2
        why = await engine.why(await work())
        assert fates(why) == ["run again", "served", "run again", "asked"]
        assert str(why.steps[2].outcome) == "diverged"
        assert why.steps[3].follows == 2
        assert why.steps[3].why is not None
        assert str(why.steps[3].why.cause.kind) == "output diverged", "the first cause upstream"


async def test_a_failed_run_can_be_asked_about(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)

        def broken(body: dict[str, Any]) -> Answer:
            return Answer([call("look", {})]) if turn(body) < 30 else Answer([])

        world.think(broken)
        short = world.agent(engine, [engine.tools["look"]], name="short", max_turns=2)
        with pytest.raises(RunFailed) as failed:
            await short.execute(TASK)
        why = await engine.why(failed.value.execution_id)
        assert why.execution.state == "failed"
        assert "max_turns" in (why.execution.reason or "")
        assert fates(why) == ["asked", "executed"] * 2
        assert why.execution.miss == ("new task",)
    assert agent.name == "deployer"


async def test_without_an_id_the_newest_run_is_told(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        with pytest.raises(ExecutionUnknown, match="no execution at all"):
            await engine.why()
        await agent.execute(TASK)
        second = await agent.execute(TASK)
        assert (await engine.why()).execution.id == second.execution_id, "what waits is flushed"
        assert (await engine.why(agent="deployer")).execution.id == second.execution_id
        with pytest.raises(ExecutionUnknown):
            await engine.why(agent="nobody")


async def test_an_unknown_id_says_how_to_list_ids(world: World) -> None:
    async with world.engine() as engine:
        await engine.observe("acl:prod", 1)
        with pytest.raises(ExecutionUnknown, match=r"'nonsense'.*execgraph runs"):
            await engine.why("nonsense")


async def test_a_damaged_report_leaves_the_trace_to_tell(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first = await agent.execute(TASK)
        store = engine.session().store
        found = await store.execution(first.execution_id)
        assert found is not None
        lost = found.execution.model_copy(update={"id": "lost", "report": "0" * 40})
        plain = {"mode": Mode.REPLAY, "replayed": first.execution_id, "steps": 0}
        await store.write_replays([Replay(execution=lost.model_copy(update=plain))])
        why = await engine.why("lost")
        assert "damaged" in (why.hint or "")
        assert fates(why) == ["served", "run again"] * 3 + ["served"]


async def test_asking_takes_a_handful_of_store_calls(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.observe("acl:one", {"rule": 2})
        await engine.observe("acl:two", {"rule": 2})
        result = await agent.execute(TASK)
        calls = _counted(engine)
        await engine.why(result.execution_id)
        assert 0 < len(calls) <= 4, calls


def _counted(engine: Engine) -> list[str]:
    """The names of the store's methods, as the caller calls them from now on. What the engine
    does beside it is not counted: its tasks have begun in other contexts."""
    store, calls = engine.session().store, list[str]()
    asking = ContextVar("asking", default=False)
    asking.set(True)
    for name in ("execution", "values", "changes", "executions", "facts", "dependants", "facets"):
        real = getattr(store, name)

        def counting(*args: Any, _name: str = name, _real: Any = real, **more: Any) -> Any:
            if asking.get():
                calls.append(_name)
            return _real(*args, **more)

        setattr(store, name, counting)
    return calls


async def test_a_divergence_is_blamed_and_not_an_earlier_change_that_made_no_difference(
    world: World,
) -> None:
    """The rule of the first write changes, and the decision asked again says the same; then a read
    gives something else, and what follows is asked because of that."""
    engine, seen = world.engine(), ["old"]

    @engine.tool(effect="write", requires=[Acl("ship")])
    def ship() -> str:
        """Ship."""
        return "shipped"

    @engine.tool(effect="read", requires=[])
    def look() -> str:
        """Look."""
        return seen[0]

    def think(body: dict[str, Any]) -> Answer:
        steps = [call("ship", {}), call("look", {}), call("look", {}), text("done")]
        return Answer([steps[turn(body)]])

    world.think(think)
    async with engine:
        await engine.observe("acl:ship", 1)
        agent = world.agent(engine, [ship, look])
        await agent.execute(TASK)
        await engine.observe("acl:ship", 2)
        seen[0] = "new"
        result = await agent.execute(TASK)
        assert outcomes(result)[:4] == [
            ("?", "asked"),
            ("ship", "replayed"),
            ("?", "replayed"),
            ("look", "diverged"),
        ]
        asked = [it for it in result.steps if str(it.outcome) == "asked" and it.cause]
        assert [str(it.cause.kind) for it in asked if it.cause] == [
            "precondition changed",
            "output diverged",
            "output diverged",
        ]
        why = await engine.why(result.execution_id)
        told = [(it.position, it.why.cause.node, it.follows) for it in why.steps if it.why]
        assert (4, "look", 3) in told, "it follows from the read"
        assert any(node == "acl:ship" and follows is None for _, node, follows in told)
        stats = await engine.stats()
        assert stats.missed_calls["output diverged"] == 2
        assert stats.missed_calls["precondition changed"] == 1


async def test_in_a_program_too_what_gave_something_else_is_blamed(world: World) -> None:
    engine, seen = world.engine(), ["old"]

    @engine.tool(effect="read", requires=[])
    def look() -> str:
        """Look."""
        return seen[0]

    async def ask(_: Any) -> Any:
        return {"says": "yes"}

    async with engine:
        found = []
        for n in (1, 2):
            await engine.observe("acl:ship", n)
            async with engine.run("p", "go", requires=[Acl("ship")]) as run:
                await run.decide({"q": "first"}, call=ask)
                told = await run.act(look)
                await run.decide({"q": told.value}, call=ask)
            found.append(run.result)
            seen[0] = "new"
        causes = [str(it.cause.kind) for it in found[1].steps if it.cause]
        assert causes == ["precondition changed", "output diverged", "output diverged"]


async def test_a_change_is_blamed_for_what_a_reading_tool_that_rests_on_it_then_gives(
    world: World,
) -> None:
    engine = world.engine()

    @engine.tool(effect="read", requires=[Acl("ship")])
    async def allowed() -> bool:
        """Whether to ship."""
        return bool(await engine.current("acl:ship"))

    world.think(lambda body: [Answer([call("allowed", {})]), Answer([text("done")])][turn(body)])
    async with engine:
        await engine.observe("acl:ship", True)
        agent = world.agent(engine, [allowed])
        await agent.execute(TASK)
        event = await engine.observe("acl:ship", False)
        result = await agent.execute(TASK)
        assert ("allowed", "diverged") in outcomes(result)
        assert [str(cause.kind) for cause in result.miss] == ["precondition changed"]
        why = await engine.why(result.execution_id)
        assert [it.why.change for it in why.steps if it.why] == [event, event]
        assert [it.follows for it in why.steps if it.why] == [None, 1]
        assert (await engine.stats()).missed_calls["precondition changed"] == 1


async def test_a_divergence_of_a_write_is_not_put_down_to_the_rule_that_allowed_it(
    world: World,
) -> None:
    engine, seen = world.engine(), ["old"]

    @engine.tool(effect="write", requires=[Acl("ship")])
    def ship() -> str:
        """Ship."""
        return seen[0]

    world.think(lambda body: [Answer([call("ship", {})]), Answer([text("done")])][turn(body)])
    async with engine:
        await engine.observe("acl:ship", 1)
        agent = world.agent(engine, [ship])
        await agent.execute(TASK)
        await engine.observe("acl:ship", 2)
        seen[0] = "new"
        result = await agent.execute(TASK)
        kinds = [str(cause.kind) for cause in result.miss]
        assert kinds == ["precondition changed", "output diverged"]


# The documents in full --------------------------------------------------------------------


def diff_of(why: Why, kind: str) -> Diff:
    [diff] = [it.diff for it in known(why) if str(it.cause.kind) == kind and it.diff is not None]
    return diff


def known(why: Why) -> list[WhyMiss]:
    misses = (*why.misses, *(step.why for step in why.steps if step.why is not None))
    return list({it.cause: it for it in misses}.values())


async def test_the_two_documents_of_a_changed_fact_are_told(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.observe("acl:two", {"rule": {"who": ["ops"], "token": "b"}, "comment": "no"})
        result = await agent.execute(TASK)
        await engine.observe("acl:two", {"rule": 3})
        plain = await engine.why(result.execution_id)
        assert [it.diff for it in known(plain)] == [None], "only where it is asked for"
        diff = diff_of(await engine.why(result.execution_id, diff=True), "precondition changed")
    assert diff.about == "acl:two $.rule, version 1 -> 2"
    assert diff.before == {"rule": 1}, "the part that is named, and not the comment"
    assert diff.after == {"rule": {"who": ["ops"], "token": "hidden"}}
    assert [str(it) for it in diff.differences] == ["$.rule: 1 -> an object"]
    assert diff.lines[3:6] == [" {", '-  "rule": 1', '+  "rule": {']
    assert json.loads(json.dumps(diff.as_json()))["lines"] == diff.lines


async def test_of_a_withdrawn_fact_the_document_that_was_is_told(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.withdraw("acl:one")
        result = await agent.execute(TASK)
        diff = diff_of(await engine.why(result.execution_id, diff=True), "precondition withdrawn")
        assert (diff.before, diff.after, diff.hint) == ({"rule": 1}, None, None)


async def test_a_diverged_output_a_task_and_code_are_told_in_full(world: World) -> None:
    engine, numbers = world.engine(), itertools.count(1)

    @engine.tool(effect="read")
    def look() -> dict[str, Any]:
        """Look."""
        number = next(numbers)
        return {"rows": [{"id": number * 100 + place} for place in range(20)], "token": number}

    world.think(
        lambda body: Answer([call("look", {})]) if turn(body) == 0 else Answer([text("done")])
    )

    async def told(task: Json, **settings: Any) -> Why:
        agent = world.agent(engine, [look], **settings)
        result = await agent.execute(task)  # type: ignore[arg-type]
        return await engine.why(result.execution_id, diff=True)

    async with engine:
        await told({"n": 1})
        diff = diff_of(await told({"n": 1}), "output diverged")
        assert len(diff.differences) == 21, "all of them, and not the first"
        assert isinstance(diff.after, dict)
        assert diff.after["rows"][19] == {"id": 219}
        assert diff.after["token"] == "hidden, another one"
        assert str(diff.differences[-1]) == "$.token: hidden -> hidden"
        diff = diff_of(await told({"n": 2}, opaque=[]), "new task")
        assert (diff.about, diff.before) == ("task", {"inputs": {"n": 1}, "context": None})
        diff = diff_of(await told({"n": 2}, system="Be\nkind."), "code changed")
        assert [line for line in diff.lines if line[0] in "-+"][2:] == [
            '-  "system": "You deploy.",',
            '+  "system": "Be\\n',
            '+  kind.",',
        ]


async def test_a_changed_request_is_told_in_full(world: World) -> None:
    engine = world.engine()
    world.think(lambda _: Answer([text("done")]))
    ids = []
    async with engine:
        for place in ("north", "south"):
            async with engine.run("p", "go", client=world.client) as run:
                messages = [{"role": "user", "content": f"{'x' * 300} {place}"}]
                await run.decide({"model": "m", "max_tokens": 9, "messages": messages})
            ids.append(run.execution_id)
        diff = diff_of(await engine.why(ids[1], diff=True), "request changed")
    assert isinstance(diff.before, dict)
    assert isinstance(diff.after, dict)
    assert diff.before["messages"][0]["content"] == f"{'x' * 300} north"
    assert diff.after["messages"][0]["content"] == f"{'x' * 300} south"
    assert [it.path for it in diff.differences] == ["$.messages[0].content"]
