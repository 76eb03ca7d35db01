"""The view of which steps are invalid, and the walks that keep it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from ..model import Walk

__all__ = ["WALK_BATCH", "Marks"]


#: How many executions one batch of a walk looks at.
WALK_BATCH = 500


class Marks(Protocol):
    """Walks, and what they have marked."""

    @abstractmethod
    async def walks(self, *, limit: int = 100) -> list[Walk]:
        """Walks that have not ended, oldest first. A change opens one; so does a publication
        whose guards do not all hold by then."""

    @abstractmethod
    async def walk(self, walk: str, *, batch: int = WALK_BATCH) -> Walk | None:
        """Go on with an open walk: one batch of executions.

        For each of them, in an order that ``cursor`` remembers, in one transaction: lock it, then
        read facts, then set the marks of all its steps that rest on a precondition of this walk,
        or follow from one that does. The cursor never gets ahead of the marks. A step is invalid
        iff some guard of it, or of a step that feeds it (however far up), does not hold;
        ``invalidated_by`` is then the least id of those guards. Marks are a view: they authorise
        nothing. Repeating a batch changes nothing.
        Returns the walk as it is then; None if it is unknown or has ended before.
        """

    @abstractmethod
    async def marks(self, execution: str) -> dict[int, str]:
        """The invalid steps of an execution: ``invalidated_by`` by position."""
