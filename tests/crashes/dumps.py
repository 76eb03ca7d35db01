"""What is in a store, read past the store, so that two of them can be compared.

A *dump* is all rows, or all nodes and relationships, as sorted text. Rows name each other by their
keys instead of rids, times only say that there is one, and what is made up (the ids of change
events, ids that begin with a time) is named by what it is of.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from execgraph.graphstore.neo4j.mapping import payload_of
from execgraph.graphstore.sqlite.rows import payload

__all__ = ["dump", "left_in", "neo4j_session", "opened", "sqlite_lines"]

_TIMES = {
    "at", "since", "moment", "started_at", "begun_at", "decided_at", "ended_at", "given", "until",
    "walk_at", "walk_ended_at", "duration_ms", "requested_at", "expires_at", "answered_at",
}  # fmt: skip
_MADE_UP = re.compile(r"\b[0-9a-f]{12}([0-9a-f]{20})\b")  # a time, and what is random
_DIGEST = re.compile(r"\b[0-9a-f]{40}\b")
#: Digests of what differs from run to run, or from namespace to namespace; and who is at work.
_DIGESTS = {
    "manifest", "signature", "report", "invalidated_by", "idempotency_key", "process", "owner",
    "entry", "task",
}  # fmt: skip
#: A lease of a task, whose key differs from namespace to namespace.
_LEASE = re.compile(r"^(run of .+ )[0-9a-f]{40}$")
#: What a payload says that differs from run to run.
_OF_THE_RUN = re.compile(rb'"duration_ms":[0-9.e-]+|(?:toolu|msg|req)_01[0-9a-f]{22}')


async def dump(url: str, namespace: str) -> list[str]:
    """All that is in the store: of an SQLite file everything, on Neo4j one namespace."""
    if url.startswith("sqlite"):
        return _sqlite_dump(Path(url.removeprefix("sqlite:///")))
    return await _neo4j_dump(url, namespace)


def _plain(name: str, value: object) -> object:
    """A property as it is compared."""
    if value is not None and name in _TIMES:
        return "a time"
    if name in _DIGESTS and value is not None:
        return name
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    return _LEASE.sub(r"\1~", value) if isinstance(value, str) else value


def _finished(lines: list[str], named: Mapping[str, str]) -> list[str]:
    """Payloads by what they say, and without what is made up."""

    def digest(found: re.Match[str]) -> str:
        return named.get(found[0], found[0])

    return sorted(_MADE_UP.sub(r"~\1", _DIGEST.sub(digest, line)) for line in lines)


def _said(data: bytes) -> str:
    said = _OF_THE_RUN.sub(b"~", data).decode(errors="replace")
    return "payload " + _DIGEST.sub("a digest", _MADE_UP.sub(r"~\1", said))


# SQLite -----------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of the file and its log, so that the next to open it finds it as it was left. One
    that is not there is empty."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        if path.exists():
            shutil.copy(path, copy)
        if (log := path.with_name(path.name + "-wal")).exists():
            shutil.copy(log, copy.with_name("copy.db-wal"))
        connection = sqlite3.connect(copy)
        try:
            yield connection
        finally:
            connection.close()


def left_in(path: Path) -> list[str]:
    """The dump of a file that nobody has open; it is checked for damage by SQLite first."""
    with opened(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return sqlite_lines(connection)


def _sqlite_dump(path: Path) -> list[str]:
    # A process that has the file open must not copy it: that would drop its locks.
    connection = sqlite3.connect(path)
    try:
        return sqlite_lines(connection)
    finally:
        connection.close()


def sqlite_lines(connection: sqlite3.Connection) -> list[str]:
    """The dump of an open connection."""
    return _Tables(connection).lines()


class _Tables:
    """The tables of a file, whatever its schema is."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._db.row_factory = sqlite3.Row
        found = self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        self._tables = [row["name"] for row in found if not row["name"].startswith("sqlite_")]
        self._refers = {table: self._references(table) for table in self._tables}
        self._rows = {
            table: [dict(row) for row in self._db.execute(f"SELECT * FROM {table}")]
            for table in self._tables
        }
        self._keys = {table: self._key(table) for table in self._tables}
        self._by_rid = {
            table: {row["rid"]: row for row in rows if "rid" in row}
            for table, rows in self._rows.items()
        }
        self._events = _events(
            (row["rid"], self._name("resource", row["resource"]), row)
            for row in sorted(self._rows.get("change_event", []), key=lambda row: row["rid"])
        )

    def _references(self, table: str) -> dict[str, str]:
        found = self._db.execute(f"PRAGMA foreign_key_list({table})")
        refers = {row["from"]: row["table"] for row in found}
        return refers | ({"cursor": "execution"} if table == "walk" else {})

    def _key(self, table: str) -> list[str]:
        for index in self._db.execute(f"PRAGMA index_list({table})").fetchall():
            if index["origin"] == "u":
                rows = self._db.execute(f"PRAGMA index_info({index['name']})")
                return [row["name"] for row in rows if row["name"] != "ns"]
        return []

    def _name(self, table: str, rid: int | None) -> str | None:
        if rid is None or (row := self._by_rid[table].get(rid)) is None:
            return None if not rid else f"nothing at {rid}"
        if table == "change_event":
            return self._events[rid]
        return " ".join(str(self._value(table, row, column)) for column in self._keys[table])

    def _value(self, table: str, row: Mapping[str, Any], column: str) -> object:
        if column in _DIGESTS:
            return _plain(column, row[column])
        if (target := self._refers[table].get(column)) is not None:
            return self._name(target, row[column])
        return _plain(column, row[column])

    def lines(self) -> list[str]:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        schema = self._db.execute("SELECT name, sql FROM sqlite_schema").fetchall()
        lines = [f"version {version} of {application}", *(f"{it[0]}: {it[1]}" for it in schema)]
        for table, rows in self._rows.items():
            for row in rows:
                told = {it: self._value(table, row, it) for it in row if it not in ("rid", "ns")}
                if table == "change_event":
                    told["id"] = self._events[row["rid"]]
                if table == "value":
                    told = {"digest": row["digest"]}
                if table == "lineage":
                    told["id"] = "made up"
                lines.append(f"{table} {json.dumps(told, sort_keys=True)}")
        return _finished(lines, self._payloads())

    def _payloads(self) -> dict[str, str]:
        found = {}
        for row in self._rows.get("value", []):
            data = payload(row["digest"], row["codec"], row["data"])
            found[row["digest"]] = "damaged" if data is None else _said(data)
        return found


def _events(rows: Any) -> dict[Any, str]:
    """Names of change events, which are in the order in which they were made."""
    seen: Counter[str] = Counter()
    named = {}
    for key, resource, row in rows:
        what = f"{resource} {row.get('kind')} {row['from_version']}>{row['to_version']}"
        seen[what] += 1
        named[key] = f"{what} #{seen[what]}"
    return named


# Neo4j ------------------------------------------------------------------------------------

#: Where a collection has come to, and what writers and it lock: no part of what is stored.
_BOOKKEEPING = {"Collection", "Gate"}
_KEYS = """
SHOW CONSTRAINTS YIELD name, type, labelsOrTypes, properties
WHERE name STARTS WITH 'execgraph_' AND type = 'UNIQUENESS' AND 'namespace' IN properties
RETURN labelsOrTypes[0] AS label, properties ORDER BY label
"""


@contextmanager
def neo4j_session(url: str) -> Iterator[Any]:
    """A session of a driver of its own."""
    from neo4j import GraphDatabase

    from execgraph.graphstore.neo4j.address import Address

    address = Address.of(url)
    with (
        GraphDatabase.driver(
            address.uri, auth=address.credentials, notifications_min_severity="OFF"
        ) as driver,
        driver.session(database=address.database) as session,
    ):
        yield session


async def _neo4j_dump(url: str, namespace: str) -> list[str]:
    with neo4j_session(url) as session:
        return neo4j_lines(session, namespace)


def neo4j_lines(session: Any, namespace: str) -> list[str]:
    """The dump of one namespace."""
    keys = {
        label: properties
        for label, properties in session.run(_KEYS).values()
        if label not in _BOOKKEEPING
    }
    wanted = "\nUNION ALL\n".join(
        f"MATCH (n:{label}) WHERE n.namespace = $namespace"
        + "".join(f" AND n.{key} IS NOT NULL" for key in properties if key != "namespace")
        + " RETURN elementId(n) AS id, labels(n) AS labels, properties(n) AS properties,"
        " [(n)-[r]->(m) | [type(r), properties(r), elementId(m)]] AS out"
        for label, properties in keys.items()
    )
    return _Nodes(session.run(wanted, namespace=namespace).values(), keys).lines()


class _Nodes:
    """The nodes of a namespace, with what goes out of each."""

    def __init__(self, rows: list[list[Any]], keys: Mapping[str, list[str]]) -> None:
        self._rows = rows
        made = sorted(
            (it for it in rows if "ChangeEvent" in it[1]), key=lambda it: it[2].get("moment", 0)
        )
        events = _events((it[0], it[2]["resource"], it[2]) for it in made)
        self._names = {}
        for node, labels, properties, _ in rows:
            label = next(it for it in labels if it in keys)
            key = " ".join(str(properties[it]) for it in keys[label] if it != "namespace")
            key = _LEASE.sub(r"\1~", key)
            self._names[node] = f"{label} {events.get(node, key)}"

    def lines(self) -> list[str]:
        lines, payloads = [], self._digests()
        for node, labels, properties, out in self._rows:
            told = {key: _plain(key, it) for key, it in properties.items() if key != "namespace"}
            if "ChangeEvent" in labels:
                told["id"] = self._names[node]
            if "Value" in labels:
                data = payload_of(properties.get("text"), properties.get("data"))
                payloads[properties["digest"]] = "damaged" if data is None else _said(data)
                told = {"digest": properties["digest"]}
            named = f"{self._names[node]} {sorted(labels)}"
            lines.append(f"{named} {json.dumps(told, sort_keys=True)}")
            for kind, on, to in out:
                line = f"{self._names[node]} -{kind}-> {self._names.get(to, 'elsewhere')}"
                lines.append(f"{line} {json.dumps(on, sort_keys=True)}")
        return _finished(lines, payloads)

    def _digests(self) -> dict[str, str]:
        """Of keys in which the namespace is."""
        named = {}
        for _, labels, it, _ in self._rows:
            if "Facet" in labels:
                named[it["key"]] = f"facet {it['resource']} {it.get('selector')}"
            if "Precondition" in labels:
                of = f"{it['resource']} {it.get('selector')} at {it['fingerprint']}"
                named[it["id"]] = f"precondition {of}"
            if "Task" in labels:
                named[it["key"]] = f"task of {it['agent']}"
        return named
