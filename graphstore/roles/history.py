"""Reading what was recorded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import Literal, NamedTuple, Protocol, get_args

from ..model import Execution, Outline, SideEffect, Task, Trace
from ..totals import Totals

__all__ = ["BY", "ENDED", "By", "Executions", "History", "Place"]

#: By what executions are listed, beside all of them: each has an index, in the order of a list.
By = Literal["agent", "task", "state", "mode"]
BY: tuple[By, ...] = get_args(By)


class Place(NamedTuple):
    """Where an execution stands in the order of all."""

    started_at: int
    id: str

    @classmethod
    def of(cls, execution: Execution) -> Place:
        return cls(execution.started_at, execution.id)


class Executions(NamedTuple):
    """Which executions are listed: all of them, or those ``by`` whose property is ``value``.

    ``ended``: only those that have ended; else also what is known of those that have not.
    ``before``: only those that come later in the list than this place, whether there is anything
    at it or not. ``since``: only those that started then or later, in milliseconds.
    """

    by: By | None = None
    value: str = ""
    ended: bool = True
    before: Place = Place(2**53, "")
    since: int = 0


#: All that have ended.
ENDED = Executions()


class History(Protocol):
    """Tells what runs did and came to."""

    @abstractmethod
    async def effects(self, execution: str) -> list[SideEffect]:
        """The effects this execution performed, in the order they were begun."""

    @abstractmethod
    async def effect(self, id_: str) -> SideEffect | None:
        """The effect with this id; None if unknown."""

    @abstractmethod
    async def execution(self, execution: str) -> Trace | None:
        """One execution with *all* its recorded steps, whatever its state; None if unknown."""

    @abstractmethod
    async def task(self, key: str) -> Task | None:
        """The task with this key; None if unknown."""

    @abstractmethod
    async def executions(self, of: Executions = ENDED, *, limit: int = 20) -> list[Execution]:
        """The newest of these executions, newest first; of those that started in the same
        millisecond first the one with the greatest id. What is read is what is given, and those
        among it that have not ended."""

    @abstractmethod
    async def execution_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        """The ids of executions that begin so, in order."""

    @abstractmethod
    async def effect_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        """The ids of effects that begin so, in order."""

    @abstractmethod
    async def approval_ids(self, prefix: str, *, limit: int = 2) -> list[str]:
        """The ids of approvals that begin so, in order, whatever their state."""

    @abstractmethod
    async def lengths(self, executions: Collection[str]) -> dict[str, int]:
        """How many steps were recorded of each of these executions; those that are unknown, or have
        not ended, are left out."""

    @abstractmethod
    async def agents(self, *, limit: int = 20) -> list[str]:
        """The names of agents and programs of which there is an execution, in order."""

    @abstractmethod
    async def dependants(self, preconditions: Collection[str]) -> list[Outline]:
        """For each task that has a published step resting on one of these preconditions: all its
        published traces in outline, newest first."""

    @abstractmethod
    async def totals(self, *, since: int | None = None, dead: Collection[str] = ()) -> Totals:
        """What the executions that started at ``since`` (milliseconds) or later came to, those
        that have not ended included: as killed if their process is one of the ``dead``, or nothing
        was heard of them for long. Those that a collection has folded count if their day (UTC)
        ended after ``since``."""
