"""Cancelled runs publish nothing, tell what they began, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sqlite3
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from execgraph import Acl, Agent, Engine, Result
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.outcome.events import Event, RunEnded, RunStarted
from execgraph.graphstore.model import EffectState, ExecutionState, SideEffect
from execgraph.graphstore.store import GraphStore

from .conftest import World, turn

_T = TypeVar("_T")


class CancelledAt(Awaitable[_T]):
    """``work``, with its task cancelled as it waits for the ``at``-th time."""

    def __init__(self, work: Coroutine[Any, Any, _T], at: int) -> None:
        self._work = work
        self._at = at
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, _T]:
        work = self._work.__await__()
        send: Callable[[], Any] = lambda: work.send(None)  # noqa: E731
        while True:
            try:
                waited_for = send()
            except StopIteration as ended:
                value: _T = ended.value
                return value
            self.waits += 1
            if self.waits == self._at:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield waited_for
            except BaseException as error:  # noqa: BLE001  (it is the work's to raise)
                send = _raising(work, error)
            else:
                send = lambda: work.send(None)  # noqa: E731


def _raising(work: Generator[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(error)


async def cancelled_at(work: Coroutine[Any, Any, _T], at: int) -> _T | None:
    """What comes of ``work``; None if it was cancelled at that wait."""

    async def waiting() -> _T:
        return await CancelledAt(work, at)

    try:
        return await asyncio.create_task(waiting())
    except asyncio.CancelledError:
        return None


@pytest.fixture(autouse=True)
async def nothing_is_left(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """No task, no thread of ours, and nothing that asyncio complains about."""
    before = set(threading.enumerate())
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert [it for it in left if "execgraph/" in repr(it)] == []
    gc.collect()
    async with asyncio.timeout(5):
        while [it for it in set(threading.enumerate()) - before if it.name.startswith("execgraph")]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    for complaint in ("never retrieved", "was destroyed", "in the background failed"):
        assert complaint not in caplog.text


def deploying(body: dict[str, Any]) -> Answer:
    calls = [call("look", {}), call("deploy", {"to": "eu"})]
    return Answer([calls[turn(body)] if turn(body) < 2 else text("deployed")])


class Service:
    """An agent and a program with a read and a write, which wait before and after they act."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.think(deploying)
        self.engine = world.engine()
        self.begun: list[str] = []
        self.done: list[str] = []
        self.runs: list[str] = []
        self.ended: list[RunEnded] = []
        self.engine.subscribe(self.heard)

        @self.engine.tool(effect="read")
        async def look() -> str:
            """Look."""
            await asyncio.sleep(0)
            return "fine"

        @self.engine.tool(effect="write", requires=[Acl("deploy")])
        async def deploy(to: str) -> str:
            """Deploy."""
            self.begun.append(to)
            await asyncio.sleep(0)
            self.done.append(to)
            await asyncio.sleep(0)
            return f"deployed to {to}"

        self.deploy = deploy
        self.agent: Agent = world.agent(self.engine, [look, deploy])

    def heard(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.runs.append(event.execution_id)
        elif isinstance(event, RunEnded):
            self.ended.append(event)

    async def execute(self, task: str) -> Result:
        return await self.agent.execute(task)

    async def program(self, task: str) -> Result:
        async with self.engine.run("program", task, client=self.world.client) as run:
            request = {"messages": [{"role": "user", "content": task}]}
            await run.decide(request, call=lambda _: asyncio.sleep(0, {"content": "yes"}))
            await run.act(self.deploy, to="eu")
            run.output = "deployed"
        return run.result


def leases(world: World) -> list[str]:
    """The leases that somebody holds, but the one that says when retention was last seen to."""
    if world.url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(world.url.removeprefix("sqlite:///"))) as db:
            held = [name for (name,) in db.execute("SELECT name FROM lease")]
            return [name for name in held if name != "retention"]
    from neo4j import GraphDatabase

    with GraphDatabase.driver(world.url) as driver:
        found = driver.execute_query(
            "MATCH (l:Lease {namespace: $namespace}) WHERE l.owner IS NOT NULL RETURN l.name AS it",
            namespace=world.namespace,
        )
        return [row["it"] for row in found.records if row["it"] != "retention"]


async def told(store: GraphStore, run: str) -> list[SideEffect]:
    """The effects of a run, which is no trace."""
    kept = await store.execution(run)
    assert kept is None or kept.execution.state is not ExecutionState.PUBLISHED
    return await store.effects(run)


@pytest.mark.parametrize("recorded", [True, False], ids=["replaying", "live"])
@pytest.mark.parametrize("face", ["agent", "program"])
async def test_cancelled_wherever_it_waits(world: World, face: str, recorded: Any) -> None:
    service = Service(world)
    work = service.execute if face == "agent" else service.program
    engine, ns = service.engine, world.namespace
    async with engine:
        await engine.observe("acl:deploy", "yes")
        await work("go")
    at, step = 0, 1 if world.url.startswith("sqlite") else 7
    while True:
        at += step
        task = "go" if recorded else f"go {at}"
        for seen in (service.begun, service.done, service.runs, service.ended):
            seen.clear()
        async with engine:
            result = await cancelled_at(work(task), at)
            assert (await work(f"next to {at}")).recorded, "the next one works at once"
        if result is not None:
            break
        service.begun.pop(), service.done.pop(), service.runs.pop()
        async with engine:
            effects = [
                it for run in service.runs for it in await told(engine.session().store.of(ns), run)
            ]
            assert len(service.begun) <= len(effects) <= 1, at
            if service.begun and not service.done:
                assert effects[0].state is EffectState.INTENDED
            if service.runs:
                [ended] = [it for it in service.ended if it.execution_id == service.runs[0]]
                assert (ended.failed, ended.reason, ended.recorded) == (True, "cancelled", False)
            after = await work(task)
            assert after.output == "deployed"
            assert after.identical or not recorded, at
            assert (await work(task)).identical
        assert leases(world) == []
    assert at > max(3, step)
    assert result.output == "deployed"


@pytest.mark.parametrize("at", range(6))
async def test_cancelled_in_the_middle_of_a_reply_with_several_effects(
    world: World, at: int
) -> None:
    """What is told of each: that it was done, that it is in doubt, or nothing."""
    service = Service(world)
    engine = service.engine
    reached: list[str] = []
    begun: dict[str, bool] = {}

    async def point() -> None:
        reached.append("")
        if len(reached) == at + 1:
            running[0].cancel()
        await asyncio.sleep(0)

    @engine.tool(effect="write", requires=[Acl("deploy")])
    async def ship(to: str) -> str:
        """Ship."""
        begun[to] = False
        await point()
        await point()
        begun[to] = True
        return to

    world.think(
        lambda body: Answer(
            [text("shipped")]
            if turn(body)
            else [call("ship", {"to": to}) for to in ("eu", "us", "asia")]
        )
    )
    agent = world.agent(engine, [ship])
    running: list[asyncio.Task[Result]] = []
    async with engine:
        await engine.observe("acl:deploy", "yes")
        running.append(asyncio.create_task(agent.execute("go")))
        with pytest.raises(asyncio.CancelledError):
            await running[0]
    async with engine:
        [run] = service.runs
        effects = await told(engine.session().store, run)
        states = {it.target: it.state is EffectState.DONE for it in effects}
        for to, done in begun.items():
            assert states[f'{{"to":"{to}"}}'] is done
        assert len(begun) <= len(states) <= 3
        assert (await agent.execute("go")).mode == "partial", "what was decided is served"


async def test_a_walk_that_is_given_up_leaves_no_lease(world: World) -> None:
    service = Service(world)
    at, step = 0, 1 if world.url.startswith("sqlite") else 3
    while True:
        at += step
        async with service.engine as engine:
            await engine.observe("acl:deploy", {"rule": at})
            await service.execute("go")
            store = engine.session().store
            await engine.settle()
            # Not by the engine, whose own walker would begin with it.
            await store.change("acl:deploy", None)
            done = await cancelled_at(_settled(engine), at)
        assert leases(world) == [], at
        if done:
            break
    assert at > max(3, step)
    async with service.engine as engine:
        await engine.settle()
        assert await engine.session().store.walks() == []


async def _settled(engine: Engine) -> bool:
    await engine.settle()
    return True


async def test_closing_while_the_walker_is_at_work_leaves_no_lease(world: World) -> None:
    service = Service(world)
    for number in range(8):
        async with service.engine as engine:
            await engine.observe("acl:deploy", {"rule": number})
            await service.execute("go")
            await engine.withdraw("acl:deploy")
            await asyncio.sleep(0.05 + number * 0.005)
        assert leases(world) == [], number


async def test_a_run_out_of_time_is_cancelled(world: World) -> None:
    service = Service(world)
    async with service.engine as engine:
        await engine.observe("acl:deploy", "yes")
        world.server.latency = 30
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await service.execute("go")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service.execute("go"), 0.2)
        world.server.latency = 0
        result = await service.execute("go")
        assert (result.mode, result.recorded) == ("live", True)
    assert leases(world) == []


@pytest.mark.filterwarnings(
    # Neo4j's driver lets go of a socket, unclosed, if it is cancelled while it connects.
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)
async def test_many_runs_cancelled_together(world: World) -> None:
    """As a task group does when one of its tasks fails."""
    service = Service(world)
    async with service.engine as engine:
        await engine.observe("acl:deploy", "yes")

        async def fails() -> None:
            await asyncio.sleep(0.03)
            raise LookupError("not there")

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(10):
                    group.create_task(service.execute(f"go {number}"))
                group.create_task(fails())

        with pytest.raises(ExceptionGroup):
            await together()
    async with service.engine:
        results = [await service.execute(f"go {number}") for number in range(10)]
        assert {it.output for it in results} == {"deployed"}
    assert leases(world) == []


# Ctrl-C -----------------------------------------------------------------------------------

PROGRAM = textwrap.dedent(
    '''
    import asyncio, sys, time
    from anthropic import AsyncAnthropic
    from execgraph import Acl, Engine
    from execgraph.tests.models import MODEL

    url, namespace, model, where, face = sys.argv[1:]
    engine = Engine(url, namespace=namespace)

    def at(place):
        if place == where:
            print("there", flush=True)

    @engine.tool(effect="write", requires=[Acl("deploy")])
    async def deploy() -> str:
        """Deploy."""
        at("tool")
        await asyncio.sleep(30 if where == "tool" else 0)
        return "deployed"

    agent = engine.agent(
        "deployer",
        client=AsyncAnthropic(base_url=model, api_key="test-key", max_retries=0),
        model=MODEL,
        tools=[deploy],
    )

    async def program():
        async with engine, engine.run("program", "go") as run:
            await engine.observe("acl:deploy", "yes")
            await run.act(deploy)

    async def main():
        async with engine:
            await engine.observe("acl:deploy", "yes")
            at("model")
            await agent.execute("go")

    if face == "sync":
        with engine.sync() as e:
            e.observe("acl:deploy", "yes")
            at("model")
            e.agent(agent).execute("go")
    elif face == "sync program":
        with engine.sync() as e:
            e.observe("acl:deploy", "yes")
            with e.run("program", "go") as run:
                run.act(deploy)
    else:
        asyncio.run(program() if face == "program" else main())
    '''
)


@pytest.mark.parametrize(
    ("face", "where"),
    [
        ("asyncio", "model"),
        ("program", "tool"),
        ("sync", "model"),
        ("sync program", "tool"),
    ],
)
async def test_ctrl_c(world: World, face: str, where: str, tmp_path: Path) -> None:
    asked = threading.Event()

    def think(body: dict[str, Any]) -> Answer:
        asked.set()
        return Answer([text("deployed")] if turn(body) else [call("deploy", {})])

    world.think(think)
    world.server.latency = 30 if where == "model" else 0
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    argv = [sys.executable, str(script), world.url, world.namespace, world.server.url, where, face]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"there\n"
    if where == "model":
        assert await asyncio.to_thread(asked.wait, 30)
    child.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        complaints = (await child.communicate())[1].decode()
    assert child.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in complaints
    for complaint in ("never retrieved", "destroyed", "unclosed", "Exception ignored", "failed"):
        assert complaint not in complaints
    world.server.latency = 0
    assert leases(world) == []
    async with world.engine() as engine:
        store = engine.session().store
        [kept] = await store.executions()
        assert (kept.state, kept.reason) == (ExecutionState.FAILED, "cancelled")
        effects = await store.effects(kept.id)
        wanted = [EffectState.INTENDED] if where == "tool" else []
        assert [it.state for it in effects] == wanted
