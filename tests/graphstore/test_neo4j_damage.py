"""What somebody else did to the database is found out, and not replayed."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import PayloadCorrupted
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.tests.conformance.samples import guard, newest, published, sample_recording

from .conftest import Cypher

pytestmark = pytest.mark.neo4j

_URI = "acl:prod"

_DAMAGE = {
    "a value was edited": "MATCH (v:Value {namespace: $space}) WHERE v.text CONTAINS 'checkout'"
    " SET v.text = replace(v.text, 'checkout', 'checkin')",
    "a value was deleted": "MATCH (v:Value {namespace: $space}) WHERE v.text CONTAINS 'checkout'"
    " DELETE v",
    "a compressed value was cut": "MATCH (v:Value {namespace: $space}) WHERE v.data IS NOT NULL"
    " SET v.data = null",
    "a step lost its guard": "MATCH (:Precondition {namespace: $space})-[g:GUARDS]->()"
    " WITH g LIMIT 1 DELETE g",
    "a guard was deleted": "MATCH (p:Precondition {namespace: $space}) DETACH DELETE p",
    "a guard was weakened": "MATCH (p:Precondition {namespace: $space}) SET p.fingerprint = 'x'",
    "a guard's selector was changed": "MATCH (p:Precondition {namespace: $space})"
    " SET p.selector = '$.b'",
    "a step was deleted": "MATCH (s:Decision {namespace: $space}) WITH s LIMIT 1 DETACH DELETE s",
    "a step was edited": "MATCH (s:Action {namespace: $space}) SET s.effect = 'pure'",
    "a step is no step any more": "MATCH (s:Action {namespace: $space}) SET s.kind = 'wish'",
    "a step was moved": "MATCH ()-[at:HAS_STEP]->(s:Step {namespace: $space, position: 0})"
    " SET s.position = 7",
    "a step feeds another": "MATCH (s:Step {namespace: $space, position: 0})"
    " MATCH (t:Step {namespace: $space, position: 3}) CREATE (s)-[:FEEDS]->(t)",
    "a trace was cut short": "MATCH (e:Execution {namespace: $space}) SET e.published_steps = 2",
    "a trace has no state it could have": "MATCH (e:Execution {namespace: $space})"
    " SET e.mode = 'dream'",
}


@pytest.mark.parametrize("what", _DAMAGE)
async def test_a_damaged_trace_is_not_found_and_reported(
    neo4j_store: Neo4jStore, cypher: Cypher, space: str, what: Any
) -> None:
    await neo4j_store.change(_URI, Document.of({"a": 1}))
    large = sample_recording(guards=[guard(space, _URI, {"a": 1}, "$.a")], says="yes" * 2000)
    await published(neo4j_store, large)
    assert (await neo4j_store.lookup("deploy", newest)).chosen == "deploy-1"
    await cypher(_DAMAGE[what])
    found = await neo4j_store.lookup("deploy", newest)
    assert found.damaged == ("deploy-1",)
    assert found.traces == ()
    assert found.chosen is None


async def test_an_older_trace_serves_when_the_newest_is_damaged(
    neo4j_store: Neo4jStore, cypher: Cypher
) -> None:
    await published(neo4j_store, sample_recording(number=1, says="old"))
    await published(neo4j_store, sample_recording(number=2, says="new"))
    await cypher(
        "MATCH (v:Value {namespace: $space}) WHERE v.text CONTAINS 'new 0' SET v.text = ''"
    )
    found = await neo4j_store.lookup("deploy", newest)
    assert found.damaged == ("deploy-2",)
    assert found.chosen == "deploy-1"
    assert found.traces[0].payloads <= set(found.values)


async def test_the_next_recording_heals_a_payload(neo4j_store: Neo4jStore, cypher: Cypher) -> None:
    recording = sample_recording()
    await published(neo4j_store, recording)
    await cypher("MATCH (v:Value {namespace: $space}) SET v.text = 'x', v.data = null")
    digests = [value.digest for value in recording.values]
    with pytest.raises(PayloadCorrupted) as caught:
        await neo4j_store.values(digests)
    assert set(caught.value.digests) == set(digests)
    await neo4j_store.write(sample_recording(number=2))
    values = await neo4j_store.values(digests)
    assert values == {value.digest: value.data for value in recording.values}


async def test_a_damaged_document_is_reported_and_its_facets_hold_nothing(
    neo4j_store: Neo4jStore, cypher: Cypher, space: str, caplog: pytest.LogCaptureFixture
) -> None:
    await neo4j_store.change(_URI, Document.of({"a": 1}))
    await cypher("MATCH (v:Value {namespace: $space}) SET v.text = '{\"a\": 2}'")
    with pytest.raises(PayloadCorrupted):
        await neo4j_store.facts({_URI: frozenset({"$.a"})})
    await published(neo4j_store, sample_recording(guards=[guard(space, _URI, {"a": 1})]))
    with caplog.at_level(logging.WARNING):
        found = await neo4j_store.lookup("deploy", newest)
    assert found.facts.of(_URI).fingerprints == {}
    assert "cannot be computed" in caplog.text


async def test_a_change_goes_on_from_a_damaged_document(
    neo4j_store: Neo4jStore, cypher: Cypher, space: str
) -> None:
    await neo4j_store.change(_URI, Document.of({"a": 1}))
    await neo4j_store.write(sample_recording(guards=[guard(space, _URI, {"a": 1})]))
    await cypher("MATCH (v:Value {namespace: $space}) SET v.text = 'x'")
    event = await neo4j_store.change(_URI, Document.of({"a": 2}))
    assert event is not None
    assert event.to_version == 2
    assert [(it.before, it.after) for it in event.changed] == [(None, Document.of({"a": 2}).whole)]


async def test_a_version_that_is_gone_makes_no_lookup_wait_for_ever(
    neo4j_store: Neo4jStore, cypher: Cypher, space: str
) -> None:
    await neo4j_store.change(_URI, Document.of({"a": 1}))
    await published(neo4j_store, sample_recording(guards=[guard(space, _URI, {"a": 1})]))
    await cypher("MATCH (v:Version {namespace: $space}) DETACH DELETE v")
    found = await neo4j_store.lookup("deploy", newest)
    assert (found.traces, found.damaged) == ((), ())
