"""The check right before an effect (I5)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..graphstore.model import SideEffect
from ..graphstore.store import GraphStore
from .notes import Note, Notes

__all__ = ["Gate"]

_TRIES = 5  # how often a check is repeated because other facets of its resources move


class Gate:
    """Lets the effects of one reply begin, each only if its facts are as they were noted.

    Once a check failed before any effect of the reply was begun, none begins: the decision is
    to be asked again. ``final``: it cannot be asked again, so each effect stands for itself.
    """

    def __init__(self, store: GraphStore, namespace: str, notes: Notes, *, final: bool) -> None:
        self._store = store
        self._namespace = namespace
        self._notes = notes
        self._final = final
        self._lock = asyncio.Lock()
        self.begun = False
        self.moved: list[Note] = []

    @property
    def ask_again(self) -> bool:
        """Whether the reply's decision is to be asked again."""
        return bool(self.moved) and not self.begun and not self._final

    async def begin(self, effect: SideEffect, notes: Sequence[Note]) -> bool:
        """Write the intent of ``effect`` if its facts stand; else False, and nothing is begun."""
        async with self._lock:
            if self.ask_again:
                return False
            expected = [note.expected() for note in notes]
            for _ in range(_TRIES):
                if await self._store.intend(self._namespace, effect, expected):
                    self.begun = True
                    return True
                facts = await self._notes.read(_wanted(notes))
                if moved := [note for note in notes if not note.same_in(facts)]:
                    self.moved += moved
                    return False
                # Other facets of these resources moved; what this effect rests on did not.
                expected = [note.expected(facts.of(note.resource).version) for note in notes]
            self.moved += notes
            return False


def _wanted(notes: Sequence[Note]) -> dict[str, set[str | None]]:
    wanted: dict[str, set[str | None]] = {}
    for note in notes:
        wanted.setdefault(note.resource, set()).add(note.guard.selector)
    return wanted
