"""Which steps of a trace stand: a pure function of facts and code (I1, facts and not marks)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import NamedTuple

from ...graphstore.canonical import fingerprint
from ...graphstore.facts import Facts
from ...graphstore.model import Effect, FacetRef, Step, StepKind, Trace
from ...invalidation.resources import Resource
from ...invalidation.validity import broken_guards
from ..outcome.cause import Cause, MissKind, cause_of
from ..steps.noted_facts import Note
from ..tools.tool import Tool
from .changed_code import changed_action, changed_terms

__all__ = [
    "Code",
    "Period",
    "Recorded",
    "assess",
    "chosen",
    "decisions_behind",
    "is_too_old",
    "rests_on",
    "standing_prefix",
]


@dataclass(frozen=True)
class Code:
    """The code that is current: what a recorded step must have been made by.

    ``decision`` is the code key of all decisions of an agent; None where each request has its
    own, which then is part of the key by which a step is found.
    """

    tools: Mapping[str, Tool]
    requires: tuple[Resource, ...]
    decision: str | None = None
    # By the number of tools (more of them may be declared, and none is ever taken away), and by
    # the keys of those that may change while the process runs.
    _identities: dict[tuple[int | str, ...], str] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def identity(self) -> str:
        """Equal iff all of it is: a process may hold several versions of an agent."""
        tools = tuple(self.tools.values())  # other threads may declare more meanwhile
        state: tuple[int | str, ...] = (
            len(tools),
            *(it.code_key for it in tools if it.effect is Effect.PURE),
        )
        if (known := self._identities.get(state)) is None:
            keys = sorted(tool.code_key for tool in tools)
            known = self._identities[state] = fingerprint([self.decision, *keys])
        return known

    def of_action(self, name: str) -> str:
        """The code key of actions of that name; of a tool that is not there, a fixed one."""
        tool = self.tools.get(name)
        return tool.code_key if tool is not None else "unknown tool"


#: What keeps a step from standing whatever the facts are.
_WHATEVER_FACTS = (MissKind.CODE_CHANGED, MissKind.TOO_OLD)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded step as it was judged: why it does not stand, None if it does.

    ``notes`` are its guards at the versions by which they were judged; ``failing`` the facets
    of those that do not hold.
    """

    trace: str
    step: Step
    notes: tuple[Note, ...]
    cause: Cause | None
    failing: tuple[FacetRef, ...] = ()

    @property
    def facets(self) -> tuple[FacetRef, ...]:
        """The facets that the step rests on."""
        return tuple(note.guard.ref for note in self.notes)

    @property
    def noted(self) -> dict[FacetRef, Note]:
        """Its notes by what they are about."""
        return {note.guard.ref: note for note in self.notes}

    def under(self, notes: Mapping[FacetRef, Note]) -> Recorded:
        """This step, judged by facts read later, in which all its facets are noted."""
        if self.cause is not None and self.cause.kind in _WHATEVER_FACTS:
            return self
        failing = [note.guard for note in self.notes if not note.holds_in(notes)]
        if not failing:
            now = tuple(notes[facet] for facet in self.facets)
            return replace(self, notes=now, cause=None, failing=())
        cause = self.cause or Cause(
            MissKind.PRECONDITION_CHANGED,
            str(failing[0].ref),
            failing[0].fingerprint,
            facet=failing[0].ref,
        )
        return replace(self, cause=cause, failing=tuple(guard.ref for guard in failing))


class Period(NamedTuple):
    """When a reply was asked for that may be served, in milliseconds since 1970. It ends ahead of
    now, as the clocks of processes differ a little."""

    begins: int
    ends: int

    def has(self, asked: int) -> bool:
        """Whether a reply that was asked for then may be served."""
        return self.begins <= asked <= self.ends


def assess(
    trace: Trace, facts: Facts, code: Code, period: Period | None = None
) -> tuple[Recorded, ...]:
    """The steps of a trace, each judged. ``period`` None: a reply may be as old as it is."""
    judged = [_judged(step, trace, facts, code, period) for step in trace.steps]
    for position, terms in _changed_terms(trace, code):
        # Also where a guard does not hold: that may hold again, and the terms stay changed.
        judged[position] = replace(judged[position], cause=terms)
    return tuple(judged)


def _judged(step: Step, trace: Trace, facts: Facts, code: Code, period: Period | None) -> Recorded:
    whatever_facts = _changed_code(step, trace, code) or _too_old(step, trace, period)
    fallen = tuple(broken_guards(step, trace.preconditions, facts))
    guards = (trace.preconditions[key] for key in step.guards)
    return Recorded(
        trace=trace.id,
        step=step,
        notes=tuple(
            Note(guard, facts.of(guard.resource).version, believed=True) for guard in guards
        ),
        cause=whatever_facts or (cause_of(fallen[0]) if fallen else None),
        failing=tuple(broken.guard.ref for broken in fallen),
    )


def _changed_code(step: Step, trace: Trace, code: Code) -> Cause | None:
    """Why a step was made by other code; of a decision ``lookup`` says where that differs."""
    now = code.decision if step.kind is StepKind.DECISION else code.of_action(step.name)
    if now is None or step.code_key == now:
        return None
    cause = Cause(MissKind.CODE_CHANGED, step.name, step.code_key, now)
    if step.kind is StepKind.DECISION:
        return cause
    tool, rested_on = code.tools.get(step.name), rests_on(step, trace)
    return replace(cause, differences=changed_action(step, rested_on, tool, code.requires))


def _too_old(step: Step, trace: Trace, period: Period | None) -> Cause | None:
    if period is None or step.kind is not StepKind.DECISION:
        return None
    asked = trace.execution.started_at if step.started_at is None else step.started_at
    if period.has(asked):
        return None
    day = datetime.fromtimestamp(asked // 1000, UTC).date()
    return Cause(MissKind.TOO_OLD, f"{step.name}, asked on {day}")


def is_too_old(trace: Trace, period: Period | None) -> bool:
    """Whether a reply of a trace is too old to be served. One that was kept from an earlier trace
    is as old as it was there."""
    return period is not None and any(_too_old(step, trace, period) for step in trace.steps)


def rests_on(step: Step, trace: Trace) -> list[FacetRef]:
    """The facets that a recorded step rests on."""
    return [trace.preconditions[guard].ref for guard in step.guards]


def _changed_terms(trace: Trace, code: Code) -> Iterator[tuple[int, Cause]]:
    """Decisions that chose a write which requires something else today, and why.

    Their guards name the facets of the day they were recorded; a requirement added to a write
    since then was never checked for them.
    """
    for action in trace.steps:
        tool = code.tools.get(action.name)
        if tool is None or not tool.is_write or tool.same_terms(action.code_key):
            continue
        where = changed_terms(action, rests_on(action, trace), tool, code.requires)
        cause = Cause(
            MissKind.CODE_CHANGED,
            action.name,
            action.code_key,
            tool.code_key,
            differences=tuple(where),
        )
        for position in decisions_behind(trace.steps, action):
            yield position, cause


def decisions_behind(steps: Sequence[Step], write: Step) -> list[int]:
    """The decisions that chose a recorded write; of a program's all that may have: they came
    before it, and what guards it guards them."""
    if write.decision is not None:
        return [write.decision]
    return [
        step.position
        for step in steps[: write.position]
        if step.kind is StepKind.DECISION and set(write.guards) <= set(step.guards)
    ]


def standing_prefix(judged: Sequence[Recorded]) -> int:
    """How many leading steps stand."""
    return sum(1 for _ in takewhile(lambda recorded: recorded.cause is None, judged))


def chosen(
    traces: Sequence[Trace], judged: Mapping[str, Sequence[Recorded]], prefer: str | None = None
) -> Trace | None:
    """The trace with the longest standing prefix; among equals the newest (I3, restore).

    One that stands to its end is longer than any that does not, however many steps that took;
    and of these ``prefer`` (an id) comes first.
    """

    def rank(trace: Trace) -> tuple[float, bool]:
        prefix = standing_prefix(judged[trace.id])
        whole = prefix == len(trace.steps) and trace.execution.complete
        return (math.inf if whole else prefix), whole and trace.id == prefer

    # ``max`` keeps the first of equals, and traces come newest first.
    return max(traces, key=rank, default=None)
