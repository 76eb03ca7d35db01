"""Marks: walks that are open, and setting what steps are by the facts of now. All of it blocks.

A mark is a function of facts and of the trace alone, so that a batch may be repeated, and walks
may overtake each other. Writes of a store come one after another: what a batch reads is of one
moment, which is later than the change that opened the walk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from heapq import merge
from itertools import groupby, islice
from typing import NamedTuple

from ..model import Walk
from ..records import walk_of
from .clock import now_ms
from .connection import writing
from .names import Names
from .queries import QUERIES

__all__ = ["marks", "open_walk_if_moved", "open_walk_of_event", "walk", "walks"]

#: An execution's rid, and in its lowest bits a position: one number costs half of what two do.
_Step = int
_POSITION = 32


def open_walk_of_event(names: Names, event_rid: int, now: int) -> None:
    """Let the walker look at what rests on the facets of this change event."""
    names.run("open_walk", ns=names.ns, event=event_rid, execution=None, at=now)


def open_walk_if_moved(names: Names, execution: int, now: int) -> bool:
    """Let the walker look at an execution, if a guard of its steps does not hold by now."""
    guards = _column(names.connection, "preconditions_of_execution", execution=execution)
    moved = not all(holds for _, holds in _judged(names.connection, guards))
    # A facet that was first computed meanwhile leaves no event.
    if moved or names.row("is_marked", execution=execution) is not None:
        names.run("open_walk", ns=names.ns, event=None, execution=execution, at=now)
        return True
    return False


def walks(connection: sqlite3.Connection, ns: int, limit: int) -> list[Walk]:
    """The walks that have not ended, oldest first."""
    rows = connection.execute(QUERIES["open_walks"], {"ns": ns, "limit": limit})
    return [walk_of(row) for row in rows]


def marks(connection: sqlite3.Connection, ns: int, execution: str) -> dict[int, str]:
    """The invalid steps of an execution: by position, why."""
    return dict(connection.execute(QUERIES["marks"], {"ns": ns, "id": execution}).fetchall())


class _Open(NamedTuple):
    """An open walk's row: of an event or of an execution."""

    rid: int
    event: int | None
    execution: int | None
    cursor: int
    ended_at: int | None


def walk(connection: sqlite3.Connection, namespace: str, key: str, batch: int) -> Walk | None:
    """One batch of an open walk; None if there is no such walk, or no more."""
    if batch < 1:
        raise ValueError(f"a batch of {batch} executions is none; look at 1 or more at a time")
    with writing(connection):
        names = Names(connection, namespace)
        row = names.row("walk_of_event", ns=names.ns, id=key)
        row = row or names.row("walk_of_execution", ns=names.ns, id=key)
        if row is None or (opened := _Open(*row)).ended_at is not None:
            return None
        preconditions, executions = _next(connection, opened, batch)
        marked, cleared, visited = 0, 0, 0
        if executions:
            within = (executions[0] - 1, executions[-1])
            marked, cleared, visited = _mark(connection, preconditions, within)
        ended = opened.event is None or len(executions) < batch
        names.run(
            "go_on_walking",
            walk=opened.rid,
            cursor=executions[-1] if executions else opened.cursor,
            marked=marked,
            cleared=cleared,
            visited=visited,
            ended_at=now_ms() if ended else None,
        )
        return walk_of(connection.execute(QUERIES["walk"], {"walk": opened.rid}).fetchone())


def _next(connection: sqlite3.Connection, opened: _Open, batch: int) -> tuple[list[int], list[int]]:
    """The preconditions to start from, and the rids of the executions to look at."""
    if opened.event is None:
        guards = _column(connection, "preconditions_of_execution", execution=opened.execution)
        return guards, [] if opened.execution is None else [opened.execution]
    moved = _column(connection, "moved_preconditions", event=opened.event)
    rows = [
        _column(
            connection,
            "executions_guarded",
            precondition=precondition,
            after=opened.cursor,
            limit=batch,
        )
        for precondition in moved
    ]
    return moved, [rid for rid, _ in islice(groupby(merge(*rows)), batch)]


def _mark(
    connection: sqlite3.Connection, preconditions: Collection[int], within: tuple[int, int]
) -> tuple[int, int, int]:
    """Set the marks of what rests on ``preconditions`` in the executions after the first number
    up to the second: how many steps are invalid, how many valid, how many edges lead there."""
    after, through = within
    edges: list[tuple[_Step, int | None, _Step | None]] = connection.execute(
        QUERIES["affected"],
        {"preconditions": json.dumps(list(preconditions)), "after": after, "through": through},
    ).fetchall()
    guards = [(step, guard) for step, guard, _ in edges if guard is not None]
    feeds = [(step, source) for step, _, source in edges if source is not None]
    steps = {step for step, _, _ in edges}
    before = _marks_of(connection, {step >> _POSITION for step in steps})
    judged = _judged(connection, {guard for _, guard in guards}.union(before.values()))
    least = {rid: index for index, (rid, _) in enumerate(judged)}
    broken = {rid: least[rid] for rid, holds in judged if not holds}

    now = {step: least[rid] for step, rid in before.items() if step not in steps}
    for step, guard in guards:
        if guard in broken:
            now[step] = min(broken[guard], now.get(step, broken[guard]))
    for step, source in sorted(feeds):  # whatever leads to a source comes before what it feeds
        if source in now:
            now[step] = min(now[source], now.get(step, now[source]))

    _write(connection, before, {step: judged[why][0] for step, why in now.items()})
    invalid = sum(step in now for step in steps)
    return invalid, len(steps) - invalid, len(edges)


def _write(
    connection: sqlite3.Connection, before: Mapping[_Step, int], now: Mapping[_Step, int]
) -> None:
    """Rows that differ, and no others."""
    gone = [_row(step) for step in before if step not in now]
    new = [(*_row(step), why) for step, why in now.items() if before.get(step) != why]
    connection.executemany(QUERIES["remove_mark"], gone)
    connection.executemany(QUERIES["set_mark"], new)


def _row(step: _Step) -> tuple[int, int]:
    """Its execution and position."""
    return step >> _POSITION, step & (1 << _POSITION) - 1


def _judged(
    connection: sqlite3.Connection, preconditions: Collection[int]
) -> list[tuple[int, bool]]:
    """Their rids, and whether they hold; in the order of their ids, the least of which is told."""
    listed = {"preconditions": json.dumps(list(preconditions))}
    rows = connection.execute(QUERIES["judged_preconditions"], listed)
    return [(rid, bool(holds)) for _, rid, holds in sorted(rows)]


def _marks_of(connection: sqlite3.Connection, executions: Collection[int]) -> dict[_Step, int]:
    listed = {"executions": json.dumps(list(executions))}
    return dict(connection.execute(QUERIES["marks_of_executions"], listed).fetchall())


def _column(connection: sqlite3.Connection, query: str, **parameters: int | None) -> list[int]:
    return [row[0] for row in connection.execute(QUERIES[query], parameters)]
