"""What is told of a run: its result, the event of its end, and what it did if it failed."""

from __future__ import annotations

from collections.abc import Iterable

from ...graphstore.model import EffectState, Execution, ExecutionState, Mode, SideEffect, StepKind
from ..errors import RunFailed
from ..outcome.events import RunEnded
from ..outcome.result import EffectReport, Result
from ..replay.run import Run
from .ended import EndedRun
from .records import execution_of

__all__ = ["emit_end", "failure", "result_of"]


def result_of(ended: EndedRun, *, recorded: bool) -> Result:
    """What the caller of a run gets. ``recorded``: a trace was committed."""
    run, spared, mode = ended.run, ended.spared, ended.mode
    replayed = mode is Mode.REPLAY
    actions = (it for it in run.path.run_steps if it.step.kind is StepKind.ACTION)
    return Result(
        output=None if ended.output is None else ended.output.json,
        execution_id=run.id,
        mode=mode,
        steps=tuple([run_step.report() for run_step in run.path.run_steps]),
        usage=run.account.usage,
        saved_tokens=spared.tokens,
        cost=ended.cost,
        saved_cost=spared.cost,
        recorded=recorded,
        replayed=replayed,
        identical=replayed and (ended.is_as_followed or all(it.unchanged for it in actions)),
        duration_ms=run.elapsed_ms,
        effects=tuple([_effect_report(effect) for effect in ended.effects]),
        miss=ended.missed,
        stop_reason=ended.stop_reason,
        attempts=tuple(run.account.attempts),
    )


def _effect_report(effect: SideEffect) -> EffectReport:
    state = effect.state
    return EffectReport(effect.id, effect.tool, effect.target, effect.idempotency_key, state)


def emit_end(ended: EndedRun, execution: Execution | None = None, *, recorded: bool) -> None:
    """Tell subscribers, if there are any, that a run has ended as ``execution``."""
    run = ended.run
    if not run.session.events.listeners:
        return
    stored = execution or execution_of(ended, run.steps)
    event = RunEnded(
        execution_id=stored.id,
        task=stored.task,
        name=stored.agent,
        mode=stored.mode,
        failed=stored.state is ExecutionState.FAILED,
        reason=stored.reason,
        recorded=recorded,
        steps=len(run.path.run_steps),
        tokens=stored.usage.total,
        saved_tokens=stored.saved_tokens,
        cost=stored.cost,
        duration_ms=stored.duration_ms,
        miss=ended.missed,
    )
    run.session.events.emit(event)


def failure(run: Run, why: str) -> RunFailed:
    """What to raise for a run that failed: it says what was done to the outside."""
    effects = run.effects.begun
    doubtful = _in_doubt(effects)
    return RunFailed(
        f"the run of {run.definition.name} failed: {why}",
        execution_id=run.id,
        effects=[effect for effect in effects if effect not in doubtful],
        in_doubt=doubtful,
    )


def _in_doubt(effects: Iterable[SideEffect]) -> list[SideEffect]:
    """The effects that were begun and are not known to have ended."""
    return [effect for effect in effects if effect.state is EffectState.INTENDED]
