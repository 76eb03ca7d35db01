"""A run at its end, and what can be said of it then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...graphstore.model import Mode, SideEffect, Step, Trace, signature
from ..model.prices import Spared, cost_of, load_prices, price, spared_by
from ..outcome.cause import Cause
from ..outcome.result import Outcome
from ..run.run import Run
from ..task import Payload

__all__ = ["EndedRun", "signature_of"]


class EndedRun(NamedTuple):
    """A run that has ended. ``cost``: in US dollars, None if it is not known. ``spared``: what the
    served decisions had cost. ``is_as_followed``: the run took the steps of the followed trace, and
    no others. ``output``: None if it failed; ``stop_reason``: why the last reply ended."""

    run: Run
    cost: float | None
    spared: Spared
    is_as_followed: bool
    output: Payload | None
    stop_reason: str | None

    @classmethod
    async def of(
        cls, run: Run, output: Payload | None = None, stop_reason: str | None = None
    ) -> EndedRun:
        """Make it of ``run``, whose replies are priced: each step is told what it has cost."""
        cost = await cost_of(run.account.bills)
        await _price(run)
        run.session.replay_writer.running.forget(run.id)
        whole = run.path.whole
        return cls(run, cost, _spared(run, whole=whole), whole, output, stop_reason)

    @property
    def mode(self) -> Mode:
        """Live: nothing recorded was of use; replay: it was, and no model was asked; partial: one
        was, and something was served. What was carried out again was not served."""
        run_steps = self.run.path.run_steps
        if self.run.account.calls:
            return Mode.PARTIAL if any(it.served for it in run_steps) else Mode.LIVE
        return Mode.REPLAY if any(it.unchanged for it in run_steps) else Mode.LIVE

    @property
    def missed(self) -> tuple[Cause, ...]:
        """Why a model was asked, and why this will not be replayed, each cause once; empty if none
        was, and it will."""
        account = self.run.account
        asked = [bill.cause for bill in account.bills] if account.calls else []
        causes = dict.fromkeys([*account.told, *asked, *account.troubles])
        return tuple(map(account.priced, causes))

    @property
    def effects(self) -> list[SideEffect]:
        """The effects that the run began, those in doubt included."""
        return self.run.effects.begun

    def equal_trace(self) -> Trace | None:
        """The trace that the run equals in its steps and guards."""
        run = self.run
        if run.account.unpublishable is not None:
            return None
        if self.is_as_followed and run.path.followed is not None:
            return run.path.followed.trace
        too_old = run.definition.finds_too_old  # this run is to take the place of such a one
        traces = run.search.plan.traces
        whole = [it for it in traces if it.execution.complete and not too_old(it)]
        mine = signature_of(run.steps) if whole else None
        return next((trace for trace in whole if trace.execution.signature == mine), None)


async def _price(run: Run) -> None:
    """Tell each decision what it has cost: one that was asked, and one that a run had paid for
    which did not come to its end."""
    for run_step in run.path.run_steps:
        step, cost = run_step.step, None
        if run_step.bill is not None:
            cost = run_step.bill.cost
        elif run_step.terms is not None and step.cost is None:
            await load_prices()
            cost = price(step.name, step.usage, run_step.terms)
        if cost is not None:
            run_step.step = step.model_copy(update={"cost": cost})


def _spared(run: Run, *, whole: bool) -> Spared:
    """What the decisions that were served had cost; a trace followed as a ``whole`` knows it."""
    path = run.path
    if whole and path.followed is not None:
        return path.followed.spared
    return spared_by(it.step for it in path.run_steps if it.outcome is Outcome.REPLAYED)


def signature_of(steps: Iterable[Step]) -> str:
    """Steps that ran at the same time end in any order: traces that differ in it are equal."""
    return signature(sorted(steps, key=lambda step: (step.key, step.occurrence)))
