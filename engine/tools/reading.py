"""A call as its tool takes it: read once, from what the model or the program said.

A tool is never called with what was stored of its arguments. Parsing a dump gives another value
wherever a type is not read back as it was written: converted, aliased, unset or secret.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import uuid4

from ...graphstore.canonical import Json, encode
from ...graphstore.errors import NotJson
from ...graphstore.model import FacetRef
from ..errors import ArgumentsInvalid, ToolError
from ..keys.exact import NotExact, exact
from ..keys.standins import MangledStandIn, StandIns
from ..model.client import Call
from .tool import Tool

__all__ = ["Reading", "read_act", "read_call", "read_served", "real_text"]


class Reading(NamedTuple):
    """What a tool is called with. ``parsed`` None: it cannot take it, for this ``problem``.

    ``said`` is what the caller said, exactly: the step's key is made of it. ``arguments`` is what
    is stored of it for people, as JSON. ``required`` is what the tool requires then.
    ``is_bound``: stand-ins were said, so that equal words may mean other arguments.
    """

    said: str
    arguments: bytes
    parsed: Mapping[str, Any] | None
    required: tuple[FacetRef, ...] = ()
    problem: str = ""
    is_bound: bool = False


def read_call(tools: Mapping[str, Tool], inputs: Json, call: Call, standins: StandIns) -> Reading:
    """A call of a model's reply. Raises ToolError if an opaque value names what is required."""
    said = _said(call)
    tool = tools.get(call.tool)
    if tool is None:
        known = ", ".join(sorted(tools)) or "none"
        problem = f"there is no tool {call.tool}; the tools are: {known}"
        return Reading(said, call.text, None, problem=problem)
    given = call.text
    try:
        given = real_text(call, standins)
        parsed = tool.parse(given)
        required = tool.facets(parsed, inputs)
    except ArgumentsInvalid as error:
        return Reading(said, given, None, problem=standins.hidden(str(error)))
    bound = given is not call.text
    if bound:
        _check_named(tool, call, inputs, required)
    return Reading(said, _shown(tool, parsed, given), parsed, required, is_bound=bound)


def read_served(tool: Tool, call: Call, arguments: bytes, standins: StandIns) -> Reading:
    """A call of a served reply, whose action stands: what it requires has been noted already."""
    try:
        given = real_text(call, standins)
        parsed = tool.parse(given)
    except ArgumentsInvalid as error:
        return Reading("", arguments, None, problem=standins.hidden(str(error)))
    bound = given is not call.text
    shown = _shown(tool, parsed, given) if bound else arguments
    return Reading("", shown, parsed, is_bound=bound)


def real_text(call: Call, standins: StandIns) -> bytes:
    """The arguments of a call with the values that it means, as JSON text: the call's own if it
    says no stand-in. Raises ArgumentsInvalid for one that was never shown."""
    if not standins:
        return call.text
    try:
        real = encode(standins.real(call.arguments))
    except MangledStandIn as error:
        raise ArgumentsInvalid(f"{call.tool} was not called: {error}") from None
    return call.text if real == call.text else real


def _check_named(tool: Tool, call: Call, inputs: Json, required: tuple[FacetRef, ...]) -> None:
    """A recording under other facts would stand for this call if opaque values named them."""
    if not any(requirement.arguments for requirement in tool.requires):
        return
    with suppress(ArgumentsInvalid):
        if tool.facets(tool.parse(call.text), inputs) == required:
            return
    raise ToolError(
        f"{tool.name} requires what an opaque value names ({', '.join(map(str, required))}); a"
        " value that fills a requirement is never opaque: leave the mark out where it comes from"
    )


def read_act(tool: Tool, inputs: Json, arguments: Mapping[str, Any]) -> Reading:
    """A program's call. Raises ArgumentsInvalid, NotJson."""
    said = _exactly(arguments)  # before a validator may use it up
    parsed = _apart(tool.parse(arguments))
    required = tool.facets(parsed, inputs)
    said = said or _exactly(parsed) or f"unlike any other {uuid4()}"
    return Reading(f"act {said}", encode(tool.arguments_of(parsed)), parsed, required)


def _exactly(arguments: Mapping[str, Any]) -> str:
    """Nothing if they have no exact form."""
    with suppress(NotExact):
        return exact(sorted(arguments.items()))
    return ""


def _apart(parsed: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments that the tool may change: a recording that is reused changes nothing either."""
    with suppress(Exception):  # what cannot be copied is handed over as it is
        return copy.deepcopy(parsed)
    return parsed


def _said(call: Call) -> str:
    """The order in which arguments are named says nothing; that within one may."""
    given: Json = call.arguments  # a model may say what is no object
    return encode(dict(sorted(given.items())) if isinstance(given, Mapping) else given).decode()


def _shown(tool: Tool, parsed: Mapping[str, Any], given: bytes) -> bytes:
    try:
        return encode(tool.arguments_of(parsed))
    except NotJson:
        return given
