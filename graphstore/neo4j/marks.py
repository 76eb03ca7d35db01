"""Walks: which executions are next, and what a batch of them comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..model import Walk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .client import Client

__all__ = ["Walks", "walk_of"]

#: How many executions are listed at once. A server keeps no list in order, so that finding the
#: next few costs as much as finding all of them.
_LISTED = 20_000
_WALK = ("id", "resource", "at", "cursor", "marked", "cleared", "visited", "ended_at")


def walk_of(row: Sequence[Any]) -> Walk:
    """From the columns of `walks` and `walk`; what is None is at its default."""
    named = zip(_WALK, row, strict=False)
    return Walk(**{name: value for name, value in named if value is not None or name == "resource"})


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
    compute_guards: Callable[[str, str], Awaitable[None]]
    _begun: dict[tuple[str, str], _Next] = field(default_factory=dict)

    async def go_on(self, namespace: str, walk: str, batch: int) -> Walk | None:
        """One batch; None if no such walk is open."""
        coming = self._begun.pop((namespace, walk), None)
        if coming is None and (coming := await self._list(namespace, walk)) is None:
            return None
        now, coming.executions = coming.executions[:batch], coming.executions[batch:]
        ended = not coming.executions and not coming.more
        parameters = {
            "namespace": namespace,
            "walk": walk,
            "executions": now,
            "cursor": now[-1][0] if now else None,
            "ended": ended,
        }
        row = await self.client.row("walk", parameters)
        if row is not None and coming.executions:
            self._begun[namespace, walk] = coming
        return None if row is None else walk_of(row[0])

    async def _list(self, namespace: str, walk: str) -> _Next | None:
        where = {"namespace": namespace, "walk": walk, "limit": _LISTED}
        row = await self.client.row("walk_of_event", where)
        if row is None:
            await self.compute_guards(namespace, walk)
            row = await self.client.row("walk_of_execution", where)
        if row is None:
            return None
        # The first step to start from is the one that most of the others follow from.
        executions = [[execution, sorted(positions)] for execution, positions in row[0]]
        return _Next(executions, more=len(executions) == _LISTED)
