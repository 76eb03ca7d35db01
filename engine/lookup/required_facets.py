"""What steps rest on: from declared requirements to the facets that are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ...graphstore.canonical import Json
from ...graphstore.model import FacetRef
from ...invalidation.resources import Resource
from ..model.client import Call
from ..tools.parsed_call import ParsedCall
from ..tools.tool import Tool

__all__ = ["needed_facets", "needs_of_calls", "needs_of_offered", "required_by_writes"]


def needed_facets(requires: Sequence[Resource], inputs: Json) -> tuple[FacetRef, ...]:
    """The facets that requirements name by the task's inputs, each once, in their order."""
    return tuple(dict.fromkeys(item.resolve(inputs) for item in requires))


def needs_of_offered(
    tools: Mapping[str, Tool], inputs: Json, offered: Iterable[str] | None
) -> tuple[FacetRef, ...]:
    """What the offered writes require whatever their arguments: noted before a reply.

    ``offered`` None: all tools may be.
    """
    # A copy: other threads may declare more tools meanwhile.
    known = (tools.get(name) for name in (tuple(tools) if offered is None else offered))
    requires = [
        requirement
        for tool in known
        if tool is not None and tool.guards_decisions
        for requirement in tool.requires
        if requirement.answers(inputs)
    ]
    return needed_facets(requires, inputs)


def required_by_writes(tools: Iterable[Tool], inputs: Json) -> Callable[[str], bool]:
    """Whether a resource may be required by one of the writes, for some arguments."""
    requires = [
        requirement for tool in tools if tool.guards_decisions for requirement in tool.requires
    ]
    named = {it.resolve(inputs).resource for it in requires if it.answers(inputs)}
    begins = tuple(it.uri.partition("{")[0] for it in requires if not it.answers(inputs))
    return lambda uri: uri in named or uri.startswith(begins)


def needs_of_calls(
    tools: Mapping[str, Tool], calls: Sequence[Call], parsed_calls: Sequence[ParsedCall]
) -> tuple[tuple[FacetRef, ...], tuple[FacetRef, ...]]:
    """What the writes among the calls require, and what all of them do."""
    writes: list[FacetRef] = []
    every: list[FacetRef] = []
    for call, parsed_call in zip(calls, parsed_calls, strict=True):
        every += parsed_call.required
        if (tool := tools.get(call.tool)) is not None and tool.guards_decisions:
            writes += parsed_call.required
    return tuple(dict.fromkeys(writes)), tuple(dict.fromkeys(every))
