"""What callers want done, and the runs that hold it. All of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any

from ..errors import WishLost
from ..model import Attempts, JournalEntry, Unfinished, Wish, WishState
from ..records import effect_of
from .clock import now_ms
from .connection import reading, writing
from .names import Names
from .queries import QUERIES

__all__ = ["attempts", "claim", "end_wish", "keep", "renew_wishes", "unfinished"]


def claim(connection: sqlite3.Connection, namespace: str, wish: Wish, over: str | None) -> Wish:
    """Keep a wish that is not there, or take it over from ``over``; what is kept then."""
    with writing(connection):
        names, now = Names(connection, namespace), now_ms()
        if over is None:
            names.run("hold_wish", ns=names.ns, now=now, **_columns(wish))
        else:
            names.run("take_wish_over", ns=names.ns, now=now, over=over, **_columns(wish))
        kept = names.row("wish", ns=names.ns, key=wish.key, now=now)
    return wish._replace(execution="") if kept is None else _wish(kept)


def keep(names: Names, wish: Wish, now: int) -> None:
    """Keep the wish of a run that begins an effect. Raises WishLost if it has a run id, and another
    run holds it."""
    if wish.run_id is None:
        names.run("hold_wish", ns=names.ns, now=now, **_columns(wish))
        return
    kept = names.row("wish", ns=names.ns, key=wish.key, now=now)
    if kept is None or _wish(kept).execution != wish.execution:
        raise WishLost(f"the run {wish.run_id!r} is held by another execution")


def end_wish(connection: sqlite3.Connection, namespace: str, wish: Wish) -> bool:
    """Keep the state and the result of a wish that is still held."""
    with writing(connection):
        names = Names(connection, namespace)
        ended = {"ns": names.ns, "now": now_ms(), **_columns(wish)}
        return connection.execute(QUERIES["end_wish"], ended).rowcount > 0


def renew_wishes(
    connection: sqlite3.Connection, namespace: str, executions: Collection[str]
) -> None:
    """Note that these runs are at work."""
    with writing(connection):
        names = Names(connection, namespace)
        held = json.dumps(sorted(executions))
        names.run("renew_wishes", ns=names.ns, executions=held, now=now_ms())


def unfinished(
    connection: sqlite3.Connection, ns: int, task: str, exact: str, limit: int
) -> Unfinished:
    """The open wishes of the exact task, and the newest entries of the task's unfinished runs."""
    where = {"ns": ns, "task": task, "exact": exact, "limit": limit}
    with reading(connection):
        wishes = connection.execute(QUERIES["open_wishes"], {**where, "now": now_ms()}).fetchall()
        entries = connection.execute(QUERIES["journaled"], where).fetchall()
    return Unfinished(tuple(map(_wish, wishes)), tuple(JournalEntry(*row) for row in entries))


def attempts(connection: sqlite3.Connection, ns: int, wish: str) -> Attempts:
    """What the runs of a wish have begun and done."""
    where = {"ns": ns, "wish": wish}
    with reading(connection):
        effects = connection.execute(QUERIES["effects_of_wish"], where).fetchall()
        entries = connection.execute(QUERIES["journal_of_wish"], where).fetchall()
    return Attempts(tuple(map(effect_of, effects)), tuple(JournalEntry(*row) for row in entries))


def _wish(row: tuple[Any, ...]) -> Wish:
    wish = Wish(*row)
    return wish._replace(state=WishState(wish.state))


def _columns(wish: Wish) -> dict[str, Any]:
    return {**wish._asdict(), "state": wish.state.value}
