"""networkx as the judge of the walker and of impact, on traces and changes of every shape.

What follows from a precondition is what ``networkx.descendants`` says follows from it.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import networkx as nx
import pytest

from execgraph.engine.asking.graph import (
    graph_of_execution,
    graph_of_resource,
    graph_of_task,
)
from execgraph.engine.asking.impact import foresee
from execgraph.graphstore.document import Document
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import published

from .test_impact_random import (
    _RESOURCES,
    _SELECTORS,
    document,
    marks,
    recording,
    walked,
)

_ALL = [dict(zip("xyz", bits, strict=True)) for bits in product((0, 1), repeat=3)]


class Past:
    """A graph in which every document that the dice can give has been, and traces rest on them."""

    def __init__(self, store: GraphStore, seed: int) -> None:
        self.store, self.dice = store, random.Random(seed)
        self.traces: dict[str, int] = {}
        self.tasks: dict[str, str] = {}

    async def begin(self) -> None:
        for uri in _RESOURCES:
            for content in self.dice.sample(_ALL, len(_ALL)):
                await self.store.change(uri, Document.of(content))
                await self.store.facts({uri: frozenset(_SELECTORS)})

    async def record(self) -> None:
        task = f"task-{self.dice.randrange(3)}"
        number = len(self.traces) + self.dice.randrange(10_000) * 100
        it = recording(self.dice, self.store.namespace, task, number)
        steps = self.dice.choice([2, 5, 6])
        answer = await published(self.store, it, steps)
        if answer.published:
            self.traces[it.execution.id], self.tasks[it.execution.id] = steps, task
        for oldest in answer.unpublished:
            self.traces.pop(oldest, None)

    async def change(self, changes: dict[str, Document | None]) -> None:
        for uri, it in changes.items():
            await self.store.change(uri, it)
        await walked(self.store)

    def some_changes(self, most: int) -> dict[str, Document | None]:
        uris = self.dice.sample(_RESOURCES, self.dice.randrange(1, most + 1))
        return {uri: None if self.dice.random() < 0.2 else document(self.dice) for uri in uris}

    async def marked(self) -> set[str]:
        return set(await marks(self.store, self.traces))

    async def graphs(self) -> dict[str, Any]:
        return {uri: await graph_of_resource(self.store, uri) for uri in _RESOURCES}


@pytest.fixture(params=range(4))
async def past(request: pytest.FixtureRequest, store: GraphStore) -> Past:
    it = Past(store, request.param)
    await it.begin()
    return it


def of(graph: Any, label: str) -> set[str]:
    return {key for key, it in graph.nodes(data="label") if it == label}


def held(graph: Any) -> set[str]:
    """The preconditions that the current versions hold."""
    return {target for _, target, kind in graph.edges(keys=True) if kind == "HOLDS"}


def following(graph: Any, preconditions: set[str]) -> set[str]:
    """The steps that follow from these preconditions."""
    reached = {key for it in preconditions for key in nx.descendants(graph, it)}
    return reached & of(graph, "Step")


def moved(graph: Any) -> set[str]:
    """The preconditions that ceased to hold by the newest change."""
    event = max(of(graph, "ChangeEvent"), key=lambda it: int(graph.nodes[it]["to_version"]))
    before = {
        (facet, edge.get("before"))
        for _, facet, edge in graph.out_edges(event, data=True)
        if edge["type"] == "CHANGED"
    }
    return {
        key
        for key in of(graph, "Precondition")
        if (graph.nodes[key]["facet"], graph.nodes[key]["fingerprint"]) in before
    }


def held_then(graph: Any, changes: dict[str, Document | None], uri: str) -> set[str]:
    """The preconditions that would hold after these changes."""
    if uri not in changes:
        return held(graph)
    if (then := changes[uri]) is None:
        return set()
    nodes = {key: graph.nodes[key] for key in of(graph, "Precondition")}
    return {key for key, it in nodes.items() if then.held(it.get("selector")) == it["fingerprint"]}


async def test_the_walker_marks_what_follows_from_what_a_change_moved(past: Past) -> None:
    seen = 0
    for _ in range(10):
        for _ in range(past.dice.randrange(3)):
            await past.record()
        await walked(past.store)
        before = await past.marked()
        [(uri, it)] = changes = list(past.some_changes(1).items())
        event = await past.store.change(uri, it)
        await walked(past.store)
        if event is None:
            continue
        graph = await graph_of_resource(past.store, uri)
        newly = await past.marked() - before
        assert newly == following(graph, moved(graph)) - before, changes
        seen += len(newly)
    assert seen, "the dice were kind to nobody"


async def test_the_marks_are_what_follows_from_all_that_does_not_hold(past: Past) -> None:
    for _ in range(8):
        await past.record()
        await past.change(past.some_changes(3))
        graphs = (await past.graphs()).values()
        fallen = [following(it, of(it, "Precondition") - held(it)) for it in graphs]
        marked = await past.marked()
        assert set().union(*fallen) == marked
        told = {key for it in graphs for key in of(it, "Step") if it.nodes[key]["state"] != "valid"}
        assert told == marked


async def test_impact_is_what_follows_from_what_would_not_hold(past: Past) -> None:
    seen = 0
    for _ in range(8):
        for _ in range(past.dice.randrange(1, 3)):
            await past.record()
        await past.change({})
        graphs, changes = await past.graphs(), past.some_changes(3)
        now: set[str] = set()
        then: set[str] = set()
        for uri, graph in graphs.items():
            some = of(graph, "Precondition")
            now |= following(graph, some - held(graph))
            then |= following(graph, some - held_then(graph, changes, uri))
        impact = await foresee(past.store, changes)
        assert {it.id for it in impact.invalid} == then - now
        assert {it.id for it in impact.valid} == now - then
        seen += len(then ^ now)
        await past.change(changes)
    assert seen, "the dice were kind to nobody"


async def test_an_execution_and_a_task_tell_the_same_of_their_steps(past: Past) -> None:
    for _ in range(6):
        await past.record()
        await past.change(past.some_changes(3))
    for trace, steps in past.traces.items():
        marked = set(await marks(past.store, {trace: steps}))
        mine = {f"{trace}/{position}" for position in range(steps)}
        for graph in (
            await graph_of_execution(past.store, trace),
            await graph_of_task(past.store, past.tasks[trace]),
        ):
            fallen = following(graph, of(graph, "Precondition") - held(graph))
            assert fallen & mine == marked
