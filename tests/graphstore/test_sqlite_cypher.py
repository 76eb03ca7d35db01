"""The process that answers Cypher on the embedded store, and the view that it keeps."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from execgraph.graphstore.cypher import Table
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import (
    ConfigurationError,
    CypherFailed,
    CypherRefused,
    CypherTimeout,
    StoreNotOpen,
)
from execgraph.graphstore.sqlite.cypher_dialect import plain, rewritten
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.graphstore.sqlite.view import View
from execgraph.tests.conformance.samples import guard, published, sample_recording

SPACE = "default"
#: Doubles a text until no memory holds it.
GREEDY = "WITH 1 AS one RETURN reduce(t = 'x', i IN range(1, 60) | t + t) AS t"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(str(tmp_path / "graph.db"), namespace=SPACE)
    await made.open()
    yield made
    await made.close()


async def ask(store: SqliteStore, query: str, *, seconds: float = 30, **settings: Any) -> Table:
    limit = timedelta(seconds=seconds)
    return await store.cypher(query, {}, time_limit=limit, limit=100, **settings)


def process(store: SqliteStore) -> int:
    running = store._cypher._process
    assert running is not None
    return running.pid


async def test_nothing_is_started_before_the_first_question(store: SqliteStore) -> None:
    await published(store, sample_recording())
    assert store._cypher._process is None


async def test_one_process_answers_until_the_store_is_closed(store: SqliteStore) -> None:
    await ask(store, "RETURN 1 AS one")
    first = process(store)
    await ask(store, "RETURN 1 AS one")
    assert process(store) == first
    await store.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    with pytest.raises(StoreNotOpen, match="not open"):
        await ask(store, "RETURN 1 AS one")


async def test_a_query_that_takes_all_memory_takes_only_its_own_process(
    store: SqliteStore,
) -> None:
    with pytest.raises((CypherFailed, CypherTimeout)):
        await ask(store, GREEDY, seconds=3)
    assert (await ask(store, "RETURN 1 AS one")).rows == ((1,),)


async def test_a_query_that_does_not_stop_by_itself_is_stopped(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execgraph.graphstore.sqlite.cypher._GRACE", -0.9)
    with pytest.raises(CypherTimeout, match="after 1 seconds"):
        await ask(store, "UNWIND range(1, 4000000) AS n RETURN sum(n * n) AS x", seconds=1)
    assert (await ask(store, "RETURN 1 AS one", seconds=30)).rows == ((1,),)


async def test_a_process_that_was_killed_is_started_again(store: SqliteStore) -> None:
    await ask(store, "RETURN 1 AS one")
    os.kill(process(store), 9)
    with pytest.raises(CypherFailed):
        await ask(store, "RETURN 1 AS one")
    assert (await ask(store, "RETURN 1 AS one")).rows == ((1,),)


async def test_the_event_loop_goes_on_while_a_query_runs(store: SqliteStore) -> None:
    asking = asyncio.create_task(ask(store, "UNWIND range(1, 1000000) AS n RETURN sum(n * n) AS x"))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert (await asking).rows == ((333333833333500000,),)
    assert turns > 10


async def test_whoever_stops_waiting_leaves_no_answer_to_the_next(store: SqliteStore) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await ask(store, "UNWIND range(1, 7000000) AS n RETURN sum(n * n) AS x")
    assert (await ask(store, "RETURN 'mine' AS x")).rows == (("mine",),)


async def test_questions_asked_together_get_their_own_answers(store: SqliteStore) -> None:
    tables = await asyncio.gather(*(ask(store, f"RETURN {n} AS n") for n in range(20)))
    assert [table.rows for table in tables] == [((n,),) for n in range(20)]


async def test_too_large_a_store_is_refused_with_a_way_out(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await published(store, sample_recording(turns=3))
    monkeypatch.setenv("EXECGRAPH_VIEW_STEPS", "5")
    with pytest.raises(CypherRefused, match=r"has 6 steps.* up to 5; keep the graph in Neo4j"):
        await ask(store, "MATCH (s:Step) RETURN count(s) AS n")
    monkeypatch.setenv("EXECGRAPH_VIEW_STEPS", "6")
    assert (await ask(store, "MATCH (s:Step) RETURN count(s) AS n")).rows == ((6,),)
    monkeypatch.setenv("EXECGRAPH_VIEW_STEPS", "many")
    with pytest.raises(ConfigurationError, match="EXECGRAPH_VIEW_STEPS='many'"):
        await ask(store, "MATCH (s:Step) RETURN count(s) AS n")


async def test_loading_is_told_and_only_when_something_is_loaded(store: SqliteStore) -> None:
    await published(store, sample_recording())
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    await ask(store, "RETURN 1 AS one", progress=tell)
    assert told
    assert told[-1][0] == told[-1][1]
    told.clear()
    await ask(store, "RETURN 1 AS one", progress=tell)
    assert told == []


async def test_large_answers_arrive_whole(store: SqliteStore) -> None:
    table = await ask(store, "UNWIND range(1, 100) AS n RETURN [i IN range(1, 20000) | i] AS many")
    assert [len(row[0]) for row in table.rows] == [20000] * 100


async def test_a_view_is_of_one_moment_and_knows_when_that_has_passed(
    store: SqliteStore, tmp_path: Path
) -> None:
    await published(store, sample_recording())
    connection = sqlite3.connect(tmp_path / "graph.db", isolation_level=None)
    view = View(connection, 100, lambda _done, _total: None)
    assert view.fresh()
    await store.lease("walker", "somebody", timedelta(seconds=1))
    assert not view.fresh()
    with pytest.raises(CypherRefused, match="has 4 steps"):
        View(connection, 3, lambda _done, _total: None)
    assert not connection.in_transaction
    connection.close()


async def test_marks_and_their_reasons_are_shown(store: SqliteStore) -> None:
    it = guard(SPACE, "acl:deploy", 1)
    await store.change("acl:deploy", Document.of(1))
    await published(store, sample_recording(guards=[it]))
    query = "MATCH (s:Step) RETURN s.state AS state, s.invalidated_by AS why, count(*) AS n"
    assert (await ask(store, query)).rows == (("valid", None, 4),)
    await store.change("acl:deploy", Document.of(2))
    for walk in await store.walks():
        await store.walk(walk.id)
    assert (await ask(store, query)).rows == (("invalid", it.id, 4),)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("MATCH (a)-[:X*]->(b) RETURN b", "MATCH (a)-[:X*1..7]->(b) RETURN b"),
        ("MATCH (a)-[r:X|Y *2..]-(b) RETURN b", "MATCH (a)-[r:X|Y *2..7]-(b) RETURN b"),
        ("MATCH (a)<-[*..]-(b) RETURN b", "MATCH (a)<-[*1..7]-(b) RETURN b"),
        ("MATCH (a)-[*..3]->(b) RETURN b", "MATCH (a)-[*1..3]->(b) RETURN b"),
        ("MATCH (a)-[*3]->(b) RETURN b", "MATCH (a)-[*3]->(b) RETURN b"),
        ("RETURN [x IN l | x * 2][1..] AS y", "RETURN [x IN l | x * 2][1..] AS y"),
        ("RETURN 2 -[3 * 4][0] AS y", "RETURN 2 -[3 * 4][0] AS y"),
        ("MATCH (n {id: 1}) RETURN n.id", "MATCH (n {execgraph_id: 1}) RETURN n.execgraph_id"),
        ("MATCH (id:Task) RETURN id", "MATCH (id:Task) RETURN id"),
        ("MATCH (n) RETURN n.`name`, id(n)", "MATCH (n) RETURN n.execgraph_name, id(n)"),
        ("RETURN '.id' AS a /* n.id */", "RETURN '.id' AS a"),
    ],
)
def test_a_query_is_rewritten_where_it_must_be(query: str, text: str) -> None:
    assert rewritten(query, 7).text.rstrip() == text


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("MATCH (n) RETURN n.id, count( *) AS `how many`", ("n.id", "how many")),
        ("RETURN DISTINCT [1, 2] , {a: 1} ORDER BY 1", ("[1, 2]", "{a: 1}")),
        ("WITH 1 AS `one ``` RETURN `one ```, `one ``` + 1", ("one `", "`one ``` + 1")),
        (
            "MATCH (n) RETURN keys( n), n.`id` /* x */, timestamp()",
            ("keys( n)", "n.`id`", "timestamp()"),
        ),
        ("MATCH (n) RETURN percentileCont(n.n, 0.5) AS percentile_cont", ("percentile_cont",)),
        ("RETURN 1 AS a UNION RETURN 2 AS a", ("a",)),
        ("WITH 1 AS id, 2 AS type RETURN *", ("id", "type")),
        ("CALL db.labels()", ("label",)),
        ("CALL { RETURN 1 AS x } RETURN x;", ("x",)),
    ],
)
async def test_columns_are_called_as_on_neo4j(
    store: SqliteStore, query: str, columns: tuple[str, ...]
) -> None:
    assert (await ask(store, query)).columns == columns


async def test_a_parameter_may_be_called_as_a_property(store: SqliteStore) -> None:
    limit = timedelta(seconds=30)
    given = {"id": {"type": 1}}
    table = await store.cypher("RETURN $id AS id", given, time_limit=limit, limit=1)
    assert table.rows == (({"type": 1},),)


def test_maps_that_look_like_nodes_stay_maps() -> None:
    assert plain({"labels": ["a"], "properties": {}}) == {"labels": ["a"], "properties": {}}
    assert plain({"execgraph_id": 1, "execgraph_type": 2}) == {"id": 1, "type": 2}
