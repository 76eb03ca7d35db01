"""What tells equal steps of one run apart: how many of the same key came before."""

from __future__ import annotations

from collections import Counter

from .path import Path

__all__ = ["Occurrences"]


class Occurrences:
    """Counts the steps of a run by key, beginning with those on its ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: Counter[str] | None = None
        self._free: dict[str, set[int]] = {}

    def next(self, key: str) -> int:
        """How many steps of this key came before; counts this one."""
        if self._counts is None:
            self._counts = Counter(step.key for step in self._path.steps)
        if free := self._free.get(key):
            free.remove(first := min(free))
            return first
        self._counts[key] += 1
        return self._counts[key] - 1

    def give_back(self, key: str, occurrence: int) -> None:
        """Take back an occurrence that got no answer: who asks again asks for the same."""
        self._free.setdefault(key, set()).add(occurrence)

    def start_over(self) -> None:
        """The run has gone back: only what is on its path has come before."""
        self._counts = None
        self._free.clear()
