"""Approvals: asked for, answered, and read. All of it blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import timedelta

from ..model import Approval, ApprovalState, EffectState
from ..records import approval_of, flat
from ..roles.approvals import Precedent
from .clock import now_ms
from .connection import writing
from .names import Names
from .queries import QUERIES

__all__ = ["answer", "approval", "approvals", "precedents", "request"]


def request(
    connection: sqlite3.Connection,
    namespace: str,
    asked: Approval,
    lasts: timedelta,
    hearer: str,
) -> Approval:
    """Give what there is of the same digest, else keep what is asked."""
    with writing(connection):
        names, now = Names(connection, namespace), now_ms()
        of = {"ns": names.ns, "hearer": hearer}
        wanted = {"digest": asked.digest, "now": now, **of}
        rows = connection.execute(QUERIES["open_approval"], wanted).fetchall()
        if known := [approval_of(row, now) for row in rows]:
            # What the hearer was told already, else what was asked first.
            found = min(known, key=lambda it: (it.heard_by is None, it.requested_at, it.id))
            if found.state is ApprovalState.DENIED:
                names.run("hear_denial", id=found.id, **of)
            return found
        times = {"requested_at": now, "expires_at": now + lasts // timedelta(milliseconds=1)}
        kept = asked.model_copy(update={**times, "state": ApprovalState.PENDING})
        names.run("add_approval", ns=names.ns, **flat(kept))
        row = names.row("approval", ns=names.ns, id=asked.id)
        assert row is not None
    return approval_of(row, now)


def answer(
    connection: sqlite3.Connection,
    namespace: str,
    id_: str,
    said: Mapping[str, str | None],
) -> Approval | None:
    """Keep what is ``said`` if it is the first answer, and give what is kept."""
    with writing(connection):
        names, now = Names(connection, namespace), now_ms()
        names.run("answer_approval", ns=names.ns, id=id_, now=now, **said)
        row = names.row("approval", ns=names.ns, id=id_)
    return None if row is None else approval_of(row, now)


def approval(connection: sqlite3.Connection, ns: int, id_: str) -> Approval | None:
    """The approval with this id."""
    row = connection.execute(QUERIES["approval"], {"ns": ns, "id": id_}).fetchone()
    return None if row is None else approval_of(row, now_ms())


def approvals(connection: sqlite3.Connection, ns: int, limit: int) -> list[Approval]:
    """Those that are pending, oldest first."""
    now = now_ms()
    rows = connection.execute(QUERIES["pending_approvals"], {"ns": ns, "now": now, "limit": limit})
    return [approval_of(row, now) for row in rows]


def precedents(
    connection: sqlite3.Connection, ns: int, task: str, tool: str, limit: int
) -> list[Precedent]:
    """The newest ones of a tool in a task, newest first."""
    wanted = {"ns": ns, "task": task, "tool": tool, "limit": limit}
    now = now_ms()
    return [
        Precedent(approval_of(kept, now), None if state is None else EffectState(state))
        for *kept, state in connection.execute(QUERIES["precedents"], wanted)
    ]
