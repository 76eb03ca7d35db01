"""An effect that somebody is at still is not done by another one, whatever its lookup says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any, Literal

import pytest

from execgraph import EffectInDoubt, Engine, IdempotencyKey
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.effects import once
from execgraph.graphstore.model import EffectState

from .conftest import World, turn

_Effect = Literal["write", "once"]


@pytest.fixture
async def engine(world: World) -> AsyncIterator[Engine]:
    async with world.engine() as engine:
        yield engine


class Bank:
    """A tool that takes its time, and can say afterwards whether it has paid."""

    def __init__(self, engine: Engine, effect: _Effect) -> None:
        self.engine = engine
        self.paid: list[str] = []
        self.pays_now, self.may_pay = asyncio.Event(), asyncio.Event()

        async def find(invoice: str) -> str | None:
            return "paid" if invoice in self.paid else None

        @engine.tool(effect=effect, requires=[], lookup=find)
        async def pay(invoice: str) -> str:
            """Pay an invoice."""
            if invoice == "bad":
                raise ValueError("no such invoice")
            self.pays_now.set()
            await self.may_pay.wait()
            self.paid.append(invoice)
            return "paid"

        self.pay = pay

    async def pays(self, *invoices: str, **settings: Any) -> Any:
        task = {"invoice": invoices[0]}
        async with self.engine.run("payments", task, single_flight=False, **settings) as run:
            done = await asyncio.gather(*(run.act(self.pay, invoice=it) for it in invoices))
            run.output = [it.value for it in done]
        return run.output


async def cut_short(work: Coroutine[Any, Any, Any], begun: asyncio.Event) -> None:
    """As a time-out does, once the tool has begun."""
    task = asyncio.create_task(work)
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_once_that_is_slow_is_waited_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "PAUSES", (0.01,) * 20)
    bank = Bank(engine, "once")
    first = asyncio.create_task(bank.pays("i-1"))
    await bank.pays_now.wait()
    second = asyncio.create_task(bank.pays("i-1"))
    with pytest.raises(EffectInDoubt):
        await second
    third = asyncio.create_task(bank.pays("i-1"))
    await asyncio.sleep(0.1)
    bank.may_pay.set()
    assert [await first, await third] == [["paid"], ["paid"]]
    assert bank.paid == ["i-1"]


@pytest.mark.parametrize("effect", ["write", "once"])
async def test_what_goes_on_beside_a_failure_is_not_done_again(
    engine: Engine, effect: _Effect
) -> None:
    bank = Bank(engine, effect)
    with pytest.raises(ValueError, match="no such invoice"):
        await bank.pays("i-1", "bad", run_id="r")
    again = asyncio.create_task(bank.pays("i-1", run_id="r"))
    await asyncio.sleep(0.2)
    assert not again.done()
    bank.may_pay.set()
    assert await again == ["paid"]
    assert bank.paid == ["i-1"]


@pytest.mark.parametrize("effect", ["write", "once"])
async def test_a_thread_that_nobody_waits_for_is_at_work(world: World, effect: _Effect) -> None:
    engine, paid, may_pay = world.engine(), list[str](), threading.Event()
    loop, pays_now = asyncio.get_running_loop(), asyncio.Event()

    def find(invoice: str) -> str | None:
        return "paid" if paid else None

    @engine.tool(effect=effect, requires=[], lookup=find)
    def pay(invoice: str) -> str:
        """Pay an invoice."""
        loop.call_soon_threadsafe(pays_now.set)
        assert may_pay.wait(60)
        paid.append(invoice)
        return "paid"

    world.think(
        lambda body: Answer([text("ok") if turn(body) else call("pay", {"invoice": "i-1"})])
    )
    agent = world.agent(engine, [pay])
    async with engine:
        await cut_short(agent.execute("go", run_id="r"), pays_now)
        again = asyncio.create_task(agent.execute("go", run_id="r"))
        await asyncio.sleep(0.2)
        assert not again.done()
        may_pay.set()
        assert (await again).output == "ok"
    assert paid == ["i-1"]


@pytest.mark.parametrize("run_id", [None, "r"])
async def test_a_write_that_was_cut_short_is_tried_again_under_its_key(
    engine: Engine, run_id: str | None
) -> None:
    keys: list[str] = []
    charges_now = asyncio.Event()

    @engine.tool(effect="write", requires=[])
    async def charge(card: str, *, key: Annotated[str, IdempotencyKey]) -> str:
        """Charge a card."""
        keys.append(key)
        charges_now.set()
        await asyncio.sleep(0 if len(keys) > 1 else 60)
        return "charged"

    async with engine.run("payments", {}, run_id=run_id) as run:
        await cut_short(run.act(charge, card="c"), charges_now)
        await run.act(charge, card="c")
    assert keys[0] == keys[1]
    result = run.result
    assert {it.state for it in result.effects} == {EffectState.DONE}


async def test_a_once_that_has_failed_here_is_told_at_once(engine: Engine) -> None:
    bank: list[str] = []

    @engine.tool(effect="once", once_per="{invoice}", requires=[])
    def pay(invoice: str) -> str:
        """Pay an invoice."""
        bank.append(invoice)
        raise TimeoutError("the bank does not answer")

    async def pays() -> None:
        async with engine.run("payments", {}) as run:
            await run.act(pay, invoice="i-1")

    with pytest.raises(TimeoutError):
        await pays()
    began = time.monotonic()
    with pytest.raises(EffectInDoubt):
        await pays()
    assert time.monotonic() - began < sum(once.PAUSES)
    assert bank == ["i-1"]


async def test_values_that_read_the_same_together_are_told_apart(engine: Engine) -> None:
    sent: list[str] = []

    @engine.tool(effect="once", once_per="{task.customer}-{task.order}", requires=[])
    async def confirm() -> str:
        """Confirm an order."""
        sent.append("confirmed")
        return f"number {len(sent)}"

    told = []
    for customer, order in (("acme", "eu-7"), ("acme-eu", "7"), ("acme", "eu-7")):
        async with engine.run("orders", {"customer": customer, "order": order}) as run:
            told.append((await run.act(confirm)).value)
    assert told == ["number 1", "number 2", "number 1"]
