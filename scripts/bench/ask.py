"""`why` and `impact` in a large store, beside the least that a round trip can be.

In a namespace of many generated steps (100,000; `--steps 1000000` for more) one agent has a run of
its own, recorded, and asked in part after a change. What is asked about it must cost what it takes
to tell of that run, and not of the store: the same is asked in a store of 1,000 steps.

On Neo4j the yardstick is `RETURN 1` by the same driver. On SQLite, where nothing goes anywhere and
back, it is the commit of the least write, which is what a caller waits for there.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from execgraph.engine.engine import Engine
from execgraph.engine.outcome.fate import Fate
from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import GONE

from .bolt import Bolt, bolt, remove
from .generate import Generated, fill
from .measure import Row, Setting, Side, side_by_side
from .synthetic import DOCUMENTS, Bench, ScriptedClient, task

__all__ = ["run"]

_SMALL = 1_000
_GOAL, _GOAL_SIZE = 20, 1.5
_CHANGED = "target:eu"
_Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class _Asked:
    """An engine on a filled store, and the run that is asked about."""

    engine: Engine
    execution: str

    async def why(self) -> None:
        told = await self.engine.why(self.execution)
        assert [step.fate for step in told.steps].count(Fate.ASKED) == 1
        assert told.misses[0].change is not None

    async def impact(self) -> None:
        told = await self.engine.impact(_CHANGED, {**DOCUMENTS[_CHANGED], "replicas": 9})
        assert len(told.tasks) == len(told.fallen) == 1
        assert told.tokens > 0

    async def many(self) -> None:
        told = await self.engine.impact("acl:generated/0", {"rule": "deny"})
        assert told.tasks


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s."""
    with tempfile.TemporaryDirectory() as folder:
        rows = await _on_sqlite(setting, folder)
    if setting.neo4j is not None:
        rows += await _on_neo4j(setting, setting.neo4j)
    return rows


async def _on_sqlite(setting: Setting, folder: str) -> list[Row]:
    urls = {steps: f"sqlite:///{folder}/{steps}.db" for steps in (_SMALL, setting.steps)}
    for steps, url in urls.items():
        await _fill(setting, url, "bench", steps)
    small, large = (
        Bench(urls[steps], "bench", client=ScriptedClient()) for steps in (_SMALL, setting.steps)
    )
    async with _asked(small) as few, _asked(large) as many:
        store = many.engine.session().store

        async def commit() -> None:
            await store.lease("least", "write", timedelta(seconds=1))

        return await _rows(setting, "SQLite", few, many, Side("a commit", commit))


async def _on_neo4j(setting: Setting, address: str) -> list[Row]:
    async with bolt(address) as it:
        small, large = f"{it.namespace}-small", f"{it.namespace}-large"
        try:
            await _fill(setting, it.url, small, _SMALL)
            await _fill(setting, it.url, large, setting.steps)
            async with _asked(_bench(it, small)) as few, _asked(_bench(it, large)) as many:
                return await _rows(setting, "Neo4j", few, many, Side("RETURN 1", it.nothing))
        finally:
            setting.say.phase("removing what was generated")
            for namespace in (small, large):
                await remove(it, namespace)


def _bench(it: Bolt, namespace: str) -> Bench:
    return Bench(it.url, namespace, driver=it.driver, client=ScriptedClient())


async def _fill(setting: Setting, url: str, namespace: str, steps: int) -> None:
    setting.say.phase(f"generating {steps:,} steps")
    store = connect(url, namespace=namespace)
    await store.open()
    await fill(store, Generated(namespace), steps, url, setting.say.counting(steps))
    await store.close()


@asynccontextmanager
async def _asked(bench: Bench) -> AsyncIterator[_Asked]:
    """The agent's run, recorded, and asked in part after a change."""
    async with bench.engine as engine:
        await bench.observe()
        await bench.agent.execute(task(writes=5))
        await engine.observe(_CHANGED, {**DOCUMENTS[_CHANGED], "replicas": 5})
        result = await bench.agent.execute(task(writes=5))
        assert result.mode == "partial", result
        await engine.settle()
        yield _Asked(engine, result.execution_id)


async def _rows(setting: Setting, store: str, few: _Asked, many: _Asked, least: Side) -> list[Row]:
    found = []
    rounds = max(30, setting.rounds // 3)
    calls: list[tuple[str, _Call, _Call]] = [
        ("why", few.why, many.why),
        ("impact", few.impact, many.impact),
    ]
    for name, small, large in calls:
        setting.say.phase(f"{name}, {store}")
        sides = (least, Side("small", small), Side("large", large))
        p50s = await side_by_side(setting, *sides, rounds=rounds)
        measured = f"{setting.steps:,} steps {p50s['large']:.3f} ms"
        yardstick = f"{least.name} {p50s[least.name]:.3f} ms"
        found.append(
            Row(
                f"{name}, 1 trace, {store}",
                measured,
                yardstick,
                p50s["large"] / p50s[least.name],
                _GOAL,
            )
        )
        found.append(
            Row(
                f"{name}, 1 trace, {store}",
                measured,
                f"{_SMALL:,} steps {p50s['small']:.3f} ms",
                p50s["large"] / p50s["small"],
                _GOAL_SIZE,
            )
        )
    setting.say.phase(f"impact on one trace in twenty, {store}")
    p50s = await side_by_side(setting, least, Side("many", many.many), rounds=3)
    traces = len((await many.engine.impact("acl:generated/0", GONE)).tasks)
    found.append(
        Row(
            f"impact, {traces:,} traces, {store}",
            f"{setting.steps:,} steps {p50s['many']:.0f} ms",
            f"{least.name} {p50s[least.name]:.3f} ms",
            p50s["many"] / p50s[least.name],
        )
    )
    return found
