"""Hints that resources may have changed: gathered from a source until somebody looks."""

from __future__ import annotations

import asyncio
import logging

from ..source import Source

__all__ = ["RETRY_SECONDS", "Hints", "listen"]

_log = logging.getLogger("execgraph")

RETRY_SECONDS = 5.0  # after a source or the store failed


class Hints:
    """The resources that are to be looked at again, each once. None: all of them."""

    def __init__(self) -> None:
        self._uris: set[str] = set()
        self._scan_at = 0.0
        self._all = False
        self._stirred = asyncio.Event()

    def add(self, uri: str | None) -> None:
        if uri is None:
            self._all = True
        else:
            self._uris.add(uri)
        self._stirred.set()

    async def within(self, seconds: float) -> set[str] | None:
        """The next hints; None if all is to be looked at, or no scan was for so long."""
        clock = asyncio.get_running_loop().time
        self._scan_at = self._scan_at or clock() + seconds
        if clock() >= self._scan_at:
            self.add(None)  # hints that never cease do not keep a scan from its turn
        try:
            async with asyncio.timeout_at(self._scan_at):
                await self._stirred.wait()
        except TimeoutError:
            self._all = True
        self._stirred.clear()
        uris, self._uris = self._uris, set()
        if not self._all:
            return uris
        self._all, self._scan_at = False, 0.0
        return None


async def listen(source: Source, hints: Hints) -> None:
    """Take hints for ever; a source that fails is listened to again after a while."""
    while True:
        try:
            async for uri in source.changes():
                hints.add(uri)
        except Exception as error:  # noqa: BLE001  (a source is foreign code)
            _log.warning("%s gives no hints: %s", source.name, error)
        await asyncio.sleep(RETRY_SECONDS)
        hints.add(None)
