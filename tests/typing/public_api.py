"""What type checkers see of the public interface. Never run: scripts/lint checks it with mypy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, assert_never, assert_type

from anthropic import AsyncAnthropic
from pydantic import BaseModel

from execgraph import (
    Acl,
    Agent,
    Approval,
    Approved,
    BusinessRule,
    Cause,
    ConfirmationRequest,
    Denied,
    DeploymentTarget,
    EffectInDoubt,
    Engine,
    Event,
    Handle,
    IdempotencyKey,
    Json,
    MissKind,
    NotReplayable,
    Resource,
    ResourceChanged,
    Result,
    RunEnded,
    RunFailed,
    RunStarted,
    RunWaits,
    Schema,
    StepEnded,
    Tool,
)
from execgraph.engine.asking.stats import Stats
from execgraph.engine.asking.why import Why
from execgraph.engine.outcome.result import EffectReport, Outcome, StepReport
from execgraph.engine.program import ProgramRun
from execgraph.engine.sync import SyncAgent, SyncEngine, SyncRun
from execgraph.graphstore.cypher import Table
from execgraph.graphstore.model import ChangeEvent, EffectState, Mode, SideEffect, StepKind, Usage
from execgraph.graphstore.retention import Collected
from execgraph.tests.models import MODEL

engine = Engine("sqlite:///graph.db", namespace="team-a", client=AsyncAnthropic())
assert_type(engine.tools, Mapping[str, Tool])


class Ticket(BaseModel):
    title: str


@engine.tool(effect="read", requires=[Schema("{name}", "$.columns"), BusinessRule("freeze")])
async def look(name: str) -> dict[str, int]:
    """Look."""
    return {name: 1}


@engine.tool(requires=[Acl("{task.user}/deploy"), DeploymentTarget("{target}")], uses=[len])
def deploy(target: str, *, key: Annotated[str, IdempotencyKey]) -> str:
    """Deploy."""
    return f"{target} {key}"


@engine.tool
def undeclared() -> None:
    """Refused when it runs, as a write without requires."""


def plain(x: int) -> int:
    """Declared by a call."""
    return x


assert_type(deploy("eu", key="k"), str)
assert_type(engine.tool(plain, effect="pure", version="1")(1), int)
deploy("eu")  # type: ignore[call-arg]
tools = [look, deploy, undeclared]
declared: list[Tool] = [*tools]
engine.tool(effect="deletes")  # type: ignore[call-overload]
engine.tool(effect="read", requires=["acl:prod"])  # type: ignore[call-overload]
assert_type(engine.tool(plain, effect="once", requires=[], once_per="{x}")(1), int)
engine.tool(plain, effect="write", requires=[], on_change="rerun")
engine.tool(plain, effect="confirm", requires=[])
engine.tool(plain, effect="write", requires=[], on_change="never")  # type: ignore[call-overload]
engine.tool(plain, effect="read", fresh_for=timedelta(minutes=1))
engine.tool(plain, effect="read", fresh_for=60)  # type: ignore[call-overload]

agent = engine.agent(
    "deployer",
    model=MODEL,
    client=AsyncAnthropic(),
    system="You deploy.",
    tools=[look, deploy],
    requires=[Resource("flag:checkout", "$.on")],
    params={"stop_sequences": ["x"]},
)
assert_type(agent, Agent)
engine.agent("no model")  # type: ignore[call-arg]
engine.agent("misspelt", model="m", sistem="You deploy.")  # type: ignore[call-arg]
engine.agent("mistyped", model="m", max_turns="2")  # type: ignore[arg-type]
engine.agent("no tools", model="m", tools=[plain])  # type: ignore[list-item]


async def call_a_tool_as_its_function() -> None:
    assert_type(await look("x"), dict[str, int])
    await look(7)  # type: ignore[arg-type]


async def execute() -> None:
    async with engine as opened:
        assert_type(opened, Engine)
        await agent.execute("text", confirm=lambda request: request.tool == "deploy")
        await agent.execute("text", confirm=judge, wait_for_approval=timedelta(hours=1))
        await agent.execute("text", confirm=report)  # type: ignore[arg-type]
        assert_type(await opened.approvals(), list[ConfirmationRequest])
        assert_type(await opened.approve("id", by="ann"), Approval | None)
        assert_type(await opened.deny("id", reason="no"), Approval)
        assert_type(await opened.resolve("id", done=True, output={"a": 1}), SideEffect)
        result = await agent.execute({"service": "checkout"}, labels={"ticket": "7"})
        assert_type(result, Result)
        assert_type(await agent.execute("text", context={"user": "ann"}, replay=False), Result)
        assert_type(await agent.execute(Ticket(title="x"), require="replay"), Result)
        await agent.execute("text", require="luck")  # type: ignore[arg-type]
        await agent.execute("text", labels={"n": 7})  # type: ignore[dict-item]
        await agent.execute("text", label={"n": "7"})  # type: ignore[call-arg]
        report(result)


async def judge(request: ConfirmationRequest) -> Approved | Denied | None:
    if request.facts[0].says is None:
        return None
    return Approved(by="ann") if request.agent == "deployer" else Denied(reason="who are you?")


def report(result: Result) -> None:
    assert_type(result.tokens, int)
    assert_type(result.saved_tokens, int)
    assert_type(result.cost, float | None)
    assert_type(result.mode, Mode)
    assert_type(result.usage, Usage)
    assert_type(result.recorded, bool)
    assert_type(result.steps, tuple[StepReport, ...])
    assert_type(result.steps[0].kind, StepKind)
    assert_type(result.steps[0].outcome, Outcome)
    assert_type(result.steps[0].cause, Cause | None)
    assert_type(result.effects, tuple[EffectReport, ...])
    assert_type(result.effects[0].state, EffectState)
    assert_type(result.miss, tuple[Cause, ...])
    assert_type(result.miss[0].kind, MissKind)
    assert_type(result.miss[0].remedy, str)
    result.recorded = True  # type: ignore[misc]


async def program() -> None:
    async with engine, engine.run("triage", {"id": 7}, requires=[Acl("triage")]) as run:
        assert_type(run, ProgramRun)
        found = await run.act(look, name="x")
        assert_type(found, Handle)
        assert_type(await run.decide({"messages": [found]}), Handle)
        engine.run("triage", "x", replays=False)  # type: ignore[call-arg]
        await run.act("look", name="x")  # type: ignore[arg-type]
        await run.act(plain, x=1)  # type: ignore[arg-type]
        run.output = found.value
    assert_type(run.result, Result)
    assert_type(run.execution_id, str)


async def facts() -> None:
    changed = await engine.observe("acl:prod", {"allow": True}, until=timedelta(hours=1))
    assert_type(changed, ChangeEvent | None)
    await engine.observe("acl:prod", None, until=datetime.now(UTC))
    assert_type(await engine.withdraw("acl:prod"), ChangeEvent | None)
    document: Json = {"allow": ["ann", {"since": 1}], "deny": None}
    await engine.observe("acl:prod", document)
    assert_type(await engine.current("acl:prod"), Any)
    await engine.observe("acl:prod", {"allow": {"ann"}})  # type: ignore[dict-item]
    await engine.observe("acl:prod", object())  # type: ignore[arg-type]
    await engine.observe("acl:prod")  # type: ignore[call-arg]
    await engine.observe("acl:prod", 1, until=7)  # type: ignore[arg-type]


def without_await() -> None:
    with engine.sync() as e:
        assert_type(e, SyncEngine)
        assert_type(e.agent(agent), SyncAgent)
        assert_type(e.agent(agent).execute("text"), Result)
        assert_type(e.agent(agent).agent, Agent)
        assert_type(e.agent("deployer", model=MODEL, tools=tools), SyncAgent)
        e.agent("deployer", modle=MODEL)  # type: ignore[call-overload]
        e.agent(agent).execute("text", replay="no")  # type: ignore[arg-type]
        assert_type(e.observe("acl:prod", 1), ChangeEvent | None)
        e.observe("acl:prod", 1, till=timedelta(hours=1))  # type: ignore[call-arg]
        assert_type(e.why(agent="deployer"), Why)
        assert_type(e.stats(timedelta(days=1)), Stats)
        assert_type(e.cypher("RETURN 1", limit=1), Table)
        assert_type(e.collect(dry_run=True), Collected)
        e.collect(dryrun=True)  # type: ignore[call-arg]
        assert_type(e.tool(plain, effect="pure")(1), int)
        with e.run("triage", "text") as run:
            assert_type(run, SyncRun)
            assert_type(run.act(look, name="x"), Handle)
        assert_type(run.result, Result)


def told(event: Event) -> str:
    match event:
        case RunWaits():
            return event.task
        case RunStarted() | StepEnded() | RunEnded():
            return event.execution_id
        case ResourceChanged():
            return event.event.resource
        case _:
            assert_never(event)


def failures(failed: RunFailed, refused: NotReplayable, doubtful: EffectInDoubt) -> None:
    assert_type(doubtful.effect, SideEffect)
    assert_type(failed.effects, tuple[SideEffect, ...])
    assert_type(failed.in_doubt, tuple[SideEffect, ...])
    assert_type(failed.safe_to_retry, bool)
    assert_type(failed.execution_id, str)
    assert_type(refused.causes, tuple[Cause, ...])


def middleware() -> AsyncAnthropic:
    made: Any = engine.middleware(outside="raise")
    engine.middleware(outside="ignore")  # type: ignore[arg-type]
    return AsyncAnthropic(middleware=[made])
