"""Exits and cancellations that a tool raises: nothing hangs, and the run is kept as failed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from anthropic import AsyncAnthropic

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.engine.tools.tool import Tool
from execgraph.graphstore.model import ExecutionState
from execgraph.tests.models import MODEL

from .conftest import World, results, turn


class Halt(BaseException):
    """An exit of a library's own, as test runners have them."""


EXITS = [SystemExit(2), KeyboardInterrupt(), Halt("halt")]
ENDINGS = [asyncio.CancelledError(), GeneratorExit(), StopAsyncIteration(), StopIteration()]

Make = Callable[[Engine, BaseException], Tool]


def _sync(engine: Engine, error: BaseException) -> Tool:
    @engine.tool(effect="read", version="1")
    def leave() -> str:
        """Leave."""
        raise error

    return leave


def _async(engine: Engine, error: BaseException) -> Tool:
    @engine.tool(effect="read", version="1")
    async def leave() -> str:
        """Leave."""
        await asyncio.sleep(0)
        raise error

    return leave


def _wait(engine: Engine, done: list[str]) -> Tool:
    @engine.tool(effect="write", requires=[])
    async def wait() -> str:
        """Wait a little."""
        await asyncio.sleep(0.05)
        done.append("waited")
        return "waited"

    return wait


def _calling(*names: str) -> Callable[[dict[str, Any]], Answer]:
    def think(body: dict[str, Any]) -> Answer:
        if turn(body):
            return Answer([text(f"It was told {results(body)[0]}")])
        return Answer([call(name, {}) for name in names])

    return think


both_kinds = pytest.mark.parametrize("make", [_sync, _async])
each_exit = pytest.mark.parametrize("error", EXITS, ids=lambda it: type(it).__name__)
each_ending = pytest.mark.parametrize("error", ENDINGS, ids=lambda it: type(it).__name__)


async def _kept(world: World, engine: Engine) -> tuple[str, str | None]:
    [kept] = await engine.session().store.executions()
    return kept.state, kept.reason


@both_kinds
@each_exit
async def test_an_exit_in_a_tool_ends_the_agents_run(
    world: World, make: Make, error: BaseException
) -> None:
    world.think(_calling("leave"))
    engine = world.engine()
    agent = world.agent(engine, [make(engine, error)])
    async with engine:
        with pytest.raises(type(error)):
            await agent.execute("go")
        state, reason = await _kept(world, engine)
        assert state is ExecutionState.FAILED
        assert reason in (f"{type(error).__name__}: {error}", "cancelled")


@both_kinds
async def test_siblings_end_before_an_exit_is_raised(world: World, make: Make) -> None:
    world.think(_calling("wait", "leave", "wait"))
    engine = world.engine()
    agent = world.agent(engine, [make(engine, SystemExit(2)), _wait(engine, world.done)])
    async with engine:
        with pytest.raises(SystemExit):
            await agent.execute("go")
        assert world.done == ["waited", "waited"]
        [kept] = await engine.session().store.executions()
        effects = await engine.session().store.effects(kept.id)
        assert [str(effect.state) for effect in effects] == ["done", "done"]


@both_kinds
@each_exit
async def test_an_exit_in_a_tool_ends_a_programs_run(
    world: World, make: Make, error: BaseException
) -> None:
    engine = world.engine()
    leave = make(engine, error)
    async with engine:
        with pytest.raises(type(error)):
            async with engine.run("program", "go") as run:
                await run.act(leave)
        assert (await _kept(world, engine))[0] is ExecutionState.FAILED


@both_kinds
@each_ending
async def test_what_ends_a_coroutine_is_an_error_of_the_tool_that_raised_it(
    world: World, make: Make, error: BaseException
) -> None:
    world.think(_calling("leave"))
    engine = world.engine()
    agent = world.agent(engine, [make(engine, error)])
    async with engine:
        async with asyncio.timeout(10):
            result = await agent.execute("go")
        assert type(error).__name__ in result.output


@both_kinds
@each_ending
async def test_a_program_that_acts_on_several_at_once_is_not_cancelled_by_one(
    world: World, make: Make, error: BaseException
) -> None:
    engine = world.engine()
    leave, wait = make(engine, error), _wait(engine, world.done)
    async with engine, engine.run("program", "go") as run:
        acts = (run.act(leave), run.act(wait))
        failed, waited = await asyncio.gather(*acts, return_exceptions=True)
        assert isinstance(failed, Exception)
        assert not isinstance(waited, BaseException)
        assert waited.value == "waited"


async def test_a_cancellation_inside_the_model_client_fails_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.engine()
    world.think(_calling("leave"))
    agent = world.agent(engine, [_async(engine, ValueError("told"))])

    async def ask(_: Any) -> bytes:
        raise asyncio.CancelledError

    async with engine:
        monkeypatch.setattr(engine.session().client(world.client), "ask", ask)
        with pytest.raises(Exception, match="cancelled"):
            await agent.execute("go")
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()


async def test_a_cancelled_run_is_cancelled_whatever_its_tool_does(world: World) -> None:
    world.think(_calling("wait"))
    engine = world.engine()
    entered = asyncio.Event()

    @engine.tool(effect="read")
    async def wait() -> str:
        """Wait for ever."""
        entered.set()
        await asyncio.Event().wait()
        return "never"

    agent = world.agent(engine, [wait])
    async with engine:
        running = asyncio.create_task(agent.execute("go"))
        await entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


# The synchronous face ---------------------------------------------------------------------


@both_kinds
@each_exit
def test_an_exit_in_a_tool_reaches_the_caller_of_the_synchronous_face(
    url: str, server: tuple[MessagesServer, list[Any]], make: Make, error: BaseException
) -> None:
    running, script = server
    script[:] = [_calling("leave", "wait")]
    engine, done = Engine(url, namespace=f"exits-{uuid4().hex}"), list[str]()
    client = AsyncAnthropic(base_url=running.url, api_key="test-key")
    tools = [make(engine, error), _wait(engine, done)]
    agent = engine.agent("a", client=client, model=MODEL, tools=tools)
    with engine.sync() as e:
        with pytest.raises(type(error)):
            e.agent(agent).execute("go")
        assert done == ["waited"]
        assert e.stats().failed == 1


def test_an_exit_in_one_thread_disturbs_no_run_of_another(url: str) -> None:
    engine = Engine(url, namespace=f"exits-{uuid4().hex}")
    leave, wait = _async(engine, SystemExit(3)), _wait(engine, [])

    def program(tool: Tool) -> Any:
        with e.run("program", tool.name) as run:
            return run.act(tool).value

    with engine.sync() as e, concurrent.futures.ThreadPoolExecutor(8) as pool:
        work = [pool.submit(program, tool) for tool in (leave, wait) * 4]
        ended = [it.exception(timeout=30) or it.result() for it in work]
    assert [type(it) for it in ended] == [SystemExit, str] * 4


def test_an_exit_in_the_background_leaves_the_synchronous_face_alive(url: str) -> None:
    engine = Engine(url, namespace=f"exits-{uuid4().hex}")

    async def leave(_: Any) -> None:
        sys.exit(4)

    engine.subscribe(leave)
    with engine.sync() as e:
        for _ in range(2):
            with e.run("program", "go") as run:
                run.output = 1
            assert run.result.output == 1


def test_who_waits_when_the_synchronous_face_is_left_is_told(url: str) -> None:
    engine = Engine(url, namespace=f"exits-{uuid4().hex}")
    waiting = concurrent.futures.Future[None]()

    async def wait_for_ever() -> None:
        waiting.set_result(None)
        await asyncio.Event().wait()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with engine.sync() as e:
            left = pool.submit(e.wait, wait_for_ever())
            waiting.result(10)
        with pytest.raises(concurrent.futures.CancelledError):
            left.result(10)
