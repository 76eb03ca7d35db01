"""Work beside that of others, which nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Background"]

_CLOSE_SECONDS = 2.0


class Background:
    """At most one piece of work at a time. Of one event loop."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it is to end: nothing more is begun, and nothing is paused for."""
        return self._closed

    @property
    def idle(self) -> bool:
        """Whether something can be begun."""
        return not self._closed and (self._task is None or self._task.done())

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin ``work``, which raises nothing, unless some is under way."""
        if self.idle:
            self._task = asyncio.get_running_loop().create_task(work())

    async def ended(self) -> None:
        """Wait for what is under way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Give what is under way 2 seconds to end, and cancel it then."""
        self._closed = True
        task, self._task = self._task, None
        if task is None:
            return
        await asyncio.wait({task}, timeout=_CLOSE_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
