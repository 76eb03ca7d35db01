"""Steps of a task's traces by key and occurrence (I2), for runs that left the recorded path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..graphstore.facts import Facts
from ..graphstore.model import FacetRef, Precondition, Step, Trace
from ..invalidation.validity import broken_guards
from .cause import Cause, MissKind
from .lookup import Plan
from .notes import Note
from .verdict import Code, assess

__all__ = ["Recorded", "Shelf"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded step, its guards, and why it does not stand (None: it does).

    ``failing``: the facets of the guards that do not hold.
    """

    trace: str
    step: Step
    guards: tuple[Precondition, ...]
    cause: Cause | None
    failing: tuple[FacetRef, ...] = ()

    @property
    def facets(self) -> tuple[FacetRef, ...]:
        return tuple(guard.ref for guard in self.guards)

    def under(self, notes: Mapping[FacetRef, Note]) -> Recorded:
        """The same, judged by facts read later, in which all its facets are noted."""
        if self.cause is not None and self.cause.kind is MissKind.CODE_CHANGED:
            return self
        failing = [
            guard
            for guard in self.guards
            if not notes[guard.ref].believed or notes[guard.ref].guard.id != guard.id
        ]
        if not failing:
            return replace(self, cause=None, failing=())
        cause = self.cause or Cause(
            MissKind.PRECONDITION_CHANGED, str(failing[0].ref), failing[0].fingerprint
        )
        return replace(self, cause=cause, failing=tuple(guard.ref for guard in failing))


class Shelf:
    """All steps of a plan's traces; the followed trace's first, then the newest."""

    def __init__(self, plan: Plan, code: Code) -> None:
        self._by_key: dict[tuple[str, int], list[Recorded]] = {}
        if plan.best is None:
            return
        self._add(plan.best.trace, plan.best.causes, plan.facts)
        for trace in plan.traces:
            if trace.id != plan.best.trace.id and plan.facts is not None:
                self._add(trace, assess(trace, plan.facts, code), plan.facts)

    def find(self, key: str, occurrence: int) -> list[Recorded]:
        """The recorded steps of this key and occurrence, those that stand first."""
        found = self._by_key.get((key, occurrence), [])
        return sorted(found, key=lambda recorded: recorded.cause is not None)

    def _add(self, trace: Trace, causes: Iterable[Cause | None], facts: Facts | None) -> None:
        for step, cause in zip(trace.steps, causes, strict=True):
            recorded = recorded_step(trace, step, cause, facts)
            self._by_key.setdefault((step.key, step.occurrence), []).append(recorded)


def recorded_step(trace: Trace, step: Step, cause: Cause | None, facts: Facts | None) -> Recorded:
    """``step`` with its guards; ``facts`` None: all of them hold."""
    failing = () if facts is None else broken_guards(step, trace.preconditions, facts)
    return Recorded(
        trace=trace.id,
        step=step,
        guards=tuple(trace.preconditions[key] for key in step.guards),
        cause=cause,
        failing=tuple(broken.guard.ref for broken in failing),
    )
