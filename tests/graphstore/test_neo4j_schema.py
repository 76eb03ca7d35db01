"""The schema: there after ``open``, whoever opens at the same time, and known by its version."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from neo4j import AsyncDriver

from execgraph.graphstore.errors import SchemaTooNew
from execgraph.graphstore.neo4j import queries, schema
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.tests.conformance.samples import published, sample_recording

from .conftest import Cypher

pytestmark = pytest.mark.neo4j

_KEYS = {
    ("Task", "namespace", "key"),
    ("Execution", "namespace", "id"),
    ("Step", "namespace", "id"),
    ("Value", "namespace", "digest"),
    ("SideEffect", "namespace", "id"),
    ("Resource", "namespace", "uri"),
    ("Version", "namespace", "resource", "n"),
    ("Facet", "namespace", "key"),
    ("Precondition", "namespace", "id"),
    ("ChangeEvent", "namespace", "id"),
    ("DailyTotals", "namespace", "totals_of"),
    ("Collection", "of"),
    ("Gate", "of", "number"),
}


async def test_every_key_is_unique_within_a_namespace(
    neo4j_store: Neo4jStore, cypher: Cypher
) -> None:
    rows = await cypher(
        "SHOW CONSTRAINTS YIELD name, type, labelsOrTypes, properties"
        " WHERE name STARTS WITH 'execgraph_' AND type = 'UNIQUENESS'"
        " RETURN labelsOrTypes[0], properties"
    )
    assert {(label, *properties) for label, properties in rows} >= _KEYS


async def test_every_index_is_online_after_open(neo4j_store: Neo4jStore, cypher: Cypher) -> None:
    rows = await cypher(
        "SHOW INDEXES YIELD name, state WHERE name STARTS WITH 'execgraph_' RETURN name, state"
    )
    statements = [name for name in queries.schema_statements() if name.startswith("create_")]
    assert len(rows) >= len(statements)
    assert {state for _, state in rows} == {"ONLINE"}


async def test_the_schema_has_a_version_of_its_own(neo4j_store: Neo4jStore, cypher: Cypher) -> None:
    rows = await cypher("MATCH (s:ExecgraphSchema) RETURN s.version")
    assert rows == [[schema.VERSION]]


async def test_a_newer_schema_is_refused_with_the_remedy(
    neo4j_store: Neo4jStore, neo4j_uri: str, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "VERSION", schema.VERSION - 1)
    store = Neo4jStore(neo4j_uri, namespace=space)
    with pytest.raises(SchemaTooNew, match="upgrade execgraph"):
        await store.open()


async def test_opening_an_empty_database_at_once_makes_one_schema(
    neo4j_uri: str, cypher: Cypher, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On labels of its own, since the database is shared with other tests."""
    mark = uuid.uuid4().hex[:8]
    chosen = ("create_task", "create_traces", "create_changes")
    own = {name: _renamed(queries.query(name), mark) for name in chosen}
    rest = {
        "version": "RETURN null AS v, null AS s",
        "set_version": "RETURN 1 AS v, 'id' AS s",
        "await_indexes": "RETURN 1",
    }
    monkeypatch.setattr(queries, "queries", lambda: own | rest)
    stores = [Neo4jStore(neo4j_uri, namespace=space) for _ in range(8)]
    try:
        await asyncio.gather(*(store.open() for store in stores))
        rows = await cypher("SHOW INDEXES YIELD name WHERE name CONTAINS $mark", mark=mark)
        assert len(rows) == len(chosen)
    finally:
        for store in stores:
            await store.close()
        await cypher(f"DROP CONSTRAINT execgraph_{mark}_task IF EXISTS")
        await cypher(f"DROP INDEX execgraph_{mark}_traces IF EXISTS")
        await cypher(f"DROP INDEX execgraph_{mark}_changes IF EXISTS")


async def test_what_version_1_wrote_is_brought_up_to_date(
    neo4j_store: Neo4jStore, cypher: Cypher
) -> None:
    await cypher(
        "CREATE (:ChangeEvent {namespace: $space, id: 'a', withdrawn: true}),"
        " (:ChangeEvent {namespace: $space, id: 'b', withdrawn: false}),"
        " (:Execution {namespace: $space, id: 'p', state: 'published'})"
        "-[:HAS_STEP]->(:Step {namespace: $space, id: 'p/0'}),"
        " (u:Execution {namespace: $space, id: 'u', state: 'unpublished'})"
        "-[:HAS_STEP]->(:Step {namespace: $space, id: 'u/0', state: 'invalid'}),"
        " (u)-[:HAS_STEP]->(:Step {namespace: $space, id: 'u/1'})"
    )
    for _ in range(2):
        for name in ("upgrade_changes", "upgrade_marks"):
            await neo4j_store._client.run(name, {})
    rows = await cypher(
        "MATCH (c:ChangeEvent {namespace: $space}) RETURN c.id, c.kind, c.withdrawn ORDER BY c.id"
    )
    assert rows == [["a", "withdrawn", None], ["b", "changed", None]]
    rows = await cypher(
        "MATCH (e:Execution {namespace: $space})-[:HAS_STEP]->(s)"
        " RETURN s.id, e.walk, s.state ORDER BY s.id"
    )
    # A step that another process has marked meanwhile stays marked.
    assert rows == [["p/0", "open", "valid"], ["u/0", None, "invalid"], ["u/1", None, "valid"]]


def _renamed(statement: str, mark: str) -> str:
    for label in ("Task", "Execution", "ChangeEvent"):
        statement = statement.replace(f":{label})", f":Test{mark}{label})")
    return statement.replace("execgraph_", f"execgraph_{mark}_")


async def test_a_given_driver_is_used_and_never_closed(
    neo4j_uri: str, neo4j_driver: AsyncDriver, space: str
) -> None:
    store = Neo4jStore(neo4j_uri, namespace=space, driver=neo4j_driver)
    await store.open()
    await published(store, sample_recording())
    await store.close()
    await neo4j_driver.verify_connectivity()
