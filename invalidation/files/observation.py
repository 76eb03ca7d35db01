"""Hints of the operating system that something in a directory changed, through watchdog.

The directories are watched as they really are: what a symbolic link leads to, under the path it
was reached at. Which links and directories there are may change as well; an observation that no
longer looks at the right ones is ``stale``, and another takes its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .places import Places

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

__all__ = ["Observation", "PathEvent", "exhausted"]

_log = logging.getLogger("execgraph")

_Report = Callable[["FileSystemEvent"], None]


@dataclass(frozen=True, slots=True)
class PathEvent:
    """Something happened at these real paths."""

    paths: tuple[str, ...]
    of_directory: bool


class Observation:
    """Watchdog's threads, looking at ``places`` on behalf of one event loop."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self._wake = asyncio.Event()
        self._signalled = False
        self._events: deque[PathEvent] = deque()
        self._last = 0.0
        self._entry_changed = False

    def start(self) -> None:
        """Start watching; blocks. Raises OSError (see ``exhausted``)."""
        from watchdog.observers import Observer

        _calm()
        with self._lock:
            # Constructing it starts threads already, so it is kept before anything can fail.
            self._observer = Observer()
            self._observer.start()
            for real, deep in self.places.deep.items():
                self._schedule(real, self._inside, recursive=deep)
            for directory, entries in self.places.passed_in().items():
                self._schedule(directory, partial(self._about, entries), recursive=False)
            # Last: of directories below one it watches, watchdog does not tell that the limit
            # is reached, so at least one more watch must succeed after them.
            for real, names in self.places.entries.items():
                self._schedule(real, partial(self._entry_of, names), recursive=False)

    def stop(self) -> None:
        """Stop watching, and wait for the threads to end. Stopping twice does nothing."""
        with self._lock:
            observer, self._observer = self._observer, None
            if observer is not None:
                observer.stop()
                if observer.is_alive():
                    observer.join()

    @property
    def stale(self) -> bool:
        """Whether the observation no longer looks at what it should."""
        return self._entry_changed or self._dead() or self.places.moved()

    def _dead(self) -> bool:
        observer = self._observer
        if observer is None:  # it was told to stop
            return True
        if observer.is_alive() and all(reader.is_alive() for reader in _readers(observer)):
            return not all(emitter.is_alive() for emitter in observer.emitters)
        if self._observer is observer:  # or it was told so meanwhile
            _log.warning("watching for changes of files stopped unexpectedly; it is begun anew")
        return True

    async def burst(self, *, quiet: float, longest: float, patience: float) -> list[PathEvent]:
        """The next events: until nothing happened for ``quiet`` seconds, at most ``longest``.

        Nothing after ``patience`` seconds without any.
        """
        try:
            async with asyncio.timeout(patience):  # wait_for of Python 3.11 may lose a cancellation
                await self._wake.wait()
        except TimeoutError:
            return []
        until = time.monotonic() + longest
        # Each event moves the end, so there is nothing to wait for but time.
        while (wait := min(self._last + quiet, until) - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait)
        self._wake.clear()
        self._signalled = False  # first: what is appended from here on wakes this again
        return [self._events.popleft() for _ in range(len(self._events))]

    # In watchdog's threads ----------------------------------------------------------------

    def _schedule(self, path: str, report: _Report, *, recursive: bool) -> None:
        from watchdog import events

        class Handler(events.FileSystemEventHandler):
            def dispatch(self, event: FileSystemEvent) -> None:
                report(event)

        # Not what merely reading causes: it would be its own cause.
        wanted: list[type[FileSystemEvent]] = [
            events.DirCreatedEvent,
            events.DirDeletedEvent,
            events.DirMovedEvent,
            events.FileClosedEvent,
            events.FileCreatedEvent,
            events.FileDeletedEvent,
            events.FileModifiedEvent,
            events.FileMovedEvent,
        ]
        if hasattr(events, "FileAttribEvent"):  # watchdog 6 reports it as a modification
            wanted.append(events.FileAttribEvent)
        assert self._observer is not None
        # A directory that is gone by now makes this stale, which is seen soon.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._observer.schedule(Handler(), path, recursive=recursive, event_filter=wanted)

    def _inside(self, event: FileSystemEvent) -> None:
        self._put(PathEvent(_paths(event), event.is_directory))

    def _about(self, entries: set[str], event: FileSystemEvent) -> None:
        if touched := entries.intersection(_paths(event)):
            self._put(PathEvent(tuple(touched), of_directory=False))

    def _entry_of(self, entries: set[str], event: FileSystemEvent) -> None:
        if entries.intersection(_paths(event)):
            self._entry_changed = True
            self._put(PathEvent((), of_directory=True))

    def _put(self, event: PathEvent) -> None:
        self._last = time.monotonic()
        self._events.append(event)
        if not self._signalled:
            self._signalled = True
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._wake.set)


def _readers(observer: BaseObserver) -> list[threading.Thread]:
    """The threads that read for all emitters: watchdog 7 has one, and no public name for it."""
    return [held for held in vars(observer).values() if isinstance(held, threading.Thread)]


def _calm() -> None:
    """Keep what watchdog says of its own races, which do no harm, from those who cannot help it."""
    logging.getLogger("watchdog.observers.inotify").addFilter(_of_a_thread_that_ends)
    # A directory that is moved while it is entered; as an error it would end a thread.
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)


def _of_a_thread_that_ends(record: logging.LogRecord) -> bool:
    return "called when the thread is inactive" not in str(record.msg)


def exhausted(error: OSError) -> str | None:
    """The limit to raise if ``error`` means that no more can be watched; None: it does not."""
    if error.errno == errno.ENOSPC:
        return "sysctl fs.inotify.max_user_watches"
    if error.errno == errno.EMFILE:
        return "sysctl fs.inotify.max_user_instances, or open files (ulimit -n)"
    return None


def _paths(event: FileSystemEvent) -> tuple[str, ...]:
    return tuple(os.fsdecode(path) for path in (event.src_path, event.dest_path) if path)
