"""Whether the decisions that chose a write knew the facts that it rests on.

Which decisions chose it: where the call stands in a reply, that one; else every decision whose
handle was passed to the act, and every one that the program had opened before
(``Family.choosers``). A decision knew a fact if it was noted before it was asked, or guards its
recording. Any other fact it knew only if that is known to have held since: a requirement that names
an argument is met no earlier than the act itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from ...graphstore.facts import Fact, FactState, Span
from ...graphstore.model import ChangeKind
from ...invalidation.feed import LATE_MS
from ..outcome.cause import MissKind
from ..run.family import Chooser
from ..run.run import Run
from ..steps.noted_facts import Note, facets_by_resource
from ..steps.run_step import RunStep

__all__ = ["UnknownFact", "mistrust", "unknown_facts"]

_NOT_KNOWN = f"{MissKind.PRECONDITION_CHANGED}: a decision was not asked under what it chose"
_COMPUTED_LATE = 100  # for how many versions a facet is computed that was required later


class UnknownFact(NamedTuple):
    """A decision, and a fact that it may not have known."""

    decision: Chooser
    note: Note


async def unknown_facts(
    run: Run, chosen: Sequence[Chooser], notes: Sequence[Note]
) -> list[UnknownFact]:
    """What of ``notes`` is not known to have held since a decision of ``chosen`` was asked."""
    facts: list[UnknownFact] = []
    for chooser in chosen:
        known = chooser.noted
        unknown = [note for note in notes if note.guard.ref not in known]
        if unknown and not run.away:
            held = await _held_since(run, chooser.decision, unknown)
            facts += [UnknownFact(chooser, note) for note in unknown if note not in held]
    return facts


async def mistrust(decisions: Collection[Chooser]) -> None:
    """Have recordings of these decisions serve no more: they did not know what is chosen now, and
    else the next run would be refused for the same reason."""
    for run in {it.run: None for it in decisions}:
        served = {
            (chooser.decision.step.key, chooser.decision.step.occurrence)
            for chooser in decisions
            if chooser.run is run and chooser.decision.served
        }
        traces = await run.search.all_traces() if served else ()
        known = [it.id for it in traces if any((s.key, s.occurrence) in served for s in it.steps)]
        for trace in [*known, *([run.id] if run.over else [])]:
            await run.store.unpublish(trace, _NOT_KNOWN)


async def _held_since(run: Run, run_step: RunStep, notes: Sequence[Note]) -> list[Note]:
    """The notes of ``notes`` that have held at each moment since ``run_step`` was asked."""
    asked_at = run_step.step.asked_at
    if asked_at is None:
        return []
    store = run.store
    resources = {note.resource for note in notes}
    before = await store.current_at(resources, asked_at - LATE_MS)
    known = {uri: max(before.get(uri, 0), run_step.step.seen.get(uri, 0)) for uri in resources}
    facts = await run.notes.read(facets_by_resource(notes))
    believed = [note for note in notes if note.believed and known[note.resource]]
    whole = await _unbroken(run, believed, [_span(it, known[it.resource]) for it in believed])
    same = [it for it in notes if not it.believed and known[it.resource] == it.version]
    return [
        *(note for note, ok in zip(believed, whole, strict=True) if ok),
        *[it for it in same if await _was_unbelieved(run, facts.of(it.resource), it, asked_at)],
    ]


async def _unbroken(run: Run, notes: Sequence[Note], spans: Sequence[Span]) -> list[bool]:
    """Whether each note has held over its span. A facet that nobody required before is computed for
    the versions that were current then."""
    store = run.store
    whole = await store.unbroken(spans)
    if all(whole):
        return whole
    for note, span, ok in zip(notes, spans, whole, strict=True):
        if not ok and span.through - span.after <= _COMPUTED_LATE:
            versions = range(span.after + 1, span.through + 1)
            await store.compute(note.guard.ref, versions)
    return await store.unbroken(spans)


def _span(note: Note, known: int) -> Span:
    """The versions from the one that was known up to the one that was noted, both included."""
    first, last = sorted((known, note.version))
    return Span(note.guard.id, note.resource, first - 1, last)


async def _was_unbelieved(run: Run, fact: Fact, note: Note, at: int) -> bool:
    """Whether a version that is not believed now was not at the moment ``at`` either: nobody knows
    what came first within a millisecond. Once its expiry is recorded, only the event tells when
    that was."""
    if fact.state is not FactState.PRESENT:
        return True
    if fact.until:
        return fact.until < at
    events = await run.store.changes(resource=note.resource, limit=1)
    return any(it.kind is ChangeKind.EXPIRED and it.at < at for it in events)
