"""Who calls a task again in the process in which it failed is about the same wish, however it was
left: also while its failure is being kept, and where that could not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

from execgraph import IdempotencyKey, Result
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.outcome.events import RunWaits
from execgraph.engine.sessions import at_work
from execgraph.graphstore.errors import StoreUnavailable

from .conftest import World, misses, turn

NAMED: list[dict[str, Any]] = [{}, {"run_id": "r-1"}]


class Till:
    """A program and an agent that pay. ``keys``: what their tool was given; ``hangs``: it does not
    come to its end; ``paying``: set once it is called."""

    def __init__(self, world: World) -> None:
        self.engine = world.engine()
        self.keys: list[str] = []
        self.hangs = False
        self.paying = asyncio.Event()

        @self.engine.tool(effect="write", requires=[])
        async def pay(cents: int, *, key: Annotated[str, IdempotencyKey]) -> str:
            """Pay."""
            self.keys.append(key)
            self.paying.set()
            if self.hangs:
                await asyncio.Event().wait()
            return "paid"

        self.pay = pay
        world.think(paying_once)
        self.agent = world.agent(self.engine, [pay])

    async def by_program(self, **named: Any) -> Result:
        async with self.engine.run("till", {"n": 1}, **named) as run:
            await run.act(self.pay, cents=5)
        assert run.result is not None
        return run.result

    async def by_agent(self, **named: Any) -> Result:
        return await self.agent.execute("go", **named)

    def run(self, who: str, **named: Any) -> asyncio.Task[Result]:
        by = {"program": self.by_program, "agent": self.by_agent}[who]
        return asyncio.ensure_future(by(**named))

    @asynccontextmanager
    async def hanging(self, who: str, **named: Any) -> AsyncIterator[asyncio.Task[Result]]:
        """A run whose tool hangs until the block has ended."""
        self.hangs = True
        self.paying.clear()
        run = self.run(who, **named)
        await self.paying.wait()
        yield run
        self.hangs = False


def paying_once(body: dict[str, Any]) -> Answer:
    return Answer([text("done")] if turn(body) else [call("pay", {"cents": 5})])


async def cancelled(run: asyncio.Task[Result]) -> None:
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("who", ["program", "agent"])
@pytest.mark.parametrize("open_again", [False, True])
async def test_one_that_fails_after_its_engine_was_left_is_not_at_work(
    world: World, who: str, named: dict[str, Any], *, open_again: bool
) -> None:
    till = Till(world)
    async with till.engine:
        entered = till.hanging(who, **named)
        run = await entered.__aenter__()
    if not open_again:
        await cancelled(run)
    async with till.engine:
        if open_again:
            await cancelled(run)
        await entered.__aexit__(None, None, None)
        await asyncio.wait_for(till.run(who, **named), 20)
    hung, again = till.keys
    assert again == hung
    assert not at_work._HERE


@pytest.mark.parametrize("named", NAMED)
async def test_a_task_that_is_remembered_is_so_after_a_failure_that_could_not_be_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, named: dict[str, Any]
) -> None:
    async def away(*_: Any) -> None:
        raise StoreUnavailable("the store is away")

    till = Till(world)
    async with till.engine:
        for _ in range(2):
            await till.by_program()
        with monkeypatch.context() as patched:
            patched.setattr(till.engine.session().store, "write", away)
            async with till.hanging("program", **named) as run:
                await cancelled(run)
            await asyncio.sleep(0.1)
        await till.by_program(**named)
        await till.by_program()
    *before, hung, again, after = till.keys
    assert again == hung
    assert len({*before, hung, after}) == 4


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("who", ["program", "agent"])
@pytest.mark.parametrize("remembered", [False, True])
async def test_one_that_was_cancelled_is_tried_again_once_that_is_kept(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
    named: dict[str, Any],
    *,
    remembered: bool,
) -> None:
    """As ``asyncio.timeout`` does, whose caller does not wait for the store."""
    till = Till(world)
    async with till.engine:
        for _ in range(2 if remembered else 0):
            await till.run(who)
        store, may = till.engine.session().store, asyncio.Event()
        write = store.write

        async def late(recording: Any) -> Any:
            await may.wait()
            return await write(recording)

        monkeypatch.setattr(store, "write", late)
        async with till.hanging(who, **named) as run:
            await cancelled(run)
        again = till.run(who, **named)
        await asyncio.sleep(0.2)
        waits = not again.done()
        may.set()
        await again
    assert waits
    assert len(till.keys) == (4 if remembered else 2)
    assert till.keys[-1] == till.keys[-2]
    assert not at_work._FAILING


async def test_no_retry_waits_for_a_failure_that_nobody_keeps(world: World) -> None:
    """Who cancels all tasks cancels that one, too, before it has begun."""
    till = Till(world)
    loop = asyncio.get_running_loop()

    def cancel_new_ones() -> None:
        for it in asyncio.all_tasks() - others:
            it.cancel()
        if not run.done():
            loop.call_soon(cancel_new_ones)

    async with till.engine:
        async with till.hanging("program") as run:
            others = asyncio.all_tasks()
            cancel_new_ones()
            await cancelled(run)
        await asyncio.wait_for(till.by_program(), 20)
    assert not at_work._FAILING
    assert till.keys[0] == till.keys[1]


async def test_a_call_beside_one_that_fails_is_another_wish(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two callers want the same, and each is to get it; who tries again is about the first."""
    till = Till(world)
    async with till.engine:
        store, called, failed = till.engine.session().store, asyncio.Event(), asyncio.Event()
        unfinished = store.unfinished

        async def late(*how: Any, **more: Any) -> Any:
            called.set()
            await failed.wait()
            return await unfinished(*how, **more)

        async with till.hanging("program") as first:
            monkeypatch.setattr(store, "unfinished", late)
            second = till.run("program", single_flight=False)
            await called.wait()
        await cancelled(first)
        while at_work._FAILING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        failed.set()
        assert misses(await second)[0] == "unfinished run", "it is told of"
        await till.by_program()
    assert till.keys[0] == till.keys[2] != till.keys[1]


@pytest.mark.parametrize("named", [{}, {"idempotency": "i-1"}])
async def test_so_is_one_that_waited_for_it_in_another_process(
    world: World, monkeypatch: pytest.MonkeyPatch, named: dict[str, Any]
) -> None:
    """Unless both say that they are one."""
    one, other = Till(world), Till(world)
    waits = asyncio.Event()
    other.engine.subscribe(lambda event: waits.set() if isinstance(event, RunWaits) else None)
    async with one.engine, other.engine:
        monkeypatch.setattr(at_work.AtWork, "here", lambda _: ())
        async with one.hanging("agent", **named) as first:
            second = other.run("agent", **named)
            await waits.wait()
            await asyncio.sleep(0.2)
        await cancelled(first)
        await second
        await one.run("agent", **named)
    assert one.keys[0] == one.keys[1]
    assert (other.keys[0] == one.keys[0]) == bool(named)
