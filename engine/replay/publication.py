"""How a run becomes a trace: once that is begun it is not broken off, and may be taken back."""

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
        """What ``work`` comes to. Who is cancelled while waiting lets it end all the same."""
        self._under_way = asyncio.ensure_future(work)
        return await asyncio.shield(self._under_way)

    async def came_about(self) -> bool:
        """Whether it was begun, and has ended well; waits for that."""
        if self._under_way is None:
            return False
        await asyncio.wait({self._under_way})
        return self._under_way.exception() is None
