"""What all runs of a namespace came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ..graphstore.errors import ConfigurationError
from ..graphstore.model import Mode
from ..graphstore.store import Totals

__all__ = ["Stats", "milliseconds_of"]


@dataclass(frozen=True, slots=True)
class Stats:
    """Executions that have ended since a moment, and what they came to.

    ``hits``: asked no model; ``partial``: asked for some decisions; ``live``: for all of them.
    ``tokens``: paid, failed runs included; ``saved_tokens``: what the recorded runs had paid for
    what was not asked. ``cost``: of ``tokens``, in US dollars, where a price is known.
    ``misses``: executions by the kind of cause for which they were no plain replay; one may have
    several. ``traces``: what may be replayed now.
    """

    hits: int
    partial: int
    live: int
    failed: int
    tokens: int
    saved_tokens: int
    cost: float
    traces: int
    misses: Mapping[str, int]

    @classmethod
    def of(cls, totals: Totals) -> Stats:
        """From what a store counted."""
        by_mode = totals.executions
        return cls(
            hits=by_mode.get(Mode.REPLAY, 0),
            partial=by_mode.get(Mode.PARTIAL, 0),
            live=by_mode.get(Mode.LIVE, 0),
            failed=totals.failed,
            tokens=totals.tokens,
            saved_tokens=totals.saved_tokens,
            cost=totals.cost,
            traces=totals.traces,
            misses=dict(sorted(totals.misses.items(), key=lambda it: (-it[1], it[0]))),
        )

    @property
    def executions(self) -> int:
        """Those that have ended well."""
        return self.hits + self.partial + self.live

    @property
    def hit_rate(self) -> float | None:
        """The part of them that asked no model, from 0 to 1; None if there are none."""
        return self.hits / self.executions if self.executions else None

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "executions": self.executions,
            "hits": self.hits,
            "partial": self.partial,
            "live": self.live,
            "failed": self.failed,
            "hit_rate": self.hit_rate,
            "tokens": self.tokens,
            "saved_tokens": self.saved_tokens,
            "cost": self.cost,
            "traces": self.traces,
            "misses": dict(self.misses),
        }


def milliseconds_of(since: datetime | timedelta | None) -> int | None:
    """A moment, or how long ago, in milliseconds since 1970. Raises ConfigurationError."""
    if since is None:
        return None
    moment: object = datetime.now(UTC) - since if isinstance(since, timedelta) else since
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigurationError(
            f"since={since!r} is no moment; give a timedelta, as in timedelta(days=7), or a"
            " datetime with a time zone, as in datetime.now(UTC)"
        )
    return int(moment.timestamp() * 1000)
