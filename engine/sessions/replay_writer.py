"""What is written behind a caller's back: replays, in batches that nobody waits for."""

from __future__ import annotations

import asyncio
import logging

from ...graphstore.errors import StoreError
from ...graphstore.model import Replay
from ...graphstore.roles.recording import ReplayRecording
from .at_work import AtWork
from .ledger import Ledger

__all__ = ["ReplayWriter"]

_log = logging.getLogger("execgraph")

_DELAY_SECONDS = 0.25  # how long a replay may wait for others
_AGAIN_SECONDS = 5.0  # until those that could not be written are tried again
_PORTION = 32  # written at once: making a statement of more would hold up the event loop
_CROWD = 1_000  # as many as this are not waiting unless runs end faster than they are written
_LIMIT = 10_000  # how many are kept while they cannot be written


class ReplayWriter:
    """Replays waiting to be written; ``flush`` waits for all of them.

    They are written in portions, after a moment or as soon as there is one. If runs end faster than
    that, they wait for ``room``. If they cannot be written they are kept (up to 10,000, the oldest
    dropped first, with a warning) and written when the store is back.
    """

    def __init__(self, store: ReplayRecording, at_work: AtWork) -> None:
        self._store = store
        self._at_work = at_work
        self.running = Ledger(store)
        self._waiting: list[Replay] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._progress = asyncio.Event()
        self._failing = False  # the last write failed
        self._dropped = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many are not being written yet."""
        return len(self._waiting)

    async def room(self) -> None:
        """Wait while there are more than are written in a moment, unless they cannot be written."""
        while len(self._waiting) >= _CROWD and not self._failing:
            self._progress.clear()
            self._start()
            await self._progress.wait()

    def add(self, replay: Replay) -> None:
        """Have ``replay`` written soon."""
        self._waiting.append(replay)
        if self._failing:
            self._keep_within_limit()
        elif len(self._waiting) >= _PORTION:
            self._start()
        self._soon(_DELAY_SECONDS)

    async def flush(self) -> None:
        """Write all that waits by now. Raises StoreError; then it still waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        async with self._lock:
            left = len(self._waiting)
            while left > 0 and self._waiting:
                left -= await self._write_portion()
        await self.running.flush()

    async def close(self) -> None:
        """Write all that waits; what cannot be written is lost, with a warning."""
        self._closed = True
        try:
            await self.flush()
        except StoreError as error:
            _log.warning("%d replays could not be written: %s", len(self._waiting), error)
        if self._writer is not None:
            await self._writer
        await self.running.close()

    async def _write_portion(self) -> int:
        """Write the oldest ones; how many."""
        portion, self._waiting = self._waiting[:_PORTION], self._waiting[_PORTION:]
        try:
            await self._store.write_replays(portion)
        except BaseException as error:
            self._waiting[:0] = portion
            self._failed(error)
            raise
        finally:
            self._progress.set()
        self._failing = False
        self._dropped = 0
        for replay in portion:
            self._at_work.end(replay.execution.id)
        return len(portion)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            if not self._failing:
                _log.warning("%d replays wait to be written: %s", len(self._waiting), error)
            self._failing = True
            self._keep_within_limit()
        if not self._closed:
            self._soon(_AGAIN_SECONDS)

    def _keep_within_limit(self) -> None:
        beyond = len(self._waiting) - _LIMIT
        if beyond > 0:
            if not self._dropped:
                _log.warning("the store is away and %d replays wait; the oldest go", _LIMIT)
            for replay in self._waiting[:beyond]:
                self._at_work.end(replay.execution.id)
            del self._waiting[:beyond]
            self._dropped += beyond

    def _soon(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._at_time)

    def _at_time(self) -> None:
        self._timer = None
        self._start()

    def _start(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            await self.flush()
        except StoreError:
            return  # it was told, and the timer is set
        except Exception:  # noqa: BLE001  (nobody waits for this, so nobody else would tell it)
            _log.exception("replays could not be written")
        if self._waiting and not self._closed:
            self._soon(_DELAY_SECONDS)
