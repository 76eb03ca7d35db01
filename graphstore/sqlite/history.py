"""Reading what runs came to: newest first, in outline, added up, by name. All of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..model import KILLED_AFTER_MS, Execution, Outline, SideEffect, Task
from ..records import effect_of, execution_of, outline_of, preconditions_of
from ..roles.history import Executions
from ..totals import Totals
from .clock import now_ms
from .connection import reading
from .queries import QUERIES
from .traces import named

__all__ = [
    "agents",
    "dependants",
    "doubts",
    "executions",
    "ids",
    "keys",
    "lengths",
    "namespaces",
    "recent_tasks",
    "totals",
]

#: So many traces are read at once: what is put together from rows is then let go of.
_AT_ONCE = 2000

_Edges = Mapping[tuple[int, int], list[Any]]  # by execution and position


def executions(
    connection: sqlite3.Connection, ns: int, of: Executions, limit: int
) -> list[Execution]:
    """The newest of these executions, newest first."""
    wanted = {**of._asdict(), **of.before._asdict(), "ns": ns, "limit": limit}
    del wanted["before"]
    if of.by == "task":
        task = connection.execute(QUERIES["task_rid"], {"ns": ns, "key": of.value}).fetchone()
        wanted["value"] = task and task[0]
    statement = QUERIES["executions" if of.by is None else f"executions_of_{of.by}"]
    return [execution_of(named(row)) for row in connection.execute(statement, wanted).fetchall()]


def ids(connection: sqlite3.Connection, ns: int, query: str, prefix: str, limit: int) -> list[str]:
    """The ids that the statement lists and that begin so, in order."""
    wanted = {"ns": ns, "prefix": prefix, "limit": limit}
    return [row[0] for row in connection.execute(QUERIES[query], wanted)]


def lengths(connection: sqlite3.Connection, ns: int, some: Collection[str]) -> dict[str, int]:
    """How many steps were recorded of each of these executions."""
    wanted = {"ns": ns, "executions": json.dumps(sorted(some))}
    return dict(connection.execute(QUERIES["lengths"], wanted).fetchall())


def agents(connection: sqlite3.Connection, ns: int, limit: int) -> list[str]:
    """The names of those of which there is an execution, in order: one seek for each."""
    found = [""]  # of one that has only begun none is known
    while len(found) <= limit:
        wanted = {"ns": ns, "after": found[-1]}
        [name] = connection.execute(QUERIES["next_agent"], wanted).fetchone()
        if name is None:
            break
        found.append(name)
    return found[1:]


def recent_tasks(connection: sqlite3.Connection, ns: int, agent: str, limit: int) -> list[Task]:
    """The tasks of an agent's newest executions that have a trace, the newest first."""
    wanted = {"ns": ns, "agent": agent, "limit": limit}
    rows = connection.execute(QUERIES["newest_tasks_of_agent"], wanted).fetchall()
    newest_first = dict.fromkeys(row[2:] for row in sorted(rows, reverse=True))
    return [Task(**dict(zip(Task.model_fields, row, strict=True))) for row in newest_first]


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


def totals(
    connection: sqlite3.Connection, ns: int, since: int | None, dead: Collection[str]
) -> Totals:
    """What executions came to, all at one moment."""
    silent = now_ms() - KILLED_AFTER_MS
    wanted = {"ns": ns, "since": since or 0, "silent": silent, "dead": json.dumps(sorted(dead))}
    with reading(connection):
        groups = connection.execute(QUERIES["totals"], wanted).fetchall()
        misses = connection.execute(QUERIES["total_misses"], wanted).fetchall()
        now = connection.execute(QUERIES["total_traces"], {"ns": ns}).fetchone()
    return Totals.of(groups, misses, *now)


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
