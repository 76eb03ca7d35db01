"""The facts a run rests on, as it noted them: no stale effect (I5), no torn trace (I6).

A note says: before this step, this facet had this fingerprint at version n. A step is torn if
some version since then, up to one read after the step, did not hold it. Every read of facts
serves both ways: it notes facts for the step to come, and settles the steps that have ended.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...graphstore.facts import Expected, Facts, Span
from ...graphstore.model import NEVER, FacetRef, Precondition
from ...graphstore.store import RunStore
from ...invalidation.feed import LATE_MS

__all__ = [
    "Note",
    "Notes",
    "Refresh",
    "distinct",
    "facets_by_resource",
    "guards_of",
    "merged",
]

#: Reads expired resources again from sources that are declared here; whether there is any.
Refresh = Callable[[Collection[str]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Note:
    """One facet as it was noted. Not ``believed``: absent, withdrawn or expired then."""

    guard: Precondition
    version: int
    believed: bool

    @property
    def resource(self) -> str:
        return self.guard.resource

    def expected(self, version: int | None = None) -> Expected:
        noted = self.version if version is None else version
        holds = (self.guard.id,) if self.believed else ()
        return Expected(self.resource, noted, self.believed, holds)

    def holds_in(self, notes: Mapping[FacetRef, Note]) -> bool:
        """Whether its facet is believed, and noted with the same fingerprint, in ``notes``."""
        other = notes[self.guard.ref]
        return other.believed and other.guard.id == self.guard.id

    def same_in(self, facts: Facts) -> bool:
        """Whether the facet is at ``facts`` what it was when noted."""
        fact = facts.of(self.resource)
        believed = fact.believed(facts.now)
        if self.believed:
            return believed and fact.fingerprints.get(self.guard.selector) == self.guard.fingerprint
        return not believed and fact.version == self.version


class Notes:
    """All notes of one run, by step, and whether each was confirmed after its step."""

    def __init__(self, store: RunStore, refresh: Refresh) -> None:
        self._store = store
        self._refresh = refresh
        self._tickets = itertools.count()
        self._open: dict[int, tuple[Note, ...]] = {}  # executed steps without a later read
        self._spans: dict[int, list[Span]] = defaultdict(list)  # where versions moved since

    async def take(self, facets: Iterable[FacetRef]) -> dict[FacetRef, Note]:
        """Note these facets as they are now. No store call if there is nothing to read."""
        wanted: dict[str, set[str | None]] = defaultdict(set)
        for facet in facets:
            wanted[facet.resource].add(facet.selector)
        if not wanted:
            return {}
        asked = {
            facet for uri, some in wanted.items() for facet in (FacetRef(uri, s) for s in some)
        }
        for note in (note for notes in self._open.values() for note in notes):
            wanted[note.resource].add(note.guard.selector)
        facts = await self.read(wanted)
        self._settle({uri: facts.of(uri).version for uri in wanted})
        return {facet: noted(self._store.namespace, facet, facts) for facet in asked}

    async def newest(self, wanted: Callable[[str], bool]) -> tuple[int, Mapping[str, int]]:
        """The store's time; and of the resources that are ``wanted`` the newest versions, as far
        as their moments do not tell whether they were visible by then."""
        now = await self._store.now()
        events = await self._store.changes(since=now - LATE_MS, limit=None)
        seen: dict[str, int] = {}
        for event in events:
            if wanted(event.resource):
                seen[event.resource] = max(event.to_version, seen.get(event.resource, 0))
        return now, seen

    async def read(self, wanted: Mapping[str, Iterable[str | None]]) -> Facts:
        """Facts as they are now; settles nothing."""
        asked = {uri: frozenset(selectors) for uri, selectors in wanted.items()}
        facts = await self._store.facts(asked)
        if (expired := facts.expired()) and await self._refresh(expired):
            facts = await self._store.facts(asked)
        return facts

    def noted(self, notes: Iterable[Note], facts: Facts) -> list[Note]:
        """The notes of the same facets at these facts."""
        return [noted(self._store.namespace, note.guard.ref, facts) for note in notes]

    def ticket(self) -> int:
        """What a step is known by here: its position is not known before it has ended."""
        return next(self._tickets)

    def ended(self, ticket: int, notes: Iterable[Note]) -> None:
        """A step that was executed under ``notes`` has ended; more notes may follow."""
        if kept := tuple(note for note in notes if note.believed):
            self._open[ticket] = self._open.get(ticket, ()) + kept

    def forget(self, tickets: Iterable[int]) -> None:
        """Forget the notes of steps that were replaced."""
        for ticket in tickets:
            self._open.pop(ticket, None)
            self._spans.pop(ticket, None)

    async def torn(
        self, guards: Mapping[int, Collection[str]], current: Mapping[str, int]
    ) -> set[int]:
        """Which of these steps are torn: ``guards`` by their tickets, and a last read of the
        versions of all resources that guard them. What was noted for a step and came not to
        guard it does not tear it."""
        for ticket, notes in self._open.items():
            rests_on = [note for note in notes if note.guard.id in guards.get(ticket, ())]
            self._spans[ticket] += _moved(rests_on, current)
        self._open.clear()
        spans = [
            (ticket, span)
            for ticket, some in self._spans.items()
            for span in some
            if span.precondition in guards.get(ticket, ())
        ]
        if not spans:
            return set()
        whole = await self._store.unbroken([span for _, span in spans])
        return {ticket for (ticket, _), ok in zip(spans, whole, strict=True) if not ok}

    def _settle(self, current: Mapping[str, int]) -> None:
        """Close the open steps whose resources were all just read."""
        for ticket, notes in list(self._open.items()):
            if any(note.resource not in current for note in notes):
                continue
            del self._open[ticket]
            self._spans[ticket] += _moved(notes, current)


def _moved(notes: Iterable[Note], current: Mapping[str, int]) -> list[Span]:
    """The versions since these notes, of the resources that moved."""
    return [
        Span(note.guard.id, note.resource, note.version, current[note.resource])
        for note in notes
        if current[note.resource] != note.version
    ]


def noted(namespace: str, facet: FacetRef, facts: Facts) -> Note:
    """The note of ``facet`` at these facts; what is not believed gets a guard that never holds."""
    fact = facts.of(facet.resource)
    believed = fact.believed(facts.now)
    at = fact.fingerprints[facet.selector] if believed else NEVER
    return Note(Precondition.of(namespace, facet, at), fact.version, believed)


def facets_by_resource(notes: Iterable[Note]) -> dict[str, set[str | None]]:
    """What is to be read to see these facts as they are now."""
    wanted: dict[str, set[str | None]] = defaultdict(set)
    for note in notes:
        wanted[note.resource].add(note.guard.selector)
    return wanted


def guards_of(notes: Iterable[Note]) -> tuple[str, ...]:
    """The ids of the preconditions of these notes, as a step keeps them."""
    return tuple(sorted({note.guard.id for note in notes}))


def distinct(*notes: Iterable[Note]) -> tuple[Note, ...]:
    """The notes with each precondition once: of a facet that moved in between, both."""
    return tuple({note.guard.id: note for some in notes for note in some}.values())


def merged(notes: Sequence[Note]) -> tuple[Note, ...]:
    """The notes with each facet once: the earliest."""
    return tuple({note.guard.ref: note for note in reversed(notes)}.values())
