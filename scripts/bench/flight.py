"""What single flight costs where nobody else wants the same: a hot replay, and a run of a new task.

The same agent on the same SQLite file, in turns with single flight and without.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

from .measure import Row, Setting, Side, ratio, side_by_side
from .synthetic import Bench, task

__all__ = ["run"]

_ON, _OFF = "with single flight", "without"
_GOAL = 1.1  # a replay does nothing for it; so much is chance


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s."""
    numbers = itertools.count(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(f"sqlite:///{folder}/graph.db", "bench")
        async with bench.engine:
            await bench.observe()
            assert (await bench.agent.execute(task())).recorded

            def hot(*, on: bool) -> Callable[[], Coroutine[Any, Any, None]]:
                async def replay() -> None:
                    result = await bench.agent.execute(task(), single_flight=on)
                    assert result.identical

                return replay

            def cold(*, on: bool) -> Callable[[], Coroutine[Any, Any, None]]:
                async def record() -> None:
                    result = await bench.agent.execute(task(next(numbers)), single_flight=on)
                    assert result.recorded

                return record

            rows = []
            for what, side, goal in (
                ("hot replay of 10 reads", hot, _GOAL),
                ("run of a new task, 21 steps, a model that takes no time", cold, None),
            ):
                setting.say.phase(f"{what}, in turns")
                sides = (Side(_ON, side(on=True)), Side(_OFF, side(on=False)))
                p50s = await side_by_side(setting, *sides)
                rows.append(ratio(what, p50s, _ON, _OFF, goal))
    return rows
