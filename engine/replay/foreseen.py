"""What an agent's run would do by a plan: a walk along what is recorded, which does none of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...graphstore.model import Effect, StepKind
from ..lookup.definition import Definition
from ..lookup.judging import Recorded
from ..lookup.plan import Plan
from ..lookup.steps_by_key import StepsByKey
from ..outcome.cause import Cause, MissKind
from ..outcome.fate import Fate, fate_of
from ..outcome.run_plan import PlannedStep, RunPlan
from ..run.run import Run
from ..sessions.reads import Reads
from .reuse import is_as_good

__all__ = ["foreseen", "so_far"]


def foreseen(plan: Plan, definition: Definition, task: str, reads: Reads) -> RunPlan:
    """What a run by ``plan`` would do, if what it asks and runs gives what is recorded."""
    trace = None if plan.best is None else plan.best.trace.id
    steps = tuple(_walk(plan, definition, reads))
    causes = tuple(dict.fromkeys([*plan.causes, *(it.cause for it in steps if it.cause)]))
    return RunPlan(definition.name, task, trace, steps, causes)


def so_far(run: Run, cause: Cause) -> RunPlan:
    """What a run has done by now, and that its model would have to be asked next."""
    done = [
        PlannedStep(
            kind=report.kind,
            name=report.name,
            fate=fate_of(report.kind, report.outcome),
            tokens=report.tokens + report.saved_tokens,
            cause=report.cause,
        )
        for report in (it.report() for it in run.path.run_steps)
    ]
    asked = PlannedStep(StepKind.DECISION, "", Fate.ASKED, None, cause=cause)
    causes = tuple(dict.fromkeys([*run.account.causes, cause]))
    return RunPlan(run.definition.name, run.spec.task.key, run.began_with, (*done, asked), causes)


def _walk(plan: Plan, definition: Definition, reads: Reads) -> Iterator[PlannedStep]:
    if plan.best is None:
        return
    by_key = StepsByKey(plan, definition)
    followed, trace, position = {plan.best.trace.id}, plan.best.trace, 0
    judged: Sequence[Recorded] = plan.best.judged
    while position < len(judged):
        recorded = judged[position]
        position += 1
        if recorded.step.kind is StepKind.ACTION:
            yield _action(recorded, definition, reads)
            continue
        found = _serving(recorded, by_key)
        yield _decision(recorded, found)
        if found is None or found.step.output_key == recorded.step.output_key:
            continue
        if found.trace not in followed:  # that one says something else, and goes on otherwise
            followed.add(found.trace)
            trace = next(it for it in plan.traces if it.id == found.trace)
            judged, position = by_key.judged(trace), found.step.position + 1
    if not trace.execution.complete:
        yield PlannedStep(
            StepKind.DECISION,
            "",
            Fate.ASKED,
            None,
            cause=Cause(MissKind.RECORDING_ENDS, trace.id),
        )


def _serving(recorded: Recorded, by_key: StepsByKey) -> Recorded | None:
    """What would be served for a recorded decision: itself, or the same one of another trace."""
    if recorded.cause is None:
        return recorded
    candidates = by_key.find(recorded.step.key, recorded.step.occurrence)
    return next((it for it in candidates if it.cause is None), None)


def _decision(recorded: Recorded, found: Recorded | None) -> PlannedStep:
    step = recorded.step if found is None else found.step
    fate, cause = (Fate.ASKED, recorded.cause) if found is None else (Fate.SERVED, None)
    return PlannedStep(step.kind, step.name, fate, step.tokens, cause=cause)


def _action(recorded: Recorded, definition: Definition, reads: Reads) -> PlannedStep:
    step, tool = recorded.step, definition.code.tools.get(recorded.step.name)
    if tool is not None and not step.error:
        happened = tool.effect is step.effect is Effect.ONCE
        stands = recorded.cause is None and not tool.has_marks
        if happened or (stands and is_as_good(reads, tool, step)):
            return PlannedStep(step.kind, step.name, Fate.SERVED)
    writes = tool is not None and tool.is_write
    return PlannedStep(step.kind, step.name, Fate.RUN_AGAIN, writes=writes, cause=recorded.cause)
