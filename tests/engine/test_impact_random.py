"""Impact beside what the walker then marks, on traces and changes of every shape."""

from __future__ import annotations

import random
from typing import Any

import pytest

from execgraph.engine.asking.impact import foresee
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import NEVER, FacetRef, Precondition, Recording
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import published, sample_recording

_RESOURCES = ("acl:a", "acl:b", "acl:c")
_SELECTORS = (None, "$.x", "$.y", "$.none")


def document(dice: random.Random) -> Document:
    return Document.of({"x": dice.randrange(2), "y": dice.randrange(2), "z": dice.randrange(2)})


def recording(dice: random.Random, namespace: str, task: str, number: int) -> Recording:
    """A run whose steps rest on random facets at random fingerprints, and feed each other."""
    guards = []
    for _ in range(4):
        facet = FacetRef(dice.choice(_RESOURCES), dice.choice(_SELECTORS))
        at = document(dice).fingerprint(facet.selector) if dice.random() < 0.9 else NEVER
        guards.append(Precondition.of(namespace, facet, at))
    made = sample_recording(task, number=number, says=f"{dice.randrange(2)}", turns=3)
    steps = []
    for step in made.steps:
        resting = {it.id for it in guards if dice.random() < 0.25}
        feeds = [at for at in range(step.position) if dice.random() < 0.4]
        change = {"guards": tuple(sorted(resting)), "feeds": tuple(feeds)}
        steps.append(step.model_copy(update=change))
    used = {guard for step in steps for guard in step.guards}
    preconditions = {it.id: it for it in guards if it.id in used}
    return made.model_copy(
        update={"steps": tuple(steps), "preconditions": tuple(preconditions.values())}
    )


async def walked(store: GraphStore) -> None:
    while walks := await store.walks():
        for walk in walks:
            while (it := await store.walk(walk.id)) is not None and it.ended_at is None:
                pass


async def marks(store: GraphStore, traces: dict[str, int]) -> dict[str, str]:
    return {
        f"{trace}/{position}": guard
        for trace, steps in traces.items()
        for position, guard in (await store.marks(trace)).items()
        if position < steps
    }


@pytest.mark.parametrize("seed", range(6))
async def test_what_would_be_marked_is_marked(store: GraphStore, seed: int) -> None:
    dice = random.Random(seed)
    traces: dict[str, int] = {}

    async def record() -> None:
        number = len(traces) + dice.randrange(10_000) * 100
        it = recording(dice, store.namespace, f"task-{dice.randrange(3)}", number)
        # A run notes what it rests on before it is recorded, which computes the facets.
        await store.facts({uri: frozenset(_SELECTORS) for uri in _RESOURCES})
        steps = dice.choice([2, 5, 6])
        answer = await published(store, it, steps)
        if answer.published:
            traces[it.execution.id] = steps
        for oldest in answer.unpublished:  # which people may still look at, and nothing rests on
            traces.pop(oldest, None)

    for uri in _RESOURCES[: dice.randrange(4)]:
        await store.change(uri, document(dice))
    seen = 0
    for _ in range(12):
        for _ in range(dice.randrange(3)):
            await record()
        await walked(store)
        before = await marks(store, traces)
        changes: dict[str, Any] = {
            uri: None if dice.random() < 0.2 else document(dice)
            for uri in dice.sample(_RESOURCES, dice.randrange(1, 4))
        }
        impact = await foresee(store, changes)
        for uri, changed in changes.items():
            await store.change(uri, changed)
        await walked(store)
        after = await marks(store, traces)
        invalid = {step: why for step, why in after.items() if step not in before}
        valid = {step: why for step, why in before.items() if step not in after}
        assert {it.id: it.guard for it in impact.invalid} == invalid
        assert {it.id: it.guard for it in impact.valid} == valid
        assert 0 <= impact.tokens <= impact.tokens_at_most
        seen += len(invalid) + len(valid)
    assert seen > 20, "the dice were kind to nobody"
