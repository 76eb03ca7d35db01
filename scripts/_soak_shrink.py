"""Making a history that fails as short as it can be made in little time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["shrunk"]

_T = TypeVar("_T")


def shrunk(
    history: Sequence[_T], fails: Callable[[Sequence[_T]], str | None], seconds: float
) -> list[_T]:
    """Delta debugging: leave out ever smaller parts as long as what is left still ``fails``."""
    until = time.monotonic() + seconds
    left, size = list(history), len(history) // 2
    while size:
        start = 0
        while start < len(left) and time.monotonic() < until:
            fewer = left[:start] + left[start + size :]
            if fewer and fails(fewer) is not None:
                left = fewer
            else:
                start += size
        size //= 2
    return left
