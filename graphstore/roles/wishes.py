"""What callers want done, by which runs, and how far these have come."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import Protocol

from ..model import Attempts, Unfinished, Wish

__all__ = ["WishRenewing", "Wishes"]


class Wishes(Protocol):
    """Keeps wishes, and says who holds them."""

    @abstractmethod
    async def claim(self, wish: Wish, *, over: str | None = None) -> Wish:
        """Keep a wish for the run that is its ``execution``, and give it as it is kept then.

        One that is there already is left as it is. With ``over`` it is not kept but taken over, if
        that run holds it and it is not done: then it is running, and the new one's; one that is not
        there is given with no execution. Of several callers at once one gets it. Repeating it
        changes nothing.
        """

    @abstractmethod
    async def end_wish(self, wish: Wish) -> bool:
        """Keep the state and the result of a wish, if its ``execution`` holds it; whether it
        does."""

    @abstractmethod
    async def unfinished(
        self, task: str, *, exact: str | None = None, limit: int = 1000
    ) -> Unfinished:
        """What is left of the runs of a task that have failed, or not ended: the wishes that are
        not done, and the newest journal entries. ``exact``: whose wishes (``Wish.task``); None:
        those of the task itself."""

    @abstractmethod
    async def attempts(self, wish: str) -> Attempts:
        """What the runs of the wish with this key have begun and done."""


class WishRenewing(Protocol):
    """Tells that runs are at work."""

    @abstractmethod
    async def renew_wishes(self, executions: Collection[str]) -> None:
        """Note that these runs are at work on the wishes that they hold."""
