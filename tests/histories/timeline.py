"""What facts were so when, as whoever changes them knows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from .oracle import Facts, part_of
from .script import Facet

__all__ = ["At", "Timeline", "Window", "as_before", "believed", "values"]

#: All that may have been so at some moment of a span of time.
Window = tuple[Facts, ...]


class Timeline:
    """All moments so far. While a change is being made, it may or may not have happened."""

    def __init__(self) -> None:
        self.moments: list[Facts] = [Facts()]
        self._under_way = False

    @property
    def now(self) -> Facts:
        """What is so once the change that is under way has been made."""
        return self.moments[-1]

    def mark(self) -> int:
        """From where a window begins that begins now."""
        return len(self.moments) - (2 if self._under_way else 1)

    def since(self, mark: int) -> Window:
        """All moments since then."""
        return tuple(self.moments[mark:])

    @asynccontextmanager
    async def changing(self, uri: str, document: Any, *, is_believed: bool) -> AsyncIterator[None]:
        """Inside, this change is under way. One at a time."""
        after = self.now.copy()
        after.change(uri, document, believed=is_believed)
        self.moments.append(after)
        self._under_way = True
        try:
            yield
        finally:
            self._under_way = False


class At(NamedTuple):
    """What a facet was: of nothing, by its version; and whether that was believed."""

    is_: str
    believed: bool


def values(window: Iterable[Facts], facet: Facet) -> frozenset[At]:
    """What a facet was in a window."""
    return frozenset(_value(it, facet) for it in window)


def as_before(before: Iterable[At], now: Iterable[At]) -> bool:
    """Whether it may be now what it was; what was believed must be so still."""
    return any(
        it.is_ == other.is_ and (other.believed or not it.believed)
        for it in before
        for other in now
    )


def believed(some: Iterable[At]) -> frozenset[At]:
    """Without what was not believed."""
    return frozenset(it for it in some if it.believed)


def _value(facts: Facts, facet: Facet) -> At:
    document = facts.document(facet.uri)
    if document is None:
        return At(f"version {facts.version(facet.uri)}", believed=False)
    return At(part_of(document, facet.part), facts.believed(facet.uri))
