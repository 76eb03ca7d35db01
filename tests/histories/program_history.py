"""Histories of random programs: runs while facts change, each judged."""

from __future__ import annotations

import copy
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from .judge import Judge, Wrong
from .program_world import AGENT_SAYS, Edit, ProgramWorld
from .programs import Program, a_program

__all__ = ["KINDS", "URIS", "ProgramHistory", "program_operations"]

Operation = tuple[object, ...]
URIS = ("rule:ship", "rule:a", "rule:b", "rule:audit", "rule:freeze", "acl:left")
_PARTS = ("on", "on", "on", "note")
_PROGRAMS = 4  # of one history
_POINTS = 24  # of a run, at which something may change


class _Side(NamedTuple):
    world: ProgramWorld
    judge: Judge


class ProgramHistory:
    """Several worlds, each with a judge, to which the same is done."""

    def __init__(self, worlds: Sequence[ProgramWorld]) -> None:
        self.sides = [_Side(it, Judge(it.timeline)) for it in worlds]
        self.done: list[Operation] = []

    async def __aenter__(self) -> ProgramHistory:
        for world, _ in self.sides:
            await world.open()
            for uri in URIS[:-2]:
                await world.change(0, uri, {"on": 0, "note": 0})
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
                raise Wrong(told) from wrong

    async def _program(
        self,
        side: _Side,
        process: int,
        program: Program,
        edits: Sequence[tuple[int, Edit]] = (),
        replay: int = 1,
    ) -> None:
        at: dict[int, list[Edit]] = {}
        for point, edit in edits:
            at.setdefault(point, []).append(edit)
        told = await side.world.run(process, Program(*program), at, replay=bool(replay))
        side.judge.judge(told)

    async def _rerun(self, side: _Side, process: int) -> None:
        """Run what was run last once more; ``process`` 1: in the other process."""
        last = next((it for it in reversed(self.done) if it[0] == "program"), None)
        if last is not None:
            _, where, program, *_ = last
            await self._program(side, int(where) ^ process, program)  # type: ignore[call-overload,arg-type]

    async def _agent(self, side: _Side, process: int, task: str) -> None:
        said = await side.world.execute(process, task)
        if said != f"{AGENT_SAYS}: done":
            raise Wrong(f"the agent was given the words of somebody else: {said}")

    async def _edit(self, side: _Side, process: int, uri: str, part: str, value: int) -> None:
        await side.world.edit(process, uri, part, value)

    async def _back(self, side: _Side, process: int, uri: str, back: int) -> None:
        """What it was once."""
        versions = side.world.timeline.now.versions.get(uri, ())
        if earlier := [it for it in versions if it is not None]:
            await side.world.change(process, uri, copy.deepcopy(earlier[-1 - back % len(earlier)]))

    async def _doubt(self, side: _Side, process: int, uri: str) -> None:
        """It expires."""
        if (document := side.world.timeline.now.document(uri)) is not None:
            await side.world.change(process, uri, document, is_believed=False)

    async def _read(self, side: _Side, name: str, value: int) -> None:
        side.world.readings[name] = value

    async def _reopen(self, side: _Side, process: int, version: str | None = None) -> None:
        await side.world.restart(process, version)

    async def _gather(self, side: _Side, process: int, traces: int) -> None:
        """Keep no more traces of a task."""
        await side.world.collect(process, traces)
        side.judge.forget()


# Choosing ---------------------------------------------------------------------------------


def _an_edit(choose: random.Random) -> Edit:
    part = "gone" if choose.random() < 0.05 else choose.choice(_PARTS)
    return choose.choice(URIS), part, choose.randrange(2)


def _a_run(choose: random.Random, programs: Sequence[Program]) -> Operation:
    some = choose.choice((0, 0, 1, 2, 3))
    edits = tuple((1 + choose.randrange(_POINTS), _an_edit(choose)) for _ in range(some))
    replay = int(choose.random() > 0.03)
    return ("program", choose.randrange(2), choose.choice(programs), edits, replay)


_Make = Callable[[random.Random, Sequence[Program]], Operation]

#: How often each kind of operation is chosen, of all these together, and how it is made.
KINDS: dict[str, tuple[float, _Make]] = {
    "program": (35, _a_run),
    "rerun": (30, lambda c, _: ("rerun", int(c.random() < 0.15))),
    "agent": (4, lambda c, _: ("agent", c.randrange(2), c.choice(("one", "two")))),
    "edit": (16, lambda c, _: ("edit", c.randrange(2), *_an_edit(c))),
    "back": (10, lambda c, _: ("back", c.randrange(2), c.choice(URIS), c.randrange(4))),
    "doubt": (3, lambda c, _: ("doubt", c.randrange(2), c.choice(URIS))),
    "read": (2, lambda c, _: ("read", c.choice("ab"), c.randrange(2))),
    "reopen": (1, lambda c, _: ("reopen", c.randrange(2), c.choice((None, "1", "2")))),
    "gather": (0.5, lambda c, _: ("gather", c.randrange(2), c.choice((1, 2, 8)))),
}


def program_operations(choose: random.Random, count: int) -> list[Operation]:
    """A history at random, of a few programs."""
    programs = [a_program(choose) for _ in range(_PROGRAMS)]
    kinds = choose.choices(list(KINDS), [weight for weight, _ in KINDS.values()], k=count)
    return [KINDS[kind][1](choose, programs) for kind in kinds]
