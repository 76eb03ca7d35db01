"""Store round trips that somebody waits for: of a write in a hot replay, of runs with a run id.

Counted, not timed (``waited.py``), on SQLite and on Neo4j. On SQLite a round trip is a call that
reads or writes. A live run is one of a new task, whose facets are computed by then, and all that it
waits for counts, from holding the id to keeping the result. In time: the same replay with a run id,
a new one each time, beside one without.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from .bolt import bolt
from .measure import Row, Setting, Side, ratio, side_by_side
from .synthetic import Bench, task
from .waited import Waited

__all__ = ["run"]

_WRITES = (0, 1, 5)
_A_WRITE, _A_STEP = 1, 2
_WITH, _WITHOUT = "with a run id", "without"


async def run(setting: Setting) -> list[Row]:
    """Counts, each with what it may be, and a ratio of p50s."""
    with tempfile.TemporaryDirectory() as folder:
        rows = await _rows(setting, "SQLite", Bench(f"sqlite:///{folder}/graph.db", "bench"))
    if setting.neo4j is not None:
        async with bolt(setting.neo4j) as it:
            rows += await _rows(setting, "Neo4j", Bench(it.url, it.namespace, driver=it.driver))
    return rows


async def _rows(setting: Setting, store: str, bench: Bench) -> list[Row]:
    async with bench.engine:
        await bench.observe()
        for writes in _WRITES:
            assert (await bench.agent.execute(task(writes=writes))).recorded
            assert (await bench.agent.execute(task(writes=writes))).identical
        await bench.engine.settle()
        setting.say.phase(f"counting what is waited for, {store}")
        async with Waited() as waited:
            rows = await _counts(bench, store, waited)
        setting.say.phase(f"replaying in turns with a run id and without, {store}")
        ids = itertools.count()
        for writes in (0, 1):
            sides = (
                Side(_WITH, _replay(bench, writes, ids)),
                Side(_WITHOUT, _replay(bench, writes, None)),
            )
            p50s = await side_by_side(setting, *sides)
            what = f"hot replay, writes: {writes}, {store}"
            rows.append(ratio(what, p50s, _WITH, _WITHOUT))
    return rows


async def _counts(bench: Bench, store: str, waited: Waited) -> list[Row]:
    hot = [await waited.during(_replay(bench, writes, None)()) for writes in _WRITES]
    rows = [
        Row(
            f"waited round trips a write, hot replay, writes: {writes}, {store}",
            f"{trips - hot[0]} round trips",
            f"{hot[0]} without a write",
            (trips - hot[0]) / writes,
            _A_WRITE,
            unit="",
        )
        for writes, trips in zip(_WRITES[1:], hot[1:], strict=True)
    ]
    for kind, number in (("live run", 1), ("hot replay", 0)):
        for writes in _WRITES:
            steps = 0

            async def one(kind: str = kind, number: int = number, writes: int = writes) -> None:
                nonlocal steps
                asked = task(number, writes=writes)
                result = await bench.agent.execute(asked, run_id=f"{kind} {writes}")
                assert result.identical == (number == 0)
                steps = len(result.steps)

            trips = await waited.during(one())
            rows.append(
                Row(
                    f"waited round trips a step, {kind} with a run id, writes: {writes}, {store}",
                    f"{trips} round trips",
                    f"{steps} steps",
                    trips / steps,
                    _A_STEP,
                    unit="",
                )
            )
    return rows


def _replay(
    bench: Bench, writes: int, ids: Iterator[int] | None
) -> Callable[[], Coroutine[Any, Any, None]]:
    asked = task(writes=writes)

    async def replay() -> None:
        run_id = None if ids is None else f"replay {next(ids)}"
        result = await bench.agent.execute(asked, run_id=run_id)
        assert result.identical
        assert len(result.effects) == writes

    return replay
