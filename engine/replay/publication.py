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
        self._under_way: asyncio.Future[Published] | None = None

    async def publish(self, work: Coroutine[Any, Any, Published]) -> Published:
        """Publish by ``work``, and give its outcome. It ends even if who waits for it is
        cancelled."""
        self._under_way = asyncio.ensure_future(work)
        return await asyncio.shield(self._under_way)

    async def came_about(self) -> bool:
        """Wait for the publication, if it was begun, and say whether it has ended well."""
        if self._under_way is None:
            return False
        await asyncio.wait({self._under_way})
        return self._under_way.exception() is None
