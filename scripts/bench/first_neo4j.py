"""The first replay of a process on Neo4j: opened and connected, and nothing cached yet.

With 5 calls (11 steps), and with 10 (21 steps) three times, from the narrow to the wide sense:
the trace is not cached; nor is anything of a newly declared engine, such as the code keys of its
tools; a new process whose modules are imported.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

from execgraph.graphstore.canonical import Json

from .bolt import Bolt, Counting, bolt
from .measure import Row, Setting, Side, ratio, side_by_side
from .synthetic import Bench, ScriptedClient, task

__all__ = ["run"]

_NOTHING = "RETURN 1"
_SHORT = "5 calls, trace not cached"
_SHORT_TASK = task(calls=5)
_TRACE, _ENGINE = "replay, trace not cached", "replay, engine just declared"
_PROCESS = "first replay of a process"
_GOAL = 5.0
_PROCESSES = 5


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s."""
    assert setting.neo4j is not None
    async with bolt(setting.neo4j) as it:
        bench = Bench(it.url, it.namespace, driver=it.driver)
        async with bench.engine:
            await bench.observe()
            setting.say.phase("recording")
            assert (await bench.agent.execute(task())).recorded
            assert (await bench.agent.execute(_SHORT_TASK)).recorded
        setting.say.phase("first replays of fresh engines, in turns with RETURN 1")
        warm, cold = _Fresh(it, keys=True), _Fresh(it, keys=False)
        short = _Fresh(it, keys=True, asked=_SHORT_TASK)
        p50s = await side_by_side(
            setting,
            Side(_NOTHING, it.nothing),
            Side(_SHORT, short.replay, short.declare),
            Side(_TRACE, warm.replay, warm.declare),
            Side(_ENGINE, cold.replay, cold.declare),
            rounds=max(10, setting.rounds // 3),
        )
        await warm.close()
        await short.close()
        await cold.close()
        statements = await _statements(it)
        setting.say.phase(f"{_PROCESSES} processes")
        times = [await _process(it) for _ in range(_PROCESSES)]
    nothing, first = (statistics.median(some) for some in zip(*times, strict=True))
    what = "first replay of 21 steps, Neo4j"
    return [
        ratio("first replay of 11 steps, Neo4j", p50s, _SHORT, _NOTHING, _GOAL),
        ratio(what, p50s, _TRACE, _NOTHING, _GOAL),
        ratio(what, p50s, _ENGINE, _NOTHING, _GOAL),
        ratio(what, {_PROCESS: first, _NOTHING: nothing}, _PROCESS, _NOTHING),
        Row("waited statements of a first replay", str(statements), "", statements, 2, unit=""),
    ]


class _Fresh:
    """An engine declared anew before each replay, on the driver that is connected."""

    def __init__(self, it: Bolt, *, keys: bool, asked: dict[str, Json] | None = None) -> None:
        self._it = it
        self._asked = asked or task()
        self._keys = keys
        self._bench: Bench | None = None
        self._client = ScriptedClient()

    async def declare(self) -> None:
        await self.close()
        it = self._it
        self._bench = Bench(it.url, it.namespace, driver=it.driver, client=self._client)
        await self._bench.engine.__aenter__()
        if self._keys:
            _ = self._bench.agent.definition

    async def replay(self) -> None:
        assert self._bench is not None
        assert (await self._bench.agent.execute(self._asked)).identical

    async def close(self) -> None:
        if self._bench is not None:
            await self._bench.engine.__aexit__(None, None, None)
            self._bench = None


async def _statements(it: Bolt) -> int:
    counting = Counting(it.driver)
    bench = Bench(it.url, it.namespace, driver=counting.driver)
    async with bench.engine:
        counting.counts.clear()
        assert (await bench.agent.execute(task())).identical
        return counting.counts.total()


# A process of its own ---------------------------------------------------------------------


async def _process(it: Bolt) -> tuple[float, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path.cwd(),
    )
    said, _ = await process.communicate(json.dumps([it.url, it.namespace]).encode())
    nothing, first = json.loads(said)
    return nothing, first


async def _child(url: str, namespace: str) -> tuple[float, float]:
    """The first replay, then RETURN 1: its median, on the connection that is there."""
    from neo4j import AsyncGraphDatabase

    from execgraph.graphstore.neo4j.address import Address

    where = Address.of(url)
    async with AsyncGraphDatabase.driver(where.uri, auth=where.credentials) as driver:
        it = Bolt(driver, url, namespace)
        bench = Bench(url, namespace, driver=driver)
        async with bench.engine:
            _ = bench.agent
            started = time.perf_counter()
            result = await bench.agent.execute(task())
            first = (time.perf_counter() - started) * 1000
            assert result.identical
            times = []
            for _ in range(50):
                started = time.perf_counter()
                await it.nothing()
                times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times), first


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_child(*json.load(sys.stdin)))))
