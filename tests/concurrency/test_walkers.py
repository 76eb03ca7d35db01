"""Several processes change, publish and settle at once: the marks are exact when all is quiet."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from execgraph.tests.conformance.marks import branching_recording, expected_marks
from execgraph.tests.conformance.samples import guard, published

from .conftest import SECONDS, SEED, Place
from .test_writers import together
from .worker import RULES

PROCESSES = 3


async def test_marks_are_exact_when_all_have_settled_and_one_leads_at_a_time(place: Place) -> None:
    wanted = {uri: frozenset({"$.x"}) for uri in RULES}
    async with place.engine() as engine:
        store = engine.session().store
        for uri in RULES:
            await engine.observe(uri, {"x": 0})
        held = [guard(place.namespace, uri, {"x": 0}, "$.x") for uri in RULES]
        for n in range(8):
            trace = branching_recording(f"first-{n}", [[held[0]], [held[1]]], [(), (0,)])
            await published(store, trace)
        await engine.settle()
        told = await place.at_once("walk", PROCESSES, seconds=SECONDS, seed=SEED, most=40)
        assert together(told, "errors") == together(told, "warnings") == []
        assert len(together(told, "settled")) == PROCESSES
        led = sorted(together(told, "led"))
        for (_, ended), (began, _) in pairwise(led):
            assert ended <= began, "two led at once"
        await asyncio.gather(engine.settle(), engine.settle())
        assert await store.walks() == []
        facts = await store.facts(wanted)
        some = 0
        for it in await store.executions(limit=100_000):
            trace_as_kept = await store.execution(it.id)
            assert trace_as_kept is not None
            marks = await store.marks(it.id)
            assert marks == expected_marks(trace_as_kept, facts)
            some += bool(marks)
        assert some > 0
