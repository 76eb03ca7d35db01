"""The program whose children die: ``python -m tests.crashes.child``, one request a line.

A request is a JSON object: ``act`` (a scenario's name), ``url``, ``namespace``, ``die_at`` (the
number of a point; null: never), ``settings``. Each is done by a fork of this process, made before
any loop, thread or connection, so that a hundred deaths cost no hundred starts of an interpreter.
The answer is a JSON object too: the ``signal`` or ``status`` it ended with, ``died`` (the point),
``points``, ``dumps`` (of the store after each call, if it lived), ``commits``, and the ``error``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import neo4j

from execgraph.adapters.anthropic import client_adapter
from execgraph.engine import host
from execgraph.engine.sessions import collector, journal, ledger, replay_writer
from execgraph.graphstore.neo4j import queries
from execgraph.graphstore.neo4j import store as _neo4j_store
from execgraph.graphstore.sqlite import store as _sqlite_store
from execgraph.invalidation import walker

from .agents import LIVES, declared
from .breaking import BREAK
from .dumps import dump
from .dying import Fate, Point, dying_store, random_is_counted
from .migrating import private
from .scenarios import SCENARIOS, Operation

_LOADED = (anthropic, neo4j, client_adapter, _neo4j_store, _sqlite_store)
_LEASE_SECONDS = 0.4  # a dead walker's lease is waited for


def main() -> None:
    """Serve requests until there are no more."""
    queries.queries()
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as told:
            told_at = told.fileno()
            if (pid := os.fork()) == 0:
                _be_a_child(request, told_at)
            _, status = os.waitpid(pid, 0)
            told.seek(0)
            answer = [json.loads(it) for it in told.read().splitlines()]
        ended = os.waitstatus_to_exitcode(status)
        found: dict[str, Any] = {"ended": ended}
        for it in answer:
            found |= it
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def _be_a_child(request: dict[str, Any], told: int) -> None:
    status = 0
    try:
        random_is_counted(2 if request.get("before") else 1)
        walker.LEASE_SECONDS = _LEASE_SECONDS
        # A lease is not extended: how often it is would depend on how fast the machine is.
        vars(walker)["time"] = SimpleNamespace(monotonic=lambda: 0.0)
        asyncio.run(_act(request, told))
    except BaseException:  # noqa: BLE001 (it is told)
        _tell(told, {"error": traceback.format_exc()})
        status = 1
    finally:
        os._exit(status)


def _tell(told: int, it: dict[str, Any]) -> None:
    os.write(told, json.dumps(it).encode() + b"\n")


async def _act(request: dict[str, Any], told: int) -> None:
    url, namespace = request["url"], request["namespace"]
    states: list[Any] = []
    calls: list[Any] = []

    async def look(call: str) -> None:
        calls.append([call, _size_of_log(url)])
        if request.get("look"):
            states.append(await dump(url, namespace))

    if broken := request.get("broken"):
        BREAK[broken]()
    if mark := request.get("private"):
        statements = private(mark)
        queries.queries = lambda: statements  # type: ignore[assignment]
    fate = Fate(request["die_at"], lambda point: _tell(told, {"died": point, "calls": calls}), look)
    if request.get("look"):
        states.append(await dump(url, namespace))
    if request["act"] in LIVES:
        done = await _life(request, fate)
    else:
        done = await _operations(SCENARIOS[request["act"]].acts, url, namespace, fate)
    points: list[Point] = fate.points
    _tell(
        told,
        {"points": points, "dumps": states, "calls": calls, "commits": fate.commits, "done": done},
    )


async def _operations(acts: Sequence[Operation], url: str, namespace: str, fate: Fate) -> list[int]:
    """How many calls of the store had ended after each operation."""
    store = dying_store(url, fate, namespace=namespace)
    await store.open()
    done = []
    for operation in acts:
        await operation(store)
        done.append(fate.ended)
    await store.close()
    return done


async def _life(request: dict[str, Any], fate: Fate) -> list[int]:
    """An agent's; what it does in the background is left to the calls that wait for it."""
    walker.Walker.kick = lambda self: None  # type: ignore[method-assign]
    collector.Collector.kick = lambda self: None  # type: ignore[method-assign]
    replay_writer._DELAY_SECONDS = 3600
    ledger.Ledger.note = lambda *_: None  # type: ignore[method-assign]
    journal.Journal._start = lambda self: None  # type: ignore[method-assign]
    where = (request["url"], request["namespace"], request["model"], Path(request["log"]))
    it = declared(*where)
    # Set by name: the module does not export it.
    vars(host)["connect"] = lambda url, **how: dying_store(url, fate, **how)
    async with it.engine:
        before, acts = LIVES[request["act"]]
        await (before if request.get("before") else acts)(it)
        if request.get("before"):
            await it.engine.settle()
    return [fate.ended]


def _size_of_log(url: str) -> int:
    log = Path(url.removeprefix("sqlite:///") + "-wal")
    return log.stat().st_size if url.startswith("sqlite") and log.exists() else 0


if __name__ == "__main__":
    main()
