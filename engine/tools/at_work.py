"""Which effects the tools of this process are at, also in threads that nobody waits for."""

from __future__ import annotations

import contextvars
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["is_at_work", "performing", "until_it_ends"]

_T = TypeVar("_T")

_effect: contextvars.ContextVar[str | None] = contextvars.ContextVar("execgraph_effect")
_at_work: Counter[str] = Counter()
_lock = threading.Lock()


def _renew() -> None:
    global _lock  # noqa: PLW0603  (another thread of the parent may have held it)
    _lock = threading.Lock()
    _at_work.clear()


os.register_at_fork(after_in_child=_renew)  # a child is at none of them


def is_at_work(effect: str) -> bool:
    """Whether the tool of this effect has not come to its end in this process."""
    return _at_work[effect] > 0


@contextmanager
def performing(effect: str | None) -> Iterator[None]:
    """Note that a tool is at this effect; None: it has none."""
    if effect is None:
        yield
        return
    token = _effect.set(effect)
    _count(effect, 1)
    try:
        yield
    finally:
        _count(effect, -1)
        _effect.reset(token)


def until_it_ends(work: Callable[[], _T]) -> Callable[[], _T]:
    """``work`` for a thread: its tool is at the effect of now until that ends, whoever waits."""
    if (effect := _effect.get(None)) is None:
        return work
    _count(effect, 1)  # before the thread begins

    def noted() -> _T:
        try:
            return work()
        finally:
            _count(effect, -1)

    return noted


def _count(effect: str, by: int) -> None:
    with _lock:
        _at_work[effect] += by
        if not _at_work[effect]:
            del _at_work[effect]
