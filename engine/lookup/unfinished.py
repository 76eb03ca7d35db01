"""What unfinished runs of a task have decided, which the next run need not ask again.

A decision of such a run is served if it is no other than one of a trace: the same request, all its
guards hold, and have held at every version since they were noted before it was asked (I6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ...graphstore.facts import Span
from ...graphstore.model import JournalEntry, Precondition, StepKind
from ...graphstore.store import RunStore
from ..steps.kept_steps import KeptStep, read_entry
from ..steps.noted_facts import Notes
from .definition import Definition
from .judging import Recorded

__all__ = ["Unfinished", "read_unfinished"]


@dataclass
class Unfinished:
    """The decisions of unfinished runs by key and occurrence, the newest first, and their replies
    by digest. ``served_from``: the executions of which some were served."""

    steps: Mapping[tuple[str, int], Sequence[Recorded]] = field(default_factory=dict)
    outputs: Mapping[str, bytes] = field(default_factory=dict)
    lasting: frozenset[str] = frozenset()  # executions whose entries are another's to delete
    served_from: set[str] = field(default_factory=set)

    @cached_property
    def executions(self) -> frozenset[str]:
        """The runs that have made them."""
        return frozenset(it.trace for some in self.steps.values() for it in some)

    @property
    def preconditions(self) -> dict[str, Precondition]:
        """What guards them, by id."""
        notes = (note for some in self.steps.values() for it in some for note in it.notes)
        return {note.guard.id: note.guard for note in notes}

    def serve(self, recorded: Recorded) -> None:
        """Note that a decision was served."""
        if recorded.trace not in self.lasting:
            self.served_from.add(recorded.trace)

    def find(self, key: str, occurrence: int) -> list[Recorded]:
        """The decisions of this key and occurrence."""
        return list(self.steps.get((key, occurrence), ()))


async def read_unfinished(
    store: RunStore, notes: Notes, entries: Iterable[JournalEntry], definition: Definition
) -> Unfinished:
    """What unfinished runs have decided, judged by the facts of now. What may be torn is left out
    for good: its guards may hold now, and not have held when it was asked. So is what is too
    old."""
    decided: list[Recorded] = []
    outputs: dict[str, bytes] = {}
    lasting = set[str]()
    for entry in entries:
        kept = read_entry(store.namespace, entry)
        if not isinstance(kept, KeptStep) or not _can_be_judged(kept):
            continue
        asked = kept.step.started_at
        if definition.may_be_served(entry.at if asked is None else asked):
            decided.append(Recorded(entry.execution, kept.step, kept.notes, None))
            outputs[kept.step.output] = kept.output
            if entry.wish is not None:
                lasting.add(entry.execution)
    by_key: dict[tuple[str, int], list[Recorded]] = {}
    for recorded in await _judged(store, notes, decided):
        by_key.setdefault((recorded.step.key, recorded.step.occurrence), []).append(recorded)
    return Unfinished(by_key, outputs, frozenset(lasting))


def _can_be_judged(kept: KeptStep) -> bool:
    """Whether it is a decision of which all guards are known."""
    guards = {note.guard.id for note in kept.notes}
    return kept.step.kind is StepKind.DECISION and guards.issuperset(kept.step.guards)


async def _judged(store: RunStore, notes: Notes, decided: Iterable[Recorded]) -> list[Recorded]:
    decided = list(decided)
    now = await notes.take(facet for it in decided for facet in it.facets)
    spans = [
        (number, Span(note.guard.id, note.resource, note.version, now[note.guard.ref].version))
        for number, it in enumerate(decided)
        for note in it.notes
        if note.version != now[note.guard.ref].version
    ]
    whole = await store.unbroken([span for _, span in spans]) if spans else []
    torn = {number for (number, _), ok in zip(spans, whole, strict=True) if not ok}
    return [it.under(now) for number, it in enumerate(decided) if number not in torn]
