"""Calls that pass by the record are counted, and make a run no replay."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn
from anthropic import Anthropic, AsyncAnthropic
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from execgraph import AgentError, Engine
from execgraph.adapters import messages_api
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

    async def count_in_pool(self) -> None:
        asked = {key: value for key, value in ASK.items() if key != "max_tokens"}
        with ThreadPoolExecutor() as pool:
            await asyncio.wrap_future(pool.submit(lambda: self.sync.messages.count_tokens(**asked)))

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


@pytest.mark.parametrize("kind", ["count", "count_in_pool"])
async def test_counting_tokens_is_a_call_that_costs_nothing(world: World, kind: str) -> None:
    engine = world.engine()
    async with engine, Clients(world, engine) as clients:
        first, again = await twice(engine, clients, kind)
        assert first.recorded, "it chooses nothing"
        assert (again.tokens, again.saved_tokens, again.cost) == (0, TOKENS, 0.0)
        assert (str(again.mode), again.replayed) == ("partial", False)
        assert misses(again) == ["unrecorded call"]


@pytest.mark.parametrize("kind", ["later", "sync", "in a thread", "in a pool"])
async def test_tokens_are_counted_of_stand_ins(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, sent = world.engine(), []
    checked = messages_api._checked

    def seen(request: Request, data: bytes, *, required: Any) -> dict[str, Any]:
        sent.append(body := checked(request, data, required=required))
        return body

    monkeypatch.setattr(messages_api, "_checked", seen)
    said: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "about INC-6001"}],
        "extra_body": {"system": "INC-6001"},
    }
    async with engine, Clients(world, engine) as clients:
        count = clients.sync.messages.count_tokens
        async with engine.run("program", {"id": "INC-6001"}, opaque=["$.id"]):
            if kind == "later":
                await clients.later.messages.count_tokens(**said)
            elif kind == "sync":
                count(**said)
            elif kind == "in a thread":
                await asyncio.to_thread(lambda: count(**said))
            else:
                with ThreadPoolExecutor() as pool:
                    pool.submit(lambda: count(**said)).result()
        async with engine.run("program", {"id": "INC-6001"}):
            count(**said)
        count(**said)
    [hidden, unmarked, outside] = sent
    assert unmarked == outside == {"model": MODEL, "system": "INC-6001", "messages": [
        {"role": "user", "content": "about INC-6001"}
    ]}  # fmt: skip
    standin = hidden["system"]
    assert standin.startswith("opq_")
    assert hidden["messages"][0]["content"] == f"about {standin}"


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


# Batches ----------------------------------------------------------------------------------

BATCH = {"id": "msgbatch_1", "type": "message_batch", "processing_status": "ended"}


@pytest.fixture
def batches() -> Iterator[str]:
    """A service that takes message batches, and has their results at once."""
    result = {"custom_id": "a", "result": {"type": "errored", "error": {"type": "error"}}}

    async def answer(request: Request) -> Response:
        if request.url.path.endswith("/results"):
            return Response(json.dumps(result) + "\n", media_type="application/x-jsonl")
        return JSONResponse({**BATCH, "results_url": f"{request.url}/results"})

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.002)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


#: What is told of a call about batches, whether its run is recorded, and what a replay costs.
OF_BATCHES: dict[str, tuple[list[str], bool, float | None]] = {
    "create": (["unrecorded call"], True, None),
    "retrieve": ([], True, 0.0),
    "cancel": ([], True, 0.0),
    "results": (["unrecorded call"], False, None),
}


@pytest.mark.parametrize("api", ["messages", "beta"])
@pytest.mark.parametrize("what", OF_BATCHES)
async def test_a_batch_is_paid_when_it_is_made_and_its_results_may_steer(
    world: World, batches: str, api: str, what: str
) -> None:
    told, recorded, cost = OF_BATCHES[what]
    engine = world.engine()
    middleware = engine.middleware()

    async def use(made: AsyncAnthropic) -> None:
        messages: Any = made.messages if api == "messages" else made.beta.messages
        if what == "create":
            await messages.batches.create(requests=[{"custom_id": "a", "params": ASK}])
        elif what == "results":
            lines = await messages.batches.results("msgbatch_1")
            assert [line.custom_id async for line in lines] == ["a"]
        else:
            await getattr(messages.batches, what)("msgbatch_1")

    async with (
        engine,
        Clients(world, engine) as clients,
        AsyncAnthropic(base_url=batches, api_key="x", middleware=[middleware]) as made,
    ):
        results = []
        for _ in range(2):
            async with engine.run("program", "go") as run:
                await clients.later.messages.create(**ASK)
                await use(made)
            results.append(run.result)
    first, again = results
    assert first.recorded == recorded
    assert set(told) <= set(misses(again))
    assert again.replayed == (told == [])
    if recorded:
        assert (again.tokens, again.cost, misses(again)) == (0, cost, told)


async def test_a_batch_that_says_a_marked_value_is_refused(world: World, batches: str) -> None:
    engine = world.engine()

    def asked(custom_id: str, content: str) -> Any:
        said = {**ASK, "messages": [{"role": "user", "content": content}]}
        return [{"custom_id": custom_id, "params": said}]

    async with (
        engine,
        AsyncAnthropic(base_url=batches, api_key="x", middleware=[engine.middleware()]) as made,
    ):
        async with engine.run("program", {"id": "INC-6001"}, opaque=["$.id"]):
            create = made.messages.batches.create
            await create(requests=asked("a", "hi"))
            for saying in (asked("a", "about INC-6001"), asked("INC-6001", "hi")):
                with pytest.raises(AgentError, match="make it outside of the run"):
                    await create(requests=saying)
        await create(requests=asked("INC-6001", "about INC-6001"))


def _nobody() -> Any:
    import contextvars

    return contextvars.Context()
