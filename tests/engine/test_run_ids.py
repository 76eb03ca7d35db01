"""A run that is called again under its id goes on where it was, and does nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import (
    Acl,
    Agent,
    AgentError,
    EffectInDoubt,
    IdempotencyKey,
    Json,
    Mode,
    NotPerformed,
    RunFailed,
    RunIdReused,
    RunInProgress,
    RunLost,
    ToolError,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.sessions import at_work
from execgraph.graphstore.model import EffectState, ExecutionState, Wish, new_id

from .conftest import World, misses, outcomes, results, turn

Ledger = dict[str, list[str]]


class Overloaded(Exception):
    """The model's service has a bad day."""


class Shop:
    """An agent that reads, ships two orders one after another, and tells; what is done is in a
    ledger, by idempotency key. ``fail``: what goes wrong at which place."""

    def __init__(self, world: World, *, keyed: bool = True, **declared: Any) -> None:
        self.world, self.engine = world, world.engine()
        self.ledger: Ledger = {}
        self.fail: dict[str, Callable[[], None]] = {}
        self.stock = 5
        world.think(self.brain)
        client = AsyncAnthropic(base_url=world.server.url, api_key="test-key", max_retries=0)

        @self.engine.tool(effect="read")
        def stock(item: str) -> int:
            """How many there are."""
            world.done.append(f"stock {item}")
            self._fail("stock")
            return self.stock

        def shipped(order: str, key: str) -> str:
            self._fail(f"before {order}")
            world.done.append(f"ship {order}")
            self.ledger.setdefault(key, []).append(order)
            self._fail(f"after {order}")
            return f"shipped {order}"

        if keyed:

            def ship(order: str, *, key: Annotated[str, IdempotencyKey]) -> str:
                """Ship an order."""
                return shipped(order, key)
        else:

            def ship(order: str) -> str:  # type: ignore[misc]
                """Ship an order."""
                return shipped(order, order)

        options = {"effect": "write", "requires": [Acl("ship")], **declared}
        tools = [stock, self.engine.tool(ship, **options)]
        self.agent: Agent = world.agent(self.engine, tools, client=client)

    def _fail(self, place: str) -> None:
        if (failing := self.fail.get(place)) is not None:
            failing()

    def brain(self, body: dict[str, Any]) -> Answer:
        self._fail(f"turn {turn(body)}")
        match turn(body):
            case 0:
                return Answer([call("stock", {"item": "lamp"})])
            case 1:
                return Answer([call("ship", {"order": f"a{results(body)[0]}"})])
            case 2:
                return Answer([call("ship", {"order": "b"})])
            case _:
                return Answer([text(f"done: {results(body)}")])

    async def run(self, run_id: str | None = "r-1", **options: Any) -> tuple[Any, int, list[str]]:
        work = self.agent.execute("go", run_id=run_id, **options)
        return await self.world.count(work)

    async def failed(self, run_id: str | None = "r-1", **options: Any) -> RunFailed:
        with pytest.raises(RunFailed) as raised:
            await self.run(run_id, **options)
        return raised.value

    @property
    def shipped(self) -> dict[str, int]:
        """How often each order was shipped under one key."""
        return {orders[0]: len(orders) for orders in self.ledger.values()}


def overloaded() -> None:
    raise Overloaded


async def test_a_finished_run_gives_its_result_and_runs_nothing(world: World) -> None:
    shop = Shop(world)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)
        first, asked, _ = await shop.run()
        assert (asked, first.mode) == (4, Mode.LIVE)
        for engine in (shop, Shop(world)):
            async with engine.engine:
                again, asked, done = await engine.run()
                assert (asked, done) == (0, [])
                assert again.mode is Mode.RETURNED
                assert again.output == first.output
                assert again.execution_id == first.execution_id
                assert again.tokens == 0
                assert again.saved_tokens == first.tokens
                assert [(it.idempotency_key, it.reused) for it in again.effects] == [
                    (it.idempotency_key, True) for it in first.effects
                ]
        _, asked, done = await shop.run("r-2")
        assert (asked, done) == (0, ["stock lamp", "ship a5", "ship b"]), "another wish"
        assert shop.shipped == {"a5": 1, "b": 1}
        assert len(shop.ledger) == 4


async def test_what_was_done_stands_and_is_not_done_again(world: World) -> None:
    shop = Shop(world)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)
        shop.fail["turn 3"] = overloaded
        failure = await shop.failed()
        assert [it.tool for it in failure.effects] == ["ship", "ship"]
        assert failure.run_id == "r-1"
        assert failure.safe_to_retry
        shop.fail.clear()
        shop.stock = 1  # what was read stands, too
        result, asked, done = await shop.run()
        assert (asked, done) == (1, [])
        assert result.output == "done: [5, 'shipped a5', 'shipped b']"
        assert result.mode is Mode.PARTIAL
        assert outcomes(result) == [
            ("?", "replayed"),
            ("stock", "reused"),
            ("?", "replayed"),
            ("ship", "reused"),
            ("?", "replayed"),
            ("ship", "reused"),
            ("?", "asked"),
        ]
        assert [(it.tool, it.reused) for it in result.effects] == [("ship", True)] * 2
        assert result.recorded
    assert shop.shipped == {"a5": 1, "b": 1}


async def test_a_run_that_fails_again_and_again_pays_each_step_once(world: World) -> None:
    shop = Shop(world)
    asked = []
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)
        for place in ("turn 1", "turn 2", "turn 2", "turn 3", "turn 3"):
            shop.fail = {place: overloaded}
            _, requests, _ = await world.count(shop.failed())
            asked.append(requests)
        shop.fail.clear()
        _, requests, _ = await shop.run()
        assert [*asked, requests] == [2, 2, 1, 2, 1, 1]
    assert shop.shipped == {"a5": 1, "b": 1}


async def test_the_last_run_is_not_told_by_clocks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine that goes on is an hour behind the one that began."""
    shop = Shop(world)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)
        shop.fail = {"turn 2": overloaded}
        await shop.failed()
        shop.fail = {"turn 3": overloaded}
        with monkeypatch.context() as patched:
            patched.setattr(at_work, "new_id", lambda ms: new_id(ms - 3_600_000))
            await shop.failed()
        shop.fail.clear()
        await shop.engine.observe("acl:ship", 2)  # what led to an effect stands all the same
        _, asked, done = await shop.run()
        assert (asked, done) == (1, [])
    assert shop.shipped == {"a5": 1, "b": 1}


@pytest.mark.parametrize("place", ["before a5", "after a5", "before b", "after b"])
async def test_what_is_in_doubt_is_called_again_with_its_key(world: World, place: str) -> None:
    shop = Shop(world)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)
        hanging = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hang() -> None:
            loop.call_soon_threadsafe(hanging.set)
            raise KeyboardInterrupt

        shop.fail[place] = hang
        with pytest.raises(KeyboardInterrupt):
            await shop.run()
        shop.fail.clear()
        result, asked, _ = await shop.run()
        assert asked == (1 if place.endswith(" b") else 2)
        assert result.output == "done: [5, 'shipped a5', 'shipped b']"
        keys = {it.idempotency_key for it in result.effects}
        assert keys == set(shop.ledger)
        doubts = await shop.engine.session().store.doubts()
        assert doubts == [], "it is settled"
    assert sorted(orders[0] for orders in shop.ledger.values()) == ["a5", "b"]


@pytest.mark.parametrize("place", ["before a5", "after a5"])
async def test_without_a_key_it_is_raised_and_a_person_settles_it(world: World, place: str) -> None:
    shop = Shop(world, keyed=False)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)

        def hang() -> None:
            raise KeyboardInterrupt

        shop.fail[place] = hang
        with pytest.raises(KeyboardInterrupt):
            await shop.run()
        shop.fail.clear()
        failures = [await shop.failed() for _ in range(2)]
        for failure in failures:
            assert isinstance(failure.__cause__, EffectInDoubt)
            assert "execgraph resolve" in str(failure)
            assert not failure.safe_to_retry
        [effect] = failures[0].in_doubt
        done = "a5" in shop.ledger
        await shop.engine.resolve(effect.id, done=done, output="shipped a5" if done else None)
        result, asked, _ = await shop.run()
        assert asked == 2
        assert result.output == "done: [5, 'shipped a5', 'shipped b']"
    assert shop.shipped == {"a5": 1, "b": 1}


@pytest.mark.parametrize("place", ["before a5", "after a5"])
@pytest.mark.parametrize("how", ["async", "sync", "raises"])
async def test_a_lookup_says_whether_it_happened(world: World, place: str, how: str) -> None:
    ledger: Ledger = {}

    def find(order: str) -> str | None:
        if order not in ledger and how == "raises":
            raise NotPerformed("there is none")
        return f"shipped {order}" if order in ledger else None

    async def finding(order: str) -> str | None:
        return find(order)

    shop = Shop(world, keyed=False, lookup=finding if how == "async" else find)
    shop.ledger = ledger
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)

        def hang() -> None:
            raise KeyboardInterrupt

        shop.fail[place] = hang
        with pytest.raises(KeyboardInterrupt):
            await shop.run()
        shop.fail.clear()
        result, asked, _ = await shop.run()
        assert asked == 2
        assert result.output == "done: [5, 'shipped a5', 'shipped b']"
    assert shop.shipped == {"a5": 1, "b": 1}


async def test_a_lookup_that_fails_leaves_it_in_doubt(world: World) -> None:
    def find(key: str) -> str | None:
        raise ConnectionError(key)

    shop = Shop(world, lookup=find)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)

        def hang() -> None:
            raise KeyboardInterrupt

        shop.fail["after a5"] = hang
        with pytest.raises(KeyboardInterrupt):
            await shop.run()
        shop.fail.clear()
        failure = await shop.failed()
        assert isinstance(failure.__cause__, EffectInDoubt)
        assert isinstance(failure.__cause__.__cause__, ConnectionError)
    assert shop.shipped == {"a5": 1}


def test_a_lookup_takes_what_the_tool_takes(world: World) -> None:
    def find(shipment: str) -> str | None:
        raise AssertionError(shipment)

    with pytest.raises(ToolError, match="takes shipment, which the tool does not"):
        Shop(world, lookup=find)
    with pytest.raises(ToolError, match="leave it out"):
        Shop(world, lookup=lambda: None, effect="read")
    with pytest.raises(ToolError, match="give a function"):
        Shop(world, lookup=5)


async def test_facts_that_moved_are_looked_at_again(world: World) -> None:
    """What was done stays, what comes is decided under what is now, and it is no trace."""
    shop = Shop(world)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)
        shop.fail["turn 2"] = overloaded
        await shop.failed()
        shop.fail.clear()
        await shop.engine.observe("acl:ship", 2)
        result, asked, done = await shop.run()
        assert (asked, done) == (2, ["ship b"])
        assert not result.recorded
        assert "precondition changed" in misses(result)
    assert shop.shipped == {"a5": 1, "b": 1}


@pytest.mark.parametrize("place", ["before a5", "after a5"])
async def test_what_is_in_doubt_is_not_done_under_other_facts(world: World, place: str) -> None:
    shop = Shop(world)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)

        def hang() -> None:
            raise KeyboardInterrupt

        shop.fail[place] = hang
        with pytest.raises(KeyboardInterrupt):
            await shop.run()
        shop.fail.clear()
        await shop.engine.observe("acl:ship", 2)
        before = len(shop.ledger)
        failure = await shop.failed()
        assert isinstance(failure.__cause__, EffectInDoubt)
        assert len(shop.ledger) == before
        await shop.engine.observe("acl:ship", 1)
        await shop.run()
    assert sorted(orders[0] for orders in shop.ledger.values()) == ["a5", "b"]


async def test_code_that_changed_goes_on_from_what_was_done(world: World) -> None:
    shop = Shop(world)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)
        shop.fail["turn 2"] = overloaded
        await shop.failed()
        changed = Shop(world, version="2")
        changed.ledger = shop.ledger
        async with changed.engine:
            result, asked, done = await changed.run()
            assert (asked, done) == (2, ["ship b"])
            assert not result.recorded
            assert "code changed" in misses(result)
    assert shop.shipped == {"a5": 1, "b": 1}


async def test_a_tool_that_is_gone_stops_what_it_has_begun(world: World) -> None:
    shop = Shop(world)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)

        def hang() -> None:
            raise KeyboardInterrupt

        shop.fail["after a5"] = hang
        with pytest.raises(KeyboardInterrupt):
            await shop.run()
        other = world.engine()
        agent = world.agent(other, [])
        async with other:
            with pytest.raises(EffectInDoubt):
                await agent.execute("go", run_id="r-1")
        shop.fail.clear()
        await shop.run()
    assert sorted(orders[0] for orders in shop.ledger.values()) == ["a5", "b"]


async def test_an_id_belongs_to_one_task(world: World) -> None:
    shop = Shop(world)
    async with shop.engine:
        await shop.engine.observe("acl:ship", 1)
        await shop.run()
        with pytest.raises(RunIdReused, match="belongs to another task"):
            await shop.agent.execute("another", run_id="r-1")
        with pytest.raises(RunIdReused):
            async with shop.engine.run("program", "go", run_id="r-1"):
                raise AssertionError
        with pytest.raises(AgentError, match="run_id='' is empty"):
            await shop.agent.execute("go", run_id="")
        with pytest.raises(AgentError, match="is no text"):
            await shop.agent.execute("go", run_id="\ud800")
        with pytest.raises(AgentError, match="contradict each other"):
            await shop.agent.execute("go", run_id="r-1", resume="off")
        with pytest.raises(AgentError, match="or idempotency="):
            await shop.agent.execute("go", run_id="r-1", idempotency="i")
        with pytest.raises(AgentError, match="no number of seconds"):
            await shop.agent.execute("go", run_id="r-1", wait=-1)
        with pytest.raises(AgentError, match="neither True nor False"):
            await shop.agent.execute("go", replay="no")  # type: ignore[arg-type]


async def test_of_callers_at_once_one_runs(world: World) -> None:
    shop = Shop(world)
    async with shop.engine, world.engine() as other:
        await shop.engine.observe("acl:ship", 1)
        del other
        calls = [shop.agent.execute("go", run_id="r-1", wait=30) for _ in range(5)]
        done = await asyncio.gather(*calls)
        assert sorted(str(it.mode) for it in done) == ["live", *["returned"] * 4]
        assert len({it.output for it in done}) == 1
        assert shop.shipped == {"a5": 1, "b": 1}
        released = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow() -> None:
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result(30)

        shop.fail["before a5"] = slow
        running = asyncio.ensure_future(shop.agent.execute("go", run_id="r-2"))
        while "stock lamp" not in world.done:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        with pytest.raises(RunInProgress, match="is at work"):
            await shop.agent.execute("go", run_id="r-2", wait=0.2)
        released.set()
        await running


async def test_who_lost_the_run_starts_no_effect(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    taker, shop = Shop(world), Shop(world)
    taker.ledger = shop.ledger
    async with shop.engine, taker.engine:
        await shop.engine.observe("acl:ship", 1)
        taken: list[Any] = []
        loop = asyncio.get_running_loop()

        def take_over() -> None:
            """While a tool is at work, the run is taken for dead."""
            if not taken:
                taken.append(None)
                with monkeypatch.context() as patched:
                    patched.setattr(at_work.AtWork, "is_alive", lambda *_: False)
                    work = taker.agent.execute("go", run_id="r-1")
                    taken.append(asyncio.run_coroutine_threadsafe(work, loop).result(30))
                shop.stock = 9  # so that it would ship what the other one has not

        shop.fail["stock"] = take_over
        failure = await shop.failed()
        assert isinstance(failure.__cause__, RunLost)
        result, asked, _ = await shop.run()
        assert (asked, result.mode) == (0, Mode.RETURNED)
        assert result.output == taken[1].output
    assert shop.shipped == {"a5": 1, "b": 1}


# Programs ---------------------------------------------------------------------------------


class Program:
    """A program that decides, reads and ships twice."""

    def __init__(self, world: World) -> None:
        self.world, self.engine = world, world.engine()
        self.ledger: Ledger = {}
        self.fail: str | None = None

        @self.engine.tool(effect="read")
        def look(item: str) -> dict[str, int]:
            """Look."""
            world.done.append(f"look {item}")
            return {"n": len(world.done)}

        @self.engine.tool(effect="write", requires=[])
        def ship(order: str, *, key: Annotated[str, IdempotencyKey]) -> tuple[str, int]:
            """Ship."""
            world.done.append(f"ship {order}")
            self.ledger.setdefault(key, []).append(order)
            self.at(f"shipping {order}")
            return order, len(self.ledger)

        self.look, self.ship = look, ship

    def at(self, place: str) -> None:
        if place == self.fail:
            raise KeyboardInterrupt

    async def ask(self, request: Mapping[str, Json]) -> Json:
        self.world.done.append(f"ask {request['prompt']}")
        return {"said": request["prompt"]}

    async def run(self, run_id: str = "p-1") -> Any:
        self.world.done.clear()
        async with self.engine.run("program", {"n": 1}, run_id=run_id) as run:
            first = await run.decide({"prompt": "first"}, call=self.ask, version="1")
            self.at("first")
            seen = await run.act(self.look, item=first.value["said"])
            one = await run.act(self.ship, order=f"a{seen.value['n']}")
            self.at("one")
            second = await run.decide({"prompt": f"second {one.value}"}, call=self.ask, version="1")
            self.at("second")
            two = await run.act(self.ship, order="b")
            self.at("two")
            run.output = [second.value["said"], list(two.value)]
        return run.result


@pytest.mark.parametrize(
    ("place", "again"),
    [
        ("first", ["look first", "ship a1", "ask second ('a1', 1)", "ship b"]),
        ("shipping a2", ["ship a2", "ask second ('a2', 1)", "ship b"]),
        ("one", ["ask second ('a2', 1)", "ship b"]),
        ("second", ["ship b"]),
        ("shipping b", ["ship b"]),
        ("two", []),
    ],
)
async def test_a_program_goes_on_where_it_was(world: World, place: str, again: list[str]) -> None:
    program = Program(world)
    async with program.engine:
        program.fail = place
        with pytest.raises(KeyboardInterrupt):
            await program.run()
        program.fail = None
        result = await program.run()
        assert world.done == again
        assert result.output[1] == ["b", 2]
        assert len(program.ledger) == 2
        assert {it.state for it in result.effects} == {EffectState.DONE}
        returned = await program.run()
        assert world.done == []
        assert (returned.output, returned.mode) == (result.output, Mode.RETURNED)


async def test_a_program_that_lost_its_run_fails_and_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes it for dead after its last step, and brings it to its end."""
    program, taker = Program(world), Program(world)
    taker.ledger = program.ledger
    async with program.engine, taker.engine:
        own = program.engine.session().store.end_wish

        async def late(wish: Wish) -> bool:
            with monkeypatch.context() as patched:
                patched.setattr(at_work.AtWork, "is_alive", lambda *_: False)
                await taker.run()
            return await own(wish)

        monkeypatch.setattr(program.engine.session().store, "end_wish", late)
        with pytest.raises(RunFailed) as failure:
            await program.run()
        assert isinstance(failure.value.__cause__, RunLost)
        lost = await program.engine.session().store.execution(failure.value.execution_id)
        assert lost is not None
        assert lost.execution.state not in (ExecutionState.RUNNING, ExecutionState.PUBLISHED)
        assert failure.value.execution_id not in at_work._HERE
    assert set(map(len, program.ledger.values())) == {1}


async def test_a_block_of_a_finished_run_is_left_at_its_first_step(world: World) -> None:
    program = Program(world)
    async with program.engine:
        first = await program.run()
        async with program.engine.run("program", {"n": 1}, run_id="p-1") as run:
            assert run.finished
            assert run.execution_id == first.execution_id
            async with asyncio.TaskGroup() as group:
                group.create_task(run.act(program.ship, order="c"))
            world.done.append("went on")
        assert "went on" not in world.done
        assert run.result.output == first.output
        with pytest.raises(ZeroDivisionError):
            async with program.engine.run("program", {"n": 1}, run_id="p-1"):
                raise ZeroDivisionError


def test_the_sync_face_has_it_too(world: World) -> None:
    engine = world.engine()
    shipped: list[str] = []

    @engine.tool(effect="write", requires=[])
    def ship(order: str, *, key: Annotated[str, IdempotencyKey]) -> str:
        """Ship."""
        shipped.append(key)
        return order

    with engine.sync() as e:
        for failing in (True, False, False):
            try:
                with e.run("program", {"n": 1}, run_id="p-1") as run:
                    run.act(ship, order="a")
                    run.output = 1 / (not failing)
                    run.output = "done"
            except ZeroDivisionError:
                assert failing
            else:
                assert run.result.output == "done"
    assert len(shipped) == 1
