"""Hot replay on SQLite: ten calls that run again, every precondition checked, beside the peers.

muscle-mem runs the same tool bodies with the same arguments, each under a pre-check that captures
the facts the tool requires and compares them. Where its captures find the facts is what they cost:
once they read an SQLite file, where execgraph's facts are, so that other processes can change them;
once a dict of this process, the cheapest place there is, which nobody else can change.
muscle-mem stores each replay as one more trajectory and compares up to 20 of them on the next
call, so it is also measured with one trajectory only, which is its first replay.

diskcache stands for plain memoisation: no tool runs and nothing is checked.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from execgraph.adapters.messages_api import MessagesServer

from .measure import Row, Setting, Side, ratio, side_by_side
from .synthetic import CALLS, DOCUMENTS, Bench, brain, columns, rule_of, task

__all__ = ["run"]

_OURS, _POLLED = "execgraph", "muscle-mem with Checks, facts in SQLite"
_THEIRS, _FIRST = "muscle-mem with Checks, facts in a dict", "the same, its first replay"
_BARE, _CACHE = "muscle-mem without Checks", "diskcache"
_GOAL = 1 / 3


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s."""
    from anthropic import AsyncAnthropic

    with (
        tempfile.TemporaryDirectory() as folder,
        MessagesServer(brain) as server,
        _silent(),
    ):
        client = AsyncAnthropic(base_url=server.url, api_key="local")
        bench = Bench(f"sqlite:///{folder}/graph.db", "bench", client=client)
        async with client, bench.engine:
            await bench.observe()
            setting.say.phase("recording over HTTP with the real SDK")
            first = await bench.agent.execute(task())
            assert first.recorded, first

            async def replay() -> None:
                result = await bench.agent.execute(task())
                assert result.identical
                assert len(result.steps) == 21

            ours = Side(_OURS, replay)
            facts = _table_of_facts(Path(folder))
            peers = [
                (_muscle_mem(_POLLED, facts), _GOAL),
                (_muscle_mem(_THEIRS, _from_memory), _GOAL),
                (_muscle_mem(_FIRST, _from_memory, keeps_one=True), None),
                (_muscle_mem(_BARE, None), None),
                (_diskcache(Path(folder)), None),
            ]
            rows = []
            for peer, goal in peers:
                setting.say.phase(f"replaying in turns with {peer.name}")
                p50s = await side_by_side(setting, ours, peer)
                what = "hot replay of 10 reads, SQLite"
                rows.append(ratio(what, p50s, _OURS, peer.name, goal))
            requests = server.requests
    assert requests == 11, "a replay asked the model"
    return rows


# What stands for the outside --------------------------------------------------------------

_Facts = Callable[[str], Any]


def _from_memory(uri: str) -> Any:
    return DOCUMENTS[uri]


def _table_of_facts(folder: Path) -> _Facts:
    connection = sqlite3.connect(folder / "facts.db", isolation_level=None)
    connection.execute("CREATE TABLE fact (uri TEXT PRIMARY KEY, document TEXT)")
    rows = [(uri, json.dumps(document)) for uri, document in DOCUMENTS.items()]
    connection.executemany("INSERT INTO fact VALUES (?, ?)", rows)

    def read(uri: str) -> Any:
        found = connection.execute("SELECT document FROM fact WHERE uri = ?", (uri,))
        return json.loads(found.fetchone()[0])

    return read


def _muscle_mem(name: str, facts: _Facts | None, *, keeps_one: bool = False) -> Side:
    # Loaded by name: it has no types, and only this environment has it at all.
    theirs = importlib.import_module("muscle_mem")
    engine = theirs.Engine()
    tools = {
        "look_at": engine.function(
            pre_check=_check(theirs, facts, lambda table: [f"schema:{table}"], "columns")
        )(columns),
        "ask_rule": engine.function(
            pre_check=_check(theirs, facts, lambda place: [f"acl:deploy/{place}"], None)
        )(rule_of),
    }

    def agent() -> None:
        for tool, arguments in CALLS:
            tools[tool](**arguments)

    engine.set_agent(agent).finalize()
    tags = ["releaser"]
    assert engine(tags=tags) is False
    trajectories: list[Any] = engine.db.trajectories[tuple(tags)]

    async def replay() -> None:
        assert engine(tags=tags) is True

    async def forget() -> None:
        del trajectories[1:]

    return Side(name, replay, forget if keeps_one else None)


def _check(
    theirs: Any, facts: _Facts | None, uris: Callable[..., Sequence[str]], part: str | None
) -> Any:
    if facts is None:
        return None

    def capture(**arguments: str) -> list[Any]:
        read = [facts(uri) for uri in uris(**arguments)]
        return [it if part is None else it[part] for it in read]

    def compare(now: list[Any], then: list[Any]) -> bool:
        return now == then

    return theirs.Check(capture=capture, compare=compare)


def _diskcache(folder: Path) -> Side:
    cache = importlib.import_module("diskcache").Cache(str(folder / "diskcache"))
    bodies = {
        "look_at": cache.memoize(name="look_at")(columns),
        "ask_rule": cache.memoize(name="ask_rule")(rule_of),
    }

    async def replay() -> None:
        for tool, arguments in CALLS:
            bodies[tool](**arguments)

    return Side(_CACHE, replay)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """muscle-mem prints colour codes around each call."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
