"""The check right before an effect: no effect is stale (I5)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Mapping, Sequence

from ...graphstore.errors import WishLost
from ...graphstore.facts import Expected
from ...graphstore.model import ApprovalState, JournalEntry, SideEffect
from ..errors import NotOpen, RunLost
from ..outcome.cause import Cause, MissKind
from ..run.family import Chooser
from ..run.planned_actions import PlannedAction
from ..run.refusals import AskAgain
from ..run.run import Run
from ..sessions.outage import store_away
from ..steps.noted_facts import Note, facets_by_resource
from .choosing import mistrust, unknown_facts

__all__ = ["EffectGate", "NotApproved"]

_TRIES = 5  # how often a check is repeated: a facet may not be computed yet at a new version


class NotApproved(Exception):
    """The approval of an effect is not good any more: it was used, denied or has expired, or the
    facts that it is bound to have moved. Nothing is begun, and another one may be asked for."""


class EffectGate:
    """Lets the effects of one reply, or of an act, begin: each only if all it stands on holds.

    That is, in one statement, its own facts as they were noted, those of the decisions that chose
    it, and those of the steps before that were served; and that no trace that served these was
    rejected meanwhile. Once a check failed before any effect of
    the reply was begun, none begins: the decision is to be asked again. ``final``: it cannot be
    asked again, so each effect stands for itself. ``chosen``: the decisions that chose.
    """

    def __init__(self, run: Run, chosen: Sequence[Chooser], *, final: bool) -> None:
        self._run = run
        self.chosen = chosen
        self._final = final
        self._lock = asyncio.Lock()
        self.begun = False
        self.stopped: AskAgain | None = None  # why an effect did not begin, the first that did not

    @property
    def ask_again(self) -> bool:
        """Whether the reply's decision is to be asked again."""
        return self.stopped is not None and not self.begun and not self._final

    async def begin(self, effect: SideEffect, action: PlannedAction) -> SideEffect | None:
        """Write the intent of an action's ``effect`` if all it stands on holds, and give it; else
        None, and nothing is begun. Of an effect that happens once an earlier one is given, if there
        is one. Raises NotOpen if the run has ended, RunLost if another process holds it, and
        NotApproved."""
        async with self._lock:
            if self.ask_again:
                return None
            if doubted := await unknown_facts(self._run, self.chosen, action.chosen_under):
                await mistrust([it.decision for it in doubted])
                self._stop([it.note for it in doubted])
                return None
            if (begun := await self._intend_with_entries(effect, action)) is not None:
                return begun
            await mistrust([it for it in self.chosen if it.run.over])
            return None

    def _all(self, action: PlannedAction) -> list[Note]:
        """The facts that an effect stands on, each once."""
        facets = [note.guard.ref for note in action.chosen_under]
        run = self._run
        noted = [it.noted for it in self.chosen]
        known = (notes[ref] for notes in noted for ref in facets if ref in notes)
        chosen = (note for chooser in self.chosen for note in chooser.rests_on)
        known_of, after = run.refusals.rests_on, run.refusals.heeded.all_before
        served = (note for step in run.path.served(after) for note in known_of(step))
        every = itertools.chain(action.notes, known, chosen, served)
        return list({(it.guard.id, it.believed or it.version): it for it in every}.values())

    def _traces(self) -> set[str]:
        """The traces that served what an effect stands on, but those known to be rejected."""
        heeded = self._run.refusals.heeded
        served = self._run.path.served(heeded.all_before)
        every = itertools.chain(served, (it.decision for it in self.chosen))
        return {it.trace for it in every if it.trace is not None} - heeded.traces

    async def _intend_with_entries(
        self, effect: SideEffect, action: PlannedAction
    ) -> SideEffect | None:
        run = self._run
        entries = await run.journal.before_effect(run.path.run_steps, effect, action)
        begun: SideEffect | None = None
        try:
            begun = await self._intend(effect, action, entries)
        finally:
            if begun is None or begun.id != effect.id:
                run.journal.keep_without(entries)
        return begun

    async def _intend(
        self, effect: SideEffect, action: PlannedAction, entries: Sequence[JournalEntry]
    ) -> SideEffect | None:
        run, notes, traces = self._run, self._all(action), self._traces()
        expected = [note.expected() for note in notes]
        for _ in range(_TRIES):
            if run.over:
                raise NotOpen(f"the run ended before {effect.tool} began; await it inside the run")
            if (begun := await self._begun(effect, expected, traces, entries)) is not None:
                return begun if begun.id != effect.id or self._passed() else None
            facts = await run.notes.read(facets_by_resource(notes))
            moved = [note for note in notes if not note.same_in(facts)]
            if noted_again := action.note_again(run.notes.noted(moved, facts)):
                notes = self._all(action)
                moved = [note for note in notes if not note.same_in(facts)]
            if moved:
                self._stop(moved, run.notes.noted(moved, facts))
                return None
            if traces and (rejected := await run.store.rejected(traces)):
                await self._stop_rejected(rejected)
                return None
            if effect.approval is not None and (noted_again or await self._is_spent(effect)):
                raise NotApproved
            # Other facets of these resources moved; what this effect rests on did not.
            expected = [note.expected(facts.of(note.resource).version) for note in notes]
        self._stop(notes)
        return None

    async def _is_spent(self, effect: SideEffect) -> bool:
        """Whether the approval of an effect is not good any more."""
        found = await self._run.store.approval(effect.approval or "")
        return found is None or found.state not in (ApprovalState.PENDING, ApprovalState.APPROVED)

    async def _begun(
        self,
        effect: SideEffect,
        expected: Sequence[Expected],
        traces: Collection[str],
        entries: Sequence[JournalEntry],
    ) -> SideEffect | None:
        wish = self._run.wish
        try:
            intend = self._run.store.intend
            begun = await intend(
                effect,
                expected,
                traces=traces,
                wish=wish.to_keep(),
                agent=self._run.definition.name,
                entries=entries,
            )
        except WishLost as error:
            raise RunLost(wish.run_id or "") from error
        if begun is not None and begun.id == effect.id:  # one of before keeps nothing of this run
            wish.is_kept = True
        return begun

    def _passed(self) -> bool:
        served = any(it.decision.served for it in self.chosen)
        if served and self._run.store.away:  # then it was not checked at all
            self.stopped = self.stopped or AskAgain(store_away(self._run.store))
            return False
        self.begun = True
        return True

    def _stop(self, moved: Sequence[Note], now: Sequence[Note] = ()) -> None:
        guard = moved[0].guard
        cause = Cause(
            MissKind.PRECONDITION_CHANGED, str(guard.ref), guard.fingerprint, facet=guard.ref
        )
        self.stopped = self.stopped or AskAgain(cause, moved, now)

    async def _stop_rejected(self, rejected: Mapping[str, str]) -> None:
        await self._run.search.look_anew()
        trace, reason = next(iter(rejected.items()))
        cause = Cause(MissKind.REJECTED, f"{trace} ({reason})")
        self.stopped = self.stopped or AskAgain(cause, traces=rejected)
