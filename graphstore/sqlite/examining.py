"""Looking at the file as a whole: whether SQLite finds it sound. All of it blocks."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from ..finding import Finding, Level

__all__ = ["examine"]

_MOST_PROBLEMS = 20
_RESTORE = (
    "stop what uses the file, then restore it from a backup, or rescue what is left with"
    " `sqlite3 FILE .recover`; or move it away: a new one is made, and runs are recorded anew"
)
_LITTLE = 100 << 20  # bytes


def examine(connection: sqlite3.Connection, path: Path) -> list[Finding]:
    """The structure of the file, what its rows refer to, its log, and the disk under it."""
    return [_structure(connection), _references(connection), _log(path), _disk(path)]


def _structure(connection: sqlite3.Connection) -> Finding:
    try:
        rows = connection.execute(f"PRAGMA integrity_check({_MOST_PROBLEMS})").fetchall()
    except sqlite3.DatabaseError as error:
        return Finding(Level.ERROR, "file", f"it cannot be read: {error}", _RESTORE)
    problems = [row[0] for row in rows if row[0] != "ok"]
    if not problems:
        return Finding(Level.GOOD, "file", "its structure and indexes are sound")
    return Finding(Level.ERROR, "file", f"it is damaged: {'; '.join(problems)}", _RESTORE)


def _references(connection: sqlite3.Connection) -> Finding:
    try:
        problems = connection.execute("PRAGMA foreign_key_check").fetchmany(_MOST_PROBLEMS)
    except sqlite3.DatabaseError as error:
        return Finding(Level.ERROR, "references", f"they cannot be followed: {error}", _RESTORE)
    if not problems:
        return Finding(Level.GOOD, "references", "all rows refer to rows that are there")
    tables = sorted({f"{table} -> {parent}" for table, _, parent, _ in problems})
    return Finding(
        Level.ERROR, "references", f"rows refer to what is gone: {', '.join(tables)}", _RESTORE
    )


def _log(path: Path) -> Finding:
    log = path.with_name(path.name + "-wal")
    size, whole = (it.stat().st_size if it.exists() else 0 for it in (log, path))
    if size > max(whole, 64 << 20):
        return Finding(
            Level.WARNING,
            "log",
            f"it has {size:,} bytes, more than the file itself",
            "look for a process that keeps a transaction open for long (`lsof` on the file)",
        )
    return Finding(Level.GOOD, "log", f"{size:,} bytes beside a file of {whole:,}")


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    if free < _LITTLE:
        return Finding(
            Level.WARNING,
            "disk",
            f"{free:,} bytes are free",
            "free some space, or run execgraph gc",
        )
    return Finding(Level.GOOD, "disk", f"{free >> 20:,} MiB are free")
