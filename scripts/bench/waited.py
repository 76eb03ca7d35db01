"""How many store round trips somebody waits for, one after another.

While this counts, each round trip begins with the next tick, and a tick comes only when nothing in
the event loop can go on without one. So ticks are what the work waits for: round trips at the same
time count once, and those that nobody waits for not at all, however they fall. Nothing rests on how
long anything takes.

Of what is counted, all else is to be done in the event loop: a model in this process, tools that
are async functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

from execgraph.graphstore.neo4j.client import Client
from execgraph.graphstore.sqlite.place import Place

__all__ = ["Waited"]

#: Where a round trip begins. On SQLite reading and writing are such, though nothing travels.
_ROUND_TRIPS: tuple[tuple[type, str], ...] = (
    (Place, "reading"),
    (Place, "writing"),
    (Place, "just_now"),
    (Client, "_attempt"),
)
_QUIET = 50  # turns of the event loop in which nothing begins or ends


class Waited:
    """Counts while it is entered, in the event loop that it is entered in, for all its engines."""

    def __init__(self) -> None:
        self._ticks = 0
        self._due: list[asyncio.Future[None]] = []
        self._moves = 0  # round trips begun and ended
        self._under_way = 0
        self._real: list[tuple[type, str, Any]] = []
        self._clock: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for of, name in _ROUND_TRIPS:
            real = getattr(of, name)
            self._real.append((of, name, real))
            setattr(of, name, self._counted(real))
        self._clock = asyncio.get_running_loop().create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        for of, name, real in self._real:
            setattr(of, name, real)
        assert self._clock is not None
        self._clock.cancel()
        await asyncio.gather(self._clock, return_exceptions=True)
        self._let_go()

    async def during(self, work: Awaitable[object]) -> int:
        """The round trips that ``work`` waits for."""
        before = self._ticks
        await work
        return self._ticks - before

    def _counted(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*args: Any, **kwargs: Any) -> Any:
            due = asyncio.get_running_loop().create_future()
            self._due.append(due)
            self._moves += 1
            await due
            self._under_way += 1
            try:
                return await real(*args, **kwargs)
            finally:
                self._under_way -= 1
                self._moves += 1

        return counted

    async def _tick(self) -> None:
        while True:
            quiet, moves = 0, self._moves
            while quiet < _QUIET:
                await asyncio.sleep(0)
                still = self._moves == moves and not self._under_way
                quiet, moves = quiet + 1 if still else 0, self._moves
            if self._due:
                self._ticks += 1
                self._let_go()
            else:
                await asyncio.sleep(0.001)

    def _let_go(self) -> None:
        due, self._due = self._due, []
        for each in due:
            if not each.done():
                each.set_result(None)
