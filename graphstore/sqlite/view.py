"""The graph of a store in memory, as it was at one moment, for Cypher to run on.

It is read in one transaction on a connection of its own, with all namespaces. ``fresh`` tells
whether anybody has committed anything since.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..cypher import LABELS, RELATIONSHIPS
from ..errors import CypherRefused
from .cypher_dialect import kept
from .queries import sections

if TYPE_CHECKING:
    from kglite import FrozenGraph

__all__ = ["View"]

#: Told how much of the graph is loaded, of how much.
Progress = Callable[[int, int], None]

_STATEMENTS = sections("view.sql")
_NUMBERS = {"steps": 1 << 20, "versions": 1 << 24}
_AT_ONCE = 5000  # rows
#: Whose rows tell how far loading is; of some there are as many again in relationships.
_COUNTED = ("step", "step", "execution", "execution", "guard", "feeds", "value")
_READABLE = 4096  # bytes; payloads up to this length are shown as text
_ZLIB = 1
#: What each kind of steps is called, beside Step.
_KINDS = {"Decision": "decision", "Action": "action"}
#: What of a row is made another value.
_READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("messages", "miss", "miss_asked", "miss_tokens"), json.loads),
    **dict.fromkeys(("error", "expired", "withdrawn"), bool),
}
#: What nodes are looked up by.
_INDEXED = {
    "Task": ("key", "agent"),
    "Execution": ("id", "task", "state"),
    "Step": ("id", "execution", "state", "name", "invalidated_by"),
    "Value": ("digest",),
    "SideEffect": ("id", "step", "state"),
    "Approval": ("id", "state", "effect"),
    "Resource": ("uri", "kind"),
    "Version": ("resource",),
    "Facet": ("key", "resource"),
    "Precondition": ("id", "facet", "resource"),
    "ChangeEvent": ("id", "resource", "kind"),
    "DailyTotals": ("day", "agent"),
}


class View:
    """What the store at ``connection`` was when this was made; ``graph`` cannot be changed.

    Raises CypherRefused beyond ``most`` steps.
    """

    graph: FrozenGraph
    #: How many relationships it has: no path is longer.
    relationships: int

    def __init__(self, connection: sqlite3.Connection, most: int, progress: Progress) -> None:
        self._connection = connection
        self._progress = progress
        connection.execute("BEGIN")
        try:
            if (steps := self._count("step")) > most:
                raise CypherRefused(
                    f"the store has {steps} steps, and Cypher on SQLite is answered from memory up"
                    f" to {most}; keep the graph in Neo4j, or raise EXECGRAPH_VIEW_STEPS if there"
                    " is memory for it (about 2 KB for each step)"
                )
            self._version = self._data_version()
            self._load()
        finally:
            connection.execute("ROLLBACK")

    def fresh(self) -> bool:
        """Whether the store is still what this shows."""
        return self._data_version() == self._version

    def _data_version(self) -> int:
        """A number that another one follows when any other connection has committed."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _count(self, table: str) -> int:
        (rows,) = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        return int(rows)

    def _load(self) -> None:
        from kglite import KnowledgeGraph

        self._graph = KnowledgeGraph()
        self._namespaces = dict(self._connection.execute("SELECT rid, name FROM namespace"))
        self._done, self._total = 0, 1 + sum(map(self._count, _COUNTED))
        for label in [label for label in LABELS if label != "Step"]:
            self._nodes(label)
        for label, names in _INDEXED.items():
            for name in names:
                self._graph.cypher(f"CREATE INDEX FOR (n:{label}) ON (n.{kept(name)})")
        self.relationships = sum(map(self._relationships, RELATIONSHIPS))
        self._progress(self._total, self._total)
        self.graph = self._graph.freeze()

    def _nodes(self, label: str) -> None:
        kind = _KINDS.get(label)
        labels, shown = label, LABELS[label]
        if kind:
            labels, shown, label = f"Step:{label}", (*LABELS["Step"], *shown), "Step"
        rows = self._rows(label, kind=kind)
        columns = [column[0] for column in rows.description][1:]
        statement = f"UNWIND $rows AS row CREATE (n:{labels} {{id: row[0]}}) SET n += row[1]"
        while batch := rows.fetchmany(_AT_ONCE):
            nodes = []
            for number, *row in batch:
                properties = dict(zip(columns, row, strict=True))
                properties["namespace"] = self._namespaces[properties["ns"]]
                nodes.append([number, _properties(shown, properties)])
            self._write(statement, nodes)

    def _relationships(self, kind: str) -> int:
        source, target, names = RELATIONSHIPS[kind]
        rows = self._rows(kind)
        properties = ", ".join(f"{name}: row[{at}]" for at, name in enumerate(names, start=2))
        statement = (
            f"UNWIND $rows AS row MATCH (a:{source} {{id: row[0]}}), (b:{target} {{id: row[1]}})"
            f" CREATE (a)-[:{kind} {{{properties}}}]->(b)"
        )
        written = 0
        while batch := rows.fetchmany(_AT_ONCE):
            self._write(statement, [list(row) for row in batch])
            written += len(batch)
        return written

    def _rows(self, statement: str, **parameters: Any) -> sqlite3.Cursor:
        return self._connection.execute(_STATEMENTS[statement], {**_NUMBERS, **parameters})

    def _write(self, statement: str, rows: list[list[Any]]) -> None:
        self._graph.cypher(statement, params={"rows": rows})
        self._done += len(rows)
        self._progress(min(self._done, self._total - 1), self._total)


def _properties(shown: Iterable[str], columns: dict[str, Any]) -> dict[str, Any]:
    if "data" in columns:
        columns |= _payload(columns["data"], columns["codec"])
    there = [name for name in shown if columns.get(name) is not None]
    return {kept(name): _READ.get(name, _same)(columns[name]) for name in there}


def _same(value: Any) -> Any:
    return value


def _payload(data: bytes, codec: int) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    try:
        data = zlib.decompress(data) if codec == _ZLIB else data
        shown["size"] = len(data)
        if len(data) <= _READABLE:
            shown["text"] = data.decode()
    except (zlib.error, UnicodeDecodeError):
        pass  # damaged, or no text
    return shown
