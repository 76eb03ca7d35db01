"""The collector: has what nobody needs deleted, beside runs or when somebody asks for it.

The rules are in ``graphstore.retention``. Beside runs it collects at most once in an interval
over all processes of a namespace, in small batches with pauses, so that no run waits for long.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from ...graphstore.retention import COLLECT_BATCH, TRACES_PER_TASK, Collected, Retention
from ...graphstore.roles.collecting import Collecting
from ...graphstore.roles.journals import JournalWriting
from ...graphstore.roles.leases import Leases
from ...invalidation.background import Background

__all__ = ["LEASE", "Collector", "Progress"]

_log = logging.getLogger("execgraph")

#: The name of the lease by which processes take turns. Nobody gives it back: it runs out.
LEASE = "retention"
_INTERVAL_SECONDS = 600.0
_SMALL_BATCH = 100  # executions, versions or payloads
_REST = 1.0  # a pause is as many times as long as the batch before it
_SHORT_SECONDS = 0.01  # and at least so long

#: Told after each batch what was taken away so far.
Progress = Callable[[Collected], None]


class CollectedStore(Collecting, JournalWriting, Leases, Protocol):
    """What a collector needs of its store."""


class Collector:
    """Collects in one namespace of an open store. Of one event loop.

    ``retention`` None: only when asked to. ``owner``: who this is among all that may collect.
    """

    def __init__(self, store: CollectedStore, retention: Retention | None, owner: str) -> None:
        self._store = store
        self._retention = retention
        self._owner = owner
        self._next = 0.0
        self.background = Background()

    @property
    def traces(self) -> int:
        """How many published traces a task keeps."""
        return TRACES_PER_TASK if self._retention is None else self._retention.traces

    async def collectable(self, retention: Retention | None = None) -> Collected:
        """What a collection would take away now. Raises StoreError."""
        return await self._store.collectable(self._by(retention))

    async def collect(
        self,
        retention: Retention | None = None,
        progress: Progress | None = None,
    ) -> Collected:
        """Make a whole collection now; by its own retention, if none is given. Raises StoreError.

        May be cancelled: each batch is done or not.
        """
        return await self._collect(self._by(retention), progress, COLLECT_BATCH, 0.0)

    def _by(self, retention: Retention | None) -> Retention:
        return retention or self._retention or Retention()

    async def _collect(
        self, retention: Retention, progress: Progress | None, batch: int, rest: float
    ) -> Collected:
        taken = Collected()
        kept_since = datetime.now(UTC) - retention.history_age
        await self._store.age_journal(int(kept_since.timestamp() * 1000))
        while True:
            began = time.monotonic()
            taken += await self._store.collect(retention, batch=batch)
            if progress is not None:
                progress(taken)
            if not taken.more:
                return taken
            if rest and not self.background.closed:
                await asyncio.sleep(max(_SHORT_SECONDS, rest * (time.monotonic() - began)))

    # In the background --------------------------------------------------------------------

    def kick(self) -> None:
        """Something was written: collect, if nobody has for a while. Nobody waits for it."""
        if self._retention is None or time.monotonic() < self._next or not self.background.idle:
            return
        self._next = time.monotonic() + _INTERVAL_SECONDS
        self.background.begin(partial(self._take_turn, self._retention))

    async def close(self) -> None:
        """Give a collection 2 seconds to end: of processes that all live shortly, one has to."""
        await self.background.close()

    async def _take_turn(self, retention: Retention) -> None:
        try:
            turn = timedelta(seconds=_INTERVAL_SECONDS)
            if not await self._store.lease(LEASE, self._owner, turn):
                return
            taken = await self._collect(retention, None, _SMALL_BATCH, _REST)
            if taken != Collected():
                _log.debug("collected: %s", taken)
        except Exception as error:  # noqa: BLE001  (nobody waits for it)
            _log.warning("old runs could not be deleted, which is tried again later: %s", error)
