"""Parts of the graph as networkx knows graphs: an execution, a task, what rests on a resource.

Labels, types and properties are those of docs/cypher.md. Only what belongs to the question is read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ...graphstore.facts import Fact, Facts, FactState
from ...graphstore.model import (
    NEVER,
    ChangeEvent,
    ChangeKind,
    Execution,
    FacetRef,
    Outline,
    Precondition,
    SideEffect,
    Step,
    Task,
    Trace,
    step_id,
)
from ...graphstore.store import GraphStore
from ..errors import ExecutionUnknown, ResourceUnknown, TaskUnknown
from ..outcome.hiding import shown_target
from .runs import as_of_now

if TYPE_CHECKING:
    from networkx import MultiDiGraph
    from pydantic import BaseModel

__all__ = ["graph_of_execution", "graph_of_resource", "graph_of_task"]

_T = TypeVar("_T")

_AT_ONCE = 16  # executions read at the same time
_MOST_EVENTS = 1000  # of a resource


class _Run(NamedTuple):
    """An execution, what it did to the outside, and which of its steps are marked invalid."""

    trace: Trace
    effects: Sequence[SideEffect]
    marks: Mapping[int, str]


async def graph_of_execution(store: GraphStore, execution: str) -> MultiDiGraph:
    """An execution with its task, its steps, what they rest on, and its side effects.

    A plain replay has no steps of its own: the trace that it replayed is in the graph with it.
    Raises ExecutionUnknown.
    """
    run = await _run(store, execution)
    if run is None:
        raise ExecutionUnknown(execution, store)
    replayed = run.trace.execution.replayed
    source = None if replayed is None else await _run(store, replayed)
    shown = [it for it in (source, run) if it is not None]
    task = await store.task(run.trace.execution.task)
    return await _drawn(store, task, shown)


async def graph_of_task(store: GraphStore, task: str) -> MultiDiGraph:
    """The task with this key, and its published traces as ``graph_of_execution`` has them.

    Raises TaskUnknown.
    """
    stored = await store.task(task)
    if stored is None:
        raise TaskUnknown(task, store)
    lookup = await store.lookup(task, lambda _traces, _facts: None)
    runs = await _runs(store, [it.id for it in lookup.traces])
    return await _drawn(store, stored, runs)


async def graph_of_resource(store: GraphStore, resource: str) -> MultiDiGraph:
    """A resource with its changes and parts, and the published steps that rest on it.

    Those rest on it as it is now, or as the changes of it that are kept say it was. Of its newest
    1,000 changes; if there are more, the graph's attribute ``truncated`` is True. Raises
    ResourceUnknown.
    """
    selectors = await store.facets(resource)
    facts = await store.facts({resource: selectors})
    fact, events = facts.of(resource), await _events(store, resource)
    if fact.state is FactState.ABSENT and not selectors:
        raise ResourceUnknown(resource, store)
    drawing = _Drawing(store.namespace, truncated=len(events) > _MOST_EVENTS)
    drawing.resource(resource, fact)
    for selector in sorted(selectors, key=str):
        drawing.facet(FacetRef(resource, selector))
    drawing.events(events[:_MOST_EVENTS])
    known = _preconditions(store.namespace, resource, selectors, fact, events)
    outlines = await store.dependants([it.id for it in known])
    known |= {
        precondition
        for one in outlines
        for precondition in one.preconditions.values()
        if precondition.resource == resource
    }
    resting = {guard for outline in outlines for step in outline.steps for guard in step.guards}
    drawing.preconditions(
        (it for it in known if it.fingerprint != NEVER or it.id in resting), facts
    )
    for run in await _runs(store, _affected(outlines, {it.id for it in known})):
        drawing.run(run, published=True)
    return _without_others(drawing.drawn(), resource)


async def _events(store: GraphStore, resource: str) -> list[ChangeEvent]:
    return await store.changes(resource=resource, limit=_MOST_EVENTS + 1)


def _preconditions(
    namespace: str,
    resource: str,
    selectors: Iterable[str | None],
    fact: Fact,
    events: Iterable[ChangeEvent],
) -> set[Precondition]:
    """What a step can have found the resource to be."""
    held = {(selector, NEVER) for selector in selectors} | set(fact.fingerprints.items())
    for event in events:
        for change in event.changed:
            held |= {
                (change.selector, at) for at in (change.before, change.after) if at is not None
            }
    return {Precondition.of(namespace, FacetRef(resource, selector), at) for selector, at in held}


def _affected(outlines: Iterable[Outline], guards: Collection[str]) -> list[str]:
    """The traces that have a step resting on one of these preconditions."""
    return [
        outline.execution
        for outline in outlines
        if any(guard in guards for step in outline.steps for guard in step.guards)
    ]


# Reading ----------------------------------------------------------------------------------


async def _run(store: GraphStore, execution: str) -> _Run | None:
    trace, effects, marks = await asyncio.gather(
        store.execution(execution),
        store.effects(execution),
        store.marks(execution),
    )
    return None if trace is None else _Run(as_of_now(trace), effects, marks)


async def _runs(store: GraphStore, executions: Sequence[str]) -> list[_Run]:
    """The runs of these ids, without those that were deleted meanwhile."""
    runs = await _in_turn(executions, lambda execution: _run(store, execution))
    return [run for run in runs if run is not None]


async def _in_turn(keys: Sequence[str], read: Callable[[str], Awaitable[_T]]) -> list[_T]:
    """What ``read`` gives for each key, a few at a time."""
    results: list[_T] = []
    for start in range(0, len(keys), _AT_ONCE):
        results += await asyncio.gather(*map(read, keys[start : start + _AT_ONCE]))
    return results


async def _drawn(store: GraphStore, task: Task | None, runs: Sequence[_Run]) -> MultiDiGraph:
    """Draw these executions, with what they rest on as it is now."""
    guards = {precondition for run in runs for precondition in run.trace.preconditions.values()}
    wanted: dict[str, set[str | None]] = {}
    for guard in guards:
        wanted.setdefault(guard.resource, set()).add(guard.selector)
    facts = await store.facts({uri: frozenset(some) for uri, some in wanted.items()})
    drawing = _Drawing(store.namespace)
    if task is not None:
        drawing.task(task)
    for uri in sorted(wanted):
        drawing.resource(uri, facts.of(uri))
    drawing.preconditions(guards, facts)
    for run in runs:
        drawing.run(run)
    return drawing.drawn()


# Drawing ----------------------------------------------------------------------------------


class _Drawing:
    """A graph being made. Of the edges those are in it whose both ends are."""

    def __init__(self, namespace: str, **about: object) -> None:
        import networkx as nx

        self.namespace = namespace
        self._graph: MultiDiGraph = nx.MultiDiGraph(namespace=namespace, **about)
        self._edges: list[tuple[str, str, str, dict[str, Any]]] = []

    def drawn(self) -> MultiDiGraph:
        """The graph."""
        nodes = self._graph.nodes
        self._graph.add_edges_from(it for it in self._edges if it[0] in nodes and it[1] in nodes)
        return self._graph

    def node(self, key: str, label: str, properties: Mapping[str, Any]) -> None:
        """Add a node, or properties of one; a property that is None is not there."""
        known = {name: value for name, value in properties.items() if value is not None}
        self._graph.add_node(key, label=label, namespace=self.namespace, **known)

    def edge(self, source: str, kind: str, target: str, **properties: Any) -> None:
        """Have an edge added, if both its ends come to be in the graph."""
        known = {name: value for name, value in properties.items() if value is not None}
        self._edges.append((source, target, kind, {"type": kind, **known}))

    def task(self, task: Task) -> None:
        self.node(task.key, "Task", _properties(task))

    def run(self, run: _Run, *, published: bool = False) -> None:
        """An execution with its steps and effects; ``published``: only what may be replayed."""
        execution = run.trace.execution
        self.node(execution.id, "Execution", _of_execution(execution))
        self.edge(execution.task, "HAS_EXECUTION", execution.id)
        if execution.replayed is not None:
            self.edge(execution.id, "REPLAYED", execution.replayed)
        steps = run.trace.steps[: execution.published_steps if published else None]
        outputs = {step.position: step.output_key for step in steps}
        for step in steps:
            self._step(execution.id, step, run.marks.get(step.position), outputs)
        for effect in run.effects:
            shown = {"target": shown_target(effect.target)}
            self.node(effect.id, "SideEffect", {**_properties(effect), **shown})
            self.edge(execution.id, "PERFORMED", effect.id)
            if effect.step is not None:
                self.edge(effect.step, "CAUSED", effect.id)

    def _step(
        self, execution: str, step: Step, invalid: str | None, outputs: Mapping[int, str]
    ) -> None:
        key = step_id(execution, step.position)
        mark = {"state": "valid" if invalid is None else "invalid", "invalidated_by": invalid}
        self.node(key, "Step", {"id": key, "execution": execution, **_of_step(step), **mark})
        self.edge(execution, "HAS_STEP", key, position=step.position)
        for guard in step.guards:
            self.edge(guard, "GUARDS", key)
        for position in step.feeds:
            source = step_id(execution, position)
            self.edge(source, "FEEDS", key, fingerprint=outputs.get(position))

    def resource(self, uri: str, fact: Fact) -> None:
        """A resource, and its current version."""
        properties = {"uri": uri, "kind": uri.partition(":")[0], "current": fact.version}
        self.node(uri, "Resource", {**properties, "state": fact.state.value, "until": fact.until})
        if fact.version:
            self.version(uri, fact.version, {"withdrawn": fact.state is FactState.WITHDRAWN})

    def version(self, uri: str, n: int, properties: Mapping[str, Any]) -> None:
        self.node(_version(uri, n), "Version", {"resource": uri, "n": n, **properties})
        self.edge(uri, "HAS_VERSION", _version(uri, n))

    def facet(self, ref: FacetRef) -> None:
        key = ref.key(self.namespace)
        self.node(key, "Facet", {"key": key, "resource": ref.resource, "selector": ref.selector})
        self.edge(ref.resource, "HAS_FACET", key)

    def preconditions(self, some: Iterable[Precondition], facts: Facts) -> None:
        """What steps rest on; HOLDS comes from the current version alone."""
        for node in sorted(some, key=lambda node: node.id):
            self.facet(node.ref)
            self.node(node.id, "Precondition", _properties(node))
            self.edge(node.facet, "HAS_VALUE", node.id)
            fact = facts.of(node.resource)
            if fact.fingerprints.get(node.selector) == node.fingerprint:
                self.edge(_version(node.resource, fact.version), "HOLDS", node.id)

    def events(self, events: Iterable[ChangeEvent]) -> None:
        """Changes with the versions and facets that they are about."""
        for event in events:
            self.node(event.id, "ChangeEvent", _properties(event, "changed"))
            if event.from_version:
                self.version(event.resource, event.from_version, {})
            made = event.kind in (ChangeKind.CHANGED, ChangeKind.WITHDRAWN)
            withdrawn = event.kind is ChangeKind.WITHDRAWN
            about = {"at": event.at, "withdrawn": withdrawn} if made else {}
            self.version(event.resource, event.to_version, about)
            if event.from_version:
                self.edge(event.id, "FROM", _version(event.resource, event.from_version))
            self.edge(event.id, "TO", _version(event.resource, event.to_version))
            for change in event.changed:
                self.facet(FacetRef(change.resource, change.selector))
                self.edge(
                    event.id, "CHANGED", change.facet, before=change.before, after=change.after
                )


def _without_others(graph: MultiDiGraph, key: str) -> MultiDiGraph:
    """``graph`` without the steps that no path from ``key`` leads to, and their effects."""
    import networkx as nx

    follows = nx.descendants(graph, key)
    labels = dict(graph.nodes(data="label"))
    others = [it for it in labels if it not in follows and labels[it] in ("Step", "SideEffect")]
    graph.remove_nodes_from(others)
    return graph


def _version(uri: str, n: int) -> str:
    """A version's key; no resource's name begins so."""
    return f"version {n} of {uri}"


def _properties(node: BaseModel, *edges: str) -> dict[str, Any]:
    """What a node has for properties: flat, and a mapping as JSON text."""
    fields = node.model_dump(mode="json", exclude=set(edges))
    usage = fields.pop("usage", None) or {}
    texts = {name: json.dumps(some) for name, some in fields.items() if isinstance(some, dict)}
    return {**fields, **texts, **usage}


def _of_step(step: Step) -> dict[str, Any]:
    nothing = () if step.seen else ("seen",)
    return _properties(step, "guards", "feeds", *nothing)


def _of_execution(execution: Execution) -> dict[str, Any]:
    """One that has only begun has neither a task nor, it may be, an agent yet."""
    properties = _properties(execution)
    return {**properties, "task": execution.task or None, "agent": execution.agent or None}
