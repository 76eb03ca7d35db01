"""Runs of programs inside one another: a decision that one has opened steers all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ...graphstore.model import FacetRef
from .noted_facts import Note
from .step_taken import Taken

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Chooser", "Family", "Place"]


class Place(NamedTuple):
    """A decision of a program, by where it stands."""

    run: Run
    position: int


class Family:
    """A run and those that are begun inside it. ``opened``: the decisions they have opened."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.opened: set[Place] = set()


class Chooser(NamedTuple):
    """A decision that chose a write, and the run that it belongs to."""

    run: Run
    taken: Taken

    @property
    def noted(self) -> Mapping[FacetRef, Note]:
        """The facts as its run knows them to have been before it."""
        return self.run.noted(self.taken)

    @property
    def rests_on(self) -> Iterable[Note]:
        """The facts that must be as noted for what follows from it to stand."""
        return self.run.rests_on(self.taken)

    def guard_by(self, write: Taken) -> None:
        """Have what guards the write guard it, unless it has been recorded already: what it did
        not know is then found out when it is served, and chooses that write again."""
        if not self.run.over:
            self.taken.guard_by(write)
