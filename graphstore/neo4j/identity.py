"""Which store there is at an address: a server may come back empty, or another one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

__all__ = ["Identity"]

_log = logging.getLogger("execgraph")


class Identity:
    """What is known of the store behind one driver. ``doubtful``: its connection was lost since
    it was last looked at."""

    def __init__(self) -> None:
        self.store: str | None = None  # None: it was never looked at
        self.doubtful = False
        self.losses = 0
        self.on_new: Callable[[], None] = lambda: None
        self._looking = asyncio.Lock()

    @property
    def token(self) -> str:
        """Of one store, as far as one connection after the other has led to it."""
        return f"{self.store}/{self.losses}"

    def lost(self) -> None:
        """The connection has ended."""
        self.doubtful = True
        self.losses += 1

    async def look(self, url: str, find: Callable[[], Awaitable[str]]) -> None:
        """Ask ``find`` which store it is now, which makes its schema if need be."""
        async with self._looking:
            losses, before = self.losses, self.store
            self.store = await find()
            self.doubtful = self.losses != losses
            if before in (None, self.store):
                return
            self.losses += 1
            self.on_new()
            _log.warning(
                "%s is another store than before: it was emptied or replaced. Nothing that was"
                " read before is relied on",
                url,
            )
