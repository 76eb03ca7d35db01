"""Keeps what runs decide and do until they end, so that it need not be asked again."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from itertools import groupby

from ...graphstore.errors import StoreError
from ...graphstore.model import JournalEntry
from ...graphstore.roles.journals import JournalWriting

__all__ = ["Journal"]

_log = logging.getLogger("execgraph")

_MOST = 10_000  # that wait while the store cannot be reached
_PATIENCE = 1.0  # seconds that a run waits for what it need not wait for


class Journal:
    """Entries to be kept, and executions of which none are to be kept any more. They are written
    in this order, one after another."""

    def __init__(self, store: JournalWriting) -> None:
        self._store = store
        self._waiting: deque[JournalEntry | str] = deque(maxlen=_MOST)
        self._writer: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._failing = False  # the last write failed

    def keep(self, entry: JournalEntry) -> None:
        """Have an entry written."""
        self._waiting.append(entry)
        self._start()

    def drop(self, executions: Iterable[str]) -> None:
        """Have all entries of these executions deleted, also those that wait."""
        if ended := set(executions):
            kept = [it for it in self._waiting if _execution(it) not in ended]
            self._waiting.clear()
            self._waiting.extend((*kept, *sorted(ended)))
            self._start()

    async def take(self, execution: str) -> list[JournalEntry]:
        """The entries of an execution that are not written yet, which whoever takes them writes,
        or gives back by ``keep``."""
        async with self._lock:  # what is being written is written then, or waits again
            taken, left = list[JournalEntry](), list[JournalEntry | str]()
            for it in self._waiting:
                if isinstance(it, str) or it.execution != execution:
                    left.append(it)
                else:
                    taken.append(it)
            self._waiting.clear()
            self._waiting.extend(left)
        return taken

    async def flush(self) -> None:
        """Write all that waits by now. Raises StoreError; then it still waits."""
        async with self._lock:
            while self._waiting:
                waiting, self._waiting = self._waiting, deque(maxlen=_MOST)
                try:
                    await self._write_all(waiting)
                except BaseException:
                    self._waiting.extendleft(reversed(waiting))
                    raise
                self._failing = False

    async def caught_up(self) -> None:
        """Wait until what waits by now is written, as long as that takes no time that counts beside
        a reply of a model."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=_PATIENCE)

    async def close(self) -> None:
        """Write all that waits; what cannot be written is paid again."""
        if self._writer is not None:
            await self._writer

    async def _write_all(self, waiting: Iterable[JournalEntry | str]) -> None:
        for ended, some in groupby(waiting, lambda it: isinstance(it, str)):
            if ended:
                await self._store.forget_journal([it for it in some if isinstance(it, str)])
            else:
                await self._store.journal([it for it in some if not isinstance(it, str)])

    def _start(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            await self.flush()
        except StoreError as error:
            if not self._failing:
                _log.warning("what runs decide is not kept before they end: %s", error)
            self._failing = True
        except Exception:  # noqa: BLE001  (nobody waits for this, so nobody else would tell it)
            _log.exception("what runs decide could not be kept")


def _execution(waiting: JournalEntry | str) -> str:
    return waiting if isinstance(waiting, str) else waiting.execution
