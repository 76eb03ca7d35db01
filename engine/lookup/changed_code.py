"""What of the code is another than it was when a step was recorded, as far as the recording tells:
of a decision it holds the request, of an action the digests of what it was made of, and of both
what they rested on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from ...graphstore.canonical import Json
from ...graphstore.model import FacetRef, Step, StepKind, Trace
from ...invalidation.resources import Resource
from ..model.client import Dialect
from ..outcome.differences import Difference, request_differences, shown
from ..tools.tool import Tool, Use

__all__ = [
    "changed_action",
    "changed_decision",
    "changed_head",
    "changed_terms",
    "not_required_then",
]

_SHORT = 8  # characters of a digest
_SOURCE = "its body, its parameters, or what it uses"
_FILLED = re.compile(r"\\\{[^{}]*\\\}")  # a placeholder, in a text that is escaped


def changed_action(
    step: Step, rested_on: Sequence[FacetRef], tool: Tool | None, own: Sequence[Resource]
) -> tuple[Difference, ...]:
    """What is different about the tool of a recorded action. ``own``: what its agent requires."""
    if tool is None:
        return (Difference("$", "declared", None, note="there is no tool of this name now"),)
    body, _, terms = step.code_key.rpartition(".")
    if not terms or not body:  # it was called when there was none
        return (Difference("$", None, "declared", note="there was no tool of this name"),)
    found = [] if tool.same_terms(step.code_key) else changed_terms(step, rested_on, tool, own)
    if body != (now := tool.source_key()):
        found.append(Difference("$.source", body[:_SHORT], now[:_SHORT], note=_SOURCE))
    return tuple(found)


def changed_terms(
    step: Step, rested_on: Sequence[FacetRef], tool: Tool, own: Sequence[Resource]
) -> list[Difference]:
    """What is different about the effect class and the requirements of a tool."""
    terms = step.code_key.rpartition(".")[2]
    if (then := tool.use_of_terms(terms)) is not None:
        ways = zip(Use._fields, then, tool.use, strict=True)
        return [
            Difference(f"$.{it}", shown(was), shown(now)) for it, was, now in ways if was != now
        ]
    found = [*_requirements(rested_on, tool.requires, own if tool.is_write else ())]
    return found or [Difference("$.requires", terms[:_SHORT], tool.terms[:_SHORT])]


def changed_decision(
    step: Step, trace: Trace, requires: Sequence[Resource], tools: Iterable[Tool]
) -> tuple[Difference, ...]:
    """What an agent requires for its decisions beside what it did for this recorded one."""
    writes = [it for tool in tools if tool.is_write for it in tool.requires]
    rested_on = [trace.preconditions[guard].ref for guard in step.guards]
    always = _of_all_decisions(trace)
    return (
        *_added(rested_on, requires),
        *_gone((it for it in rested_on if it in always), (*requires, *writes)),
    )


def changed_head(dialect: Dialect, then: Json, now: Json) -> tuple[Difference, ...]:
    """Where a request without its messages is another one, in what can change its answer."""
    with suppress(Exception):  # it may have been written for another provider
        then, now = dialect.canonical_head(then), dialect.canonical_head(now)
    return request_differences(then, now)


def not_required_then(needed: Iterable[FacetRef], then: Sequence[FacetRef]) -> list[Difference]:
    """What a step is to rest on now and did not when it was recorded."""
    return [_of_requirement(None, facet) for facet in needed if facet not in then]


def _of_all_decisions(trace: Trace) -> frozenset[FacetRef]:
    """The facets that guard each decision: those that the agent itself requires."""
    guards = [set(it.guards) for it in trace.steps if it.kind is StepKind.DECISION]
    return frozenset(trace.preconditions[it].ref for it in set.intersection(*guards))


def _requirements(
    rested_on: Sequence[FacetRef], requires: Sequence[Resource], others: Sequence[Resource]
) -> Iterator[Difference]:
    yield from _added(rested_on, requires)
    yield from _gone(rested_on, (*requires, *others))


def _added(rested_on: Sequence[FacetRef], requires: Sequence[Resource]) -> Iterator[Difference]:
    for requirement in requires:
        if not any(_names(requirement, facet) for facet in rested_on):
            yield _of_requirement(None, requirement)


def _gone(rested_on: Iterable[FacetRef], requires: Sequence[Resource]) -> Iterator[Difference]:
    for facet in rested_on:
        if not any(_names(requirement, facet) for requirement in requires):
            yield _of_requirement(facet, None)


def _names(requirement: Resource, facet: FacetRef) -> bool:
    """Whether a requirement may have named this facet, whatever filled its placeholders."""
    declared = (requirement.uri, requirement.selector)
    return all(
        then == now if then is None or now is None else re.fullmatch(_pattern(now), then)
        for now, then in zip(declared, facet, strict=True)
    )


def _pattern(declared: str) -> str:
    return f"(?s:{_FILLED.sub('.+', re.escape(declared))})"


def _of_requirement(
    before: Resource | FacetRef | None, after: Resource | FacetRef | None
) -> Difference:
    was, is_ = (None if it is None else str(it) for it in (before, after))
    return Difference("$.requires", was, is_)
