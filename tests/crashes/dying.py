"""A process that dies at a chosen moment of what it does with a store. Used in children only.

Every moment at which it could die is a *point*; points are counted. Before and after each call
of the store; on SQLite before each statement (each row of an ``executemany`` is one) and right
after COMMIT; on Neo4j before a request is sent, while it is under way, when it was taken and not
yet answered, and after the answer.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from execgraph.graphstore.connect import connect
from execgraph.graphstore.store import GraphStore

if TYPE_CHECKING:
    from execgraph.graphstore.neo4j.client import Client

__all__ = ["Fate", "Point", "dying_store", "random_is_counted"]

_FLIGHT_SECONDS = 0.006


class Point(NamedTuple):
    """A moment: ``number`` of all, what happens then, how many calls of the store had ended, and
    how many were under way."""

    number: int
    kind: str
    what: str
    ended: int
    under_way: int


class Fate:
    """Counts points; at number ``die_at`` (None: never) it reports and kills the process.

    ``on_end`` is awaited after each call of the store, and is told its name.
    """

    def __init__(
        self,
        die_at: int | None,
        report: Callable[[Point], None],
        on_end: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._die_at = die_at
        self._report = report
        self._on_end = on_end
        self._lock = threading.Lock()  # SQLite writes in a thread of its own
        self._quiet = False
        self.points: list[Point] = []
        self.ended = 0
        self.under_way = 0
        #: Of each write transaction: the call that makes it, how many had ended, and what
        #: SQLite's ``synchronous`` was.
        self.commits: list[tuple[list[str], int, int]] = []
        self._names: list[str] = []

    def reach(self, kind: str, what: str) -> None:
        """Be at a point, and perhaps die there."""
        if self._quiet:
            return
        with self._lock:
            point = Point(len(self.points), kind, what, self.ended, self.under_way)
            self.points.append(point)
            if point.number == self._die_at:
                self._die(point)

    def commits_with(self, synchronous: int) -> None:
        """A write transaction is about to be committed."""
        if not self._quiet:
            self.commits.append((self._names[-1:], self.ended, synchronous))

    async def fly(self, what: str) -> None:
        """A point at which a request is under way: death comes a little later."""
        if self._die_at == len(self.points):
            await asyncio.sleep(random.Random(self._die_at).uniform(0, _FLIGHT_SECONDS))
        self.reach("under way", what)

    def _die(self, point: Point) -> None:
        self._report(point)
        os.kill(os.getpid(), signal.SIGKILL)

    async def call(self, name: str, work: Awaitable[Any]) -> Any:
        """One call of the store."""
        self.reach("before", name)
        self.under_way += 1
        self._names.append(name)
        answer = await work
        self._names.remove(name)
        self.under_way -= 1
        self.ended += 1
        if self._on_end is not None:
            self._quiet = True
            await self._on_end(name)
            self._quiet = False
        self.reach("after", name)
        return answer


def dying_store(url: str, fate: Fate, **connection: Any) -> GraphStore:
    """The real store at ``url``, each of whose calls is a matter of ``fate``."""
    store = connect(url, **connection)
    store.__class__ = _dying_class(type(store), fate)
    if url.startswith("sqlite"):
        _sqlite_dies(fate)
    else:
        _neo4j_dies(fate)
    return store


def _dying_class(real: type[GraphStore], fate: Fate) -> type[GraphStore]:
    def dying(name: str) -> Any:
        method = getattr(real, name)

        @functools.wraps(method)
        async def call(self: GraphStore, *args: Any, **kwargs: Any) -> Any:
            return await fate.call(name, method(self, *args, **kwargs))

        return call

    calls = [
        name
        for name, method in inspect.getmembers(GraphStore, inspect.iscoroutinefunction)
        if not name.startswith("_") and name != "facts"  # which only calls others
    ]
    return type(real.__name__, (real,), {name: dying(name) for name in calls})


def _sqlite_dies(fate: Fate) -> None:
    class Connection(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._writes = False
            self._follow()

        def _follow(self) -> None:
            self.set_trace_callback(lambda text: fate.reach("before statement", text[:60]))

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql.startswith("BEGIN"):
                self._writes = sql == "BEGIN IMMEDIATE"
            if sql != "COMMIT":
                return super().execute(sql, parameters)
            if self._writes:
                self.set_trace_callback(None)
                fate.commits_with(super().execute("PRAGMA synchronous").fetchone()[0])
                self._follow()
            done = super().execute(sql, parameters)
            fate.reach("committed", sql)
            return done

    plain = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: plain(*args, **{"factory": Connection, **kwargs})


def _neo4j_dies(fate: Fate) -> None:
    from execgraph.graphstore.neo4j import client

    async def attempt(self: Client, text: str, parameters: Any) -> list[list[Any]]:
        what = text.partition("\n")[0][:60]
        fate.reach("before request", what)
        async with self._connection.session() as session:
            asked = asyncio.ensure_future(session.run(text, dict(parameters)))
            await asyncio.sleep(0)
            await fate.fly(what)
            result = await asked
            fate.reach("taken", what)
            rows = await result.values()
        fate.reach("answered", what)
        return rows

    client.Client._attempt = attempt  # type: ignore[method-assign]


def random_is_counted(seed: int) -> None:
    """Let ids be made up alike in each run of the same."""
    numbers = random.Random(seed)
    os.urandom = numbers.randbytes
