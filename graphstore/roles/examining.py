"""Whether all is well, and what there is to look at."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from ..finding import Finding
from ..model import Approval, SideEffect

__all__ = ["Examining"]


class Examining(Protocol):
    """Lists what is there, and what is wrong."""

    @abstractmethod
    async def examine(self) -> list[Finding]:
        """Whether the store as a whole is sound, and does what a program needs of it. What is
        wrong is a finding and not raised, but for a store that cannot be reached."""

    @abstractmethod
    async def task_keys(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """The keys of tasks, in order, those that come after ``after``."""

    @abstractmethod
    async def namespaces(self, *, limit: int = 20) -> list[str]:
        """The names of namespaces in which there is something, in order."""

    @abstractmethod
    async def uris(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """The uris of resources, in order, those that come after ``after``."""

    @abstractmethod
    async def doubts(self, *, limit: int = 100) -> list[SideEffect]:
        """Effects that were begun and are not known to have ended, oldest first."""

    @abstractmethod
    async def approvals(self, *, limit: int = 100) -> list[Approval]:
        """Approvals that are pending and have not expired, oldest first."""
