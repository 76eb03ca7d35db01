"""The path of a run: the steps it has taken, and the recorded ones that it follows meanwhile.

An agent's run follows a trace as long as everything is as recorded, without looking at any request.
Where something is invalid, missing or different it leaves that path for good. A program's run has
none to follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...graphstore.model import Step, StepKind
from ..lookup.judging import Recorded
from ..lookup.plan import Prepared
from ..outcome.cause import Cause, MissKind
from ..steps.run_step import RunStep, frontier

__all__ = ["Path"]


class Path:
    """The steps taken, in their order. ``followed``: the trace that is followed, if any is."""

    def __init__(self, followed: Prepared | None) -> None:
        self.followed = followed
        self._run_steps: list[RunStep] = []
        self._outputs: dict[str, bytes] = {}
        self._recorded = () if followed is None else followed.judged
        self._next: int | None = None if followed is None else 0
        self._left: Cause | None = None

    # Taken so far -------------------------------------------------------------------------

    @property
    def run_steps(self) -> Sequence[RunStep]:
        """The steps so far."""
        return self._run_steps

    @property
    def steps(self) -> list[Step]:
        """The steps so far, as they would be recorded."""
        return [run_step.step for run_step in self._run_steps]

    @property
    def frontier(self) -> tuple[int, ...]:
        """The positions from which a next step follows."""
        return frontier(self.steps)

    @property
    def last_decision(self) -> int | None:
        """The position of the last decision."""
        decisions = (it.step.position for it in reversed(self._run_steps) if it.is_decision)
        return next(decisions, None)

    @property
    def history(self) -> int:
        """How many steps there is no going back behind: those up to the last effect."""
        effects = [it.step.position for it in self._run_steps if it.effect is not None or it.stands]
        return max(effects, default=-1) + 1

    def served(self, after: int = 0) -> Iterator[RunStep]:
        """The steps that were served, from position ``after`` on; what stands of earlier runs of
        the same id is history."""
        return (it for it in self._run_steps[after:] if it.served and not it.stands)

    @property
    def outputs(self) -> Mapping[str, bytes]:
        """What the actions gave, by digest."""
        return self._outputs

    def take(self, run_step: RunStep) -> None:
        """Give a step its place: after all that ended before it."""
        position = len(self._run_steps)
        if run_step.step.position != position:
            run_step.step = run_step.step.model_copy(update={"position": position})
        self._append(run_step)

    def go_back(self, position: int, cause: Cause) -> Sequence[RunStep]:
        """Forget the steps from ``position`` on, which are given; what is recorded is left."""
        forgotten = self._run_steps[position:]
        del self._run_steps[position:]
        self._outputs = {it.step.output: it.output for it in self._run_steps if not it.is_decision}
        self.leave(cause)
        return forgotten

    def _append(self, run_step: RunStep) -> None:
        self._run_steps.append(run_step)
        if not run_step.is_decision:
            self._outputs[run_step.step.output] = run_step.output

    # As recorded --------------------------------------------------------------------------

    @property
    def is_as_recorded(self) -> bool:
        """Whether the recorded path is followed still."""
        return self._next is not None

    @property
    def whole(self) -> bool:
        """Whether the steps of the followed trace were taken, all of them and to its end."""
        trace = None if self.followed is None else self.followed.trace
        return (
            trace is not None
            and len(self._run_steps) == len(trace.steps)
            and trace.execution.complete
            and all(run_step.copied for run_step in self._run_steps)
        )

    @property
    def left(self) -> Cause | None:
        """Why the recorded path was left; None: it was not."""
        return self._left

    @property
    def next(self) -> Recorded | None:
        """What is recorded next, if it is followed still and does not end here."""
        if self._next is None or self._next >= len(self._recorded):
            return None
        return self._recorded[self._next]

    def next_decision(self) -> Recorded | None:
        """What is recorded next, if it is a decision and stands."""
        if self._next is None or self._next >= len(self._recorded):  # as ``next``, once less called
            return None
        recorded = self._recorded[self._next]
        stands = recorded.cause is None and recorded.step.kind is StepKind.DECISION
        return recorded if stands else None

    def action(self, decision: int, call: int) -> Recorded | None:
        """The recorded action that carries out a call of the decision at this position."""
        if self._next is None or self.followed is None:
            return None
        return self.followed.actions.get((decision, call))

    def go_along(self, run_step: RunStep) -> None:
        """Take the step that is recorded next, as it is recorded."""
        assert self._next is not None
        self._append(run_step)
        self._next += 1

    def advance(self, steps: int) -> None:
        """Skip so many recorded steps, whose equals were taken."""
        if self._next is not None:
            self._next += steps

    def leave(self, cause: Cause | None = None) -> None:
        """Leave the recorded path: each step to come is looked up by its own key. ``cause`` None:
        no more is recorded."""
        if self._next is not None and self.followed is not None:
            self._next = None
            self._left = cause or Cause(MissKind.RECORDING_ENDS, self.followed.trace.id)
