"""How long a run may keep the event loop to itself."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Pace"]

_SECONDS = 0.002  # between two turns of others; a turn costs as much as a few steps


class Pace:
    """Gives the event loop its turn. A replay may be served without waiting for anything, and
    whoever replays in a loop would keep a changed file from being read, and runs from being
    written, for as long as that goes on."""

    def __init__(self) -> None:
        self._due_at = 0.0

    @property
    def due(self) -> bool:
        """Whether somebody else is to have a turn."""
        return time.perf_counter() >= self._due_at

    async def rest(self) -> None:
        """Let everybody else who is ready have a turn."""
        await asyncio.sleep(0)
        self._due_at = time.perf_counter() + _SECONDS
