"""From what SQLite and the file system raise to what the store promises to raise."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import StoreAccessDenied, StoreDamaged, StoreError, StoreUnavailable

__all__ = ["is_busy", "translated"]

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DENIED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

#: What our own statements meet only where the schema or a text is not what was written.
_NOT_OURS = ("no such", "Could not decode")


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection is in the way: the statement may be repeated."""
    return _code(error) in _BUSY


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raises a StoreError that names the file for any trouble with it."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path) from error
    except UnicodeEncodeError as error:
        raise StoreError(
            f"a name holds half a character (a lone surrogate, {error.reason}), which {path}"
            " cannot store as text. Payloads may hold it; names of namespaces, resources,"
            " selectors, agents and tools may not."
        ) from None
    except UnicodeDecodeError as error:  # in a message that quotes the damaged schema, too
        raise StoreDamaged(_damaged(path, "text that is no UTF-8")) from error
    except PermissionError as error:
        raise StoreAccessDenied(_denied(path, str(error.strerror))) from error
    except OSError as error:
        raise StoreError(
            f"the store's file {path} cannot be used: {error.strerror}. Give a path in a folder"
            " of this machine's own disk that you may write to."
        ) from error


def _explain(error: sqlite3.Error, path: str) -> StoreError:
    code = _code(error)
    if code in _BUSY:
        return StoreUnavailable(
            f"another process has been writing to {path} for too long. Try again; if it stays,"
            " look for a process that hangs in a transaction (`lsof` on the file names it)."
        )
    if code in _DENIED or code == sqlite3.SQLITE_CANTOPEN:
        return StoreAccessDenied(_denied(path, str(error)))
    if code in _DAMAGED or str(error).startswith(_NOT_OURS):
        return StoreDamaged(_damaged(path, str(error)))
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"the disk under {path} is full; nothing was written. Free some space.")
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(f"the disk under {path} failed ({error}). Check the disk.")
    return StoreError(f"SQLite refuses what was asked of {path}: {error}")


def _damaged(path: str, reason: str) -> str:
    return (
        f"the store's file {path} is damaged, or is no SQLite database at all ({reason})."
        " Restore it from a backup, rescue what is left with `sqlite3 FILE .recover`, or"
        " move it away: a new one is made, and the next runs are recorded anew."
    )


def _denied(path: str, reason: str) -> str:
    return (
        f"the store's file {path} cannot be opened for writing ({reason}). Its folder must be"
        " writable too, because SQLite keeps its log beside the file."
    )


def _code(error: sqlite3.Error) -> int | None:
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF
