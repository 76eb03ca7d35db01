"""Walks: which executions are next, and what a batch of them comes to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..records import walk_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..model import Walk
    from .client import Client

__all__ = ["Walks"]

#: How many executions are listed at once. A server keeps no list in order, so that finding the
#: next few costs as much as finding all of them.
_LISTED = 20_000
#: A batch is divided in parts of so many executions at least, which a server with several
#: processors marks at the same time; a small one, made beside runs, leaves it the others.
_PART, _AT_ONCE = 250, 2


@dataclass
class _Next:
    """What is left to look at: rows of an execution's id, and the positions to start from."""

    executions: list[list[Any]]
    more: bool  # beyond those


@dataclass
class Walks:
    """The walks that this process has begun, each with the executions that it has listed.

    What is kept here only saves listing them again: the event has the cursor. Executions written
    since a list was made are missing in it; whoever publishes one looks at facts himself.
    """

    client: Client
    compute_guards: Callable[[str], Awaitable[None]]
    _begun: dict[str, _Next] = field(default_factory=dict)

    async def go_on(self, walk: str, batch: int) -> Walk | None:
        """One batch; None if no such walk is open."""
        coming = self._begun.pop(walk, None)
        if coming is None and (coming := await self._list(walk)) is None:
            return None
        now, coming.executions = coming.executions[:batch], coming.executions[batch:]
        marked, cleared, visited = await self._mark(now)
        parameters = {
            "walk": walk,
            "marked": marked,
            "cleared": cleared,
            "visited": visited,
            "cursor": now[-1][0] if now else None,
            "ended": not coming.executions and not coming.more,
        }
        row = await self.client.row("walked", parameters)
        if row is not None and coming.executions:
            self._begun[walk] = coming
        return None if row is None else walk_of(row[0])

    async def _mark(self, executions: list[list[Any]]) -> tuple[int, ...]:
        """Mark these; how many steps are invalid, how many valid, how many edges lead there."""
        size = max(_PART, -(-len(executions) // _AT_ONCE))
        parts = [executions[start : start + size] for start in range(0, len(executions), size)]
        marking = (self.client.row("walk", {"executions": part}) for part in parts)
        counts: list[list[int]] = [[0, 0, 0]]
        for done in await asyncio.gather(*marking, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
            counts += [] if done is None else [done]
        return tuple(map(sum, zip(*counts, strict=True)))

    async def _list(self, walk: str) -> _Next | None:
        where = {"walk": walk, "limit": _LISTED}
        row = await self.client.row("walk_of_event", where)
        if row is None:
            await self.compute_guards(walk)
            row = await self.client.row("walk_of_execution", where)
        if row is None:
            return None
        # The first step to start from is the one that most of the others follow from.
        listed = (it for it in row[0] if None not in (it[0], *it[1]))  # else deleted meanwhile
        executions = [[execution, sorted(positions)] for execution, positions in listed]
        return _Next(executions, more=len(row[0]) == _LISTED)
