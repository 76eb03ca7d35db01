"""A hot replay of ten calls with values that differ on every run, beside one without such values.

Each of the ten tools' answers has an id. In the ticket agent's run the first call opens a ticket,
whose id the last call is given; the others are given what is the same on every run. In the other
run each call is given the id of the call before. On one side ids are marked as opaque and are
others on every run; on the other side they are the same each time and no mark is there, so that
nothing but the marks and stand-ins makes a difference.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.agent import Agent

from .measure import Row, Setting, Side, ratio, side_by_side
from .synthetic import ScriptedClient

__all__ = ["run"]

_CALLS = 10
_MARKED, _PLAIN = "with stand-ins", "without"
_GOAL = 1.15


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s."""
    rows = []
    for what, carried, goal in (("one id, carried once", 1, _GOAL), ("ten ids", _CALLS, None)):
        setting.say.phase(f"replaying in turns: {what}")
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine(f"sqlite:///{folder}/graph.db")
            async with engine:
                sides = [
                    Side(name, await _replaying(_agent(engine, name, carried)))
                    for name in (_MARKED, _PLAIN)
                ]
                p50s = await side_by_side(setting, *sides)
        rows.append(ratio(f"hot replay of {_CALLS} reads: {what}", p50s, _MARKED, _PLAIN, goal))
    return rows


async def _replaying(agent: Agent) -> Callable[[], Any]:
    assert (await agent.execute("go")).recorded

    async def replay() -> None:
        result = await agent.execute("go")
        assert result.identical
        assert len(result.steps) == 2 * _CALLS + 1

    return replay


def _agent(engine: Engine, name: str, carried: int) -> Agent:
    count = itertools.count(10**9)
    is_marked = name == _MARKED

    def follow(after: str) -> dict[str, Any]:
        number = next(count) if is_marked else after[-5:]
        return {"id": f"ticket-{number}", "state": "open", "labels": ["a", "b"], "priority": 3}

    async def fresh(after: str) -> dict[str, Any]:
        """The ticket that follows another one."""
        return follow(after)

    async def same(page: str) -> dict[str, Any]:
        """A page."""
        return {"id": page, "state": "open", "labels": ["a", "b"], "priority": 3}

    marks = ["$.id"] if is_marked else []
    kind = "marked" if is_marked else "plain"
    tools = [
        engine.tool(effect="read", name=f"follow_{kind}", version="1", opaque=marks)(fresh),
        engine.tool(effect="read", name=f"page_{kind}", version="1")(same),
    ]
    brain = partial(_brain, carried)
    return engine.agent(kind, client=ScriptedClient(brain), model="claude-sonnet-5", tools=tools)


def _brain(carried: int, body: Mapping[str, Any]) -> Answer:
    messages = body["messages"]
    turn = len(messages) // 2
    if turn == _CALLS:
        return Answer([text("That was the last one.")])
    follow, page = (tool["name"] for tool in body["tools"])
    if carried < _CALLS and 0 < turn < _CALLS - 1:
        return Answer([text(f"Step {turn + 1}."), call(page, {"page": f"page-{turn}"})])
    told = messages[2 if carried < _CALLS else -1]["content"][0] if turn else None
    after = json.loads(told["content"])["id"] if told else "none"
    return Answer([text(f"Step {turn + 1}."), call(follow, {"after": after})])
