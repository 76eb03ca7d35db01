"""What people decide about a run that has ended: that it may serve others, or never may."""

from __future__ import annotations

from collections.abc import Mapping

from ...graphstore.canonical import as_text
from ...graphstore.errors import StoreDamaged
from ...graphstore.model import Execution, ExecutionState, Trace, manifest
from ...graphstore.retention import TRACES_PER_TASK
from ...graphstore.store import GraphStore
from ...graphstore.urls import options_for
from ..errors import ExecutionUnknown, NotApprovable, NotRejectable
from ..outcome.cause import MissKind
from ..sessions.process import is_dead
from .ended import signature_of

__all__ = ["approve", "reject"]

_AGAIN = "Run the task again, and approve that run."
_REFUSED = (
    "Nobody can approve what accept= has refused; overrule= lifts only rejections. If the answer is"
    " right, mend accept= and run the task again, else that run is refused, too. If people are to"
    ' decide, declare publish="manual" and no accept=.'
)


async def approve(
    store: GraphStore, execution: str, *, keep: int = TRACES_PER_TASK, overrule: bool = False
) -> bool:
    """Make a trace of a run that waits for it; with ``overrule`` also of a rejected one. Gives
    whether a guard of it does not hold by now. What is a trace already stays so.

    Raises NotApprovable, ExecutionUnknown, and StoreError if what is stored is damaged.
    """
    run = await _found(store, execution, may_be_approval=True)
    if run.execution.state is ExecutionState.UNAPPROVED or overrule:
        await _check(store, run)
    published = await store.approve(execution, keep=keep, overrule=overrule)
    if published.published:
        return published.moved
    now = (await _found(store, execution)).execution
    if now.state is not ExecutionState.REJECTED and (other := published.equal_to or _served(now)):
        try:
            return await approve(store, other, keep=keep, overrule=overrule)
        except ExecutionUnknown:
            raise NotApprovable(execution, f"{_gone(other)}. {_AGAIN}") from None
    raise NotApprovable(execution, _why_not(store, now, overrule=overrule))


async def reject(store: GraphStore, execution: str, reason: str) -> tuple[str, ...]:
    """Have a run never be replayed again, nor any other with its answer; of a replay, what it
    replayed. Gives the ids of all that is rejected by that, the run's own first.

    Raises NotRejectable, ExecutionUnknown.
    """
    if not reason.strip():
        raise NotRejectable(execution, "a reason is missing; say what is wrong with its answer")
    run = await _found(store, execution)
    if (other := _served(run.execution)) is not None:
        try:
            return await reject(store, other, reason)
        except ExecutionUnknown:
            raise NotRejectable(execution, _gone(other)) from None
    if (why_not := _UNANSWERED.get(run.execution.state)) is not None:
        raise NotRejectable(execution, why_not)
    others = await store.reject(execution, as_text(reason), signature_of(run.steps))
    return (execution, *others)


async def _found(store: GraphStore, execution: str, *, may_be_approval: bool = False) -> Trace:
    if (run := await store.execution(execution)) is None:
        raise ExecutionUnknown(execution, store, may_be_approval=may_be_approval)
    now = run.execution.at(await store.now(), is_dead=is_dead)
    return run.model_copy(update={"execution": now})


async def _check(store: GraphStore, run: Trace) -> None:
    """Raises StoreError unless what would be published is as it was written."""
    part = run.steps[: run.execution.published_steps]
    if part and manifest(part) != run.execution.manifest:
        raise StoreDamaged(
            f"the steps of the run {run.id} are not those that were written; see `execgraph doctor"
            f"{options_for(store)}`. {_AGAIN}"
        )
    await store.values({digest for step in part for digest in step.payloads})


def _served(execution: Execution) -> str | None:
    """The trace that a plain replay replayed; None for a run that has steps of its own."""
    return execution.replayed if execution.steps == 0 else None


def _gone(other: str) -> str:
    return f"what it replayed ({other}) is no longer kept, so that it serves nobody"


def _why_not(store: GraphStore, run: Execution, *, overrule: bool) -> str:
    if run.state in _UNFIT:
        return _UNFIT[run.state]
    if run.state is ExecutionState.REJECTED and not overrule:
        return (
            f"it was rejected ({run.reason}). If that was a mistake: approve it with overrule=True"
            f" (`execgraph approve {run.id} --overrule{options_for(store)}`)."
        )
    if (run.reason or "").startswith(MissKind.NOT_ACCEPTED.value):
        return f"its accept= has refused it ({run.reason}). {_REFUSED}"
    why = "" if run.reason is None else f" ({run.reason})"
    torn = "a fact changed during its first step, or its process ended before it was published"
    return f"nothing of it may be replayed{why or f': {torn}'}. {_AGAIN}"


_UNENDED = "it has not ended; wait until it has"
_UNFIT: Mapping[ExecutionState, str] = {
    ExecutionState.RUNNING: f"{_UNENDED}, and approve it then",
    ExecutionState.KILLED: f"it never ended, as its process was killed. {_AGAIN}",
    ExecutionState.FAILED: f"it failed, and has no answer. {_AGAIN}",
}
_UNANSWERED: Mapping[ExecutionState, str] = {
    ExecutionState.RUNNING: f"{_UNENDED}, and reject it then",
    ExecutionState.KILLED: "it never ended, as its process was killed; it serves nobody",
    ExecutionState.FAILED: "it failed, and has no answer; it serves nobody",
}
