"""What a change would do to what is recorded, before it is made: pure functions of facts.

A trace's steps are judged twice, by the facts as they are and by those that the change would
make, as the walker marks them: a step is invalid iff some guard of it, or of a step that feeds
it, does not hold. What the next run of a task would ask is what the engine would find: the trace
with the longest prefix of steps whose own guards hold is followed, and a decision whose guards
do not hold is asked, unless another trace has an equal one whose guards do. Code is not looked
at: a change of code costs what it costs, whatever the facts are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import Any

from ..graphstore.document import Document
from ..graphstore.errors import SelectorError
from ..graphstore.facts import ABSENT, Fact, Facts, FactState
from ..graphstore.model import (
    FacetRef,
    Outline,
    OutlineStep,
    Precondition,
    StepKind,
    step_id,
)
from .validity import broken

__all__ = ["FacetImpact", "Impact", "StepImpact", "TaskImpact", "assessed", "changed", "touched"]


@dataclass(frozen=True, slots=True)
class FacetImpact:
    """A facet that would differ. A fingerprint is None where nothing is to be believed."""

    resource: str
    selector: str | None
    before: str | None
    after: str | None

    @property
    def ref(self) -> FacetRef:
        return FacetRef(self.resource, self.selector)

    def as_json(self) -> dict[str, Any]:
        """The change as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StepImpact:
    """A step whose mark would change. ``guard``: the id of the precondition that says why it is
    invalid: afterwards, or of one that becomes valid again, now."""

    execution: str
    position: int
    kind: StepKind
    name: str
    tokens: int
    guard: str

    @property
    def id(self) -> str:
        return step_id(self.execution, self.position)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "step": self.id,
            "kind": self.kind.value,
            "name": self.name,
            "tokens": self.tokens,
            "invalidated_by": self.guard,
        }


@dataclass(frozen=True, slots=True)
class TaskImpact:
    """What the next run of an affected task would cost.

    ``execution``: the trace it would follow, ``asked`` its decisions that nothing recorded would
    serve: ``tokens`` if the model says the same as then. ``tokens_at_most``: of all decisions that
    would be invalid, since what is said otherwise changes what follows. ``tokens_now``: what its
    next run costs without the change.
    """

    task: str
    agent: str
    execution: str
    asked: tuple[str, ...]
    tokens: int
    tokens_at_most: int
    tokens_now: int

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self) | {"asked": list(self.asked)}


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change would cost. It is false if nobody rests on what would differ.

    Attributes:
        resources: The URIs of what would change.
        facets: The parts that steps rest on and that would differ.
        invalid: The steps that would become invalid.
        valid: The steps that would be valid again.
        fallen: The ids of the traces that would no longer stand to their end.
        standing: The ids of the traces that would stand to their end again.
        tasks: What the next run of each affected task would cost.
        hints: What could not be told, and why.
    """

    resources: tuple[str, ...]
    facets: tuple[FacetImpact, ...] = ()
    invalid: tuple[StepImpact, ...] = ()
    valid: tuple[StepImpact, ...] = ()
    fallen: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    tasks: tuple[TaskImpact, ...] = ()
    hints: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether any part of a resource that somebody rests on would differ."""
        return bool(self.facets)

    @property
    def tokens(self) -> int:
        """What the next run of each affected task would cost, all together, in tokens.

        This is if the model says the same as when they were recorded.
        """
        return sum(task.tokens for task in self.tasks)

    @property
    def tokens_at_most(self) -> int:
        """The tokens if all that follows from a changed answer is asked anew."""
        return sum(task.tokens_at_most for task in self.tasks)

    @property
    def tokens_now(self) -> int:
        """What these runs cost without the change, in tokens."""
        return sum(task.tokens_now for task in self.tasks)

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            What ``execgraph impact --json`` prints.
        """
        return {
            "resources": list(self.resources),
            "tokens": self.tokens,
            "tokens_at_most": self.tokens_at_most,
            "tokens_now": self.tokens_now,
            "facets": [it.as_json() for it in self.facets],
            "invalid": [it.as_json() for it in self.invalid],
            "valid": [it.as_json() for it in self.valid],
            "fallen": list(self.fallen),
            "standing": list(self.standing),
            "tasks": [it.as_json() for it in self.tasks],
            "hints": list(self.hints),
        }


# Facts ------------------------------------------------------------------------------------


def changed(
    now: Facts,
    documents: Mapping[str, Document | None],
    selectors: Mapping[str, Iterable[str | None]],
) -> tuple[Facts, tuple[FacetImpact, ...], tuple[str, ...]]:
    """The facts if these resources become these documents (None: withdrawn); the facets that
    differ then; and hints where a selector cannot be applied: it then holds nothing."""
    facets: list[FacetImpact] = []
    hints: list[str] = []
    then = dict(now.by_resource)
    for uri, document in documents.items():
        before = now.of(uri)
        then[uri] = after = _fact(before, document, selectors[uri], uri, hints)
        for selector in sorted(selectors[uri], key=lambda it: (it is not None, it)):
            old, new = (_held(fact, selector, now.now) for fact in (before, after))
            if old != new:
                facets.append(FacetImpact(uri, selector, old, new))
    return Facts(now.now, then), tuple(facets), tuple(hints)


def _held(fact: Fact, selector: str | None, moment: int) -> str | None:
    return fact.fingerprints.get(selector) if fact.believed(moment) else None


def _fact(
    before: Fact,
    document: Document | None,
    selectors: Iterable[str | None],
    uri: str,
    hints: list[str],
) -> Fact:
    if document is None:
        # Withdrawing what was never observed changes nothing.
        return before if before is ABSENT else Fact(before.version + 1, FactState.WITHDRAWN)
    fingerprints = {}
    for selector in selectors:
        try:
            fingerprints[selector] = document.held(selector)
        except SelectorError as error:
            hints.append(f"{FacetRef(uri, selector)} counts as changed: {error}")
    return Fact(before.version + 1, FactState.PRESENT, None, fingerprints)


def touched(namespace: str, facets: Iterable[FacetImpact]) -> frozenset[str]:
    """The ids of the preconditions that would cease or begin to hold."""
    return frozenset(
        Precondition.of(namespace, change.ref, at).id
        for change in facets
        for at in (change.before, change.after)
        if at is not None
    )


# Steps ------------------------------------------------------------------------------------


def assessed(impact: Impact, outlines: Sequence[Outline], now: Facts, then: Facts) -> Impact:
    """The impact with what follows from its facets for these traces, newest first: all traces of
    each task that one of them matters to. Both facts tell of all that guards their steps."""
    before, after = _Judge(now), _Judge(then)
    invalid: list[StepImpact] = []
    valid: list[StepImpact] = []
    fallen: list[str] = []
    standing: list[str] = []
    affected: dict[str, list[Outline]] = defaultdict(list)
    tasks: set[str] = set()
    for outline in outlines:
        affected[outline.task].append(outline)
        old, new = before.marks(outline), after.marks(outline)
        for step in outline.steps:
            if step.position in new and step.position not in old:
                invalid.append(_impact(outline, step, new[step.position]))
            elif step.position in old and step.position not in new:
                valid.append(_impact(outline, step, old[step.position]))
        if old.keys() != new.keys():
            tasks.add(outline.task)
        if new and not old:
            fallen.append(outline.execution)
        elif old and not new:
            standing.append(outline.execution)
    return replace(
        impact,
        invalid=tuple(invalid),
        valid=tuple(valid),
        fallen=tuple(fallen),
        standing=tuple(standing),
        tasks=tuple(
            _task(traces, before, after) for task, traces in affected.items() if task in tasks
        ),
    )


class _Judge:
    """Steps by one set of facts; each precondition is judged once."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._holds: dict[str, bool] = {}

    def fallen(self, step: OutlineStep, outline: Outline) -> list[str]:
        """The step's own guards that do not hold."""
        return [guard for guard in step.guards if not self._held(guard, outline)]

    def _held(self, guard: str, outline: Outline) -> bool:
        if (known := self._holds.get(guard)) is None:
            precondition = outline.preconditions.get(guard)
            known = self._holds[guard] = (
                precondition is not None and broken(precondition, self._facts) is None
            )
        return known

    def marks(self, outline: Outline) -> dict[int, str]:
        """The invalid steps: by position, the least id of what is broken at or above each."""
        marks: dict[int, str] = {}
        for step in outline.steps:  # what feeds a step has a lower position
            why = self.fallen(step, outline)
            why += (marks[source] for source in step.feeds if source in marks)
            if why:
                marks[step.position] = min(why)
        return marks

    def followed(self, traces: Sequence[Outline]) -> Outline:
        """The trace that the next run follows: of equals the newest."""

        def rank(outline: Outline) -> float:
            standing = takewhile(lambda step: not self.fallen(step, outline), outline.steps)
            prefix = sum(1 for _ in standing)
            whole = prefix == len(outline.steps) and outline.complete
            return math.inf if whole else prefix

        return max(traces, key=rank)  # the first of equals

    def asked(self, followed: Outline, traces: Sequence[Outline]) -> list[OutlineStep]:
        """The decisions of ``followed`` that no trace would serve."""
        served = {
            (step.key, step.occurrence)
            for outline in traces
            for step in outline.steps
            if step.kind is StepKind.DECISION and not self.fallen(step, outline)
        }
        return [
            step
            for step in followed.steps
            if step.kind is StepKind.DECISION and (step.key, step.occurrence) not in served
        ]


def _impact(outline: Outline, step: OutlineStep, guard: str) -> StepImpact:
    return StepImpact(outline.execution, step.position, step.kind, step.name, step.tokens, guard)


def _task(traces: Sequence[Outline], before: _Judge, after: _Judge) -> TaskImpact:
    followed = after.followed(traces)
    asked = after.asked(followed, traces)
    marks = after.marks(followed)
    now = before.asked(before.followed(traces), traces)
    return TaskImpact(
        task=followed.task,
        agent=followed.agent,
        execution=followed.execution,
        asked=tuple(step_id(followed.execution, step.position) for step in asked),
        tokens=sum(step.tokens for step in asked),
        tokens_at_most=sum(
            step.tokens
            for step in followed.steps
            if step.kind is StepKind.DECISION and step.position in marks
        ),
        tokens_now=sum(step.tokens for step in now),
    )
