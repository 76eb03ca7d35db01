"""Wishes: of several runs one holds it, and only that one's effects begin."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from execgraph.graphstore.errors import WishLost
from execgraph.graphstore.facts import Expected
from execgraph.graphstore.model import (
    ExecutionState,
    JournalEntry,
    SideEffect,
    Wish,
    WishState,
)
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import (
    published,
    sample_effect,
    sample_recording,
    sample_replay,
)


def run(execution: str, key: str = "one") -> Wish:
    """A wish with a run id."""
    return Wish(key, "deploy", execution, "a process", run_id="r-1")


def plain(execution: str) -> Wish:
    return Wish(execution, "deploy", execution, "a process")


def told(wish: Wish) -> Wish:
    """But for how long nothing was heard of it."""
    assert 0 <= wish.idle_ms < 60_000
    return wish._replace(idle_ms=0)


async def open_wishes(
    store: GraphStore, task: str = "deploy", exact: str | None = None
) -> list[Wish]:
    return [told(it) for it in (await store.unfinished(task, exact=exact)).wishes]


async def test_of_several_runs_one_holds_it(store: GraphStore) -> None:
    claims = [store.claim(run(f"e{n}")) for n in range(5)]
    kept = {told(it) for it in await asyncio.gather(*claims)}
    [first] = kept
    assert first in {run(f"e{n}") for n in range(5)}
    assert told(await store.claim(run("late"))) == first
    assert told(await store.claim(run("late"), over="another")) == first
    for _ in range(2):
        assert told(await store.claim(run("next"), over=first.execution)) == run("next")
    taken = [store.claim(run(f"t{n}"), over="next") for n in range(5)]
    assert len({told(it) for it in await asyncio.gather(*taken)}) == 1


async def test_one_that_is_done_with_is_not_taken_over(store: GraphStore) -> None:
    gone = (await store.claim(run("late"), over="e1")).execution
    assert gone == ""
    assert await open_wishes(store) == []


async def test_only_who_holds_it_begins_an_effect(store: GraphStore) -> None:
    await store.claim(run("e1"))
    effect = sample_effect("e1")
    assert await store.intend(effect, [], wish=run("e1")) == effect
    await store.claim(run("e2"), over="e1")
    for expected in ([], [Expected("acl:a", 7, believed=True)]):
        with pytest.raises(WishLost):
            await store.intend(sample_effect("e1", 2), expected, wish=run("e1"))
    with pytest.raises(WishLost):
        await store.intend(sample_effect("e1", 2), [], wish=run("e1", "unknown"))
    assert [it.id for it in await store.effects("e1")] == [effect.id]
    moved = [Expected("acl:a", 7, believed=True)]
    assert await store.intend(sample_effect("e2"), moved, wish=run("e2")) is None
    later = sample_effect("e2")
    assert await store.intend(later, [], wish=run("e2")) == later


async def test_while_it_is_taken_over_no_effect_begins_after(store: GraphStore) -> None:
    for number in range(5):
        wish = run(f"e{number}", f"wish {number}")
        await store.claim(wish)
        effect = sample_effect(wish.execution).model_copy(update={"wish": wish.key})

        async def take_over(wish: Wish = wish) -> list[SideEffect]:
            await store.claim(wish._replace(execution="late"), over=wish.execution)
            return list((await store.attempts(wish.key)).effects)

        begun, seen = await asyncio.gather(
            store.intend(effect, [], wish=wish), take_over(), return_exceptions=True
        )
        assert seen == ([] if isinstance(begun, WishLost) else [effect])


async def test_an_effect_in_doubt_begins_again_if_facts_hold(store: GraphStore) -> None:
    await store.claim(run("e1"))
    first = sample_effect("e1").model_copy(update={"once": "wish:k", "wish": "one"})
    await store.intend(first, [], wish=run("e1"))
    await store.claim(run("e2"), over="e1")
    other = sample_effect("e2").model_copy(update={"once": "wish:k", "wish": "one"})
    assert await store.intend(other, [], wish=run("e2")) == first, "it is known by its key"
    again = first.model_copy(update={"process": "another", "begun_at": first.begun_at + 5})
    moved = [Expected("acl:a", 7, believed=True)]
    assert await store.intend(again, moved, wish=run("e2")) is None
    assert list((await store.attempts("one")).effects) == [first]
    assert await store.intend(again, [], wish=run("e2")) == again
    assert list((await store.attempts("one")).effects) == [again]
    done = again.ended(b'"ok"')
    await store.end_effect(done)
    assert await store.intend(again, [], wish=run("e2")) == done, "what is done stays done"
    assert (await store.effect(first.id)) == done


async def test_one_without_a_run_id_is_kept_with_its_first_effect(store: GraphStore) -> None:
    moved = [Expected("acl:a", 7, believed=True)]
    assert await store.intend(sample_effect("e1"), moved, wish=plain("e1")) is None
    assert await open_wishes(store) == []
    for number in (1, 2):
        assert await store.intend(sample_effect("e1", number), [], wish=plain("e1"))
    assert await open_wishes(store) == [plain("e1")]
    assert await open_wishes(store, "another") == []


@pytest.mark.parametrize("state", [ExecutionState.FAILED, ExecutionState.RUNNING])
async def test_a_run_that_is_written_ends_it(store: GraphStore, state: ExecutionState) -> None:
    recording = sample_recording(state=state)
    wish = plain(recording.execution.id)
    await store.intend(sample_effect(wish.execution), [], wish=wish)
    await store.claim(run("named"))
    await store.write(recording)
    ended = [wish._replace(state=WishState.FAILED)] if state is ExecutionState.FAILED else []
    assert [it for it in await open_wishes(store) if it.run_id is None] == ended
    assert [it for it in await open_wishes(store) if it.run_id] == [run("named")]


async def test_so_does_a_replay_that_is_written(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    replay = sample_replay(recording, 1)
    wish = plain(replay.execution.id)
    await store.intend(sample_effect(wish.execution), [], wish=wish)
    await store.write_replays([replay])
    assert await open_wishes(store) == []


async def test_one_with_a_run_id_is_kept_with_its_result(store: GraphStore) -> None:
    recording = sample_recording()
    wish = run(recording.execution.id)
    await store.claim(wish)
    await store.write(recording)
    assert await open_wishes(store) == [wish], "it is its caller who ends it"
    done = wish._replace(state=WishState.DONE, result='{"output": 1}')
    assert not await store.end_wish(done._replace(execution="another"))
    for _ in range(2):
        assert await store.end_wish(done)
    assert told(await store.claim(run("late"), over=wish.execution)) == done
    assert await open_wishes(store) == []


async def test_attempts_are_what_was_begun_and_done_for_it(store: GraphStore) -> None:
    effects = [
        sample_effect(f"e{n}", n).model_copy(update={"wish": "one" if n < 3 else "two"})
        for n in (1, 2, 3)
    ]
    for effect in effects:
        await store.intend(effect, [])
    entries = [
        JournalEntry("deploy", f"e{n}", 0, n, b"step", "one" if n < 3 else None) for n in (1, 2, 3)
    ]
    await store.journal(entries)
    attempts = await store.attempts("one")
    assert (list(attempts.effects), list(attempts.entries)) == (effects[:2], entries[:2])
    assert await store.attempts("unknown") == ((), ())


async def test_unfinished_runs_keep_a_trace_from_being_followed_at_once(store: GraphStore) -> None:
    """But for those at work, those with a run id, and those of other tasks."""
    recording = sample_recording()
    await published(store, recording)
    trace, alive = recording.execution.id, ["a process"]

    async def still() -> bool:
        return await store.still(trace, {}, alive=alive)

    assert await still()
    await store.claim(run("e1"))
    await store.claim(Wish("named", "deploy", "e2", None, idempotency="i-1"))
    await store.claim(Wish("other", "another", "e3", None))
    assert await still()
    await store.claim(plain("e4"))
    assert await still()
    assert not await store.still(trace, {})
    assert await store.still(trace, {}, exact="of another value")
    await store.claim(Wish("exact", "of another value", "e5", None))
    assert not await store.still(trace, {}, exact="of another value")
    assert [it.key for it in await open_wishes(store, exact="of another value")] == ["exact"]
    failed = recording.execution.model_copy(update={"id": "e4", "state": ExecutionState.FAILED})
    await store.write(recording.model_copy(update={"execution": failed, "effects": ()}))
    assert not await still()


async def test_old_ones_go_unless_they_are_renewed(store: GraphStore) -> None:
    for wish in (run("e1"), plain("e2"), plain("e3")):
        await store.claim(wish)
    await asyncio.sleep(0.05)
    between = await store.now()
    await asyncio.sleep(0.05)
    await store.renew_wishes(["e1", "e3", "unknown"])
    await store.age_journal(between)
    assert {it.execution for it in await open_wishes(store)} == {"e1", "e3"}
    await store.age_journal(int((datetime.now(UTC) + timedelta(minutes=1)).timestamp() * 1000))
    assert await open_wishes(store) == []


async def test_a_namespace_has_its_own(store: GraphStore) -> None:
    other = store.of(f"{store.namespace}-other")
    await store.claim(run("e1"))
    assert told(await other.claim(run("e2"))) == run("e2")
    assert await open_wishes(other) == [run("e2")]
    assert (await store.attempts("one")).effects == ()
