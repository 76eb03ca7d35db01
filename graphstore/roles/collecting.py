"""Deleting what nobody needs any more."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from ..retention import COLLECT_BATCH, Collected, Retention

__all__ = ["Collecting"]


class Collecting(Protocol):
    """Collects by the rules of ``graphstore.retention``."""

    @abstractmethod
    async def collect(self, retention: Retention, *, batch: int = COLLECT_BATCH) -> Collected:
        """One batch of a collection, by the rules of ``graphstore.retention``.

        Repeat it until there is no ``more``. Who else collects, publishes, writes or replays at
        the same time is not in the way. What a batch deletes goes in one transaction, and what is
        folded into the totals of a day in the same, so that nothing is counted twice or lost.
        """

    @abstractmethod
    async def collectable(self, retention: Retention) -> Collected:
        """What a collection would take away now, without doing it.

        Payloads are told as the most that it could be: those that nothing else than what is
        deleted is known to name. ``more``: whether there is anything to do.
        """
