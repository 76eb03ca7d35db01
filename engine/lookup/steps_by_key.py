"""An index of the steps of a task's traces, by key and occurrence."""

from __future__ import annotations

from collections.abc import Sequence

from ...graphstore.model import Trace
from .definition import Definition
from .judging import Recorded
from .plan import Plan

__all__ = ["StepsByKey"]


class StepsByKey:
    """All steps of a plan's traces; the followed trace's first, then the newest."""

    def __init__(self, plan: Plan, definition: Definition) -> None:
        self._by_key: dict[tuple[str, int], list[Recorded]] = {}
        self._judged: dict[str, Sequence[Recorded]] = {}
        if plan.best is None:
            return
        self._add(plan.best.trace, plan.best.judged)
        for trace in plan.traces:
            if trace.id != plan.best.trace.id and plan.facts is not None:
                self._add(trace, definition.assess(trace, plan.facts))

    def find(self, key: str, occurrence: int) -> list[Recorded]:
        """The recorded steps of this key and occurrence, those that stand first."""
        steps = self._by_key.get((key, occurrence), [])
        return sorted(steps, key=lambda recorded: recorded.cause is not None)

    def judged(self, trace: Trace) -> Sequence[Recorded]:
        """The steps of one of these traces."""
        return self._judged[trace.id]

    def _add(self, trace: Trace, judged: Sequence[Recorded]) -> None:
        self._judged[trace.id] = judged
        for recorded in judged:
            key = (recorded.step.key, recorded.step.occurrence)
            self._by_key.setdefault(key, []).append(recorded)
