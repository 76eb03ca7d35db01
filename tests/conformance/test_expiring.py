"""Facts expire, are renewed, and are changed only as they were noted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import VersionMoved
from execgraph.graphstore.facts import EXPIRY, FactState
from execgraph.graphstore.model import ChangeEvent, ChangeKind
from execgraph.graphstore.roles.leases import Held
from execgraph.graphstore.store import GraphStore

_URI = "acl:prod/deploy"
_WHOLE = {_URI: frozenset({None})}
_LATER = timedelta(hours=1)
_PAST = datetime(2020, 1, 1, tzinfo=UTC)
_ONE, _TWO = Document.of({"a": 1}), Document.of({"a": 2})


async def test_a_change_only_as_noted(store: GraphStore) -> None:
    event = await store.change(_URI, _ONE, noted=0)
    assert event is not None
    for document in (_ONE, _TWO, None):
        await _refused(store, document, noted=0)
        await _refused(store, document, noted=2)
    assert len(await store.changes()) == 1, "a refused change writes nothing"
    event = await store.change(_URI, _TWO, noted=1)
    assert event is not None
    assert event.to_version == 2, "a change as noted is applied"
    assert await store.change(_URI, _TWO, noted=2) is None, "an equal one renews"


async def _refused(store: GraphStore, document: Document | None, noted: int) -> None:
    try:
        await store.change(_URI, document, noted=noted)
    except VersionMoved:
        return
    raise AssertionError(f"a change noted at {noted} must not be applied to another version")


async def test_renewing_what_is_as_noted(store: GraphStore) -> None:
    for name in "abc":
        await store.change(f"acl:{name}", _ONE)
    await store.change("acl:b", _TWO)
    await store.change("acl:c", None)
    noted = {"acl:a": 1, "acl:b": 1, "acl:c": 2, "acl:unknown": 1}
    found = await store.renew(noted, until=_LATER)
    assert found == frozenset({"acl:a", "acl:c"}), "what is at the version noted"
    facts = await store.read_facts({f"acl:{name}": frozenset() for name in "abc"})
    until = facts.of("acl:a").until
    assert until is not None
    assert until > facts.now + 3_000_000, "it is to be believed until then"
    assert facts.of("acl:b").until is None, "what moved is left alone"
    assert facts.of("acl:c").state == FactState.WITHDRAWN, "what is withdrawn stays so"
    assert await store.renew({}, until=None) == frozenset(), "nothing is renewed"
    assert len(await store.changes()) == 5, "to renew what is believed is no event"


async def test_an_expiry_is_recorded_once(store: GraphStore) -> None:
    await store.change(_URI, _ONE, until=_PAST)
    await store.change("acl:other", _ONE, until=_LATER)
    await store.change("acl:for-ever", _ONE)
    await store.change("acl:gone", _ONE, until=_PAST)
    await store.change("acl:gone", None, until=_PAST)
    await store.facts({_URI: frozenset({None, "$.a"})})
    [event] = await store.expire()
    assert (event.resource, event.kind) == (_URI, ChangeKind.EXPIRED), "what has expired"
    assert (event.from_version, event.to_version, event.source) == (1, 1, EXPIRY), (
        "the same version"
    )
    assert {(it.selector, it.before, it.after) for it in event.changed} == {
        (selector, _ONE.fingerprint(selector), None) for selector in (None, "$.a")
    }, "every facet has a fingerprint no more"
    assert await store.changes(limit=1) == [event], "it is an event like others"
    assert await store.expire() == [], "and is recorded once"


async def test_what_expired_comes_back(store: GraphStore) -> None:
    async def expired() -> None:
        await store.change(_URI, _ONE, until=timedelta(milliseconds=1))
        await store.facts(_WHOLE)
        await asyncio.sleep(0.005)
        assert len(await store.expire()) == 1, "it expires each time"

    await expired()
    assert await store.renew({_URI: 1}, until=_LATER, source="scan") == frozenset({_URI}), (
        "it is renewed"
    )
    _is_back(await store.changes(limit=1), 1, "scan")
    await expired()
    event = await store.change(_URI, _ONE, source="push")
    assert event is not None, "an equal document brings an expired one back: that is an event"
    _is_back([event], 1, "push")
    assert await store.changes(limit=1) == [event], "the event is kept as returned"
    await expired()
    still = await store.change(_URI, _ONE, until=_PAST)
    assert still is None, "what stays expired is not back"
    assert await store.expire() == [], "nor does it expire again"
    event = await store.change(_URI, _TWO)
    assert event is not None
    assert [(it.before, it.after) for it in event.changed] == [(None, _TWO.whole)], (
        "before a new version, an expired one had no fingerprints"
    )
    assert (event.kind, event.to_version) == (ChangeKind.CHANGED, 2), "which is an ordinary change"
    assert await store.expire() == [], "and not expired"


def _is_back(events: list[ChangeEvent], version: int, source: str) -> None:
    [event] = events
    assert (event.kind, event.source) == (ChangeKind.RENEWED, source), "it is to be believed again"
    assert (event.from_version, event.to_version) == (version, version), "at the same version"
    changed = [(it.before, it.after) for it in event.changed]
    assert changed == [(None, _ONE.whole)], "its facets have their fingerprints again"


async def test_changes_since(store: GraphStore) -> None:
    first = await store.change(_URI, _ONE)
    await asyncio.sleep(0.005)
    events = [await store.change(f"acl:{n}", _ONE) for n in range(3)]
    assert first is not None
    since = first.at + 1
    assert await store.changes(since=since) == events[::-1], "none that is older"
    assert await store.changes(since=since, limit=1) == [events[2]], "the newest first"
    found = await store.changes(limit=None)
    assert found == [*events[::-1], first], "without a limit, all"
    of_first = await store.changes(resource=_URI, since=since)
    assert of_first == [], "none of a resource that is older"


async def test_facets_of_a_resource(store: GraphStore) -> None:
    assert await store.facets(_URI) == frozenset(), "nobody required any yet"
    await store.change(_URI, _ONE)
    await store.facts({_URI: frozenset({None, "$.a"}), "acl:x": frozenset({"$.b"})})
    assert await store.facets(_URI) == frozenset({None, "$.a"}), "what was required"


async def test_resources_by_source(store: GraphStore) -> None:
    for name in "abcd":
        await store.change(f"acl:{name}", _ONE, source="files")
    await store.change("acl:b", _TWO, source="files")
    await store.change("acl:c", _TWO, source="push")
    await store.change("acl:d", None, source="files")
    await store.change("acl:a", _ONE, until=_PAST, source="push")
    await store.expire()
    found = await store.resources("files")
    assert found == {"acl:a": 1, "acl:b": 2}, "present, and last changed by that source"


async def test_a_lease_has_one_owner(store: GraphStore) -> None:
    assert await store.lease("walker", "a", _LATER), "a free lease is given"
    assert not await store.lease("walker", "b", _LATER), "to one owner"
    assert await store.lease("walker", "a", _LATER), "who may extend it"
    assert await store.lease("watch", "b", _LATER), "another name is another lease"
    await store.release("walker", "b")
    assert not await store.lease("walker", "b", _LATER), "only its owner gives it up"
    await store.release("walker", "a")
    assert await store.lease("walker", "b", timedelta(milliseconds=1)), "then it is free"
    await asyncio.sleep(0.005)
    assert await store.lease("walker", "a", _LATER), "as when it has run out"
    won = await asyncio.gather(*(store.lease("race", f"owner-{n}", _LATER) for n in range(8)))
    assert sum(won) == 1, "of many at once, one"


async def test_who_holds_a_lease_is_known_until_it_is_given_up(store: GraphStore) -> None:
    assert await store.holder("walker") is None, "nobody was given it"
    await store.lease("walker", "a", _LATER)
    assert await store.holder("walker") == Held("a", lasts=True)
    assert await store.holder("watch") is None, "another name is another lease"
    await store.lease("walker", "a", timedelta(milliseconds=1))
    await asyncio.sleep(0.005)
    assert await store.holder("walker") == Held("a", lasts=False), "it has run out"
    await store.release("walker", "a")
    assert await store.holder("walker") is None, "it was given up"


async def test_what_the_holder_of_a_lease_waits_for_is_known_while_it_says_so(
    store: GraphStore,
) -> None:
    await store.lease("a", "x", _LATER, waits_for=["b", 'c "'])
    assert await store.holder("a") == Held("x", lasts=True, waits_for=("b", 'c "'))
    await store.lease("a", "x", _LATER)
    assert await store.holder("a") == Held("x", lasts=True), "it waits no longer"
    await store.lease("a", "x", _LATER, waits_for=["b"])
    await store.lease("a", "y", _LATER, instead_of="x")
    assert await store.holder("a") == Held("y", lasts=True), "another one waits for nothing"


async def test_a_lease_may_be_taken_over_from_one_who_is_no_more(store: GraphStore) -> None:
    await store.lease("walker", "a", _LATER)
    assert not await store.lease("walker", "b", _LATER, instead_of="c"), "it is not that one's"
    assert await store.lease("walker", "b", _LATER, instead_of="a")
    assert await store.holder("walker") == Held("b", lasts=True)
    assert not await store.lease("walker", "c", _LATER, instead_of="a"), "it was taken over already"


async def test_a_lease_that_is_given_up_goes_to_one(store: GraphStore) -> None:
    holders: list[str] = []

    async def work(owner: str) -> None:
        for _ in range(15):
            if await store.lease("walker", owner, _LATER):
                holders.append(owner)
                assert holders == [owner], "nobody else holds it"
                await asyncio.sleep(0.001)
                holders.remove(owner)
                await store.release("walker", owner)

    await asyncio.gather(*(work(f"owner-{n}") for n in range(6)))
