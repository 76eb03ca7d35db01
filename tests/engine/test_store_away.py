"""What an agent does while its store is away: "raise" or "live", from wherever in a run it goes."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from anthropic import AsyncAnthropic

from execgraph import (
    Acl,
    Agent,
    ConfigurationError,
    ConfirmationRequest,
    Engine,
    Event,
    FileSource,
    NotReplayable,
    PreconditionChanged,
    Result,
    RunFailed,
    RunWaits,
    StoreError,
    StoreUnavailable,
    Tool,
)
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.graphstore.errors import StoreDamaged
from execgraph.tests.models import MODEL

from .conftest import World, misses, outcomes, results, turn
from .outage import Calls, Cut, Held, Outlet, repeat_for

AWAY = "store away"
REFUSED = "precondition changed, not executed"
Choice = Literal["live", "raise"]


@dataclass
class Place:
    """A world whose store can go away."""

    world: World
    outlet: Outlet

    def engine(self, on_store_error: Choice = "live") -> Engine:
        return self.world.engine(on_store_error=on_store_error)

    def others(self) -> Engine:
        """Somebody who reaches the store whatever becomes of this outlet."""
        return Engine(self.outlet.direct, namespace=self.world.namespace)


@pytest.fixture
async def place(
    url: str, server: tuple[MessagesServer, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setattr("execgraph.engine.sessions.outage._PROBE_SECONDS", 0.05)
    monkeypatch.setattr("execgraph.engine.sessions.outage._OPEN_SECONDS", 1.0)
    monkeypatch.setattr("execgraph.engine.sessions.replay_writer._AGAIN_SECONDS", 0.05)
    repeat_for(monkeypatch, 3.0)  # what has begun when it goes
    outlet: Held | Cut = (Held if url.startswith("sqlite") else Cut)(url, monkeypatch)
    await outlet.come()
    running, script = server
    async with AsyncAnthropic(base_url=running.url, api_key="test-key", max_retries=0) as client:
        namespace = f"test-{uuid.uuid4().hex[:12]}"
        yield Place(World(outlet.url, namespace, running, client, script), outlet)
    if isinstance(outlet, Cut):
        await outlet.go()
    else:
        await outlet.come()


def rollout(place: Place, engine: Engine, before: Callable[[str], Awaitable[None]]) -> Agent:
    """Looks, then deploys to two places in one reply, then tells others. Three replies but one
    hold a write; ``before`` happens inside each tool, before it does anything."""
    world = place.world

    def think(body: dict[str, Any]) -> Answer:
        match turn(body):
            case 0:
                return Answer([call("look", {})])
            case 1:
                return Answer([call("deploy", {"to": "eu"}), call("deploy", {"to": "us"})])
            case 2:
                return Answer([call("announce", {})])
        return Answer([text(f"said: {' '.join(map(str, results(body)))}")])

    world.think(think)

    @engine.tool(effect="read", requires=[Acl("look")])
    async def look() -> str:
        """Look."""
        await before("look")
        world.done.append("look")
        return "fine"

    @engine.tool(effect="write", requires=[Acl("deploy")])
    async def deploy(to: str) -> str:
        """Deploy."""
        await before(f"deploy {to}")
        world.done.append(f"deploy {to}")
        return f"deployed to {to}"

    @engine.tool(effect="write", requires=[])
    async def announce() -> str:
        """Tell others."""
        await before("announce")
        world.done.append("announce")
        return "told"

    return world.agent(engine, [look, deploy, announce])


ALL = ["look", "deploy eu", "deploy us", "announce"]
SAID = "said: fine deployed to eu deployed to us told"


async def nothing(_: str) -> None:
    pass


async def allow(engine: Engine) -> None:
    for name in ("look", "deploy"):
        await engine.observe(f"acl:{name}", {"allow": True})


async def until_served(agent: Agent, task: str = "go") -> Result:
    """Run it until the store serves again."""
    result = await agent.execute(task)
    for _ in range(200):
        if result.replayed:
            return result
        await asyncio.sleep(0.02)
        result = await agent.execute(task)
    raise AssertionError(f"it never finds back to its store: {misses(result)}")


def warnings(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    return [it.getMessage() for it in caplog.records if part in it.getMessage()]


# Wherever it goes -------------------------------------------------------------------------


def plausible(done: Sequence[str], result: Result) -> None:
    """Each effect at most once, in order, and each that is told was done."""
    assert len(set(done)) == len(done), done
    assert [it for it in ALL if it in done] == sorted(done, key=ALL.index)
    told = sorted(effect.tool for effect in result.effects)
    assert told == sorted(it.split()[0] for it in done if it != "look")


async def sweep(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    on_store_error: Choice,
    check: Callable[[str, Any, int, list[str]], None],
    *,
    recorded: bool,
) -> None:
    """Run with the store going away before each of its calls in turn, and ``check`` each:
    called with the call's name, what came of the run, the requests, and what was done."""
    engine = place.engine(on_store_error)
    agent = rollout(place, engine, nothing)
    async with engine:
        await allow(engine)
        calls = Calls(engine.session().store, monkeypatch)
        at = 0
        while True:
            task = "go" if recorded else f"go {at}"
            if recorded and at == 0:
                await agent.execute(task)
            calls.reset(at, place.outlet.go)
            outcome, asked, done = await place.world.count(attempt(agent, task))
            if len(calls.made) <= at:
                assert at > 2
                break
            check(calls.made[at], outcome, asked, done)
            calls.reset(None, place.outlet.go)
            await place.outlet.come()
            if on_store_error == "live":
                await back(engine)
            at += 1
            # Whatever it was, what comes next is whole: as recorded, or recorded now.
            after, _, done = await place.world.count(agent.execute(task))
            assert (after.output, done) == (SAID, ALL)
            assert after.replayed or after.recorded
            again, asked, done = await place.world.count(agent.execute(task))
            assert (again.output, asked, done) == (SAID, 0, ALL)


async def back(engine: Engine) -> None:
    outage = engine.session().outage
    assert outage is not None
    async with asyncio.timeout(30):
        while outage.ongoing:  # noqa: ASYNC110  (as anybody would see it)
            await asyncio.sleep(0.01)


async def attempt(agent: Agent, task: str) -> Result | StoreError | RunFailed:
    try:
        return await agent.execute(task)
    except (StoreError, RunFailed) as error:
        return error


@pytest.mark.parametrize("recorded", [True, False])
async def test_a_live_run_goes_on_wherever_its_store_goes(
    place: Place, monkeypatch: pytest.MonkeyPatch, recorded: Any
) -> None:
    def check(name: str, outcome: Any, asked: int, done: list[str]) -> None:
        assert isinstance(outcome, Result), (name, outcome)
        plausible(done, outcome)
        if outcome.replayed and outcome.recorded is False and AWAY not in misses(outcome):
            assert isinstance(place.outlet, Held)  # it was only read, and reading goes on
            assert asked == 0
            return
        assert (outcome.recorded, AWAY in misses(outcome)) == (False, True), (name, misses(outcome))
        if done == ALL:
            assert outcome.output == SAID
        else:  # one effect of the reply was done, and the other one cannot be checked
            assert recorded
            assert [str(it.outcome) for it in outcome.steps].count("refused") == 1
            assert REFUSED in outcome.output
        if not recorded:
            assert asked == 4

    await sweep(place, monkeypatch, "live", check, recorded=recorded)


@pytest.mark.parametrize("recorded", [True, False])
async def test_a_run_that_needs_its_store_fails_wherever_that_goes(
    place: Place, monkeypatch: pytest.MonkeyPatch, recorded: Any
) -> None:
    def check(name: str, outcome: Any, asked: int, done: list[str]) -> None:
        if isinstance(outcome, Result):  # it had come to its end
            plausible(done, outcome)
            assert (outcome.output, done) == (SAID, ALL)
            if recorded:
                assert outcome.replayed
                return
            assert (outcome.recorded, AWAY in misses(outcome)) == (False, True)
            assert name in ("write", "unbroken", "publish") or isinstance(place.outlet, Held)
            return
        if isinstance(outcome, StoreUnavailable):
            assert (asked, done) == (0, [])
            return
        assert isinstance(outcome, RunFailed), outcome
        assert isinstance(outcome.__cause__, StoreUnavailable)
        assert outcome.execution_id
        assert outcome.in_doubt == ()
        assert [it.tool for it in outcome.effects] == [it.split()[0] for it in done if it != "look"]
        assert outcome.safe_to_retry == (not outcome.effects)

    await sweep(place, monkeypatch, "raise", check, recorded=recorded)


# At the beginning -------------------------------------------------------------------------


@pytest.mark.neo4j
@pytest.mark.parametrize("url", ["neo4j"], indirect=True)
async def test_equal_runs_wait_for_nobody_while_their_store_is_away(place: Place) -> None:
    together = asyncio.Barrier(3)
    waits: list[Event] = []

    async def meet(tool: str) -> None:
        if tool == "look":
            await together.wait()  # nobody comes through unless all do

    engine = place.engine("live")
    agent = rollout(place, engine, meet)
    engine.subscribe(lambda event: waits.append(event) if isinstance(event, RunWaits) else None)
    async with engine, asyncio.timeout(60):
        await allow(engine)
        await place.outlet.go()
        results = await asyncio.gather(*(agent.execute("go") for _ in range(3)))
    assert [it.mode for it in results] == ["live"] * 3
    assert waits == []


@pytest.mark.neo4j
@pytest.mark.parametrize("url", ["neo4j"], indirect=True)
@pytest.mark.parametrize("choice", ["live", "raise"])
async def test_who_waits_when_the_store_goes_waits_no_longer(place: Place, choice: Choice) -> None:
    """The leader is somebody who reaches the store still."""
    here, began, waits = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold(tool: str) -> None:
        began.set()
        await here.wait()

    others, engine = place.others(), place.engine(choice)
    engine.subscribe(lambda event: waits.set() if isinstance(event, RunWaits) else None)
    leading, waiting = rollout(place, others, hold), rollout(place, engine, nothing)
    async with others, engine, asyncio.timeout(60):
        await allow(others)
        leader = asyncio.ensure_future(leading.execute("go"))
        await began.wait()
        waiter = asyncio.ensure_future(waiting.execute("go"))
        await waits.wait()
        await place.outlet.go()
        outcome: Any = (await asyncio.gather(waiter, return_exceptions=True))[0]
        assert not leader.done()
        here.set()
        assert (await leader).output == SAID
    if choice == "live":
        assert (outcome.mode, outcome.output, misses(outcome)) == ("live", SAID, [AWAY])
    else:
        assert isinstance(outcome, StoreUnavailable)


@pytest.mark.neo4j
@pytest.mark.parametrize("url", ["neo4j"], indirect=True)
async def test_a_run_that_begins_without_its_store_does_nothing_or_is_live(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = place.engine("raise")
    agent = rollout(place, strict, nothing)
    async with strict:
        await allow(strict)
        await agent.execute("go")
        await place.outlet.go()
        for replay in (True, False):
            with pytest.raises(StoreUnavailable):
                await place.world.count(agent.execute("go", replay=replay))
            assert place.world.done == []
        await place.outlet.come()
        result, asked, _ = await place.world.count(agent.execute("go"))
        assert (asked, result.identical) == (0, True)

    engine = place.engine("live")
    agent = rollout(place, engine, nothing)
    async with engine:
        assert (await agent.execute("go")).identical
        calls = Calls(engine.session().store, monkeypatch)
        await place.outlet.go()
        for number in range(3):
            calls.made.clear()
            result, asked, done = await place.world.count(agent.execute("go"))
            assert (asked, done, result.output) == (4, ALL, SAID)
            assert (result.mode, result.recorded, misses(result)) == ("live", False, [AWAY])
            assert calls.made == ([] if number else ["still"]), "only the first one waits for it"
            assert {it.outcome for it in result.steps} == {"asked", "executed"}
        assert len(warnings(caplog, "the store is away")) == 1
        for replay in (True, False):
            with pytest.raises(NotReplayable, match=AWAY):
                await agent.execute("go", require="replay", replay=replay)
        await place.outlet.come()
        assert (await until_served(agent)).identical
        await place.outlet.go()
        assert misses(await agent.execute("go")) == [AWAY]
        assert len(warnings(caplog, "the store is away")) == 2
        await place.outlet.come()
        await back(engine)


async def test_what_asks_or_changes_always_raises(place: Place) -> None:
    engine = place.engine("live")
    agent = rollout(place, engine, nothing)
    async with engine:
        await allow(engine)
        result = await agent.execute("go")
        await place.outlet.go()
        with pytest.raises(StoreUnavailable):
            await engine.observe("acl:deploy", {"allow": False})
        with pytest.raises(StoreUnavailable):
            await engine.withdraw("acl:deploy")
        if isinstance(place.outlet, Cut):
            for ask in (engine.why(result.execution_id), engine.stats(), engine.settle()):
                with pytest.raises(StoreUnavailable):
                    await ask
        await place.outlet.come()
        await engine.observe("acl:deploy", {"allow": False})


# In the middle ----------------------------------------------------------------------------


async def test_what_was_served_has_no_effect_that_cannot_be_checked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fact changes, and nobody can see it: the model is asked, and decides otherwise."""
    engine = place.engine("live")
    hidden: list[str] = []

    async def change_unseen(tool: str) -> None:
        if tool == "look" and hidden:
            async with place.others() as others:
                await others.observe("acl:deploy", {"allow": hidden.pop()})
            await place.outlet.go()

    agent = rollout(place, engine, change_unseen)
    async with engine:
        await allow(engine)
        await agent.execute("go")
        hidden.append("nobody")
        think = place.world.script[0]

        def wiser(body: dict[str, Any]) -> Answer:
            answer: Answer = think(body) if turn(body) != 1 else Answer([text("not allowed")])
            return answer

        place.world.think(wiser)
        result, asked, done = await place.world.count(agent.execute("go"))
        assert (asked, done, result.output) == (1, ["look"], "not allowed")
        assert AWAY in misses(result)
        assert not result.recorded
        await place.outlet.come()
        await back(engine)
        result, asked, done = await place.world.count(agent.execute("go"))
        assert (asked, done) == (1, ["look"])
        assert "precondition changed" in misses(result)


async def test_what_was_just_asked_has_its_effects(place: Place) -> None:
    engine = place.engine("live")

    async def cut(tool: str) -> None:
        if tool == "look" and armed:
            armed.clear()
            await place.outlet.go()

    armed = [True]

    agent = rollout(place, engine, cut)
    async with engine:
        await allow(engine)
        result, asked, done = await place.world.count(agent.execute("go"))
        assert (asked, done, result.output) == (4, ALL, SAID)
        assert [it.state for it in result.effects] == ["done"] * 3
        assert AWAY in misses(result)
        await place.outlet.come()
        await back(engine)
        assert (await agent.execute("go")).recorded


async def test_the_rest_of_a_reply_is_refused_once_one_of_its_effects_has_begun(
    place: Place,
) -> None:
    engine = place.engine("live")
    armed: list[bool] = []

    async def cut(tool: str) -> None:
        if tool.startswith("deploy") and armed:
            armed.clear()
            await place.outlet.go()

    agent = rollout(place, engine, cut)
    async with engine:
        await allow(engine)
        await agent.execute("go")
        armed.append(True)
        # Both calls of the reply are begun at once: hold the second back until the first is in.
        store = engine.session().store
        intend, begun = store.intend, asyncio.Event()

        async def in_turn(*args: Any, **more: Any) -> Any:
            if not begun.is_set():
                begun.set()
                return await intend(*args, **more)
            while armed:  # noqa: ASYNC110  (until the first one is in)
                await asyncio.sleep(0.01)
            return await intend(*args, **more)

        store.intend = in_turn  # type: ignore[method-assign]
        result, asked, done = await place.world.count(agent.execute("go"))
        assert done == ["look", "deploy eu", "announce"]
        assert ("deploy", "refused") in outcomes(result)
        assert REFUSED in result.output
        assert asked == 2, "it is told, and decides what follows from it"
        assert (result.recorded, AWAY in misses(result)) == (False, True)
        await place.outlet.come()
        await back(engine)


async def test_a_required_replay_fails_rather_than_asks(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = place.engine("live")
    armed: list[bool] = []

    async def cut(tool: str) -> None:
        if tool == "look" and armed:
            await place.outlet.go()

    agent = rollout(place, engine, cut)
    async with engine:
        await allow(engine)
        await agent.execute("go")
        armed.append(True)
        with pytest.raises(RunFailed, match=AWAY) as failure:
            await place.world.count(agent.execute("go", require="replay"))
        assert place.world.done == ["look"]
        assert failure.value.safe_to_retry
        await place.outlet.come()
        await back(engine)


# At the end -------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["live", "raise"])
async def test_the_answer_of_a_run_is_not_lost_because_it_cannot_be_recorded(
    place: Place, choice: Choice, caplog: pytest.LogCaptureFixture
) -> None:
    engine = place.engine(choice)

    agent = rollout(place, engine, nothing)
    async with engine:
        await allow(engine)
        store, armed = engine.session().store, [True]
        write = store.write

        async def cut(*args: Any) -> Any:
            if armed:
                armed.clear()
                await place.outlet.go()
            return await write(*args)

        store.write = cut  # type: ignore[assignment,method-assign]
        result, asked, done = await place.world.count(agent.execute("go"))
        assert (asked, done, result.output) == (4, ALL, SAID)
        assert (result.recorded, misses(result)) == (False, ["new task", AWAY])
        assert "see that the store can be reached" in result.miss[-1].remedy
        told = warnings(caplog, "is away" if choice == "live" else result.execution_id)
        assert len(told) == 1
        await place.outlet.come()
        if choice == "live":
            await back(engine)
        assert (await agent.execute("go")).recorded


@pytest.mark.parametrize("choice", ["live", "raise"])
async def test_replays_wait_and_are_written_when_the_store_is_back(
    place: Place, choice: Choice
) -> None:
    engine = place.engine(choice)

    async def cut(tool: str) -> None:
        if tool == "announce" and armed:
            await place.outlet.go()

    armed: list[bool] = []
    agent = rollout(place, engine, cut)
    async with engine:
        await allow(engine)
        first = await agent.execute("go")
        armed.append(True)
        replays = [await agent.execute("go")]
        assert replays[0].replayed
        await asyncio.sleep(1)  # it is tried, in vain
        await place.outlet.come()
        async with place.others() as others:
            store = others.session().store
            states: list[str] = []
            async with asyncio.timeout(30):
                while states != ["done"] * 3:
                    effects = await store.effects(replays[0].execution_id)
                    states = [str(it.state) for it in effects]
                    await asyncio.sleep(0.02)
            assert first.execution_id != replays[0].execution_id


# Programs ---------------------------------------------------------------------------------


def program_request(word: str) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": word}]}


@pytest.mark.parametrize("choice", ["live", "raise"])
async def test_a_program_is_told_and_may_decide_again(place: Place, choice: Choice) -> None:
    world = place.world
    world.think(lambda body: Answer([text("yes")]))
    engine = place.engine(choice)

    @engine.tool(effect="write", requires=[Acl("deploy")])
    async def ship() -> str:
        """Ship."""
        world.done.append("ship")
        return "shipped"

    async def work(*, cut: bool) -> Any:
        async with engine.run("program", "go", client=world.client) as run:
            assert (await run.decide(program_request("ship?"))).value
            if cut:
                await place.outlet.go()
            try:
                await run.act(ship)
            except PreconditionChanged as changed:
                assert AWAY in str(changed)  # noqa: PT017
                assert world.done == []
                assert (await run.decide(program_request("ship?"))).value
                await run.act(ship)
            run.output = "done"
        return run.result

    async with engine:
        await allow(engine)
        assert (await work(cut=False)).recorded
        assert (await work(cut=False)).replayed
        if choice == "raise":
            with pytest.raises(RunFailed) as failure:
                await world.count(work(cut=True))
            assert failure.value.safe_to_retry
            assert world.done == []
            assert isinstance(failure.value.__cause__, StoreUnavailable)
            await place.outlet.come()
            assert (await work(cut=False)).replayed
            return
        result, asked, done = await world.count(work(cut=True))
        assert (asked, done) == (1, ["ship"])
        assert (result.recorded, result.output, AWAY in misses(result)) == (False, "done", True)
        await place.outlet.come()
        await back(engine)
        assert (await work(cut=False)).replayed


async def test_what_a_program_s_tool_raises_is_the_tool_s(place: Place) -> None:
    """Also if it uses a store itself, which is away."""
    engine = place.engine("raise")

    @engine.tool(effect="read")
    async def elsewhere() -> str:
        """Ask another store."""
        raise StoreUnavailable("another one")

    async with engine:
        async with engine.run("program", "go") as run:
            with pytest.raises(StoreUnavailable, match="another one"):
                await run.act(elsewhere)
        assert run.result.recorded


# Opening ----------------------------------------------------------------------------------


async def locked_out(place: Place, tmp_path: Path) -> tuple[str, Callable[[], Awaitable[None]]]:
    """The address of a store that cannot be opened now, and what lets it be."""
    if isinstance(place.outlet, Held):
        await place.outlet.go()
        await place.outlet.come()
        # Not a log yet, so that its lock keeps readers out too.
        holder = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")

        async def let() -> None:
            holder.close()

        return f"sqlite:///{tmp_path}/locked.db", let
    await place.outlet.go()
    return place.outlet.url, place.outlet.come


async def test_a_service_may_start_while_its_store_is_away(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, let = await locked_out(place, tmp_path)
    world = place.world
    world.url = url
    with pytest.raises(StoreUnavailable):
        await place.engine("raise").__aenter__()
    (tmp_path / "look.yaml").write_text("allow: true")
    (tmp_path / "deploy.yaml").write_text("allow: true")
    source = FileSource(str(tmp_path / "*.yaml"), resource="acl:{path.stem}")
    engine = place.engine("live")
    agent = rollout(place, engine, nothing)
    async with engine, engine.watch([source]) as watcher:
        result, asked, done = await world.count(agent.execute("go"))
        assert (asked, done, result.recorded, misses(result)) == (4, ALL, False, [AWAY])
        assert not watcher.scanned_at
        assert len(warnings(caplog, "the store is away")) == 1
        await let()
        await back(engine)
        assert watcher.scanned_at, "before any run rests on it"
        assert misses(await agent.execute("go")) == ["new task"]
        assert (await agent.execute("go")).identical


async def test_it_may_end_without_its_store_ever_having_been_there(
    place: Place, tmp_path: Path
) -> None:
    url, let = await locked_out(place, tmp_path)
    place.world.url = url
    engine = place.engine("live")
    agent = rollout(place, engine, nothing)
    async with engine:
        assert (await agent.execute("go")).output == SAID
    with engine.sync() as e:
        assert misses(await asyncio.to_thread(e.agent(agent).execute, "go")) == [AWAY]
    await let()


async def test_what_changes_while_the_store_is_away_is_known_before_it_is_used_again(
    place: Place, tmp_path: Path
) -> None:
    rules = tmp_path / "deploy.yaml"
    rules.write_text("allow: true")
    source = FileSource(str(tmp_path / "*.yaml"), resource="acl:{path.stem}")
    engine = place.engine("live")
    agent = rollout(place, engine, nothing)
    async with engine, engine.watch([source]):
        await engine.observe("acl:look", {"allow": True})
        await agent.execute("go")
        assert (await agent.execute("go")).identical
        await place.outlet.go()
        await agent.execute("another")
        assert engine.session().outage is not None
        rules.write_text("allow: false")
        await place.outlet.come()
        await back(engine)
        result, asked, _ = await place.world.count(agent.execute("go"))
        assert "precondition changed" in misses(result)
        assert asked >= 1


async def test_what_is_no_absence_is_always_raised(place: Place, tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreDamaged):
        await Engine(f"sqlite:///{tmp_path}/broken.db", on_store_error="live").__aenter__()


def test_the_choice_is_one_of_two(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'ignore' is unknown; use one of live, raise"):
        Engine(f"sqlite:///{tmp_path}/graph.db", on_store_error="ignore")  # type: ignore[arg-type]


async def test_what_an_action_gave_is_not_lost_because_nobody_can_say_where_it_differs(
    place: Place,
) -> None:
    """The store goes while a tool runs that gives another output than the recorded one."""
    engine, outputs = place.engine("raise"), ["recorded", "another"]
    seen = []

    @engine.tool(effect="read")
    async def look() -> str:
        """Look."""
        output = outputs.pop(0)
        if output == "another":
            await place.outlet.go()
        return output

    @engine.tool(effect="read")
    async def wait() -> str:
        """Wait."""
        return "waited"

    async def once(tool: Tool) -> None:
        async with engine.run("program", "go") as run:
            seen.append((await run.act(tool)).value)

    async with engine:
        await once(look)
        await once(wait)  # the newest trace, whose payloads are at hand, has not looked
        with suppress(RunFailed):
            await once(look)
    assert seen == ["recorded", "waited", "another"]


async def test_what_is_to_be_confirmed_does_not_begin_without_the_store(place: Place) -> None:
    engine, world, asked = place.engine(), place.world, []

    @engine.tool(effect="confirm", requires=[])
    def ship() -> str:
        """Ship."""
        world.done.append("ship")
        return "shipped"

    async def confirm(request: ConfirmationRequest) -> bool:
        asked.append(request.id)
        await place.outlet.go()
        return True

    async with engine:
        for count in (1, 1):  # it goes while a person thinks, and it is away from the start
            with pytest.raises(RunFailed):
                async with engine.run("shipper", {"n": 1}, confirm=confirm) as run:
                    await run.act(ship)
            assert (world.done, len(asked)) == ([], count)
        await place.outlet.come()
        await back(engine)
        async with engine.run("shipper", {"n": 1}, confirm=lambda _: True) as run:
            await run.act(ship)
        assert world.done == ["ship"]
