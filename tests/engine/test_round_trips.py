"""How many store round trips a run waits for, one after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from execgraph.engine.effects.effect_gate import EffectGate
from execgraph.scripts.bench.synthetic import Bench, task
from execgraph.scripts.bench.waited import Waited

_STEPS = 21


@pytest.fixture
async def bench(url: str, namespace: str) -> AsyncIterator[Bench]:
    """An agent that is asked for nothing by now but what a test asks for."""
    bench = Bench(url, namespace)
    async with bench.engine:
        await bench.observe()
        for writes in (0, 1, 2, 5):  # which has all facets computed
            assert (await bench.agent.execute(task(writes=writes))).recorded
            assert (await bench.agent.execute(task(writes=writes))).identical
        await bench.engine.settle()
        yield bench


async def waited(bench: Bench, *, number: int = 0, writes: int, run_id: str | None = None) -> int:
    """The round trips of one run."""

    async def run() -> None:
        result = await bench.agent.execute(task(number, writes=writes), run_id=run_id)
        assert len(result.steps) == _STEPS
        assert result.identical == (number == 0)
        assert len(result.effects) == writes

    async with Waited() as counted:
        return await counted.during(run())


async def test_a_write_adds_one_round_trip_to_a_hot_replay(bench: Bench) -> None:
    assert [await waited(bench, writes=writes) for writes in range(3)] == [1, 2, 3]


async def test_a_replay_with_a_run_id_waits_for_two_a_write(bench: Bench) -> None:
    none, *some = [await waited(bench, writes=n, run_id=f"r-{n}") for n in range(3)]
    assert none <= 5, "to hold the id, to look up, and to keep the result"
    assert some == [none + 2, none + 4]


@pytest.mark.parametrize("writes", [0, 5])
async def test_a_live_run_with_a_run_id_waits_for_two_a_step(bench: Bench, writes: int) -> None:
    trips = await waited(bench, number=1, writes=writes, run_id="r-1")
    assert trips <= 2 * _STEPS


async def test_a_round_trip_more_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = EffectGate.begin

    async def looks_first(gate: EffectGate, *args: object) -> object:
        await bench.engine.session().store.holder("nobody")
        return await begin(gate, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(EffectGate, "begin", looks_first)
    assert [await waited(bench, writes=writes) for writes in range(3)] == [1, 3, 5]


async def test_what_nobody_waits_for_is_not_counted(bench: Bench) -> None:
    store = bench.engine.session().store

    async def beside() -> None:
        for _ in range(5):
            await store.holder("nobody")

    async def two() -> None:
        await asyncio.gather(store.holder("a"), store.holder("b"))
        await store.holder("c")

    async with Waited() as counted:
        others = asyncio.create_task(beside())
        assert await counted.during(two()) == 2
        await others
