"""Single flight: of equal runs at the same time one asks the model, and the others are served."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import (
    Acl,
    Agent,
    ConfigurationError,
    Engine,
    NotReplayable,
    PreconditionChanged,
    Result,
    RunFailed,
)
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.outcome.events import Event, RunWaits
from execgraph.engine.sessions import single_flight as module
from execgraph.graphstore.model import Mode
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.sqlite.store import SqliteStore

from .conftest import World, turn
from .test_cancelled import leases

CALLERS = 10
ALL_LIVE = [Mode.LIVE] * CALLERS


def looking_then_deploying(body: dict[str, Any]) -> Answer:
    """Look, deploy, and say so."""
    said = [[call("look", {})], [call("deploy", {"to": "eu"})], [text("deployed")]]
    return Answer(said[turn(body)])


class Team:
    """One engine with one agent, whose reads may be made to wait."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = world
        world.think(looking_then_deploying)
        self.engine = world.engine(**settings)
        self.waits: list[RunWaits] = []
        self.engine.subscribe(self._heard)
        self.looking = 0
        self.reading: Callable[[], Awaitable[Any]] = _nothing

        @self.engine.tool(effect="read", version="1")
        async def look() -> str:
            """Look."""
            self.looking += 1
            await self.reading()
            return "fine"

        @self.engine.tool(effect="write", requires=[Acl("deploy")], version="1")
        async def deploy(to: str) -> str:
            """Deploy."""
            world.done.append(to)
            return f"deployed to {to}"

        self.tools = [look, deploy]
        self.agent: Agent = world.agent(self.engine, self.tools)

    def _heard(self, event: Event) -> None:
        if isinstance(event, RunWaits):
            self.waits.append(event)

    async def allow(self) -> None:
        await self.engine.observe("acl:deploy", {"allow": ["team"]})

    async def at_once(self, agent: Agent | None = None, many: int = CALLERS, **how: Any) -> Any:
        agent = agent or self.agent
        return await asyncio.gather(
            *(agent.execute("go", **how) for _ in range(many)), return_exceptions=True
        )

    async def leader_and_waiters(self, many: int) -> list[asyncio.Task[Result]]:
        """A run that leads, first, and those that wait for it."""
        runs = [asyncio.ensure_future(self.agent.execute("go", resume="off"))]
        await until(lambda: self.looking == 1)
        runs += [asyncio.ensure_future(self.agent.execute("go", resume="off")) for _ in range(many)]
        await until(lambda: len(self.waits) == many)
        return runs


async def _nothing(*_: Any) -> None:
    await asyncio.sleep(0)


async def _yes(_: Any) -> Any:
    return "yes"


async def _noted(asked: list[Any], request: Any) -> Any:
    asked.append(request["ask"])
    return "yes"


def modes(results: list[Result]) -> list[Mode]:
    return sorted(it.mode for it in results)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  (as anybody would see it)
            await asyncio.sleep(0.005)


@pytest.fixture
def team(world: World) -> Team:
    return Team(world)


async def test_many_equal_runs_ask_the_model_for_one_and_each_does_its_own_writes(
    team: Team,
) -> None:
    async with team.engine:
        await team.allow()
        results, asked, done = await team.world.count(team.at_once())
    assert asked == 3, "one run"
    assert modes(results) == [Mode.LIVE, *[Mode.REPLAY] * (CALLERS - 1)]
    assert done == ["eu"] * CALLERS, "single flight shares what the model says, never effects"
    effects = [effect for it in results for effect in it.effects]
    assert len({it.id for it in effects}) == CALLERS
    assert leases(team.world) == []


async def test_who_waits_tells_so_before_and_after(team: Team) -> None:
    async with team.engine:
        await team.allow()
        results = await team.at_once()
        again = await team.agent.execute("go")
    [leader] = [it for it in results if it.mode is Mode.LIVE]
    waiters = [it for it in results if it is not leader]
    assert (leader.waited_ms, again.waited_ms) == (0.0, 0.0), "neither has waited"
    assert all(0 < it.waited_ms < it.duration_ms for it in waiters)
    assert [it.name for it in team.waits] == ["deployer"] * len(waiters)


@pytest.mark.parametrize("where", ["engine", "call", "no patience"])
async def test_it_may_be_switched_off(world: World, where: str) -> None:
    team = Team(world, **({"single_flight": False} if where == "engine" else {}))
    never: dict[str, Any] = {"call": False, "no patience": timedelta(0)}
    how: dict[str, Any] = {"single_flight": never[where]} if where in never else {}
    async with team.engine:
        await team.allow()
        results, asked, _ = await world.count(team.at_once(resume="off", **how))
    assert (modes(results), asked) == (ALL_LIVE, 3 * CALLERS)
    assert team.waits == []


async def test_a_call_may_wait_though_the_engine_does_not(world: World) -> None:
    team = Team(world, single_flight=False)
    async with team.engine:
        await team.allow()
        _, asked, _ = await world.count(team.at_once(single_flight=True))
    assert asked == 3


@pytest.mark.parametrize("wrong", ["yes", 1, timedelta(seconds=-1), None])
async def test_what_is_no_choice_is_told(world: World, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="single_flight="):
        world.engine(single_flight=wrong)
    if wrong is not None:
        with pytest.raises(ConfigurationError, match="timedelta"):
            await Team(world).agent.execute("go", single_flight=wrong)


# What becomes of a leader -----------------------------------------------------------------


async def test_a_leader_that_fails_lets_all_go_at_once(team: Team) -> None:
    here, together = asyncio.Event(), asyncio.Barrier(CALLERS - 1)

    async def meet() -> None:
        await (here if team.looking == 1 else together).wait()

    team.reading = meet  # none but the leader comes through unless all do
    async with team.engine, asyncio.timeout(60):
        await team.allow()
        runs = asyncio.ensure_future(team.at_once(resume="off"))
        await until(lambda: team.looking == 1 and len(team.waits) == CALLERS - 1)
        team.world.server.fail(400)
        here.set()
        outcomes = await runs
    [failed] = [it for it in outcomes if isinstance(it, RunFailed)]
    others = [it for it in outcomes if it is not failed]
    assert modes(others) == [Mode.LIVE] * (CALLERS - 1), "none has waited for another one then"
    assert len(team.waits) == len(others)


async def test_a_cancelled_leader_lets_all_go_at_once(team: Team) -> None:
    here = asyncio.Event()
    team.reading = here.wait
    async with team.engine:
        await team.allow()
        runs = await team.leader_and_waiters(3)
        runs[0].cancel()
        await until(lambda: team.looking == 4)
        here.set()
        results = await asyncio.gather(*runs[1:])
    assert runs[0].cancelled()
    assert modes(results) == [Mode.LIVE] * 3
    assert leases(team.world) == []


async def test_a_leader_that_will_be_no_trace_lets_all_go_before_it_ends(team: Team) -> None:
    """Its rule is not known, so that nobody will ever be served its decisions."""
    together = asyncio.Barrier(3)
    agent = team.world.agent(team.engine, team.tools, requires=[Acl("unknown")])
    team.reading = together.wait  # nobody comes through unless all do
    async with team.engine, asyncio.timeout(60):
        results = await team.at_once(agent, many=3)
    assert modes(results) == [Mode.LIVE] * 3


async def test_a_leader_that_goes_on_and_will_be_no_trace_lets_all_go_at_once(team: Team) -> None:
    """A write of it was refused, which it takes for an answer."""
    asked, here, others = asyncio.Event(), asyncio.Event(), asyncio.Event()
    together = asyncio.Barrier(3)
    deploy = team.tools[1]

    async def reply(_: Any) -> Any:
        if asked.is_set():
            await together.wait()  # nobody comes through unless all do
        asked.set()
        await here.wait()
        return "yes"

    async def leader() -> None:
        async with team.engine.run("triage", "a", requires=[Acl("deploy")]) as run:
            (await run.decide({"ask": 1}, call=reply, version="1")).value  # noqa: B018
            with pytest.raises(PreconditionChanged):
                await run.act(deploy, to="eu")
            await others.wait()

    async def waiter() -> Result:
        how: dict[str, Any] = {"requires": [Acl("deploy")], "resume": "off"}
        async with team.engine.run("triage", "a", **how) as run:
            await run.decide({"ask": 1}, call=reply, version="1")
        return run.result

    async with team.engine, asyncio.timeout(60):
        await team.allow()
        first = asyncio.ensure_future(leader())
        await asked.wait()
        rest = [asyncio.ensure_future(waiter()) for _ in range(3)]
        await until(lambda: len(team.waits) == 3)
        await team.engine.observe("acl:deploy", {"allow": ["others"]})
        here.set()
        results = await asyncio.gather(*rest)
        others.set()
        await first
    assert modes(results) == [Mode.LIVE] * 3
    assert team.world.done == []


async def test_a_cancelled_waiter_disturbs_nobody(team: Team) -> None:
    here = asyncio.Event()
    team.reading = here.wait
    async with team.engine:
        await team.allow()
        runs = await team.leader_and_waiters(3)
        runs[1].cancel()
        here.set()
        results = await asyncio.gather(runs[0], *runs[2:])
    assert runs[1].cancelled()
    assert modes(results) == [Mode.LIVE, Mode.REPLAY, Mode.REPLAY]


async def test_waiting_ends_after_a_while(team: Team) -> None:
    both = asyncio.Barrier(2)
    team.reading = both.wait  # the first one ends only once the second has come
    async with team.engine, asyncio.timeout(60):
        await team.allow()
        how: dict[str, Any] = {"single_flight": timedelta(milliseconds=50), "resume": "off"}
        results = await team.at_once(many=2, **how)
    assert modes(results) == [Mode.LIVE] * 2
    assert len(team.waits) == 1


async def test_a_program_leads_until_its_block_has_ended(team: Team) -> None:
    async def reply(_: Any) -> Any:
        replies.append(1)
        await asyncio.sleep(0.05)
        return "yes"

    async def program() -> Result:
        async with team.engine.run("triage", "a") as run:
            run.output = (await run.decide({"ask": 1}, call=reply)).value
        return run.result

    async def failing() -> None:
        async with team.engine.run("triage", "b") as run:
            await run.decide({"ask": 1}, call=reply)
            raise KeyError

    replies: list[int] = []
    async with team.engine:
        results = await asyncio.gather(*(program() for _ in range(CALLERS)))
        with pytest.raises(KeyError):
            await failing()
    assert len(replies) == 2, "one for all, and one that failed"
    assert modes(results) == [Mode.LIVE, *[Mode.REPLAY] * (CALLERS - 1)]
    assert leases(team.world) == []


# Who waits for whom -----------------------------------------------------------------------


async def test_what_is_recorded_takes_no_lease(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        async def noted(self: Any, name: str, *rest: Any, **more: Any) -> Any:
            taken.append(name)
            return await method(self, name, *rest, **more)

        return noted

    async with team.engine:
        await team.allow()
        await team.agent.execute("go")
        await until(lambda: leases(team.world) == [])
        for store in (SqliteStore, Neo4jStore):
            for name in ("lease", "holder", "release"):
                monkeypatch.setattr(store, name, noting(getattr(store, name)))
        results = await team.at_once()
    assert modes(results) == [Mode.REPLAY] * CALLERS
    assert [it for it in taken if it.startswith("run of")] == []


async def test_a_run_that_would_ask_for_the_rest_only_waits_too(team: Team) -> None:
    async with team.engine:
        await team.allow()
        await team.agent.execute("go")
        await team.engine.observe("acl:deploy", {"allow": ["others"]})
        results, asked, done = await team.world.count(team.at_once())
    assert asked == 1, "the decision to deploy; what follows is known"
    assert modes(results) == sorted([Mode.PARTIAL, *[Mode.REPLAY] * (CALLERS - 1)])
    assert done == ["eu"] * CALLERS


async def test_other_code_is_waited_for_by_nobody(team: Team) -> None:
    both = asyncio.Barrier(2)
    team.reading = both.wait
    other = team.world.agent(team.engine, team.tools, system="You deploy with care.")
    async with team.engine, asyncio.timeout(60):
        await team.allow()
        results = await asyncio.gather(team.agent.execute("go"), other.execute("go"))
    assert modes(list(results)) == [Mode.LIVE] * 2
    assert team.waits == []


async def test_who_asks_anew_and_who_must_not_ask_wait_for_nobody(team: Team) -> None:
    here = asyncio.Event()
    team.reading = here.wait
    async with team.engine:
        await team.allow()
        leader = asyncio.ensure_future(team.agent.execute("go"))
        await until(lambda: team.looking == 1)
        anew = asyncio.ensure_future(team.agent.execute("go", replay=False))
        await until(lambda: team.looking == 2)
        with pytest.raises(NotReplayable):
            await team.agent.execute("go", require="replay")
        here.set()
        await asyncio.gather(leader, anew)
    assert team.waits == []


@pytest.mark.parametrize("mode", ["off", "record"])
async def test_a_mode_that_serves_nothing_has_nobody_wait(
    team: Team, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = asyncio.Barrier(3)
    monkeypatch.setenv("EXECGRAPH_MODE", mode)
    team.reading = together.wait  # nobody comes through unless all do
    async with team.engine, asyncio.timeout(60):
        await team.allow()
        results = await team.at_once(many=3)
    assert modes(results) == [Mode.LIVE] * 3
    assert team.waits == []


async def test_where_a_replay_is_required_nobody_waits(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = asyncio.Event()
    team.reading = here.wait
    async with team.engine:
        await team.allow()
        leader = asyncio.ensure_future(team.agent.execute("go"))
        await until(lambda: team.looking == 1)
        monkeypatch.setenv("EXECGRAPH_MODE", "replay")
        others = Team(team.world)
        async with others.engine:
            with pytest.raises(NotReplayable):
                await others.agent.execute("go")
        here.set()
        await leader
    assert others.waits == []


async def test_a_run_inside_one_of_the_same_task_does_not_wait_for_it(team: Team) -> None:
    inner: list[Result] = []

    async def again() -> None:
        if team.looking == 1:
            inner.append(await team.agent.execute("go", resume="off"))

    team.reading = again
    async with team.engine, asyncio.timeout(60):
        await team.allow()
        outer = await team.agent.execute("go")
    assert outer.mode in (Mode.LIVE, Mode.PARTIAL)
    assert inner[0].mode is Mode.LIVE
    assert team.waits == []


async def test_a_run_inside_a_program_of_the_same_task_does_not_wait_for_it(team: Team) -> None:
    async def program(depth: int) -> None:
        async with team.engine.run("triage", "a") as run:
            if depth:
                await program(depth - 1)
            await run.decide({"ask": 1}, call=_yes)

    def plain(depth: int, engine: Any) -> None:
        with engine.run("triage", "b") as run:
            if depth:
                plain(depth - 1, engine)
            run.decide({"ask": 1}, call=_yes)

    async with team.engine, asyncio.timeout(60):
        await program(2)
    with team.engine.sync() as engine:
        await asyncio.wait_for(asyncio.to_thread(plain, 2, engine), 60)
    assert team.waits == []


@pytest.mark.parametrize("many", [2, 3])
@pytest.mark.parametrize("processes", ["one", "many"])
async def test_runs_that_begin_one_another_in_a_circle_do_not_wait_for_each_other(
    world: World, many: int, processes: str
) -> None:
    """Each holds what another one waits for; nobody waits until its time is over."""
    engines = [world.engine() for _ in range(many if processes == "many" else 1)]
    began, asked = asyncio.Barrier(many), list[str]()

    async def program(number: int) -> Result:
        engine, following = engines[number % len(engines)], (number + 1) % many
        async with engine.run(f"p{number}", "a") as run:
            await began.wait()
            async with engine.run(f"p{following}", "a") as inner:
                await inner.decide({"ask": following}, call=partial(_noted, asked))
            await run.decide({"ask": number}, call=partial(_noted, asked))
        return run.result

    async with AsyncExitStack() as stack, asyncio.timeout(60):
        for engine in engines:
            await stack.enter_async_context(engine)
        results = await asyncio.gather(*(program(number) for number in range(many)))
    assert len(results) == many
    assert many < len(asked) <= 2 * many
    assert leases(world) == []


async def test_runs_inside_others_wait_where_there_is_no_circle(world: World) -> None:
    """One of them even for one that waits itself."""
    engines = [world.engine() for _ in range(3)]
    here, asked, waits = asyncio.Event(), list[str](), list[RunWaits]()

    async def program(engine: Engine, *names: str) -> None:
        if not names:
            return
        async with engine.run(names[0], "a") as run:
            await program(engine, *names[1:])
            if names[0] == "last":
                await here.wait()
            await run.decide({"ask": names[0]}, call=partial(_noted, asked))

    def heard(event: Event) -> None:
        if isinstance(event, RunWaits):
            waits.append(event)

    async with engines[0], engines[1], engines[2], asyncio.timeout(60):
        runs = []
        for number, names in enumerate([["last"], ["inner", "last"], ["outer", "inner", "last"]]):
            engines[number].subscribe(heard)
            runs.append(asyncio.ensure_future(program(engines[number], *names)))
            await until(lambda: len(leases(world)) == len(runs))
            await until(lambda: len(waits) == len(runs) - 1)
        await asyncio.sleep(0.3)
        here.set()
        await asyncio.gather(*runs)
    assert asked == ["last", "inner", "outer"]


# Other event loops ------------------------------------------------------------------------


async def test_waiters_of_one_loop_watch_another_one_that_leads(world: World) -> None:
    """The one who looks at the store for all of them gives up: the next one looks then."""
    here = asyncio.Event()
    team, others = Team(world), Team(world)
    team.reading = here.wait
    async with team.engine, others.engine:
        await team.allow()
        leader = asyncio.ensure_future(team.agent.execute("go"))
        await until(lambda: team.looking == 1)
        runs = [asyncio.ensure_future(others.agent.execute("go")) for _ in range(5)]
        await until(lambda: len(others.waits) == 5)
        for run in runs[:2]:
            run.cancel()
            await asyncio.sleep(0.02)
        here.set()
        results, asked, _ = await world.count(asyncio.gather(*runs[2:]))
        await leader
    assert modes(results) == [Mode.REPLAY] * 3
    assert asked <= 2, "what the leader asked meanwhile"


async def test_a_run_that_takes_longer_than_a_lease_keeps_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.5)
    here = asyncio.Event()
    team, others = Team(world), Team(world)
    team.reading = here.wait
    async with team.engine, others.engine:
        await team.allow()
        leader = asyncio.ensure_future(team.agent.execute("go"))
        await until(lambda: team.looking == 1)
        waiter = asyncio.ensure_future(others.agent.execute("go"))
        await asyncio.sleep(1.5)
        here.set()
        results = await asyncio.gather(leader, waiter)
    assert [it.mode for it in results] == [Mode.LIVE, Mode.REPLAY]


async def test_a_leader_that_is_heard_of_no_more_is_replaced_by_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = asyncio.Event()
    team, others = Team(world), Team(world)
    team.reading = here.wait
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.5)
    async with team.engine, others.engine:
        await team.allow()
        monkeypatch.setattr(team.engine.session().single_flight, "_extend_each", _nothing)
        leader = asyncio.ensure_future(team.agent.execute("go"))
        await until(lambda: team.looking == 1)
        results = await others.at_once(many=5, resume="off")
        assert modes(results) == [Mode.LIVE, *[Mode.REPLAY] * 4], "one of them has taken over"
        here.set()
        assert (await leader).output == "deployed", "losing a lease only ends exclusivity"
    assert leases(world) == []


async def test_threads_with_loops_of_their_own_wait_for_each_other(world: World) -> None:
    team = Team(world)
    results: list[Result] = []

    async def work() -> None:
        client = AsyncAnthropic(base_url=world.server.url, api_key="test-key")
        async with client, team.engine:
            agent = world.agent(team.engine, team.tools, client=client)
            results.extend(await team.at_once(agent, many=4))

    async with team.engine:
        await team.allow()
        before = world.server.requests
        threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        asked = world.server.requests - before
    assert asked == 3
    assert modes(results) == [Mode.LIVE, *[Mode.REPLAY] * 11]


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"
)
async def test_a_forked_process_waits_for_the_one_it_came_from(world: World) -> None:
    context, here, asked = multiprocessing.get_context("fork"), asyncio.Event(), asyncio.Event()
    engine = world.engine()

    async def slow(_: Any) -> Any:
        asked.set()
        await here.wait()
        return "yes"

    async def program(reply: Callable[[Any], Awaitable[Any]]) -> Result:
        async with engine, engine.run("triage", "a") as run:
            await run.decide({"ask": 1}, call=reply, version="1")
        return run.result

    def child() -> None:
        try:
            answers.put(asyncio.run(program(_yes)).mode)
        except BaseException as error:  # noqa: BLE001  (the parent is to see it)
            answers.put(repr(error))

    async with engine:
        leader = asyncio.ensure_future(program(slow))
        await asked.wait()
        answers = context.Queue()
        worker = context.Process(target=child)
        worker.start()
        with pytest.raises(queue.Empty):
            await asyncio.to_thread(answers.get, timeout=1)
        here.set()
        assert (await leader).mode is Mode.LIVE
        assert await asyncio.to_thread(answers.get, timeout=60) == Mode.REPLAY
        await asyncio.to_thread(worker.join, 30)


async def test_the_sync_face_waits_too(world: World) -> None:
    team = Team(world)
    results: list[Result] = []

    def work(engine: Any) -> None:
        results.append(engine.agent(team.agent).execute("go"))

    with team.engine.sync() as engine:
        engine.observe("acl:deploy", {"allow": ["team"]})
        before = world.server.requests
        threads = [threading.Thread(target=work, args=(engine,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
    assert world.server.requests - before == 3
    assert modes(results) == [Mode.LIVE, *[Mode.REPLAY] * 5]
