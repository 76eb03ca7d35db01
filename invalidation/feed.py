"""Following changes as they are made, by whatever process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

from ..graphstore.errors import StoreUnavailable
from ..graphstore.model import ChangeEvent
from ..graphstore.roles.facts import FactReading
from ..graphstore.roles.presence import Presence

__all__ = ["LATE_MS", "follow", "now"]

_log = logging.getLogger("execgraph")

#: How late a change may become visible after one that is newer, in milliseconds: transactions of
#: a shared store end in another order than they began.
LATE_MS = 10_000
_LONGEST_WAIT = 5.0  # seconds between two looks for a store that is away


async def now(store: Presence) -> datetime:
    """The store's time."""
    return datetime.fromtimestamp(await store.now() / 1000, UTC)


class _Followed(Presence, FactReading, Protocol):
    """A store whose changes are followed."""


async def follow(
    store: _Followed,
    *,
    since: datetime | None = None,
    resource: str | None = None,
    interval: timedelta = timedelta(milliseconds=250),
) -> AsyncIterator[ChangeEvent]:
    """Give each change event once, oldest first, for ever.

    ``since``: which to begin with; None: with those made after the first is asked for. The store
    is asked once in an ``interval``; while it is away, this waits for it.
    """
    began = since or await now(store)
    start = round(began.timestamp() * 1000)
    delivered: dict[str, int] = {}  # the last LATE_MS: event ids, and when they were made
    newest, wait = start, interval.total_seconds()
    while True:
        try:
            events = await store.changes(
                resource=resource,
                since=max(start, newest - LATE_MS),
                limit=None,
            )
        except StoreUnavailable as error:
            if wait <= interval.total_seconds():
                _log.warning("changes cannot be followed at the moment: %s", error)
            wait = min(2 * wait, max(_LONGEST_WAIT, wait))
            await asyncio.sleep(wait)
            continue
        fresh = [event for event in reversed(events) if event.id not in delivered]
        delivered.update({event.id: event.at for event in fresh})
        newest = max([newest, *(event.at for event in fresh)])
        for event in fresh:
            yield event
        delivered = {key: at for key, at in delivered.items() if at >= newest - LATE_MS}
        wait = interval.total_seconds()
        await asyncio.sleep(wait)
