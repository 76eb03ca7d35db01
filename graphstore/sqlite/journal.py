"""What runs that have not ended have decided and done so far. All of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from ..model import JournalEntry
from .connection import writing
from .names import Names

__all__ = ["age_journal", "forget_journal", "journal", "write_entries"]


def journal(
    connection: sqlite3.Connection, namespace: str, entries: Sequence[JournalEntry]
) -> None:
    """Keep entries; those that are there stay as they are."""
    with writing(connection):
        write_entries(Names(connection, namespace), entries)


def write_entries(names: Names, entries: Sequence[JournalEntry]) -> None:
    """Keep entries, in the open transaction."""
    for entry in entries:
        names.run("journal", ns=names.ns, **entry._asdict())


def forget_journal(
    connection: sqlite3.Connection, namespace: str, executions: Collection[str]
) -> None:
    """Delete the entries of these executions."""
    with writing(connection):
        names = Names(connection, namespace)
        names.run("forget_journal", ns=names.ns, executions=json.dumps(sorted(executions)))


def age_journal(connection: sqlite3.Connection, namespace: str, before: int) -> None:
    """Delete the entries kept before this moment, and the wishes of before."""
    with writing(connection):
        names = Names(connection, namespace)
        names.run("age_journal", ns=names.ns, before=before)
        names.run("age_wishes", ns=names.ns, before=before)
