"""Hot replay on Neo4j beside a bare `RETURN 1`, and what each write adds.

One driver serves both. A write waits for one statement more: its check and its intent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .bolt import Bolt, Counting, bolt
from .measure import Row, Setting, Side, ratio, side_by_side
from .synthetic import Bench, task

__all__ = ["run"]

_NOTHING, _COMMIT = "RETURN 1", "a write commit"
_REPLAYS = tuple(f"replay with {writes} writes" for writes in range(3))
_GOAL = 2.0
_GOALS = {_NOTHING: None, _COMMIT: 2.0}  # of what a write adds


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s, and of what writes add."""
    assert setting.neo4j is not None
    async with bolt(setting.neo4j) as it:
        bench = Bench(it.url, it.namespace, driver=it.driver)
        async with bench.engine:
            await bench.observe()
            setting.say.phase("recording")
            for writes in range(3):
                assert (await bench.agent.execute(task(writes=writes))).recorded
            setting.say.phase("replaying in turns with RETURN 1 and a bare write commit")
            p50s = await side_by_side(
                setting,
                Side(_NOTHING, it.nothing),
                *(Side(_REPLAYS[writes], _replay(bench, writes)) for writes in range(3)),
                Side(_COMMIT, it.commit),
            )
        statements = [await _statements(it, writes) for writes in range(3)]
    rows = [
        ratio("hot replay of 10 reads, Neo4j", p50s, _REPLAYS[0], _NOTHING, _GOAL),
        Row(
            "waited statements of a hot replay",
            f"{statements[0]} (no write), {statements[1]} (one), {statements[2]} (two)",
            "",
            statements[0],
            1,
            unit="",
        ),
    ]
    for writes in (1, 2):
        added = p50s[_REPLAYS[writes]] - p50s[_REPLAYS[writes - 1]]
        rows += [
            Row(
                f"what write {writes} adds",
                f"{added:.3f} ms",
                f"{against} {p50s[against]:.3f} ms",
                added / p50s[against],
                goal,
            )
            for against, goal in _GOALS.items()
        ]
    return rows


def _replay(bench: Bench, writes: int) -> Callable[[], Awaitable[None]]:
    asked = task(writes=writes)

    async def replay() -> None:
        result = await bench.agent.execute(asked)
        assert result.identical
        assert len(result.effects) == writes

    return replay


async def _statements(it: Bolt, writes: int) -> int:
    """The statements that a hot replay waits for."""
    counting = Counting(it.driver)
    bench = Bench(it.url, it.namespace, driver=counting.driver)
    async with bench.engine:
        for _ in range(2):
            await bench.agent.execute(task(writes=writes))
        await bench.engine.settle()
        counting.counts.clear()
        assert (await bench.agent.execute(task(writes=writes))).identical
        return counting.counts.total()
