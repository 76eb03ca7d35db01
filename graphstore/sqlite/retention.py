"""What a collection lists and deletes in the embedded store. All of it blocks.

A page is a short read; a batch is a short write transaction that looks once more at what it
deletes. So whoever else writes waits for one batch at most, and who reads waits for nothing.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..collecting import Collections, Deletions
from ..retention import Collected, Retention
from .clock import now_ms
from .connection import connect, patiently, statements, taking_away, writing
from .names import Names, find
from .queries import QUERIES, sections

__all__ = ["FileCollector"]

_SQL = sections("retention.sql")
_SAID = f"({_SQL.pop('said')})"
_SQL = {name: text.replace(":said", _SAID) for name, text in _SQL.items()}
_PAGE = 200  # executions whose steps one statement looks at
_MOST_CLEARED = 500  # suspicions, beside a batch of payloads
_BYTES = 8 << 20  # of payloads at once: the pages of a large one are freed one by one

_Row = tuple[Any, ...]
_MANY = (list, tuple)  # parameters of these types are given as JSON


class FileCollector:
    """Collects in the store at ``path``, on a connection of its own. By one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._connection: sqlite3.Connection | None = None
        self._begun: dict[str, Collections] = {}

    def collect(self, namespace: str, retention: Retention, batch: int) -> Collected:
        """As ``GraphStore.collect``."""
        return asyncio.run(self._collections(namespace).collect(retention, batch))

    def collectable(self, namespace: str, retention: Retention) -> Collected:
        """As ``GraphStore.collectable``."""
        return asyncio.run(self._collections(namespace).collectable(retention))

    def _collections(self, namespace: str) -> Collections:
        made = Collections(lambda: _Contents(self._connected(), namespace))
        return self._begun.setdefault(namespace, made)

    def interrupt(self) -> None:
        """Have what another thread does here fail soon; what it has committed stays."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """Let go of the connection, while those of the store are open."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._begun.clear()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = connect(self._path)
            for statement in statements(_SQL["tables"]):
                connection.execute(statement)
            self._connection = connection
        return self._connection


class _Contents:
    """As ``Contents``, of one namespace. Nothing here waits for the event loop."""

    def __init__(self, connection: sqlite3.Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._ns: int | None = None
        self._looked_until: int | None = None  # the last suspicion of a look that is not cleared

    # Listing ------------------------------------------------------------------------------

    async def now(self) -> int:
        return now_ms()

    async def rows(self, listing: str, /, **parameters: Any) -> Sequence[_Row]:
        return self._listed(listing, **parameters)

    # Deleting -----------------------------------------------------------------------------

    async def unpublish(self, why: Mapping[str, str]) -> int:
        return patiently(lambda: self._unpublish(why))

    def _unpublish(self, why: Mapping[str, str]) -> int:
        done = 0
        with taking_away(self._connection):
            names = Names(self._connection, self._namespace)
            for execution, reason in why.items():
                row = names.row("execution_state", ns=names.ns, id=execution)
                if row is not None and row[1] == "published":
                    of = {"rid": row[0], "reason": reason, "equal_to": None}
                    names.run("set_unpublished", now=now_ms(), **of)
                    done += 1
        return done

    async def delete(self, deletions: Deletions) -> Collected:
        return patiently(lambda: self._delete(deletions))

    def _delete(self, deletions: Deletions) -> Collected:
        with writing(self._connection):
            executions = self._column("deletable", ids=deletions.executions)
            versions = self._rows("deletable_versions", versions=deletions.versions)
            events = self._events(deletions, versions)
            counted = self._counted(executions, versions, events)
            self._fold(executions)
            orphans = self._orphans(executions, versions)
            self._run("suspect", **_named(executions, orphans["task"], versions))
            self._run("delete_executions", rids=executions)
            self._run("delete_events", rids=events)
            self._run("delete_versions", versions=versions)
            approvals = self._run("delete_approvals", ids=deletions.approvals)
            for name in ("task", "facet", "precondition"):
                self._run(f"delete_{name}s", rids=orphans[name])
        return counted + _left(orphans) + Collected(approvals=approvals)

    def _fold(self, executions: Sequence[int]) -> None:
        folded = self._executed("folded", {"executions": executions})
        names = [it[0] for it in folded.description]
        rows = [dict(zip(names, row, strict=True)) for row in folded]
        self._connection.executemany(QUERIES["add_to_daily_totals"], rows)

    def _events(self, deletions: Deletions, versions: Sequence[_Row]) -> list[int]:
        ids = [id_ for _, id_ in deletions.events]
        return self._column("deletable_events", ids=ids, versions=versions)

    def _counted(
        self, executions: Sequence[int], versions: Sequence[_Row], events: Sequence[int]
    ) -> Collected:
        [[others, replays, effects]] = self._rows("counted", executions=executions)
        return Collected(
            executions=others,
            replays=replays,
            effects=effects,
            versions=len(versions),
            events=len(events),
        )

    def _orphans(
        self, executions: Sequence[int], versions: Sequence[_Row]
    ) -> Mapping[str, Sequence[int]]:
        """What these leave with nothing that needs it, by kind."""
        by_table: dict[str, list[int]] = defaultdict(list)
        for kind, rid in self._rows("orphans", executions=executions, versions=versions):
            by_table[kind].append(rid)
        return by_table

    # Payloads -----------------------------------------------------------------------------

    async def delete_rest(self, most: int, /) -> Collected | None:
        if not (rows := self._listed("some_unnamed", most=most)) and self._looked_until is None:
            if not self._listed("is_suspected"):
                return None
            self._look()
            rows = self._listed("some_unnamed", most=most)
        return patiently(lambda: self._delete_rest(rows))

    def _delete_rest(self, rows: Sequence[_Row]) -> Collected:
        upto = accumulate(size for _, size in rows)
        few = [rid for (rid, _), size in zip(rows, upto, strict=True) if size <= _BYTES]
        rids = few or [rid for rid, _ in rows[:1]]
        with writing(self._connection):
            cleared = self._run("clear_named", last=self._looked_until, most=_MOST_CLEARED)
            sizes = self._column("delete_values", rids=rids)
            self._run("no_more_unnamed", rids=rids)
        if cleared < _MOST_CLEARED:
            self._looked_until = None
        return Collected(values=len(sizes), bytes=sum(sizes))

    def _look(self) -> None:
        """Find who of those suspected now is not named; the others are cleared with what goes.

        Nothing that exists now escapes the look, and who writes what names one later clears it
        of *this* suspicion: so one that still has it in the end, and was not seen named, is not.
        One that was seen named is cleared; unless it was suspected anew since, its namer having
        been deleted after the look.
        """
        self._clear("suspected")
        self._listed("suspects")
        [[last]] = self._rows("last_suspect")
        self._meet([], [], [])
        self._run("unnamed")
        self._looked_until = last

    def _meet(
        self, executions: Collection[int], tasks: Sequence[int], versions: Sequence[_Row]
    ) -> None:
        """Leave only those ``suspected`` that nothing names but these.

        In pages, each of a moment of its own: who writes meanwhile clears what he names.
        """
        start, last = -1, ""
        while self._listed("any_suspected") and (
            page := self._listed("page_of_executions", started_at=start, id=last, most=_PAGE)
        ):
            kept = [rid for rid, _, _ in page if rid not in executions]
            self._listed("met", **_named(kept))
            _, start, last = page[-1]
        self._listed("met_in_tasks", tasks=tasks)
        self._listed("met_in_versions", versions=versions)

    # Telling what would go ----------------------------------------------------------------

    async def foreseen(self, deletions: Deletions) -> Collected:
        return patiently(lambda: self._foreseen(deletions))

    def _foreseen(self, deletions: Deletions) -> Collected:
        executions = self._column("rids", ids=deletions.executions)
        versions = self._rows("deletable_versions", versions=deletions.versions)
        events = self._events(deletions, versions)
        orphans = self._orphans(executions, versions)
        self._clear("suspected")
        self._run("suspects")
        self._run("suspects_foreseen", **_named(executions, orphans["task"], versions))
        self._meet(set(executions), orphans["task"], versions)
        [[values, size]] = self._rows("count_suspected")
        self._clear("suspected")
        counted = self._counted(executions, versions, events) + _left(orphans)
        approvals = len(deletions.approvals)
        return counted + Collected(approvals=approvals, values=values, bytes=size)

    # Statements ---------------------------------------------------------------------------

    def _listed(self, name: str, **parameters: Any) -> list[_Row]:
        return patiently(lambda: self._rows(name, **parameters))

    def _rows(self, name: str, **parameters: Any) -> list[_Row]:
        return self._executed(name, parameters).fetchall()

    def _column(self, name: str, **parameters: Any) -> list[Any]:
        return [row[0] for row in self._rows(name, **parameters)]

    def _run(self, name: str, **parameters: Any) -> int:
        """How many rows it changed."""
        return self._executed(name, parameters).rowcount

    def _executed(self, name: str, parameters: Mapping[str, Any]) -> sqlite3.Cursor:
        if self._ns is None:
            self._ns = find(self._connection, "namespace", name=self._namespace)
        bound = {
            key: json.dumps(value) if isinstance(value, _MANY) else value
            for key, value in parameters.items()
        }
        return self._connection.execute(_SQL[name], {"ns": self._ns, **bound})

    def _clear(self, table: str) -> None:
        self._connection.execute(f"DELETE FROM temp.{table}")  # noqa: S608 - our own name


def _left(orphans: Mapping[str, Sequence[int]]) -> Collected:
    return Collected(
        tasks=len(orphans["task"]),
        facets=len(orphans["facet"]),
        preconditions=len(orphans["precondition"]),
    )


def _named(
    executions: Sequence[int], tasks: Sequence[int] = (), versions: Sequence[_Row] = ()
) -> dict[str, Sequence[Any]]:
    """The parameters of a statement about the payloads that these name."""
    return {"executions": executions, "tasks": tasks, "versions": versions}
