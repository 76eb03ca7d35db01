"""How much room a store takes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from execgraph.scripts.bench.bolt import LABELS, Bolt

__all__ = ["Size", "of_neo4j", "of_sqlite"]

_NUMBER = 8  # bytes


@dataclass(frozen=True)
class Size:
    """``measured`` says how; ``parts``: what it consists of, largest first."""

    bytes: int
    measured: str
    parts: Mapping[str, int]


def of_sqlite(path: Path) -> Size:
    """A closed SQLite file, as it lies on disk; the parts are its tables and indexes."""
    files = [path, path.with_name(f"{path.name}-wal")]
    there = sum(file.stat().st_size for file in files if file.exists())
    parts: Mapping[str, int] = {}
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        query = "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC"
        with suppress(sqlite3.OperationalError):  # not every build of SQLite has this table
            parts = dict(connection.execute(query).fetchall())
    return Size(there, "the file on disk", parts)


async def of_neo4j(it: Bolt, namespace: str) -> Size:
    """What a namespace's nodes and relationships hold: the bytes of their property values.

    The files cannot be told apart by namespace. Beside the values they hold a record of 15 bytes
    for each node and of 34 for each relationship, which are counted, indexes and filling, which
    are not.
    """
    parts: Counter[str] = Counter()
    for label in LABELS:
        nodes = await it.rows(
            f"MATCH (n:{label} {{namespace: $ns}}) RETURN properties(n)", ns=namespace
        )
        edges = await it.rows(
            f"MATCH (:{label} {{namespace: $ns}})-[r]->() RETURN type(r), properties(r)",
            ns=namespace,
        )
        parts[label] += _values(row[0] for row in nodes) + 15 * len(nodes)
        for kind, properties in edges:
            parts[kind] += _values([properties]) + 34
    largest = {name: size for name, size in parts.most_common() if size}
    return Size(parts.total(), "property values, nodes and relationships", largest)


def _values(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(_value(value) for row in rows for value in row.values())


def _value(value: object) -> int:
    match value:
        case str():
            return len(value.encode())
        case bytes() | bytearray():
            return len(value)
        case list():
            return sum(map(_value, value))
    return _NUMBER
