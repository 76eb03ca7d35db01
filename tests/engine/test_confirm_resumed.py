"""A run that waited for a person goes on where it was, and what it has done is not asked about."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import (
    Acl,
    Agent,
    AwaitingApproval,
    EffectInDoubt,
    Engine,
    IdempotencyKey,
    RunFailed,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.effects import confirming

from .conftest import World, outcomes, results, turn
from .test_confirm import _LONG, Person, kept
from .test_single_flight import until


class Overloaded(Exception):
    """The model's service has a bad day."""


class Harbour:
    """An agent that looks, ships what a person approves, and tells. ``keys``: those that shipping
    was given. ``at_work``: set while it ships, which ends once ``go`` is set."""

    def __init__(
        self,
        world: World,
        *,
        keyed: bool = False,
        lookup: Any = None,
        engine: Engine | None = None,
        **settings: Any,
    ) -> None:
        self.world, self.engine = world, engine or world.engine(**settings)
        self.keys: list[str] = []
        self.failing: set[int] = set()
        self.at_work, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()
        world.think(self.brain)

        @self.engine.tool(effect="read", version="1")
        def look() -> str:
            """Look."""
            return "fine"

        async def shipped(to: str) -> str:
            world.done.append(to)
            self.at_work.set()
            await self.go.wait()
            return f"shipped to {to}"

        if keyed:

            async def ship(to: str, *, key: Annotated[str, IdempotencyKey]) -> str:
                """Ship."""
                self.keys.append(key)
                return await shipped(to)
        else:

            async def ship(to: str) -> str:  # type: ignore[misc]
                """Ship."""
                return await shipped(to)

        declared: dict[str, Any] = {"effect": "confirm", "requires": [Acl("ship")], "version": "1"}
        self.ship = self.engine.tool(ship, **declared, lookup=lookup)
        client = AsyncAnthropic(base_url=world.server.url, api_key="test-key", max_retries=0)
        self.agent: Agent = world.agent(self.engine, [look, self.ship], client=client)

    def brain(self, body: dict[str, Any]) -> Answer:
        if turn(body) in self.failing:
            raise Overloaded
        said = [[call("look", {})], [call("ship", {"to": "eu"})], [text(f"{results(body)}")]]
        return Answer(said[turn(body)])

    async def run(self, **how: Any) -> tuple[Any, int, list[str]]:
        return await self.world.count(self.agent.execute("go", **how))

    async def waits(self, **how: Any) -> AwaitingApproval:
        """A run that ends as nobody has answered."""
        with pytest.raises(AwaitingApproval) as raised:
            await self.agent.execute("go", **how)
        return raised.value

    async def is_cut_short(self, **how: Any) -> None:
        """A run that is cancelled while it ships."""
        self.go.clear()
        self.at_work.clear()
        running = asyncio.ensure_future(self.agent.execute("go", **how))
        await self.at_work.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        self.go.set()


async def allow(engine: Engine) -> None:
    await engine.observe("acl:ship", {"allow": ["team"]})


@pytest.mark.parametrize("how", [{"run_id": "r-1"}, {}], ids=["run id", "none"])
async def test_it_goes_on_where_it_waited_once_it_is_approved(
    world: World, how: dict[str, Any]
) -> None:
    harbour = Harbour(world)
    async with harbour.engine as engine:
        await allow(engine)
        waits, asked, done = await world.count(harbour.waits(**how))
        assert (asked, done, waits.run_id) == (2, [], how.get("run_id"))
        assert waits.safe_to_retry
        still, asked, done = await world.count(harbour.waits(**how))
        assert (asked, done) == (0, []), "what it had decided is served"
        assert still.approval_id == waits.approval_id, "it asks for the same"
        await engine.approve(waits.approval_id, by="ann")
        result, asked, done = await harbour.run(**how)
        assert (asked, done) == (1, ["eu"]), "the model is asked only what it was not asked before"
        assert [it.approved_by for it in result.effects] == ["ann"]
        assert await kept(engine) == [["used", "ann", "ann", True]]


async def test_a_run_that_was_approved_is_given_back_under_its_id(world: World) -> None:
    harbour = Harbour(world)
    async with harbour.engine as engine:
        await allow(engine)
        waits = await harbour.waits(run_id="r-1")
        await engine.approve(waits.approval_id)
        first, *_ = await harbour.run(run_id="r-1")
        again, asked, done = await harbour.run(run_id="r-1")
        assert (asked, done, again.output) == (0, [], first.output)


async def test_it_goes_on_in_another_process_than_it_waited_in(world: World) -> None:
    async with Harbour(world).engine as engine:
        await allow(engine)
    first, other = Harbour(world), Harbour(world)
    async with first.engine:
        waits = await first.waits(run_id="r-1")
    async with other.engine as engine:
        await engine.approve(waits.approval_id)
        _, asked, done = await other.run(run_id="r-1")
        assert (asked, done) == (1, ["eu"])


async def test_a_denial_is_told_to_the_run_that_goes_on(world: World) -> None:
    harbour = Harbour(world)
    async with harbour.engine as engine:
        await allow(engine)
        waits = await harbour.waits(run_id="r-1")
        await engine.deny(waits.approval_id, by="bob", reason="no")
        result, asked, done = await harbour.run(run_id="r-1")
        assert (asked, done) == (1, [])
        assert "bob denied it: no" in result.output


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_denial_that_was_heard_stays_one(world: World, *, elsewhere: bool) -> None:
    """The run fails after it was told, and is called again under its id."""
    person = Person(None if elsewhere else False)
    harbour = Harbour(world, confirm=person)
    async with harbour.engine as engine:
        await allow(engine)
        if elsewhere:
            waits = await harbour.waits(run_id="r-1")
            await engine.deny(waits.approval_id, by="bob", reason="no")
        harbour.failing = {2}
        with pytest.raises(RunFailed):
            await harbour.run(run_id="r-1")
        harbour.failing = set()
        asked = len(person.asked)
        result, _, done = await harbour.run(run_id="r-1")
        assert (done, len(person.asked)) == ([], asked), "nobody is asked once more"
        assert "denied" in result.output
        with pytest.raises(AwaitingApproval) if elsewhere else nullcontext():
            await harbour.run(run_id="r-2")
        assert len(person.asked) == asked + 1, "another run asks anew"


async def test_what_is_done_is_not_asked_about_again(world: World) -> None:
    person = Person(True)
    harbour = Harbour(world, confirm=person)
    async with harbour.engine as engine:
        await allow(engine)
        harbour.failing = {2}
        with pytest.raises(RunFailed) as raised:
            await harbour.agent.execute("go", run_id="r-1")
        assert raised.value.safe_to_retry
        harbour.failing.clear()
        result, asked, done = await harbour.run(run_id="r-1")
        assert (asked, done, len(person.asked)) == (1, [], 1)
        assert [it.reused for it in result.effects] == [True]


async def test_without_an_id_it_is_confirmed_again_under_the_same_key(world: World) -> None:
    person = Person(True)
    harbour = Harbour(world, keyed=True, confirm=person)
    async with harbour.engine as engine:
        await allow(engine)
        harbour.failing = {2}
        with pytest.raises(RunFailed):
            await harbour.agent.execute("go")
        harbour.failing.clear()
        await harbour.run()
        assert len(person.asked) == 2
        assert len(harbour.keys) == 2
        assert len(set(harbour.keys)) == 1, "so the other side can tell"


async def test_one_in_doubt_begins_again_under_its_key_with_another_approval(world: World) -> None:
    person = Person(True, None)
    harbour = Harbour(world, keyed=True, confirm=person)
    async with harbour.engine as engine:
        await allow(engine)
        await harbour.is_cut_short(run_id="r-1")
        waits = await harbour.waits(run_id="r-1", wait=30)
        assert waits.safe_to_retry, "its key tells the other side"
        [doubt] = waits.in_doubt
        assert person.asked[-1].in_doubt == (doubt.id,), "who is asked is told"
        assert harbour.keys == [doubt.idempotency_key]
        await engine.approve(waits.approval_id, by="ann")
        result, _, done = await harbour.run(run_id="r-1", wait=30)
        assert done == ["eu"]
        assert harbour.keys == [doubt.idempotency_key] * 2
        [effect] = result.effects
        assert (effect.id, effect.state, effect.approved_by) == (doubt.id, "done", "ann")
        assert [it[0] for it in await kept(engine)] == ["used", "used"]


async def test_one_that_lookup_finds_is_not_asked_about(world: World) -> None:
    person = Person(True)
    harbour = Harbour(world, lookup=lambda to: f"shipped to {to}", confirm=person)
    async with harbour.engine as engine:
        await allow(engine)
        await harbour.is_cut_short(run_id="r-1")
        result, _, done = await harbour.run(run_id="r-1", wait=30)
        assert (done, len(person.asked)) == ([], 1)
        assert "shipped to eu" in result.output


async def test_one_that_lookup_does_not_find_needs_another_approval(world: World) -> None:
    person = Person(True)
    harbour = Harbour(world, lookup=lambda to: None, confirm=person)
    async with harbour.engine as engine:
        await allow(engine)
        await harbour.is_cut_short(run_id="r-1")
        _, _, done = await harbour.run(run_id="r-1", wait=30)
        assert (done, len(person.asked)) == (["eu"], 2)
        one, two = person.asked
        assert one.id != two.id


async def test_one_that_nobody_can_settle_asks_nobody(world: World) -> None:
    person = Person(True)
    harbour = Harbour(world, confirm=person)
    async with harbour.engine as engine:
        await allow(engine)
        await harbour.is_cut_short(run_id="r-1")
        with pytest.raises(RunFailed) as raised:
            await harbour.agent.execute("go", run_id="r-1", wait=30)
        assert isinstance(raised.value.__cause__, EffectInDoubt)
        [doubt] = raised.value.in_doubt
        assert not raised.value.safe_to_retry
        assert len(person.asked) == 1
        await engine.resolve(doubt.id, done=False)
        _, _, done = await harbour.run(run_id="r-1", wait=30)
        assert (done, len(person.asked)) == (["eu"], 2)


async def test_a_program_goes_on_where_it_waited(world: World) -> None:
    harbour = Harbour(world)
    async with harbour.engine as engine:
        await allow(engine)

        async def program() -> str:
            async with engine.run("program", {"a": 1}, run_id="r-1") as run:
                done = [await run.act(harbour.ship, to=to) for to in ("eu", "us")]
                run.output = [it.value for it in done]
            return f"{run.output}"

        for many in range(2):
            with pytest.raises(AwaitingApproval) as raised:
                await program()
            assert len(world.done) == many
            [approval] = raised.value.approvals
            await engine.approve(approval.id)
        assert await program() == "['shipped to eu', 'shipped to us']"
        assert world.done == ["eu", "us"]
        assert len(await kept(engine)) == 2


async def test_a_plan_asks_nobody(world: World) -> None:
    person = Person(True)
    harbour = Harbour(world, confirm=person)
    async with harbour.engine as engine:
        await allow(engine)
        await harbour.run()
        plan, asked, done = await world.count(harbour.agent.plan("go"))
        assert (asked, done, len(person.asked)) == (0, [], 1)
        assert plan.mode == "replay"


async def test_a_shadow_run_is_confirmed_as_any_other(world: World) -> None:
    person = Person(True)
    harbour = Harbour(world, confirm=person, shadow=1.0)
    async with harbour.engine as engine:
        await allow(engine)
        await harbour.run()
        result, asked, done = await harbour.run()
        assert (asked, done, len(person.asked)) == (3, ["eu"], 2)
        assert "just now" in person.asked[-1].why
        assert ("ship", "replayed") in outcomes(result)


async def test_who_waits_for_a_person_lets_equal_runs_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "_HELD_SECONDS", 0.05)
    first = Harbour(world, wait_for_approval=_LONG)
    person = Person(None)
    other = Harbour(world, wait_for_approval=_LONG, confirm=person)
    async with first.engine as engine, other.engine:
        await allow(engine)
        runs = [asyncio.ensure_future(first.agent.execute("go"))]
        await until(lambda: world.server.requests == 2)
        runs.append(asyncio.ensure_future(other.agent.execute("go")))
        await until(lambda: bool(person.asked))  # though nobody has answered the first
        assert world.done == []

        def has_done(many: int) -> bool:
            return len(world.done) == many

        for many in (1, 2):
            while not (pending := await engine.approvals()):  # noqa: ASYNC110  (as anybody sees it)
                await asyncio.sleep(0.02)
            await engine.approve(pending[0].id)
            await until(partial(has_done, many))
        await asyncio.gather(*runs)
        assert world.done == ["eu", "eu"]
