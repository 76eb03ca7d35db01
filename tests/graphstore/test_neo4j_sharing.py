"""Several tasks and several processes on one database lose nothing of each other's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.tests.conformance.samples import sample_recording

from .conftest import Cypher

pytestmark = pytest.mark.neo4j

_URI = "acl:prod"
_CHANGER = textwrap.dedent(
    """
    import asyncio, sys
    from execgraph.graphstore.document import Document
    from execgraph.graphstore.neo4j.store import Neo4jStore

    async def main(uri, space, name, many):
        store = Neo4jStore(uri, namespace=space)
        await store.open()
        for number in range(int(many)):
            document = Document.of({"by": name, "number": number})
            assert await store.change("acl:prod", document, source=name) is not None
        await store.close()

    asyncio.run(main(*sys.argv[1:]))
    """
)


async def test_several_processes_lose_none_of_their_changes(
    neo4j_store: Neo4jStore, neo4j_uri: str, space: str
) -> None:
    names, many = ["a", "b", "c", "d"], 25
    await neo4j_store.change(_URI, Document.of({}))
    await neo4j_store.facts({_URI: frozenset({None, "$.by"})})
    commands = [
        [sys.executable, "-c", _CHANGER, neo4j_uri, space, name, f"{many}"] for name in names
    ]
    done = await asyncio.gather(*(asyncio.to_thread(subprocess.run, it) for it in commands))
    assert [it.returncode for it in done] == [0] * len(names)
    events = (await neo4j_store.changes(resource=_URI, limit=1000))[:-1]
    total = many * len(names)
    assert [event.to_version for event in events] == list(range(total + 1, 1, -1))
    assert {name: sum(it.source == name for it in events) for name in names} == dict.fromkeys(
        names, many
    )
    assert all(it.after is not None for event in events for it in event.changed)
    newest_first = await neo4j_store.changes(limit=1000)
    assert newest_first[:-1] == events


async def test_many_tasks_of_one_store_lose_none_of_their_changes(neo4j_store: Neo4jStore) -> None:
    events = await asyncio.gather(
        *(neo4j_store.change(_URI, Document.of(number)) for number in range(60))
    )
    assert sorted(event.to_version for event in events if event is not None) == list(range(1, 61))


async def test_writing_one_run_twice_at_once_writes_it_once(
    neo4j_uri: str, cypher: Cypher, space: str
) -> None:
    recording = sample_recording()
    stores = [Neo4jStore(neo4j_uri, namespace=space) for _ in range(4)]
    for store in stores:
        await store.open()
    await asyncio.gather(*(store.write(recording) for store in stores))
    for store in stores:
        await store.close()
    assert await cypher(
        "MATCH (e:Execution {namespace: $space}) RETURN COUNT { (e)-[:HAS_STEP]->() },"
        " COUNT { (e)<-[:HAS_EXECUTION]-() }"
    ) == [[len(recording.steps), 1]]


async def test_the_lock_leaves_no_property_behind(neo4j_store: Neo4jStore, cypher: Cypher) -> None:
    recording = sample_recording()
    await neo4j_store.change(_URI, Document.of(1))
    await neo4j_store.write(recording)
    await neo4j_store.publish(recording.execution.id, steps=1, manifest="m", signature="s")
    assert (
        await cypher("MATCH (n {namespace: $space}) WHERE n.lock IS NOT NULL RETURN labels(n)")
        == []
    )


async def test_a_lease_given_before_the_clock_was_set_back_is_free(
    neo4j_store: Neo4jStore, cypher: Cypher
) -> None:
    hour = timedelta(hours=1)
    assert await neo4j_store.lease("walker", "a", hour)
    assert not await neo4j_store.lease("walker", "b", hour)
    await cypher(
        "MATCH (l:Lease {namespace: $space})"
        " SET l.given = l.given + 3600000, l.until = l.until + 3600000"
    )
    assert await neo4j_store.lease("walker", "b", hour)
    assert not await neo4j_store.lease("walker", "a", hour)
