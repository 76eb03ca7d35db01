"""Marks on steps, as the example of docs/algorithm.md has them; nothing is replayed by them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from execgraph import Agent, Engine
from execgraph.graphstore.canonical import Json
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import FacetRef, Precondition

from .conftest import World
from .test_replay import TASK, example, observe_both

_D3, _W2, _D4 = 4, 5, 6  # after d1, r1, d2, w1


def _guard(engine: Engine, uri: str, document: Json, selector: str | None) -> str:
    at = Document.of(document).fingerprint(selector)
    return Precondition.of(engine.namespace, FacetRef(uri, selector), at).id


async def _marks(engine: Engine, execution: str) -> dict[int, str]:
    await engine.settle()
    return await engine.session().store.marks(execution)


async def _asked(world: World, agent: Agent) -> tuple[str, int]:
    """The id of one more run, and how often it asked the model."""
    result, calls, _ = await world.count(agent.execute(TASK))
    return result.execution_id, calls


async def test_marks_after_each_change_of_the_example(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        first, calls = await _asked(world, agent)
        assert (calls, await _marks(engine, first)) == (4, {})

        await engine.observe("acl:two", {"rule": 2})
        before = _guard(engine, "acl:two", {"rule": 1}, "$.rule")
        after = _guard(engine, "acl:two", {"rule": 2}, "$.rule")
        of_the_first = dict.fromkeys((_D3, _W2, _D4), before)
        assert await _marks(engine, first) == of_the_first
        second, calls = await _asked(world, agent)
        assert calls == 1
        assert await _marks(engine, second) == {}
        assert await _marks(engine, first) == of_the_first
        _, calls = await _asked(world, agent)
        assert calls == 0

        await engine.observe("acl:two", {"rule": 1})
        assert await _marks(engine, first) == {}
        assert await _marks(engine, second) == dict.fromkeys((_D3, _W2, _D4), after)
        _, calls = await _asked(world, agent)
        assert calls == 0

        await engine.withdraw("acl:one")
        one = _guard(engine, "acl:one", {"rule": 1}, None)
        assert await _marks(engine, first) == dict.fromkeys(range(2, 7), one)


async def test_what_changed_elsewhere_is_not_marked(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        execution, _ = await _asked(world, agent)
        await engine.observe("acl:two", {"rule": 1, "comment": "another facet"})
        await engine.observe("acl:three", {"rule": 1})
        assert await _marks(engine, execution) == {}


async def test_what_was_recorded_without_a_fact_is_marked(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await engine.observe("acl:one", {"rule": 1})  # acl:two is not known
        execution, _ = await _asked(world, agent)
        never = _guard_that_never_holds(engine)
        assert await _marks(engine, execution) == dict.fromkeys((_D3, _W2, _D4), never)


def _guard_that_never_holds(engine: Engine) -> str:
    return Precondition.of(engine.namespace, FacetRef("acl:two", "$.rule"), "never").id


async def test_a_lookup_that_meets_an_expired_fact_has_it_marked(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        execution, _ = await _asked(world, agent)
        await engine.settle()
        await engine.observe("acl:two", {"rule": 1}, until=timedelta(milliseconds=1))
        await asyncio.sleep(0.01)
        store = engine.session().store
        await agent.execute(TASK)
        async with asyncio.timeout(20):
            while not await store.marks(execution):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert set(await _marks(engine, execution)) == {_D3, _W2, _D4}


async def test_marks_authorise_nothing(world: World) -> None:
    """The walker is another process that has died: what changed is asked again all the same."""
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        execution, _ = await _asked(world, agent)
        await engine.settle()
        store = engine.session().store
        assert await store.lease("walker", "the dead", timedelta(seconds=60))
        await engine.observe("acl:two", {"rule": 2})
        assert (await _asked(world, agent))[1] == 1
        assert await store.marks(execution) == {}
        await store.release("walker", "the dead")
        assert set(await _marks(engine, execution)) == {_D3, _W2, _D4}


async def test_a_change_from_elsewhere_is_walked_by_who_settles(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        execution, _ = await _asked(world, agent)
        await asyncio.to_thread(
            world.from_outside, lambda other: other.observe("acl:two", {"rule": 2})
        )
        assert set(await _marks(engine, execution)) == {_D3, _W2, _D4}
