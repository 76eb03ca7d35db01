"""What a disk, or somebody with an editor, does to the rows of a trace is noticed."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import PayloadCorrupted
from execgraph.graphstore.facts import Facts
from execgraph.graphstore.model import Trace
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    none,
    published,
    sample_recording,
)

Damage = Callable[..., None]

_GUARDS = [guard("team", "acl:a", {"a": 1}, "$.a"), guard("team", "acl:b", {"b": 1})]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """With two traces of one task, of which `deploy-2` is the newer."""
    store = SqliteStore(str(tmp_path / "graph.db"), namespace="team")
    await store.open()
    await store.change("acl:a", Document.of({"a": 1}))
    await store.change("acl:b", Document.of({"b": 1}))
    for number in (1, 2):
        recording = sample_recording(number=number, says=f"way {number}", guards=_GUARDS)
        await published(store, recording)
    await store.lookup("deploy", none)  # computes the facets
    yield store
    await store.close()


@pytest.fixture
def damage(store: SqliteStore, tmp_path: Path) -> Damage:
    def run(statement: str, *parameters: object) -> None:
        raw = sqlite3.connect(tmp_path / "graph.db")
        assert raw.execute(statement, parameters).rowcount >= 1, "nothing was damaged"
        raw.commit()
        raw.close()

    return run


_NEWER = "(SELECT rid FROM execution WHERE id = 'deploy-2')"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE step SET output_key = 'x' WHERE execution = {_NEWER} AND position = 2",
        f"UPDATE step SET name = 'rm' WHERE execution = {_NEWER} AND position = 1",
        f"UPDATE step SET occurrence = 7 WHERE execution = {_NEWER} AND position = 1",
        f"UPDATE step SET kind = 'dream' WHERE execution = {_NEWER} AND position = 1",
        f"UPDATE step SET messages = 'no list' WHERE execution = {_NEWER} AND position = 2",
        f"UPDATE step SET messages = '[]' WHERE execution = {_NEWER} AND position = 2",
        f"UPDATE step SET effect = 'pure' WHERE execution = {_NEWER} AND position = 1",
        f"DELETE FROM step WHERE execution = {_NEWER} AND position = 3",
        f"DELETE FROM step WHERE execution = {_NEWER}",
        f"DELETE FROM guard WHERE execution = {_NEWER} AND position = 1",
        f"DELETE FROM guard WHERE execution = {_NEWER}",
        f"DELETE FROM feeds WHERE execution = {_NEWER} AND target = 3",
        f"INSERT INTO feeds SELECT {_NEWER}, 0, 3",
        "UPDATE execution SET published_steps = 2 WHERE id = 'deploy-2'",
        "UPDATE execution SET published_steps = 0 WHERE id = 'deploy-2'",
        "UPDATE execution SET manifest = NULL WHERE id = 'deploy-2'",
        "UPDATE execution SET labels = '{' WHERE id = 'deploy-2'",
        "UPDATE execution SET mode = 'dead' WHERE id = 'deploy-2'",
    ],
)
async def test_a_trace_that_is_not_what_was_published_is_damaged(
    store: SqliteStore, damage: Damage, statement: str
) -> None:
    damage(statement)
    found = await store.lookup("deploy", newest)
    assert found.damaged == ("deploy-2",)
    assert [trace.id for trace in found.traces] == ["deploy-1"]
    assert found.chosen == "deploy-1"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE precondition SET fingerprint = 'x'",
        "UPDATE precondition SET id = id || 'x'",
        "DELETE FROM precondition",
        "DELETE FROM facet",
        "UPDATE facet SET selector = '$.other' WHERE selector IS NOT NULL",
        "UPDATE facet SET key = key || 'x'",
        "UPDATE resource SET uri = uri || 'x'",
        "DELETE FROM resource",
    ],
)
async def test_a_guard_that_is_not_what_was_published_damages_all_it_guards(
    store: SqliteStore, damage: Damage, statement: str
) -> None:
    damage(statement)
    found = await store.lookup("deploy", newest)
    assert found.damaged == ("deploy-2", "deploy-1")
    assert (found.traces, found.chosen) == ((), None)


async def test_a_version_that_lost_what_it_holds_is_computed_again(
    store: SqliteStore, damage: Damage
) -> None:
    damage("DELETE FROM holds")
    found = await store.lookup("deploy", newest)
    assert found.facts.of("acl:a").fingerprints == {"$.a": _GUARDS[0].fingerprint}


_OUTPUTS = f"(SELECT output FROM step WHERE execution = {_NEWER} AND position = 0)"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE value SET data = x'00' WHERE digest = {_OUTPUTS}",
        f"UPDATE value SET data = data || x'20' WHERE digest = {_OUTPUTS}",
        f"UPDATE value SET data = '{{}}' WHERE digest = {_OUTPUTS}",
        f"UPDATE value SET codec = 1 WHERE digest = {_OUTPUTS}",
        f"DELETE FROM value WHERE digest = {_OUTPUTS}",
        "UPDATE value SET data = substr(data, 1, 30) WHERE codec = 1",
    ],
)
async def test_a_damaged_payload_is_never_served(
    store: SqliteStore, damage: Damage, statement: str
) -> None:
    damage(statement)
    asked: list[list[str]] = []

    def choose(traces: Sequence[Trace], facts: Facts) -> str | None:
        asked.append([trace.id for trace in traces])
        return newest(traces, facts)

    found = await store.lookup("deploy", choose)
    both = "codec = 1" in statement.partition("WHERE")[2]  # all compressed ones: of both traces
    assert found.damaged == (("deploy-2", "deploy-1") if both else ("deploy-2",))
    assert asked == [["deploy-2", "deploy-1"], ["deploy-1"], *([[]] if both else [])]
    assert found.chosen == (None if both else "deploy-1")


async def test_only_the_chosen_trace_pays_for_its_payloads(
    store: SqliteStore, damage: Damage
) -> None:
    damage(f"DELETE FROM value WHERE digest = {_OUTPUTS}")
    found = await store.lookup("deploy", none)
    assert found.damaged == ()
    assert len(found.traces) == 2


async def test_damaged_payloads_are_named(store: SqliteStore, damage: Damage) -> None:
    recording = sample_recording(says="way 2")
    output, other = recording.steps[0].output, recording.steps[1].output
    damage("UPDATE value SET data = x'00' WHERE digest = ?", output)
    with pytest.raises(PayloadCorrupted) as raised:
        await store.values([output, other])
    assert raised.value.digests == (output,)


async def test_a_damaged_document_is_named(store: SqliteStore, damage: Damage) -> None:
    payload = Document.of({"a": 1}).payload
    damage("DELETE FROM value WHERE digest = ?", payload.digest)
    with pytest.raises(PayloadCorrupted) as raised:
        await store.document("acl:a")
    assert raised.value.digests == (payload.digest,)


async def test_the_next_recording_heals_the_payloads_it_shares(
    store: SqliteStore, damage: Damage
) -> None:
    damage(f"UPDATE value SET data = x'00' WHERE digest = {_OUTPUTS}")
    await store.write(sample_recording(number=3, says="way 2"))
    found = await store.lookup("deploy", newest)
    assert (found.chosen, found.damaged) == ("deploy-2", ())


async def test_the_next_equal_observation_heals_a_document(
    store: SqliteStore, damage: Damage
) -> None:
    document = Document.of({"a": 1})
    damage("UPDATE value SET data = x'00' WHERE digest = ?", document.payload.digest)
    assert await store.change("acl:a", document) is None
    found = await store.document("acl:a")
    assert found is not None
    assert found[1].payload == document.payload


async def test_a_change_after_a_damaged_document_still_succeeds(
    store: SqliteStore, damage: Damage
) -> None:
    damage("DELETE FROM holds")
    damage("DELETE FROM value WHERE digest = ?", Document.of({"a": 1}).payload.digest)
    event = await store.change("acl:a", Document.of({"a": 2}))
    assert event is not None
    assert [(it.selector, it.before) for it in event.changed] == [("$.a", None)]


async def test_a_version_that_is_gone_is_told_and_makes_nobody_wait_for_ever(
    store: SqliteStore, damage: Damage
) -> None:
    damage("DELETE FROM holds")
    damage("DELETE FROM version")
    with pytest.raises(PayloadCorrupted, match="acl:a, version 1"):
        await store.facts({"acl:a": frozenset({"$.a"})})
    found = await store.lookup("deploy", newest)
    assert found.facts.of("acl:a").fingerprints == {}
