"""What a tool gives: run it, and write down what came of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from ...graphstore.canonical import decode, encode, fingerprint
from ...graphstore.errors import NotJson
from ..errors import ArgumentsInvalid
from ..keys.standins import NoStandIn, StandIns
from ..spelling import sentence_of
from .known_output import KnownOutput
from .tool import Tool

__all__ = [
    "Output",
    "Rendering",
    "Turn",
    "not_taken",
    "output_again",
    "run_tool",
]

_log = logging.getLogger("execgraph")


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
        sentence = rendering.standins.hidden(sentence_of(error))
        return Output(encode(sentence), error=error, returned=False)
    try:
        if tool.has_marks:
            return await _marked(tool, value, rendering, recorded)
        if recorded is None:
            return _written(value, tool.dump(value))
        return _compared(tool, value, recorded)
    except (NotJson, RecursionError, ValueError) as error:
        return _not_json(tool, value, error)


async def _marked(
    tool: Tool, value: Any, rendering: Rendering, recorded: KnownOutput | None = None
) -> Output:
    marked = None if tool.marks_by_name else tool.marked(value)
    plain = value if marked is None else marked.json
    values = None if recorded is None else recorded.marked_values(plain, marked)
    if values is None and marked is None:
        marked = tool.marked(value)
    if rendering.turn is not None:
        await rendering.turn()
    standins, place = rendering.standins, rendering.place
    if recorded is not None and values is not None and recorded.shows(values, standins):
        return Output(recorded.data, value)
    marked = marked or tool.marked(value)
    rendered = marked.render(standins, place)
    standins.remember(marked.json, rendered)
    data = encode(rendered)  # most often the recorded text, whose key is known
    if recorded is not None and data == recorded.data:
        recorded.note_marked(plain, marked, place, standins)
    return Output(data, value)


async def output_again(tool: Tool, text: bytes, rendering: Rendering) -> Output:
    """What a tool gave before, from the JSON text that was kept of it."""
    value = tool.load(text)
    try:
        return await _marked(tool, value, rendering) if tool.has_marks else _written(value, text)
    except (NotJson, RecursionError, ValueError) as error:
        return _not_json(tool, value, error)


def _written(value: Any, data: bytes) -> Output:
    return Output(data, value, key=fingerprint(decode(data)))


def _compared(tool: Tool, value: Any, recorded: KnownOutput) -> Output:
    if tool.writes_alike and recorded.is_of(value):
        return Output(recorded.data, value)
    if (data := tool.dump(value)) != recorded.data:
        return _written(value, data)
    if tool.writes_alike:
        recorded.note(value)
    return Output(data, value)


def _not_json(tool: Tool, value: Any, error: Exception) -> Output:
    """A model that reads of a failure tries again; but what the tool does is done."""
    _log.warning("the output of the tool %s cannot be recorded: %s", tool.name, error)
    sentence = (
        f"{tool.name} is done; do not repeat it. Its output (a {type(value).__name__}) cannot be"
        f" shown: {error if isinstance(error, NoStandIn) else 'it cannot be written as JSON'}."
    )
    return Output(encode(sentence), value, is_output=False)
