"""Facts expire, are renewed, and are changed only as they were noted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from ..document import Document
from ..errors import VersionMoved
from ..facts import FactState
from ..model import ChangeEvent, ChangeKind
from ..store import EXPIRY, GraphStore
from .expect import equal, true

__all__ = ["CHECKS"]

_URI = "acl:prod/deploy"
_WHOLE = {_URI: frozenset({None})}
_LATER = timedelta(hours=1)
_PAST = datetime(2020, 1, 1, tzinfo=UTC)
_ONE, _TWO = Document.of({"a": 1}), Document.of({"a": 2})


async def check_a_change_only_as_noted(store: GraphStore, namespace: str) -> None:
    event = await store.change(namespace, _URI, _ONE, noted=0)
    assert event is not None
    for document in (_ONE, _TWO, None):
        await _refused(store, namespace, document, noted=0)
        await _refused(store, namespace, document, noted=2)
    equal(len(await store.changes(namespace)), 1, "a refused change writes nothing")
    event = await store.change(namespace, _URI, _TWO, noted=1)
    assert event is not None
    equal(event.to_version, 2, "a change as noted is applied")
    equal(await store.change(namespace, _URI, _TWO, noted=2), None, "an equal one renews")


async def _refused(
    store: GraphStore, namespace: str, document: Document | None, noted: int
) -> None:
    try:
        await store.change(namespace, _URI, document, noted=noted)
    except VersionMoved:
        return
    raise AssertionError(f"a change noted at {noted} must not be applied to another version")


async def check_renewing_what_is_as_noted(store: GraphStore, namespace: str) -> None:
    for name in "abc":
        await store.change(namespace, f"acl:{name}", _ONE)
    await store.change(namespace, "acl:b", _TWO)
    await store.change(namespace, "acl:c", None)
    noted = {"acl:a": 1, "acl:b": 1, "acl:c": 2, "acl:unknown": 1}
    found = await store.renew(namespace, noted, until=_LATER)
    equal(found, frozenset({"acl:a", "acl:c"}), "what is at the version noted")
    facts = await store.read_facts(namespace, {f"acl:{name}": frozenset() for name in "abc"})
    until = facts.of("acl:a").until
    true(until is not None and until > facts.now + 3_000_000, "it is to be believed until then")
    equal(facts.of("acl:b").until, None, "what moved is left alone")
    equal(facts.of("acl:c").state, FactState.WITHDRAWN, "what is withdrawn stays so")
    equal(await store.renew(namespace, {}, until=None), frozenset(), "nothing is renewed")
    equal(len(await store.changes(namespace)), 5, "to renew what is believed is no event")


async def check_an_expiry_is_recorded_once(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _URI, _ONE, until=_PAST)
    await store.change(namespace, "acl:other", _ONE, until=_LATER)
    await store.change(namespace, "acl:for-ever", _ONE)
    await store.change(namespace, "acl:gone", _ONE, until=_PAST)
    await store.change(namespace, "acl:gone", None, until=_PAST)
    await store.facts(namespace, {_URI: frozenset({None, "$.a"})})
    [event] = await store.expire(namespace)
    equal((event.resource, event.kind), (_URI, ChangeKind.EXPIRED), "what has expired")
    equal((event.from_version, event.to_version, event.source), (1, 1, EXPIRY), "the same version")
    equal(
        {(it.selector, it.before, it.after) for it in event.changed},
        {(selector, _ONE.fingerprint(selector), None) for selector in (None, "$.a")},
        "every facet has a fingerprint no more",
    )
    equal(await store.changes(namespace, limit=1), [event], "it is an event like others")
    equal(await store.expire(namespace), [], "and is recorded once")


async def check_what_expired_comes_back(store: GraphStore, namespace: str) -> None:
    async def expired() -> None:
        await store.change(namespace, _URI, _ONE, until=timedelta(milliseconds=1))
        await store.facts(namespace, _WHOLE)
        await asyncio.sleep(0.005)
        equal(len(await store.expire(namespace)), 1, "it expires each time")

    await expired()
    equal(
        await store.renew(namespace, {_URI: 1}, until=_LATER, source="scan"),
        frozenset({_URI}),
        "it is renewed",
    )
    _is_back(await store.changes(namespace, limit=1), 1, "scan")
    await expired()
    event = await store.change(namespace, _URI, _ONE, source="push")
    assert event is not None, "an equal document brings an expired one back: that is an event"
    _is_back([event], 1, "push")
    equal(await store.changes(namespace, limit=1), [event], "the event is kept as returned")
    await expired()
    still = await store.change(namespace, _URI, _ONE, until=_PAST)
    equal(still, None, "what stays expired is not back")
    equal(await store.expire(namespace), [], "nor does it expire again")
    event = await store.change(namespace, _URI, _TWO)
    assert event is not None
    equal(
        [(it.before, it.after) for it in event.changed],
        [(None, _TWO.whole)],
        "before a new version, an expired one had no fingerprints",
    )
    equal((event.kind, event.to_version), (ChangeKind.CHANGED, 2), "which is an ordinary change")
    equal(await store.expire(namespace), [], "and not expired")


def _is_back(events: list[ChangeEvent], version: int, source: str) -> None:
    [event] = events
    equal((event.kind, event.source), (ChangeKind.RENEWED, source), "it is to be believed again")
    equal((event.from_version, event.to_version), (version, version), "at the same version")
    changed = [(it.before, it.after) for it in event.changed]
    equal(changed, [(None, _ONE.whole)], "its facets have their fingerprints again")


async def check_changes_since(store: GraphStore, namespace: str) -> None:
    first = await store.change(namespace, _URI, _ONE)
    await asyncio.sleep(0.005)
    events = [await store.change(namespace, f"acl:{n}", _ONE) for n in range(3)]
    assert first is not None
    since = first.at + 1
    equal(await store.changes(namespace, since=since), events[::-1], "none that is older")
    equal(await store.changes(namespace, since=since, limit=1), [events[2]], "the newest first")
    found = await store.changes(namespace, limit=None)
    equal(found, [*events[::-1], first], "without a limit, all")
    of_first = await store.changes(namespace, resource=_URI, since=since)
    equal(of_first, [], "none of a resource that is older")


async def check_facets_of_a_resource(store: GraphStore, namespace: str) -> None:
    equal(await store.facets(namespace, _URI), frozenset(), "nobody required any yet")
    await store.change(namespace, _URI, _ONE)
    await store.facts(namespace, {_URI: frozenset({None, "$.a"}), "acl:x": frozenset({"$.b"})})
    equal(await store.facets(namespace, _URI), frozenset({None, "$.a"}), "what was required")


async def check_resources_by_source(store: GraphStore, namespace: str) -> None:
    for name in "abcd":
        await store.change(namespace, f"acl:{name}", _ONE, source="files")
    await store.change(namespace, "acl:b", _TWO, source="files")
    await store.change(namespace, "acl:c", _TWO, source="push")
    await store.change(namespace, "acl:d", None, source="files")
    await store.change(namespace, "acl:a", _ONE, until=_PAST, source="push")
    await store.expire(namespace)
    found = await store.resources(namespace, "files")
    equal(found, {"acl:a": 1, "acl:b": 2}, "present, and last changed by that source")


async def check_a_lease_has_one_owner(store: GraphStore, namespace: str) -> None:
    true(await store.lease(namespace, "walker", "a", _LATER), "a free lease is given")
    true(not await store.lease(namespace, "walker", "b", _LATER), "to one owner")
    true(await store.lease(namespace, "walker", "a", _LATER), "who may extend it")
    true(await store.lease(namespace, "watch", "b", _LATER), "another name is another lease")
    await store.release(namespace, "walker", "b")
    true(not await store.lease(namespace, "walker", "b", _LATER), "only its owner gives it up")
    await store.release(namespace, "walker", "a")
    true(await store.lease(namespace, "walker", "b", timedelta(milliseconds=1)), "then it is free")
    await asyncio.sleep(0.005)
    true(await store.lease(namespace, "walker", "a", _LATER), "as when it has run out")
    won = await asyncio.gather(
        *(store.lease(namespace, "race", f"owner-{n}", _LATER) for n in range(8))
    )
    equal(sum(won), 1, "of many at once, one")


async def check_a_lease_that_is_given_up_goes_to_one(store: GraphStore, namespace: str) -> None:
    holders: list[str] = []

    async def work(owner: str) -> None:
        for _ in range(15):
            if await store.lease(namespace, "walker", owner, _LATER):
                holders.append(owner)
                equal(holders, [owner], "nobody else holds it")
                await asyncio.sleep(0.001)
                holders.remove(owner)
                await store.release(namespace, "walker", owner)

    await asyncio.gather(*(work(f"owner-{n}") for n in range(6)))


CHECKS = (
    check_a_change_only_as_noted,
    check_renewing_what_is_as_noted,
    check_an_expiry_is_recorded_once,
    check_what_expired_comes_back,
    check_changes_since,
    check_facets_of_a_resource,
    check_resources_by_source,
    check_a_lease_has_one_owner,
    check_a_lease_that_is_given_up_goes_to_one,
)
