"""The store's clock, which on one machine is the machine's."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

__all__ = ["SLACK_MS", "believed_until", "end_of_belief", "moment", "now_ms"]

#: By how much a clock may be put right while nobody minds.
SLACK_MS = 1000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def moment(at: datetime | timedelta, now: int) -> int:
    """``at`` in milliseconds; a timedelta counts from ``now``.

    A datetime without a time zone is local time, as everywhere in Python.
    """
    if isinstance(at, timedelta):
        return now + at // timedelta(milliseconds=1)
    return (at.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)


def end_of_belief(until: datetime | timedelta | None, now: int) -> int | None:
    """When belief that is given now ends, in milliseconds; None: never. What is to be believed
    until a moment that has passed was believed until now."""
    return None if until is None else max(now, moment(until, now))


def believed_until(until: int | None, since: int | None, now: int) -> int | None:
    """When belief that was given at ``since`` ends: it has, if that lies in the future, for then
    the clock was set back."""
    return 0 if since is not None and since > now + SLACK_MS else until
