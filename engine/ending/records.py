"""What is stored of a run: an execution, and with it a recording of its own or a replay."""

from __future__ import annotations

from collections.abc import Sequence

from ...graphstore.model import (
    EffectState,
    Execution,
    ExecutionState,
    Mode,
    Precondition,
    Recording,
    Replay,
    SideEffect,
    Step,
    Trace,
    Value,
    step_id,
)
from ..model.prices import paid_for
from ..outcome.report import report_of
from ..run.run import Run
from ..steps.run_step import RunStep
from ..task import Payload
from .ended import EndedRun

__all__ = ["execution_of", "recording_of", "replay_of"]

_UNPUBLISHED = Execution(
    id="", task="", agent="", mode=Mode.LIVE, state=ExecutionState.UNPUBLISHED, started_at=0
)


def execution_of(
    ended: EndedRun, steps: Sequence[Step], *, replayed: str | None = None
) -> Execution:
    """Make the stored execution, with so many steps of its own. ``replayed``: the trace that it
    equals."""
    run, account, spared = ended.run, ended.run.account, ended.spared
    paid = paid_for(account.bills)
    fields = {
        "id": run.id,
        "task": run.spec.task.key,
        "agent": run.definition.name,
        "mode": ended.mode,
        "started_at": run.started_at,
        "duration_ms": run.elapsed_ms,
        "steps": len(steps),
        "replayed": replayed or run.began_with,
        "output": None if (output := _output(ended)) is None else output.digest,
        "usage": account.usage,
        "saved_tokens": spared.tokens,
        "cost": ended.cost,
        "labels": dict(run.spec.labels),
        "reason": None if account.unpublishable is None else str(account.unpublishable),
        "miss": tuple(paid),
        "asked": len(account.bills),
        "served": spared.decisions,
        "saved_cost": spared.cost,
        "miss_asked": tuple([it.asked for it in paid.values()]),
        "miss_tokens": tuple([it.tokens for it in paid.values()]),
    }
    # Made of what is known to be right, so nothing is checked again; a copy is made fastest.
    return _UNPUBLISHED.model_copy(update=fields)


def _output(ended: EndedRun) -> Payload | None:
    """The payload of an output; None for ``null``."""
    output = ended.output
    return None if output is None or output.json is None else output


def replay_of(ended: EndedRun, trace: Trace) -> Replay:
    """Make of the run one more replay of a trace that it equals."""
    execution = execution_of(ended, (), replayed=trace.id)
    run, values = ended.run, list[Value]()
    output = _output(ended)
    if output is not None and execution.output != trace.execution.output:
        values.append(output.value)
    # Else it is told by the trace it replayed.
    if run.account.causes or run.standins or run.spec.task.is_marked:
        execution, report = _with_report(run, execution, trace)
        values.append(report)
    effects = _done(run, trace)
    return Replay.model_construct(execution=execution, effects=effects, values=tuple(values))


def _done(run: Run, trace: Trace) -> tuple[SideEffect, ...]:
    """The effects that have happened, at the places of their steps in the trace."""
    done = [
        (run_step.step, effect)
        for run_step in run.path.run_steps
        if (effect := run_step.effect) is not None and effect.state is EffectState.DONE
    ]
    recorded = _by_key(trace) if done else {}
    return tuple(
        effect.model_copy(update={"step": step_id(trace.id, recorded[_key(step)].position)})
        for step, effect in done
    )


def _by_key(trace: Trace) -> dict[tuple[str, int], Step]:
    """The steps of a trace, by what equal steps of a run are told by."""
    return {_key(it): it for it in trace.steps}


def _key(step: Step) -> tuple[str, int]:
    return step.key, step.occurrence


def _with_report(
    run: Run, execution: Execution, equal: Trace | None = None
) -> tuple[Execution, Value]:
    """The execution with what became of its steps, and the payload that tells it. ``equal``: the
    trace with which they are recorded; None: they are its own."""
    known = None if equal is None else _by_key(equal)
    run_steps = []
    for run_step in run.path.run_steps:
        recorded = run_step.step if known is None else known.get(_key(run_step.step))
        run_steps.append((run_step.report(), recorded, _own_arguments(run_step, recorded)))
    causes = map(run.account.priced, run.account.causes)
    task = run.spec.task
    asked = task.texts if task.is_marked else None
    report = report_of(run_steps, causes, run.id if equal is None else equal.id, asked).value()
    return execution.model_copy(update={"report": report.digest}), report


def _own_arguments(run_step: RunStep, recorded: Step | None) -> str | None:
    """The arguments of an action that is recorded with others: marked values in them differ."""
    arguments = run_step.step.arguments
    if recorded is None or arguments in (None, recorded.arguments):
        return None
    return next((it.data.decode() for it in run_step.values if it.digest == arguments), None)


def recording_of(ended: EndedRun, execution: Execution) -> Recording:
    """Make a recording of the run: all its steps, and the payloads that are not stored yet."""
    run = ended.run
    output = _output(ended)
    values = [*run.spec.task.values]
    values += (value for run_step in run.path.run_steps for value in run_step.values)
    execution, report = _with_report(run, execution)
    values += [report] if output is None else [output.value, report]
    return Recording(
        task=run.spec.task.stored,
        execution=execution,
        steps=tuple([run_step.as_recorded for run_step in run.path.run_steps]),
        preconditions=_preconditions(run),
        values=tuple({value.digest: value for value in values}.values()),
        effects=_effects(run),
    )


def _effects(run: Run) -> tuple[SideEffect, ...]:
    """The effects that the run began, with their steps; one that was cut became none."""
    steps = {
        run_step.effect.id: step_id(run.id, position)
        for position, run_step in enumerate(run.path.run_steps)
        if run_step.effect is not None
    }
    return tuple(it.model_copy(update={"step": steps.get(it.id)}) for it in run.effects.begun)


def _preconditions(run: Run) -> tuple[Precondition, ...]:
    """The preconditions that guard a step of the run, sorted: stores lock in this order."""
    run_steps = run.path.run_steps
    noted = {note.guard.id: note.guard for run_step in run_steps for note in run_step.notes}
    known = {**run.search.preconditions, **noted}
    used = {guard for run_step in run_steps for guard in run_step.step.guards}
    return tuple(known[guard] for guard in sorted(used))
