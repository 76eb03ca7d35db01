"""What is told of a run: its result, the event of its end, and what it did if it failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ...graphstore.canonical import Json, decode, encode
from ...graphstore.model import (
    Effect,
    EffectState,
    Execution,
    ExecutionState,
    Mode,
    SideEffect,
    StepKind,
    Usage,
    Wish,
)
from ..effects.confirming import Awaiting
from ..errors import AwaitingApproval, RunFailed
from ..model.prices import sum_of
from ..outcome.events import RunEnded
from ..outcome.result import EffectReport, Result
from ..run.run import Run
from .ended import EndedRun
from .records import execution_of

__all__ = ["emit_end", "failure", "kept_result", "result_of", "returned_result"]


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
        effects=_effect_reports(run),
        miss=ended.missed,
        stop_reason=ended.stop_reason,
        attempts=tuple(run.account.attempts),
        waited_ms=run.waited_ms,
    )


def kept_result(ended: EndedRun) -> str:
    """What is kept of the result of a run with an id, as JSON text."""
    run, cost = ended.run, sum_of([ended.cost, ended.spared.cost])
    kept: Json = {
        "output": None if ended.output is None else ended.output.json,
        "stop_reason": ended.stop_reason,
        "effects": [
            [it.id, it.tool, it.target, it.idempotency_key, it.state.value]
            for it in _effect_reports(run)
        ],
        "tokens": run.account.usage.total + ended.spared.tokens,
        "cost": cost,
    }
    return encode(kept).decode()


def returned_result(wish: Wish, elapsed_ms: float) -> Result:
    """The result of a run that had come to its end before: nothing was run."""
    assert wish.result is not None
    kept: Any = decode(wish.result.encode())
    effects = (
        EffectReport(id_, tool, target, key, EffectState(state), reused=True)
        for id_, tool, target, key, state in kept["effects"]
    )
    return Result(
        output=kept["output"],
        execution_id=wish.execution,
        mode=Mode.RETURNED,
        steps=(),
        usage=Usage(),
        saved_tokens=kept["tokens"],
        cost=0.0,
        saved_cost=kept["cost"],
        recorded=False,
        replayed=True,
        identical=True,
        duration_ms=elapsed_ms,
        effects=tuple(effects),
        miss=(),
        stop_reason=kept["stop_reason"],
    )


def _effect_reports(run: Run) -> tuple[EffectReport, ...]:
    begun = [(effect, False) for effect in run.effects.begun]
    earlier = [(effect, True) for effect in run.effects.earlier]
    return tuple([_effect_report(*it) for it in (*begun, *earlier)])


def _effect_report(effect: SideEffect, reused: bool) -> EffectReport:  # noqa: FBT001
    key, state = effect.idempotency_key, effect.state
    by = effect.approved_by
    return EffectReport(effect.id, effect.tool, effect.target, key, state, reused, by)


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


def failure(run: Run, why: str, error: BaseException | None = None) -> RunFailed:
    """What to raise for a run that failed of ``error``: it says what was done to the outside."""
    effects = run.effects.begun
    earlier = list(run.effects.earlier)
    done = effects
    if run.wish.run_id is not None:  # which did what its earlier runs did, too
        begun = {it.id for it in effects}
        every = {it.id: it for it in (*run.wish.begun, *earlier)}
        earlier = [it for it in every.values() if it.id not in begun]
        done = [*earlier, *effects]
    doubtful = _in_doubt([*effects, *earlier])
    failed: Callable[..., RunFailed] = RunFailed
    if isinstance(error, Awaiting):
        failed = partial(AwaitingApproval, approvals=error.approvals)
    return failed(
        f"the run of {run.definition.name} failed: {why}",
        execution_id=run.id,
        effects=[effect for effect in done if effect.state is EffectState.DONE],
        in_doubt=doubtful,
        run_id=run.wish.run_id,
        can_settle=all(_can_settle(run, it) for it in doubtful),
    )


def _in_doubt(effects: Iterable[SideEffect]) -> list[SideEffect]:
    """The effects that were begun and are not known to have ended."""
    return [effect for effect in effects if effect.is_in_doubt]


def _can_settle(run: Run, effect: SideEffect) -> bool:
    """Whether a next run of the same id finds out whether an effect happened, or does it under the
    same key."""
    tool = run.definition.code.tools.get(effect.tool)
    if tool is None:
        return False
    return tool.can_look_up or (tool.wants_key and tool.effect is not Effect.ONCE)
