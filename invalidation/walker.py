"""The walker: does the walks that changes and publications have opened, one leader at a time.

Marks are a view: whatever becomes of a walker, nothing is replayed that does not stand. A walk's
progress is in the store, so that whoever leads next goes on where the last one stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from ..graphstore.errors import StoreError
from ..graphstore.model import Walk
from ..graphstore.roles.facts import FactChanging
from ..graphstore.roles.leases import Leases
from ..graphstore.roles.marks import WALK_BATCH, Marks
from ..graphstore.roles.presence import Presence
from .background import Background

__all__ = ["LEASE", "LEASE_SECONDS", "OnWalk", "Walker"]

_log = logging.getLogger("execgraph")

#: The name of the lease that the leader of a namespace holds, and for how long at a time.
LEASE, LEASE_SECONDS = "walker", 10.0
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5)  # seconds between two looks at another leader's work
_SOON_SECONDS = 0.05  # changes come in bursts
# A writer that finds SQLite locked looks again after a while, and would hardly ever find it free if
# the next batch locked it at once.
_REST = 0.1
_CLOSE_SECONDS = 2.0

_T = TypeVar("_T")

#: Called with a walk after each batch, and with another leader's now and then.
OnWalk = Callable[[Walk], None]


class WalkedStore(Presence, FactChanging, Leases, Marks, Protocol):
    """What a walker needs of its store."""


class _Pace(NamedTuple):
    """How walks are done: the executions of a batch, and the rest after it, in times of what the
    batch took."""

    batch: int = WALK_BATCH
    rest: float = _REST


_BESIDE_RUNS = _Pace(100, 1.0)  # which write too


class _Opened(NamedTuple):
    """The walks that were open at a moment: all that were opened by ``now``, and ``ahead``, which
    seem to have been opened later, since the clock was set back."""

    now: int
    ahead: frozenset[str]


class Walker:
    """Walks in one namespace of an open store. Of one event loop.

    ``owner``: who this is among all that may lead; no two walkers may have the same.
    """

    def __init__(self, store: WalkedStore, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._leading = asyncio.Lock()
        self._extend_at = 0.0  # when the lead is to be extended
        self._background = Background()
        self._kicked = False

    def __repr__(self) -> str:
        return f"<Walker of {self._store.namespace!r} in {self._store.url}>"

    async def run(
        self, progress: OnWalk | None = None, *, batch: int = WALK_BATCH, rest: float = _REST
    ) -> int:
        """Record expiries, and do all walks that are open by then. How many were ended.

        ``batch``: how many executions are marked at a time. ``rest``: how long nothing is done
        after a batch, in times of what the batch took; who waits to write gets his turn then.

        Returns at once if somebody else leads, and stops when it has lost the lead. Raises
        StoreError. May be cancelled: a batch is done or not, and the lead is given up.
        """
        return await self._run(progress, _Pace(batch, rest), await self._opened())

    async def _opened(self) -> _Opened:
        """Record expiries; the walks that are open then."""
        await self._store.expire()
        now = await self._store.now()
        walks = await self._store.walks()
        return _Opened(now, frozenset(walk.id for walk in walks if walk.at > now))

    async def _run(self, progress: OnWalk | None, pace: _Pace, until: _Opened) -> int:
        async with self._leading:
            if not await self._left(until):
                return 0
            led: bool | None = None
            try:
                led = await _to_its_end(self._lead())
                return await self._walk_all(progress, pace, until) if led else 0
            finally:
                if led is not False:  # if it is not known, it may be so
                    await self._give_up_lead()

    async def settle(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 (seconds of patience, its own affair)
        progress: OnWalk | None = None,
    ) -> None:
        """Wait until no walk is open that was open at the call, whoever does them: this one,
        another leader, or this one once a leader that died has lost the lead.

        Changes that come later are not waited for: where they never cease, this would neither.

        ``timeout`` in seconds. Raises TimeoutError, StoreError.
        """
        async with asyncio.timeout(timeout):
            await self._settle(progress, _Pace())

    async def _settle(self, progress: OnWalk | None, pace: _Pace) -> None:
        waited, until = 0, await self._opened()
        while True:
            ended = await self._run(progress, pace, until)
            if not (left := await self._left(until)):
                return
            if self._background.closed and not ended:
                return  # somebody else leads, and may do the rest
            waited = 0 if ended else waited + 1
            if progress is not None:
                progress(left[0])
            await asyncio.sleep(_PAUSES[min(waited, len(_PAUSES) - 1)])

    async def _left(self, until: _Opened) -> list[Walk]:
        """The walks that were open then and are so still, oldest first."""
        walks = await self._store.walks()
        return [walk for walk in walks if walk.at <= until.now or walk.id in until.ahead]

    async def _lead(self) -> bool:
        duration = timedelta(seconds=LEASE_SECONDS)
        self._extend_at = time.monotonic() + LEASE_SECONDS / 3
        return await self._store.lease(LEASE, self._owner, duration)

    async def _give_up_lead(self) -> None:
        with suppress(StoreError, TimeoutError):  # then it runs out
            async with asyncio.timeout(_CLOSE_SECONDS):
                await _to_its_end(self._store.release(LEASE, self._owner))

    async def _still_leads(self) -> bool:
        return time.monotonic() < self._extend_at or await self._lead()

    async def _walk_all(self, progress: OnWalk | None, pace: _Pace, until: _Opened) -> int:
        """Do walks until none is left, or the lead is lost. How many were ended."""
        ended = 0
        while walks := await self._left(until):
            for walk in walks:
                done: Walk | None = walk
                while done is not None and done.ended_at is None:
                    if not await self._still_leads():
                        return ended
                    done = await self._batch(walk.id, progress, pace)
                if done is not None:
                    ended += 1
                    _log_walk(done)
        return ended

    async def _batch(self, walk: str, progress: OnWalk | None, pace: _Pace) -> Walk | None:
        """Do one batch, and rest; None: another has ended the walk."""
        began = time.monotonic()
        done = await self._store.walk(walk, batch=pace.batch)
        if done is not None and done.ended_at is None:
            await asyncio.sleep((time.monotonic() - began) * pace.rest)
        if done is not None and progress is not None:
            progress(done)
        return done

    # In the background --------------------------------------------------------------------

    def kick(self) -> None:
        """Something has changed: have the walks done soon, by this one or by who leads.

        Nobody waits for it, so what fails is logged, and tried again at the next kick.
        """
        self._kicked = True
        self._background.begin(self._work)

    async def close(self) -> None:
        """Give what is being done 2 seconds to end, then leave the rest to the next walker."""
        await self._background.close()

    async def _work(self) -> None:
        while self._kicked:
            if not self._background.closed:
                await asyncio.sleep(_SOON_SECONDS)
            self._kicked = False
            try:
                await self._settle(None, _BESIDE_RUNS)
            except Exception as error:  # noqa: BLE001  (nobody waits for it)
                _log.warning("the walk failed, and is tried again after the next change: %s", error)
                return


async def _to_its_end(work: Coroutine[Any, Any, _T]) -> _T:
    """What ``work`` gives. Who cancels this lets it end first.

    A call to the store that is broken off may be carried out later, and a lease that is taken so
    be nobody's.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.wait({task}, timeout=_CLOSE_SECONDS)
        raise


def _log_walk(walk: Walk) -> None:
    _log.debug(
        "walked %s: %d steps invalid, %d valid, %d edges",
        walk.id if walk.resource is None else f"{walk.id} of {walk.resource}",
        walk.marked,
        walk.cleared,
        walk.visited,
    )
