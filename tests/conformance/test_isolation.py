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


async def _fill(store: GraphStore) -> None:
    await store.change(_URI, Document.of(1))
    await store.intend(sample_effect("deploy-1"), [])
    held = guard(store.namespace, _URI, 1)
    await published(store, sample_recording(guards=[held]))


async def test_reading_sees_one_namespace(store: GraphStore, namespace: str) -> None:
    other = store.of(f"{namespace}-other")
    await _fill(store)
    await _check_sees_nothing(store, other)
    await other.change("acl:own", Document.of(1))  # a name that the store now knows
    await _check_sees_nothing(store, other)


async def _check_sees_nothing(store: GraphStore, other: GraphStore) -> None:
    recording = sample_recording()
    assert (await other.read_facts(_WHOLE)).of(_URI) == ABSENT, "no facts"
    assert (await other.facts(_WHOLE)).of(_URI) == ABSENT, "no facts, computed or not"
    assert await other.document(_URI) is None, "no document"
    assert _URI not in {it.resource for it in await other.changes()}, "no changes"
    assert await other.changes(resource=_URI) == [], "no changes of a resource"
    found = await other.lookup("deploy", newest)
    assert (found.traces, found.damaged) == ((), ()), "no traces, whole or not"
    assert not await other.still("deploy-1", {}), "no trace to stand by"
    assert not await other.still("deploy-1", {_URI: 1}), "nor one with facts"
    assert await other.execution("deploy-1") is None, "no executions"
    assert await other.task("deploy") is None, "no tasks"
    assert await other.effects("deploy-1") == [], "no effects"
    held = guard(store.namespace, _URI, 1).id
    assert await other.unbroken([Span(held, _URI, 0, 1)]) == [False], "no versions"
    try:
        await other.values([recording.values[0].digest])
    except PayloadCorrupted:
        pass
    else:
        raise AssertionError("a payload of another namespace is not there")


async def test_writing_moves_one_namespace(store: GraphStore, namespace: str) -> None:
    other = store.of(f"{namespace}-other")
    await _fill(store)
    facts = (await store.facts(_WHOLE)).by_resource
    before = await store.lookup("deploy", newest)
    assert before.traces, "the trace is there"

    await published(other, sample_recording("own"))
    for _ in range(2):  # a store may learn a namespace's name by the first
        own = await other.still("own-1", {_URI: 1})
        assert not own, "a trace does not stand by another namespace's facts"
    await other.change(_URI, Document.of(2))
    await other.change(_URI, None)
    await other.hold(_URI, 1, {None: "x"})
    run = sample_effect("deploy-1")
    assert not await other.intend(run, [Expected(_URI, 1, believed=True)]), "own facts"
    assert await other.intend(run, []), "an effect id is free in each namespace"
    recording = sample_recording(turns=5, says="no")
    assert (await published(other, recording)).published, "and so is an execution's"
    await other.unpublish("deploy-1", "test")
    await other.write_replays([sample_replay(recording, 1)])

    assert (await store.read_facts(_WHOLE)).by_resource == facts, "facts did not move"
    after = await store.lookup("deploy", newest)
    assert after.traces == before.traces, "nor did traces"
    assert dict(after.values) == dict(before.values), "nor payloads"
    assert await store.still("deploy-1", {_URI: 1}), "the trace still stands"
    assert await store.effects("deploy-1") == [run], "effects are its own"
    assert len(await store.changes()) == 1, "changes are its own"
    assert await store.execution("deploy-replay-1") is None, "replays stay in theirs"


async def test_equal_runs_in_two_namespaces(store: GraphStore, namespace: str) -> None:
    other = store.of(f"{namespace}-other")
    for each in (store, other):
        await _fill(each)
    for each in (store, other):
        found = await each.lookup("deploy", newest)
        assert len(found.traces) == 1, "each namespace has its own trace of an equal run"
        guards = list(found.traces[0].preconditions)
        assert guards == [guard(each.namespace, _URI, 1).id], "guarded by its own precondition"
