"""Synchronous tools that have another agent, or a model, do something: any number, any depth."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.engine.tools.tool import Tool
from execgraph.tests.models import MODEL

from .conftest import results, turn

WIDE = (os.cpu_count() or 1) + 9
DEEP = 3


def _told(body: dict[str, Any]) -> Any:
    return json.loads(body["messages"][0]["content"][0]["text"])


def _brain(body: dict[str, Any]) -> Answer:
    """Call the tool there is, as often as the agent is wide."""
    if turn(body):
        return Answer([text(str(len(results(body))))])
    [tool] = body["tools"]
    wide = _told(body)["wide"]
    return Answer([call(tool["name"], {"part": part}) for part in range(wide)])


@pytest.fixture
def asked(server: tuple[MessagesServer, list[Any]]) -> MessagesServer:
    running, script = server
    script[:] = [_brain]
    return running


def _look(engine: Engine) -> Tool:
    @engine.tool(effect="read")
    def look(part: int) -> int:
        """Look at a part."""
        time.sleep(0.002)
        return part

    return look


def test_synchronous_tools_may_have_agents_do_something_at_any_depth(
    tmp_path: Any, asked: MessagesServer
) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/graph.db")
    face = engine.sync()
    client = AsyncAnthropic(base_url=asked.url, api_key="test-key")

    def agent(name: str, tool: Tool) -> Any:
        return engine.agent(name, client=client, model=MODEL, tools=[tool])

    def delegating(to: Any, wide: int) -> Tool:
        @engine.tool(effect="read", version="1", name=f"delegate-to-{to.name}")
        def delegate(part: int) -> str:
            """Have another agent do a part."""
            return str(face.agent(to).execute({"part": part, "wide": wide}).output)

        return delegate

    inner = agent("inner-0", _look(engine))
    for depth in range(DEEP):
        inner = agent(f"inner-{depth + 1}", delegating(inner, 1))
    outer = agent("outer", delegating(inner, 1))
    with face:
        result = face.agent(outer).execute({"part": 0, "wide": WIDE})
        assert result.output == str(WIDE)
        assert not any(step.error for step in result.steps)


def test_synchronous_tools_may_run_event_loops_of_their_own(
    tmp_path: Any, asked: MessagesServer
) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/graph.db")
    look = _look(engine)

    async def inner(part: int) -> int:
        async with engine, engine.run("inner", {"part": part}) as run:
            return int((await run.act(look, part=part)).value)

    @engine.tool(effect="read", version="1")
    def delegate(part: int) -> int:
        """Have a program do a part."""
        return asyncio.run(inner(part))

    async def outer() -> list[int]:
        async with engine, engine.run("outer", "go") as run:
            acts = (run.act(delegate, part=part) for part in range(WIDE))
            return [it.value for it in await asyncio.gather(*acts)]

    assert asyncio.run(outer()) == list(range(WIDE))


def test_synchronous_tools_may_wait_for_the_loop_they_are_called_from(tmp_path: Any) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/graph.db")
    look = _look(engine)

    async def outer() -> list[int]:
        loop = asyncio.get_running_loop()

        async def inner(part: int) -> int:
            async with engine.run("inner", {"part": part}) as run:
                return int((await run.act(look, part=part)).value)

        @engine.tool(effect="read", version="1")
        def delegate(part: int) -> int:
            """Have a program of the same loop do a part."""
            return asyncio.run_coroutine_threadsafe(inner(part), loop).result(30)

        async with engine, engine.run("outer", "go") as run:
            acts = (run.act(delegate, part=part) for part in range(WIDE))
            return [it.value for it in await asyncio.gather(*acts)]

    assert asyncio.run(outer()) == list(range(WIDE))


async def test_synchronous_clients_in_synchronous_tools_ask_all_at_once(
    tmp_path: Any, asked: MessagesServer
) -> None:
    asked.latency = 0.05
    engine = Engine(f"sqlite:///{tmp_path}/graph.db")
    client = Anthropic(
        base_url=asked.url, api_key="test-key", middleware=[engine.middleware(outside="raise")]
    )
    threads = set[threading.Thread]()

    @engine.tool(effect="read", version="1")
    def ask(part: int) -> str:
        """Ask a model."""
        threads.add(threading.current_thread())
        told = json.dumps({"wide": part})
        reply = client.messages.create(
            model=MODEL,
            max_tokens=100,
            tools=[{"name": "look", "input_schema": {"type": "object"}}],
            messages=[{"role": "user", "content": [{"type": "text", "text": told}]}],
        )
        return str(len(reply.content))

    async def program() -> list[str]:
        async with engine.run("program", "go") as run:
            acts = (run.act(ask, part=part) for part in range(1, WIDE + 1))
            return [it.value for it in await asyncio.gather(*acts)]

    async with engine, asyncio.timeout(60):
        assert await program() == [str(part) for part in range(1, WIDE + 1)]
        assert len(threads) == WIDE
        before = asked.requests
        assert await program() == [str(part) for part in range(1, WIDE + 1)]
        assert asked.requests == before, "a call in a tool's thread is a decision of the run"


def test_tools_do_not_take_the_default_executor_of_the_loop(tmp_path: Any) -> None:
    engine, leave = Engine(f"sqlite:///{tmp_path}/graph.db"), threading.Event()

    @engine.tool(effect="read", version="1")
    def wait(part: int) -> int:
        """Wait until it is told to go on."""
        assert leave.wait(30)
        return part

    async def main() -> None:
        async with engine, engine.run("program", "go") as run:
            acts = [asyncio.ensure_future(run.act(wait, part=part)) for part in range(3 * WIDE)]
            await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await asyncio.to_thread(lambda: None)
            leave.set()
            await asyncio.gather(*acts)

    asyncio.run(main())


# What hangs -------------------------------------------------------------------------------

_HANGS = """
import asyncio, sys, threading
from execgraph import Engine
engine, entered = Engine("sqlite:///{path}"), threading.Event()

@engine.tool(effect="read", version="1")
def hang() -> str:
    "Never return."
    entered.set()
    threading.Event().wait()
    return "never"

async def patient():
    async with engine, engine.run("program", "go") as run:
        async with asyncio.timeout(0.2):
            await run.act(hang)

def impatient():
    with engine.sync() as e:
        def program():
            with e.run("program", "go") as run:
                run.act(hang)
        threading.Thread(target=program, daemon=True).start()
        assert entered.wait(30)

try:
    {start}
except TimeoutError:
    pass
print("ended")
"""


@pytest.mark.parametrize("start", ["asyncio.run(patient())", "impatient()"])
def test_a_tool_that_never_returns_does_not_keep_the_process(tmp_path: Any, start: str) -> None:
    program = _HANGS.format(path=tmp_path / "graph.db", start=start)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout == "ended\n", ended.stderr


def test_a_thread_that_has_no_work_ends(tmp_path: Any) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/graph.db")
    look = _look(engine)

    async def main() -> None:
        async with engine, engine.run("program", "go") as run:
            await asyncio.gather(*(run.act(look, part=part) for part in range(WIDE)))

    asyncio.run(main())
    _wait_until(lambda: not any(it.name == "execgraph-tool" for it in threading.enumerate()))


def _wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)
