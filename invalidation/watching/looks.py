"""Looks at resources: several at a time, and never two at the same resource."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable

from .hints import Hints

__all__ = ["Looks"]

_log = logging.getLogger("execgraph")

_MOST = 256  # at the same time: what is slow is to leave places


class Looks:
    """What is being looked at, each by a task of its own; what is asked for meanwhile is looked at
    once more after that."""

    def __init__(self, name: str, hints: Hints, retry: float) -> None:
        self._name = name
        self._hints = hints
        self._retry = retry
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._again: set[Hashable] = set()
        self._places = asyncio.Semaphore(_MOST)

    def begin(self, what: Hashable, look: Callable[[], Awaitable[None]]) -> None:
        if what in self._tasks:
            self._again.add(what)
        else:
            self._tasks[what] = asyncio.ensure_future(self._do(what, look))

    async def _do(self, what: Hashable, look: Callable[[], Awaitable[None]]) -> None:
        try:
            while True:
                self._again.discard(what)
                async with self._places:
                    await look()
                if what not in self._again:
                    return
        except Exception as error:  # noqa: BLE001  (else nobody would look any more)
            _log.warning("%s could not be looked at: %s", self._name, error)
            await asyncio.sleep(self._retry)
            self._hints.add(None)
        finally:
            del self._tasks[what]

    async def end(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
