"""What a tool gives: run it, and write down what came of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...graphstore.canonical import decode, encode, fingerprint
from ...graphstore.errors import NotJson
from ..errors import ArgumentsInvalid
from ..keys.standins import NoStandIn, StandIns
from ..keys.values import exact
from .tool import Tool

__all__ = ["KnownOutput", "Output", "Rendering", "Turn", "not_taken", "run_tool"]

_log = logging.getLogger("execgraph")


@dataclass(slots=True)
class KnownOutput:
    """The recorded text of an output. ``value_key``: of a plain value that gave it to the same
    tool in this process, so that it need not be written again."""

    data: bytes
    value_key: bytes | str | None = None


class Output(NamedTuple):
    """What a call gave: exact JSON text; if it failed, of a sentence that says how.

    ``value`` is what a program gets. ``returned``: the tool did, so its effect has happened.
    ``key``: the text's fingerprint, if it is known already. ``is_output``: the text is the output,
    and not a sentence about it.
    """

    data: bytes
    value: Any = None
    error: Exception | None = None
    returned: bool = True
    key: str = ""
    is_output: bool = True

    @property
    def output_key(self) -> str:
        return self.key or fingerprint(decode(self.data))


#: Waits until it is a call's turn to have its output rendered.
Turn = Callable[[], Awaitable[None]]


class Rendering(NamedTuple):
    """How an output becomes the text that a model reads. ``place``: which call it is, the same on
    every run. ``turn``: waits until the calls before it in the same reply are rendered, so that
    the order in which they end says nothing."""

    standins: StandIns
    place: str
    turn: Turn | None = None


def not_taken(problem: str) -> Output:
    """The output of a call that its tool cannot take: what is wrong with it."""
    return Output(encode(problem), error=ArgumentsInvalid(problem), returned=False)


async def run_tool(
    tool: Tool,
    arguments: Mapping[str, Any],
    key: str,
    rendering: Rendering,
    recorded: KnownOutput | None = None,
) -> Output:
    """Run the tool. ``recorded``: what it gave then, whose key is known."""
    try:
        value = await tool.run(arguments, key)
    except Exception as error:  # noqa: BLE001  (whatever a tool raises is told to the model)
        _log.warning("the tool %s failed; the run goes on", tool.name, exc_info=error)
        sentence = rendering.standins.hidden(f"{type(error).__name__}: {error}")
        return Output(encode(sentence), error=error, returned=False)
    try:
        if tool.has_marks:
            return await _marked(tool, value, rendering)
        if recorded is None:
            return _written(value, tool.dump(value))
        return _compared(tool, value, recorded)
    except (NotJson, RecursionError, ValueError) as error:
        return _not_json(tool, value, error)


async def _marked(tool: Tool, value: Any, rendering: Rendering) -> Output:
    marked = tool.marked(value)
    if rendering.turn is not None:
        await rendering.turn()
    rendered = marked.render(rendering.standins, rendering.place)
    rendering.standins.remember(marked.json, rendered)
    return _written(value, encode(rendered))


def _written(value: Any, data: bytes) -> Output:
    return Output(data, value, key=fingerprint(decode(data)))


def _compared(tool: Tool, value: Any, recorded: KnownOutput) -> Output:
    value_key = exact(value) if tool.writes_alike else None
    if value_key is not None and value_key == recorded.value_key:
        return Output(recorded.data, value)
    if (data := tool.dump(value)) != recorded.data:
        return _written(value, data)
    recorded.value_key = value_key
    return Output(data, value)


def _not_json(tool: Tool, value: Any, error: Exception) -> Output:
    """A model that reads of a failure tries again; but what the tool does is done."""
    _log.warning("the output of the tool %s cannot be recorded: %s", tool.name, error)
    sentence = (
        f"{tool.name} is done; do not repeat it. Its output (a {type(value).__name__}) cannot be"
        f" shown: {error if isinstance(error, NoStandIn) else 'it cannot be written as JSON'}."
    )
    return Output(encode(sentence), value, is_output=False)
