"""Idempotency keys are the same for the same step of the same wish, and others for other wishes."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from execgraph import Agent, IdempotencyKey, NotPerformed, RunFailed
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.graphstore.model import EffectState
from execgraph.tests.models import MODEL

from .conftest import World, misses, results, turn


class Payer:
    """An agent that pays an invoice, in another process than others of its kind. ``keys``: what
    its tool was given; ``fail``: what happens in it."""

    def __init__(self, world: World, *, keyed: bool = True) -> None:
        self.world, self.engine = world, world.engine()
        self.keys: list[str] = []
        self.fail: Callable[[], None] | None = None

        def paid(key: str) -> str:
            self.keys.append(key)
            if self.fail is not None:
                self.fail()
            return "paid"

        if keyed:

            def pay(cents: int, *, key: Annotated[str, IdempotencyKey]) -> str:
                """Pay."""
                return paid(f"{key}")
        else:

            def pay(cents: int) -> str:  # type: ignore[misc]
                """Pay."""
                return paid("none")

        tool = self.engine.tool(pay, effect="write", requires=[])
        world.think(brain)
        self.agent: Agent = world.agent(self.engine, [tool])

    async def pay(self, task: str = "go", **options: Any) -> Any:
        return await self.agent.execute(task, **options)

    async def failed(self, task: str = "go", **options: Any) -> None:
        def fail() -> None:
            raise KeyboardInterrupt

        self.fail = fail
        with pytest.raises(KeyboardInterrupt):
            await self.pay(task, **options)
        self.fail = None


def brain(body: dict[str, Any]) -> Answer:
    if turn(body) == 0:
        return Answer([call("pay", {"cents": 5})])
    return Answer([text(f"said: {results(body)}")])


async def test_a_retry_of_a_failed_run_has_its_keys(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    payer = Payer(world)
    async with payer.engine:
        for _ in range(3):
            await payer.failed()
        caplog.set_level(logging.WARNING, "execgraph")
        caplog.clear()
        result = await payer.pay()
        assert misses(result)[0] == "unfinished run"
        assert 'pay {"cents":5} may have been done' in str(result.miss[0])
        assert "unfinished run" in caplog.text
        assert await payer.engine.session().store.doubts() == [], "its key says that it happened"
        again = await payer.pay()
        assert misses(again) == []
    assert len(set(payer.keys[:4])) == 1
    assert payer.keys[4] not in payer.keys[:4], "who finished is not tried again"


async def test_so_has_one_in_another_process_that_remembers_the_task(world: World) -> None:
    """It is told at once, though this process could replay what it remembers."""
    one, other = Payer(world), Payer(world)
    async with one.engine, other.engine:
        await other.pay()
        assert (await other.pay()).replayed
        await one.failed()
        again = await other.pay()
        assert again.replayed
        assert misses(again) == ["unfinished run"]
        assert other.keys[-1] == one.keys[-1]
        last = await other.pay()
        assert misses(last) == []
        assert other.keys[-1] not in one.keys
        assert len(set(other.keys)) == 4


async def test_a_second_call_beside_one_that_lives_is_another_wish(world: World) -> None:
    one, other = Payer(world), Payer(world)
    reached, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(reached.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)

    one.fail = hold
    async with one.engine, other.engine:
        first = asyncio.ensure_future(one.pay())
        await reached.wait()
        second = await other.pay(single_flight=False, resume="off")
        assert misses(second) == ["new task"]
        release.set()
        await first
    assert not set(one.keys) & set(other.keys)


async def test_one_that_ends_while_it_is_looked_for_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept was read before it ended, and who is at work is asked after that."""
    one, other = Payer(world), Payer(world)
    async with one.engine, other.engine:
        store = other.engine.session().store
        unfinished, begun, end = store.unfinished, asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold() -> None:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(end.wait(), loop).result(30)

        async def late(task: str, **how: Any) -> Any:
            found = await unfinished(task, **how)
            end.set()
            await first
            return found

        one.fail = hold
        first = asyncio.ensure_future(one.pay())
        await begun.wait()
        monkeypatch.setattr(store, "unfinished", late)
        second = await other.pay(single_flight=False)
        assert "unfinished run" not in misses(second)
    assert not set(one.keys) & set(other.keys)


async def test_other_tasks_and_arguments_have_other_keys(world: World) -> None:
    payer = Payer(world)
    async with payer.engine:
        await payer.failed("one")
        await payer.failed("two")
        world.think(
            lambda body: (
                Answer([call("pay", {"cents": 6})]) if turn(body) == 0 else Answer([text("done")])
            )
        )
        result = await payer.pay("one", resume="off")
        assert misses(result)[0] == "unfinished run"
        left = await payer.engine.session().store.doubts()
        assert {it.idempotency_key for it in left} == set(payer.keys[:2]), "neither was repeated"
    assert len(set(payer.keys)) == 3


async def test_equal_calls_of_a_run_have_keys_of_their_own(world: World) -> None:
    payer = Payer(world)
    world.think(
        lambda body: (
            Answer([call("pay", {"cents": 5}), call("pay", {"cents": 5})])
            if turn(body) < 2
            else Answer([text("done")])
        )
    )
    async with payer.engine:
        await payer.pay(run_id="r-1")
        assert len(set(payer.keys)) == 4
        await payer.pay()
        assert len(set(payer.keys)) == 8


@pytest.mark.parametrize("named", [{"idempotency": "i-1"}, {"run_id": "i-1"}, {}])
async def test_a_call_that_is_repeated_after_an_error_has_the_same_key(
    world: World, named: dict[str, Any]
) -> None:
    payer = Payer(world)
    world.think(
        lambda body: (
            Answer([call("pay", {"cents": 5})])
            if turn(body) < 2
            else Answer([text(f"{results(body)[1]}")])
        )
    )

    def fail() -> None:
        payer.fail = None
        raise TimeoutError

    payer.fail = fail
    async with payer.engine:
        result = await payer.pay(**named)
        assert result.output == "paid"
        assert len(payer.keys) == 2
        assert len(set(payer.keys)) == 1
        assert await payer.engine.session().store.doubts() == []
        assert {it.state for it in result.effects} == {EffectState.DONE}


async def test_what_was_not_performed_is_done_under_its_key(world: World) -> None:
    payer = Payer(world)

    def fail() -> None:
        raise NotPerformed("the till is closed")

    payer.fail = fail
    async with payer.engine:
        await payer.pay(run_id="r-1")
        payer.fail = None
        await payer.pay(run_id="r-2")
    assert len(set(payer.keys)) == 2


async def test_the_caller_may_say_what_is_one_wish(world: World) -> None:
    payer = Payer(world)
    async with payer.engine:
        await payer.pay(idempotency="i-1")
        await payer.pay(idempotency="i-1")
        await payer.pay("another", idempotency="i-1")
        await payer.pay(idempotency="i-2")
        assert len(set(payer.keys[:3])) == 1
        assert payer.keys[3] != payer.keys[0]
        await payer.failed()
        await payer.pay(idempotency="i-2")
        assert payer.keys[5] == payer.keys[3], "and takes up no other"
        await payer.pay()
        assert payer.keys[6] == payer.keys[4]


async def test_a_run_with_an_id_is_not_taken_up_by_one_without(world: World) -> None:
    payer = Payer(world)
    async with payer.engine:
        await payer.failed(run_id="r-1")
        result = await payer.pay()
        assert "with the run id 'r-1'" in str(result.miss[0])
        assert payer.keys[1] != payer.keys[0]
        await payer.pay(run_id="r-1")
        assert payer.keys[2] == payer.keys[0]


async def test_so_has_one_that_meets_first_what_has_happened_once(world: World) -> None:
    payer = Payer(world)

    @payer.engine.tool(effect="once", requires=[], once_per="{order}")
    def reserve(order: str) -> str:
        """Reserve."""
        world.done.append(order)
        return "reserved"

    def reserves_first(body: dict[str, Any]) -> Answer:
        tools = [call("reserve", {"order": "o-1"}), call("pay", {"cents": 5})]
        return Answer([tools[turn(body)]] if turn(body) < 2 else [text("done")])

    world.think(reserves_first)
    tools = [*payer.agent.tools.values(), reserve]
    payer.agent = world.agent(payer.engine, tools, name="reserver")
    async with payer.engine:
        await payer.pay("another")
        await payer.failed()
        await payer.pay()
    assert world.done == ["o-1"]
    assert payer.keys[1] == payer.keys[2] != payer.keys[0]


async def test_without_a_key_what_is_in_doubt_stays_so(world: World) -> None:
    payer = Payer(world, keyed=False)
    async with payer.engine:
        await payer.failed()
        result = await payer.pay()
        assert misses(result)[0] == "unfinished run"
        assert len(payer.keys) == 2
        [left] = await payer.engine.session().store.doubts()
        assert left.execution != result.execution_id


async def test_who_failed_tells_what_it_did(world: World) -> None:
    payer = Payer(world)
    world.think(lambda _: Answer([call("pay", {"cents": 5})]))
    agent = world.agent(payer.engine, [*payer.agent.tools.values()], max_turns=2, name="other")
    async with payer.engine:
        with pytest.raises(RunFailed) as raised:
            await agent.execute("go")
        assert len(raised.value.effects) == 2
        assert not raised.value.safe_to_retry
        with pytest.raises(RunFailed) as raised:
            await agent.execute("go", run_id="r-1")
        assert raised.value.safe_to_retry, "under its id"
        with pytest.raises(RunFailed) as raised:
            await agent.execute("go", run_id="r-1")
        assert len(raised.value.effects) == 2
        assert len(payer.keys) == 4


CHILD = """
import asyncio, sys, time
from pathlib import Path
from typing import Annotated
from anthropic import AsyncAnthropic
from execgraph import Engine, IdempotencyKey

engine = Engine({url!r}, namespace={namespace!r})

def pay(cents: int, *, key: Annotated[str, IdempotencyKey]) -> str:
    "Pay."
    print(key, flush=True)
    time.sleep(60)
    return "paid"

async def main():
    client = AsyncAnthropic(base_url={server!r}, api_key="test-key")
    tool = engine.tool(pay, effect="write", requires=[], version="1")
    agent = engine.agent("deployer", client=client, model={model!r}, system="s", tools=[tool])
    async with engine:
        await agent.execute("go")

asyncio.run(main())
"""


async def test_a_process_that_was_killed_is_told_of_at_once(world: World) -> None:
    payer = Payer(world)
    names = {"url": world.url, "namespace": world.namespace, "server": world.server.url}
    code = textwrap.dedent(CHILD).format(**names, model=MODEL)
    async with payer.engine:
        await payer.pay()
        child = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        key = (await asyncio.to_thread(child.stdout.readline)).strip()
        beside = await payer.pay()
        assert misses(beside) == []
        assert key not in payer.keys, "it lives"
        child.kill()
        await asyncio.to_thread(child.wait)
        child.stdout.close()
        result = await payer.pay()
        assert misses(result) == ["unfinished run"]
        assert payer.keys[-1] == key
