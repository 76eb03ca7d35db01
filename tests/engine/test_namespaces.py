"""A namespace that does not exist is told, with those that do."""

from __future__ import annotations

import pytest

from execgraph import Engine
from execgraph.engine.errors import ExecutionUnknown

from .conftest import World
from .test_replay import TASK, example, observe_both


async def test_questions_in_a_mistyped_namespace_name_those_there_are(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        result = await agent.execute(TASK)
        assert (await engine.stats()).hint is None
        await engine.cypher("MATCH (n:Nothing) RETURN n")
        assert "namespace" not in caplog.text, "an empty answer is no mistake"
        with pytest.raises(ExecutionUnknown, match="no execution 'unknown'"):
            await engine.why("unknown")
    async with Engine(world.url, namespace=world.namespace + "x") as mistyped:
        told = f"there is nothing in the namespace '{world.namespace}x'; in this store are: "
        hint = (await mistyped.stats()).hint
        assert hint is not None
        assert hint.startswith(told)
        if len(known := await mistyped.session().store.namespaces(limit=21)) == 21:
            assert hint.endswith(f"{known[19]!r}, ..."), "a store that many share"
        else:
            assert repr(world.namespace) in hint
        for execution in (None, result.execution_id):
            with pytest.raises(ExecutionUnknown) as caught:
                await mistyped.why(execution)
            assert str(caught.value) == hint
        await mistyped.cypher("MATCH (e:Execution {namespace: $namespace}) RETURN e.id AS id")
        assert hint in caplog.text


async def test_a_namespace_in_which_only_facts_are_exists(world: World) -> None:
    async with world.engine() as engine:
        await engine.observe("acl:one", 1)
        assert (await engine.stats()).hint is None
