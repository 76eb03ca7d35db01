"""What runs that have not ended have decided and done so far."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Protocol

from ..model import JournalEntry

__all__ = ["JournalWriting"]


class JournalWriting(Protocol):
    """Keeps what runs decide and do until they end."""

    @abstractmethod
    async def journal(self, entries: Sequence[JournalEntry]) -> None:
        """Keep entries. Repeating it changes nothing."""

    @abstractmethod
    async def forget_journal(self, executions: Collection[str]) -> None:
        """Delete the entries of these executions. Unknown ones are ignored."""

    @abstractmethod
    async def age_journal(self, before: int) -> None:
        """Delete the entries that were kept before this moment, in milliseconds, and the wishes of
        which nothing was heard since."""
