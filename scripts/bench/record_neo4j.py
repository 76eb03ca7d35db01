"""What a recorded run waits for on Neo4j: round trips, counted at the driver, and time."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter

from .bolt import Counting, bolt
from .measure import Row, Setting
from .synthetic import Bench, clock, task

__all__ = ["run"]

_READ = "read_facts"
_BESIDE = 3


async def run(setting: Setting) -> list[Row]:
    """Statements of one run, with and without a write, and the engine's time a step."""
    assert setting.neo4j is not None
    numbers = itertools.count(1)
    async with bolt(setting.neo4j) as it:
        counting = Counting(it.driver)
        counted = Bench(it.url, it.namespace, driver=counting.driver)
        rows: list[Row] = []
        async with counted.engine:
            await counted.observe()
            await counted.agent.execute(task())  # computes the facets, loads the table of prices
            await counted.agent.execute(task(writes=1))
            setting.say.phase("counting statements")
            for writes in (0, 1):
                counting.counts.clear()
                result = await counted.agent.execute(task(next(numbers), writes=writes))
                assert result.recorded
                rows += _counts(counting.counts, len(result.steps), writes)
        bench = Bench(it.url, it.namespace, driver=it.driver)
        async with bench.engine:
            setting.say.phase("recording new tasks in turns with RETURN 1")
            engine_ms: list[float] = []
            steps = 0
            nothing_ms: list[float] = []
            rounds = max(10, setting.rounds // 10)
            advance = setting.say.counting(rounds)
            for done in range(1, rounds + 1):
                clock.spent = 0.0
                started = time.perf_counter()
                result = await bench.agent.execute(task(next(numbers)))
                spent = time.perf_counter() - started - clock.spent
                engine_ms.append(spent * 1000)
                steps = len(result.steps)
                started = time.perf_counter()
                await it.nothing()
                nothing_ms.append((time.perf_counter() - started) * 1000)
                advance(done)
    whole, nothing = statistics.median(engine_ms), statistics.median(nothing_ms)
    rows.append(
        Row(
            f"engine's time a step, run of {steps} steps",
            f"{whole / steps:.3f} ms ({whole:.1f} ms a run)",
            f"RETURN 1 {nothing:.3f} ms",
            whole / steps / nothing,
        )
    )
    return rows


def _counts(counts: Counter[str], steps: int, writes: int) -> list[Row]:
    reads = counts[_READ]
    beside = counts.total() - reads - counts["intend"]
    others = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if name != _READ)
    name = "run without writes" if not writes else f"run with {writes} write"
    return [
        Row(f"reads of facts a step, {name}", f"{reads} reads", f"{steps} steps", reads / steps, 1),
        Row(f"round trips beside, {name}", others, "", beside, _BESIDE, unit=""),
    ]
