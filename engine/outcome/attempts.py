"""Attempts: requests that gave no answer, told by who sends them, kept by the run that asks."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...graphstore.model import Usage

__all__ = ["Attempt", "attempted", "attempts_told_to"]

_told_to: contextvars.ContextVar[Callable[[Attempt], None] | None] = contextvars.ContextVar(
    "execgraph_attempts", default=None
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request to a model that gave no answer.

    Attributes:
        model: The model that was asked.
        error: What went wrong, in a sentence.
        status: The HTTP status; None if there was no response, or it broke off.
        usage: What it was billed all the same; None if that is not known.
    """

    model: str
    error: str
    status: int | None = None
    usage: Usage | None = None

    @property
    def tokens(self) -> int:
        """What it cost, in tokens as billed."""
        return 0 if self.usage is None else self.usage.total


def attempted(attempt: Attempt) -> None:
    """Tell the run on whose behalf this is sent, if there is one."""
    if (tell := _told_to.get()) is not None:
        tell(attempt)


@contextmanager
def attempts_told_to(tell: Callable[[Attempt], None]) -> Iterator[None]:
    """Have ``tell`` called with each attempt that is made inside."""
    token = _told_to.set(tell)
    try:
        yield
    finally:
        _told_to.reset(token)
