"""The walker: one leader at a time, whoever it is, until the marks are exact."""

# ruff: noqa: ASYNC110 - what another process may do cannot be awaited

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import StoreError, StoreUnavailable
from execgraph.graphstore.model import Precondition, Walk
from execgraph.graphstore.neo4j import marks as neo4j_marks
from execgraph.graphstore.neo4j.client import Client
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation import background
from execgraph.invalidation import walker as module
from execgraph.invalidation.walker import LEASE, Walker
from execgraph.tests.conformance.marks import branching_recording, expected_marks
from execgraph.tests.conformance.samples import guard, newest, published, sample_effect

_ONE, _TWO = Document.of({"x": 1}), Document.of({"x": 2})
_EXECUTIONS = 12


class Place:
    """A namespace in which several executions rest on one facet, and ways to look at it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = f"test-{uuid.uuid4().hex}"
        self.store = self.open_store()
        self.other = self.open_store()  # as another process would have it
        self.executions: list[str] = []

    def open_store(self) -> GraphStore:
        return connect(self.url, namespace=self.namespace)

    async def fill(self) -> None:
        await self.change(_ONE)
        await self.store.facts({"acl:a": frozenset({"$.x"})})
        held = guard(self.namespace, "acl:a", {"x": 1}, "$.x")
        for number in range(_EXECUTIONS):
            recording = branching_recording(f"task-{number}", [[held], []], [(), (0,)])
            await published(self.store, recording)
            self.executions.append(recording.execution.id)
        await self.walker().run()

    async def change(self, document: Document | None, until: timedelta | None = None) -> None:
        await self.store.change("acl:a", document, until=until)

    def walker(self, store: GraphStore | None = None) -> Walker:
        return Walker(store or self.store, uuid.uuid4().hex)

    async def marked(self) -> int:
        """How many executions have marks."""
        marks = [await self.store.marks(it) for it in self.executions]
        return sum(map(bool, marks))

    async def take_lead(self, owner: str, seconds: float) -> bool:
        return await self.other.lease(LEASE, owner, timedelta(seconds=seconds))


@pytest.fixture
async def place(url: str) -> AsyncIterator[Place]:
    async with _opened(Place(url)) as place:
        yield place


@asynccontextmanager
async def _opened(place: Place) -> AsyncIterator[Place]:
    await place.store.open()
    await place.other.open()
    await place.fill()
    yield place
    await place.other.close()
    await place.store.close()


async def test_a_run_does_all_walks_and_tells_how_many(place: Place) -> None:
    for document in (_TWO, _ONE, None):
        await place.change(document)
    assert await place.walker().run() == 3
    assert await place.marked() == _EXECUTIONS
    assert await place.walker().run() == 0


async def test_progress_is_told_after_each_batch(place: Place) -> None:
    await place.change(_TWO)
    seen: list[Walk] = []
    await place.walker().run(seen.append, batch=5)
    assert [it.marked for it in seen] == [10, 20, 24]
    assert [it.ended_at is None for it in seen] == [True, True, False]


async def test_expiries_are_recorded_before_the_walk(place: Place) -> None:
    await place.change(_ONE, until=timedelta(0))
    assert await place.marked() == 0
    assert await place.walker().run() == 1
    assert await place.marked() == _EXECUTIONS


async def test_who_does_not_lead_does_nothing(place: Place) -> None:
    await place.change(_TWO)
    assert await place.take_lead("somebody else", 60)
    assert await place.walker().run() == 0
    assert await place.marked() == 0


async def test_the_lead_is_given_up_at_the_end(place: Place) -> None:
    await place.change(_TWO)
    await place.walker().run()
    assert await place.take_lead("the next one", 1)


async def test_a_walker_that_lost_the_lead_stops(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.0)  # to be extended before each batch
    await place.change(_TWO)
    walk = place.store.walk

    async def then_the_other_leads(key: str, *, batch: int) -> Walk | None:
        done = await walk(key, batch=batch)
        assert await place.take_lead("the other", 60)
        return done

    monkeypatch.setattr(place.store, "walk", then_the_other_leads)
    assert await place.walker().run(batch=1) == 0
    assert 0 < await place.marked() < _EXECUTIONS


async def test_a_dead_leader_is_replaced_once_its_lease_has_run_out(place: Place) -> None:
    await place.change(_TWO)
    [walk] = await place.other.walks()
    assert await place.take_lead("one that dies", 0.6)
    await place.other.walk(walk.id, batch=5)
    began = time.monotonic()
    await place.walker().settle(timeout=20)
    assert time.monotonic() - began > 0.3
    assert await place.marked() == _EXECUTIONS


async def test_settling_waits_for_a_leader_that_is_at_it(place: Place) -> None:
    await place.change(_TWO)
    assert await place.take_lead("the leader", 60)

    async def lead() -> None:
        await asyncio.sleep(0.2)
        for walk in await place.other.walks():
            await place.other.walk(walk.id)

    seen: list[Walk] = []
    await asyncio.gather(place.walker().settle(timeout=20, progress=seen.append), lead())
    assert seen
    assert await place.marked() == _EXECUTIONS


async def test_settling_gives_up_in_time(place: Place) -> None:
    await place.change(_TWO)
    assert await place.take_lead("the leader", 60)
    with pytest.raises(TimeoutError):
        await place.walker().settle(timeout=0.1)


async def test_two_walkers_at_once_end_with_exact_marks(place: Place) -> None:
    for document in (_TWO, _ONE, _TWO):
        await place.change(document)
    walkers = [place.walker(), place.walker(place.other)]
    await asyncio.gather(*(walker.settle(timeout=30) for walker in walkers))
    assert await place.marked() == _EXECUTIONS
    assert await place.store.walks() == []


async def test_walks_without_any_lease_end_with_exact_marks(place: Place) -> None:
    """Losing a lease only ends exclusivity: two that walk the same at once do no harm."""
    for _ in range(2):
        for document in (_TWO, _ONE, _TWO):
            await place.change(document)
            await _walk_twice_at_once(place)
        assert await place.marked() == _EXECUTIONS
        await place.change(_ONE)
        await _walk_twice_at_once(place)
        assert await place.marked() == 0


async def _walk_twice_at_once(place: Place) -> None:
    async def walk_all(store: GraphStore) -> None:
        while walks := await store.walks():
            for walk in walks:
                await store.walk(walk.id, batch=2)

    await asyncio.gather(walk_all(place.store), walk_all(place.other))


async def test_changes_during_a_walk_end_with_exact_marks(place: Place) -> None:
    async def change() -> None:
        for n in range(10):
            await place.other.change("acl:a", (_ONE, _TWO)[n % 2])

    async def publish() -> None:
        held = guard(place.namespace, "acl:a", {"x": 1}, "$.x")
        for number in range(6):
            recording = branching_recording(f"late-{number}", [[], [held]], [(), (0,)])
            await published(place.other, recording)
            place.executions.append(recording.execution.id)

    walker = place.walker()
    await asyncio.gather(change(), publish(), walker.settle(), walker.settle())
    await walker.settle(timeout=30)
    assert await place.marked() == len(place.executions)
    await place.change(_ONE)
    await walker.settle(timeout=30)
    assert await place.marked() == 0


async def _exact(place: Place) -> None:
    wanted = {uri: frozenset({"$.x"}) for uri in ("acl:a", "acl:other")}
    facts = await place.store.facts(wanted)
    for execution in place.executions:
        trace = await place.store.execution(execution)
        assert trace is not None
        marks = await place.store.marks(execution)
        assert marks == expected_marks(trace, facts), execution


@pytest.mark.parametrize("which", [0, -1], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("last", [_ONE, _TWO, None])
async def test_whatever_comes_between_two_batches_the_marks_end_exact(
    place: Place, last: Document | None, which: int
) -> None:
    """Two more changes of the same facet, and a publication, each after a batch of one."""

    async def step(store: GraphStore) -> bool:
        walks = await store.walks()
        if walks:
            await store.walk(walks[which].id, batch=1)
        return bool(walks)

    async def publish(name: str, x: int) -> None:
        held = guard(place.namespace, "acl:a", {"x": x}, "$.x")
        recording = branching_recording(name, [[], [held], []], [(), (0,), (1,)])
        await published(place.other, recording)
        place.executions.append(recording.execution.id)

    await place.change(_TWO)
    for _ in range(3):
        await step(place.store)
    await place.change(None)
    await step(place.other)
    await publish("late-one", 1)
    await step(place.store)
    await place.change(last)
    await step(place.other)
    await publish("late-two", 2)
    stores = itertools.cycle([place.store, place.other])
    while await step(next(stores)):
        pass
    await _exact(place)
    assert await place.marked() == {_ONE: 1, _TWO: _EXECUTIONS + 1, None: _EXECUTIONS + 2}[last]


async def _affected_edges(place: Place, start: str) -> int:
    """GUARDS and FEEDS into what rests on a precondition, or follows from what does."""
    edges = 0
    for execution in place.executions:
        trace = await place.store.execution(execution)
        assert trace is not None
        reached: set[int] = set()
        for step in trace.steps:
            if start in step.guards or reached.intersection(step.feeds):
                reached.add(step.position)
                edges += len(step.guards) + len(step.feeds)
    return edges


async def test_a_walk_goes_along_what_is_affected_whatever_else_is_stored(place: Place) -> None:
    """Of steps that start in parallel and meet, some rest on what changes."""
    held, other = (
        guard(place.namespace, f"acl:{name}", {"x": 1}, "$.x") for name in ("a", "other")
    )
    await place.store.change("acl:other", _ONE)
    await place.store.facts({"acl:other": frozenset({"$.x"})})
    guards = [[other], [held], [other], [held, other], [], [], [other], []]
    feeds = [(), (), (0,), (1,), (2,), (3,), (4, 5), (6,)]

    async def add(name: str, guards: Sequence[Sequence[Precondition]]) -> None:
        recording = branching_recording(name, guards, feeds)
        await published(place.store, recording)
        place.executions.append(recording.execution.id)

    async def visited() -> int:
        seen: list[Walk] = []
        await place.walker().settle(progress=seen.append)
        return sum(it.visited for it in seen if it.ended_at is not None)

    for number in range(3):
        await add(f"branching-{number}", guards)
    await place.walker().settle()
    affected = await _affected_edges(place, held.id)
    await place.change(_TWO)
    first = await visited()
    assert affected <= first <= 1.2 * affected
    for number in range(20):
        await add(f"beside-{number}", [[other] if held in it else it for it in guards])
    await place.change(_ONE)
    assert await visited() == first
    await _exact(place)


async def test_lookups_and_effects_do_not_wait_for_the_walk(place: Place) -> None:
    """One process: what is asked for during a batch is done before the walk goes much further."""
    # A server plans a statement when it first meets it, for longer than this walk takes.
    await place.store.intend(sample_effect("run-before"), [])
    await place.store.lookup("task-0", newest)
    await place.change(_TWO)
    log: list[str] = []
    asked: list[asyncio.Task[None]] = []

    async def ask(number: int) -> None:
        await place.store.lookup("task-0", newest)
        log.append("looked up")
        await place.store.intend(sample_effect(f"run-{number}"), [])
        log.append("begun")

    def then(_: Walk) -> None:
        log.append("batch")
        if len(asked) < 3:
            asked.append(asyncio.create_task(ask(len(asked))))

    await place.walker().run(then, batch=1)
    during = log.copy()
    await asyncio.gather(*asked)
    assert during.count("batch") >= _EXECUTIONS
    assert during.count("looked up") == during.count("begun") == 3
    if place.store.url.startswith("sqlite"):  # writes come one after another, in their order
        assert during[: during.index("looked up")].count("batch") == 1
        assert during[: during.index("begun")].count("batch") <= 2


@pytest.mark.neo4j
async def test_parts_of_a_batch_are_marked_at_once_and_counted_together(
    neo4j_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(neo4j_uri)
    async with _opened(place):
        monkeypatch.setattr(neo4j_marks, "_PART", 2)
        for document, marked in ((_TWO, _EXECUTIONS), (_ONE, 0)):
            await place.change(document)
            seen: list[Walk] = []
            await place.walker().run(seen.append, batch=10)
            assert await place.marked() == marked
            steps = [20, 2 * _EXECUTIONS]
            assert [it.marked + it.cleared for it in seen] == steps
            assert [it.visited for it in seen] == steps
        await _exact(place)


@pytest.mark.neo4j
async def test_a_batch_of_which_a_part_fails_is_done_again(
    neo4j_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(neo4j_uri)
    async with _opened(place):
        monkeypatch.setattr(neo4j_marks, "_PART", 2)
        run, second = Client.run, sorted(place.executions)[5]

        async def refuse(self: Client, name: str, parameters: Any, *rest: Any) -> Any:
            if name == "walk" and parameters["executions"][0][0] == second:
                raise StoreUnavailable("the server went away")
            return await run(self, name, parameters, *rest)

        await place.change(_TWO)
        with monkeypatch.context() as patch:
            patch.setattr(Client, "run", refuse)
            with pytest.raises(StoreUnavailable):
                await place.walker().run(batch=10)
        [left] = await place.store.walks()
        assert (left.cursor, left.marked) == (None, 0)
        await place.walker().run(batch=10)
        assert await place.marked() == _EXECUTIONS
        await _exact(place)


async def test_a_cancelled_walk_goes_on_where_it_stopped(place: Place) -> None:
    await place.change(_TWO)
    first = asyncio.Event()
    work = asyncio.create_task(place.walker().run(lambda _: first.set(), batch=1))
    await first.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert 0 < await place.marked() < _EXECUTIONS
    assert await place.take_lead("the next one", 1)  # it was given up at once
    await place.other.release(LEASE, "the next one")
    [left] = await place.store.walks()
    assert left.cursor is not None
    seen: list[Walk] = []
    await place.walker(place.other).run(seen.append)
    assert seen[-1].marked == 2 * _EXECUTIONS
    assert await place.marked() == _EXECUTIONS


async def test_a_kick_has_it_done_in_the_background(place: Place) -> None:
    walker = place.walker()
    await place.change(_TWO)
    for _ in range(5):
        walker.kick()
    async with asyncio.timeout(20):
        while await place.store.walks():
            await asyncio.sleep(0.01)
    assert await place.marked() == _EXECUTIONS
    await walker.close()


async def test_closing_lets_what_was_begun_end(place: Place) -> None:
    walker = place.walker()
    await place.change(_TWO)
    walker.kick()
    await walker.close()
    assert await place.marked() == _EXECUTIONS
    walker.kick()  # of a closed one: the next walker's affair
    assert await place.take_lead("the next one", 1)


async def test_closing_does_not_wait_for_another_leader(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_CLOSE_SECONDS", 3600)
    walker = place.walker()
    await place.change(_TWO)
    assert await place.take_lead("somebody else", 3600)
    walker.kick()
    async with asyncio.timeout(60):
        await walker.close()


async def test_what_fails_in_the_background_is_logged_and_tried_again(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    store = place.open_store()
    await store.open()
    walker = place.walker(store)
    await place.change(_TWO)
    await store.close()
    with caplog.at_level(logging.WARNING, logger="execgraph"):
        walker.kick()
        async with asyncio.timeout(20):
            while not caplog.records:
                await asyncio.sleep(0.01)
    with pytest.raises(StoreError):
        await walker.run()
    await store.open()
    walker.kick()
    await walker.close()
    assert await place.marked() == _EXECUTIONS
    await store.close()


async def test_each_walk_is_one_line_in_the_log(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.change(_TWO)
    with caplog.at_level(logging.DEBUG, logger="execgraph"):
        await place.walker().run(batch=5)
    [line] = [it.getMessage() for it in caplog.records if it.name == "execgraph"]
    assert "acl:a: 24 steps invalid, 0 valid, 24 edges" in line


async def test_settling_does_not_wait_for_changes_that_never_cease(place: Place) -> None:
    await place.change(_TWO)
    opened = {walk.id for walk in await place.store.walks()}
    going = True

    async def change() -> None:
        for number in itertools.count():
            if not going:
                return
            await place.store.change("acl:a", Document.of({"x": number}))

    changing = asyncio.ensure_future(change())
    try:
        await place.walker(place.other).settle(timeout=60)
        left = {walk.id for walk in await place.store.walks(limit=10_000)}
    finally:
        going = False
        await changing
    assert opened
    assert not opened & left


async def test_a_walk_that_seems_to_be_of_the_future_is_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a clock that was set back since makes it."""
    await place.change(_TWO)
    read = place.store.read_facts

    async def earlier(*arguments: Any) -> Any:
        facts = await read(*arguments)
        return replace(facts, now=facts.now - 600_000)

    monkeypatch.setattr(place.store, "read_facts", earlier)
    await place.walker().settle(timeout=60)
    assert await place.store.walks() == []
