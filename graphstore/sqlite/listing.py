"""Listing what a collection would delete, by reading alone. All of it blocks.

The lists are tables of the collecting connection's own (``retention.sql``), so that a store of
any size is listed by a few statements. A dry run counts them, a collection works them off.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..retention import OVERSIZE, UNUSED, Collected, Retention, beyond
from .clock import moment, now_ms
from .connection import reading, statements
from .queries import sections

__all__ = ["LISTS", "Listing", "as_json", "make_lists", "squeezed", "told"]

_SQL = sections("retention.sql")
_OF_TRACES = "going_trace"
_OF_THE_REST = ("candidate", "going_execution", "going_version", "going_event")
_OF_DRY_RUNS = ("going_task", "going_facet", "touched", "suspected")
#: All of them.
LISTS = (_OF_TRACES, *_OF_THE_REST, *_OF_DRY_RUNS, "named", "unnamed")
_PAGE = 200  # executions whose steps one statement looks at


def make_lists(connection: sqlite3.Connection) -> None:
    """Have a new connection keep lists."""
    for statement in statements(_SQL["tables"]):
        connection.execute(statement)


def as_json(items: Iterable[Any]) -> str:
    """Several things as one parameter of a statement."""
    return json.dumps(list(items))


def squeezed(retention: Retention) -> Retention:
    """What is kept while payloads take too much: no history."""
    return replace(retention, history=0, versions=0)


class Listing:
    """What is to go of one namespace by ``retention``."""

    def __init__(self, connection: sqlite3.Connection, ns: int, retention: Retention) -> None:
        self.connection = connection
        self.ns = ns
        self.retention = retention

    def run(self, name: str, **parameters: Any) -> sqlite3.Cursor:
        """A statement of retention.sql."""
        return self.connection.execute(_SQL[name], {"ns": self.ns, **parameters})

    def run_many(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """The same, with parameters by position."""
        self.connection.executemany(_SQL[name], rows)

    def clear(self, *lists: str) -> None:
        """Empty some lists."""
        for name in lists:
            self.connection.execute(f"DELETE FROM temp.{name}")  # noqa: S608 - our own names

    def list_all(self) -> None:
        """List what is to go, as things are now."""
        self.clear(_OF_TRACES, *_OF_DRY_RUNS)
        self.run("going_traces", **self.limits())
        self.list_deletable()

    def list_deletable(self) -> None:
        """List what is to be deleted, the listed traces being unpublished."""
        self.clear(*_OF_THE_REST)
        limits = self.limits()
        for name in ("going_versions", "going_events", "going_expiries"):
            self.run(name, **limits)
        of_history = "candidates_by_place" if self.retention.history else "candidates_of_no_history"
        for name in (of_history, "candidates_by_age", "candidates_by_reason"):
            self.run(name, **limits)
        for name in ("going_executions", "going_killed"):
            self.run(name, **limits)

    def limits(self) -> Mapping[str, Any]:
        """The parameters of the statements that list."""
        now, keep = now_ms(), self.retention
        return {
            "now": now,
            "old": moment(-keep.grace, now),
            "history_old": moment(-keep.history_age, now),
            "used_before": None if keep.max_age is None else moment(-keep.max_age, now),
            "traces": keep.traces,
            "history": keep.history,
            "versions": keep.versions,
            "unused": UNUSED,
            "oversize": OVERSIZE,
            "beyond": beyond(keep.traces),
        }

    def excess(self, spared: int = 0) -> int:
        """How many bytes more than they may payloads take, ``spared`` ones left out; 0: none."""
        if (most := self.retention.max_bytes) is None:
            return 0
        pages, free, size = (
            self.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size <= most:
            return 0  # which needs no sum
        [taken] = self.run("payload_bytes").fetchone()
        return max(0, int(taken) - spared - most)

    def list_least_used(self, excess: int, most: int) -> None:
        """List the traces that were used longest ago, as many as name ``excess`` bytes."""
        named: set[int] = set()
        for rid, trace in self.run("least_used", batch=most).fetchall():
            if excess <= 0:
                break
            self.run("going_for_size", rid=rid, id=trace, reason=OVERSIZE)
            sizes = dict(self.run("sizes_of_trace", execution=rid).fetchall())
            excess -= sum(sizes[it] for it in sizes.keys() - named)
            named |= sizes.keys()

    def look_for_names(self) -> None:
        """Leave only those ``suspected`` that nothing names which is not listed itself.

        In pages, each of a moment of its own: who writes meanwhile clears what he names.
        """
        started_at, execution = -1, ""
        while self.run("any_suspected").fetchone():
            rows = self.run(
                "page_of_executions", started_at=started_at, id=execution, limit=_PAGE
            ).fetchall()
            if not rows:
                break
            self.run("clear_those_of_executions", executions=as_json(row[0] for row in rows))
            _, started_at, execution = rows[-1]
        self.run("clear_those_of_tasks")
        self.run("clear_those_of_versions")


def told(connection: sqlite3.Connection, ns: int, retention: Retention) -> Collected:
    """What a collection would take away now."""
    listing = Listing(connection, ns, retention)
    with reading(connection):
        listing.list_all()
        found = _counted(listing)
        if listing.excess(found.bytes):
            listing.retention = squeezed(retention)
            listing.list_all()
            found = _counted(listing)
            if excess := listing.excess(found.bytes):
                listing.list_least_used(excess, most=-1)
                listing.list_deletable()
                found = _counted(listing)
    return found


def _counted(listing: Listing) -> Collected:
    listing.clear(*_OF_DRY_RUNS)
    listing.run("going_tasks")
    listing.run("touched_by_executions")
    listing.run("going_facets")  # which only the end of an execution makes go
    listing.run("touched_by_versions")
    listing.run("suspects")
    listing.run("suspects_of_what_goes")
    listing.look_for_names()

    def row(name: str) -> tuple[int, ...]:
        found: tuple[int, ...] = listing.run(name).fetchone()
        return found

    replays, executions = row("count_executions")
    values, size = row("count_suspected")
    lists = ("going_trace", "going_version", "going_event", "going_task", "going_facet")
    traces, versions, events, tasks, facets = (
        listing.connection.execute(f"SELECT count(*) FROM temp.{name}").fetchone()[0]  # noqa: S608 - our own
        for name in lists
    )
    found = Collected(
        unpublished=traces,
        executions=executions,
        replays=replays,
        effects=row("count_effects")[0],
        versions=versions,
        events=events,
        preconditions=row("count_preconditions")[0],
        facets=facets,
        tasks=tasks,
        values=values,
        bytes=size,
    )
    return replace(found, more=found != Collected())
