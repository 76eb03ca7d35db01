"""What became of each step of a run, as it is kept beside its execution.

A run that was a plain replay has none: it is told by the trace it replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...graphstore.canonical import Json, decode, encode
from ...graphstore.model import Effect, FacetRef, Mode, Step, StepKind, Trace, Value, step_id
from .cause import Cause, MissKind, Recurring
from .differences import Difference
from .result import Outcome, StepReport

__all__ = ["Report", "ReportedStep", "plain_report", "report_of"]


@dataclass(frozen=True, slots=True)
class ReportedStep:
    """What became of one step. ``step``: the id of the recorded Step; None: it is not recorded.

    ``outcome`` None: the run is older than reports are. ``tokens``: paid in this run,
    ``saved_tokens``: paid when it was recorded.
    """

    kind: StepKind
    name: str
    outcome: Outcome | None
    tokens: int = 0
    saved_tokens: int = 0
    error: bool = False
    cause: Cause | None = None
    step: str | None = None

    @classmethod
    def of(cls, report: StepReport, step: str | None) -> ReportedStep:
        """What a result tells of a step that is recorded as ``step``."""
        return cls(
            kind=report.kind,
            name=report.name,
            outcome=report.outcome,
            tokens=report.tokens,
            saved_tokens=report.saved_tokens,
            error=report.error,
            cause=report.cause,
            step=step,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The steps of a run in their order, and why it was no plain replay: each cause once.

    Those of its steps that are recorded are recorded with one execution.
    """

    steps: tuple[ReportedStep, ...]
    misses: tuple[Cause, ...] = ()

    def value(self) -> Value:
        """The payload it is kept as; each cause stands in it once, and steps refer to it."""
        causes = list(dict.fromkeys((*self.misses, *(it.cause for it in self.steps if it.cause))))
        numbers = {cause: number for number, cause in enumerate(causes)}
        places = [it.step and it.step.rpartition("/") for it in self.steps]
        document = {
            "execution": next((place[0] for place in places if place), None),
            "causes": [_cause_row(cause) for cause in causes],
            "misses": [numbers[cause] for cause in self.misses],
            "steps": [
                [
                    step.kind.value,
                    step.name,
                    None if step.outcome is None else step.outcome.value,
                    step.tokens,
                    step.saved_tokens,
                    step.error,
                    None if step.cause is None else numbers[step.cause],
                    int(place[2]) if place else None,
                ]
                for step, place in zip(self.steps, places, strict=True)
            ],
        }
        return Value.of(encode(document))

    @classmethod
    def of_value(cls, data: bytes) -> Report:
        """Read a report from the bytes of ``value``. Raises ValueError for what is no report."""
        try:
            return cls._of(decode(data))
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"this is no report of a run: {error}") from error

    @classmethod
    def _of(cls, document: Any) -> Report:
        causes = [_cause_of(row) for row in document["causes"]]
        execution, steps = document["execution"], []
        for kind, name, outcome, tokens, saved, error, cause, place in document["steps"]:
            steps.append(
                ReportedStep(
                    kind=StepKind(kind),
                    name=name,
                    outcome=None if outcome is None else Outcome(outcome),
                    tokens=tokens,
                    saved_tokens=saved,
                    error=error,
                    cause=None if cause is None else causes[cause],
                    step=None if place is None else step_id(execution, place),
                )
            )
        return cls(tuple(steps), tuple(causes[number] for number in document["misses"]))


def _cause_row(cause: Cause) -> Json:
    facet = None if cause.facet is None else [cause.facet.resource, cause.facet.selector]
    row: list[Json] = [cause.kind.value, cause.node, cause.before, cause.after, facet]
    if cause.differences or cause.recurring:
        row.append([list(it) for it in cause.differences])
    return row if cause.recurring is None else [*row, asdict(cause.recurring)]


def _cause_of(row: Sequence[Any]) -> Cause:
    kind, node, before, after, facet, *more = row
    differing = tuple(Difference(*it) for it in more[0]) if more else ()
    recurring = _recurring(**more[1]) if more[1:] else None
    facet = facet and FacetRef(*facet)
    return Cause(MissKind(kind), node, before, after, facet, differing, recurring)


def _recurring(opaque: Sequence[str], unseen: Sequence[str], **more: Any) -> Recurring:
    return Recurring(tuple(opaque), tuple(unseen), **more)


def report_of(
    run_steps: Sequence[tuple[Step, StepReport]],
    causes: Iterable[Cause],
    execution: str,
    places: Mapping[tuple[str, int], int] | None = None,
) -> Report:
    """The report of steps that are recorded with ``execution``.

    ``places``: their positions there by key and occurrence; None: in their order.
    """
    steps = []
    for position, (step, step_report) in enumerate(run_steps):
        place = position if places is None else places.get((step.key, step.occurrence))
        recorded_as = None if place is None else step_id(execution, place)
        steps.append(ReportedStep.of(step_report, recorded_as))
    return Report(tuple(steps), tuple(dict.fromkeys(causes)))


def plain_report(trace: Trace, *, served: bool) -> Report:
    """What became of the steps of ``trace`` in a plain replay of it; not ``served``: in the run
    that recorded it and kept no report."""
    steps = (_served(step) if served else _recorded(step, trace) for step in trace.steps)
    return Report(
        tuple(
            replace(reported, step=step_id(trace.id, step.position))
            for reported, step in zip(steps, trace.steps, strict=True)
        )
    )


def _served(step: Step) -> ReportedStep:
    reused = step.effect in (Effect.PURE, Effect.ONCE) and not step.error
    outcome = Outcome.REUSED if reused else Outcome.REPLAYED
    return ReportedStep(step.kind, step.name, outcome, saved_tokens=step.tokens, error=step.error)


def _recorded(step: Step, trace: Trace) -> ReportedStep:
    outcome = None
    if trace.execution.mode is Mode.LIVE:
        outcome = Outcome.ASKED if step.kind is StepKind.DECISION else Outcome.EXECUTED
    tokens = step.tokens if outcome is not None else 0
    return ReportedStep(step.kind, step.name, outcome, tokens=tokens, error=step.error)
