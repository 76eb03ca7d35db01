"""Hit, miss and stale miss in a small and in a large store, in turns.

A stale miss is a lookup of a recorded task of which a fact has changed: it finds the trace, judges
it, and would ask the model now.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

from execgraph.engine.errors import NotReplayable
from execgraph.engine.outcome.cause import MissKind
from execgraph.graphstore.canonical import Json

from .measure import Row, Setting, Side, side_by_side
from .synthetic import DOCUMENTS, Bench, ScriptedClient, task

__all__ = ["SMALL", "Declare", "Sized", "rows"]

SMALL = 1_000
_GOAL = 1.2
_HIT, _FIRST, _MISS, _STALE = "hit, cached", "hit, not cached", "miss", "stale miss"
_CHANGED = "target:oceania"
_STALE_TASK = task(writes=1)  # switches it

_Call = Callable[[], Awaitable[object]]
#: A new engine on a store, not opened yet.
Declare = Callable[[ScriptedClient], Bench]


class Sized:
    """A store of some size, and two recorded tasks of the agent: one of them does not stand."""

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
        await self._hot.agent.execute(_STALE_TASK)
        await self._hot.engine.observe(_CHANGED, {**DOCUMENTS[_CHANGED], "replicas": 9})
        await self._hot.engine.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()
        await self._hot.engine.__aexit__(None, None, None)

    async def hit(self) -> None:
        assert (await self._hot.agent.execute(task())).identical

    async def miss(self) -> None:
        await self._missed(self._hot, task(next(self._numbers)), MissKind.NEW_TASK)

    async def stale_miss(self) -> None:
        await self._missed(self._hot, _STALE_TASK, MissKind.PRECONDITION_CHANGED)

    async def prepare(self) -> None:
        """An engine that has looked something up, but never this task."""
        await self._close()
        self._fresh = self._declare(self._client)
        await self._fresh.engine.__aenter__()
        await self._missed(self._fresh, task(next(self._numbers)), MissKind.NEW_TASK)

    async def first_hit(self) -> None:
        assert self._fresh is not None
        assert (await self._fresh.agent.execute(task())).identical

    async def _missed(self, bench: Bench, wanted: dict[str, Json], why: MissKind) -> None:
        try:
            await bench.agent.execute(wanted, require="replay")
        except NotReplayable as error:
            if [cause.kind for cause in error.causes] == [why]:
                return
            raise
        raise AssertionError("what does not stand was replayed")

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
        (_STALE, setting.rounds, lambda it: (it.stale_miss, None)),
    ]
    found = []
    for kind, rounds, calls in kinds:
        setting.say.phase(kind)
        sides = [Side(name, *calls(it)) for name, it in (("small", small), ("large", large))]
        p50s = await side_by_side(setting, *sides, rounds=rounds)
        found.append(
            Row(
                f"{kind}, {what}",
                f"{setting.steps:,} steps {p50s['large']:.3f} ms",
                f"{SMALL:,} steps {p50s['small']:.3f} ms",
                p50s["large"] / p50s["small"],
                _GOAL,
            )
        )
    return found
