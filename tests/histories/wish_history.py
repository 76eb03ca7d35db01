"""Histories of wishes: runs that fail, are killed, called again and confirmed, each judged."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from .judge import Wrong
from .wish_judge import WishJudge
from .wish_telling import Happening, Wanted
from .wish_world import WishWorld
from .wishes import JOBS, WHO, Job

__all__ = ["KINDS", "URIS", "WishHistory", "wish_operations"]

Operation = tuple[Any, ...]
URIS = ("rule:own", "rule:ship", "rule:send", "rule:pay", "rule:sign")
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_POINTS = 60  # of a run, at which something may happen


class _Side(NamedTuple):
    world: WishWorld
    judge: WishJudge


class WishHistory:
    """Several worlds, each with a judge, to which the same is done."""

    def __init__(self, worlds: Sequence[WishWorld]) -> None:
        self.sides = [_Side(it, WishJudge(it)) for it in worlds]
        self.done: list[Operation] = []
        self.wrong: Wrong | None = None

    async def __aenter__(self) -> WishHistory:
        for world, judge in self.sides:
            world.judge = judge.judge
            await world.open()
            for uri in URIS:
                await world.edit(0, uri, "on", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        for world, _ in self.sides:
            await world.close()

    async def do(self, operation: Operation) -> None:
        """Do one operation to every world. Raises Wrong."""
        self.done.append(operation)
        name, *arguments = operation
        work: Callable[..., Awaitable[None]] = getattr(self, f"_{name}")
        for side in self.sides:
            try:
                await work(side, *arguments)
            except Wrong as wrong:
                store = side.world.url.partition(":")[0]
                told = f"{store}: after {len(self.done)} operations, {operation}: {wrong}"
                self.wrong = Wrong(told)
                raise self.wrong from wrong

    async def _call(
        self,
        side: _Side,
        process: int,
        what: tuple[str, str, str | None],
        happenings: Sequence[tuple[int, Happening]] = (),
        more: Mapping[str, Any] = _NOTHING,
    ) -> None:
        """Have a job done: by whom, which, under which run id. ``more``: as ``Wanted`` has it, and
        ``age``: nothing is to serve that is older than the model's reply so many replies ago."""
        world, (who, job, run_id), more = side.world, what, dict(more)
        wish = None if run_id is None else f"{who} {job} {run_id}"
        if (age := more.pop("age", None)) is not None and world.asked:
            then = world.asked[-1 - age % len(world.asked)][1].ended
            more["max_age"] = max(1, time.time_ns() // 10**6 - then)
        await world.call(process, Wanted(Job(who, job), wish, **more), happenings)

    async def _again(self, side: _Side, other: int, confirm: str | None = None) -> None:
        """Call what was called last once more; ``other``: in the other process."""
        last = next((it for it in reversed(self.done) if it[0] == "call"), None)
        if last is not None:
            _, process, what, *_ = last
            await self._call(side, process ^ other, what, (), {"confirm": confirm})

    async def _edit(self, side: _Side, process: int, uri: str, part: str, value: int) -> None:
        await side.world.edit(process, uri, part, value)

    async def _answer(self, side: _Side, process: int, approved: int) -> None:
        await side.world.answer(process, approved=bool(approved))

    async def _settle(self, side: _Side, process: int) -> None:
        await side.world.settle(process)

    async def _reopen(self, side: _Side, process: int) -> None:
        await side.world.restart(process)

    async def _wait(self, side: _Side) -> None:
        del side
        await asyncio.sleep(0.005)


# Choosing ---------------------------------------------------------------------------------


def _a_happening(choose: random.Random) -> Happening:
    kind = choose.choices(("edit", "kill", "take over"), (4, 4, 2))[0]
    return _an_edit(choose) if kind == "edit" else (kind,)


def _an_edit(choose: random.Random) -> Happening:
    part = choose.choice(("on", "on", "on", "note"))
    return ("edit", choose.choice(URIS), part, choose.randrange(2))


def _a_call(choose: random.Random) -> Operation:
    some = choose.choice((0, 0, 1, 1, 2))
    happenings = tuple((1 + choose.randrange(_POINTS), _a_happening(choose)) for _ in range(some))
    more: dict[str, Any] = {"confirm": _a_confirm(choose)}
    if choose.random() < 0.2:
        more["fails"] = choose.randrange(5)
    if choose.random() < 0.15:
        more["age"] = choose.randrange(30)
    elif choose.random() < 0.15:
        more["how"] = choose.choice(("anew", "shadow", "shadow"))
    what = (choose.choice(WHO), choose.choice(list(JOBS)), choose.choice((None, *"abcd")))
    return ("call", choose.randrange(2), what, happenings, more)


def _a_confirm(choose: random.Random) -> str | None:
    return choose.choice((None, "yes", "yes", "no", "later"))


#: How often each kind of operation is chosen, of all these together, and how it is made.
KINDS: dict[str, tuple[float, Callable[[random.Random], Operation]]] = {
    "call": (30, _a_call),
    "again": (40, lambda c: ("again", int(c.random() < 0.3), _a_confirm(c))),
    "edit": (10, lambda c: (*_an_edit(c)[:1], c.randrange(2), *_an_edit(c)[1:])),
    "answer": (10, lambda c: ("answer", c.randrange(2), int(c.random() < 0.8))),
    "settle": (6, lambda c: ("settle", c.randrange(2))),
    "reopen": (1, lambda c: ("reopen", c.randrange(2))),
    "wait": (1, lambda _c: ("wait",)),
}


def wish_operations(choose: random.Random, count: int) -> list[Operation]:
    """A history at random."""
    kinds = choose.choices(list(KINDS), [weight for weight, _ in KINDS.values()], k=count)
    return [KINDS[kind][1](choose) for kind in kinds]
