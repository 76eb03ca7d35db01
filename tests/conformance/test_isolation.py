"""Namespaces: no method sees or moves anything of another one."""

from __future__ import annotations

from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import PayloadCorrupted
from execgraph.graphstore.facts import ABSENT, Expected, Span
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    published,
    sample_effect,
    sample_recording,
    sample_replay,
)

_URI = "acl:prod"
_WHOLE: dict[str, frozenset[str | None]] = {_URI: frozenset({None})}


async def _fill(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, Document.of(1))
    await store.intend(namespace, sample_effect("deploy-1"), [])
    held = guard(namespace, _URI, 1)
    await published(store, namespace, sample_recording(guards=[held]))


async def test_reading_sees_one_namespace(store: GraphStore, namespace: str) -> None:
    other = f"{namespace}-other"
    await _fill(store, namespace)
    await _check_sees_nothing(store, namespace, other)
    await store.change(other, "acl:own", Document.of(1))  # a name that the store now knows
    await _check_sees_nothing(store, namespace, other)


async def _check_sees_nothing(store: GraphStore, namespace: str, other: str) -> None:
    recording = sample_recording()
    assert (await store.read_facts(other, _WHOLE)).of(_URI) == ABSENT, "no facts"
    assert (await store.facts(other, _WHOLE)).of(_URI) == ABSENT, "no facts, computed or not"
    assert await store.document(other, _URI) is None, "no document"
    assert _URI not in {it.resource for it in await store.changes(other)}, "no changes"
    assert await store.changes(other, resource=_URI) == [], "no changes of a resource"
    found = await store.lookup(other, "deploy", newest)
    assert (found.traces, found.damaged) == ((), ()), "no traces, whole or not"
    assert not await store.still(other, "deploy-1", {}), "no trace to stand by"
    assert not await store.still(other, "deploy-1", {_URI: 1}), "nor one with facts"
    assert await store.execution(other, "deploy-1") is None, "no executions"
    assert await store.task(other, "deploy") is None, "no tasks"
    assert await store.effects(other, "deploy-1") == [], "no effects"
    held = guard(namespace, _URI, 1).id
    assert await store.unbroken(other, [Span(held, _URI, 0, 1)]) == [False], "no versions"
    try:
        await store.values(other, [recording.values[0].digest])
    except PayloadCorrupted:
        pass
    else:
        raise AssertionError("a payload of another namespace is not there")


async def test_writing_moves_one_namespace(store: GraphStore, namespace: str) -> None:
    other = f"{namespace}-other"
    await _fill(store, namespace)
    facts = (await store.facts(namespace, _WHOLE)).by_resource
    before = await store.lookup(namespace, "deploy", newest)
    assert before.traces, "the trace is there"

    await published(store, other, sample_recording("own"))
    for _ in range(2):  # a store may learn a namespace's name by the first
        own = await store.still(other, "own-1", {_URI: 1})
        assert not own, "a trace does not stand by another namespace's facts"
    await store.change(other, _URI, Document.of(2))
    await store.change(other, _URI, None)
    await store.hold(other, _URI, 1, {None: "x"})
    run = sample_effect("deploy-1")
    assert not await store.intend(other, run, [Expected(_URI, 1, believed=True)]), "own facts"
    assert await store.intend(other, run, []), "an effect id is free in each namespace"
    recording = sample_recording(turns=5, says="no")
    assert (await published(store, other, recording)).published, "and so is an execution's"
    await store.unpublish(other, "deploy-1", "test")
    await store.write_replays(other, [sample_replay(recording, 1)])

    assert (await store.read_facts(namespace, _WHOLE)).by_resource == facts, "facts did not move"
    after = await store.lookup(namespace, "deploy", newest)
    assert after.traces == before.traces, "nor did traces"
    assert dict(after.values) == dict(before.values), "nor payloads"
    assert await store.still(namespace, "deploy-1", {_URI: 1}), "the trace still stands"
    assert await store.effects(namespace, "deploy-1") == [run], "effects are its own"
    assert len(await store.changes(namespace)) == 1, "changes are its own"
    assert await store.execution(namespace, "deploy-replay-1") is None, "replays stay in theirs"


async def test_equal_runs_in_two_namespaces(store: GraphStore, namespace: str) -> None:
    other = f"{namespace}-other"
    for name in (namespace, other):
        await _fill(store, name)
    for name in (namespace, other):
        found = await store.lookup(name, "deploy", newest)
        assert len(found.traces) == 1, "each namespace has its own trace of an equal run"
        guards = list(found.traces[0].preconditions)
        assert guards == [guard(name, _URI, 1).id], "guarded by its own precondition"
