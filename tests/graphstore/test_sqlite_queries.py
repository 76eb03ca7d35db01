"""The embedded store's statements: their cost does not grow with the store."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.sqlite.lists import add_functions
from execgraph.graphstore.sqlite.queries import QUERIES, sections, still
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.tests.conformance.samples import guard, published, sample_recording

_STATEMENTS = {
    **{name: text for name, text in QUERIES.items() if not name.startswith("still")},
    "still": still(3),
}
# Once, when changes were lost; and that of namespaces, which are few.
_ALL = {
    "believe_nothing",
    "close_approvals",
    "renumber_versions",
    "renumber_holds",
    "renumber_events",
    "namespaces",
}


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    add_functions(connection)
    for script in sections("schema.sql").values():
        connection.executescript(script)
    yield connection
    connection.close()


def _plan(database: sqlite3.Connection, statement: str) -> list[str]:
    named = dict.fromkeys(re.findall(r":(\w+)", statement), 1)
    numbered = max((int(it) for it in re.findall(r"\?(\d+)", statement)), default=0)
    parameters: object = named or [1] * (numbered + len(re.findall(r"\?(?!\d)", statement)))
    rows = database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
    return [row[3] for row in rows]


@pytest.mark.parametrize("name", sorted(_STATEMENTS.keys() - _ALL))
def test_no_statement_reads_a_whole_table(database: sqlite3.Connection, name: str) -> None:
    scans = [line for line in _plan(database, _STATEMENTS[name]) if line.startswith("SCAN")]
    small = {"SCAN used", "SCAN wanted VIRTUAL TABLE INDEX 1:", "SCAN CONSTANT ROW"}
    small |= {"SCAN told VIRTUAL TABLE INDEX 1:"}  # a row's own list
    small |= {"SCAN affected"}  # what a common table expression has gathered
    small |= {"SCAN newest"}  # what an index and a limit have gathered
    assert set(scans) <= small


@pytest.mark.parametrize("name", _STATEMENTS)
def test_no_statement_sorts(database: sqlite3.Connection, name: str) -> None:
    assert not [line for line in _plan(database, _STATEMENTS[name]) if "FOR ORDER BY" in line]


def test_the_newest_tasks_of_an_agent_are_found_by_their_index(
    database: sqlite3.Connection,
) -> None:
    plan = " ".join(_plan(database, _STATEMENTS["newest_tasks_of_agent"]))
    assert "SEARCH execution USING INDEX execution_of_agent (ns=? AND agent=?)" in plan


_RANGE = "started_at>? AND (started_at,id)<(?,?)"


@pytest.mark.parametrize(
    ("name", "search"),
    {
        "executions": f"execution_by_time (ns=? AND {_RANGE})",
        "executions_of_agent": f"execution_of_agent (ns=? AND agent=? AND {_RANGE})",
        "executions_of_task": f"execution_of_task (task=? AND {_RANGE})",
        "executions_of_state": f"execution_of_state (ns=? AND state=? AND {_RANGE})",
        "executions_of_mode": f"execution_of_mode (ns=? AND mode=? AND {_RANGE})",
    }.items(),
)
def test_runs_are_listed_along_an_index(
    database: sqlite3.Connection, name: str, search: str
) -> None:
    assert f"SEARCH execution USING INDEX {search}" in " ".join(_plan(database, _STATEMENTS[name]))


def test_every_statement_is_used() -> None:
    package = Path(__file__).parents[2] / "graphstore" / "sqlite"
    source = "".join(file.read_text() for file in package.glob("*.py"))
    unused = [
        name
        for name in QUERIES
        if f'"{name}"' not in source and not name.startswith("executions_of_")
    ]
    assert unused == []


def test_the_walk_from_a_precondition_uses_its_index(database: sqlite3.Connection) -> None:
    statement = """
        WITH RECURSIVE reached (execution, position) AS (
            SELECT execution, position FROM guard WHERE precondition = :precondition
            UNION
            SELECT feeds.execution, target FROM reached
            JOIN feeds ON feeds.execution = reached.execution AND source = reached.position
        )
        SELECT count(*) FROM reached
    """
    plan = " ".join(_plan(database, statement))
    assert "guard USING COVERING INDEX guarded_step (precondition=?)" in plan
    assert "feeds USING PRIMARY KEY (execution=? AND source=?)" in plan


async def test_a_conversation_of_n_turns_takes_n_times_the_space(tmp_path: Path) -> None:
    sizes = []
    for turns in (50, 100, 200):
        path = tmp_path / f"{turns}.db"
        store = SqliteStore(str(path), namespace="team")
        await store.open()
        await published(store, sample_recording(turns=turns))
        await store.close()
        sizes.append(path.stat().st_size)
    assert sizes[2] - sizes[1] < 2.5 * (sizes[1] - sizes[0])


async def test_a_payload_is_stored_once_and_compressed(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    document = Document.of({"rows": ["the same again"] * 50_000})
    for n in range(20):
        await store.change(f"schema:{n}", document)
    await store.close()
    assert path.stat().st_size < len(document.payload.data) / 2


async def test_the_graph_can_be_read_from_the_columns(tmp_path: Path) -> None:
    """A view of the graph needs every field as a column, and every edge as rows."""
    path = tmp_path / "graph.db"
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    await store.change("acl:a", Document.of({"a": 1}))
    held = guard("team", "acl:a", {"a": 1}, "$.a")
    await published(store, sample_recording(guards=[held]))
    await store.facts({"acl:a": frozenset({"$.a"})})
    raw = sqlite3.connect(path)
    rows = raw.execute("""
        SELECT task.key, execution.id, step.kind, step.position, precondition.id, version.n
        FROM resource
        JOIN version ON version.resource = resource.rid
        JOIN facet ON facet.resource = resource.rid
        JOIN holds ON holds.facet = facet.rid AND holds.n = version.n
        JOIN precondition ON precondition.rid = holds.precondition
        JOIN guard ON guard.precondition = precondition.rid
        JOIN step ON step.execution = guard.execution AND step.position = guard.position
        JOIN execution ON execution.rid = step.execution
        JOIN task ON task.rid = execution.task
        ORDER BY step.position
    """).fetchall()
    kinds = ["decision", "action"] * 2
    assert rows == [
        ("deploy", "deploy-1", kind, position, held.id, 1) for position, kind in enumerate(kinds)
    ]
    edges = raw.execute("SELECT source, target FROM feeds ORDER BY source").fetchall()
    assert edges == [(0, 1), (1, 2), (2, 3)]
    raw.close()
    await store.close()
