"""Publishing one run: once begun it is not broken off, and it may be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ...graphstore.roles.recording import Published

__all__ = ["Publication"]


class Publication:
    """The publication of one run; nothing is begun at first."""

    def __init__(self) -> None:
        self._written = False
        self._under_way: asyncio.Future[Published] | None = None

    @property
    def is_possible(self) -> bool:
        """Whether the run's recording is in the store, so that it may become a trace."""
        return self._written

    def allow(self) -> None:
        """Note that the run's recording is in the store."""
        self._written = True

    async def publish(self, work: Coroutine[Any, Any, Published]) -> Published:
        """Publish by ``work``, and give its outcome. It ends even if who waits for it is
        cancelled."""
        self._under_way = asyncio.ensure_future(work)
        return await asyncio.shield(self._under_way)

    async def settled(self) -> None:
        """Wait until the publication has ended, if it was begun."""
        if self._under_way is not None:
            await asyncio.wait({self._under_way})
