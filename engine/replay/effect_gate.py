"""The check right before an effect: no effect is stale (I5)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from ...graphstore.model import SideEffect
from ..errors import NotOpen
from ..outcome.cause import Cause, MissKind
from ..sessions.outage import store_away
from .choosing import mistrust, unknown_facts
from .family import Chooser
from .noted_facts import Note, facets_by_resource
from .refusals import AskAgain
from .run import Run

__all__ = ["EffectGate"]

_TRIES = 5  # how often a check is repeated: a facet may not be computed yet at a new version


class EffectGate:
    """Lets the effects of one reply, or of an act, begin: each only if all it stands on holds.

    That is, in one statement, its own facts as they were noted, those of the decisions that chose
    it, and those of the steps before that were served. Once a check failed before any effect of
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

    async def begin(self, effect: SideEffect, notes: Sequence[Note]) -> bool:
        """Write the intent of ``effect`` if all it stands on holds; else False, and nothing is
        begun. Raises NotOpen if the run has ended."""
        async with self._lock:
            if self.ask_again:
                return False
            if doubted := await unknown_facts(self._run, self.chosen, notes):
                await mistrust([it.decision for it in doubted])
                return self._stop([it.note for it in doubted])
            if await self._intend(effect, self._all(notes)):
                return True
            await mistrust([it for it in self.chosen if it.run.over])
            return False

    def _all(self, notes: Sequence[Note]) -> list[Note]:
        """The facts that an effect stands on, each once."""
        facets = [note.guard.ref for note in notes]
        run = self._run
        noted = [it.noted for it in self.chosen]
        known = (notes[ref] for notes in noted for ref in facets if ref in notes)
        chosen = (note for chooser in self.chosen for note in chooser.rests_on)
        known_of, after = run.refusals.rests_on, run.refusals.heeded.all_before
        served = (note for step in run.path.served(after) for note in known_of(step))
        every = itertools.chain(notes, known, chosen, served)
        return list({(it.guard.id, it.believed or it.version): it for it in every}.values())

    async def _intend(self, effect: SideEffect, notes: Sequence[Note]) -> bool:
        run = self._run
        expected = [note.expected() for note in notes]
        for _ in range(_TRIES):
            if run.over:
                raise NotOpen(f"the run ended before {effect.tool} began; await it inside the run")
            if await run.store.intend(effect, expected):
                return self._passed()
            facts = await run.notes.read(facets_by_resource(notes))
            if moved := [note for note in notes if not note.same_in(facts)]:
                return self._stop(moved, run.notes.noted(moved, facts))
            # Other facets of these resources moved; what this effect rests on did not.
            expected = [note.expected(facts.of(note.resource).version) for note in notes]
        return self._stop(notes)

    def _passed(self) -> bool:
        served = any(it.decision.served for it in self.chosen)
        if served and self._run.store.away:  # then it was not checked at all
            self.stopped = self.stopped or AskAgain(store_away(self._run.store))
            return False
        self.begun = True
        return True

    def _stop(self, moved: Sequence[Note], now: Sequence[Note] = ()) -> bool:
        guard = moved[0].guard
        cause = Cause(
            MissKind.PRECONDITION_CHANGED, str(guard.ref), guard.fingerprint, facet=guard.ref
        )
        self.stopped = self.stopped or AskAgain(cause, moved, now)
        return False
