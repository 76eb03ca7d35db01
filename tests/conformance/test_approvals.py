"""Approvals: asked for once, answered by the first who does, and good for one effect."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import WishLost
from execgraph.graphstore.facts import Expected
from execgraph.graphstore.model import ApprovalState, EffectState, SideEffect, Wish, signature
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import (
    published,
    sample_approval,
    sample_effect,
    sample_recording,
)

_DAY = timedelta(days=1)
_PENDING, _APPROVED, _DENIED = ApprovalState.PENDING, ApprovalState.APPROVED, ApprovalState.DENIED
_USED, _EXPIRED = ApprovalState.USED, ApprovalState.EXPIRED


def _effect(number: int = 1, *, approval: int = 1, by: str | None = None) -> SideEffect:
    """An effect that is to use an approval up."""
    named = {"approval": f"approval-{approval}", "approved_by": by}
    return sample_effect("run", number).model_copy(update=named)


async def _state(store: GraphStore, number: int = 1) -> ApprovalState:
    found = await store.approval(f"approval-{number}")
    assert found is not None
    return found.state


async def test_a_request_is_kept_as_it_was_asked(store: GraphStore) -> None:
    before = await store.now()
    asked = await store.request(sample_approval(), _DAY)
    assert asked.expires_at - asked.requested_at == 86_400_000
    assert before <= asked.requested_at <= await store.now(), "by the store's clock"
    times = {"requested_at": asked.requested_at, "expires_at": asked.expires_at}
    assert asked == sample_approval().model_copy(update=times)
    assert await store.approval("approval-1") == asked
    assert await store.approvals() == [asked]
    assert await store.approval("approval-2") is None
    assert await store.answer("approval-2", _APPROVED) is None


async def test_who_asks_for_the_same_is_given_the_same(one: GraphStore, two: GraphStore) -> None:
    asked = await one.request(sample_approval(), _DAY)
    assert await one.request(sample_approval(), _DAY) == asked, "also if it is repeated"
    assert await two.request(sample_approval(2, execution="other"), _DAY) == asked
    other = await two.request(sample_approval(3, digest="other"), _DAY)
    assert [it.id for it in await one.approvals()] == [asked.id, other.id], "oldest first"
    answered = await one.answer(asked.id, _APPROVED, by="ann")
    assert await two.request(sample_approval(2), _DAY) == answered, "which is approved by now"


async def test_of_many_who_ask_at_once_one_is_kept(one: GraphStore, two: GraphStore) -> None:
    asking = [
        (one, two)[n % 2].request(sample_approval(n, execution=f"run-{n}"), _DAY) for n in range(8)
    ]
    assert len({it.id for it in await asyncio.gather(*asking)}) == 1
    assert len(await one.approvals()) == 1


async def test_the_first_answer_stays(store: GraphStore) -> None:
    await store.request(sample_approval(), _DAY)
    first = await store.answer("approval-1", _DENIED, by="ann", reason="not on a Friday")
    assert first is not None
    assert (first.state, first.by, first.reason) == (_DENIED, "ann", "not on a Friday")
    assert first.answered_at is not None
    for state in (_APPROVED, _DENIED):
        assert await store.answer("approval-1", state, by="bob") == first
    assert await store.intend(_effect(by="bob"), []) is None
    assert await store.effects("run") == []
    assert await store.approvals() == []


async def test_a_denial_is_told_to_one_run(store: GraphStore) -> None:
    await store.request(sample_approval(), _DAY)
    await store.answer("approval-1", _DENIED)
    for _ in range(2):
        told = await store.request(sample_approval(2, execution="next"), _DAY)
        assert (told.id, told.state) == ("approval-1", _DENIED)
    kept = await store.approval("approval-1")
    assert kept is not None
    assert kept.heard_by == "next"
    anew = await store.request(sample_approval(3, execution="later"), _DAY)
    assert (anew.id, anew.state) == ("approval-3", _PENDING), "others ask anew"
    told = await store.request(sample_approval(4, execution="next"), _DAY)
    assert told.id == "approval-1", "it stays final for whom it was told"
    again = await store.request(sample_approval(5, execution="fifth"), _DAY, hearer="next")
    assert again.id == "approval-1", "whatever execution asks for them"


async def test_an_approval_is_good_for_one_effect(store: GraphStore) -> None:
    await store.request(sample_approval(), _DAY)
    await store.answer("approval-1", _APPROVED, by="ann")
    begun = await store.intend(_effect(by="bob"), [])
    assert begun is not None
    assert begun.approved_by == "ann", "who has approved, and not who would"
    assert await store.effects("run") == [begun]
    kept = await store.approval("approval-1")
    assert kept is not None
    assert (kept.state, kept.effect, kept.by) == (_USED, begun.id, "ann")
    assert await store.intend(_effect(2), []) is None
    assert await store.effects("run") == [begun], "and nothing was written"
    assert await store.answer("approval-1", _DENIED) == kept
    assert await store.request(sample_approval(), _DAY) == kept, "it is not asked twice"
    anew = await store.request(sample_approval(2), _DAY)
    assert anew.id == "approval-2"
    assert await store.effect(begun.id) == begun


async def test_who_begins_may_approve_at_the_same_time(store: GraphStore) -> None:
    await store.request(sample_approval(), _DAY)
    begun = await store.intend(_effect(by="ann"), [])
    assert begun is not None
    kept = await store.approval("approval-1")
    assert kept is not None
    assert (kept.state, kept.by, begun.approved_by) == (_USED, "ann", "ann")
    assert kept.answered_at is not None


async def test_of_many_at_once_one_effect_begins(one: GraphStore, two: GraphStore) -> None:
    await one.request(sample_approval(), _DAY)
    await one.answer("approval-1", _APPROVED)
    begun = await asyncio.gather(*((one, two)[n % 2].intend(_effect(n), []) for n in range(8)))
    assert len([it for it in begun if it is not None]) == 1
    assert len(await one.effects("run")) == 1


async def test_moved_facts_use_nothing_up(store: GraphStore) -> None:
    await store.change("acl:a", Document.of(1))
    expected = [Expected("acl:a", 1, believed=True)]
    await store.request(sample_approval(), _DAY)
    await store.answer("approval-1", _APPROVED)
    await store.change("acl:a", Document.of(2))
    assert await store.intend(_effect(), expected) is None
    assert await _state(store) is _APPROVED
    assert await store.intend(_effect(), [Expected("acl:a", 2, believed=True)]) is not None


async def test_an_unknown_approval_lets_nothing_begin(store: GraphStore) -> None:
    assert await store.intend(_effect(), []) is None
    assert await store.effects("run") == []


async def test_what_has_expired_is_not_answered_and_not_used(store: GraphStore) -> None:
    await store.request(sample_approval(), timedelta(milliseconds=1))
    await store.request(sample_approval(2, digest="two"), timedelta(milliseconds=300))
    assert (await store.answer("approval-2", _APPROVED)) is not None
    await asyncio.sleep(0.4)
    assert await _state(store, 1) is _EXPIRED
    assert await _state(store, 2) is _EXPIRED
    late = await store.answer("approval-1", _APPROVED)
    assert late is not None
    assert (late.state, late.answered_at) == (_EXPIRED, None)
    for number in (1, 2):
        assert await store.intend(_effect(number, approval=number), []) is None
    assert await store.approvals() == []
    assert (await store.request(sample_approval(3), _DAY)).id == "approval-3"
    assert (await store.request(sample_approval(4, digest="two"), _DAY)).id == "approval-4"


async def test_a_denial_that_nobody_heard_in_time_is_over(store: GraphStore) -> None:
    await store.request(sample_approval(), timedelta(milliseconds=300))
    await store.answer("approval-1", _DENIED)
    await asyncio.sleep(0.4)
    assert (await store.request(sample_approval(2), _DAY)).id == "approval-2"


async def test_precedents_tell_how_their_effects_stand(store: GraphStore) -> None:
    assert await store.precedents("deploy", "deploy") == []
    for number in (1, 2):
        await store.request(sample_approval(number, digest=f"{number}"), _DAY)
        await asyncio.sleep(0.005)
        assert await store.intend(_effect(number, approval=number), []) is not None
    await store.end_effect(_effect(1).ended())
    await store.request(sample_approval(3, digest="3"), _DAY)
    found = await store.precedents("deploy", "deploy")
    assert [(it.approval.id, it.effect) for it in found] == [
        ("approval-3", None),
        ("approval-2", EffectState.INTENDED),
        ("approval-1", EffectState.DONE),
    ]
    assert len(await store.precedents("deploy", "deploy", limit=1)) == 1
    assert await store.precedents("deploy", "other") == []
    assert await store.precedents("other", "deploy") == []


async def test_approvals_are_of_one_namespace(store: GraphStore) -> None:
    await store.request(sample_approval(), _DAY)
    other = store.of(f"{store.namespace}-other")
    assert await other.approval("approval-1") is None
    assert await other.approvals() == []
    assert await other.answer("approval-1", _APPROVED) is None
    assert await other.intend(_effect(), []) is None
    mine = await other.request(sample_approval(), _DAY)
    assert await other.answer("approval-1", _DENIED) != mine
    assert await _state(store) is _PENDING


async def test_what_served_it_is_rejected_uses_nothing_up(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    await store.request(sample_approval(), _DAY)
    await store.answer("approval-1", _APPROVED)
    await store.reject("deploy-1", "wrong", signature(recording.steps))
    assert await store.intend(_effect(), [], traces=["deploy-1"]) is None
    assert await store.effects("run") == []
    assert await _state(store) is _APPROVED
    assert await store.intend(_effect(), []) is not None


async def test_a_wish_that_is_lost_uses_nothing_up(store: GraphStore) -> None:
    held = Wish("one", "deploy", "run", "a process", run_id="r-1")
    await store.claim(held)
    await store.claim(held._replace(execution="other"), over="run")
    await store.request(sample_approval(), _DAY)
    with pytest.raises(WishLost):
        await store.intend(_effect(by="ann"), [], wish=held)
    assert await _state(store) is _PENDING
    assert await store.effects("run") == []


async def test_a_used_approval_keeps_no_wish(store: GraphStore) -> None:
    await store.request(sample_approval(), _DAY)
    assert await store.intend(_effect(), [])
    plain = Wish("run", "deploy", "run", "a process")
    assert await store.intend(_effect(2), [], wish=plain) is None
    assert (await store.unfinished("deploy")).wishes == ()


async def test_what_was_begun_before_uses_nothing_up(store: GraphStore) -> None:
    known = _effect().model_copy(update={"once": "wish:k"})
    await store.request(sample_approval(), _DAY)
    first = await store.intend(known, [])
    await store.request(sample_approval(2), _DAY)
    same = _effect(2, approval=2).model_copy(update={"once": "wish:k"})
    assert await store.intend(same, []) == first
    assert await _state(store, 2) is _PENDING


async def test_one_in_doubt_begins_again_with_another_approval(store: GraphStore) -> None:
    known = _effect(by="ann").model_copy(update={"once": "wish:k"})
    await store.request(sample_approval(), _DAY)
    assert await store.intend(known, []) == known
    again = known.model_copy(update={"begun_at": known.begun_at + 5})
    assert await store.intend(again, []) is None, "its approval is used up"
    assert await store.effect(known.id) == known
    await store.request(sample_approval(2), _DAY)
    await store.answer("approval-2", _APPROVED, by="bob")
    again = again.model_copy(update={"approval": "approval-2"})
    begun = await store.intend(again, [])
    assert begun == again.model_copy(update={"approved_by": "bob"})
    assert await store.effects("run") == [begun]
    assert await _state(store, 2) is _USED
