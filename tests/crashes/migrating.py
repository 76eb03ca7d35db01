"""Stores as older versions have left them, and processes that die while they migrate them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from execgraph.graphstore.neo4j import queries
from execgraph.graphstore.sqlite import connection

from .dumps import neo4j_session

__all__ = ["OLD_VERSIONS", "drop", "old_file", "old_graph", "private", "schema"]

#: Versions from which SQLite files are brought up to date; 0: there is no file.
OLD_VERSIONS = range(len(connection._migrations()))


def old_file(path: Path, version: int, current: Path) -> None:
    """Make ``path`` what an execgraph of that version has left, with what is in ``current``."""
    if version == 0:
        return
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    for script in connection._migrations()[:version]:
        db.executescript(script)
    db.execute("ATTACH ? AS now", [str(current)])
    tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for (table,) in tables:
        if not table.startswith("sqlite_"):
            _copy(db, table)
    db.commit()
    db.execute(f"PRAGMA application_id = {connection._APPLICATION}")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()


def _copy(db: sqlite3.Connection, table: str) -> None:
    then, now = (
        [row[1] for row in db.execute(f"PRAGMA {where}.table_info({table})")]
        for where in ("main", "now")
    )
    taken = {it: it for it in then if it in now}
    if "withdrawn" in then and "withdrawn" not in now:
        taken["withdrawn"] = "kind = 'withdrawn'"
    columns, values = ", ".join(taken), ", ".join(taken.values())
    db.execute(f"INSERT OR REPLACE INTO main.{table} ({columns}) SELECT {values} FROM now.{table}")


# Neo4j ------------------------------------------------------------------------------------

_LABEL = re.compile(r":([A-Z][a-z]\w*)\b")


#: Enough of the constraints and indexes, which are made alike; a server takes long over each.
_MADE = {"create_schema_key", "create_execution_key", "create_index_of_traces"}


def private(mark: str) -> dict[str, str]:
    """The statements of the schema, on labels and indexes that nobody else on the server uses."""
    named = queries.queries()
    taken = [it for it in queries.schema_statements() if not it.startswith("create_")]
    taken += ["version", "set_version", "made"]
    return {
        **{name: _renamed(named[name], mark) for name in named if name in _MADE},
        **{name: _renamed(named[name], mark) for name in taken},
        "await_indexes": "RETURN 1",
    }


def _renamed(statement: str, mark: str) -> str:
    return _LABEL.sub(rf":\1{mark}", statement).replace("execgraph_", f"execgraph_{mark}_")


#: As version 1 wrote it: no marks, and change events by ``withdrawn``.
_CONTENT = """
CREATE (:ChangeEvent {namespace: 'team', id: 'a', withdrawn: true}),
 (:ChangeEvent {namespace: 'team', id: 'b', withdrawn: false}),
 (p:Execution {namespace: 'team', id: 'p', state: 'published'}),
 (p)-[:HAS_STEP]->(:Step {namespace: 'team', id: 'p/0'}),
 (p)-[:HAS_STEP]->(:Step {namespace: 'team', id: 'p/1'}),
 (u:Execution {namespace: 'team', id: 'u', state: 'unpublished'}),
 (u)-[:HAS_STEP]->(:Step {namespace: 'team', id: 'u/0'}),
 (:ExecgraphSchema {id: 'execgraph', version: 1})
"""
_CONSTRAINT = """
CREATE CONSTRAINT execgraph_change_event_of_version
FOR (c:ChangeEvent) REQUIRE (c.namespace, c.resource, c.to_version) IS UNIQUE
"""
_LABELS = ("ChangeEvent", "Execution", "Step", "ExecgraphSchema")


def old_graph(url: str, mark: str) -> None:
    """Make what version 1 has left, on labels of its own."""
    with neo4j_session(url) as session:
        session.run(_renamed(_CONSTRAINT, mark)).consume()
        session.run(_renamed(_CONTENT, mark)).consume()


def schema(url: str, mark: str) -> tuple[list[Any], list[Any], list[Any]]:
    """The constraints, the indexes and the nodes on those labels."""
    with neo4j_session(url) as session:
        constraints = session.run(
            "SHOW CONSTRAINTS YIELD name WHERE name CONTAINS $mark RETURN name ORDER BY name",
            mark=mark,
        ).values()
        indexes = session.run(
            "SHOW INDEXES YIELD name WHERE name CONTAINS $mark RETURN name ORDER BY name",
            mark=mark,
        ).values()
        nodes = [
            node
            for label in _LABELS
            for node in session.run(
                f"MATCH (n:{label}{mark}) RETURN labels(n), properties(n) ORDER BY n.id"
            ).values()
        ]
    return constraints, indexes, [_told(*node) for node in nodes]


def _told(labels: Sequence[str], properties: dict[str, Any]) -> list[Any]:
    return [sorted(labels), sorted((key, str(it)) for key, it in properties.items())]


def drop(url: str, mark: str) -> None:
    """Remove all that is on those labels."""
    with neo4j_session(url) as session:
        for kind, all_of_them in (("CONSTRAINT", "CONSTRAINTS"), ("INDEX", "INDEXES")):
            found = session.run(
                f"SHOW {all_of_them} YIELD name WHERE name CONTAINS $mark RETURN name", mark=mark
            ).values()
            for (name,) in found:
                session.run(f"DROP {kind} {name} IF EXISTS").consume()
        for label in _LABELS:
            session.run(f"MATCH (n:{label}{mark}) DETACH DELETE n").consume()
