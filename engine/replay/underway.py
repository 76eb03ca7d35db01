"""What is known of a run that has not ended: so that what it has paid is told if it is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graphstore.model import Execution, ExecutionState, Mode, Usage
from ..model.prices import sum_of

if TYPE_CHECKING:
    from .run import Run

__all__ = ["total", "underway"]

_NOTHING = Usage()


def underway(run: Run) -> Execution:
    """A run as it is now. Prices are to be at hand."""
    return Execution(
        id=run.id,
        task=run.wish.task,
        agent=run.subject.name,
        mode=Mode.LIVE,
        state=ExecutionState.RUNNING,
        started_at=run.started_at,
        duration_ms=run.elapsed_ms,
        usage=total(run),
        cost=sum_of(bill.cost for bill in tuple(run.bills)),
        asked=len(run.bills),
    )


def total(run: Run) -> Usage:
    """What a run was billed, replaced decisions and unrecorded calls included."""
    return sum((bill.usage for bill in tuple(run.bills) if bill.usage is not None), _NOTHING)
