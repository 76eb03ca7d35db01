"""What is written behind a caller's back: replays, in batches that nobody waits for."""

from __future__ import annotations

import asyncio
import logging

from ..graphstore.errors import StoreError
from ..graphstore.model import Replay
from ..graphstore.store import GraphStore

__all__ = ["Journal"]

_log = logging.getLogger("execgraph")

_DELAY_SECONDS = 0.25  # how long a replay may wait for others
_AGAIN_SECONDS = 5.0  # until those that could not be written are tried again
_LIMIT = 10_000  # how many may wait while the store is away


class Journal:
    """Replays waiting to be written; ``flush`` waits for all of them.

    If the store is away they are kept (up to 10,000, the oldest dropped first, with a warning)
    and written when it is back.
    """

    def __init__(self, store: GraphStore, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._waiting: list[Replay] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._told = False  # that it cannot be written to
        self._closed = False

    def add(self, replay: Replay) -> None:
        """Have ``replay`` written soon."""
        self._waiting.append(replay)
        if len(self._waiting) > _LIMIT:
            del self._waiting[0]
            _log.warning("the store is away and %d replays wait; the oldest is dropped", _LIMIT)
        self._soon(_DELAY_SECONDS)

    async def flush(self) -> None:
        """Write all that waits. Raises StoreError; then it still waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        async with self._lock:
            batch, self._waiting = self._waiting, []
            if batch:
                try:
                    await self._store.write_replays(self._namespace, batch)
                except BaseException:
                    self._waiting[:0] = batch
                    if not self._closed:
                        self._soon(_AGAIN_SECONDS)
                    raise

    async def close(self) -> None:
        """Write all that waits; what cannot be written is lost, with a warning."""
        self._closed = True
        try:
            await self.flush()
        except StoreError as error:
            _log.warning("%d replays could not be written: %s", len(self._waiting), error)
        if self._writer is not None:
            await self._writer

    def _soon(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self.flush()
        except StoreError as error:
            if not self._told:
                _log.warning("%d replays wait to be written: %s", len(self._waiting), error)
            self._told = True
        else:
            self._told = False
