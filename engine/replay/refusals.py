"""Why effects were refused, and what a run knows of it from then on (I5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ...graphstore.model import FacetRef
from ..outcome.cause import Cause
from .noted_facts import Note
from .step_taken import Taken

__all__ = ["AskAgain", "Refusals"]


class AskAgain(Exception):
    """Facts moved before the first effect of a reply, or cannot be checked any more (I5)."""

    def __init__(self, cause: Cause, moved: Iterable[Note] = (), now: Iterable[Note] = ()) -> None:
        moved = tuple(moved)
        self.cause = cause
        self.now = {note.guard.ref: note for note in (*moved, *now)}  # what moved, as it is now
        self.guards = frozenset(note.guard.id for note in moved)
        self.facets = tuple(dict.fromkeys(note.guard.ref for note in moved))
        super().__init__(str(cause))


@dataclass(frozen=True)
class Refusals:
    """What refused effects told a run: by facet, what it is now, and the position before which
    steps did not know. Of the steps before ``all_before`` nothing is known any more, as the store
    is away."""

    facts: Mapping[FacetRef, tuple[int, Note]] = field(default_factory=dict)
    all_before: int = 0

    def __bool__(self) -> bool:
        return bool(self.facts or self.all_before)

    def before(self, taken: Taken) -> dict[FacetRef, Note]:
        """The facts that refusals told of after ``taken``, as they are now."""
        position = taken.step.position
        return {ref: note for ref, (at, note) in self.facts.items() if position < at}

    def with_more(self, why: AskAgain, position: int) -> Refusals:
        """The same, and why a refusal came now."""
        if not why.now:
            return replace(self, all_before=position)
        told = {ref: (position, note) for ref, note in why.now.items()}
        return replace(self, facts={**self.facts, **told})

    def and_then(self, later: Refusals) -> Refusals:
        """What this one told, and then ``later``: of a facet in both, what ``later`` says."""
        if not later:
            return self
        before = max(self.all_before, later.all_before)
        return Refusals({**self.facts, **later.facts}, before)
