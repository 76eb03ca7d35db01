"""Knowing that acknowledged changes are gone: a count of them beside the file.

SQLite brings back what is in its log, as far as the log is whole. If somebody deletes or cuts the
log, or puts an older copy of the file in its place, the newest changes are gone without a word,
and what they took away would be replayed. So each change counts itself in its transaction, and
the count is written to a file of its own, the *witness*, before the change is acknowledged. A
store that counts less than its witness has lost changes: then nothing is believed any more before
it is observed again. All of it blocks.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ..errors import StoreAccessDenied
from .queries import QUERIES

__all__ = [
    "Count",
    "believe_nothing",
    "count",
    "counted",
    "is_behind",
    "path_of",
    "remind",
    "testify",
    "witness_of",
]

_log = logging.getLogger("execgraph")

_FILE_MODE = 0o600
_LONGEST = 100  # bytes
_MOST = 10**18


class Count(NamedTuple):
    """How many changes a store has seen. ``store``: an id, made with its schema."""

    store: str
    changes: int


def witness_of(path: Path) -> Path:
    """The file that says how many changes were acknowledged."""
    return path.with_name(path.name + "-witness")


def counted(connection: sqlite3.Connection) -> Count:
    """Count the change that the open transaction makes."""
    return Count(*connection.execute(QUERIES["count_change"]).fetchone())


def testify(connection: sqlite3.Connection, known: Count) -> None:
    """Let the witness know, before the change is acknowledged.

    Of two processes the one that is behind may write last; the next change puts that right.
    """
    with writable(connection) as file:
        write_count(file, known)


@contextmanager
def writable(connection: sqlite3.Connection) -> Iterator[int]:
    """The witness, open to be written. Raises StoreError if it cannot be: a change that nobody
    could testify to must not be made."""
    store = path_of(connection)
    path = witness_of(store)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    except OSError as error:
        raise StoreAccessDenied(
            f"{path} cannot be written ({error.strerror}), so no change is made: this file says"
            " how many changes were acknowledged. Let this user write it, or delete it if it is"
            " no file."
        ) from error
    try:
        _as_open_as(file, store)
        yield file
    finally:
        os.close(file)


def write_count(file: int, known: Count) -> None:
    """Write what the witness is to know, unless it knows more."""
    written = _parsed(os.pread(file, _LONGEST, 0))
    if written is None or written.store != known.store or written.changes < known.changes:
        os.pwrite(file, f"{known.store} {known.changes:020d}\n".encode(), 0)


def remind(connection: sqlite3.Connection, known: Count) -> None:
    """Let the witness know what this process has seen of the file that was here before."""
    now = count(connection)
    if now.store == known.store and now.changes < known.changes:
        testify(connection, known)


def _as_open_as(file: int, path: Path) -> None:
    """SQLite gives its own files the mode of the store's; who shares that shares this."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:  # deleted by now, which is found out soon
        return
    if stat.S_IMODE(os.fstat(file).st_mode) != mode:
        with suppress(PermissionError):  # it is somebody else's, who sees to it
            os.fchmod(file, mode)


def is_behind(connection: sqlite3.Connection) -> bool:
    """Whether changes are gone that were acknowledged."""
    acknowledged = _read(path_of(connection))
    if acknowledged is None:
        return False
    known = count(connection)
    if acknowledged.store == known.store:
        return known.changes < acknowledged.changes
    # Else it is a new file, in the place of one that was deleted.
    (resource,) = connection.execute(QUERIES["any_resource"]).fetchone()
    return resource is not None


def believe_nothing(connection: sqlite3.Connection) -> None:
    """Let all facts and approvals expire, in the open transaction, if that is still to be done."""
    if not is_behind(connection):
        return
    path = path_of(connection)
    now, acknowledged = count(connection), _read(path) or Count("", 0)
    most = max(now.changes, acknowledged.changes)
    for name in ("renumber_versions", "renumber_holds", "renumber_events"):
        connection.execute(QUERIES[name], {"lost": most + 1})
    known = connection.execute(QUERIES["believe_nothing"], {"lost": most + 1}).rowcount
    connection.execute(QUERIES["close_approvals"])
    connection.execute(QUERIES["count_from"], {"changes": most})
    _log.warning(
        "%s has lost changes that were acknowledged (it knows of %d, and %d were made): its log"
        " was deleted or cut, or another copy was put in its place. What it knew of %d resources"
        " is not believed until they are observed again.",
        path,
        now.changes,
        acknowledged.changes,
        known,
    )


def count(connection: sqlite3.Connection) -> Count:
    """How many changes the store knows of."""
    return Count(*connection.execute(QUERIES["count_of_changes"]).fetchone())


def _read(path: Path) -> Count | None:
    try:
        return _parsed(witness_of(path).read_bytes())
    except OSError:
        return None


def _parsed(data: bytes) -> Count | None:
    try:
        store, changes = data.decode("ascii").split()
        parsed = Count(store, int(changes))
    except ValueError:
        return None
    return parsed if 0 <= parsed.changes < _MOST else None


def path_of(connection: sqlite3.Connection) -> Path:
    """The file as SQLite knows it, without symbolic links."""
    ((_, _, path),) = connection.execute("PRAGMA database_list").fetchall()[:1]
    return Path(path)
