"""What became of each step of a run, as it is kept beside its execution.

A run that was a plain replay has none, unless there are marked values in its task: it is told by
the trace it replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    ``saved_tokens``: paid when it was recorded. ``arguments``: what the tool was called with, as
    JSON text, if it is recorded with others.
    """

    kind: StepKind
    name: str
    outcome: Outcome | None
    tokens: int = 0
    saved_tokens: int = 0
    error: bool = False
    cause: Cause | None = None
    step: str | None = None
    arguments: str | None = None

    @classmethod
    def of(cls, report: StepReport, step: str | None, arguments: str | None = None) -> ReportedStep:
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
            arguments=arguments,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The steps of a run in their order, and why it was no plain replay: each cause once.

    Those of its steps that are recorded are recorded with one execution. ``asked``: the inputs and
    the context of the run, as JSON texts, if there are marked values in its task: other runs of
    the task have others.
    """

    steps: tuple[ReportedStep, ...]
    misses: tuple[Cause, ...] = ()
    asked: tuple[str, str | None] | None = None

    def value(self) -> Value:
        """The payload it is kept as; each cause stands in it once, and steps refer to it."""
        causes = list(dict.fromkeys((*self.misses, *(it.cause for it in self.steps if it.cause))))
        numbers = {cause: number for number, cause in enumerate(causes)}
        places = [it.step and it.step.rpartition("/") for it in self.steps]
        document: dict[str, Json] = {
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
                    *([] if step.arguments is None else [step.arguments]),
                ]
                for step, place in zip(self.steps, places, strict=True)
            ],
        }
        if self.asked is not None:
            document["asked"] = list(self.asked)
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
        for kind, name, outcome, tokens, saved, error, cause, place, *more in document["steps"]:
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
                    arguments=more[0] if more else None,
                )
            )
        misses = tuple(causes[number] for number in document["misses"])
        asked = document.get("asked")
        return cls(tuple(steps), misses, None if asked is None else (asked[0], asked[1]))


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
    run_steps: Sequence[tuple[StepReport, Step | None, str | None]],
    causes: Iterable[Cause],
    execution: str,
    asked: tuple[str, str | None] | None = None,
) -> Report:
    """The report of steps, each as which Step of ``execution`` it is recorded, and its arguments if
    it is recorded with others. ``asked``: as ``Report`` has it."""
    steps = []
    for step_report, recorded, arguments in run_steps:
        recorded_as = None if recorded is None else step_id(execution, recorded.position)
        steps.append(ReportedStep.of(step_report, recorded_as, arguments))
    return Report(tuple(steps), tuple(dict.fromkeys(causes)), asked)


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
