"""What is stored of a run: an execution, and with it a recording of its own or a replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    values: tuple[Value, ...] = ()
    if ended.run.account.causes:  # else it is told by the trace it replayed
        execution, report = _with_report(ended.run, execution, _places(trace), trace.id)
        values = (report,)
    effects = _done(ended.run, trace)
    return Replay.model_construct(execution=execution, effects=effects, values=values)


def _done(run: Run, trace: Trace) -> tuple[SideEffect, ...]:
    """The effects that have happened, at the places of their steps in the trace."""
    done = [
        (run_step.step, effect)
        for run_step in run.path.run_steps
        if (effect := run_step.effect) is not None and effect.state is EffectState.DONE
    ]
    places = _places(trace) if done else {}
    return tuple(
        effect.model_copy(update={"step": step_id(trace.id, places[step.key, step.occurrence])})
        for step, effect in done
    )


def _places(trace: Trace) -> dict[tuple[str, int], int]:
    """Where a trace has its steps, by key and occurrence."""
    return {(it.key, it.occurrence): it.position for it in trace.steps}


def _with_report(
    run: Run,
    execution: Execution,
    places: Mapping[tuple[str, int], int] | None = None,
    recorded_with: str | None = None,
) -> tuple[Execution, Value]:
    """The execution with what became of its steps, and the payload that tells it."""
    run_steps = [(it.step, it.report()) for it in run.path.run_steps]
    causes = map(run.account.priced, run.account.causes)
    report = report_of(run_steps, causes, recorded_with or run.id, places).value()
    return execution.model_copy(update={"report": report.digest}), report


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
