"""The graph of a store in memory, as it was at one moment, for Cypher to run on.

It is read in one transaction on a connection of its own, with all namespaces. ``fresh`` tells
whether anybody has committed anything since.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..cypher import LABELS, RELATIONSHIPS
from .dialect import kept
from .queries import sections

if TYPE_CHECKING:
    from kglite import FrozenGraph, KnowledgeGraph

__all__ = ["TooLarge", "View"]

#: Told how much of the graph is loaded, of how much.
Progress = Callable[[int, int], None]

_STATEMENTS = sections("view.sql")
_NUMBERS = {"steps": 1 << 20, "versions": 1 << 24}
_AT_ONCE = 5000  # rows
_READABLE = 4096  # bytes; payloads up to this length are shown as text
_ZLIB = 1
_LISTS = frozenset({"messages", "miss", "miss_asked", "miss_tokens"})
_BOOLEANS = frozenset({"error", "expired", "withdrawn"})
#: What nodes are looked up by.
_INDEXED = {
    "Task": ("key", "agent"),
    "Execution": ("id", "task", "state"),
    "Step": ("id", "execution", "state", "name", "invalidated_by"),
    "Value": ("digest",),
    "SideEffect": ("id", "step", "state"),
    "Resource": ("uri", "kind"),
    "Version": ("resource",),
    "Facet": ("key", "resource"),
    "Precondition": ("id", "facet", "resource"),
    "ChangeEvent": ("id", "resource", "kind"),
    "DailyTotals": ("day", "agent"),
}


class TooLarge(Exception):
    """The store has more steps than a view may have."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        super().__init__(steps)


class View:
    """What the store at ``connection`` was when this was made; ``graph`` cannot be changed.

    Raises TooLarge beyond ``most`` steps.
    """

    graph: FrozenGraph
    #: How many relationships it has: no path is longer.
    relationships: int

    def __init__(self, connection: sqlite3.Connection, most: int, progress: Progress) -> None:
        self._connection = connection
        with _reading(connection):
            (steps,) = connection.execute("SELECT count(*) FROM step").fetchone()
            self._version = _data_version(connection)
            if steps > most:
                raise TooLarge(steps)
            loading = _Loading(connection, progress)
            self.graph = loading.load()
            self.relationships = loading.relationships

    def fresh(self) -> bool:
        """Whether the store is still what this shows."""
        return _data_version(self._connection) == self._version


@contextmanager
def _reading(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _data_version(connection: sqlite3.Connection) -> int:
    """A number that another one follows when any other connection has committed."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


class _Loading:
    def __init__(self, connection: sqlite3.Connection, progress: Progress) -> None:
        from kglite import KnowledgeGraph

        self._connection = connection
        self._progress = progress
        self._graph: KnowledgeGraph = KnowledgeGraph()
        self._done = self._total = 0
        self.relationships = 0

    def load(self) -> FrozenGraph:
        self._total = self._count()
        for label in _INDEXED:
            self._nodes(label)
        for label, names in _INDEXED.items():
            for name in names:
                self._graph.cypher(f"CREATE INDEX FOR (n:{label}) ON (n.{kept(name)})")
        for kind in RELATIONSHIPS:
            self._relationships(kind)
        self._progress(self._total, self._total)
        return self._graph.freeze()

    def _count(self) -> int:
        """About how many rows there are, without reading any twice."""
        counted = ["step", "guard", "feeds", "value", "execution"]
        return sum(
            self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            * (2 if table in {"step", "execution"} else 1)
            for table in counted
        )

    def _nodes(self, label: str) -> None:
        rows = self._connection.execute(_STATEMENTS[label], _used(label))
        names = [column[0] for column in rows.description][1:]
        kinds = {"decision": "Step:Decision", "action": "Step:Action"}
        while batch := list(islice(rows, _AT_ONCE)):
            by_label: dict[str, list[list[Any]]] = {}
            for number, *row in batch:
                properties = _properties(label, names, row)
                known_as = kinds[properties["kind"]] if label == "Step" else label
                by_label.setdefault(known_as, []).append([number, properties])
            for labels, nodes in by_label.items():
                self._graph.cypher(
                    f"UNWIND $rows AS row CREATE (n:{labels} {{id: row[0]}}) SET n += row[1]",
                    params={"rows": nodes},
                )
            self._went_on(len(batch))

    def _relationships(self, kind: str) -> None:
        source, target, names = RELATIONSHIPS[kind]
        rows = self._connection.execute(_STATEMENTS[kind], _used(kind))
        properties = ", ".join(f"{name}: row[{at}]" for at, name in enumerate(names, start=2))
        statement = (
            f"UNWIND $rows AS row MATCH (a:{source} {{id: row[0]}}), (b:{target} {{id: row[1]}})"
            f" CREATE (a)-[:{kind} {{{properties}}}]->(b)"
        )
        while batch := [list(row) for row in islice(rows, _AT_ONCE)]:
            self._graph.cypher(statement, params={"rows": batch})
            self.relationships += len(batch)
            self._went_on(len(batch))

    def _went_on(self, rows: int) -> None:
        self._done += rows
        self._progress(min(self._done, self._total - 1), self._total)


def _used(name: str) -> Mapping[str, int]:
    return {key: it for key, it in _NUMBERS.items() if f":{key}" in _STATEMENTS[name]}


def _properties(label: str, names: list[str], row: list[Any]) -> dict[str, Any]:
    found = {name: it for name, it in zip(names, row, strict=True) if it is not None}
    if label == "Value":
        return _payload(found)
    for name in _LISTS & found.keys():
        found[name] = json.loads(found[name])
    for name in _BOOLEANS & found.keys():
        found[name] = bool(found[name])
    return {kept(name): it for name, it in found.items() if name in _SHOWN[label]}


_SHOWN = {
    **LABELS,
    "Step": LABELS["Step"] + LABELS["Decision"] + LABELS["Action"],
}


def _payload(found: dict[str, Any]) -> dict[str, Any]:
    data, codec = found.pop("data"), found.pop("codec")
    try:
        data = zlib.decompress(data) if codec == _ZLIB else data
        found["size"] = len(data)
        if len(data) <= _READABLE:
            found["text"] = data.decode()
    except (zlib.error, UnicodeDecodeError):
        pass  # damaged, or no text
    return found
