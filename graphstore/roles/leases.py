"""What one process at a time may do."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import Protocol

__all__ = ["Leases"]


class Leases(Protocol):
    """Gives leases, by the store's clock."""

    @abstractmethod
    async def lease(self, name: str, owner: str, duration: timedelta) -> bool:
        """Hold the lease ``name`` for ``duration`` from now, by the store's clock.

        True if it was free, had run out, or is this owner's already (then it is extended). One
        that was given before the clock was set back is free.
        Losing it only ends exclusivity: what it protects must be right without.
        """

    @abstractmethod
    async def release(self, name: str, owner: str) -> None:
        """Give up a lease, if it is this owner's."""
