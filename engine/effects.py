"""The check right before an effect (I5)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..graphstore.model import SideEffect
from .away import is_away, store_away
from .cause import Cause, MissKind
from .notes import Note
from .run import AskAgain, Run

__all__ = ["Gate"]

_TRIES = 5  # how often a check is repeated: a facet may not be computed yet at a new version


class Gate:
    """Lets the effects of one reply begin, each only if its facts are as they were noted.

    Once a check failed before any effect of the reply was begun, none begins: the decision is
    to be asked again. ``final``: it cannot be asked again, so each effect stands for itself.
    ``served``: the reply is a recorded one, whose effects need a check that says that it stands.
    """

    def __init__(self, run: Run, *, final: bool, served: bool) -> None:
        self._store = run.store
        self._namespace = run.session.namespace
        self._notes = run.notes
        self._final = final
        self._served = served
        self._lock = asyncio.Lock()
        self.begun = False
        self.stopped: AskAgain | None = None  # why an effect did not begin, the first that did not

    @property
    def ask_again(self) -> bool:
        """Whether the reply's decision is to be asked again."""
        return self.stopped is not None and not self.begun and not self._final

    async def begin(self, effect: SideEffect, notes: Sequence[Note]) -> bool:
        """Write the intent of ``effect`` if its facts stand; else False, and nothing is begun."""
        async with self._lock:
            if self.ask_again:
                return False
            expected = [note.expected() for note in notes]
            for _ in range(_TRIES):
                if await self._store.intend(self._namespace, effect, expected):
                    return self._passed()
                facts = await self._notes.read(_wanted(notes))
                if moved := [note for note in notes if not note.same_in(facts)]:
                    return self._stop(moved)
                # Other facets of these resources moved; what this effect rests on did not.
                expected = [note.expected(facts.of(note.resource).version) for note in notes]
            return self._stop(notes)

    def _passed(self) -> bool:
        if self._served and is_away(self._store):  # then it was not checked at all
            self.stopped = self.stopped or AskAgain(store_away(self._store))
            return False
        self.begun = True
        return True

    def _stop(self, moved: Sequence[Note]) -> bool:
        guard = moved[0].guard
        facet, before = guard.ref, guard.fingerprint
        cause = Cause(MissKind.PRECONDITION_CHANGED, str(facet), before, facet=facet)
        self.stopped = self.stopped or AskAgain(cause, (note.guard.ref for note in moved))
        return False


def _wanted(notes: Sequence[Note]) -> dict[str, set[str | None]]:
    wanted: dict[str, set[str | None]] = {}
    for note in notes:
        wanted.setdefault(note.resource, set()).add(note.guard.selector)
    return wanted
