"""What all runs of a namespace came to."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from execgraph.graphstore.errors import ConfigurationError

from .conftest import World
from .test_replay import TASK, example, observe_both


async def test_hits_tokens_and_misses_by_kind(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        empty = await engine.stats()
        assert (empty.executions, empty.hit_rate) == (0, None)
        await observe_both(engine)
        first = await agent.execute(TASK)
        for _ in range(6):
            await agent.execute(TASK)
        await engine.observe("acl:two", {"rule": 2})
        partial = await agent.execute(TASK)
        stats = await engine.stats()
        assert (stats.hits, stats.partial, stats.live, stats.failed) == (6, 1, 1, 0)
        assert stats.hit_rate == 0.75
        assert stats.tokens == first.tokens + partial.tokens
        assert stats.saved_tokens == 6 * first.tokens + partial.saved_tokens
        assert stats.cost == pytest.approx((first.cost or 0) + (partial.cost or 0))
        assert stats.misses == {"new task": first.tokens, "precondition changed": partial.tokens}
        assert stats.missed_calls == {"new task": 4, "precondition changed": 1}
        assert stats.traces == 2
        assert stats.as_json()["hit_rate"] == 0.75


async def test_since_counts_what_began_later(world: World) -> None:
    engine, agent = example(world)
    async with engine:
        await observe_both(engine)
        await agent.execute(TASK)
        await asyncio.sleep(0.01)
        began = datetime.now(UTC)
        await agent.execute(TASK)
        assert (await engine.stats(began)).as_json() | {"saved_tokens": 0} == {
            **(await engine.stats(began)).as_json(),
            "saved_tokens": 0,
            "hits": 1,
            "live": 0,
            "hit_rate": 1.0,
            "tokens": 0,
            "traces": 1,
        }
        assert (await engine.stats(timedelta(hours=1))).executions == 2
        assert (await engine.stats(datetime.now(UTC) + timedelta(hours=1))).executions == 0
        with pytest.raises(ConfigurationError, match="time zone"):
            await engine.stats(datetime(2026, 1, 1))  # noqa: DTZ001
