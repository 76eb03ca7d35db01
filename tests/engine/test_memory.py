"""What a process remembers of traces is bounded by bytes."""

from __future__ import annotations

from typing import Any

from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.lookup.plan import Prepared
from execgraph.engine.sessions.memory import MEMORY_BYTES, Memory
from execgraph.graphstore.model import Trace
from execgraph.tests.conformance.samples import sample_recording

from .conftest import World, results

LARGE = 1 << 20


def prepared(size: int) -> Prepared:
    """A trace whose payloads take so many bytes."""
    recording = sample_recording()
    trace = Trace(execution=recording.execution, steps=recording.steps, preconditions={})
    return Prepared(trace, (), {}, {"digest": b"x" * size}, dialect=None)  # type: ignore[arg-type]


def test_the_least_recently_used_go_when_the_bytes_are_used_up() -> None:
    memory, traces = Memory(limit=4 * LARGE), [prepared(LARGE) for _ in range(3)]
    for number, trace in enumerate(traces):
        memory.put((str(number),), trace, trace.size)
    assert memory.get(("0",)) is traces[0]
    memory.put(("3",), traces[0], traces[0].size)
    assert memory.get(("1",)) is None, "it was not used since the others"
    assert memory.get(("0",)) is traces[0]
    assert memory.size <= 4 * LARGE


def test_what_is_larger_than_all_that_may_be_kept_is_not_kept_and_drives_nothing_out() -> None:
    memory, small, large = Memory(limit=LARGE), prepared(1), prepared(LARGE)
    memory.put(("small",), small, small.size)
    memory.put(("large",), large, large.size)
    assert memory.get(("large",)) is None
    assert memory.get(("small",)) is small


def test_a_trace_that_is_put_again_and_again_counts_once() -> None:
    memory, other, trace = Memory(limit=4 * LARGE), prepared(LARGE), prepared(LARGE)
    memory.put(("other",), other, other.size)
    for _ in range(100):
        memory.put(("again",), trace, trace.size)
    assert memory.get(("other",)) is other


async def test_many_tasks_with_large_reads_take_no_more_than_is_allowed(world: World) -> None:
    """Each output is in the trace twice, as what a tool gave and as what the model was told."""
    engine = world.engine()

    @engine.tool(effect="read", requires=[])
    def fetch(page: int) -> str:
        """Fetch a page."""
        return str(page) * LARGE

    def think(body: dict[str, Any]) -> Answer:
        told = results(body)
        return Answer([text("done")] if told else [call("fetch", {"page": 1})])

    world.think(think)
    agent = world.agent(engine, [fetch])
    async with engine:
        first = await agent.execute({"number": 0})
        again = await agent.execute({"number": 0})
        assert (first.mode, again.mode) == ("live", "replay")
        [(remembered, size)] = engine._host._memory._kept.values()
        assert isinstance(remembered, Prepared)
        assert size == remembered.size
        assert LARGE < remembered.size < 1.2 * LARGE, "the output once"
    assert MEMORY_BYTES < 100 * LARGE
