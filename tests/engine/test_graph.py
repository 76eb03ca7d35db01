"""Parts of the graph for networkx: equal to what Cypher shows, and no more than was asked for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import networkx as nx
import pytest

from execgraph import (
    Acl,
    ConfigurationError,
    Engine,
    ExecutionUnknown,
    ResourceUnknown,
    RunFailed,
    TaskUnknown,
)
from execgraph.adapters.messages_api import Answer, call, text

from .conftest import World, turn
from .test_replay import TASK, example, observe_both


def keys(graph: Any, label: str) -> list[str]:
    return sorted(key for key, it in graph.nodes(data="label") if it == label)


def types(graph: Any) -> set[tuple[str, str, str]]:
    """Which labels are joined by edges of which type."""
    label = graph.nodes(data="label")
    return {(label[source], kind, label[target]) for source, target, kind in graph.edges(keys=True)}


def named(graph: Any, label: str) -> set[str]:
    return {graph.nodes[key]["name"] for key in keys(graph, label)}


# As Cypher shows it -----------------------------------------------------------------------

_NAMES = {"Task": "key", "Facet": "key", "Resource": "uri"}  # of the others: id


async def in_cypher(engine: Engine) -> tuple[dict[str, dict[str, Any]], set[tuple[str, str, str]]]:
    """All nodes and edges of the namespace by the keys that they have in networkx."""
    named = "MATCH (n {namespace: $namespace}) RETURN labels(n) AS labels, properties(n) AS it"
    nodes = {_key(row["it"], row["labels"]): row["it"] for row in await engine.cypher(named)}
    joined = (
        "MATCH (a {namespace: $namespace})-[r]->(b) RETURN labels(a) AS la, properties(a) AS a,"
        " type(r) AS type, labels(b) AS lb, properties(b) AS b"
    )
    edges = {
        (_key(row["a"], row["la"]), row["type"], _key(row["b"], row["lb"]))
        for row in await engine.cypher(joined)
    }
    return nodes, edges


def _key(properties: dict[str, Any], labels: list[str]) -> str:
    if "Version" in labels:
        return f"version {properties['n']} of {properties['resource']}"
    names = [_NAMES.get(label, "id") for label in labels]
    return str(properties.get(names[0], properties.get("digest")))


def assert_in_cypher(
    graph: Any, nodes: dict[str, dict[str, Any]], edges: set[tuple[str, str, str]]
) -> None:
    for key, node in graph.nodes(data=True):
        told = {name: value for name, value in node.items() if name != "label"}
        shown = {name: nodes[key].get(name) for name in told}
        assert told == shown, node["label"]
    assert {(a, kind, b) for a, b, kind in graph.edges(keys=True)} <= edges


async def test_nodes_edges_and_properties_are_those_of_cypher(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first = await agent.execute(TASK, labels={"team": "a"})
        await engine.observe("acl:two", {"rule": 2})
        second = await agent.execute(TASK)
        replay = await agent.execute(TASK)
        await engine.withdraw("acl:one")
        await engine.settle()
        nodes, edges = await in_cypher(engine)
        runs = [await engine.graph(it.execution_id) for it in (first, second, replay)]
        [task] = keys(runs[0], "Task")
        for graph in (
            *runs,
            await engine.graph(task=task),
            await engine.graph(resource="acl:one"),
            await engine.graph(resource="acl:two"),
        ):
            assert_in_cypher(graph, nodes, edges)
        for key in (first.execution_id, f"{first.execution_id}/2", f"{first.execution_id}/3"):
            assert set(nodes[key]) <= {*runs[0].nodes[key], "decided_at"}, "nothing is left out"


async def test_an_execution_has_its_task_steps_guards_and_effects(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        result = await agent.execute(TASK)
        graph = await engine.graph(result.execution_id)
    assert isinstance(graph, nx.MultiDiGraph)
    assert graph.graph == {"namespace": engine.namespace}
    assert types(graph) == {
        ("Task", "HAS_EXECUTION", "Execution"),
        ("Execution", "HAS_STEP", "Step"),
        ("Execution", "PERFORMED", "SideEffect"),
        ("Step", "CAUSED", "SideEffect"),
        ("Step", "FEEDS", "Step"),
        ("Precondition", "GUARDS", "Step"),
        ("Version", "HOLDS", "Precondition"),
        ("Facet", "HAS_VALUE", "Precondition"),
        ("Resource", "HAS_FACET", "Facet"),
        ("Resource", "HAS_VERSION", "Version"),
    }
    assert len(keys(graph, "Step")) == 7
    assert keys(graph, "Resource") == ["acl:one", "acl:two"]
    assert all(edge["type"] == key for _, _, key, edge in graph.edges(keys=True, data=True))
    assert nx.is_directed_acyclic_graph(graph)


async def test_a_task_has_all_its_traces(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first = await agent.execute(TASK)
        await engine.observe("acl:two", {"rule": 2})
        second = await agent.execute(TASK)
        await agent.execute({"service": "another", "target": "eu"})
        [task] = keys(await engine.graph(first.execution_id), "Task")
        graph = await engine.graph(task=task)
    assert keys(graph, "Execution") == sorted([first.execution_id, second.execution_id])
    assert (second.execution_id, first.execution_id, "REPLAYED") in graph.edges(keys=True)


async def test_a_resource_has_only_the_steps_that_rest_on_it(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        result = await agent.execute(TASK)
        graph = await engine.graph(resource="acl:two")
    steps = [graph.nodes[key]["position"] for key in keys(graph, "Step")]
    assert steps == [4, 5, 6], "the decision, the write that rests on it, and what follows"
    assert [graph.nodes[key]["tool"] for key in keys(graph, "SideEffect")] == ["second"]
    assert keys(graph, "Resource") == ["acl:two"]
    assert keys(graph, "Execution") == [result.execution_id]


async def test_a_facet_with_a_selector_is_one_beside_the_whole(world: World) -> None:
    engine = world.engine()
    world.think(lambda body: _call_or_end(body, "both"))

    @engine.tool(effect="write", requires=[Acl("one"), Acl("one", "$.a['b c']")])
    def both() -> str:
        """Write."""
        return "done"

    async with engine:
        await engine.observe("acl:one", {"a": {"b c": 1}})
        await world.agent(engine, [both]).execute("go")
        graph = await engine.graph(resource="acl:one")
    found = {graph.nodes[key].get("selector") for key in keys(graph, "Facet")}
    assert found == {None, "$.a['b c']"}


def _call_or_end(body: dict[str, Any], tool: str) -> Answer:
    return Answer([call(tool, {})] if turn(body) == 0 else [text("Done.")])


async def test_after_a_change_the_marked_steps_are_the_descendants_of_what_it_moved(
    world: World,
) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        run = (await agent.execute(TASK)).execution_id
        foreseen = await engine.impact("acl:two", {"rule": 2})
        event = await engine.observe("acl:two", {"rule": 2})
        await engine.settle()
        graph = await engine.graph(resource="acl:two")
        marked = await engine.session().store.marks(run)
    assert event is not None
    moved = [
        key
        for key in keys(graph, "Precondition")
        if graph.nodes[key]["fingerprint"] in {it.before for it in event.changed}
    ]
    follows = nx.descendants(graph, *moved) & set(keys(graph, "Step"))
    assert follows == {f"{run}/{position}" for position in marked}
    assert follows == {step.id for step in foreseen.invalid}
    assert len(follows) == 3


# Runs of all kinds ------------------------------------------------------------------------


async def test_a_replay_is_shown_with_the_trace_that_it_replayed(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first = await agent.execute(TASK)
        second = await agent.execute(TASK)
        graph = await engine.graph()
    assert (second.execution_id, first.execution_id, "REPLAYED") in graph.edges(keys=True)
    assert len(keys(graph, "Step")) == 7
    performed = list(graph.successors(second.execution_id))
    effects = [key for key in performed if key != first.execution_id]
    assert len(effects) == 2
    assert all(graph.in_degree(effect) == 2 for effect in effects), "PERFORMED and CAUSED"


async def test_a_run_with_no_step_is_a_task_and_an_execution(world: World) -> None:
    engine = world.engine()
    async with engine:
        async with engine.run("idle", "nothing") as run:
            run.output = "nothing"
        graph = await engine.graph(run.execution_id)
    assert sorted(label for _, label in graph.nodes(data="label")) == ["Execution", "Task"]
    assert types(graph) == {("Task", "HAS_EXECUTION", "Execution")}


async def test_a_failed_run_is_shown_with_what_it_did(world: World) -> None:
    engine, agent = example(world)
    failing = world.agent(engine, list(engine.tools.values()), max_turns=2)
    async with engine:
        await observe_both(engine)
        with pytest.raises(RunFailed) as failed:
            await failing.execute(TASK)
        graph = await engine.graph(failed.value.execution_id)
    assert agent is not failing
    [execution] = keys(graph, "Execution")
    assert graph.nodes[execution]["state"] == "failed"
    assert graph.nodes[execution]["reason"]
    assert keys(graph, "SideEffect")


async def test_a_running_run_is_shown_with_what_it_has_begun(world: World) -> None:
    engine = world.engine()
    begun, go_on = asyncio.Event(), asyncio.Event()

    @engine.tool(effect="write", requires=[])
    async def slow() -> str:
        """Write slowly."""
        begun.set()
        await go_on.wait()
        return "done"

    async with engine, engine.run("slow", "now") as run:
        acting = asyncio.ensure_future(run.act(slow))
        await begun.wait()
        graph = await engine.graph(run.execution_id)
        go_on.set()
        await acting
    assert graph.nodes[run.execution_id]["state"] == "running"
    assert types(graph) == {("Execution", "PERFORMED", "SideEffect")}


async def test_a_withdrawn_resource_holds_nothing_and_its_steps_are_there(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await engine.withdraw("acl:two")
        await engine.settle()
        graph = await engine.graph(resource="acl:two")
    assert graph.nodes["acl:two"]["state"] == "withdrawn"
    assert graph.nodes["version 2 of acl:two"]["withdrawn"]
    assert "HOLDS" not in {kind for _, _, kind in graph.edges(keys=True)}
    assert {graph.nodes[key]["state"] for key in keys(graph, "Step")} == {"invalid"}


async def test_what_was_recorded_while_a_resource_was_absent_rests_on_it(world: World) -> None:
    engine = world.engine()
    world.think(lambda body: _call_or_end(body, "look"))

    @engine.tool(effect="read", requires=[Acl("one", "$.rule")])
    def look() -> str:
        """Look."""
        return "seen"

    async with engine:
        await world.agent(engine, [look]).execute("go")
        graph = await engine.graph(resource="acl:one")
    assert graph.nodes["acl:one"]["state"] == "absent"
    assert keys(graph, "Version") == []
    assert [graph.nodes[key]["fingerprint"] for key in keys(graph, "Precondition")] == ["never"]
    assert named(graph, "Step") >= {"look"}


async def test_an_observed_resource_on_which_nothing_rests_is_shown(world: World) -> None:
    async with world.engine() as engine:
        await engine.observe("acl:one", {"rule": 1}, until=timedelta(hours=1))
        graph = await engine.graph(resource="acl:one")
    assert types(graph) == {
        ("Resource", "HAS_VERSION", "Version"),
        ("ChangeEvent", "TO", "Version"),
    }
    assert graph.nodes["acl:one"]["until"] > graph.nodes["version 1 of acl:one"]["at"]


async def test_a_task_without_a_trace_is_alone(world: World) -> None:
    engine, _ = example(world)
    failing = world.agent(engine, list(engine.tools.values()), max_turns=2)
    async with engine:
        with pytest.raises(RunFailed) as failed:
            await failing.execute(TASK)
        [task] = keys(await engine.graph(failed.value.execution_id), "Task")
        graph = await engine.graph(task=task)
    assert list(graph) == [task]


async def test_a_graph_says_that_older_changes_are_not_in_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execgraph.engine.asking.graph._MOST_EVENTS", 2)
    async with world.engine() as engine:
        told = []
        for rule in range(3):
            await engine.observe("acl:one", {"rule": rule})
            graph = await engine.graph(resource="acl:one")
            told.append((graph.graph["truncated"], len(keys(graph, "ChangeEvent"))))
    assert told == [(False, 1), (False, 2), (True, 2)]


# What is not there ------------------------------------------------------------------------


async def test_what_is_not_in_the_store_is_told_as_such(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        with pytest.raises(ExecutionUnknown, match="'nonsense'"):
            await engine.graph("nonsense")
        with pytest.raises(ExecutionUnknown, match="of the agent 'nobody'"):
            await engine.graph(agent="nobody")
        with pytest.raises(TaskUnknown, match=r"'deployer'.*is a digest"):
            await engine.graph(task="deployer")
        with pytest.raises(ResourceUnknown, match="nobody observed acl:three"):
            await engine.graph(resource="acl:three")
        with pytest.raises(ConfigurationError, match="kind:name"):
            await engine.graph(resource="three")


async def test_a_graph_of_two_things_at_once_is_refused(world: World) -> None:
    async with world.engine() as engine:
        with pytest.raises(ConfigurationError, match="execution_id and resource were given"):
            await engine.graph("an-id", resource="acl:one")


def test_the_sync_face_gives_the_same(world: World) -> None:
    with world.engine().sync() as e:
        e.observe("acl:one", {"rule": 1})
        graph = e.graph(resource="acl:one")
    assert keys(graph, "Resource") == ["acl:one"]
