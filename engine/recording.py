"""How a run ends: as a trace of its own, or as one more replay of a trace there is."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from ..graphstore.canonical import Json, as_text, digest, encode
from ..graphstore.errors import ExecgraphError, StoreError, StoreUnavailable
from ..graphstore.model import (
    Effect,
    EffectState,
    Execution,
    ExecutionState,
    Mode,
    Precondition,
    Recording,
    Replay,
    SideEffect,
    Step,
    StepKind,
    Trace,
    Value,
    manifest,
    signature,
    step_id,
)
from .errors import RunFailed
from .exits import is_exit
from .model.prices import Spared, cost_of, paid_for, spared_by
from .outcome.cause import Cause, MissKind
from .outcome.events import RunEnded
from .outcome.report import report_of
from .outcome.result import EffectReport, Outcome, Result
from .replay.judging import decisions_behind
from .replay.run import Run
from .replay.wish import MustNotAsk
from .sessions.outage import beneath, store_away

__all__ = ["effects_of", "failure", "finish", "is_store_away", "told", "write_failure"]

_log = logging.getLogger("execgraph")


async def finish(run: Run, output: Json, *, stop_reason: str | None = None) -> Result:
    """Record what is new in a run that has ended well, and report it.

    ``stop_reason``: why the reply ended that gave it.
    """
    run.end()
    if lost := run.effects.lost:
        run.account.do_not_publish(Cause(MissKind.UNFINISHED_EFFECT, ", ".join(lost)))
    cost = await _priced(run)
    run.session.journal.running.forget(run.id)
    if run.away:
        run.account.do_not_publish(store_away(run.store))
    spared = _spared(run)
    if (equal := _equal_trace(run, spared)) is not None:
        await run.session.journal.room()
        run.session.journal.add(_replay(run, equal, output, cost, spared))
        recorded = False
    else:
        recorded = await _record_if_there(run, run.steps, output, cost)
    run.session.keeper.kick()
    known_as = None if equal is None else equal.id
    came_out_as = run.id if recorded else known_as
    if came_out_as is not None and came_out_as != run.began_with:
        run.session.memory.put(run.memory_key, came_out_as)
    result = _result(run, output, stop_reason, spared, recorded=recorded, cost=cost)
    if run.session.events.listeners:
        _tell(run, _execution(run, run.steps, None, cost), recorded=recorded)
    return result


async def write_failure(run: Run, reason: str) -> None:
    """Keep a run that failed, for people: it is never published.

    The failure itself matters more than this record: trouble of the store's is logged.
    """
    cost = await _priced(run)
    run.session.journal.running.forget(run.id)
    execution = _execution(run, run.steps, None, cost).model_copy(
        update={"state": ExecutionState.FAILED, "reason": reason}
    )
    if run.session.events.listeners:
        _tell(run, execution, recorded=False)
    if run.away:
        return
    try:
        await _take_back(run)
        await run.session.store.write(_recording(run, execution, None))
    except StoreError as error:
        _log.warning("the failed execution %s could not be written: %s", run.id, error)


def told(error: BaseException) -> str:
    """Why a run failed, as it is raised and recorded: text that every store can keep."""
    if isinstance(error, ExecgraphError | MustNotAsk):
        return as_text(str(error))
    if isinstance(error, KeyboardInterrupt) or not (isinstance(error, Exception) or is_exit(error)):
        return "cancelled"
    return as_text(f"{type(error).__name__}: {error}")


def is_store_away(error: BaseException) -> bool:
    """Whether a run failed because the store has gone."""
    return isinstance(error, StoreUnavailable) or isinstance(error.__cause__, StoreUnavailable)


def failure(run: Run, why: str) -> RunFailed:
    """What to raise for a run that failed: it says what was done to the outside."""
    effects = effects_of(run)
    doubtful = in_doubt(effects)
    return RunFailed(
        f"the run of {run.subject.name} failed: {why}",
        execution_id=run.id,
        effects=[effect for effect in effects if effect not in doubtful],
        in_doubt=doubtful,
    )


def effects_of(run: Run) -> list[SideEffect]:
    """The effects that a run began, those in doubt included."""
    return run.effects.begun


async def _priced(run: Run) -> float | None:
    """What a run has cost. Its steps are told what each of them has."""
    cost = await cost_of(run.account.bills)
    for bill in run.account.bills:
        for taken in run.path.taken:
            if taken.bill is bill:
                taken.step = taken.step.model_copy(update={"cost": bill.cost})
    return cost


# Recording --------------------------------------------------------------------------------


async def _record_if_there(run: Run, steps: list[Step], output: Json, cost: float | None) -> bool:
    """Record the run. It has ended well: its answer is not lost because the store is away."""
    if run.away:
        return False
    try:
        return await _record(run, steps, output, cost)
    except StoreUnavailable as error:
        run.session.went_away(error)
        run.account.do_not_publish(store_away(run.store))
        _log.warning("the execution %s has ended well and is not recorded: %s", run.id, error)
        return False


async def _record(run: Run, steps: list[Step], output: Json, cost: float | None) -> bool:
    """Write the run, then publish what is not torn, in a transaction of its own."""
    store = beneath(run.store)
    execution = _execution(run, steps, output, cost)
    current = await store.write(_recording(run, execution, output))
    if run.account.unpublishable is not None or not steps:
        return False
    guards = {it.ticket: it.step.guards for it in run.path.taken if it.ticket is not None}
    torn = await run.notes.torn(guards, current)
    whole = next((n for n, taken in enumerate(run.path.taken) if taken.ticket in torn), len(steps))
    if whole < len(steps):
        run.account.trouble(Cause(MissKind.TORN, f"{steps[whole].name} (step {whole})"))
        whole = _with_its_writes(steps, whole)
    if whole == 0:
        return False
    for cause in run.account.causes:
        if cause.kind is MissKind.PAYLOAD_DAMAGED:
            # Else this run, being equal, would not take its place, and nothing ever replayed.
            await store.unpublish(cause.node, str(cause.kind))
    kept = steps[:whole]
    # If the run is cancelled now, this is to end all the same, and is then taken back.
    published = await run.publication.publish(
        store.publish(
            run.id,
            steps=whole,
            manifest=manifest(kept),
            signature=_signature(kept),
            keep=run.session.keeper.traces,
        )
    )
    if published.moved:
        run.session.walker.kick()
    return published.published


async def _take_back(run: Run) -> None:
    """A run that was cancelled while it was published is no trace."""
    if await run.publication.came_about():
        await run.session.store.unpublish(run.id, "cancelled")


def _with_its_writes(steps: Sequence[Step], whole: int) -> int:
    """How many steps may be published of the first ``whole``: a decision that chose a write only
    together with that write, which tells what it had to rest on."""
    writes = (it for it in steps[whole:] if it.effect is Effect.WRITE)
    behind = [position for it in writes for position in decisions_behind(steps, it)]
    first = min(behind, default=whole)
    return whole if first >= whole else _with_its_writes(steps, first)


def _equal_trace(run: Run, spared: Spared) -> Trace | None:
    """The trace that this run equals in its steps and guards."""
    if run.account.unpublishable is not None:
        return None
    if run.path.followed is not None and spared is run.path.followed.spared:
        return run.path.followed.trace
    if not run.search.plan.traces:
        return None
    mine = _signature(run.steps)
    return next(
        (
            trace
            for trace in run.search.plan.traces
            if trace.execution.complete and trace.execution.signature == mine
        ),
        None,
    )


def _signature(steps: Iterable[Step]) -> str:
    """Steps that ran at the same time end in any order: traces that differ in it are equal."""
    return signature(sorted(steps, key=lambda step: (step.key, step.occurrence)))


def _replay(run: Run, trace: Trace, output: Json, cost: float | None, spared: Spared) -> Replay:
    execution = _execution(run, (), output, cost, spared, replayed=trace.id)
    values: tuple[Value, ...] = ()
    if run.account.causes:  # else it is told by the trace it replayed
        execution, report = _with_report(run, execution, _places(trace), trace.id)
        values = (report,)
    done = [
        (taken.step, effect)
        for taken in run.path.taken
        if (effect := taken.effect) is not None and effect.state is EffectState.DONE
    ]
    places = _places(trace) if done else {}
    effects = tuple(
        effect.model_copy(update={"step": step_id(trace.id, places[step.key, step.occurrence])})
        for step, effect in done
    )
    return Replay.model_construct(execution=execution, effects=effects, values=values)


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
    taken = [(it.step, it.report()) for it in run.path.taken]
    report = report_of(taken, run.account.causes, recorded_with or run.id, places).value()
    return execution.model_copy(update={"report": report.digest}), report


def _recording(run: Run, execution: Execution, output: Json) -> Recording:
    values = run.wish.task.values
    values += [value for taken in run.path.taken for value in taken.values]
    if output is not None:
        values.append(Value.of(encode(output)))
    execution, report = _with_report(run, execution)
    values.append(report)
    steps = {
        taken.effect.id: step_id(run.id, position)
        for position, taken in enumerate(run.path.taken)
        if taken.effect is not None
    }
    effects = tuple(
        effect.model_copy(update={"step": steps.get(effect.id)}) for effect in effects_of(run)
    )
    return Recording(
        task=run.wish.task.stored,
        execution=execution,
        steps=tuple(run.steps),
        preconditions=_preconditions(run),
        values=tuple({value.digest: value for value in values}.values()),
        effects=effects,
    )


def _preconditions(run: Run) -> tuple[Precondition, ...]:
    """All that guards a step of this run, each once, sorted: stores lock in this order."""
    noted = {note.guard.id: note.guard for taken in run.path.taken for note in taken.notes}
    known = {**run.search.preconditions, **noted}
    used = {guard for taken in run.path.taken for guard in taken.step.guards}
    return tuple(known[guard] for guard in sorted(used))


_UNPUBLISHED = Execution(
    id="", task="", agent="", mode=Mode.LIVE, state=ExecutionState.UNPUBLISHED, started_at=0
)


def _execution(
    run: Run,
    steps: Sequence[Step],
    output: Json,
    cost: float | None,
    spared: Spared | None = None,
    *,
    replayed: str | None = None,
) -> Execution:
    spared, paid = spared or _spared(run), paid_for(run.account.bills)
    fields = {
        "id": run.id,
        "task": run.wish.task.key,
        "agent": run.subject.name,
        "mode": _mode(run),
        "started_at": run.started_at,
        "duration_ms": run.elapsed_ms,
        "steps": len(steps),
        "replayed": replayed or run.began_with,
        "output": None if output is None else digest(encode(output)),
        "usage": run.account.usage,
        "saved_tokens": spared.tokens,
        "cost": cost,
        "labels": dict(run.wish.labels),
        "reason": None if run.account.unpublishable is None else str(run.account.unpublishable),
        "miss": tuple(paid),
        "asked": len(run.account.bills),
        "served": spared.decisions,
        "saved_cost": spared.cost,
        "miss_asked": tuple([it.asked for it in paid.values()]),
        "miss_tokens": tuple([it.tokens for it in paid.values()]),
    }
    # Made of what is known to be right, so nothing is checked again; a copy is made fastest.
    return _UNPUBLISHED.model_copy(update=fields)


# Reporting --------------------------------------------------------------------------------


def _tell(run: Run, execution: Execution, *, recorded: bool) -> None:
    """Tell subscribers that ``run`` has ended as ``execution``."""
    event = RunEnded(
        execution_id=execution.id,
        task=execution.task,
        name=execution.agent,
        mode=execution.mode,
        failed=execution.state is ExecutionState.FAILED,
        reason=execution.reason,
        recorded=recorded,
        steps=len(run.path.taken),
        tokens=execution.usage.total,
        saved_tokens=execution.saved_tokens,
        cost=execution.cost,
        duration_ms=execution.duration_ms,
        miss=_missed(run),
    )
    run.session.events.emit(event)


def _result(
    run: Run,
    output: object,
    stop_reason: str | None,
    spared: Spared,
    *,
    recorded: bool,
    cost: float | None,
) -> Result:
    mode = _mode(run)
    replayed = mode is Mode.REPLAY
    same = run.path.followed is not None and spared is run.path.followed.spared
    actions = (it for it in run.path.taken if it.step.kind is StepKind.ACTION)
    return Result(
        output=output,
        execution_id=run.id,
        mode=mode,
        steps=tuple([taken.report() for taken in run.path.taken]),
        usage=run.account.usage,
        saved_tokens=spared.tokens,
        cost=cost,
        saved_cost=spared.cost,
        recorded=recorded,
        replayed=replayed,
        identical=replayed and (same or all(it.unchanged for it in actions)),
        duration_ms=run.elapsed_ms,
        effects=tuple([_effect_report(effect) for effect in effects_of(run)]),
        miss=_missed(run),
        stop_reason=stop_reason,
    )


def _missed(run: Run) -> tuple[Cause, ...]:
    """Why a model was asked, each cause once, and why this will not be replayed; of a run that
    asked nobody, nothing."""
    if not run.account.calls:
        return ()
    asked = (bill.cause for bill in run.account.bills)
    return tuple(dict.fromkeys([*asked, *run.account.troubles]))


def _spared(run: Run) -> Spared:
    """What the decisions that were served had cost; the followed trace knows its own."""
    if run.path.followed is not None and run.path.whole:
        return run.path.followed.spared
    return spared_by(it.step for it in run.path.taken if it.outcome is Outcome.REPLAYED)


def _mode(run: Run) -> Mode:
    """Live: nothing recorded was of use; replay: it was, and no model was asked; partial: one was,
    and something was served. What was carried out again was not served."""
    if run.account.calls:
        return Mode.PARTIAL if any(taken.served for taken in run.path.taken) else Mode.LIVE
    return Mode.REPLAY if any(taken.unchanged for taken in run.path.taken) else Mode.LIVE


def _effect_report(effect: SideEffect) -> EffectReport:
    state = effect.state
    return EffectReport(effect.id, effect.tool, effect.target, effect.idempotency_key, state)


def in_doubt(effects: Iterable[SideEffect]) -> list[SideEffect]:
    """Those that were begun and are not known to have ended."""
    return [effect for effect in effects if effect.state is EffectState.INTENDED]
