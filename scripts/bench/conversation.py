"""The key of a request, early and late in a conversation of 200 turns with 200 KB of history.

An agent's own loop adds messages and never changes one, so the key costs what is new. A program,
or a framework through the middleware, hands over all messages each time and may have changed one:
there each is written anew, and compared with what it was.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine import transcript
from execgraph.engine.tools.tool import Tool

from .measure import Row, Setting
from .synthetic import ScriptedClient

__all__ = ["run"]

_TURNS, _LETTERS = 200, 1000
_AT = {"early": range(6, 15), "late": range(191, 200)}
_MODEL = "claude-sonnet-5"
_GOAL = 1.25
_Taken = dict[str, list[float]]


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s: late turns beside early ones of the same runs."""
    rounds = max(3, setting.rounds // 30)
    rows = []
    for who, converse, goal in (("agent", _agent, _GOAL), ("program", _program, None)):
        setting.say.phase(f"conversations of {_TURNS} turns: {who}")
        keys, turns = _Taken(), _Taken()
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine(f"sqlite:///{folder}/graph.db")
            tool = engine.tool(effect="read")(look)
            async with engine:
                for number in range(rounds):
                    with _Watch() as watch:
                        await converse(engine, tool, number, watch)
                    watch.sort_into(keys, turns)
        rows += [
            _row(f"key of a request, {who}", keys, goal),
            _row(f"whole turn without the model, {who}", turns, None),
        ]
    return rows


def _row(what: str, taken: _Taken, goal: float | None) -> Row:
    early, late = (statistics.median(taken[when]) for when in _AT)
    return Row(what, f"turn 195 {late:.3f} ms", f"turn 10 {early:.3f} ms", late / early, goal)


class _Watch:
    """Times each reading of a request, and each turn less what the model took."""

    def __init__(self) -> None:
        self.keys: list[float] = []
        self.turns: list[float] = []
        self._read = transcript.Transcript.read
        self._since = time.perf_counter()

    def __enter__(self) -> _Watch:
        def read(this: Any, *args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            asked = self._read(this, *args, **kwargs)
            self.keys.append(time.perf_counter() - started)
            return asked

        transcript.Transcript.read = read  # type: ignore[method-assign,assignment]
        return self

    def __exit__(self, *_: object) -> None:
        transcript.Transcript.read = self._read  # type: ignore[method-assign]

    def asked(self) -> None:
        """The model is asked now."""
        self.turns.append(time.perf_counter() - self._since)

    def answered(self) -> None:
        """The model has answered."""
        self._since = time.perf_counter()

    def sort_into(self, keys: _Taken, turns: _Taken) -> None:
        """Add what was taken early and late, in milliseconds."""
        assert len(self.keys) == len(self.turns) == _TURNS
        for taken, into in ((self.keys, keys), (self.turns, turns)):
            for when, numbers in _AT.items():
                into.setdefault(when, []).extend(taken[it] * 1000 for it in numbers)


class _Client(ScriptedClient):
    """A model that looks on and on, until so many turns have passed."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__(_look_on)
        self._watch = watch

    @override
    async def ask(self, request: Mapping[str, Any]) -> bytes:
        self._watch.asked()
        reply = await super().ask(request)
        self._watch.answered()
        return reply


def _look_on(body: Mapping[str, Any]) -> Answer:
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    if turn == _TURNS - 1:
        return Answer([text("Enough.")])
    return Answer([text(f"Page {turn}."), call("look", {"page": turn})])


async def _agent(engine: Engine, tool: Tool, number: int, watch: _Watch) -> None:
    agent = engine.agent(
        "reader", client=_Client(watch), model=_MODEL, tools=[tool], max_turns=_TURNS
    )
    assert (await agent.execute({"number": number})).recorded


async def look(page: int) -> str:
    """A page."""
    return f"{page} " + "x" * _LETTERS


async def _program(engine: Engine, _: Tool, number: int, watch: _Watch) -> None:
    messages: list[Any] = []
    async with engine.run("reader", {"number": number}, client=_Client(watch)) as run:
        for turn in range(_TURNS):
            messages.append({"role": "user", "content": f"{turn} " + "x" * _LETTERS})
            reply = await run.decide({"model": _MODEL, "max_tokens": 9, "messages": messages})
            messages.append({"role": "assistant", "content": reply.value["content"]})
    assert run.result.recorded
