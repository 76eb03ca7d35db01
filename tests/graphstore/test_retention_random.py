"""Random histories with collections in between: what is kept answers as it did, on both stores."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.model import (
    NEVER,
    ExecutionState,
    FacetRef,
    Precondition,
    Recording,
    Replay,
    Value,
)
from execgraph.graphstore.retention import Collected, Retention
from execgraph.graphstore.roles.lookups import Lookup
from execgraph.graphstore.store import GraphStore
from execgraph.graphstore.totals import Totals
from execgraph.tests.conformance.samples import published, sample_recording, sample_replay

_URIS = ("acl:a", "acl:b", "acl:c")
_SELECTORS = (None, "$.x", "$.y")
_TASKS = ("one", "two", "three")


@dataclass
class History:
    """A store in which things happen by chance; ``runs`` counts those that have ended."""

    store: GraphStore
    chance: random.Random
    runs: int = 0
    number: int = 0
    recordings: list[Recording] = field(default_factory=list)

    async def change(self) -> None:
        uri = self.chance.choice(_URIS)
        content = {"x": self.chance.randrange(3), "y": self.chance.randrange(2)}
        document = None if self.chance.random() < 0.15 else Document.of(content)
        await self.store.change(uri, document)

    async def record(self) -> None:
        self.number += 1
        facets = [
            FacetRef(uri, selector)
            for uri in self.chance.sample(_URIS, self.chance.randrange(3))
            for selector in self.chance.sample(_SELECTORS, self.chance.randint(1, 2))
        ]
        wanted = {
            uri: frozenset(it.selector for it in facets if it.resource == uri)
            for uri in {it.resource for it in facets}
        }
        facts = await self.store.facts(wanted)
        guards = [
            Precondition.of(
                self.store.namespace,
                it,
                facts.of(it.resource).fingerprints.get(it.selector, NEVER),
            )
            for it in facets
        ]
        recording = sample_recording(
            self.chance.choice(_TASKS),
            number=self.number,
            says=f"{self.chance.randrange(6)}",
            guards=guards,
            turns=self.chance.randint(1, 3),
            state=self.chance.choice([ExecutionState.UNPUBLISHED] * 5 + [ExecutionState.FAILED]),
        )
        await published(self.store, recording)
        self.recordings.append(recording)
        self.runs += 1

    async def replay(self) -> None:
        if not self.recordings:
            return
        recording = self.chance.choice(self.recordings[-8:])
        replays: list[Replay] = []
        for _ in range(self.chance.randint(1, 4)):
            self.number += 1
            report = Value.of(f'{{"of":{self.number}}}'.encode())
            made = sample_replay(recording, self.number)
            execution = made.execution.model_copy(update={"report": report.digest})
            replays.append(made.model_copy(update={"execution": execution, "values": (report,)}))
        await self.store.write_replays(replays)
        self.runs += len(replays)

    async def unpublish(self) -> None:
        traces = (await self._look(self.chance.choice(_TASKS))).traces
        if traces:
            await self.store.unpublish(self.chance.choice(traces).id, "rejected")

    async def walk(self) -> None:
        for walk in await self.store.walks():
            await self.store.walk(walk.id, batch=self.chance.randint(1, 5))

    async def walk_all(self) -> None:
        while await self.store.walks():
            await self.walk()

    async def collect(self) -> None:
        """Collect, and compare what everybody sees before and after."""
        if self.chance.random() < 0.5:
            await self.walk_all()
        way = self.way()
        told = await self.store.collectable(way)
        before = await self.seen()
        taken, batch = Collected(more=True), self.chance.choice([1, 2, 7, 500])
        while taken.more:
            taken += await self.store.collect(way, batch=batch)
        nodes: dict[str, Any] = {"values": 0, "bytes": 0, "more": False}
        assert replace(told, **nodes) == replace(taken, **nodes)
        assert (told.values, told.bytes) >= (taken.values, 0)
        assert await self.store.collectable(way) == Collected()
        await self.compare(before, way)

    def way(self) -> Retention:
        return Retention(
            traces=self.chance.randint(1, 4),
            history=self.chance.choice([0, 1, 5, 100]),
            versions=self.chance.choice([0, 1, 3]),
            history_age=self.chance.choice([timedelta(0), timedelta(days=36_500)]),
            max_age=self.chance.choice([None] * 4 + [timedelta(days=1)]),
            grace=self.chance.choice([timedelta(0)] * 3 + [timedelta(hours=1)]),
        )

    async def _look(self, task: str) -> Lookup:
        return await self.store.lookup(task, lambda _traces, _facts: None)

    async def seen(self) -> dict[str, Any]:
        """What lookups answer, all marks, and what it came to."""
        looked = {task: await self._look(task) for task in _TASKS}
        return {
            "looked": looked,
            "marks": {
                trace.id: await self.store.marks(trace.id)
                for it in looked.values()
                for trace in it.traces
            },
            "totals": await self.store.totals(),
        }

    async def compare(self, before: dict[str, Any], way: Retention) -> None:
        after = await self.seen()
        assert _told(after["totals"]) == _told(before["totals"])
        assert sum(after["totals"].executions.values()) + after["totals"].failed == self.runs
        for task in _TASKS:
            was, now = before["looked"][task], after["looked"][task]
            assert now.damaged == ()
            known = {trace.id: trace for trace in was.traces}
            kept = [trace.id for trace in now.traces]
            if way.max_age is None:
                assert kept == [trace.id for trace in was.traces][: way.traces]
            for trace in now.traces:
                assert trace == known[trace.id]
                for it in trace.preconditions.values():
                    here, there = now.facts.of(it.resource), was.facts.of(it.resource)
                    assert (here.version, here.state) == (there.version, there.state)
                    at = [fact.fingerprints.get(it.selector) for fact in (here, there)]
                    assert at[0] == at[1]
                assert after["marks"][trace.id] == before["marks"][trace.id]
                found = await self.store.values(trace.payloads)
                assert found.keys() == trace.payloads


def _told(totals: Totals) -> Totals:
    return replace(totals, traces=0).rounded()


@pytest.mark.parametrize("seed", range(8))
async def test_what_is_kept_answers_as_it_did(store: GraphStore, seed: int) -> None:
    chance = random.Random(seed)
    history = History(store, chance)
    acts = [history.change, history.record, history.replay, history.walk] * 3
    acts += [history.unpublish, history.collect]
    for _ in range(160 if "Sqlite" in type(store).__name__ else 60):
        await chance.choice(acts)()
    await history.collect()
    await history.walk_all()
    before = await history.seen()
    for task in before["looked"].values():
        for trace in task.traces:
            marked = before["marks"][trace.id].keys()
            broken = {
                step.position
                for step in trace.steps
                if any(not _holds(task, trace.preconditions[guard]) for guard in step.guards)
            }
            assert broken <= marked, "the marks are exact when all walks have ended"


def _holds(looked: Lookup, guard: Precondition) -> bool:
    fact = looked.facts.of(guard.resource)
    return fact.fingerprints.get(guard.selector) == guard.fingerprint
