"""Calls that pass by the record are counted, and make a run no replay."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, text
from execgraph.engine.outcome.result import Result
from execgraph.tests.models import MODEL

from .conftest import World, misses

ASK: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}
TOKENS = 110


class Clients:
    """A client of each kind, whose calls go through the engine's middleware."""

    def __init__(self, world: World, engine: Engine) -> None:
        world.think(lambda _: Answer([text("hello")], usage=(100, 10)))
        known: dict[str, Any] = {
            "base_url": world.server.url,
            "api_key": "x",
            "middleware": [engine.middleware()],
        }
        self.later = AsyncAnthropic(**known)
        self.sync = Anthropic(**known)

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.later.close()
        self.sync.close()

    async def pool(self) -> None:
        with ThreadPoolExecutor() as pool:
            await asyncio.wrap_future(pool.submit(lambda: self.sync.messages.create(**ASK)))

    async def pool_stream(self) -> None:
        def work() -> None:
            with self.sync.messages.stream(**ASK) as stream:
                stream.get_final_message()

        with ThreadPoolExecutor() as pool:
            await asyncio.wrap_future(pool.submit(work))

    async def count(self) -> None:
        asked = {key: value for key, value in ASK.items() if key != "max_tokens"}
        await self.later.messages.count_tokens(**asked)


async def twice(engine: Engine, clients: Clients, kind: str) -> list[Result]:
    """The results of two runs that make a recorded call, and one of this kind."""
    found = []
    for _ in range(2):
        async with engine.run("program", "go") as run:
            await clients.later.messages.create(**ASK)
            await getattr(clients, kind)()
        found.append(run.result)
    return found


@pytest.mark.parametrize("kind", ["pool", "pool_stream"])
async def test_a_call_that_is_not_recorded_is_paid_each_time_and_told(
    world: World, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "execgraph")
    engine = world.engine()
    async with engine, Clients(world, engine) as clients:
        first, again = await twice(engine, clients, kind)
        assert (first.tokens, again.replayed, again.identical) == (2 * TOKENS, False, False)
        assert "unrecorded call" in misses(again)
        # Nothing is published of such a run, so the other call is paid again too.
        assert (again.tokens, again.cost) == (2 * TOKENS, first.cost)
        stats = await engine.stats()
        assert stats.missed_calls["unrecorded call"] == 2
        assert stats.misses["unrecorded call"] == 2 * TOKENS
        assert stats.tokens == 4 * TOKENS
    told = [it for it in caplog.records if "paid at each replay" in it.getMessage()]
    assert len(told) == 1, "once for each kind"


async def test_counting_tokens_is_a_call_that_costs_nothing(world: World) -> None:
    engine = world.engine()
    async with engine, Clients(world, engine) as clients:
        first, again = await twice(engine, clients, "count")
        assert first.recorded, "it chooses nothing"
        assert (again.tokens, again.saved_tokens, again.cost) == (0, TOKENS, 0.0)
        assert (str(again.mode), again.replayed) == ("partial", False)
        assert misses(again) == ["unrecorded call"]


async def test_of_several_open_runs_none_can_say_that_it_did_not_make_the_call(
    world: World,
) -> None:
    engine = world.engine()
    async with (
        engine,
        Clients(world, engine) as clients,
        engine.run("one", "go") as one,
        engine.run("two", "go") as two,
    ):
        await clients.pool()
    for run in (one, two):
        assert (run.result.replayed, run.result.recorded) == (False, False)
        assert (run.result.tokens, run.result.cost) == (0, None), "what it paid is not known"


async def test_a_call_outside_any_run_is_nobodys(world: World) -> None:
    engine = world.engine()
    async with engine, Clients(world, engine) as clients:
        async with engine.run("program", "go") as run:
            await asyncio.create_task(clients.count(), context=_nobody())
        assert run.result.miss == ()
        await clients.pool()


def _nobody() -> Any:
    import contextvars

    return contextvars.Context()
