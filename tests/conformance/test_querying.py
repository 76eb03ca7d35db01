"""Cypher: what is answered, what is refused, and what is stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from execgraph.graphstore.cypher import Table
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import CypherFailed, CypherRefused, CypherTimeout
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import guard, published, sample_recording

_WRITES = (
    "CREATE (n:Step {id: 'made'})",
    "MERGE (n:Step {id: 'made'}) RETURN n",
    "MATCH (n) SET n.made = true",
    "MATCH (n) SET n:Made RETURN count(n)",
    "MATCH (n:Step) REMOVE n.id",
    "MATCH (n) DETACH DELETE n",
    "MATCH ()-[r:GUARDS]->() DELETE r",
    "UNWIND [1] AS x CREATE (n:Made)",
    "FOREACH (x IN [1] | CREATE (:Made))",
    "CALL { CREATE (n:Made) RETURN n } RETURN n",
    "MATCH (n:Step) CALL (n) { SET n.made = true } RETURN count(*)",
    "CREATE INDEX made FOR (n:Made) ON (n.made)",
    "DROP INDEX execgraph_traces",
    "/* MATCH */ // RETURN\nCREATE (n:Made)",
)
_BEYOND_READING = (
    "CALL db.createLabel('Made')",
    "CALL dbms.components() YIELD name RETURN name",
    "CALL { CALL db.createLabel('Made') RETURN 1 AS one } RETURN one",
    "CALL nobody.knows.this()",
    "LOAD CSV FROM 'file:///etc/hostname' AS line RETURN line",
    "WITH 1 AS one LOAD  CSV FROM 'https://example.org/' AS line RETURN line",
    "SHOW USERS",
    "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
    "CYPHER runtime=slotted MATCH (n) RETURN n",
    "USE system MATCH (n) RETURN n",
    "EXPLAIN MATCH (n) RETURN n",
    "PROFILE MATCH (n) RETURN n",
)
_NO_QUERIES = (
    "",
    " ;; ",
    "MATCH (n RETURN n",
    "MATCH (n:Step) RETURN n.id x y",
    "RETURN 'without an end",
    "RETURN 1 /* without an end",
    "RETURN `without an end",
    "RETURN nobody_knows_this(1)",
    "RETURN $nobody_gave_this",
    "RETURN 1 AS a; RETURN 2 AS a",
    "MATCH (n:Step)",
    "RETURN nobody.bound.this",
    "SELECT * FROM step",
)


async def _ask(
    store: GraphStore,
    query: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    seconds: float = 30.0,
    limit: int = 1000,
) -> Table:
    return await store.cypher(
        query, parameters or {}, time_limit=timedelta(seconds=seconds), limit=limit
    )


async def _recorded(store: GraphStore, *, turns: int = 2) -> None:
    document = Document.of({"groups": ["ops"]})
    await store.change("acl:deploy", document)
    it = guard(store.namespace, "acl:deploy", {"groups": ["ops"]})
    await published(store, sample_recording(guards=[it], turns=turns))


async def test_a_query_that_writes_is_refused_and_changes_nothing(store: GraphStore) -> None:
    """Whatever it writes, and however it says so."""
    await _recorded(store)
    count = "MATCH (n {namespace: $namespace}) RETURN count(n) AS n, count(n.made) AS made"
    before = await _ask(store, count)
    for query in (*_WRITES, *_BEYOND_READING):
        await _expect_refused(store, query)
    assert await _ask(store, count) == before, "nothing is written"
    made = await _ask(store, "MATCH (n:Made) RETURN count(n) AS n")
    assert made.rows == ((0,),), "nothing is made"


async def test_what_is_no_query_is_refused(store: GraphStore) -> None:
    """It does not parse, or names what there is not."""
    for query in _NO_QUERIES:
        await _expect_refused(store, query)


async def _expect_refused(store: GraphStore, query: str) -> None:
    with pytest.raises(CypherRefused) as refused:
        await _ask(store, query)
    assert str(refused.value), f"{query!r} is refused in words"


async def test_a_refusal_says_where(store: GraphStore) -> None:
    """By line and column of the query as it was given, not as the store takes it."""
    query = "MATCH (n:Step)-[:FEEDS*]->(m)\nWHERE n.id = m.id RETRUN n.id"
    with pytest.raises(CypherRefused, match=r"^line 2, column 19:"):
        await _ask(store, query)


async def test_an_empty_query_is_told_what_one_looks_like(store: GraphStore) -> None:
    for query in ("", " \n", "// nothing"):
        with pytest.raises(CypherRefused, match=r"^the query is empty; give one, such as 'MATCH"):
            await _ask(store, query)


async def test_words_in_strings_names_and_comments_do_not_count(store: GraphStore) -> None:
    """Only what is Cypher is taken for it."""
    query = """
        // CREATE (n) and a quote: '
        WITH 'CREATE (n) LOAD CSV ; SET' AS `DELETE` /* "; */
        RETURN `DELETE` AS `LOAD CSV`, "it's // no comment" AS c, {id: 1, type: 'x'} AS `set`
    """
    table = await _ask(store, query)
    assert table.columns == ("LOAD CSV", "c", "set"), "the columns"
    assert table.rows == (
        ("CREATE (n) LOAD CSV ; SET", "it's // no comment", {"id": 1, "type": "x"}),
    ), "the row"


async def test_a_long_query_is_stopped(store: GraphStore) -> None:
    """By CypherTimeout, soon after its time; the next one is answered."""
    await _recorded(store)
    long = (
        "UNWIND range(1, 3000) AS a UNWIND range(1, 3000) AS b UNWIND range(1, 3000) AS c"
        " WITH a, b, c WHERE a + b + c < 0 RETURN count(*) AS n"
    )
    started = time.monotonic()
    try:
        await _ask(store, long, seconds=0.5)
    except CypherTimeout:
        assert time.monotonic() - started < 10, "it is stopped soon"
    else:
        raise AssertionError("27,000,000,000 rows were counted")
    assert (await _ask(store, "RETURN 1 AS one")).rows == ((1,),), "the next answer"


async def test_a_million_rows_are_cut(store: GraphStore) -> None:
    """At the limit, and the table says so; at exactly the limit it does not."""
    million = "UNWIND range(1, 1000000) AS n RETURN n"
    table = await _ask(store, million, limit=10)
    assert (len(table), table.truncated) == (10, True), "rows, and whether there were more"
    assert [row["n"] for row in table] == list(range(1, 11)), "the first ones"
    table = await _ask(store, "UNWIND range(1, 10) AS n RETURN n", limit=10)
    assert (len(table), table.truncated) == (10, False), "rows, and whether there were more"


async def test_what_cannot_be_computed_fails(store: GraphStore) -> None:
    """It is no refusal: the query was run."""
    try:
        await _ask(store, "UNWIND [1, 0] AS n RETURN 1 / n AS x")
    except CypherFailed:
        return
    raise AssertionError("one was divided by zero")


async def test_parameters_are_json_and_the_namespace_is_bound(
    store: GraphStore, namespace: str
) -> None:
    """They come back as they were given; what is no JSON is refused."""
    given = {
        "map": {"id": 1, "type": [None, True, {"title": 2**53 + 1}]},
        "list": ["é", -1.5, []],
        "text": "'quoted' ; CREATE (n)",
    }
    query = "RETURN $namespace AS n, $map AS map, $list AS list, $text AS text, $map.id AS id"
    table = await _ask(store, query, given)
    assert table.rows == ((namespace, given["map"], given["list"], given["text"], 1),), "the row"
    for value in (object(), {1: 2}, float("nan"), b"bytes", 2**63):
        try:
            await _ask(store, "RETURN $x AS x", {"x": value})
        except CypherRefused:
            continue
        raise AssertionError(f"the parameter {value!r} was taken")
    try:
        await _ask(store, "RETURN 1 AS x", {"namespace": f"{namespace}-other"})
    except CypherRefused:
        return
    raise AssertionError("another namespace was taken for $namespace")


async def test_cypher_sees_all_namespaces(store: GraphStore, namespace: str) -> None:
    """Nodes with the same key in two of them are two."""
    other = f"{namespace}-other"
    await _recorded(store)
    await _recorded(store.of(other))
    query = (
        "MATCH (s:Step) WHERE s.namespace IN $spaces AND s.id = 'deploy-1/0' RETURN count(s) AS n"
    )
    table = await _ask(store, query, {"spaces": [namespace, other]})
    assert table.rows == ((2,),), "steps in both"
    fed = (
        "MATCH (s:Step {namespace: $namespace, id: 'deploy-1/0'})-[:FEEDS]->(t)"
        " RETURN t.namespace AS n"
    )
    assert (await _ask(store.of(other), fed)).rows == ((other,),), "what it feeds in its own"


async def test_long_paths_are_followed_to_their_end(store: GraphStore) -> None:
    """However they are written."""
    await _recorded(store, turns=30)
    start = "MATCH (s:Step {namespace: $namespace, id: 'deploy-1/0'})"
    for hops, reached in {"*": 59, "*1..": 59, "*0..": 60, "*11..": 49, "*..2": 2, "*3": 1}.items():
        query = f"{start}-[:FEEDS{hops}]->(t) RETURN count(t) AS n"
        assert (await _ask(store, query)).rows == ((reached,),), f"steps over {hops}"


async def test_nodes_show_their_own_properties_only(store: GraphStore) -> None:
    """A name that a node does not have is null, whatever the store keeps beside it."""
    await _recorded(store)
    query = (
        "MATCH (t:Task {namespace: $namespace}) RETURN t.id AS id, t.title AS title,"
        " t.type AS type, t.name AS name, t.label AS label, t.lock AS lock,"
        " t['id'] AS sub, t AS task"
    )
    (row,) = await _ask(store, query)
    task = row.pop("task")
    assert set(row.values()) == {None}, "names that a task has not"
    assert task["labels"] == ["Task"], "its labels"
    assert set(task["properties"]) == {"namespace", "key", "agent", "inputs", "context"}, (
        "its properties"
    )
    keys = "MATCH (s:Decision {namespace: $namespace}) UNWIND keys(s) AS k RETURN DISTINCT k"
    found = {row["k"] for row in await _ask(store, keys)}
    assert {"id", "name", "position"} <= found, "keys() names what a step has"
    assert found & {"title", "type", "execgraph_id"} == set(), "keys() names nothing else"


async def test_rows_are_json(store: GraphStore) -> None:
    """Nodes, relationships, paths and times included."""
    await _recorded(store)
    query = (
        "MATCH p = (:Execution {namespace: $namespace})-[r:HAS_STEP]->(s:Step {position: 1})"
        " RETURN p, r, s, [s] AS list, {s: s} AS map, datetime({epochMillis: 1700000000000}) AS at"
    )
    (row,) = await _ask(store, query)
    assert json.loads(json.dumps(row)) == row, "what JSON makes of the row"
    assert row["r"] == {"type": "HAS_STEP", "properties": {"position": 1}}, "the relationship"
    assert row["s"]["labels"] == ["Action", "Step"], "the labels of the step"
    assert row["list"] + [row["map"]["s"]] == [row["s"]] * 2, "nodes inside of others"
    assert [len(row["p"][part]) for part in ("nodes", "relationships")] == [2, 1], "the path"
    assert row["at"] == "2023-11-14T22:13:20+00:00", "the time"


async def test_an_answer_shows_what_was_written_before(store: GraphStore, two: GraphStore) -> None:
    """By this store or by another one on the same data, from one question to the next."""
    state = "MATCH (r:Resource {namespace: $namespace}) RETURN r.current AS n, r.state AS state"
    assert (await _ask(store, state)).rows == (), "before anything was written"
    await _recorded(store)
    assert (await _ask(store, state)).rows == ((1, "present"),), "its own write"
    await two.change("acl:deploy", Document.of({"groups": []}))
    assert (await _ask(store, state)).rows == ((2, "present"),), "another's write"
    await two.change("acl:deploy", None)
    assert (await _ask(store, state)).rows == ((3, "withdrawn"),), "another's again"
