"""Hit and miss in a small and in a large store, in turns."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

from execgraph.engine.errors import NotReplayable

from .measure import Row, Setting, Side, side_by_side
from .synthetic import Bench, ScriptedClient, task

__all__ = ["LARGE", "SMALL", "Declare", "Sized", "rows"]

SMALL, LARGE = 1_000, 100_000
_GOAL = 1.2
_HIT, _FIRST, _MISS = "hit, cached", "hit, not cached", "miss"

_Call = Callable[[], Awaitable[object]]
#: A new engine on a store, not opened yet.
Declare = Callable[[ScriptedClient], Bench]


class Sized:
    """A store of some size with one recorded task of the agent in it."""

    def __init__(self, declare: Declare) -> None:
        self._declare = declare
        self._client = ScriptedClient()
        self._numbers = itertools.count(1)
        self._hot = declare(self._client)
        self._fresh: Bench | None = None

    async def __aenter__(self) -> Sized:
        await self._hot.engine.__aenter__()
        await self._hot.observe()
        await self._hot.agent.execute(task())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()
        await self._hot.engine.__aexit__(None, None, None)

    async def hit(self) -> None:
        assert (await self._hot.agent.execute(task())).identical

    async def miss(self) -> None:
        await self._missed(self._hot)

    async def prepare(self) -> None:
        """An engine that has looked something up, but never this task."""
        await self._close()
        self._fresh = self._declare(self._client)
        await self._fresh.engine.__aenter__()
        await self._missed(self._fresh)

    async def first_hit(self) -> None:
        assert self._fresh is not None
        assert (await self._fresh.agent.execute(task())).identical

    async def _missed(self, bench: Bench) -> None:
        try:
            await bench.agent.execute(task(next(self._numbers)), require="replay")
        except NotReplayable:
            return
        raise AssertionError("a task that nobody recorded was replayed")

    async def _close(self) -> None:
        if self._fresh is not None:
            await self._fresh.engine.__aexit__(None, None, None)
            self._fresh = None


async def rows(setting: Setting, what: str, small: Sized, large: Sized) -> list[Row]:
    """Large over small, each kind of lookup for itself."""
    kinds: list[tuple[str, int, Callable[[Sized], tuple[_Call, _Call | None]]]] = [
        (_HIT, setting.rounds, lambda it: (it.hit, None)),
        (_FIRST, max(20, setting.rounds // 3), lambda it: (it.first_hit, it.prepare)),
        (_MISS, setting.rounds, lambda it: (it.miss, None)),
    ]
    found = []
    for kind, rounds, calls in kinds:
        setting.say.phase(kind)
        sides = [Side(name, *calls(it)) for name, it in (("small", small), ("large", large))]
        p50s = await side_by_side(setting, *sides, rounds=rounds)
        found.append(
            Row(
                f"{kind}, {what}",
                f"{LARGE:,} steps {p50s['large']:.3f} ms",
                f"{SMALL:,} steps {p50s['small']:.3f} ms",
                p50s["large"] / p50s["small"],
                _GOAL,
            )
        )
    return found
