"""Reading what runs came to: newest first, in outline, added up, by name. All of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..model import KILLED_AFTER_MS, Execution, Outline, SideEffect
from ..records import effect_of, execution_of, outline_of, preconditions_of
from ..totals import Totals
from .clock import now_ms
from .connection import reading
from .queries import QUERIES
from .traces import named

__all__ = ["dependants", "doubts", "executions", "keys", "namespaces", "totals"]

#: So many traces are read at once: what is put together from rows is then let go of.
_AT_ONCE = 2000

_Edges = Mapping[tuple[int, int], list[Any]]  # by execution and position


def executions(
    connection: sqlite3.Connection, ns: int, agent: str | None, limit: int
) -> list[Execution]:
    """The newest executions that have ended, newest first."""
    wanted = {"ns": ns, "agent": agent, "limit": limit}
    rows = connection.execute(QUERIES["newest_executions"], wanted).fetchall()
    return [execution_of(named(row)) for row in rows]


def dependants(
    connection: sqlite3.Connection, ns: int, preconditions: Iterable[str]
) -> list[Outline]:
    """All traces, in outline, of the tasks that have a step resting on a precondition."""
    wanted = {"ns": ns, "preconditions": json.dumps(sorted(set(preconditions)))}
    with reading(connection):
        rows = connection.execute(QUERIES["dependants"], wanted).fetchall()
        rows.sort(key=lambda row: (row[4], row[1]), reverse=True)  # newest first
        return [
            outline
            for start in range(0, len(rows), _AT_ONCE)
            for outline in _outlines(connection, rows[start : start + _AT_ONCE])
        ]


def _outlines(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> Iterator[Outline]:
    wanted = {"executions": json.dumps([row[0] for row in rows])}
    guards, feeds = (
        _edges(connection.execute(QUERIES[name], wanted))
        for name in ("outline_guards", "outline_feeds")
    )
    known = _preconditions(connection, {rid for some in guards.values() for rid in some})
    steps: dict[int, list[Sequence[Any]]] = defaultdict(list)
    for execution, position, *rest in connection.execute(QUERIES["outline_steps"], wanted):
        at = (execution, position)
        rests = [known[rid][0] for rid in guards.get(at, ())]
        steps[execution].append((position, *rest, rests, feeds.get(at, ())))
    by_id = preconditions_of(known.values())
    for rid, *trace in rows:
        yield outline_of(trace, steps[rid], by_id)


def _edges(rows: Iterable[Sequence[Any]]) -> _Edges:
    edges: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for execution, position, other in rows:
        edges[execution, position].append(other)
    return edges


def _preconditions(connection: sqlite3.Connection, rids: Iterable[int]) -> dict[int, list[Any]]:
    wanted = {"preconditions": json.dumps(sorted(rids))}
    rows = connection.execute(QUERIES["outline_preconditions"], wanted)
    return {rid: fields for rid, *fields in rows}


def totals(connection: sqlite3.Connection, ns: int, since: int | None) -> Totals:
    """What executions came to, all at one moment."""
    wanted = {"ns": ns, "since": since or 0, "silent": now_ms() - KILLED_AFTER_MS}
    with reading(connection):
        groups = connection.execute(QUERIES["totals"], wanted).fetchall()
        misses = connection.execute(QUERIES["total_misses"], wanted).fetchall()
        [traces] = connection.execute(QUERIES["total_traces"], {"ns": ns}).fetchone()
    return Totals.of(groups, misses, traces)


def keys(connection: sqlite3.Connection, ns: int, query: str, after: str, limit: int) -> list[str]:
    """What the statement lists, in order: those that come after ``after``."""
    wanted = {"ns": ns, "after": after, "limit": limit}
    return [row[0] for row in connection.execute(QUERIES[query], wanted)]


def namespaces(connection: sqlite3.Connection, limit: int) -> list[str]:
    """The names of those in which there is something, in order."""
    return [row[0] for row in connection.execute(QUERIES["namespaces"], {"limit": limit})]


def doubts(connection: sqlite3.Connection, ns: int, limit: int) -> list[SideEffect]:
    """Effects that were begun and are not known to have ended, oldest first."""
    rows = connection.execute(QUERIES["doubts"], {"ns": ns, "limit": limit})
    return [effect_of(row) for row in rows]
