"""Leases by the store's clock. All of it blocks."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

from .clock import now_ms
from .connection import writing
from .names import Names

__all__ = ["lease", "release"]


def lease(
    connection: sqlite3.Connection, namespace: str, name: str, owner: str, duration: timedelta
) -> bool:
    """Take or extend a lease; False if another owner holds it."""
    with writing(connection):
        names, now = Names(connection, namespace), now_ms()
        held = names.row("lease", ns=names.ns, name=name)
        if held is not None and held[0] != owner:
            _, token, until = held
            # One that will be given in the future was given before the clock was set back.
            if token <= now < until:
                return False
        until = now + duration // timedelta(milliseconds=1)
        names.run("set_lease", ns=names.ns, name=name, owner=owner, given=now, until=until)
    return True


def release(connection: sqlite3.Connection, namespace: str, name: str, owner: str) -> None:
    """Give up a lease, if it is this owner's."""
    with writing(connection):
        names = Names(connection, namespace)
        names.run("release", ns=names.ns, name=name, owner=owner)
