"""Why effects were refused as stale (I5), and what a run knows of it from then on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ...graphstore.model import FacetRef
from ..outcome.cause import Cause
from ..steps.noted_facts import Note
from ..steps.run_step import RunStep

__all__ = ["AskAgain", "KnownRefusals", "Refusals"]


class AskAgain(Exception):
    """Facts moved before the first effect of a reply, or cannot be checked any more; or ``traces``
    that served what chose it were rejected."""

    def __init__(
        self,
        cause: Cause,
        moved: Iterable[Note] = (),
        now: Iterable[Note] = (),
        traces: Iterable[str] = (),
    ) -> None:
        moved = tuple(moved)
        self.cause = cause
        self.traces = frozenset(traces)
        self.now = {note.guard.ref: note for note in (*moved, *now)}  # what moved, as it is now
        self.guards = frozenset(note.guard.id for note in moved)
        self.facets = tuple(dict.fromkeys(note.guard.ref for note in moved))
        super().__init__(str(cause))


@dataclass(frozen=True)
class Refusals:
    """What refused effects told a run: by facet, what it is now, and the position before which
    steps did not know. Of the steps before ``all_before`` nothing is known any more, as the store
    is away. ``traces``: those that were rejected."""

    facts: Mapping[FacetRef, tuple[int, Note]] = field(default_factory=dict)
    all_before: int = 0
    traces: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.facts or self.all_before or self.traces)

    def before(self, run_step: RunStep) -> dict[FacetRef, Note]:
        """The facts that refusals told of after ``run_step``, as they are now."""
        position = run_step.step.position
        return {ref: note for ref, (at, note) in self.facts.items() if position < at}

    def with_more(self, why: AskAgain, position: int) -> Refusals:
        """These refusals, and one that came now."""
        if why.traces:
            return replace(self, traces=self.traces | why.traces)
        if not why.now:
            return replace(self, all_before=position)
        facts = {ref: (position, note) for ref, note in why.now.items()}
        return replace(self, facts={**self.facts, **facts})

    def and_then(self, later: Refusals) -> Refusals:
        """What this one told, and then ``later``: of a facet in both, what ``later`` says."""
        if not later:
            return self
        before = max(self.all_before, later.all_before)
        return Refusals({**self.facts, **later.facts}, before, self.traces | later.traces)


_NOTHING = Refusals()


class KnownRefusals:
    """What a run was told by effects that were refused, and from which step on it knows.

    What is decided once an effect was refused is decided in the knowledge of that: ``heeded`` is
    what was known to the decisions that count. A program's decision counts once it is opened.
    """

    def __init__(self) -> None:
        self.heeded = self._latest = _NOTHING
        self._unopened: dict[int, Mapping[KnownRefusals, Refusals]] = {}

    @property
    def latest(self) -> Refusals:
        """Everything refused so far, which is known to whatever is decided from now on."""
        return self._latest

    def refuse(self, why: AskAgain, position: int) -> None:
        """Note a refused effect, of which the steps before ``position`` did not know."""
        self._latest = self._latest.with_more(why, position)

    def heed(self, refusals: Refusals) -> None:
        """Note that what follows from now on is decided in the knowledge of these."""
        self.heeded = self.heeded.and_then(refusals)

    def keep(self, decision: int, known: Mapping[KnownRefusals, Refusals]) -> None:
        """Keep what several runs knew when this run's decision at that position was made: nothing
        follows from it before it is opened or passed on."""
        self._unopened[decision] = known

    def open(self, decision: int) -> None:
        """Note that what those runs do from now on may follow from this run's decision at that
        position."""
        for other, refusals in self._unopened.pop(decision, {}).items():
            other.heed(refusals)

    def heed_at_once(self, why: AskAgain, position: int) -> None:
        """Let the steps before ``position`` stay, though what comes next knows why they should
        not."""
        self.heeded = self.heeded.with_more(why, position)

    def noted(self, run_step: RunStep) -> Mapping[FacetRef, Note]:
        """The facts as they were known before a step; what moved since and was heeded, as it was
        told."""
        return {**run_step.noted, **self.heeded.before(run_step)} if self.heeded else run_step.noted

    def rests_on(self, run_step: RunStep) -> Iterable[Note]:
        """The facts that must be as noted for what follows from a step to stand."""
        if not self.heeded:
            return run_step.rests_on
        refused = self.heeded.before(run_step)
        return [refused.get(note.guard.ref, note) for note in run_step.rests_on]
