"""Effects: begun only while their facts stand; and the replays that perform them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from ..document import Document
from ..facts import Expected
from ..model import NEVER, EffectState, ExecutionState, FacetRef, Mode, Precondition
from ..store import GraphStore
from .expect import equal, true
from .samples import guard, newest, published, sample_effect, sample_recording, sample_replay

__all__ = ["CHECKS"]

_A, _B = "acl:a", "acl:b"


async def _begun(store: GraphStore, namespace: str, run: str, expected: Sequence[Expected]) -> bool:
    """Intend an effect, and check that all of it was written, or nothing."""
    effect = sample_effect(run)
    begun = await store.intend(namespace, effect, expected)
    written = [effect] if begun else []
    equal(await store.effects(namespace, run), written, "an effect is written iff it is begun")
    execution = await store.execution(namespace, run)
    equal(execution is not None, begun, "and so is its execution")
    return begun


async def check_intend_creates_the_execution(store: GraphStore, namespace: str) -> None:
    equal(await _begun(store, namespace, "run", []), True, "an effect may rest on nothing")
    found = await store.execution(namespace, "run")
    assert found is not None
    equal(found.execution.state, ExecutionState.RUNNING, "its execution is created as running")
    equal(found.steps, (), "and has no steps yet")
    later = sample_effect("run", 2)
    equal(await store.intend(namespace, later, []), True, "an execution performs several effects")
    effects = await store.effects(namespace, "run")
    equal(effects, [sample_effect("run"), later], "in the order they were begun")


async def check_intend_checks_the_version(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _A, Document.of(1))
    await store.change(namespace, _B, Document.of(1))
    here = [Expected(_A, 1, believed=True), Expected(_B, 1, believed=True)]
    equal(await _begun(store, namespace, "r1", here), True, "all is as expected")
    await store.change(namespace, _B, Document.of(1))
    equal(await _begun(store, namespace, "r2", here), True, "an equal document moves nothing")
    await store.change(namespace, _B, Document.of(2))
    equal(await _begun(store, namespace, "r3", here), False, "one of two resources moved")
    await store.change(namespace, _B, Document.of(1))
    equal(await _begun(store, namespace, "r4", here), False, "its restored version is another")
    known = [Expected(_B, 3, believed=True)]
    equal(await _begun(store, namespace, "r5", known), True, "which may be expected")


async def check_intend_takes_a_later_version_that_holds_the_same(
    store: GraphStore, namespace: str
) -> None:
    """Other facets may change all the time."""
    await store.change(namespace, _A, Document.of({"x": 1, "y": 1}))
    await store.facts(namespace, {_A: frozenset({"$.x", "$.z"})})
    x, y, z = (guard(namespace, _A, {"x": 1, "y": 1}, f"$.{name}") for name in "xyz")

    def version_1_holding(*held: Precondition) -> list[Expected]:
        return [Expected(_A, 1, believed=True, holds=tuple(it.id for it in held))]

    await store.change(namespace, _A, Document.of({"x": 1, "y": 2}))
    equal(await _begun(store, namespace, "r1", version_1_holding()), False, "nothing is held")
    equal(await _begun(store, namespace, "r2", version_1_holding(x)), True, "version 2 holds it")
    equal(await _begun(store, namespace, "r3", version_1_holding(x, z)), True, "and both")
    unknown = version_1_holding(x, y)
    equal(await _begun(store, namespace, "r4", unknown), False, "a facet that was never computed")
    await store.facts(namespace, {_A: frozenset({"$.y"})})
    equal(await _begun(store, namespace, "r5", unknown), False, "one of the two is another now")
    await store.change(namespace, _A, Document.of({"x": 2, "y": 1}))
    equal(await _begun(store, namespace, "r6", version_1_holding(x)), False, "it changed")
    await store.change(namespace, _A, Document.of({"x": 1, "y": 1}), until=timedelta(0))
    equal(await _begun(store, namespace, "r7", version_1_holding(x)), False, "not believed")
    await store.change(namespace, _A, None)
    equal(await _begun(store, namespace, "r8", version_1_holding(x)), False, "withdrawn")


async def check_intend_checks_belief(store: GraphStore, namespace: str) -> None:
    await store.change(namespace, _A, Document.of(1), until=timedelta(hours=1))
    believed, noted = [Expected(_A, 1, believed=True)], [Expected(_A, 1, believed=False)]
    equal(await _begun(store, namespace, "r1", believed), True, "until then it is believed")
    await store.renew(namespace, {_A: 1}, until=timedelta(milliseconds=1))
    await asyncio.sleep(0.05)
    equal(await _begun(store, namespace, "r2", believed), False, "from then on it is not")
    equal(await _begun(store, namespace, "r3", noted), True, "an expired one may be expected so")
    await store.change(namespace, _A, None)
    withdrawn = [Expected(_A, 2, believed=True)]
    equal(await _begun(store, namespace, "r4", withdrawn), False, "withdrawn is not believed")
    equal(
        await _begun(store, namespace, "r5", [Expected(_A, 2, believed=False)]),
        True,
        "a withdrawn one may be expected so",
    )
    equal(await _begun(store, namespace, "r6", noted), False, "but not an older version")


async def check_intend_checks_absence(store: GraphStore, namespace: str) -> None:
    never = Precondition.of(namespace, FacetRef(_A, None), NEVER)
    absent = [Expected(_A, 0, believed=False)]
    equal(await _begun(store, namespace, "r1", absent), True, "it was never observed")
    await store.write(namespace, sample_recording(guards=[never]))
    equal(await _begun(store, namespace, "r2", absent), True, "to be required is not observed")
    present = [Expected(_A, 0, believed=True)]
    equal(await _begun(store, namespace, "r3", present), False, "what is absent is not believed")
    await store.change(namespace, _A, Document.of(1))
    equal(await _begun(store, namespace, "r4", absent), False, "it is no longer absent")
    one = [Expected("acl:unknown", 1, believed=False)]
    equal(await _begun(store, namespace, "r5", one), False, "an unknown one has no version 1")


async def check_replays_are_stored(store: GraphStore, namespace: str) -> None:
    recording = sample_recording()
    await published(store, namespace, recording)
    effects = [
        sample_effect("deploy-replay-1", n, step=f"deploy-1/{position}")
        for n, position in ((1, 1), (2, 3))
    ]
    await store.intend(namespace, effects[0], [])
    replays = [sample_replay(recording, 1, effects), sample_replay(recording, 2)]
    done = [effect.model_copy(update={"state": EffectState.DONE}) for effect in effects]
    for _ in range(2):
        await store.write_replays(namespace, replays)
        for replay in replays:
            found = await store.execution(namespace, replay.execution.id)
            assert found is not None
            equal(found.execution, replay.execution, "a replay has every field")
            equal((found.execution.mode, found.steps), (Mode.REPLAY, ()), "and no steps of its own")
        equal(
            await store.effects(namespace, "deploy-replay-1"),
            done,
            "its effects are done, and name the steps that caused them",
        )
    await store.write_replays(namespace, [])


async def check_replays_are_no_traces(store: GraphStore, namespace: str) -> None:
    recording = sample_recording()
    await published(store, namespace, recording)
    replay = sample_replay(recording, 1)
    claimed = replay.execution.model_copy(update={"state": ExecutionState.PUBLISHED})
    await store.write_replays(namespace, [replay.model_copy(update={"execution": claimed})])
    found = await store.lookup(namespace, "deploy", newest)
    equal([trace.id for trace in found.traces], ["deploy-1"], "only what is published is a trace")
    equal(found.damaged, (), "and nothing is damaged")
    equal(await store.still(namespace, claimed.id, {}), False, "a replay is not replayed")


async def check_effects_outlive_their_trace(store: GraphStore, namespace: str) -> None:
    recording = sample_recording()
    done = sample_effect("deploy-1", done=True, step="deploy-1/1")
    await published(store, namespace, recording.model_copy(update={"effects": (done,)}))
    await store.unpublish(namespace, "deploy-1", "test")
    equal(await store.effects(namespace, "deploy-1"), [done], "what was done was done")
    true(await store.execution(namespace, "deploy-1"), "and who did it is known")


CHECKS = (
    check_intend_creates_the_execution,
    check_intend_checks_the_version,
    check_intend_takes_a_later_version_that_holds_the_same,
    check_intend_checks_belief,
    check_intend_checks_absence,
    check_replays_are_stored,
    check_replays_are_no_traces,
    check_effects_outlive_their_trace,
)
