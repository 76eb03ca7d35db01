"""Leases by the store's clock. All of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple

from ..roles.leases import Held
from .clock import now_ms
from .connection import writing
from .names import Names
from .queries import QUERIES

__all__ = ["Wanted", "holder", "lease", "release"]


class Wanted(NamedTuple):
    """A lease as ``Leases.lease`` is asked for it."""

    name: str
    owner: str
    duration: timedelta
    instead_of: str | None
    waits_for: Collection[str]


def lease(connection: sqlite3.Connection, namespace: str, wanted: Wanted) -> bool:
    """Take or extend a lease; False if another owner holds it."""
    with writing(connection):
        names, now = Names(connection, namespace), now_ms()
        held = names.row("lease", ns=names.ns, name=wanted.name)
        may_have_it = (wanted.owner, wanted.instead_of)
        if held is not None and held[0] not in may_have_it and _lasts(held[1:3], now):
            return False
        names.run(
            "set_lease",
            ns=names.ns,
            name=wanted.name,
            owner=wanted.owner,
            given=now,
            until=now + wanted.duration // timedelta(milliseconds=1),
            waits_for=json.dumps(list(wanted.waits_for)),
        )
    return True


def release(connection: sqlite3.Connection, namespace: str, name: str, owner: str) -> None:
    """Give up a lease, if it is this owner's."""
    with writing(connection):
        names = Names(connection, namespace)
        names.run("release", ns=names.ns, name=name, owner=owner)


def holder(connection: sqlite3.Connection, ns: int, name: str) -> Held | None:
    """Who was given a lease last, unless it was given up."""
    row = connection.execute(QUERIES["lease"], {"ns": ns, "name": name}).fetchone()
    if row is None:
        return None
    owner, given, until, waits_for = row
    return Held(owner, _lasts((given, until), now_ms()), tuple(json.loads(waits_for)))


def _lasts(times: tuple[int, int], now: int) -> bool:
    """Whether a lease holds; one that will be given in the future was given before the clock was
    set back."""
    given, until = times
    return given <= now < until
