"""Opening the file: a connection as every part of this store expects it, and its schema."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from .. import store
from ..errors import SchemaTooNew, StoreDamaged, StoreError
from .files import prepare
from .lists import add_functions
from .queries import sections
from .trouble import is_busy
from .witness import (
    Count,
    believe_nothing,
    count,
    counted,
    is_behind,
    remind,
    testify,
    writable,
    write_count,
)

__all__ = [
    "PAUSE",
    "connect",
    "connect_to_read",
    "deadline",
    "passes",
    "patiently",
    "reading",
    "statements",
    "taking_away",
    "writing",
]

_APPLICATION = 0x65786772  # "exgr", in the file's header
_BUSY_MS = 500  # how long SQLite waits for a lock before our own retry has a look

_CACHE_KIB = -16000  # negative: not in pages

PAUSE = 0.005  # seconds between two tries
_FIRST_PAUSE = 0.0003  # a write holds the lock for less: SQLite's own waiting sleeps much longer

_T = TypeVar("_T")


def connect(path: Path, *, known: Count | None = None) -> sqlite3.Connection:
    """A connection to the store at ``path``, made or migrated if need be. Blocks.

    ``known``: changes that an earlier file here was seen to have.
    """
    prepare(path)
    with _connected(path) as connection:
        add_functions(connection)
        patiently(lambda: _set_up(connection, path, known))
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that only reads, beside one to the same file that is open already. Blocks.

    A statement that meets a lock fails at once: the event loop must not sleep in it.
    """
    with _connected(f"{path.as_uri()}?mode=ro", uri=True) as connection:
        connection.execute(f"PRAGMA cache_size = {_CACHE_KIB}")
        patiently(lambda: count(connection))  # by which it takes its place among the file's users
        connection.execute("PRAGMA busy_timeout = 0")
    return connection


@contextmanager
def _connected(to: Path | str, *, uri: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection that is closed if it cannot be set up."""
    connection = sqlite3.connect(
        to,
        uri=uri,
        timeout=_BUSY_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _set_up(connection: sqlite3.Connection, path: Path, known: Count | None) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"{path} cannot keep a write-ahead log (its journal mode stays {mode!r}). Put the file"
            " on a local disk."
        )
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = {_CACHE_KIB}")
    with reading(connection):  # all of it before another process's migration, or after
        version = _version(connection, path)
    if version < len(_migrations()):
        with writing(connection):
            _migrate(connection, path)
        if version == 0:
            testify(connection, count(connection))  # what another file's witness says is not of it
    if known is not None:
        remind(connection, known)
    if is_behind(connection):
        with taking_away(connection):
            believe_nothing(connection)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != _APPLICATION and (tables or version or application):
        raise StoreDamaged(
            f"{path} is an SQLite database of another program. Name a file of its own for"
            " execgraph; a new one is made."
        )
    known = len(_migrations())
    if version > known:
        raise SchemaTooNew(
            f"{path} has schema version {version}, and this execgraph knows {known}: a newer"
            " execgraph wrote it. Upgrade with `pip install --upgrade execgraph`, or name another"
            " file."
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Apply what is missing; under the lock, so that of several processes one does."""
    migrations = _migrations()
    for script in migrations[_version(connection, path) :]:
        for statement in statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _migrations() -> list[str]:
    return list(sections("schema.sql").values())


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: ``executescript`` would commit before it starts."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def deadline() -> float:
    """When to stop repeating what starts now, on the monotonic clock."""
    return time.monotonic() + store.RETRY_SECONDS


def passes(error: sqlite3.Error, until: float) -> bool:
    """Whether the reason of ``error`` is a passing one, and it is not yet ``until``."""
    return is_busy(error) and time.monotonic() < until


def patiently(work: Callable[[], _T]) -> _T:
    """What ``work`` returns; repeated while another process is in its way. Blocks.

    ``work`` must leave no transaction open when it fails. Raises the last error after
    ``RETRY_SECONDS``.
    """
    until, pause = deadline(), _FIRST_PAUSE
    while True:
        try:
            return work()
        except sqlite3.Error as error:
            if not passes(error, until):
                raise
        time.sleep(pause)
        pause = min(pause * 1.5, PAUSE)


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction, which holds the store's only write lock from its start."""
    connection.execute("BEGIN IMMEDIATE")
    with _ended(connection):
        yield


def begin_and_end(connection: sqlite3.Connection) -> None:
    """A write transaction that writes nothing, and fails as one that does."""
    with writing(connection):
        pass


@contextmanager
def taking_away(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction after which less may be replayed: its commit outlives a power loss.

    What is lost otherwise is a recording, and costs tokens; this would be a stale replay.
    """
    connection.execute("PRAGMA synchronous = FULL")
    try:
        with writable(connection) as witness:
            with writing(connection):
                yield
                changes = counted(connection)
            write_count(witness, changes)
    finally:
        connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """One read transaction: a snapshot from its first statement on."""
    connection.execute("BEGIN")
    with _ended(connection):
        yield


@contextmanager
def _ended(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
