"""Marks: how fast they follow a change, what they cost, and whether lookups wait for them.

- *Rate*: 100,000 steps rest on one facet of one resource, which changes and changes back; the
  fastest `Walker.settle` of several counts, since whatever else the machine does only adds.
- *Work*: edges visited for each affected edge (`GUARDS` and `FEEDS` into affected steps, as found
  in outlines of the traces), in a store of 10,000 steps and in a large one (`--steps`).
- *Lookups meanwhile*: hits, by an engine in the same store, while a walker is at it, beside hits
  when it is idle; and how long the statement before an effect (`intend`) takes.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Expected
from execgraph.graphstore.model import EffectState, SideEffect, Walk
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.walker import Walker

from .bolt import bolt
from .generate import Generated
from .measure import Row, Setting
from .stores import HOT, NAMESPACE, generated, hot_steps, in_folder, in_namespace
from .synthetic import Bench, ScriptedClient, task

__all__ = ["run"]

_DEPENDANTS, _FEW = 100_000, 10_000
_GOALS = {"SQLite": 100_000, "Neo4j": 50_000}  # steps a second
_ROUNDS = 3
_GOAL_EDGES = 1.2
_OTHER = "schema:orders"
_EVERY = 0.002  # seconds between two calls


@dataclass(frozen=True)
class _Place:
    """An open store, a namespace in it, and an engine there with another store of its own."""

    kind: str
    store: GraphStore
    namespace: str
    bench: Bench

    def walker(self) -> Walker:
        return Walker(self.store, "bench")

    async def change(self, rule: str) -> None:
        document = Generated(self.namespace).documents[HOT].content
        assert isinstance(document, dict)
        await self.store.change(HOT, Document.of({**document, "rule": rule}))


async def run(setting: Setting) -> list[Row]:
    """Rates, edges and ratios."""
    found: list[Row] = []
    with in_folder(setting) as folder:

        @asynccontextmanager
        async def on_sqlite(name: str, steps: int, resources: int) -> AsyncIterator[_Place]:
            url = f"sqlite:///{folder}/{name}.db"
            await generated(setting, url, NAMESPACE, steps, resources)
            bench = Bench(url, NAMESPACE, client=ScriptedClient())
            async with _place(
                "SQLite", connect(url, namespace=NAMESPACE), NAMESPACE, bench
            ) as place:
                yield place

        found += await _rows(setting, on_sqlite)
    if setting.neo4j is not None:
        async with bolt(setting.neo4j) as it:

            @asynccontextmanager
            async def on_neo4j(name: str, steps: int, resources: int) -> AsyncIterator[_Place]:
                async with in_namespace(setting, it, name) as namespace:
                    await generated(setting, it.url, namespace, steps, resources)
                    bench = Bench(it.url, namespace, driver=it.driver, client=ScriptedClient())
                    store = connect(it.url, namespace=namespace, driver=it.driver)
                    async with _place("Neo4j", store, namespace, bench) as place:
                        yield place

            found += await _rows(setting, on_neo4j)
    return found


@asynccontextmanager
async def _place(
    kind: str, store: GraphStore, namespace: str, bench: Bench
) -> AsyncIterator[_Place]:
    await store.open()
    try:
        place = _Place(kind, store, namespace, bench)
        await place.walker().settle()
        yield place
    finally:
        await store.close()


async def _rows(setting: Setting, at: Callable[[str, int, int], Any]) -> list[Row]:
    found: list[Row] = []
    async with at(f"hot-{_DEPENDANTS}", hot_steps(_DEPENDANTS), 1) as place:
        setting.say.phase(f"walking {_DEPENDANTS:,} dependants, {place.kind}")
        found += await _rates(place)
        setting.say.phase(f"hits and effects meanwhile, {place.kind}")
        found += await _meanwhile(setting, place)
    edges = {}
    for name, steps in (("some", _FEW), ("large", setting.steps)):
        async with at(name, steps, 200) as place:
            setting.say.phase(f"walking what rests on 1 of 200 resources, {place.kind}")
            edges[steps] = await _edges(place)
    for steps, (visited, affected) in edges.items():
        found.append(
            Row(
                f"edges visited, {steps:,} steps, {place.kind}",
                f"{visited:,} visited",
                f"{affected:,} affected",
                visited / affected,
                _GOAL_EDGES,
            )
        )
    return found


# Rates ------------------------------------------------------------------------------------


async def _settled(place: _Place) -> tuple[int, float, list[Walk]]:
    """Steps, seconds, and what the walks came to."""
    ended: list[Walk] = []
    walker = place.walker()
    began = time.perf_counter()
    await walker.settle(progress=lambda it: ended.append(it) if it.ended_at else None)
    took = time.perf_counter() - began
    return sum(it.marked + it.cleared for it in ended), took, ended


async def _rates(place: _Place) -> list[Row]:
    rates: dict[str, list[float]] = {"marked": [], "cleared": []}
    steps = 0
    for number in range(_ROUNDS):
        for what, rule in (("marked", f"deny-{number}"), ("cleared", "allow")):
            await place.change(rule)
            steps, seconds, _ = await _settled(place)
            rates[what].append(steps / seconds)
    goal = _GOALS[place.kind]
    return [
        Row(
            f"{steps:,} steps {what}, {place.kind}",
            f"{max(some):,.0f} steps/s (p50 {statistics.median(some):,.0f})",
            f"{goal:,} steps/s",
            goal / max(some),
            1,
        )
        for what, some in rates.items()
    ]


# Work -------------------------------------------------------------------------------------


async def _edges(place: _Place) -> tuple[int, int]:
    """Edges that the walk of a change has visited, and those that lead into affected steps."""
    before = Generated(place.namespace).guards[0].id
    affected = 0
    for outline in await place.store.dependants([before]):
        reached: set[int] = set()
        for step in outline.steps:
            if before in step.guards or reached.intersection(step.feeds):
                reached.add(step.position)
                affected += len(step.guards) + len(step.feeds)
    await place.change("deny")
    _, _, ended = await _settled(place)
    await place.change("allow")
    await _settled(place)
    return sum(it.visited for it in ended), affected


# Meanwhile --------------------------------------------------------------------------------


async def _meanwhile(setting: Setting, place: _Place) -> list[Row]:
    async with place.bench.engine:
        await place.bench.observe()
        await place.bench.agent.execute(task())
        engine = place.bench.engine.session()
        numbers = itertools.count()

        async def hit() -> None:
            assert (await place.bench.agent.execute(task())).identical

        facts = await engine.store.facts({_OTHER: frozenset({None})})
        expected = [Expected(_OTHER, facts.of(_OTHER).version, believed=True)]
        run = f"bench-{time.time_ns()}"

        async def intend() -> None:
            number = next(numbers)
            effect = SideEffect(
                id=f"{run}-{number}",
                execution=run,
                tool="switch",
                target="eu",
                idempotency_key=f"{run}-{number}",
                state=EffectState.INTENDED,
                begun_at=1,
            )
            assert await engine.store.intend(effect, expected)

        found = []
        for name, call in (("a hit", hit), ("an intended effect", intend)):
            idle = await _sampled(call, max(100, setting.rounds))
            for who, walker, batch in (
                ("in the background", engine.walker, True),
                ("in the foreground", place.walker(), False),
            ):
                busy = await _during(place, walker, call, background=batch)
                found += _compared(f"{name} during a walk {who}, {place.kind}", busy, idle)
        return found


async def _sampled(call: Callable[[], Any], rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(_EVERY)
    return sorted(taken)


async def _during(
    place: _Place, walker: Walker, call: Callable[[], Any], *, background: bool
) -> list[float]:
    """Milliseconds of each call while a walk of all dependants went on."""
    taken: list[float] = []
    for rule in ("deny-meanwhile", "allow"):
        await place.change(rule)
        if background:
            walker.kick()
        work = asyncio.create_task(_until_settled(place) if background else walker.settle())
        while not work.done():
            taken += await _sampled(call, 1)
        await work
    return sorted(taken)


async def _until_settled(place: _Place) -> None:
    # What another walker does cannot be awaited.
    while await place.store.walks(limit=1):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


def _compared(what: str, busy: list[float], idle: list[float]) -> list[Row]:
    return [
        Row(
            f"{what}, p{part}",
            f"{_part(busy, part):.3f} ms ({len(busy)} calls)",
            f"idle {_part(idle, part):.3f} ms",
            _part(busy, part) / _part(idle, part),
        )
        for part in (50, 99)
    ]


def _part(taken: list[float], percent: int) -> float:
    return taken[min(len(taken) - 1, len(taken) * percent // 100)]
