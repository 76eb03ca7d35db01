"""A step that a run took, whether it was served or carried out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...graphstore.model import FacetRef, SideEffect, Step, StepKind, Value
from ..model.prices import Bill
from ..outcome.cause import Cause
from ..outcome.result import Outcome, StepReport
from .noted_facts import Note, distinct, guards_of
from .stopwatch import Times

__all__ = ["RunStep", "frontier"]


@dataclass(slots=True)
class RunStep:
    """One step of a run so far. ``step``: as it would be recorded, but for its times;
    ``output``: its payload."""

    step: Step
    outcome: Outcome
    output: bytes
    ticket: int | None = None  # by which the run's notes know it, if it was carried out
    cause: Cause | None = None
    times: Times | None = None  # in this run; None: nothing was asked or carried out
    notes: tuple[Note, ...] = ()  # what it rests on, if it is not a recorded step as it was
    noted: Mapping[FacetRef, Note] = field(default_factory=dict)  # all that was known before it
    values: tuple[Value, ...] = ()  # payloads that are not in the store yet
    effect: SideEffect | None = None
    known_by: str | None = None  # what tells its effect apart, in this run or before
    bill: Bill | None = None  # of a decision that was asked
    terms: Mapping[str, str] | None = None  # of a served one that was not priced: its bill's
    copied: bool = False  # the followed trace's own step, unchanged but for marked arguments
    followed: bool = False  # an action that the recorded path had next
    trace: str | None = None  # from which it was served, if it was
    stands: bool = False  # of an earlier run of the same run id
    called: str = ""  # what a program called
    whole: bytes | None = None  # an output with its marked values, of a run with an id
    _report: StepReport | None = None

    def report(self) -> StepReport:
        """What a result says of it; made once, as served decisions are shared by runs."""
        if self._report is None:
            self._report = self._reported()
        return self._report

    def _reported(self) -> StepReport:
        step = self.step
        tokens = 0 if step.usage is None else step.tokens
        asked = self.outcome is Outcome.ASKED
        return StepReport(
            kind=step.kind,
            name=step.name,
            outcome=self.outcome,
            tokens=tokens if asked else 0,
            saved_tokens=0 if asked else tokens,
            duration_ms=self.times.duration_ms if self.times else 0.0,
            cause=self.cause,
            error=step.error,
        )

    @property
    def is_decision(self) -> bool:
        """Whether it is a model's reply, and not what a tool gave."""
        return self.step.kind is StepKind.DECISION

    @property
    def as_recorded(self) -> Step:
        """The step with its times: those of this run, if it was asked or carried out in it."""
        if self.times is None:
            return self.step
        return self.step.model_copy(update=self.times._asdict())

    @property
    def unchanged(self) -> bool:
        """Whether it gave what is recorded of it."""
        return self.outcome in (Outcome.REPLAYED, Outcome.REUSED)

    @property
    def served(self) -> bool:
        """Whether a recording stands in for it, so that nothing was asked or carried out."""
        replayed = self.outcome is Outcome.REPLAYED
        return self.outcome is Outcome.REUSED or (replayed and self.is_decision)

    @property
    def rests_on(self) -> Iterable[Note]:
        """The facts that must be as noted for what follows from it to stand."""
        return self.noted.values() if self.served else self.notes

    def become(self, run_step: RunStep) -> None:
        """Take over ``run_step``, with which this step has ended that had begun. Its position
        stays, and so do the writes that guard it meanwhile."""
        self.notes = distinct(self.notes, run_step.notes)
        more = {"position": self.step.position, "guards": guards_of(self.notes)}
        place = {name: getattr(self.step, name) for name in ("extends", "shared", "messages")}
        run_step.step = self.step = run_step.step.model_copy(update={**more, **place})
        self.output, self.values, self.bill = run_step.output, run_step.values, run_step.bill
        self.ticket, self.noted = run_step.ticket, run_step.noted
        self.cause, self.times = run_step.cause, run_step.times

    def guard_by(self, notes: Sequence[Note]) -> None:
        """Add what guards a write to what guards this decision, taken to have chosen it."""
        guards = tuple(sorted({*self.step.guards, *guards_of(notes)}))
        if guards != self.step.guards:
            self.step = self.step.model_copy(update={"guards": guards})
            self.notes = (*self.notes, *notes)
            self.copied = False


def frontier(steps: Sequence[Step]) -> tuple[int, ...]:
    """The positions that feed no other step yet: what a next step depends on."""
    fed = {position for step in steps for position in step.feeds}
    return tuple(step.position for step in steps if step.position not in fed)
