"""What one process at a time may do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple, Protocol

__all__ = ["Held", "Leases"]


class Held(NamedTuple):
    """A lease that was given and not given up. ``lasts`` False: it has run out since.

    ``waits_for``: the names of the leases that its owner waits for.
    """

    owner: str
    lasts: bool
    waits_for: tuple[str, ...] = ()


class Leases(Protocol):
    """Gives leases, by the store's clock."""

    @abstractmethod
    async def lease(
        self,
        name: str,
        owner: str,
        duration: timedelta,
        *,
        instead_of: str | None = None,
        waits_for: Collection[str] = (),
    ) -> bool:
        """Hold the lease ``name`` for ``duration`` from now, by the store's clock.

        ``waits_for``: the leases that the owner waits for now, which others are told.

        True if it was free, had run out, or is this owner's already (then it is extended), or that
        of ``instead_of``, who is known to be no more. One that was given before the clock was set
        back is free. False does not say that anybody has it still.
        Losing it only ends exclusivity: what it protects must be right without.
        """

    @abstractmethod
    async def holder(self, name: str) -> Held | None:
        """Who was given the lease ``name`` last; None if nobody was, or if that one gave it up."""

    @abstractmethod
    async def release(self, name: str, owner: str) -> None:
        """Give up a lease, if it is this owner's."""
