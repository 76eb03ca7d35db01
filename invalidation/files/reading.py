"""Reading one file as a document, also while it is being written."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

from ...graphstore.canonical import Json
from ...graphstore.threads import in_thread
from ..formats import Format, format_of, parse
from ..source import Unreadable
from .stamps import FileStamp, file_stamp

__all__ = ["FileReader", "settled"]

_FRESH_SECONDS = 2.0  # what does not parse may be half-written if it changed that recently
_TRIES = 5  # how often a file that is being written is read before it is given up

# Files of more bytes are parsed one at a time: what runs in Python holds up all other threads a
# little, and several such the event loop too.
_LARGE = 256 * 1024
_turn = threading.Lock()


class _Unsettled(Exception):
    """A file that may be readable in a moment. ``stamp``: how it was seen, if it held still."""

    def __init__(self, message: str, stamp: FileStamp) -> None:
        super().__init__(message)
        self.stamp = stamp


async def settled(read: Callable[[], Json], pause: float) -> Json:
    """Read in a thread, again until the file stays as it is, with ``pause`` seconds between.

    Raises Unreadable after some tries.
    """
    before, why = None, ""
    for _ in range(_TRIES):
        try:
            return await in_thread(read)
        except _Unsettled as error:
            if error.stamp is not None and error.stamp == before:
                raise Unreadable(str(error)) from None
            before, why = error.stamp, str(error)
            await asyncio.sleep(pause)
    raise Unreadable(why)


class FileReader:
    """Reads files of one format (None: by suffix) and at most so many bytes. Blocks."""

    def __init__(self, format: Format | None, max_bytes: int) -> None:  # noqa: A002
        self._format = format
        self._max_bytes = max_bytes

    def document(self, path: str) -> Json:
        """What the file says. Raises Unreadable, OSError, and what ``settled`` waits for."""
        data, status = self._bytes(path)
        suffix = os.path.splitext(path)[1]  # noqa: PTH122
        try:
            with _turn if len(data) > _LARGE else nullcontext():
                return parse(data, self._format or format_of(suffix))
        except Unreadable as error:
            message = f"{path} {error}"
            if time.time() - status.st_mtime < _FRESH_SECONDS:
                raise _Unsettled(message, file_stamp(status)) from None
            raise Unreadable(message) from None

    def _bytes(self, path: str) -> tuple[bytes, os.stat_result]:
        # Without O_NONBLOCK, opening what has become a pipe would wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            before = os.fstat(file.fileno())
            self._check(path, before)
            data = file.read(self._max_bytes + 1)
            after = os.fstat(file.fileno())
        now = os.stat(path)  # noqa: PTH116
        held = file_stamp(before) == file_stamp(after) == file_stamp(now)
        if not held or len(data) > self._max_bytes:
            raise _Unsettled(f"{path} keeps changing while it is read", None)
        return data, after

    def _check(self, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"{path} is no regular file")
        if status.st_size > self._max_bytes:
            raise Unreadable(
                f"{path} has {status.st_size:,} bytes, and at most {self._max_bytes:,} are"
                " read; give the parts that matter files of their own, or set max_bytes="
            )
