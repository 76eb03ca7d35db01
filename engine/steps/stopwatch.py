"""When something began, and how long it took."""

from __future__ import annotations

import time
from typing import NamedTuple

__all__ = ["Stopwatch", "Times"]


class Times(NamedTuple):
    """When something began, in milliseconds since 1970, and how long it took, in milliseconds."""

    started_at: int
    duration_ms: float


class Stopwatch:
    """Runs from when it is made, or from ``ago_ms`` milliseconds before."""

    __slots__ = ("_clock", "started_at")

    def __init__(self, ago_ms: float = 0.0) -> None:
        self.started_at = time.time_ns() // 1_000_000 - round(ago_ms)
        self._clock = time.perf_counter() - ago_ms / 1000

    @property
    def elapsed_ms(self) -> float:
        """The time since then, in milliseconds, though the clock be set meanwhile."""
        return (time.perf_counter() - self._clock) * 1000

    def times(self) -> Times:
        """The times of what ends now."""
        return Times(self.started_at, self.elapsed_ms)
