"""``engine.execution`` and ``engine.diff``: what a run did, and where two begin to differ."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from execgraph import (
    Acl,
    ConfigurationError,
    Engine,
    ExecutionUnknown,
    IdempotencyKey,
    Retention,
    RunFailed,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.asking.recorded import GONE_PAYLOAD
from execgraph.graphstore.model import EffectState, ExecutionState, Replay, StepKind
from execgraph.tests.engine.conftest import World, results, turn
from execgraph.tests.engine.test_killed_runs import abandoned

TASK = {"service": "checkout", "api_key": "hunter2"}


class Log(BaseModel):
    lines: list[str]
    token: str = "hunter2"


def brain(body: dict[str, Any]) -> Answer:
    if turn(body) == 0:
        return Answer([text("I read."), call("logs", {"service": "checkout"})])
    if turn(body) == 1:
        return Answer([call("restart", {"service": "checkout", "password": "hunter2"})])
    return Answer([text(f"Restarted: {results(body)[-1]}")])


class Deployer:
    """An agent that reads, writes and answers. ``says``: what its reading tool gives."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.engine = world.engine(**settings)
        self.says = "x" * 400
        self.fails = False
        world.think(brain)

        @self.engine.tool(effect="read")
        def logs(service: str) -> Log:
            """Read logs."""
            return Log(lines=[service, self.says])

        @self.engine.tool(effect="write", requires=[Acl("restart", "$.groups")])
        def restart(service: str, password: str, *, key: Annotated[str, IdempotencyKey]) -> str:
            """Restart."""
            if self.fails:
                raise ValueError("no")
            return f"restarted {service}"

        self.logs = logs
        self.agent = world.agent(self.engine, [logs, restart])


@pytest.fixture
def deployer(world: World) -> Deployer:
    return Deployer(world)


async def test_a_run_is_told_with_all_that_was_asked_called_given_and_done(
    deployer: Deployer,
) -> None:
    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        result = await deployer.agent.execute(TASK, context="be quick", labels={"pr": "5"})
        run = await engine.execution(result.execution_id)
        assert (run.inputs, run.context, run.output) == (TASK, "be quick", result.output)
        assert run.execution.labels == {"pr": "5"}
        assert (run.recorded_with, run.hint) == (None, None)
        assert [(it.kind, str(it.fate)) for it in run.steps] == [
            *((StepKind.DECISION, "asked"), (StepKind.ACTION, "executed")),
            *((StepKind.DECISION, "asked"), (StepKind.ACTION, "executed")),
            (StepKind.DECISION, "asked"),
        ]
        first, logs, second, restart, _ = run.steps
        assert first.request["system"] == "You deploy."  # type: ignore[call-overload,index]
        assert [it["role"] for it in first.messages] == ["user"]  # type: ignore[call-overload,index]
        assert (first.shared, second.shared, len(second.messages)) == (0, 1, 2)
        assert json.dumps(second.messages).count("x" * 400) == 1, "a long output stands in it"
        assert logs.arguments == {"service": "checkout"}
        assert logs.output == {"lines": ["checkout", "x" * 400], "token": "hunter2"}
        assert (restart.effect, restart.output) == ("write", "restarted checkout")
        [fact] = restart.facts
        assert (str(fact.facet), fact.holds) == ("acl:restart $.groups", True)
        [effect] = restart.effects
        assert (effect.tool, effect.state) == ("restart", EffectState.DONE)
        assert run.effects == (effect,)
        for step in run.steps:
            assert step.started_at is not None
            assert step.duration_ms is not None
            assert step.duration_ms > 0
        starts = [it.started_at for it in run.steps]
        assert starts == sorted(starts, key=lambda it: it or 0)
        await engine.observe("acl:restart", {"groups": ["dev"]})
        later = await engine.execution(result.execution_id)
        assert later.steps[3].facts[0].holds is False


async def test_one_step_comes_with_all_of_its_request(deployer: Deployer) -> None:
    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        result = await deployer.agent.execute(TASK)
        run = await engine.execution(result.execution_id, step=4)
        [step] = run.steps
        assert (step.position, step.shared, len(step.messages)) == (4, 0, 5)
        whole, hidden = await engine.payload(result.execution_id, step=4, part="request")
        told = json.loads(whole)
        assert [it["role"] for it in told["messages"]] == ["user", *["assistant", "user"] * 2]
        assert hidden
        assert b"hunter2" not in whole
        for step_number in (5, -1):
            with pytest.raises(ConfigurationError, match="steps 0 to 4"):
                await engine.execution(result.execution_id, step=step_number)
        for of_step, part in ((1, "request"), (0, "arguments"), (None, "context")):
            with pytest.raises(ConfigurationError, match=f"no {part}"):
                await engine.payload(result.execution_id, step=of_step, part=part)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="no request in the store; its steps have"):
            await engine.payload(result.execution_id, part="request")


async def test_what_is_named_as_a_secret_is_shown_nowhere(deployer: Deployer) -> None:
    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        first = await deployer.agent.execute(TASK)
        deployer.says = "another"
        second = await deployer.agent.execute(TASK)
        run = await engine.execution(first.execution_id)
        diff = await engine.diff(first.execution_id, second.execution_id)
        assert diff.step == 1
        for shown in (
            json.dumps(run.as_json()),
            json.dumps(diff.as_json()),
            run._repr_html_(),
            diff._repr_html_(),
            first._repr_html_(),
        ):
            assert "hunter2" not in shown
        assert "hidden" in json.dumps(run.as_json()["steps"][3]["effects"])


async def test_a_replay_is_told_with_the_steps_that_it_replayed(deployer: Deployer) -> None:
    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        first = await deployer.agent.execute(TASK)
        again = await deployer.agent.execute(TASK)
        run = await engine.execution(again.execution_id[:-3])
        assert (run.execution.id, run.recorded_with) == (again.execution_id, first.execution_id)
        assert [str(it.fate) for it in run.steps] == ["served", "run again"] * 2 + ["served"]
        assert run.steps[3].output == "restarted checkout"
        [effect] = run.steps[3].effects
        assert effect.execution == again.execution_id
        assert await engine.payload(again.execution_id, step=3) == (b'"restarted checkout"', False)


async def test_a_replay_of_what_was_deleted_says_so(deployer: Deployer) -> None:
    least = Retention(history=1, max_age=timedelta(0), history_age=timedelta(0), grace=timedelta(0))
    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        first = await deployer.agent.execute(TASK)
        again = await deployer.agent.execute(TASK)
        await engine.settle()
        store = engine.session().store
        kept = await store.execution(again.execution_id)
        assert kept is not None
        await engine.collect(least)
        with pytest.raises(ExecutionUnknown, match="no longer"):
            await engine.execution(first.execution_id)
        orphan = Replay(execution=kept.execution.model_copy(update={"id": "orphan"}))
        await store.write_replays([orphan])
        if await store.execution("orphan") is None:
            return  # its task is gone, and so it was added to the totals alone
        run = await engine.execution("orphan")
        assert run.steps == ()
        assert first.execution_id in str(run.hint)


async def test_runs_that_failed_or_were_killed_are_told(world: World) -> None:
    deployer = Deployer(world)

    def broken(body: dict[str, Any]) -> Answer:
        world.server.fail(400)
        return Answer([call("restart", {"service": "checkout", "password": "p"})])

    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        world.think(broken)
        with pytest.raises(RunFailed) as failed:
            await deployer.agent.execute(TASK)
        run = await engine.execution(failed.value.execution_id)
        assert run.execution.state is ExecutionState.FAILED
        assert run.execution.reason
        assert [it.name for it in run.steps][1:] == ["restart"]
        assert [it.state for it in run.effects] == [EffectState.DONE]
        left = await abandoned(world)
        run = await engine.execution(left.id)
        assert (run.steps, run.inputs, run.execution.state) == ((), None, ExecutionState.RUNNING)
        assert run.hint is not None
        assert run.as_json()["state"] == "running"
        assert run._repr_html_()
        diff = await engine.diff(left.id, failed.value.execution_id)
        assert (diff.step, diff.names[0]) == (0, None)
        with pytest.raises(ExecutionUnknown, match="execgraph runs"):
            await engine.execution("nonsense")


async def test_what_is_damaged_is_told_as_gone_and_the_rest_is_shown(deployer: Deployer) -> None:
    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        result = await deployer.agent.execute(TASK)
        store = engine.session().store
        whole = await store.execution(result.execution_id)
        assert whole is not None
        await damage(deployer.engine, whole.steps[1].output)
        run = await engine.execution(result.execution_id)
        assert run.steps[1].output == GONE_PAYLOAD
        assert run.steps[3].output == "restarted checkout"
        assert run.steps[2].messages


async def damage(engine: Engine, digest: str) -> None:
    store: Any = engine.session().store
    if engine._host.shown_url.startswith("sqlite"):
        await store._writing(lambda db: db.execute("DELETE FROM value WHERE digest = ?", [digest]))
        return
    async with store._client._connection.session() as session:
        query = "MATCH (v:Value {namespace: $ns, digest: $digest}) DETACH DELETE v"
        await (await session.run(query, ns=engine.namespace, digest=digest)).consume()


async def test_a_payload_of_any_length_is_read_whole(deployer: Deployer) -> None:
    deployer.says = "long " * 4_000_000
    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        result = await deployer.agent.execute({"service": "checkout"})
        run = await engine.execution(result.execution_id, step=1)
        assert run.steps[0].output["lines"][1] == deployer.says  # type: ignore[call-overload,index]
        data, hidden = await engine.payload(result.execution_id, step=1)
        assert hidden, "it has a token"
        assert json.loads(data)["lines"][1] == deployer.says
        assert len(run._repr_html_()) < 20_000


# Two runs ---------------------------------------------------------------------------------


async def test_a_run_and_its_replay_do_not_differ(deployer: Deployer) -> None:
    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        runs = [(await deployer.agent.execute(TASK)).execution_id for _ in range(2)]
        runs.append((await deployer.agent.execute(TASK, replay=False)).execution_id)
        for one in runs:
            for other in runs:
                diff = await engine.diff(one, other[:-4])
                assert not diff.differs, diff
                assert (diff.step, diff.task, diff.fields, diff.steps) == (None, None, (), (5, 5))


async def test_the_first_step_that_differs_is_told_field_by_field(
    world: World, deployer: Deployer
) -> None:
    async with deployer.engine as engine:
        await engine.observe("acl:restart", {"groups": ["ops"]})
        first = (await deployer.agent.execute(TASK)).execution_id
        deployer.says = "y" * 400
        diverged = (await deployer.agent.execute(TASK)).execution_id
        diff = await engine.diff(first, diverged)
        assert (diff.step, diff.names) == (1, ("action logs", "action logs"))
        [output] = diff.fields
        assert (output.about, [it.path for it in output.differences]) == ("output", ["$.lines[1]"])

        deployer.says = "x" * 400
        await engine.observe("acl:restart", {"groups": ["dev"]})
        changed = (await deployer.agent.execute(TASK)).execution_id
        diff = await engine.diff(first, changed)
        assert (diff.step, [it.about for it in diff.fields]) == (2, ["facts"])

        def refuse(body: dict[str, Any]) -> Answer:
            return Answer([text("No.")])

        world.think(refuse)
        short = (await deployer.agent.execute({**TASK, "n": 1})).execution_id
        diff = await engine.diff(first, short)
        assert diff.task is not None
        assert [it.path for it in diff.task.differences] == ["$.inputs.n"]
        assert diff.step == 0
        by_field = {it.about: [place.path for place in it.differences] for it in diff.fields}
        assert list(by_field) == ["request", "output"]
        assert by_field["request"][0].startswith("$.messages[0]")
        assert not any(it.endswith(".id") for it in by_field["output"]), "ids are made up"

        world.think(brain)
        again = (await deployer.agent.execute({**TASK, "n": 1}, replay=False)).execution_id
        diff = await engine.diff(short, again)
        assert (diff.step, diff.steps, diff.task) == (0, (1, 5), None)
        assert [it.about for it in diff.fields] == ["output"]


async def test_a_step_in_the_place_of_none(deployer: Deployer) -> None:
    async with deployer.engine as engine:
        ids = []
        for number, services in ((1, "a"), (1, "ab"), (2, "c")):
            async with engine.run("p", {"n": number}, replay=False) as run:
                for service in services:
                    await run.act(deployer.logs, service=service)
            ids.append(run.execution_id)
        diff = await engine.diff(ids[0], ids[1])
        assert (diff.step, diff.names, diff.fields) == (1, (None, "action logs"), ())
        assert (diff.steps, diff.task) == ((1, 2), None)
        diff = await engine.diff(ids[0], ids[2])
        assert [it.about for it in diff.fields] == ["arguments", "output"]
        assert diff.task is not None
