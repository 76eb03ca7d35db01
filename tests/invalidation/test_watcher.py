"""The watcher on both stores: facts follow their sources, and only forwards (I7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import StoreUnavailable
from execgraph.graphstore.facts import Fact, FactState
from execgraph.graphstore.model import ChangeEvent, ChangeKind
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.feed import follow
from execgraph.invalidation.source import Unreadable
from execgraph.invalidation.watching.watcher import Watcher

NEVER = timedelta(hours=1)


class Shelf:
    """A source whose documents the test sets, and whose reads it can hold up."""

    def __init__(
        self,
        name: str = "shelf",
        *,
        max_age: timedelta | None = None,
        interval: timedelta = NEVER,
    ) -> None:
        self.name = name
        self.max_age = max_age
        self.interval = interval
        self.documents: dict[str, Any] = {}
        self.stamped = True
        self.reads: list[str] = []
        self.hints: asyncio.Queue[str | None] = asyncio.Queue()
        self.during_read: Callable[[str], Any] | None = None
        self.listing_fails = False

    async def resources(self) -> Any:
        if self.listing_fails:
            raise OSError("the disk is gone")
        if not self.stamped:
            return list(self.documents)
        return {uri: repr(document) for uri, document in self.documents.items()}

    async def read(self, uri: str) -> Any:
        self.reads.append(uri)
        document = self.documents.get(uri)
        if self.during_read is not None:
            await self.during_read(uri)
        if isinstance(document, Exception):
            raise document
        return document

    async def changes(self) -> AsyncIterator[str | None]:
        while True:
            yield await self.hints.get()


@pytest.fixture
def space(namespace: str) -> str:
    return namespace


async def fact(store: GraphStore, uri: str) -> Fact:
    return (await store.read_facts({uri: frozenset()})).of(uri)


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what must come about."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110  (another process's store says so)
            await asyncio.sleep(0.01)


async def test_all_is_read_before_it_is_entered(store: GraphStore) -> None:
    shelf = Shelf()
    shelf.documents = {"acl:a": {"x": 1}, "acl:b": [1]}
    async with Watcher(store, [shelf]) as watcher:
        for uri, content in shelf.documents.items():
            found = await store.document(uri)
            assert found is not None
            assert found[1].content == content
        assert watcher.resources == {"acl:a", "acl:b"}
        assert watcher.scanned_at is not None


async def test_a_hint_makes_it_look_again(store: GraphStore) -> None:
    shelf, told = Shelf(), list[ChangeEvent]()
    shelf.documents = {"acl:a": 1}
    async with Watcher(store, [shelf], on_change=told.append):
        shelf.documents["acl:a"] = 2
        shelf.hints.put_nowait("acl:a")
        await until(lambda: _is(store, "acl:a", 2))
        shelf.documents["acl:new"] = 1
        shelf.hints.put_nowait("acl:new")
        await until(lambda: _is(store, "acl:new", 1))
        del shelf.documents["acl:a"]
        shelf.hints.put_nowait("acl:a")
        await until(lambda: _is_withdrawn(store, "acl:a"))
    kinds = [(event.resource, event.kind) for event in told]
    assert kinds == [
        ("acl:a", ChangeKind.CHANGED),
        ("acl:a", ChangeKind.CHANGED),
        ("acl:new", ChangeKind.CHANGED),
        ("acl:a", ChangeKind.WITHDRAWN),
    ]
    assert {event.source for event in told} == {"shelf"}


async def _is(store: GraphStore, uri: str, content: Any) -> bool:
    found = await store.document(uri)
    return found is not None and found[1].content == content


async def _is_withdrawn(store: GraphStore, uri: str) -> bool:
    return (await fact(store, uri)).state is FactState.WITHDRAWN


async def test_wrong_and_repeated_hints_are_harmless(store: GraphStore) -> None:
    shelf = Shelf()
    shelf.documents = {"acl:a": 1}
    async with Watcher(store, [shelf]):
        for _ in range(5):
            shelf.hints.put_nowait("acl:a")
            shelf.hints.put_nowait("acl:unknown")
        shelf.documents["acl:last"] = 1
        shelf.hints.put_nowait("acl:last")
        await until(lambda: _is(store, "acl:last", 1))
    assert [event.resource for event in await store.changes()] == ["acl:last", "acl:a"]


async def test_lost_hints_are_found_by_the_scan(store: GraphStore) -> None:
    shelf = Shelf(interval=timedelta(milliseconds=50))
    shelf.documents = {"acl:a": 1, "acl:b": 1}
    async with Watcher(store, [shelf]):
        shelf.documents = {"acl:a": 2, "acl:c": 3}
        await until(lambda: _is(store, "acl:a", 2))
        await until(lambda: _is(store, "acl:c", 3))
        await until(lambda: _is_withdrawn(store, "acl:b"))


async def test_what_has_its_stamp_is_renewed_unread(store: GraphStore) -> None:
    shelf = Shelf(max_age=timedelta(hours=1))
    shelf.documents = {f"acl:{n}": n for n in range(50)}
    watcher = Watcher(store, [shelf])
    await watcher.scan()
    before = (await fact(store, "acl:7")).until
    assert len(shelf.reads) == 50
    await asyncio.sleep(0.01)
    shelf.documents["acl:7"] = "new"
    await watcher.scan()
    assert shelf.reads[50:] == ["acl:7"]
    after = (await fact(store, "acl:8")).until
    assert before is not None
    assert after is not None
    assert after > before


async def test_without_stamps_all_is_read_again(store: GraphStore) -> None:
    shelf = Shelf()
    shelf.stamped = False
    shelf.documents = {"acl:a": 1}
    watcher = Watcher(store, [shelf])
    await watcher.scan()
    await watcher.scan()
    assert shelf.reads == ["acl:a"] * 2


async def test_belief_counts_from_before_the_read(store: GraphStore) -> None:
    shelf = Shelf(max_age=timedelta(seconds=30))
    shelf.documents = {"acl:a": 1}

    async def slowly(_uri: str) -> None:
        await asyncio.sleep(0.3)

    shelf.during_read = slowly
    await Watcher(store, [shelf]).scan()
    now = (await store.read_facts({})).now
    expires = (await fact(store, "acl:a")).until
    assert expires is not None
    assert expires <= now + 30_000 - 300


async def test_a_slow_read_does_not_overwrite_a_newer_fact(store: GraphStore) -> None:
    """What the source had when the read began is older than what was pushed meanwhile."""
    shelf = Shelf()
    shelf.documents = {"acl:a": "old"}

    async def meanwhile(_uri: str) -> None:
        shelf.during_read = None
        await store.change("acl:a", Document.of("newer"))
        shelf.documents["acl:a"] = "newest"

    shelf.during_read = meanwhile
    await Watcher(store, [shelf]).scan()
    assert await _is(store, "acl:a", "newest")
    contents = [event.source for event in await store.changes()]
    assert contents == ["shelf", "push"]  # "old" never became a version
    assert shelf.reads == ["acl:a"] * 2


async def test_what_somebody_else_changed_is_read_again(store: GraphStore) -> None:
    shelf = Shelf(max_age=timedelta(hours=1))
    shelf.documents = {"acl:a": "mine"}
    watcher = Watcher(store, [shelf])
    await watcher.scan()
    await store.change("acl:a", Document.of("theirs"))
    await watcher.scan()
    assert await _is(store, "acl:a", "mine")


async def test_what_cannot_be_read_is_withdrawn_not_kept(store: GraphStore) -> None:
    shelf = Shelf()
    shelf.documents = dict.fromkeys(("acl:a", "acl:b", "acl:c", "acl:d"), 1)
    watcher = Watcher(store, [shelf])
    await watcher.scan()
    shelf.documents |= {
        "acl:a": Unreadable("line 3: not YAML"),
        "acl:b": PermissionError("not yours"),
        "acl:c": {"sets", "are", "no JSON"},
        "acl:d": RuntimeError("a bug of the source"),
    }
    await watcher.scan()
    for uri in shelf.documents:
        assert await _is_withdrawn(store, uri)
    assert watcher.unreadable["acl:a"] == "line 3: not YAML"
    assert watcher.unreadable["acl:b"] == "not yours"
    assert watcher.unreadable.keys() == shelf.documents.keys()
    shelf.documents = dict.fromkeys(shelf.documents, 1)
    await watcher.scan()
    assert await _is(store, "acl:a", 1)
    assert watcher.unreadable == {}


async def test_a_source_that_cannot_be_listed_withdraws_nothing(
    store: GraphStore, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    shelf.documents = {"acl:a": 1}
    watcher = Watcher(store, [shelf])
    await watcher.scan()
    shelf.listing_fails = True
    await watcher.scan()
    assert await _is(store, "acl:a", 1)
    assert "shelf cannot be listed: the disk is gone" in caplog.text


async def test_what_went_while_nobody_watched_is_withdrawn(store: GraphStore) -> None:
    before, after = Shelf(), Shelf()
    before.documents = {"acl:a": 1, "acl:b": 1}
    await Watcher(store, [before]).scan()
    await store.change("acl:pushed", Document.of(1))
    after.documents = {"acl:b": 1}
    await Watcher(store, [after]).scan()
    assert await _is_withdrawn(store, "acl:a")
    assert await _is(store, "acl:b", 1)
    assert await _is(store, "acl:pushed", 1)


async def test_a_resource_of_two_sources_is_nobodys(
    store: GraphStore, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = Shelf("one"), Shelf("two")
    one.documents, two.documents = {"acl:a": 1, "acl:b": 1}, {"acl:a": 1}
    watcher = Watcher(store, [one, two])
    await watcher.scan()
    assert (await fact(store, "acl:a")).state is not FactState.PRESENT
    assert "one and two claim it" in watcher.unreadable["acl:a"]
    assert await _is(store, "acl:b", 1)
    del two.documents["acl:a"]
    await watcher.scan()
    await watcher.scan()
    assert await _is(store, "acl:a", 1)
    assert watcher.unreadable == {}


async def test_a_second_claim_while_watching_takes_the_first_away(store: GraphStore) -> None:
    one, two = (Shelf(name, interval=timedelta(milliseconds=50)) for name in ("one", "two"))
    one.documents = {"acl:a": 1}
    async with Watcher(store, [one, two]):
        assert await _is(store, "acl:a", 1)
        two.documents = {"acl:a": 2}
        two.hints.put_nowait("acl:a")
        await until(lambda: _is_withdrawn(store, "acl:a"))
        await asyncio.sleep(0.2)  # some scans of both
        assert await _is_withdrawn(store, "acl:a")


async def test_hints_that_never_cease_do_not_keep_a_scan_from_its_turn(store: GraphStore) -> None:
    shelf = Shelf(interval=timedelta(milliseconds=50))
    shelf.documents = {"acl:busy": 0, "acl:lost": 1}

    async def again(_uri: str) -> None:
        shelf.hints.put_nowait("acl:busy")

    shelf.during_read = again
    async with Watcher(store, [shelf]):
        shelf.documents["acl:lost"] = 2
        await until(lambda: _is(store, "acl:lost", 2))


async def test_a_source_withdraws_only_what_it_has_told(store: GraphStore) -> None:
    shelf = Shelf()
    await store.change("acl:pushed", Document.of(1))
    async with Watcher(store, [shelf]):
        shelf.hints.put_nowait("acl:pushed")
        shelf.documents["acl:last"] = 1
        shelf.hints.put_nowait("acl:last")
        await until(lambda: _is(store, "acl:last", 1))
        assert await _is(store, "acl:pushed", 1)


async def test_what_moved_to_another_watchers_source_stays(store: GraphStore) -> None:
    one, two = Shelf("one"), Shelf("two")
    one.documents = {"acl:a": 1, "acl:b": 1}
    here, there = Watcher(store, [one]), Watcher(store, [two])
    await here.scan()
    two.documents["acl:a"] = one.documents.pop("acl:a")
    del one.documents["acl:b"]
    two.documents["acl:a"] = 2
    await there.scan()
    await here.scan()
    assert await _is(store, "acl:a", 2)
    assert await _is_withdrawn(store, "acl:b")


async def test_what_a_second_watcher_of_the_source_told_is_withdrawn_too(store: GraphStore) -> None:
    one, two = Shelf(), Shelf()
    one.documents = two.documents = {"acl:a": 1}
    first, second = Watcher(store, [one]), Watcher(store, [two])
    await first.scan()
    two.documents["acl:a"] = 2
    await second.scan()  # and ends
    del one.documents["acl:a"]
    await first.scan()
    assert await _is_withdrawn(store, "acl:a")


async def test_two_watchers_of_one_source_agree(store: GraphStore) -> None:
    shelf, other = Shelf(), Shelf()
    shelf.documents = other.documents = {f"acl:{n}": n for n in range(20)}
    await asyncio.gather(Watcher(store, [shelf]).scan(), Watcher(store, [other]).scan())
    assert len(await store.changes()) == 20


async def test_an_unnamed_resource_is_refused_at_once(store: GraphStore) -> None:
    shelf = Shelf()
    shelf.documents = {"no kind": 1}
    with pytest.raises(Exception, match="does not name a resource"):
        await Watcher(store, [shelf]).scan()


async def test_nothing_goes_on_after_it_is_left(store: GraphStore) -> None:
    before = asyncio.all_tasks()
    async with Watcher(store, [Shelf(), Shelf("two")]):
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before


async def test_changes_are_followed_once_each(store: GraphStore) -> None:
    told: list[tuple[str, int]] = []

    async def listen() -> None:
        events = follow(store, interval=timedelta(milliseconds=5))
        async for event in events:
            told.append((event.resource, event.to_version))  # noqa: PERF401  (it never ends)

    await store.change("acl:before", Document.of(1))
    await asyncio.sleep(0.01)
    listening = asyncio.ensure_future(listen())
    await asyncio.sleep(0.1)
    for n in range(30):
        await store.change(f"acl:{n % 3}", Document.of(n))

    async def all_told() -> bool:
        return len(told) >= 30

    await until(all_told)
    await asyncio.sleep(0.05)
    listening.cancel()
    assert told == [(f"acl:{n % 3}", n // 3 + 1) for n in range(30)]


async def test_a_store_that_is_away_is_told_once_and_waited_for(
    store: GraphStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes, away = store.changes, [True] * 4

    async def now_and_then(*args: Any, **wanted: Any) -> list[ChangeEvent]:
        if away and away.pop():
            raise StoreUnavailable("the store is away")
        return await changes(*args, **wanted)

    monkeypatch.setattr(store, "changes", now_and_then)
    await store.change("acl:a", Document.of(1))
    began = datetime.now(UTC) - timedelta(minutes=1)
    events = follow(store, since=began, interval=timedelta(milliseconds=5))
    async with asyncio.timeout(20):
        assert (await anext(events)).resource == "acl:a"
    assert caplog.text.count("cannot be followed") == 1
