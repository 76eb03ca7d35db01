"""Runs inside a run with an id are about parts of its wish: called again, nothing is done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import (
    Acl,
    IdempotencyKey,
    Mode,
    Result,
    RunFailed,
    RunLost,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.sessions.pace import Pace
from execgraph.graphstore.errors import StoreUnavailable
from execgraph.graphstore.model import Wish, WishState

from .conftest import World, misses, turn


class Overloaded(Exception):
    """The model's service has a bad day."""


class Works:
    """A program that has an agent ship, and tells of it. The ledger has what was done, and under
    which key. ``fail``: what goes wrong at which place."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world, self.engine = world, world.engine(**settings)
        self.ledger: list[tuple[str, str]] = []
        self.fail: dict[str, Callable[[], None]] = {}
        self.results: list[Result] = []
        world.think(self.brain)

        @self.engine.tool(effect="write", requires=[Acl("ship")])
        def ship(to: str, *, key: Annotated[str, IdempotencyKey]) -> str:
            """Ship."""
            self.ledger.append((f"ship {to}", key))
            self.reach(f"shipped {to}")
            return f"shipped to {to}"

        @self.engine.tool(effect="write", requires=[])
        def mail(to: str) -> str:
            """Mail, without a key: done is done."""
            self.ledger.append((f"mail {to}", ""))
            self.reach(f"mailed {to}")
            return f"mailed to {to}"

        self.ship, self.mail = ship, mail
        client = AsyncAnthropic(base_url=world.server.url, api_key="test-key", max_retries=0)
        self.agent = world.agent(self.engine, [ship, mail], client=client, name="shipper")

    def reach(self, place: str) -> None:
        if (failing := self.fail.pop(place, None)) is not None:
            failing()

    def brain(self, body: dict[str, Any]) -> Answer:
        to = "ann" if "ann" in str(body["messages"][0]) else "bob"
        self.reach(f"turn {turn(body)} {to}")
        return Answer(
            [
                [call("ship", {"to": to})],
                [call("mail", {"to": to})],
                [text(f"{to} has it")],
            ][min(turn(body), 2)]
        )

    async def run(self, run_id: str | None = "r-1") -> Result:
        """Two equal tasks for the agent and another one, and two equal programs."""
        self.results.clear()
        async with self.engine.run("works", {"n": 1}, run_id=run_id) as run:
            for number, to in enumerate(("ann", "ann", "bob")):
                self.results.append(await self.agent.execute({"to": to}))
                self.reach(f"after {number}")
            for number in range(2):
                async with self.engine.run("notice", {"n": 1}) as inner:
                    await inner.act(self.mail, to="all")
                    inner.output = number
                self.results.append(inner.result)
            self.reach("end")
            run.output = "done"
        return run.result

    @property
    def done(self) -> Counter[str]:
        """How often each thing was done."""
        return Counter(what for what, _ in self.ledger)

    @property
    def keys(self) -> int:
        """How many things the other side of `ship` can tell apart."""
        return len({key for what, key in self.ledger if key})


DONE = {"ship ann": 2, "ship bob": 1, "mail ann": 2, "mail bob": 1, "mail all": 2}


@pytest.fixture
async def works(world: World) -> Works:
    return Works(world)


def broken() -> None:
    raise RuntimeError("broken")


def overloaded() -> None:
    raise Overloaded


@pytest.mark.parametrize("place", ["after 0", "after 1", "after 2", "end", "turn 2 bob"])
async def test_what_runs_inside_have_done_is_not_repeated(works: Works, place: str) -> None:
    """Between the runs and at the end the outer one breaks, at a turn the inner one does."""
    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        works.fail[place] = overloaded if place.startswith("turn") else broken
        with pytest.raises((RuntimeError, RunFailed)):
            await works.run()
        before = works.done
        assert before.total() > 0
        result, asked, _ = await works.world.count(works.run())
        assert result.output == "done"
        assert works.done == DONE
        assert works.keys == 3
        assert [it.output for it in works.results] == ["ann has it"] * 2 + ["bob has it", 0, 1]
        again, asked, _ = await works.world.count(works.run())
        assert (again.mode, asked, works.done) == (Mode.RETURNED, 0, DONE)


async def test_nothing_is_asked_again_that_is_known(works: Works) -> None:
    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        works.fail["end"] = broken
        with pytest.raises(RuntimeError):
            await works.run()
        _, asked, _ = await works.world.count(works.run())
        assert asked == 0
        assert {it.mode for it in works.results} == {Mode.REPLAY}
        assert all(effect.reused for it in works.results for effect in it.effects)


async def test_what_was_done_stands_under_other_facts(works: Works) -> None:
    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        works.fail["after 2"] = broken
        with pytest.raises(RuntimeError):
            await works.run()
        await works.engine.observe("acl:ship", 2)
        await works.run()
        assert works.done == DONE
        assert works.keys == 3


async def test_another_process_goes_on(works: Works) -> None:
    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        works.fail["after 1"] = broken
        with pytest.raises(RuntimeError):
            await works.run()
    other = Works(works.world)
    other.ledger = works.ledger
    async with other.engine:
        await other.run()
    assert works.done == DONE
    assert works.keys == 3


async def test_a_program_that_tries_an_inner_run_again_means_the_same(works: Works) -> None:
    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        works.fail["turn 1 ann"] = overloaded
        async with works.engine.run("works", {"n": 1}, run_id="r-1") as run:
            with pytest.raises(RunFailed) as failed:
                await works.agent.execute({"to": "ann"})
            assert failed.value.run_id == "r-1"
            assert [it.tool for it in failed.value.effects] == ["ship"]
            await works.agent.execute({"to": "ann"})
            run.output = "done"
        assert works.done == {"ship ann": 1, "mail ann": 1}


async def test_nested_deeper_and_tried_again(works: Works) -> None:
    """A program in the middle breaks after what is inside it has come to its end."""

    async def middle() -> None:
        async with works.engine.run("middle", {"n": 1}) as run:
            for _ in range(2):
                await works.agent.execute({"to": "ann"})
            works.reach("middle")
            run.output = 1

    async def outer() -> None:
        async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
            for attempt in range(2):
                try:
                    await middle()
                    break
                except RuntimeError:
                    assert attempt == 0
            works.reach("outer")
            run.output = 1

    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        works.fail["middle"] = broken
        works.fail["outer"] = broken
        with pytest.raises(RuntimeError):
            await outer()
        works.fail["middle"] = broken
        await outer()
        assert works.done == {"ship ann": 2, "mail ann": 2}
        assert works.keys == 2


async def test_equal_runs_at_the_same_time_are_each_done_once(works: Works) -> None:
    async def outer() -> None:
        async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
            await asyncio.gather(*(works.agent.execute({"to": "ann"}) for _ in range(3)))
            works.reach("end")
            run.output = 1

    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        works.fail["end"] = broken
        with pytest.raises(RuntimeError):
            await outer()
        await outer()
        assert works.done == {"ship ann": 3, "mail ann": 3}
        assert works.keys == 3


async def test_a_finished_outer_run_begins_no_inner_one(works: Works) -> None:
    """An inner run is a step of its block, too, at which that is left."""
    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        for number in range(2):
            async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
                await works.agent.execute({"to": "ann"})
                async with works.engine.run("notice", {"n": 1}) as inner:
                    await inner.act(works.mail, to="all")
                run.output = 1
            assert (run.result.output, run.finished) == (1, number == 1)
        assert works.done == {"ship ann": 1, "mail ann": 1, "mail all": 1}


async def test_outside_the_task_is_another_wish(works: Works) -> None:
    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        await works.run("r-1")
        works.ledger.clear()
        plain = await works.agent.execute({"to": "ann"})
        assert "unfinished run" not in misses(plain), "all of it has come to its end"
        await works.run("r-2")
        assert works.done == {**DONE, "ship ann": 3, "mail ann": 3}
        assert works.keys == 4


async def test_what_the_caller_has_named_keeps_its_name(works: Works) -> None:
    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        for run_id in ("r-1", "r-2"):
            async with works.engine.run("outer", {"n": 1}, run_id=run_id) as run:
                own = await works.agent.execute({"to": "ann"}, run_id="own")
                run.output = own.output
        assert works.done == {"ship ann": 1, "mail ann": 1}
        for run_id in ("r-3", "r-4"):
            async with works.engine.run("outer", {"n": 1}, run_id=run_id) as run:
                await works.agent.execute({"to": "bob"}, idempotency="order-7")
                run.output = 1
        assert works.done == {"ship ann": 1, "mail ann": 1, "ship bob": 2, "mail bob": 2}
        assert works.keys == 2, "as the caller says, it is one wish"


async def test_what_a_tool_has_done_by_a_run_is_about_the_call(works: Works) -> None:
    """A tool's call may be left out where it stands, so what it begins is not counted."""

    @works.engine.tool(effect="write", requires=[])
    async def deliver(to: str, *, key: Annotated[str, IdempotencyKey]) -> str:
        """Have an agent ship; the run is known by the key."""
        return str((await works.agent.execute({"to": to}, run_id=key)).output)

    async def outer() -> None:
        async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
            for number in range(2):
                await run.act(deliver, to="ann")
                works.reach(f"after {number}")
            await works.agent.execute({"to": "ann"})
            works.reach("end")
            run.output = 1

    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        for place in ("after 0", "after 1", "end"):
            works.fail[place] = broken
            with pytest.raises(RuntimeError):
                await outer()
        await outer()
        assert works.done == {"ship ann": 3, "mail ann": 3}
        assert works.keys == 3


@pytest.mark.parametrize("how", ["tool", "call="])
async def test_what_is_left_out_where_it_stands_is_not_counted(works: Works, how: str) -> None:
    """Else the program's own equal run would be taken for one of those."""

    @works.engine.tool(effect="write", requires=[])
    async def deliver(to: str) -> str:
        """Have an agent ship."""
        return str((await works.agent.execute({"to": to})).output)

    async def ask(request: Any) -> Any:
        return (await works.agent.execute({"to": request["to"]})).output

    async def outer() -> None:
        async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
            if how == "tool":
                await run.act(deliver, to="ann")
            else:
                _ = (await run.decide({"to": "ann"}, call=ask)).value
            await run.act(works.mail, to="all")
            works.reach("between")
            await works.agent.execute({"to": "ann"})
            run.output = 1

    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        works.fail["between"] = broken
        with pytest.raises(RuntimeError):
            await outer()
        await outer()
        assert works.done == {"ship ann": 2, "mail ann": 2, "mail all": 1}
        assert works.keys == 2


async def test_who_has_lost_the_outer_run_takes_no_inner_one_over(works: Works) -> None:
    async with works.engine, works.world.engine() as other:
        await works.engine.observe("acl:ship", 1)
        store = other.session().store

        async def outer() -> None:
            async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
                works.fail["turn 1 ann"] = overloaded
                with pytest.raises(RunFailed):
                    await works.agent.execute({"to": "ann"})
                wish = run.running.wish
                [inner] = wish.inner.wishes
                for lost in (wish.wish, inner):
                    taken = lost._replace(execution="f" * 32)
                    assert await store.claim(taken, over=lost.execution) == taken
                await works.agent.execute({"to": "ann"})

        with pytest.raises(RunLost):
            await outer()
        assert works.done == {"ship ann": 1}


async def test_all_is_over_when_the_outer_run_is(works: Works) -> None:
    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        session = works.engine.session()
        store = session.store
        async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
            modes = [(await works.agent.execute({"to": "ann"})).mode for _ in range(2)]
            assert modes == [Mode.LIVE, Mode.REPLAY]
            await session.replay_writer.flush()
            await session.journal.flush()
            inner = list(run.running.wish.inner.wishes)
            for wish in inner:
                kept = await store.claim(wish)
                assert kept.state is WishState.RUNNING
                assert session.at_work.is_alive(kept), "as long as the outer one is at work"
                assert len((await store.attempts(wish.key)).entries) > 0
            run.output = 1
        await session.journal.flush()
        assert len(inner) == 2
        for wish in inner:
            kept = await store.claim(wish)
            assert kept.state is WishState.DONE
            assert (await store.attempts(wish.key)).entries == ()
            assert not session.at_work.is_alive(kept)


async def test_so_it_is_without_asyncio(works: Works) -> None:
    def outer() -> None:
        with works.engine.sync() as e:
            e.observe("acl:ship", 1)
            with e.run("outer", {"n": 1}, run_id="r-1") as run:
                for _ in range(2):
                    e.agent(works.agent).execute({"to": "ann"})
                with e.run("notice", {"n": 1}) as inner:
                    inner.act(works.mail, to="all")
                works.reach("end")
                run.output = 1

    works.fail["end"] = broken
    with pytest.raises(RuntimeError):
        await asyncio.to_thread(outer)
    for _ in range(2):
        await asyncio.to_thread(outer)
    assert works.done == {"ship ann": 2, "mail ann": 2, "mail all": 1}
    assert works.keys == 2


async def test_one_that_outlives_the_outer_run_leaves_nothing(works: Works) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    @works.engine.tool(effect="write", requires=[])
    async def slow() -> str:
        """Wait."""
        reached.set()
        await go_on.wait()
        return "late"

    async def inner() -> None:
        async with works.engine.run("inner", {"n": 1}) as run:
            await run.act(slow)

    async with works.engine:
        async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
            late = asyncio.ensure_future(inner())
            await reached.wait()
            [wish] = run.running.wish.inner.wishes
            run.output = 1
        go_on.set()
        await late
        session = works.engine.session()
        await session.journal.flush()
        assert (await session.store.attempts(wish.key)).entries == ()


async def test_one_that_outlives_a_failed_outer_run_leaves_its_successors_their_places(
    world: World,
) -> None:
    works = Works(world, single_flight=False)
    reached, go_on = asyncio.Event(), asyncio.Event()
    early: list[asyncio.Task[None]] = []

    async def notice(*, waits: bool = False) -> None:
        async with works.engine.run("notice", {"n": 1}) as run:
            if waits:
                reached.set()
                await go_on.wait()
            await run.act(works.mail, to="all")

    async def middle() -> None:
        async with works.engine.run("middle", {"n": 1}):
            if not early:
                early.append(asyncio.ensure_future(notice(waits=True)))
                await reached.wait()
                broken()
            await notice()
            go_on.set()
            [lost] = await asyncio.gather(*early, return_exceptions=True)
            assert isinstance(lost, RunLost)
            await notice()

    async with works.engine, works.engine.run("outer", {"n": 1}, run_id="r-1"):
        with pytest.raises(RuntimeError):
            await middle()
        await middle()
    assert works.done == {"mail all": 2}, "one for each that has come to its end"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_goes_on_beside_a_failure_is_a_part_all_the_same(
    world: World, when: str
) -> None:
    """As `gather` has it, which ends at the first failure and cancels nothing. The run beside
    begins ``when`` the outer one fails, and comes to its end after that."""
    works = Works(world, single_flight=False)
    ready, failed = asyncio.Event(), asyncio.Event()
    word, under_way = "ann", list[asyncio.Task[None]]()

    async def ask(_: Any) -> str:
        return word

    async def beside() -> None:
        if when == "after":
            ready.set()
            await failed.wait()
        async with works.engine.run("beside", {"n": 1}) as run:
            to = await run.decide({"to": "whom?"}, call=ask, version="1")
            await run.act(works.ship, to=to)
            ready.set()
            await failed.wait()
            run.output = 1

    async def outer() -> None:
        async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
            under_way.append(asyncio.ensure_future(beside()))
            await ready.wait()
            works.reach("beside")
            await asyncio.gather(*under_way)
            run.output = 1

    async with works.engine:
        await works.engine.observe("acl:ship", 1)
        works.fail["beside"] = broken
        with pytest.raises(RuntimeError):
            await outer()
        failed.set()
        await asyncio.gather(*under_way)
        word = "bob"
        await works.engine.observe("acl:ship", 2)
        await outer()
    assert works.done == {"ship ann": 1}


async def test_none_is_at_work_after_a_failure_that_could_not_be_kept(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would be told what is in doubt of it."""

    async def away(*_: Any) -> None:
        raise StoreUnavailable("the store is away")

    wishes: list[Wish] = []

    async def outer() -> None:
        async with works.engine.run("outer", {"n": 1}, run_id="r-1") as run:
            async with works.engine.run("notice", {"n": 1}) as inner:
                await inner.act(works.mail, to="all")
            wishes.extend(run.running.wish.inner.wishes)
            monkeypatch.setattr(works.engine.session().store, "write", away)
            broken()

    async with works.engine:
        with pytest.raises(RuntimeError):
            await outer()
        [wish] = wishes
        assert not works.engine.session().at_work.is_alive(wish)


async def test_one_that_failed_as_the_store_was_away_is_the_same_at_once(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits until such a failure is kept, so the next one begins before that."""

    async def away(*_: Any) -> None:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(Pace, "due", False)  # nobody else has a turn meanwhile

    async def by_program() -> None:
        async with works.engine.run("notice", {"n": 1}) as run:
            await run.act(works.ship, to="ann")

    async def by_agent() -> None:
        await works.agent.execute({"to": "ann"})

    async with works.engine, works.engine.run("outer", {"n": 1}, run_id="r-1"):
        await works.engine.observe("acl:ship", 1)
        for number, inner in enumerate((by_program, by_agent), 1):
            with monkeypatch.context() as patch:
                patch.setattr(works.engine.session().store, "end_effect", away)
                with pytest.raises(RunFailed):
                    await inner()
            await inner()
            assert works.keys == number


async def test_what_a_failed_run_begins_late_is_no_part_of_the_next_one(world: World) -> None:
    works = Works(world, single_flight=False)
    early: list[asyncio.Task[None]] = []
    go_on = asyncio.Event()

    async def notice(*, waits: bool = False) -> None:
        if waits:
            await go_on.wait()
        async with works.engine.run("notice", {"n": 1}) as run:
            await run.act(works.mail, to="all")

    async def middle() -> None:
        async with works.engine.run("middle", {"n": 1}):
            if not early:
                early.append(asyncio.ensure_future(notice(waits=True)))
                broken()
            go_on.set()
            [lost] = await asyncio.gather(*early, return_exceptions=True)
            assert isinstance(lost, RunLost)
            await notice()

    async with works.engine, works.engine.run("outer", {"n": 1}, run_id="r-1"):
        with pytest.raises(RuntimeError):
            await middle()
        await middle()
    assert works.done == {"mail all": 1}
