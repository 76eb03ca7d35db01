"""The graph as people find it who query it with Cypher: names, directions, flat properties."""

from __future__ import annotations

from typing import Any

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Expected
from execgraph.graphstore.model import Recording
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.tests.conformance.samples import (
    guard,
    published,
    sample_effect,
    sample_recording,
    sample_replay,
)

from .conftest import Cypher

pytestmark = pytest.mark.neo4j

_URI = "acl:prod"


@pytest.fixture
async def recording(neo4j_store: Neo4jStore, space: str) -> Recording:
    """A resource that changed, a trace that rests on it, and a replay of that with an effect."""
    recorded = sample_recording(guards=[guard(space, _URI, {"a": 1}, "$.a")])
    await neo4j_store.change(_URI, Document.of({"a": 1}))
    await neo4j_store.facts({_URI: frozenset({"$.a"})})
    expected = [Expected(_URI, 1, believed=True)]
    await neo4j_store.intend(sample_effect("deploy-1"), expected)
    done = sample_effect("deploy-1", done=True, step="deploy-1/1")
    await published(neo4j_store, recorded.model_copy(update={"effects": (done,)}))
    await neo4j_store.intend(sample_effect("deploy-replay-9"), expected)
    effect = sample_effect("deploy-replay-9", step="deploy-1/1")
    await neo4j_store.write_replays([sample_replay(recorded, 9, [effect])])
    await neo4j_store.change(_URI, Document.of({"a": 2}))
    return recorded


async def test_relationships_join_what_the_model_says(recording: Any, cypher: Cypher) -> None:
    rows = await cypher(
        "MATCH (a {namespace: $space})-[r]->(b) RETURN DISTINCT labels(a)[0], type(r), labels(b)[0]"
    )
    assert {" ".join(row) for row in rows} == {
        "Task HAS_EXECUTION Execution",
        "Execution HAS_STEP Step",
        "Execution PERFORMED SideEffect",
        "Execution REPLAYED Execution",
        "Step FEEDS Step",
        "Step CAUSED SideEffect",
        "Resource HAS_VERSION Version",
        "Resource HAS_FACET Facet",
        "Version HOLDS Precondition",
        "Facet HAS_VALUE Precondition",
        "Precondition GUARDS Step",
        "ChangeEvent CHANGED Facet",
        "ChangeEvent FROM Version",
        "ChangeEvent TO Version",
    }


async def test_every_relationship_is_written_once(recording: Any, cypher: Cypher) -> None:
    rows = await cypher(
        "MATCH (a {namespace: $space})-[r]->(b)"
        " WITH a, b, type(r) AS type, count(*) AS times WHERE times > 1 RETURN type, times"
    )
    assert rows == []


async def test_a_step_is_a_decision_or_an_action_and_has_its_position_on_the_edge(
    recording: Any, cypher: Cypher
) -> None:
    rows = await cypher(
        "MATCH (:Execution {namespace: $space, id: 'deploy-1'})-[at:HAS_STEP]->(s)"
        " RETURN at.position, s.position, labels(s), s.id ORDER BY at.position"
    )
    kinds = ["Decision", "Action"] * 2
    assert rows == [[n, n, ["Step", kinds[n]], f"deploy-1/{n}"] for n in range(4)]


async def test_what_feeds_a_step_carries_the_fingerprint_of_what_it_passes_on(
    recording: Any, cypher: Cypher
) -> None:
    rows = await cypher(
        "MATCH (s {namespace: $space})-[f:FEEDS]->(t) RETURN s.position, t.position, f.fingerprint"
    )
    fed = [(source, step.position) for step in recording.steps for source in step.feeds]
    assert sorted(map(tuple, rows)) == [(a, b, recording.steps[a].output_key) for a, b in fed]


async def test_one_walk_from_a_precondition_finds_what_rests_on_it(
    recording: Any, cypher: Cypher
) -> None:
    rows = await cypher(
        "MATCH (p:Precondition {namespace: $space})<-[:HOLDS]-(:Version {n: 1})"
        " MATCH (p)-[:GUARDS|FEEDS*1..100]->(s:Step) RETURN count(DISTINCT s)"
    )
    assert rows == [[4]]


async def test_numbers_are_properties_and_small_payloads_can_be_read(
    recording: Any, cypher: Cypher
) -> None:
    rows = await cypher(
        "MATCH (e:Execution {namespace: $space, id: 'deploy-1'})"
        " MATCH (v:Value {namespace: $space, digest: e.output})"
        " RETURN e.state, e.input_tokens, e.cost, e.duration_ms, e.labels, v.text"
    )
    labels = '{"team": "ops", "note": "caf\\u00e9"}'
    assert rows == [["published", 2000, 0.0125, 12.5, labels, '{"output":"yes"}']]


async def test_a_change_tells_the_fingerprints_before_and_after(
    recording: Any, cypher: Cypher
) -> None:
    rows = await cypher(
        "MATCH (r:Resource {namespace: $space}) MATCH (c:ChangeEvent {namespace: $space})"
        "-[of:CHANGED]->(f:Facet)-[:HAS_VALUE]->(p {fingerprint: of.after})"
        "<-[:HOLDS]-(v:Version {n: r.current})<-[:TO]-(c)"
        " RETURN r.kind, r.state, f.selector, of.before <> of.after, c.from_version"
    )
    assert rows == [["acl", "present", "$.a", True, 1]]


async def test_an_effect_of_a_replay_is_caused_by_the_recorded_step(
    recording: Any, cypher: Cypher
) -> None:
    rows = await cypher(
        "MATCH (e:Execution)-[:PERFORMED]->(f:SideEffect {namespace: $space})<-[:CAUSED]-(s)"
        " RETURN e.id, f.state, s.id ORDER BY e.id"
    )
    assert rows == [
        ["deploy-1", "done", "deploy-1/1"],
        ["deploy-replay-9", "done", "deploy-1/1"],
    ]
