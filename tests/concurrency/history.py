"""What is checked of a history afterwards: whether each answer is one of some moment of its call.

A change is committed at some time between ``before`` and ``after``, as its process saw them. So
version n may have been current from the ``before`` of its own change to the ``after`` of the next.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Interval = tuple[float, float]

_CLOCKS = 0.02  # seconds by which the store's clock and ours may differ


class Change(NamedTuple):
    """An acknowledged change; its value is what a requirement selects of the document."""

    resource: str
    version: int
    value: Any
    before: float
    after: float


class Answer(NamedTuple):
    """What a call gave: the values that were in force where its parts were decided.

    ``joint``: all of it is from one lookup, so there must be one moment for all values.
    """

    kind: str
    execution: str
    start: float
    end: float
    values: Mapping[str, Any]
    joint: bool


class Belief(NamedTuple):
    """That a resource may be believed to have a value, from its telling on to its end at most."""

    resource: str
    value: Any
    start: float
    end: float


class Timeline:
    """Acknowledged changes by resource, in the order of their versions.

    ``beliefs``: of resources that are never told without an end.
    """

    def __init__(self, changes: Iterable[Change], beliefs: Iterable[Belief] = ()) -> None:
        self.beliefs = list(beliefs)
        self.changes: dict[str, list[Change]] = defaultdict(list)
        for change in sorted(changes, key=lambda it: it.version):
            self.changes[change.resource].append(change)

    def lost(self) -> list[str]:
        """Versions that nobody, or more than one, was acknowledged to have made."""
        return [
            f"{resource}: {[it.version for it in changes]}"
            for resource, changes in self.changes.items()
            if [it.version for it in changes] != list(range(1, len(changes) + 1))
        ]

    def when(self, resource: str, value: Any) -> list[Interval]:
        """When ``resource`` may have been ``value``."""
        changes = self.changes[resource]
        ends = [it.after for it in changes[1:]] + [math.inf]
        return [
            (it.before, end) for it, end in zip(changes, ends, strict=True) if it.value == value
        ]

    def believed(self, resource: str, value: Any) -> list[Interval]:
        """When what was recorded under ``value`` may have been replayed."""
        told = [it for it in self.beliefs if it.resource == resource]
        until = [(it.start, it.end + _CLOCKS) for it in told if it.value == value]
        return common(self.when(resource, value), until) if told else self.when(resource, value)

    def stale(self, answer: Answer) -> str | None:
        """What is wrong with an answer; None if nothing is."""
        call = [(answer.start, answer.end)]
        together = call
        for resource, value in answer.values.items():
            when = (self.believed if answer.joint else self.when)(resource, value)
            if not common(call, when):
                return f"{resource} was {value!r} at no moment of {answer}"
            together = common(together, when)
        if answer.joint and not together:
            return f"there is no one moment for all of {answer}"
        return None


def common(one: list[Interval], other: list[Interval]) -> list[Interval]:
    """What is in both; a moment is enough."""
    both = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return [(start, end) for start, end in both if start <= end]
