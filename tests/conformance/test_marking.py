"""Marks are exact once all walks have ended, in whatever order and batches they were done."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from execgraph.graphstore.document import Document
from execgraph.graphstore.model import (
    NEVER,
    FacetRef,
    Precondition,
)
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.marks import branching_recording, expected_marks, walk_all
from execgraph.tests.conformance.samples import guard, none, published

_A, _B = "acl:a", "acl:b"
_ONE, _TWO = Document.of({"x": 1, "y": 1}), Document.of({"x": 2, "y": 1})


async def _linear(store: GraphStore, name: str, *guards: Sequence[Precondition]) -> str:
    """A published trace of steps that each feed the next one."""
    feeds = [(position - 1,) if position else () for position in range(len(guards))]
    recording = branching_recording(name, guards, feeds)
    await published(store, recording)
    return recording.execution.id


async def _observe(store: GraphStore, *resources: str) -> None:
    for resource in resources:
        await store.change(resource, _ONE)
        await store.facts({resource: frozenset({"$.x", "$.y"})})


async def test_what_rests_on_a_change_is_marked(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A)
    x, y = (guard(namespace, _A, {"x": 1, "y": 1}, it) for it in ("$.x", "$.y"))
    one = await _linear(store, "one", [], [x], [], [y])
    two = await _linear(store, "two", [y], [])
    await walk_all(store)
    assert await store.marks(one) == {}, "what holds is not marked"
    event = await store.change(_A, _TWO)
    assert event is not None
    assert await store.marks(one) == {}, "a change marks nothing itself"
    open_ = await store.walks()
    assert [(it.id, it.resource) for it in open_] == [(event.id, _A)], "it opens a walk"
    done = await store.walk(event.id)
    assert done is not None
    assert done.ended_at is not None, "two executions are no more than one batch"
    marks = await store.marks(one)
    assert marks == dict.fromkeys((1, 2, 3), x.id), "the guarded step and what follows from it"
    assert await store.marks(two) == {}, "another facet of the resource did not change"
    assert (done.marked, done.cleared) == (3, 0), "the walk says how many steps it found invalid"
    assert done.visited == 2 + 3, "and went along the GUARDS and FEEDS into these steps alone"
    assert await store.walks() == [], "a walk that has ended is not open"
    assert await store.walk(event.id) is None, "and does not go on"


async def test_a_return_clears(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A)
    x = guard(namespace, _A, {"x": 1, "y": 1}, "$.x")
    later = guard(namespace, _A, {"x": 2, "y": 1}, "$.x")
    one = await _linear(store, "one", [x], [])
    two = await _linear(store, "two", [], [later], [])
    await walk_all(store)
    marks = dict.fromkeys((1, 2), later.id)
    assert await store.marks(two) == marks, "a guard that holds at no time yet"
    await store.change(_A, _TWO)
    await walk_all(store)
    marks = dict.fromkeys((0, 1), x.id)
    assert await store.marks(one) == marks, "what held before is marked"
    assert await store.marks(two) == {}, "what holds now is cleared"
    await store.change(_A, _ONE)
    await walk_all(store)
    assert await store.marks(one) == {}, "a document that returns brings its steps back"
    await store.change(_A, None)
    await walk_all(store)
    assert await store.marks(one) == marks, "a withdrawn resource holds nothing"
    await store.change(_A, _ONE)
    await walk_all(store)
    assert await store.marks(one) == {}, "and may come back"


async def test_expiry_marks_and_renewal_clears(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A)
    x = guard(namespace, _A, {"x": 1, "y": 1}, "$.x")
    later = guard(namespace, _A, {"x": 2, "y": 1}, "$.x")
    one = await _linear(store, "one", [x], [])
    two = await _linear(store, "two", [later])
    gone, other = dict.fromkeys((0, 1), x.id), {0: later.id}
    for document, expected in ((_ONE, ({}, other)), (_TWO, (gone, {}))):
        await store.change(_A, _ONE, until=timedelta(0))
        await walk_all(store)
        assert await store.marks(one) == gone, "an expired fact holds nothing"
        assert await store.marks(two) == other, "and nothing else began to hold"
        await store.change(_A, document)
        await walk_all(store)
        found = (await store.marks(one), await store.marks(two))
        assert found == expected, "a fact told anew holds what it says"


async def test_the_least_of_several_is_told(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A, _B)
    low, high = sorted(
        (guard(namespace, it, {"x": 1, "y": 1}, "$.x") for it in (_A, _B)), key=lambda it: it.id
    )
    both = await _linear(store, "both", [high], [], [low, high], [])
    for resource in (low.resource, high.resource):
        await store.change(resource, _TWO)
    await walk_all(store)
    expected = {0: high.id, 1: high.id, 2: low.id, 3: low.id}
    assert await store.marks(both) == expected, "of several guards the least id is told"
    await store.change(low.resource, _ONE)
    await walk_all(store)
    marks = await store.marks(both)
    assert marks == dict.fromkeys(range(4), high.id), "of two guards one was restored"
    await store.change(low.resource, _TWO)
    await store.change(high.resource, _ONE)
    await walk_all(store)
    marks = await store.marks(both)
    assert marks == dict.fromkeys((2, 3), low.id), "then the other one instead"


async def test_branches_that_do_not_follow_stay(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A, _B)
    x, b = (guard(namespace, it, {"x": 1, "y": 1}, "$.x") for it in (_A, _B))
    # 0 feeds 1 and 2; 1 feeds 3; 2 feeds 4; 5 follows from both branches; 6 from nothing.
    feeds = [(), (0,), (0,), (1,), (2,), (3, 4), ()]
    recording = branching_recording("fork", [[], [x], [b], [], [], [], [x]], feeds)
    await published(store, recording)
    event = await store.change(_A, _TWO)
    assert event is not None
    done = await store.walk(event.id)
    assert done is not None
    marks = await store.marks("fork-1")
    assert marks == dict.fromkeys((1, 3, 5, 6), x.id), "only what follows from it"
    assert done.visited == 2 + 4, "GUARDS and FEEDS into those steps, the other branch's included"
    await store.change(_B, _TWO)
    await walk_all(store)
    least = min(x.id, b.id)
    expected = {1: x.id, 2: b.id, 3: x.id, 4: b.id, 5: least, 6: x.id}
    assert await store.marks("fork-1") == expected, "where branches meet, the least"
    await store.change(_A, _ONE)
    await walk_all(store)
    marks = await store.marks("fork-1")
    assert marks == dict.fromkeys((2, 4, 5), b.id), "what the other branch broke stays"


async def test_what_never_holds_is_marked_when_published(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A)
    never = Precondition.of(namespace, FacetRef("acl:unknown", None), NEVER)
    known_later = Precondition.of(namespace, FacetRef(_A, "$.x"), NEVER)
    recording = branching_recording("never", [[], [never], [known_later]], [(), (0,), (0,)])
    answer = await published(store, recording)
    assert (answer.published, answer.moved) == (True, True), "it is published, and says so"
    open_ = [(it.id, it.resource) for it in await store.walks()]
    assert ("never-1", None) in open_, "the publication opened a walk of its own"
    await walk_all(store)
    expected = {1: never.id, 2: known_later.id}
    assert await store.marks("never-1") == expected, "such guards never hold"
    answer = await published(store, recording)
    assert await store.walks() == [], "a repeated publication opens no walk"


async def test_a_publication_that_came_too_late(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A)
    x = guard(namespace, _A, {"x": 1, "y": 1}, "$.x")
    early, late = (
        branching_recording(name, [[], [x], []], [(), (0,), (1,)]) for name in ("early", "late")
    )
    await store.write(early)
    await store.change(_A, _TWO)
    await walk_all(store)
    expected = dict.fromkeys((1, 2), x.id)
    marks = await store.marks("early-1")
    assert marks == expected, "what is written and not published yet is marked too"
    for recording in (early, late):
        answer = await published(store, recording)
        assert (answer.published, answer.moved) == (True, True), "a guard does not hold by then"
    await walk_all(store)
    assert await store.marks("early-1") == expected, "the marks stay"
    assert await store.marks("late-1") == expected, "and are made after the fact"
    await store.change(_A, _ONE)
    await walk_all(store)
    assert await store.marks("late-1") == {}, "as exact as any other"
    fresh = branching_recording("fresh", [[x]], [()])
    assert not (await published(store, fresh)).moved, "nothing moved this time"
    assert await store.walks() == [], "so there is nothing to walk"


async def test_a_facet_that_was_never_computed(store: GraphStore, namespace: str) -> None:
    await store.change(_A, _ONE)
    held, broken = (
        guard(namespace, _A, {"x": 1, "y": it}, selector)
        for it, selector in ((1, "$.x"), (2, "$.y"))
    )
    one = await _linear(store, "one", [held], [broken])
    await walk_all(store)
    marks = await store.marks(one)
    assert marks == {1: broken.id}, "a facet nobody computed is a function of the document"


async def test_a_walk_can_be_resumed(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A)
    x = guard(namespace, _A, {"x": 1, "y": 1}, "$.x")
    names = [await _linear(store, f"task-{n}", [], [x], []) for n in range(7)]
    await walk_all(store)
    event = await store.change(_A, _TWO)
    assert event is not None
    seen, done = [], 0
    while (walk := await store.walk(event.id, batch=2)) is not None:
        marked = [name for name in names if await store.marks(name)]
        assert walk.marked == 2 * len(marked), "a walk counts what it did from its beginning"
        assert walk.cursor == max(marked, key=names.index), "`cursor` is how far it has come"
        assert len(marked) - done <= 2, "a batch is no more than asked for"
        done = len(marked)
        if walk.ended_at is not None:
            break
        assert (await store.walks())[0] == walk, "an open walk is told as it is"
        seen.append(walk)
    assert len(seen) >= 3, "seven executions take four batches of two"
    assert all(a.marked < b.marked for a, b in pairwise(seen)), "each of them gets on"
    assert done == 7, "and in the end all are marked"


async def test_walks_in_any_order_end_the_same(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A)
    x = guard(namespace, _A, {"x": 1, "y": 1}, "$.x")
    one = await _linear(store, "one", [x], [])
    await walk_all(store)
    events = [await store.change(_A, document) for document in (_TWO, _ONE, None, _ONE, _TWO)]
    ids = [event.id for event in events if event is not None]
    assert [it.id for it in await store.walks()] == ids, "walks are listed oldest first"
    assert len(await store.walks(limit=2)) == 2, "as many as asked for"
    for key in reversed(ids):
        await store.walk(key)
        marks = await store.marks(one)
        assert marks == dict.fromkeys((0, 1), x.id), "each marks by the facts of now"


async def test_marks_do_not_change_what_is_replayed(store: GraphStore, namespace: str) -> None:
    await _observe(store, _A)
    x = guard(namespace, _A, {"x": 1, "y": 1}, "$.x")
    one = await _linear(store, "one", [x], [])
    before = (await store.lookup("one", none)).traces
    await store.change(_A, _TWO)
    await walk_all(store)
    assert await store.marks(one), "it is marked"
    found = await store.lookup("one", none)
    assert (found.traces, found.damaged) == (before, ()), "and read as it was published"


async def test_unknown_walks_and_other_namespaces(store: GraphStore, namespace: str) -> None:
    other = store.of(f"{namespace}-other")
    assert await store.walk("unknown") is None, "an unknown walk has nothing to do"
    assert await store.marks("unknown") == {}, "an unknown execution has no marks"
    for each in (store, other):
        await _observe(each, _A)
        x = guard(each.namespace, _A, {"x": 1, "y": 1}, "$.x")
        await _linear(each, "one", [x])
        await walk_all(each)
    event = await other.change(_A, _TWO)
    assert event is not None
    assert await store.walks() == [], "another namespace's walk is not listed"
    assert await store.walk(event.id) is None, "and cannot be done from here"
    await walk_all(other)
    assert await store.marks("one-1") == {}, "its marks are not ours"
    assert await other.marks("one-1"), "but its own"


_RESOURCES = ("acl:0", "acl:1", "acl:2")
_SELECTORS: tuple[str | None, ...] = (None, "$.x", "$.y")


class _Random:
    """Executions and changes as they may come, from a seed."""

    def __init__(self, store: GraphStore, seed: int) -> None:
        self.store = store
        self.namespace = store.namespace
        self.executions: list[str] = []
        self._rng = random.Random(seed)

    def _document(self) -> dict[str, int]:
        return {"x": self._rng.randrange(3), "y": self._rng.randrange(2)}

    async def change(self) -> None:
        resource, until = self._rng.choice(_RESOURCES), None
        document: Document | None = Document.of(self._document())
        match self._rng.randrange(8):
            case 0:
                document = None
            case 1:
                until = timedelta(0)
        await self.store.change(resource, document, until=until)

    async def record(self) -> None:
        rng, size = self._rng, self._rng.randint(1, 9)
        guards = [[self._guard() for _ in range(rng.choice((0, 0, 1, 2)))] for _ in range(size)]
        feeds = [rng.sample(range(n), rng.randint(0, min(n, 2))) for n in range(size)]
        recording = branching_recording(f"task-{len(self.executions)}", guards, feeds)
        await published(self.store, recording)
        self.executions.append(recording.execution.id)

    def _guard(self) -> Precondition:
        resource, selector = self._rng.choice(_RESOURCES), self._rng.choice(_SELECTORS)
        if self._rng.random() < 0.1:
            return Precondition.of(self.namespace, FacetRef(resource, selector), NEVER)
        return guard(self.namespace, resource, dict(self._document()), selector)

    async def walk_a_bit(self) -> None:
        if walks := await self.store.walks():
            batch = self._rng.randint(1, 3)
            await self.store.walk(self._rng.choice(walks).id, batch=batch)


async def test_marks_equal_an_oracle_on_random_graphs(store: GraphStore, namespace: str) -> None:
    everything = {resource: frozenset(_SELECTORS) for resource in _RESOURCES}
    for seed in range(3):
        it = _Random(store.of(f"{namespace}-{seed}"), seed)
        for _ in range(3):
            for _ in range(5):
                await it.record()
                await it.change()
                await it.walk_a_bit()
            await walk_all(it.store, batch=2)
            facts = await it.store.facts(everything)
            for execution in it.executions:
                trace = await it.store.execution(execution)
                assert trace is not None
                marks = await it.store.marks(execution)
                assert marks == expected_marks(trace, facts), f"marks of {execution}, seed {seed}"
