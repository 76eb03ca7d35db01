"""Processes that deploy, and are killed: ``python -m tests.crashes.deploying``, a request a line.

Each request is done by a fork of this process. It looks, does two things for one reply and a third
one, at a ledger over HTTP. ``die_at`` is the number of the point at which it kills itself: before
and after each call of the store, of the model and of the ledger. ``die_after``: it is killed after
so many seconds, wherever it is.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request
from typing import Annotated, Any, NoReturn

import anthropic
import neo4j

from execgraph import Acl, Engine, IdempotencyKey
from execgraph.adapters.anthropic import client_adapter
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.sessions import at_work
from execgraph.graphstore.neo4j import queries
from execgraph.graphstore.neo4j import store as _neo4j_store
from execgraph.graphstore.sqlite import store as _sqlite_store
from execgraph.graphstore.store import GraphStore

__all__ = ["NOTICES", "THINGS", "brain"]

_LOADED = (anthropic, neo4j, client_adapter, _neo4j_store, _sqlite_store)
#: What is done: two things for one reply, and one for the next.
THINGS = ("deploy eu", "announce eu", "deploy us")
#: What a team does then.
NOTICES = ("tell ann", "tell bob")


def brain(body: dict[str, Any]) -> Answer:
    """The model: a function of how far the conversation is."""
    match sum(message["role"] == "assistant" for message in body["messages"]):
        case 0:
            return Answer([call("look", {})])
        case 1:
            return Answer([call("do", {"what": it}) for it in THINGS[:2]])
        case 2:
            return Answer([call("do", {"what": THINGS[2]})])
        case _:
            return Answer([text("done")])


class _Fate:
    """Counts points, and kills this process at one of them."""

    def __init__(self, die_at: int | None) -> None:
        self._die_at = die_at
        self._lock = threading.Lock()
        self.points = 0

    def reach(self) -> None:
        """Be at a point, and perhaps die there."""
        with self._lock:
            if self.points == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.points += 1

    def around(self, owner: Any, name: str) -> None:
        """Have a call lie between two points."""
        method = getattr(owner, name)

        async def watched(*args: Any, **named: Any) -> Any:
            self.reach()
            found = await method(*args, **named)
            self.reach()
            return found

        setattr(owner, name, watched)


class _Deployment:
    """What one process does."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.fate = _Fate(request.get("die_at"))
        self.wish: str = request["wish"]

    def ledger(self, path: str, data: dict[str, Any] | None = None) -> Any:
        """A request to the ledger."""
        self.fate.reach()
        url = self.request["ledger"] + path
        body = None if data is None else json.dumps(data).encode()
        with urllib.request.urlopen(url, body, timeout=30) as answer:
            told = json.loads(answer.read())
        self.fate.reach()
        return told

    def tools(self, engine: Engine) -> list[Any]:
        def look() -> str:
            """Look."""
            return "all is well"

        def keyed(what: str, *, key: Annotated[str, IdempotencyKey]) -> int:
            """Do something."""
            return int(self.ledger("/do", {"wish": self.wish, "what": what, "key": key}))

        def plain(what: str) -> int:
            """Do something."""
            return int(self.ledger("/do", {"wish": self.wish, "what": what, "key": None}))

        def find(what: str) -> int | None:
            asked = urllib.parse.urlencode({"wish": self.wish, "what": what})
            found: int | None = self.ledger(f"/did?{asked}")
            return found

        read = engine.tool(look, effect="read")
        requires = [Acl("deploy")]
        if self.request["tool"] == "key":
            return [read, engine.tool(keyed, effect="write", requires=requires, name="do")]
        return [read, engine.tool(plain, effect="write", requires=requires, name="do", lookup=find)]

    async def run(self) -> dict[str, Any]:
        """Deploy, by an agent, a program, or an agent inside a program."""
        request = self.request
        engine = Engine(request["url"], namespace=request["namespace"])
        look, do = self.tools(engine)
        client = anthropic.AsyncAnthropic(
            base_url=request["model"], api_key="test-key", max_retries=2
        )
        run_id: str | None = request.get("run_id")
        async with engine:
            store = engine.session().store
            # Pinned stores are copies of this one, and have its calls.
            for name, _ in inspect.getmembers(GraphStore, inspect.iscoroutinefunction):
                if not name.startswith("_") and name not in ("facts", "open", "close"):
                    self.fate.around(store, name)
            if request.get("observe"):
                await engine.observe("acl:deploy", request["observe"])
            if request["kind"] == "program":
                result = await self._program(engine, look, do, client, run_id)
            else:
                self.fate.around(client.messages, "create")
                agent = engine.agent("deployer", client=client, model="m", tools=[look, do])
                deploy = self._team if request["kind"] == "team" else self._agent
                result = await deploy(engine, agent, do, run_id)
        await client.close()
        return {
            "mode": result.mode,
            "output": result.output,
            "asked": sum(it.outcome == "asked" for it in result.steps),
            "points": self.fate.points,
        }

    async def _agent(self, _engine: Engine, agent: Any, _do: Any, run_id: str | None) -> Any:
        return await agent.execute({"wish": self.wish}, run_id=run_id, wait=10.0)

    async def _team(self, engine: Engine, agent: Any, do: Any, run_id: str | None) -> Any:
        """Runs inside a run with an id, which have none."""
        inputs = {"wish": self.wish}
        async with engine.run("team", inputs, run_id=run_id, wait=10) as run:
            await agent.execute(inputs)
            for what in NOTICES:
                async with engine.run("notice", inputs) as inner:  # an equal task each time
                    await inner.act(do, what=what)
            run.output = "done"
        return run.result

    async def _program(
        self, engine: Engine, look: Any, do: Any, client: Any, run_id: str | None
    ) -> Any:
        inputs = {"wish": self.wish}
        async with engine.run("deployment", inputs, client=client, run_id=run_id, wait=10) as run:
            messages: list[Any] = [{"role": "user", "content": "go"}]
            for turn in range(4):
                body = {"model": "m", "max_tokens": 100, "messages": [*messages]}
                _ = (await run.decide(body)).value  # it is opened: what follows rests on it
                messages += [
                    {"role": "assistant", "content": f"{turn}"},
                    {"role": "user", "content": "go on"},
                ]
                if turn == 0:
                    await run.act(look)
                elif turn == 1:
                    await asyncio.gather(*(run.act(do, what=it) for it in THINGS[:2]))
                elif turn == 2:
                    await run.act(do, what=THINGS[2])
            run.output = "done"
        return run.result


def main() -> None:
    """Serve requests until there are no more."""
    queries.queries()
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(reading)
            _be_a_child(request, writing)
        os.close(writing)
        if (after := request.get("die_after")) is not None:
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        with os.fdopen(reading, "rb") as told:
            answer = told.read()
        found = {"ended": os.waitstatus_to_exitcode(status)}
        found |= json.loads(answer) if answer else {}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def _be_a_child(request: dict[str, Any], told: int) -> NoReturn:
    status = 0
    try:
        vars(at_work)["_KNOWN_SECONDS"] = 0.0
        logging.disable()  # what is told of runs that were killed
        answer = asyncio.run(_Deployment(request).run())
    except BaseException:  # noqa: BLE001  (it is told)
        answer, status = {"error": traceback.format_exc()}, 1
    os.write(told, json.dumps(answer).encode())
    os._exit(status)


if __name__ == "__main__":
    main()
