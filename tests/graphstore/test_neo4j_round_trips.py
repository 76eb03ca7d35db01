"""How often each method waits for the server, counted on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import VersionMoved
from execgraph.graphstore.facts import Expected
from execgraph.graphstore.model import JournalEntry, manifest, signature
from execgraph.graphstore.neo4j.address import Address
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    published,
    sample_approval,
    sample_effect,
    sample_recording,
    sample_replay,
)

pytestmark = pytest.mark.neo4j

_URIS = [f"acl:{n}" for n in range(4)]


class _Wire:
    """Passes bytes on, and counts how often the client speaks after the server has answered."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: list[asyncio.StreamWriter] = []
        self.turns = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, their_writer = await asyncio.open_connection(*self._target)
        self._writers += [writer, their_writer]
        answered = [True]
        up = self._pump(reader, their_writer, answered, speaks=True)
        await asyncio.gather(up, self._pump(theirs, writer, answered, speaks=False))

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        answered: list[bool],
        *,
        speaks: bool,
    ) -> None:
        while data := await source.read(1 << 20):
            self.turns += speaks and answered[0]
            answered[0] = not speaks
            sink.write(data)
        sink.close()

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(it.wait_closed() for it in self._writers), return_exceptions=True)

    async def during(self, work: Awaitable[object]) -> int:
        before = self.turns
        await work
        return self.turns - before


@pytest.fixture
def wire(neo4j_uri: str) -> _Wire:
    parts = urlsplit(neo4j_uri)
    if parts.scheme not in ("neo4j", "bolt"):
        pytest.skip("cannot stand between the two ends of an encrypted connection")
    return _Wire(parts.hostname or "localhost", parts.port or 7687)


@pytest.fixture
async def store(wire: _Wire, neo4j_uri: str, space: str) -> AsyncIterator[Neo4jStore]:
    server = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
    port, auth = server.sockets[0].getsockname()[1], Address.of(neo4j_uri).credentials
    store = Neo4jStore(f"bolt://127.0.0.1:{port}", namespace=space, auth=auth)
    await store.open()
    yield store
    await store.close()
    server.close()
    await wire.close()


async def test_facts_take_one_round_trip_and_a_first_change_two(store: Any, wire: Any) -> None:
    await store.change("acl:0", Document.of({"a": 1}))
    await store.facts({"acl:0": frozenset({None, "$.a"})})
    wanted = {uri: frozenset({None}) for uri in _URIS}
    assert await wire.during(store.read_facts(wanted)) == 1
    assert await wire.during(store.change("acl:0", Document.of({"a": 2}))) == 2
    assert await wire.during(store.change("acl:0", Document.of({"a": 2}))) == 1


async def test_a_resource_that_nobody_else_changes_is_changed_in_one_round_trip(
    store: Any, neo4j_store: Neo4jStore, wire: Any
) -> None:
    async def change(n: int | None) -> int:
        document = None if n is None else Document.of({"a": n})
        turns: int = await wire.during(store.change("acl:0", document))
        return turns

    await store.change("acl:0", Document.of({"a": 1}))
    assert await change(2) == 1
    assert await change(None) == 1
    assert await change(3) == 1
    await neo4j_store.change("acl:0", Document.of({"a": 4}))
    assert await change(5) == 5, "tried, and where; looked whether it was done, read, done"
    assert await change(6) == 2, "who competes for it is not known to be alone again"
    assert await change(7) == 1
    numbers = [it.to_version for it in await store.changes()]
    assert numbers == list(range(8, 0, -1))


async def test_what_is_known_of_a_resource_is_only_tried(
    store: Any, neo4j_store: Neo4jStore
) -> None:
    """Facets, an expiry, an equal document: whatever another process does is noticed."""
    await store.change("acl:0", Document.of({"a": 1}))
    await neo4j_store.facts({"acl:0": frozenset({"$.a"})})
    event = await store.change("acl:0", Document.of({"a": 2}))
    assert [it.selector for it in event.changed] == ["$.a"]
    await neo4j_store.change("acl:0", Document.of({"a": 3}))
    assert await store.change("acl:0", Document.of({"a": 3})) is None
    event = await store.change("acl:0", Document.of({"a": 4}))
    await neo4j_store.change("acl:0", Document.of({"a": 5}))
    with pytest.raises(VersionMoved):
        await store.change("acl:0", Document.of({"a": 6}), noted=event.to_version)
    await store.change("acl:0", Document.of({"a": 7}), until=timedelta(0))
    await neo4j_store.expire()
    event = await store.change("acl:0", Document.of({"a": 8}))
    assert [it.before for it in event.changed] == [None]
    held = Document.of({"a": 8}).fingerprint("$.a")
    facts = await neo4j_store.facts({"acl:0": frozenset({"$.a"})})
    assert facts.of("acl:0").fingerprints == {"$.a": held}


async def test_a_lookup_takes_one_round_trip_without_traces_and_two_with(
    store: Any, wire: Any, space: str
) -> None:
    guards = [guard(space, uri, {"a": 1}, "$.a") for uri in _URIS]
    for uri in _URIS:
        await store.change(uri, Document.of({"a": 1}))
    await published(store, sample_recording(guards=guards))
    await store.lookup("deploy", newest)  # computes the facets that are new
    assert await wire.during(store.lookup("unknown", newest)) == 1
    assert await wire.during(store.lookup("deploy", newest)) == 2
    accepted = dict.fromkeys(_URIS, 1)
    assert await store.still("deploy-1", accepted)
    assert await wire.during(store.still("deploy-1", accepted)) == 1


async def test_an_effect_is_checked_and_begun_in_one_round_trip(store: Any, wire: Any) -> None:
    await store.change("acl:0", Document.of(1))
    expected = [Expected("acl:0", 1, believed=True)]
    assert await wire.during(store.intend(sample_effect("run-1"), expected)) == 1
    refused = [Expected("acl:0", 2, believed=True)]
    turns = await wire.during(store.intend(sample_effect("run-2"), refused))
    assert turns == 2, "what is refused is refused by this store, not by another one"


async def test_an_effect_that_is_confirmed_takes_one_round_trip_more(store: Any, wire: Any) -> None:
    asked, day = sample_approval(), timedelta(days=1)
    assert await wire.during(store.request(asked, day)) == 1
    used = sample_effect("run-1").model_copy(update={"approval": asked.id, "approved_by": "ann"})
    assert await wire.during(store.intend(used, [])) == 1
    found = await store.approval(asked.id)
    assert (found.state, found.by) == ("used", "ann"), "the answer is kept with the intent"


async def test_what_is_kept_of_a_run_meanwhile_takes_one_round_trip(store: Any, wire: Any) -> None:
    recording = sample_recording()
    running = recording.execution.model_copy(update={"id": "run-1"})
    entry = JournalEntry("deploy", "run-1", 0, 1, b"step")
    assert await wire.during(store.journal([entry])) == 1
    assert await wire.during(store.journal([entry])) == 1
    assert await wire.during(store.note_running([running])) == 1
    assert await wire.during(store.intend(sample_effect("run-1"), [], entries=[entry])) == 1
    assert await wire.during(store.end_effect(sample_effect("run-1", done=True))) == 1
    assert await wire.during(store.forget_journal(["run-1"])) == 1


async def test_a_run_is_recorded_in_two_round_trips(store: Any, wire: Any, space: str) -> None:
    recording = sample_recording(turns=10, guards=[guard(space, uri, 1) for uri in _URIS])
    assert await wire.during(store.write(recording)) == 1
    publication = store.publish(
        recording.execution.id,
        steps=len(recording.steps),
        manifest=manifest(recording.steps),
        signature=signature(recording.steps),
    )
    assert await wire.during(publication) == 1
    replays = [sample_replay(recording, number) for number in range(50)]
    assert await wire.during(store.write_replays(replays)) == 1
    assert await wire.during(store.write_replays([])) == 0
