"""The place where a store's file lies: what is open there, and work on it.

Small reads run on the event loop, writes one after another in a thread, collections in another.
Each looks first whether the path still leads to what is open (see ``opened.py``), and a write
looks once more before it counts as done.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from ..errors import StoreNotOpen, StoreUnavailable
from ..pin import Pin
from .connection import PAUSE, deadline, passes, patiently
from .names import find
from .opened import Opened, open_file
from .retention import FileCollector
from .trouble import translated
from .witness import Count

__all__ = ["Place"]

_log = logging.getLogger("execgraph")

_P = ParamSpec("_P")
_T = TypeVar("_T")

_TRIES = 5  # of a write whose file is replaced under it


class Place:
    """The place of a store's file, for one event loop."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.opened: Opened | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._opening = asyncio.Lock()
        self._known: Count | None = None  # the changes that files before this one had
        self._collector: tuple[ThreadPoolExecutor, FileCollector] | None = None

    async def open(self) -> None:
        """Open the file; one that is open stays so."""
        async with self._opening:
            if self._thread is not None:
                return
            thread = ThreadPoolExecutor(1, thread_name_prefix="execgraph-sqlite")
            try:
                self.opened = await in_thread(thread, self._open)
            except BaseException:
                thread.shutdown(wait=False)
                raise
            self._thread = thread

    def _open(self, known: Count | None = None) -> Opened:
        with translated(self.path):
            return open_file(Path(self.path), known)

    async def close(self) -> None:
        """Close the file behind the writes that were asked for before."""
        await self._stop_collecting()
        async with self._opening:
            thread, opened = self._thread, self.opened
            self._thread = self.opened = None
            if thread is None:
                return
            if opened is not None:
                await in_thread(thread, opened.close)
            thread.shutdown(wait=False)

    async def here(self, pin: Pin | None) -> Opened:
        """The file that the path leads to now. Raises StoreReplaced, StoreUnavailable."""
        opened = self.opened
        if opened is None or opened.moved():
            opened = await self._anew()
        if pin is not None:
            pin.hold(opened.token, self.path)
        return opened

    async def _anew(self) -> Opened:
        async with self._opening:
            old, thread = self.opened, self._thread
            if thread is None:
                raise StoreNotOpen(f"sqlite:///{self.path}")
            if old is not None and not old.moved():
                return old
            if old is not None:  # first: within a process two logs of one file are mixed up
                await self._forsake(old, thread)
            opened = self.opened = await in_thread(thread, lambda: self._open(self._known))
        _log.warning(
            "%s was replaced or deleted while it was in use; what is there now has been opened, and"
            " nothing that was read before is relied on",
            self.path,
        )
        return opened

    async def _forsake(self, old: Opened, thread: ThreadPoolExecutor) -> None:
        await self._stop_collecting()

        def forsake() -> Count | None:
            known = old.changes()
            old.forsake()
            return known

        self.opened = None
        self._known = await in_thread(thread, forsake) or self._known

    async def just_now(self, pin: Pin | None) -> Opened:
        """``here``, for a call that belongs to the one before it, which has looked."""
        if pin is not None and pin.looked and self.opened is not None:
            pin.looked = False
            pin.hold(self.opened.token, self.path)
            return self.opened
        return await self.here(pin)

    async def reading(
        self,
        pin: Pin | None,
        namespace: str,
        work: Callable[Concatenate[sqlite3.Connection, int, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T | None:
        """What ``work`` reads on the event loop; None for a namespace nobody wrote to."""
        until = deadline()
        with translated(self.path):
            while True:
                opened = await self.here(pin)
                try:
                    ns = _namespace(opened, namespace)
                    return None if ns is None else work(opened.read, ns, *args, **kwargs)
                except sqlite3.Error as error:
                    if not passes(error, until) and not opened.moved():
                        raise
                await asyncio.sleep(PAUSE)

    async def writing(self, pin: Pin | None, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What ``work`` returns from the writer's thread. It is one transaction, or none.

        What was written to a file that had lost its name by then is written again.
        """
        for _ in range(_TRIES):
            opened, thread = await self.here(pin), self._thread
            assert thread is not None
            try:
                return await in_thread(thread, partial(self._written, opened, work))
            except _FileReplaced:
                continue
        raise StoreUnavailable(f"{self.path} is replaced again and again while it is written to")

    def _written(self, opened: Opened, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with translated(self.path):
            try:
                done = patiently(lambda: work(opened.write))
            except sqlite3.Error:
                if opened.moved():
                    raise _FileReplaced from None
                raise
        if opened.moved():
            raise _FileReplaced
        return done

    async def collecting(self, pin: Pin | None, work: Callable[[FileCollector], _T]) -> _T:
        """What ``work`` returns from a thread of its own: it may read the whole store."""
        await self.here(pin)
        if self._collector is None:
            thread = ThreadPoolExecutor(1, thread_name_prefix="execgraph-collect")
            self._collector = thread, FileCollector(self.path)
        thread, collector = self._collector

        def job() -> _T:
            with translated(self.path):
                return work(collector)

        return await in_thread(thread, job)

    async def _stop_collecting(self) -> None:
        if self._collector is not None:
            (thread, collector), self._collector = self._collector, None
            collector.interrupt()
            await in_thread(thread, collector.close)
            thread.shutdown(wait=False)


class _FileReplaced(Exception):
    """The file had lost its name when the work on it was done."""


def _namespace(opened: Opened, namespace: str) -> int | None:
    if namespace not in opened.namespaces:
        known = find(opened.read, "namespace", name=namespace)
        if known is None:
            return None
        opened.namespaces[namespace] = known
    return opened.namespaces[namespace]


async def in_thread(thread: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
    """What ``work`` gives there."""
    return await asyncio.get_running_loop().run_in_executor(thread, work)
