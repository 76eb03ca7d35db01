"""Runs of programs inside one another: a decision that one has opened steers all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...graphstore.model import FacetRef
from ..steps.noted_facts import Note
from ..steps.run_step import RunStep
from .refusals import AskAgain, KnownRefusals, Refusals

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Chooser", "Family", "Place"]


class Place(NamedTuple):
    """A decision of a program, by where it stands."""

    run: Run
    position: int


class Chooser(NamedTuple):
    """A decision that chose a write, and the run that it belongs to."""

    run: Run
    decision: RunStep

    @property
    def noted(self) -> Mapping[FacetRef, Note]:
        """The facts as its run knows them to have been before it."""
        return self.run.refusals.noted(self.decision)

    @property
    def rests_on(self) -> Iterable[Note]:
        """The facts that must be as noted for what follows from it to stand."""
        return self.run.refusals.rests_on(self.decision)

    def guard_by(self, notes: Sequence[Note]) -> None:
        """Have what guards a write guard it, unless it has been recorded already: what it did
        not know is then found out when it is served, and chooses that write again."""
        if not self.run.over:
            self.decision.guard_by(notes)
            self.run.decides_under(notes)


class Family:
    """A run and those that are begun inside it. ``opened``: the decisions they have opened."""

    def __init__(self) -> None:
        self.opened: set[Place] = set()
        self._runs: list[Run] = []

    def add(self, run: Run) -> None:
        """Take a run into the family."""
        self._runs.append(run)

    def open(self, decisions: Iterable[Place]) -> None:
        """Note that what these runs do from now on may follow from these decisions."""
        self.opened.update(decisions)

    def refusals(self) -> Mapping[KnownRefusals, Refusals]:
        """What refused effects have told each of these runs by now."""
        return {it.refusals: refusals for it in self._runs if (refusals := it.refusals.latest)}

    def choosers(self, passed: Iterable[Place]) -> list[Chooser]:
        """The decisions that chose a program's write: those ``passed`` to it as handles, and all
        that were opened before."""
        passed, opened = set(passed), set(self.opened)
        for run, position in sorted(passed | opened, key=_age):
            run.refusals.open(position)
        known = {it for it in opened if it.position >= it.run.refusals.heeded.all_before}
        places = sorted(passed | known, key=_age)
        return [Chooser(run, run.path.run_steps[position]) for run, position in places]

    def refuse(self, why: AskAgain) -> None:
        """Note a refused effect of one of these runs: what they decide from now on knows of it."""
        for run in self._runs:
            run.search.let_time_pass()
            run.refusals.refuse(why, len(run.path.run_steps))


def _age(place: Place) -> tuple[str, int]:
    return place.run.id, place.position
