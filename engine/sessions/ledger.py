"""Writes what runs have paid that have not ended, so that it is told if they are killed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ...graphstore.errors import StoreError
from ...graphstore.model import Execution
from ...graphstore.roles.recording import ReplayRecording
from ..model.prices import load_prices

__all__ = ["Ledger"]

_log = logging.getLogger("execgraph")

_TOLD = "what runs have paid is not written before they end: %s"


class Ledger:
    """Running executions to be written. What cannot be written is tried again with the next
    reply; a run that ends is written as a whole."""

    def __init__(self, store: ReplayRecording) -> None:
        self._store = store
        self._noted: dict[str, Callable[[], Execution]] = {}
        self._writer: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._failing = False  # the last write failed

    def note(self, execution: str, describe: Callable[[], Execution]) -> None:
        """Have a run written, as ``describe`` gives it at the time of writing."""
        self._noted[execution] = describe
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    def forget(self, execution: str) -> None:
        """The run has ended."""
        self._noted.pop(execution, None)

    async def flush(self) -> None:
        """Write all that is noted by now. Raises StoreError; then it still waits."""
        async with self._lock:
            if not self._noted:
                return
            await load_prices()
            noted, self._noted = self._noted, {}
            try:
                executions = [describe() for describe in noted.values()]
                await self._store.note_running(executions)
            except BaseException:
                self._noted = noted | self._noted
                raise
            self._failing = False

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        try:
            while self._noted:
                await self.flush()
        except StoreError as error:
            if not self._failing:
                _log.warning(_TOLD, error)
            self._failing = True
        except Exception:  # noqa: BLE001  (nobody waits for this, so nobody else would tell it)
            _log.exception("what runs have paid could not be written")
