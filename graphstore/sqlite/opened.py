"""Which file is open: the path may lead to another one by now. All of it blocks.

An open connection stays with the file that it was opened on, whatever becomes of the name: a
backup is renamed over it, its folder is deleted, a link leads elsewhere, its log is removed. What
is acknowledged there nobody else will ever see, and what others are told is not seen there. So
the path is looked at before the file is used, and after each write; if it leads elsewhere, what
it leads to is opened, and nothing that was read before says anything of that.
"""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from ..errors import StoreUnavailable
from .connection import connect, connect_to_read
from .witness import Count, count, path_of

__all__ = ["Opened", "open_file"]

_TRIES = 5

_Identity = tuple[int, int, int, int, int, int] | None
_Folder = tuple[int, int, int, int] | None

#: What a folder holds is what it held if its times have not moved, once they are older than the
#: coarsest clock of a file system.
_SETTLED_NS = 2_000_000_000


class _Names:
    """Three names in a folder, and which files they led to. Asking takes one look at the folder
    as long as no name in it has come or gone."""

    def __init__(self, names: tuple[str, str, str], identity: _Identity) -> None:
        self._names = names
        self._identity = identity
        self._folder = str(Path(names[0]).parent)
        self._told_by_folder = not Path(names[0]).is_symlink()
        self._settled: _Folder = None

    def moved(self) -> bool:
        """Whether one of them leads elsewhere now."""
        folder = _state(self._folder)
        if folder is not None and folder == self._settled:
            return False
        if self._identity is None or _identity(self._names) != self._identity:
            return True
        self._settled = folder if self._told_by_folder and _is_old(folder) else None
        return False


@dataclass(frozen=True)
class Opened:
    """The file as this process has it open. ``token`` is of this one opening alone."""

    read: sqlite3.Connection
    write: sqlite3.Connection
    names: _Names  # of the file and its two logs
    token: str = field(default_factory=lambda: uuid4().hex)
    namespaces: dict[str, int] = field(default_factory=dict)  # rids as committed; never changed

    def moved(self) -> bool:
        """Whether the path leads to another file now, or a log is not the one in use."""
        return self.names.moved()

    def close(self) -> None:
        """Close both connections; the last one of all processes folds in the log."""
        if self.moved():
            self.forsake()
        else:
            self.read.close()
            self.write.close()

    def forsake(self) -> None:
        """Let go of a file that has lost its name.

        SQLite folds the log in when the last connection is closed, and deletes it *by its name*,
        which is that of another file's log by now. A connection that only reads does neither, so
        it is the last one.
        """
        self.write.close()
        self.read.close()

    def changes(self) -> Count | None:
        """How many changes this file knows of; None if it cannot be read any more."""
        try:
            return count(self.read)
        except sqlite3.Error:
            return None


def open_file(path: Path, known: Count | None = None) -> Opened:
    """What the path leads to, made or migrated if need be.

    ``known``: the changes that an earlier file at this path was seen to have; what lacks some of
    them is not believed.
    """
    for _ in range(_TRIES):
        opened = _opened(path, known)
        if not opened.moved():
            return opened
        opened.forsake()
    raise StoreUnavailable(f"{path} is replaced again and again while it is opened")


def _opened(path: Path, known: Count | None) -> Opened:
    before = _identity((str(path),) * 3)
    write = connect(path, known=known)
    try:
        write.execute("PRAGMA busy_timeout = 0")  # ``patiently`` asks again sooner
        real = path_of(write)  # without links; SQLite keeps its logs beside it
        read = connect_to_read(real)
    except BaseException:
        write.close()
        raise
    names = (str(path), f"{real}-wal", f"{real}-shm")
    identity = _identity(names)
    if before is not None and identity is not None and before[:2] != identity[:2]:
        identity = None  # it may have been replaced before it was opened, or after
    return Opened(read, write, _Names(names, identity))


def _identity(names: tuple[str, str, str]) -> _Identity:
    """Device and inode of each; None if one is not there."""
    try:
        file, log, shared = map(os.stat, names)
    except OSError:
        return None
    return file.st_dev, file.st_ino, log.st_dev, log.st_ino, shared.st_dev, shared.st_ino


def _state(folder: str) -> _Folder:
    """Which folder this is, and when a name in it came or went last; None if it is gone."""
    try:
        status = os.stat(folder)  # noqa: PTH116  (before each call: it takes half of what a Path does)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _is_old(folder: _Folder) -> bool:
    return folder is not None and max(folder[2:]) < time.time_ns() - _SETTLED_NS
