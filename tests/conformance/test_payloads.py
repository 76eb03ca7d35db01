"""Payloads: exact bytes, stored once, of any size."""

from __future__ import annotations

import math
import random

import pytest

from execgraph.graphstore.canonical import Json, decode, digest, encode
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import PayloadCorrupted
from execgraph.graphstore.model import Value
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import sample_recording

_WEIRD: tuple[Json, ...] = (
    None,
    "",
    {},
    [],
    {"": ""},
    "half a character \ud83d, and a whole one 😀",
    {"\udc00": "\x00 \x1f \u2028 \u007f"},
    {"nan": math.nan, "inf": [math.inf, -math.inf], "-0": -0.0},
    {"big": 2**200, "edge": [2**53, 2**63, -(2**63)], "tiny": 5e-324},
    {"$int": "1", "$$": {"$utf16": "00"}},
    "x" * 100_000,
)


async def test_weird_values_come_back_exactly(store: GraphStore) -> None:
    values = [Value.of(encode(content)) for content in _WEIRD]
    values += [Value.of(b""), Value.of(b"{}  "), Value.of(bytes(range(256)) * 3)]
    await store.write(sample_recording(extra=values))
    found = await store.values([value.digest for value in values])
    assert found == {value.digest: value.data for value in values}, "payloads are exact bytes"


async def test_weird_documents(store: GraphStore) -> None:
    wanted: dict[str, frozenset[str | None]] = {"acl:weird": frozenset({None, "$.a"})}
    for version, content in enumerate(_WEIRD, start=1):
        document = Document.of(content)
        event = await store.change("acl:weird", document)
        assert event is not None
        assert event.to_version == version, "each of these documents differs from the one before"
        assert await store.change("acl:weird", document) is None, "and equals itself"
        found = await store.document("acl:weird")
        assert found is not None
        assert found[1].payload == document.payload, "a document is exact bytes"
        facts = await store.facts(wanted)
        assert dict(facts.of("acl:weird").fingerprints) == {
            selector: document.fingerprint(selector) for selector in (None, "$.a")
        }, "its facets have fingerprints"


async def test_weird_names(store: GraphStore) -> None:
    for uri in ("", "acl:", "acl:{}", "acl:prod/'; DROP TABLE--", "acl:café/😀", "a" * 2000):
        await store.change(uri, Document.of({"uri": uri}))
        facts = await store.facts({uri: frozenset({None})})
        assert facts.of(uri).version == 1, f"a resource may be called {uri[:30]!r}"
        (event,) = await store.changes(resource=uri)
        assert event.resource == uri, "and its changes are found"


async def test_values_are_stored_once(store: GraphStore) -> None:
    value = Value.of(encode({"shared": "x" * 1000}))
    for number in (1, 2):
        await store.write(sample_recording(number=number, extra=[value]))
    await store.change("acl:same", Document(value))
    assert await store.values([value.digest, value.digest]) == {value.digest: value.data}, (
        "a payload may be written, and asked for, several times"
    )


async def test_missing_values_are_named(store: GraphStore) -> None:
    recording = sample_recording()
    await store.write(recording)
    known = recording.values[0].digest
    missing = [digest(b"one"), digest(b"two")]
    with pytest.raises(PayloadCorrupted) as corrupted:
        await store.values([missing[0], known, missing[1]])
    assert set(corrupted.value.digests) == set(missing), "exactly the missing ones are named"
    assert await store.values([]) == {}, "nothing was asked for"


async def test_a_document_of_five_megabytes(store: GraphStore) -> None:
    noise = random.Random(1).randbytes(2_500_000).hex()
    document = Document.of({"a": {"b": 1}, "noise": noise})
    assert len(document.payload.data) >= 5_000_000, "it is large"
    await store.change("schema:large", document)
    found = await store.document("schema:large")
    assert found is not None
    assert found[1].payload == document.payload, "a large document comes back exactly"
    facts = await store.facts({"schema:large": frozenset({"$.a"})})
    assert facts.of("schema:large").fingerprints["$.a"] == Document.of({"a": {"b": 1}}).fingerprint(
        "$.a"
    ), "and has facets"
    assert decode(found[1].payload.data)["a"] == {"b": 1}, "and is still JSON"
