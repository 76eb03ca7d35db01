"""Two runs side by side: the first step at which they differ, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from ...graphstore.canonical import Json
from ...graphstore.model import Execution, StepKind
from ...graphstore.store import GraphStore
from ..model.client import Dialect, Names
from ..outcome.differences import differences, request_differences
from ..outcome.html import page, table
from ..replay.nearest_request import Request, comparable
from .diff import Diff, compared
from .recorded import Read, RecordedRun, RecordedStep, told
from .runs import execution_as_json

__all__ = ["RunDiff", "run_diff"]


@dataclass(frozen=True, slots=True)
class RunDiff:
    """Two runs, and where they begin to differ. What a run cost and when is no difference.

    Attributes:
        before: The first run, as it is stored.
        after: The second run, likewise.
        task: What differs in what they were asked to do; None: nothing.
        step: The position of the first step that differs; None: none does.
        names: What that step is in each of them: its kind and name, or None if the run has no
            step there.
        fields: Its fields that differ: of each the two documents, and every place.
        steps: How many steps each of them has.
        hints: What cannot be told, and why.
    """

    before: Execution
    after: Execution
    task: Diff | None
    step: int | None
    names: tuple[str | None, str | None]
    fields: tuple[Diff, ...]
    steps: tuple[int, int]
    hints: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the two runs differ at all."""
        return self.task is not None or self.step is not None

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON; what is named as a secret is hidden.

        Returns:
            What ``execgraph diff --json`` prints.
        """
        return {
            "before": execution_as_json(self.before),
            "after": execution_as_json(self.after),
            "differs": self.differs,
            "task": None if self.task is None else self.task.as_json(),
            "step": self.step,
            "names": list(self.names),
            "fields": [it.as_json() for it in self.fields],
            "steps": list(self.steps),
            "hints": list(self.hints),
        }

    def _repr_html_(self) -> str:
        of_task = [] if self.task is None else [self.task]
        rows = [
            (diff.about, it.place, it.before, it.after)
            for diff in (*of_task, *self.fields)
            for it in diff.differences
        ]
        where = "no step differs" if self.step is None else f"step {self.step} differs first"
        told = table(("", "place", self.before.id, self.after.id), rows)
        return page(f"{self.before.id} and {self.after.id}: {where}", told, *self.hints)


async def run_diff(store: GraphStore, before: Read, after: Read, dialect: Dialect) -> RunDiff:
    """The first step at which two runs differ; ``dialect``: how requests and replies are read that
    are written for a provider."""
    reads = (before, after)
    pairs = zip_longest(*(_known_by(it) for it in reads))
    position = next((at for at, (one, other) in enumerate(pairs) if not _same(one, other)), None)
    sides = [await told(store, it, _within(it, position), whole=True) for it in reads]
    steps = [it.steps[0] if it.steps else None for it in sides] if position is not None else []
    hints = [f"{it.execution.id}: {it.hint}" for it in sides if it.hint is not None]
    return RunDiff(
        before=sides[0].execution,
        after=sides[1].execution,
        task=_task(*sides),
        step=position,
        names=(_name(steps[0]), _name(steps[1])) if steps else (None, None),
        fields=tuple(_fields(steps[0], steps[1], dialect)) if steps else (),
        steps=(len(reads[0].recorded), len(reads[1].recorded)),
        hints=tuple(hints),
    )


def _within(read: Read, position: int | None) -> list[int]:
    """The position, if the run has a step there."""
    return [position] if position is not None and position < len(read.recorded) else []


class _Known(NamedTuple):
    """By what it is known whether two steps are the same; of one that is not recorded, ``key``
    and all that follows is None."""

    kind: StepKind
    name: str
    error: bool
    key: str | None = None
    output_key: str | None = None
    guards: frozenset[str] | None = None


def _known_by(read: Read) -> Iterator[_Known]:
    for reported, step in zip(read.report.steps, read.recorded, strict=True):
        known = _Known(reported.kind, reported.name, reported.error)
        if step is not None:
            known = _Known(*known[:3], step.key, step.output_key, frozenset(step.guards))
        yield known


def _same(one: _Known | None, other: _Known | None) -> bool:
    if one is None or other is None:
        return False
    many = 3 if one.key is None or other.key is None else len(one)
    return one[:many] == other[:many]


def _name(step: RecordedStep | None) -> str | None:
    return None if step is None else f"{step.kind} {step.name}"


def _task(before: RecordedRun, after: RecordedRun) -> Diff | None:
    one, other = ({"inputs": it.inputs, "context": it.context} for it in (before, after))
    diff = compared("task", one, other)
    return diff if diff.differences or diff.hint else None


def _fields(
    before: RecordedStep | None, after: RecordedStep | None, dialect: Dialect
) -> Iterator[Diff]:
    """The fields of a step that differ; of one that is in one of the runs only, none."""
    if before is None or after is None:
        return
    if _name(before) != _name(after):
        yield compared("step", _name(before), _name(after))
    if before.kind is not after.kind:
        return
    decided = before.kind is StepKind.DECISION
    documents = _of_decision(before, after, dialect) if decided else _of_action(before, after)
    for about, one, other in documents:
        differing = request_differences if about == "request" else differences
        diff = compared(about, one, other, differing)
        if diff.differences or diff.hint:
            yield diff


_Documents = Iterator[tuple[str, Any, Any]]


def _of_decision(before: RecordedStep, after: RecordedStep, dialect: Dialect) -> _Documents:
    one, other = (Request(it.request, it.messages) for it in (before, after))
    yield "request", *comparable(one, other, dialect)
    yield "facts", _facts(before), _facts(after)
    yield "output", *_comparable_replies(before.output, after.output, dialect)


def _of_action(before: RecordedStep, after: RecordedStep) -> _Documents:
    for name in ("arguments", "effect", "code_key"):
        yield name, getattr(before, name), getattr(after, name)
    yield "facts", _facts(before), _facts(after)
    for name in ("output", "error"):
        yield name, getattr(before, name), getattr(after, name)


def _comparable_replies(before: Json, after: Json, dialect: Dialect) -> tuple[Json, Json]:
    """Two replies without what their service makes up on every call; as they are, if they are
    of another one."""
    with suppress(Exception):
        one, other = (dialect.canonical_reply(it, Names()) for it in (before, after))
        return one, other
    return before, after


def _facts(step: RecordedStep) -> Json:
    """As texts: a resource may be named as secrets are."""
    return sorted(f"{it.facet} {it.fingerprint}" for it in step.facts)
