"""Reading what was recorded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import Protocol

from ..model import Execution, Outline, SideEffect, Task, Trace
from ..totals import Totals

__all__ = ["History"]


class History(Protocol):
    """Tells what runs did and came to."""

    @abstractmethod
    async def effects(self, execution: str) -> list[SideEffect]:
        """The effects this execution performed, in the order they were begun."""

    @abstractmethod
    async def execution(self, execution: str) -> Trace | None:
        """One execution with *all* its recorded steps, whatever its state; None if unknown."""

    @abstractmethod
    async def task(self, key: str) -> Task | None:
        """The task with this key; None if unknown."""

    @abstractmethod
    async def executions(self, *, agent: str | None = None, limit: int = 20) -> list[Execution]:
        """The newest executions that have ended, newest first; of one agent, if it is given."""

    @abstractmethod
    async def dependants(self, preconditions: Collection[str]) -> list[Outline]:
        """For each task that has a published step resting on one of these preconditions: all its
        published traces in outline, newest first."""

    @abstractmethod
    async def totals(self, *, since: int | None = None) -> Totals:
        """What the executions that started at ``since`` (milliseconds) or later came to, those
        that have not ended included. Those that a collection has folded count if their day (UTC)
        ended after ``since``."""
