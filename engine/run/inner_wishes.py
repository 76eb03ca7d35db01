"""The wishes of runs inside a run with an id.

Such a run is about a part of what the outer one is about: its wish is made of the outer one's, of
its task, and of how many equal runs have come to their ends inside the outer one before. It is over
when the outermost run is. Until then all that it has done is kept, so that it goes on where it was
when the outermost run is called again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...graphstore.canonical import hash_of
from ...graphstore.model import Wish, WishState

__all__ = ["InnerWishes", "Place"]


class Place(NamedTuple):
    """Where a run is inside another one: in which wish, by which task, and as which of its equals
    there."""

    outer: str
    task: str
    number: int

    @property
    def key(self) -> str:
        """The key of its wish."""
        return hash_of("inside", *self)


class InnerWishes:
    """The wishes of the runs inside one run with an id, at any depth. ``outermost``: that one's.

    ``ended``: how it has. ``entries``: the executions whose journal entries are to be dropped when
    it is ``over``, that is, has come to its end and will not be called again.
    """

    def __init__(self, outermost: Wish) -> None:
        self.outermost = outermost
        self.entries: set[str] = set()
        self.ended: WishState | None = None
        self._taken: dict[str, dict[str, dict[int, str]]] = {}  # by which executions
        self._wishes: list[Wish] = []

    @property
    def over(self) -> bool:
        """Whether nobody goes on with any of it."""
        return self.ended is WishState.DONE

    @property
    def wishes(self) -> Sequence[Wish]:
        """Those that were held, in order."""
        return self._wishes

    def take(self, outer: str, task: str, execution: str) -> Place:
        """A place for a run that begins: that of one which failed, else the next one."""
        taken = self._taken.setdefault(outer, {}).setdefault(task, {})
        number = next(it for it in range(len(taken) + 1) if it not in taken)
        taken[number] = execution
        place = Place(outer, task, number)
        self._taken.pop(place.key, None)  # its code begins anew, and so do its places
        return place

    def has_lost(self, place: Place, execution: str) -> bool:
        """Whether another run is at this place by now, as an outer one was begun anew."""
        taken = self._taken.get(place.outer, {}).get(place.task, {})
        return taken.get(place.number, execution) != execution

    def give_back(self, place: Place, execution: str) -> None:
        """The run there has failed: the next equal one is about the same. Of a run that outlives
        an outer one which failed and was begun anew, another run may have the place by now."""
        taken = self._taken.get(place.outer, {}).get(place.task, {})
        if taken.get(place.number) == execution:
            del taken[place.number]

    def hold(self, wish: Wish) -> None:
        """A run holds this wish until all is over."""
        self._wishes.append(wish)

    def leave(self, executions: Iterable[str]) -> None:
        """Have their journal entries dropped when all is over."""
        self.entries.update(executions)
