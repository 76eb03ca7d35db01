"""Effects: begun only while their facts stand; and the replays that perform them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Expected
from execgraph.graphstore.model import (
    NEVER,
    EffectState,
    ExecutionState,
    FacetRef,
    Mode,
    Precondition,
    SideEffect,
)
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    published,
    sample_effect,
    sample_recording,
    sample_replay,
)

_A, _B = "acl:a", "acl:b"


async def _begun(store: GraphStore, run: str, expected: Sequence[Expected]) -> bool:
    """Intend an effect, and check that all of it was written, or nothing."""
    effect = sample_effect(run)
    begun = await store.intend(effect, expected) == effect
    written = [effect] if begun else []
    assert await store.effects(run) == written, "an effect is written iff it is begun"
    execution = await store.execution(run)
    assert (execution is not None) == begun, "and so is its execution"
    return begun


async def test_intend_creates_the_execution(store: GraphStore) -> None:
    assert await _begun(store, "run", []), "an effect may rest on nothing"
    found = await store.execution("run")
    assert found is not None
    assert found.execution.state == ExecutionState.RUNNING, "its execution is created as running"
    assert found.steps == (), "and has no steps yet"
    later = sample_effect("run", 2)
    assert await store.intend(later, []), "an execution performs several effects"
    effects = await store.effects("run")
    assert effects == [sample_effect("run"), later], "in the order they were begun"


async def test_intend_checks_the_version(store: GraphStore) -> None:
    await store.change(_A, Document.of(1))
    await store.change(_B, Document.of(1))
    here = [Expected(_A, 1, believed=True), Expected(_B, 1, believed=True)]
    assert await _begun(store, "r1", here), "all is as expected"
    await store.change(_B, Document.of(1))
    assert await _begun(store, "r2", here), "an equal document moves nothing"
    await store.change(_B, Document.of(2))
    assert not await _begun(store, "r3", here), "one of two resources moved"
    await store.change(_B, Document.of(1))
    assert not await _begun(store, "r4", here), "its restored version is another"
    known = [Expected(_B, 3, believed=True)]
    assert await _begun(store, "r5", known), "which may be expected"


async def test_intend_takes_a_later_version_that_holds_the_same(
    store: GraphStore, namespace: str
) -> None:
    """Other facets may change all the time."""
    await store.change(_A, Document.of({"x": 1, "y": 1}))
    await store.facts({_A: frozenset({"$.x", "$.z"})})
    x, y, z = (guard(namespace, _A, {"x": 1, "y": 1}, f"$.{name}") for name in "xyz")

    def version_1_holding(*held: Precondition) -> list[Expected]:
        return [Expected(_A, 1, believed=True, holds=tuple(it.id for it in held))]

    await store.change(_A, Document.of({"x": 1, "y": 2}))
    assert not await _begun(store, "r1", version_1_holding()), "nothing is held"
    assert await _begun(store, "r2", version_1_holding(x)), "version 2 holds it"
    assert await _begun(store, "r3", version_1_holding(x, z)), "and both"
    unknown = version_1_holding(x, y)
    assert not await _begun(store, "r4", unknown), "a facet that was never computed"
    await store.facts({_A: frozenset({"$.y"})})
    assert not await _begun(store, "r5", unknown), "one of the two is another now"
    await store.change(_A, Document.of({"x": 2, "y": 1}))
    assert not await _begun(store, "r6", version_1_holding(x)), "it changed"
    await store.change(_A, Document.of({"x": 1, "y": 1}), until=timedelta(0))
    assert not await _begun(store, "r7", version_1_holding(x)), "not believed"
    await store.change(_A, None)
    assert not await _begun(store, "r8", version_1_holding(x)), "withdrawn"


async def test_intend_checks_belief(store: GraphStore) -> None:
    await store.change(_A, Document.of(1), until=timedelta(hours=1))
    believed, noted = [Expected(_A, 1, believed=True)], [Expected(_A, 1, believed=False)]
    assert await _begun(store, "r1", believed), "until then it is believed"
    await store.renew({_A: 1}, until=timedelta(milliseconds=1))
    await asyncio.sleep(0.05)
    assert not await _begun(store, "r2", believed), "from then on it is not"
    assert await _begun(store, "r3", noted), "an expired one may be expected so"
    await store.change(_A, None)
    withdrawn = [Expected(_A, 2, believed=True)]
    assert not await _begun(store, "r4", withdrawn), "withdrawn is not believed"
    assert await _begun(store, "r5", [Expected(_A, 2, believed=False)]), (
        "a withdrawn one may be expected so"
    )
    assert not await _begun(store, "r6", noted), "but not an older version"


async def test_intend_checks_absence(store: GraphStore, namespace: str) -> None:
    never = Precondition.of(namespace, FacetRef(_A, None), NEVER)
    absent = [Expected(_A, 0, believed=False)]
    assert await _begun(store, "r1", absent), "it was never observed"
    await store.write(sample_recording(guards=[never]))
    assert await _begun(store, "r2", absent), "to be required is not observed"
    present = [Expected(_A, 0, believed=True)]
    assert not await _begun(store, "r3", present), "what is absent is not believed"
    await store.change(_A, Document.of(1))
    assert not await _begun(store, "r4", absent), "it is no longer absent"
    one = [Expected("acl:unknown", 1, believed=False)]
    assert not await _begun(store, "r5", one), "an unknown one has no version 1"


async def test_replays_are_stored(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    effects = [
        sample_effect("deploy-replay-1", n, step=f"deploy-1/{position}")
        for n, position in ((1, 1), (2, 3))
    ]
    await store.intend(effects[0], [])
    replays = [sample_replay(recording, 1, effects), sample_replay(recording, 2)]
    done = [effect.model_copy(update={"state": EffectState.DONE}) for effect in effects]
    for _ in range(2):
        await store.write_replays(replays)
        for replay in replays:
            found = await store.execution(replay.execution.id)
            assert found is not None
            assert found.execution == replay.execution, "a replay has every field"
            assert (found.execution.mode, found.steps) == (Mode.REPLAY, ()), (
                "and no steps of its own"
            )
        assert await store.effects("deploy-replay-1") == done, (
            "its effects are done, and name the steps that caused them"
        )
    await store.write_replays([])


async def test_replays_are_no_traces(store: GraphStore) -> None:
    recording = sample_recording()
    await published(store, recording)
    replay = sample_replay(recording, 1)
    claimed = replay.execution.model_copy(update={"state": ExecutionState.PUBLISHED})
    await store.write_replays([replay.model_copy(update={"execution": claimed})])
    found = await store.lookup("deploy", newest)
    assert [trace.id for trace in found.traces] == ["deploy-1"], "only what is published is a trace"
    assert found.damaged == (), "and nothing is damaged"
    assert not await store.still(claimed.id, {}), "a replay is not replayed"


async def test_effects_outlive_their_trace(store: GraphStore) -> None:
    recording = sample_recording()
    done = sample_effect("deploy-1", done=True, step="deploy-1/1")
    await published(store, recording.model_copy(update={"effects": (done,)}))
    await store.unpublish("deploy-1", "test")
    assert await store.effects("deploy-1") == [done], "what was done was done"
    assert await store.execution("deploy-1"), "and who did it is known"


# What happens once -------------------------------------------------------------------------


def _once(execution: str, known_by: str | None = "refund i-1", arguments: str = "a") -> SideEffect:
    """An effect of ``execution`` that is to happen once."""
    return sample_effect(execution).model_copy(
        update={"once": known_by, "arguments_key": arguments}
    )


async def test_what_happens_once_is_begun_by_one(store: GraphStore) -> None:
    first = _once("r1")
    assert await store.intend(first, []) == first
    assert await store.intend(_once("r2"), []) == first, "it is in doubt, and not begun again"
    assert await store.intend(_once("r3", arguments="b"), []) == first, "with what it was called"
    assert await store.execution("r2") is None, "of who did not begin it nothing is written"
    assert await store.intend(_once("r4", "refund i-2"), []) == _once("r4", "refund i-2")
    await store.end_effect(first.ended(b'"paid"'))
    done = first.model_copy(update={"state": EffectState.DONE, "output_text": '"paid"'})
    assert await store.intend(_once("r5"), []) == done, "with what it gave"
    assert await store.effect(first.id) == done
    assert await store.effects("r1") == [done]


async def test_what_happened_once_is_found_whatever_the_facts_are_by_now(
    store: GraphStore,
) -> None:
    await store.change(_A, Document.of(1))
    here = [Expected(_A, 1, believed=True)]
    await store.change(_A, Document.of(2))
    assert await store.intend(_once("r1"), here) is None, "moved facts begin nothing"
    first = _once("r2")
    assert await store.intend(first, []) == first, "and claim nothing"
    assert await store.intend(_once("r3"), here) == first


async def test_of_callers_at_once_one_begins(store: GraphStore) -> None:
    effects = [_once(f"r{number}") for number in range(8)]
    begun = await asyncio.gather(*(store.intend(effect, []) for effect in effects))
    assert len({it.id for it in begun if it is not None}) == 1
    assert len(await store.doubts()) == 1
    assert all(it is not None for it in begun), "and each is told which"


async def test_the_end_of_an_effect_may_be_told_again(store: GraphStore) -> None:
    first = _once("r1")
    await store.intend(first, [])
    for _ in range(2):
        await store.end_effect(first.ended(b"1"))
    assert await store.effect(first.id) == first.ended(b"1")
    await store.end_effect(first.not_performed())
    await store.end_effect(first.ended(b"2"))
    assert await store.effect(first.id) == first.ended(b"1"), "what is done stays done"
    await store.end_effect(_once("unknown").ended(b"1"))
    assert await store.effect(_once("unknown").id) is None, "what is unknown is ignored"


async def test_what_was_not_performed_may_be_begun_anew(store: GraphStore) -> None:
    first, second = _once("r1"), _once("r2")
    await store.intend(first, [])
    for _ in range(2):
        await store.end_effect(first.not_performed())
    assert await store.doubts() == []
    assert await store.intend(second, []) == second
    await store.end_effect(first.not_performed())
    assert await store.effect(second.id) == second, "to tell it again takes nothing from another"


async def test_a_late_end_is_kept_where_nobody_has_begun_anew(store: GraphStore) -> None:
    """A person says that it was not performed, of a process that is only slow."""
    first = _once("r1")
    await store.intend(first, [])
    await store.end_effect(first.not_performed())
    await store.end_effect(first.ended(b"1"))
    assert await store.intend(_once("r2"), []) == first.ended(b"1"), "it happened after all"


async def test_a_late_end_does_not_take_the_place_of_another(store: GraphStore) -> None:
    first, second = _once("r1"), _once("r2")
    await store.intend(first, [])
    await store.end_effect(first.not_performed())
    await store.intend(second, [])
    await store.end_effect(first.ended(b"1"))
    kept = first.ended(b"1").model_copy(update={"once": None})
    assert await store.effect(first.id) == kept, "both happened, and both are told"
    assert await store.intend(_once("r3"), []) == second


async def test_a_run_that_is_written_tells_ends_alike(store: GraphStore) -> None:
    ends: dict[str, tuple[SideEffect, SideEffect, SideEffect]] = {}
    for number, (kept, told, expected) in enumerate(
        [
            ("done", "intended", "done"),
            ("done", "not performed", "done"),
            ("not performed", "intended", "not performed"),
            ("not performed", "done", "done"),
            ("intended", "not performed", "not performed"),
            ("intended", "done", "done"),
            ("intended", "intended", "intended"),
        ]
    ):
        effect = _once("deploy-1", f"refund {number}").model_copy(update={"id": f"e{number}"})
        state = {
            "done": effect.ended(b"1"),
            "not performed": effect.not_performed(),
            "intended": effect,
        }
        assert await store.intend(effect, []) == effect
        await store.end_effect(state[kept])
        ends[effect.id] = (effect, state[told], state[expected])
    told_now = tuple(told for _, told, _ in ends.values())
    await store.write(sample_recording().model_copy(update={"effects": told_now}))
    assert {it.id: it for it in await store.effects("deploy-1")} == {
        key: expected for key, (_, _, expected) in ends.items()
    }
    for begun, _, known in ends.values():
        again = begun.model_copy(update={"id": f"again-{begun.id}", "execution": "later"})
        assert await store.intend(again, []) == (again if known.once is None else known)


async def test_a_run_that_is_written_finds_that_another_has_begun(store: GraphStore) -> None:
    first, second = _once("deploy-1"), _once("r2")
    await store.intend(first, [])
    await store.end_effect(first.not_performed())
    await store.intend(second, [])
    told = (first.ended(b"1"), _once("deploy-1", "refund i-2").model_copy(update={"id": "new"}))
    await store.write(sample_recording().model_copy(update={"effects": told}))
    assert {it.id for it in await store.effects("deploy-1")} == {first.id, "new"}
    assert await store.intend(_once("r3"), []) == second


async def test_what_happened_once_outlives_replays_of_a_task_that_is_gone(
    store: GraphStore,
) -> None:
    recording = sample_recording()
    effect = _once("deploy-replay-1")
    await store.intend(effect, [])
    await store.end_effect(effect.ended(b'"paid"'))
    await store.write_replays([sample_replay(recording, 1, [effect.ended(b'"paid"')])])
    assert await store.intend(_once("r2"), []) == effect.ended(b'"paid"')


async def test_effects_are_of_one_namespace(store: GraphStore) -> None:
    other = store.of(f"{store.namespace}-other")
    first, second = _once("r1"), _once("r2")
    assert await store.intend(first, []) == first
    assert await other.intend(second, []) == second
    assert await other.effect(first.id) is None
