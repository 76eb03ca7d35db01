"""Why a run did what it did: for each step what became of it, and the change that was behind."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...graphstore.errors import PayloadCorrupted
from ...graphstore.model import (
    ChangeEvent,
    ChangeKind,
    Execution,
    ExecutionState,
    Mode,
    Step,
    StepKind,
    Trace,
    step_id,
)
from ...graphstore.store import GraphStore
from ..errors import ExecutionUnknown
from ..generalising.proposals import Proposal
from ..outcome.cause import Cause, MissKind
from ..outcome.fate import Fate, fate_of
from ..outcome.report import Report, plain_report
from ..outcome.result import Outcome
from .as_json import change_as_json, iso
from .diff import Diff, diffs
from .runs import as_of_now

__all__ = ["Why", "WhyMiss", "WhyStep", "kept_report", "why"]

_EVENTS = 100  # of a resource, looked at first
_MANY_EVENTS = 10_000


@dataclass(frozen=True, slots=True)
class WhyMiss:
    """A cause, with the change that made the guard stop holding (None: none is known).

    ``diff``: what stood before and what stands after, if it was asked for and documents tell it.
    """

    cause: Cause
    change: ChangeEvent | None = None
    diff: Diff | None = None

    def as_json(self) -> dict[str, Any]:
        """The cause, and its path in the graph: event, facet with both fingerprints."""
        cause, facet = self.cause, self.cause.facet
        return {
            "kind": cause.kind.value,
            "node": cause.node,
            "resource": None if facet is None else facet.resource,
            "selector": None if facet is None else facet.selector,
            "before": cause.before,
            "after": cause.after,
            "remedy": cause.remedy,
            "differences": [it._asdict() for it in cause.differences],
            "recurring": None if cause.recurring is None else asdict(cause.recurring),
            "change": None if self.change is None else change_as_json(self.change),
            "diff": None if self.diff is None else self.diff.as_json(),
        }


@dataclass(frozen=True, slots=True)
class WhyStep:
    """One step of a run. ``step``: the id of the recorded Step, None if it is not recorded.

    ``follows``: the position of the earlier step whose cause this is; None: it is its own.
    """

    position: int
    kind: StepKind
    name: str
    fate: Fate
    outcome: Outcome | None
    tokens: int
    saved_tokens: int
    error: bool
    step: str | None
    why: WhyMiss | None = None
    follows: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The whole answer as JSON."""
        return {
            "position": self.position,
            "kind": self.kind.value,
            "name": self.name,
            "fate": self.fate.value,
            "outcome": None if self.outcome is None else self.outcome.value,
            "tokens": self.tokens,
            "saved_tokens": self.saved_tokens,
            "error": self.error,
            "step": self.step,
            "cause": None if self.why is None else self.why.as_json(),
            "follows": self.follows,
        }


@dataclass(frozen=True, slots=True)
class Why:
    """What became of each step of a run, and the changes behind it.

    Attributes:
        execution: The run, as it is stored.
        steps: Its steps, in order.
        misses: Why it was no plain replay, each cause once, with the change behind it.
        hint: What cannot be told of the run, and why; None if nothing is missing.
        proposal: What could be marked, so that recordings serve runs like this one; None if nothing
            speaks for it. None of it is marked.
    """

    execution: Execution
    steps: tuple[WhyStep, ...]
    misses: tuple[WhyMiss, ...]
    hint: str | None = None
    proposal: Proposal | None = None

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            What ``execgraph why --json`` prints.
        """
        execution = self.execution
        return {
            "execution": execution.id,
            "task": execution.task,
            "agent": execution.agent,
            "mode": execution.mode.value,
            "state": execution.state.value,
            "started_at": iso(execution.started_at),
            "duration_ms": execution.duration_ms,
            "tokens": execution.usage.total,
            "saved_tokens": execution.saved_tokens,
            "cost": execution.cost,
            "replayed": execution.replayed,
            "reason": execution.reason,
            "hint": self.hint,
            "proposal": None if self.proposal is None else self.proposal.as_json(),
            "misses": [miss.as_json() for miss in self.misses],
            "steps": [step.as_json() for step in self.steps],
        }


async def why(store: GraphStore, execution: str, *, diff: bool = False) -> Why:
    """What became of the steps of an execution, and why; with ``diff`` what differs behind each
    cause, in full. Raises ExecutionUnknown."""
    run = await store.execution(execution)
    if run is None:
        raise ExecutionUnknown(execution, store)
    run = as_of_now(run)
    report, of, hint = await kept_report(store, run)
    misses = tuple(dict.fromkeys((*report.misses, *_torn(run))))
    causes = (*misses, *(it.cause for it in report.steps if it.cause is not None))
    changes = await _changes(store, causes, _end(run.execution))
    steps = (run if run.steps else of).steps
    told = await diffs(store, run.execution, steps, changes, causes) if diff else {}
    known = {it: WhyMiss(it, changes.get(it), told.get(it)) for it in causes}
    return Why(run.execution, _steps(report, of, known), tuple(known[it] for it in misses), hint)


async def kept_report(store: GraphStore, run: Trace) -> tuple[Report, Trace, str | None]:
    """What became of the steps, and the execution that they are recorded with."""
    execution, hint = run.execution, _UNENDED.get(run.execution.state)
    if execution.report is not None:
        try:
            payloads = await store.values([execution.report])
            report = Report.of_value(payloads[execution.report])
        except (PayloadCorrupted, ValueError):
            hint = "the report of this run is damaged: what is told here is told by its trace"
        else:
            of = run if run.steps or not report.steps else await _replayed(store, execution)
            return report, of or run, None
    if run.steps or execution.mode is not Mode.REPLAY:
        if execution.mode is not Mode.LIVE and hint is None:
            hint = "this run kept no report: what became of its steps is not known"
        return plain_report(run, served=False), run, hint
    trace = await _replayed(store, execution)
    if trace is None:
        return (
            Report(()),
            run,
            f"the trace {execution.replayed} that it replayed is not in the store",
        )
    return plain_report(trace, served=True), trace, hint


async def _replayed(store: GraphStore, execution: Execution) -> Trace | None:
    return None if execution.replayed is None else await store.execution(execution.replayed)


def _torn(run: Trace) -> tuple[Cause, ...]:
    """A tear is found after the report was written; of a trace it is told by its length."""
    execution = run.execution
    if execution.state is not ExecutionState.PUBLISHED or execution.complete:
        return ()
    step = run.steps[execution.published_steps]
    return (Cause(MissKind.TORN, f"{step.name} (step {step.position})"),)


_UNENDED = {
    ExecutionState.RUNNING: "this run has not ended: what it has paid so far is all that is told",
    ExecutionState.KILLED: "this run never ended, so its process was killed: what it had paid until"
    " then is all that is known",
}


# The change behind a cause ----------------------------------------------------------------

_Changes = Mapping[Cause, ChangeEvent | None]


async def _changes(store: GraphStore, causes: Iterable[Cause], end: int) -> _Changes:
    """The event that made each cause's guard stop holding, as far as one is known."""
    by_resource: dict[str, list[Cause]] = {}
    for cause in dict.fromkeys(causes):
        if cause.facet is not None and cause.kind is not MissKind.PRECONDITION_NEVER_OBSERVED:
            by_resource.setdefault(cause.facet.resource, []).append(cause)

    async def of(resource: str, some: Sequence[Cause]) -> dict[Cause, ChangeEvent | None]:
        events = await store.changes(resource=resource, limit=_EVENTS)
        known = all(_behind(cause, events, end) for cause in some)
        if len(events) == _EVENTS and not known:  # it is long ago, or much else has changed since
            events = await store.changes(resource=resource, limit=_MANY_EVENTS)
        return {cause: _behind(cause, events, end) for cause in some}

    changes = await asyncio.gather(*(of(uri, some) for uri, some in by_resource.items()))
    return {cause: event for some in changes for cause, event in some.items()}


def _behind(cause: Cause, events: Sequence[ChangeEvent], end: int) -> ChangeEvent | None:
    """The newest fitting event up to the run's end; if clocks differ, or an expiry was recorded
    late, the first one after it."""
    fitting = [event for event in events if _fits(cause, event)]
    before = [event for event in fitting if event.at <= end]
    after = fitting[: len(fitting) - len(before)]
    if before and cause.kind is MissKind.PRECONDITION_EXPIRED:
        newest = next(event for event in events if event.at <= end)
        if newest is not before[0] and after:  # that one was renewed since
            return after[-1]
    return before[0] if before else (after[-1] if after else None)


def _fits(cause: Cause, event: ChangeEvent) -> bool:
    assert cause.facet is not None
    match cause.kind:
        case MissKind.PRECONDITION_EXPIRED:
            return event.kind is ChangeKind.EXPIRED
        case MissKind.PRECONDITION_WITHDRAWN:
            return event.kind is ChangeKind.WITHDRAWN
        case _:
            return any(
                change.selector == cause.facet.selector
                and change.before == cause.before
                and change.after != cause.before
                for change in event.changed
            )


def _end(execution: Execution) -> int:
    return math.ceil(execution.started_at + execution.duration_ms)


# Steps ------------------------------------------------------------------------------------


def _steps(report: Report, of: Trace, known: Mapping[Cause, WhyMiss]) -> tuple[WhyStep, ...]:
    recorded = {step_id(of.id, step.position): step for step in of.steps}
    steps: list[WhyStep] = []
    for position, reported in enumerate(report.steps):
        step = recorded.get(reported.step or "")
        why_step = WhyStep(
            position=position,
            kind=reported.kind,
            name=reported.name,
            fate=fate_of(reported.kind, reported.outcome),
            outcome=reported.outcome,
            tokens=reported.tokens,
            saved_tokens=reported.saved_tokens,
            error=reported.error,
            step=reported.step,
            why=None if reported.cause is None else known[reported.cause],
        )
        steps.append(_traced(why_step, step, of, steps))
    return tuple(steps)


def _traced(why_step: WhyStep, step: Step | None, of: Trace, before: Sequence[WhyStep]) -> WhyStep:
    """The step, with the earlier one from which it follows that it was not served."""
    if why_step.why is None or not before:
        return why_step
    cause = why_step.why.cause
    if cause.kind is MissKind.REQUEST_CHANGED:
        origin = _first_upstream(step, of, before)
    elif _is_own(cause, why_step, step, of):
        return why_step
    else:
        origin = next(
            (one for one in before if one.why is not None and one.why.cause == cause), None
        )
    if origin is None:
        return why_step
    first = origin.position if origin.follows is None else origin.follows
    return replace(why_step, follows=first, why=origin.why or why_step.why)


def _is_own(cause: Cause, why_step: WhyStep, step: Step | None, of: Trace) -> bool:
    """Whether the cause is about this step itself, and not why an earlier one left the trace."""
    if cause.facet is not None:
        guards = (of.preconditions.get(guard) for guard in (step.guards if step else ()))
        return any(guard is not None and guard.ref == cause.facet for guard in guards)
    return cause.kind is not MissKind.OUTPUT_DIVERGED or why_step.kind is StepKind.ACTION


def _first_upstream(step: Step | None, of: Trace, before: Sequence[WhyStep]) -> WhyStep | None:
    """The first step that was new in this run, of those that this one can depend on."""
    upstream = None if step is None else _ancestors(step, of)
    new = (Fate.ASKED, Fate.EXECUTED, Fate.REFUSED)
    for earlier in before:
        if upstream is not None and earlier.step not in upstream:
            continue
        if earlier.fate in new or earlier.outcome is Outcome.DIVERGED:
            return earlier
    return None


def _ancestors(step: Step, of: Trace) -> frozenset[str]:
    """The ids of the steps that feed ``step``, however far up."""
    feeds = {it.position: it.feeds for it in of.steps}
    upstream: set[int] = set()
    open_ = list(step.feeds)
    while open_:
        if (position := open_.pop()) not in upstream:
            upstream.add(position)
            open_ += feeds.get(position, ())
    return frozenset(step_id(of.id, position) for position in upstream)
