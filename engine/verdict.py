"""Which steps of a trace still stand: a pure function of facts and code (I1, I2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from ..graphstore.canonical import Json
from ..graphstore.facts import Facts
from ..graphstore.model import FacetRef, Step, StepKind, Trace
from ..invalidation.resources import Resource
from ..invalidation.validity import broken_guards
from .cause import Cause, MissKind, cause_of
from .tool import Tool

__all__ = ["Code", "assess", "chosen", "needed_facets", "valid_prefix"]


@dataclass(frozen=True)
class Code:
    """The code that is current: what a recorded step must have been made by.

    ``decision`` is the code key of all decisions of an agent; None where each request has its
    own, which then is part of the key by which a step is found.
    """

    tools: Mapping[str, Tool]
    requires: tuple[Resource, ...]
    decision: str | None = None

    def of_action(self, name: str) -> str:
        """The code key of actions of that name; of a tool that is not there, a fixed one."""
        tool = self.tools.get(name)
        return tool.code_key if tool is not None else "unknown tool"


def assess(trace: Trace, facts: Facts, code: Code) -> tuple[Cause | None, ...]:
    """For each step why it does not stand; None if it does."""
    causes = tuple(_cause(step, trace, facts, code) for step in trace.steps)
    return tuple(
        cause or _unguarded_write(step, trace, code)
        for step, cause in zip(trace.steps, causes, strict=True)
    )


def _cause(step: Step, trace: Trace, facts: Facts, code: Code) -> Cause | None:
    now = code.decision if step.kind is StepKind.DECISION else code.of_action(step.name)
    if now is not None and step.code_key != now:
        return Cause(MissKind.CODE_CHANGED, step.name, step.code_key, now)
    for found in broken_guards(step, trace.preconditions, facts):
        return cause_of(found)
    return None


def _unguarded_write(decision: Step, trace: Trace, code: Code) -> Cause | None:
    """A decision stands only if the writes it chose still require what they did.

    Its guards name the facets of the day it was recorded; a requirement added to a write since
    then was never checked for it.
    """
    if decision.kind is not StepKind.DECISION:
        return None
    for action in trace.steps[decision.position + 1 :]:
        if action.decision != decision.position:
            continue
        tool = code.tools.get(action.name)
        if tool is not None and tool.is_write and not tool.same_terms(action.code_key):
            return Cause(MissKind.CODE_CHANGED, action.name, action.code_key, tool.code_key)
    return None


def valid_prefix(causes: Sequence[Cause | None]) -> int:
    """How many leading steps stand."""
    return sum(1 for _ in takewhile(lambda cause: cause is None, causes))


def chosen(
    traces: Sequence[Trace], facts: Facts, code: Code, prefer: str | None = None
) -> Trace | None:
    """The trace with the longest valid prefix; among equals the newest (I3).

    One that stands to its end is longer than any that does not, however many steps that took;
    and of these ``prefer`` (an id) comes first.
    """

    def rank(trace: Trace) -> tuple[float, bool]:
        prefix = valid_prefix(assess(trace, facts, code))
        whole = prefix == len(trace.steps) and trace.execution.complete
        return (math.inf if whole else prefix), whole and trace.id == prefer

    # ``max`` keeps the first of equals, and traces come newest first.
    return max(traces, key=rank, default=None)


def needed_facets(
    requires: Sequence[Resource], inputs: Json, arguments: Mapping[str, Json] | None = None
) -> tuple[FacetRef, ...]:
    """The facets that requirements name, each once, in their order."""
    return tuple(dict.fromkeys(item.resolve(inputs, arguments) for item in requires))
