"""Calls, parsed for their tools: once, from what the model or the program wrote.

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

__all__ = ["ParsedCall", "parse_act", "parse_call", "parse_served", "real_text"]


class ParsedCall(NamedTuple):
    """The arguments of a call, parsed for its tool; None: the tool cannot take it (``problem``).

    ``exact`` tells calls apart as their callers wrote them: the step's key is made of it. ``dump``
    is what is stored of the arguments for people, as JSON. ``required`` is what the tool requires
    with them. ``is_bound``: the call holds stand-ins, so equal texts may mean other arguments.
    """

    exact: str
    dump: bytes
    arguments: Mapping[str, Any] | None
    required: tuple[FacetRef, ...] = ()
    problem: str = ""
    is_bound: bool = False


def parse_call(
    tools: Mapping[str, Tool], inputs: Json, call: Call, standins: StandIns
) -> ParsedCall:
    """Parse a model's call. Raises ToolError if an opaque value names what is required."""
    exact_form = _exact_call(call)
    tool = tools.get(call.tool)
    if tool is None:
        known = ", ".join(sorted(tools)) or "none"
        problem = f"there is no tool {call.tool}; the tools are: {known}"
        return ParsedCall(exact_form, call.text, None, problem=problem)
    text = call.text
    try:
        text = real_text(call, standins)
        parsed = tool.parse(text)
        required = tool.facets(parsed, inputs)
    except ArgumentsInvalid as error:
        return ParsedCall(exact_form, text, None, problem=standins.hidden(str(error)))
    is_bound = text is not call.text
    if is_bound:
        _check_named(tool, call.text, inputs, required)
    return ParsedCall(exact_form, _dump(tool, parsed, text), parsed, required, is_bound=is_bound)


def parse_served(tool: Tool, call: Call, arguments: bytes, standins: StandIns) -> ParsedCall:
    """Parse a call whose recorded action stands: what it requires has been noted already."""
    try:
        text = real_text(call, standins)
        parsed = tool.parse(text)
    except ArgumentsInvalid as error:
        return ParsedCall("", arguments, None, problem=standins.hidden(str(error)))
    is_bound = text is not call.text
    dump = _dump(tool, parsed, text) if is_bound else arguments
    return ParsedCall("", dump, parsed, is_bound=is_bound)


def real_text(call: Call, standins: StandIns) -> bytes:
    """The arguments of a call with real values for stand-ins, as JSON text: the call's own if it
    holds no stand-in. Raises ArgumentsInvalid for one that was never shown."""
    if not (standins and call.may_hold_standin):
        return call.text
    try:
        real = encode(standins.real(call.arguments))
    except MangledStandIn as error:
        raise ArgumentsInvalid(f"{call.tool} was not called: {error}") from None
    return call.text if real == call.text else real


def _check_named(
    tool: Tool,
    written: Mapping[str, Any] | bytes,
    inputs: Json,
    required: tuple[FacetRef, ...],
) -> None:
    """A recording under other facts would stand for this call if opaque values named them."""
    if not any(requirement.arguments for requirement in tool.requires):
        return
    with suppress(ArgumentsInvalid):
        if tool.facets(tool.parse(written), inputs) == required:
            return
    raise ToolError(
        f"{tool.name} requires what an opaque value names ({', '.join(map(str, required))}); a"
        " value that fills a requirement is never opaque: leave the mark out where it comes from"
    )


def parse_act(
    tool: Tool, inputs: Json, arguments: Mapping[str, Any], standins: StandIns
) -> ParsedCall:
    """Parse a program's call. Raises ArgumentsInvalid, NotJson, and ToolError if an opaque value
    names what is required."""
    hidden = _hidden(tool, arguments, standins) if standins else arguments
    exact_form = _exact_arguments(hidden)  # before a validator may use it up
    is_bound = bool(standins) and exact_form != _exact_arguments(arguments)
    parsed = _copied(tool.parse(arguments))
    required = tool.facets(parsed, inputs)
    if is_bound:
        _check_named(tool, hidden, inputs, required)
    exact_form = exact_form or _exact_arguments(parsed) or f"unlike any other {uuid4()}"
    dump = encode(tool.arguments_of(parsed))
    return ParsedCall(f"act {exact_form}", dump, parsed, required, is_bound=is_bound)


def _hidden(tool: Tool, arguments: Mapping[str, Any], standins: StandIns) -> Mapping[str, Any]:
    """Arguments with stand-ins for the values that they are. Raises ArgumentsInvalid for one that
    still is a stand-in, which a program passes on from a reply that was not read back."""
    if standins.is_in(arguments):
        raise ArgumentsInvalid(
            f"{tool.name} was not called: an argument holds a stand-in instead of its value, as a"
            " model mangled what stood beside it"
        )
    return {name: standins.hide(value, shortest=0) for name, value in arguments.items()}


def _exact_arguments(arguments: Mapping[str, Any]) -> str:
    """The exact form of arguments; empty if they have none."""
    with suppress(NotExact):
        return exact(sorted(arguments.items()))
    return ""


def _copied(parsed: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments that the tool may change: a recording that is reused changes nothing either."""
    with suppress(Exception):  # what cannot be copied is handed over as it is
        return copy.deepcopy(parsed)
    return parsed


def _exact_call(call: Call) -> str:
    """The order in which arguments are named says nothing; that within one may."""
    text: Json = call.arguments  # a model may say what is no object
    return encode(dict(sorted(text.items())) if isinstance(text, Mapping) else text).decode()


def _dump(tool: Tool, parsed: Mapping[str, Any], text: bytes) -> bytes:
    try:
        return encode(tool.arguments_of(parsed))
    except NotJson:
        return text
