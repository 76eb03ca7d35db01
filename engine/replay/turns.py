"""Calls of one reply that run side by side, and tell what they gave in the order of the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..tools.output import Turn

__all__ = ["Turns"]

_T = TypeVar("_T")


class Turns:
    """The turns of so many calls: each is over when its call has ended, however it did."""

    def __init__(self, calls: int) -> None:
        self._over = [asyncio.Event() for _ in range(calls)]

    def of(self, call: int) -> Turn:
        """Waits until all calls before this one are over."""

        async def turn() -> None:
            for over in self._over[:call]:
                await over.wait()

        return turn

    async def finish(self, call: int, work: Coroutine[Any, Any, _T]) -> _T:
        """Await ``work``, which is this call, and end its turn."""
        try:
            return await work
        finally:
            self._over[call].set()
