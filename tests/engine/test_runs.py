"""``engine.runs``: which runs there are, and that few are read to tell."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import ConfigurationError, Engine, ExecutionUnknown, NotApprovable, TaskUnknown
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.asking import runs as listing
from execgraph.engine.sessions.process import this_process
from execgraph.graphstore.model import KILLED_AFTER_MS, Execution, ExecutionState, Mode, Replay
from execgraph.graphstore.roles.history import ENDED, Executions
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import sample_effect, sample_recording, sample_replay
from execgraph.tests.engine.conftest import World, turn


def brain(body: dict[str, Any]) -> Answer:
    return Answer([text("Done.")] if turn(body) else [call("look", {"at": "a"})])


@pytest.fixture
def engine(world: World) -> Engine:
    world.think(brain)
    return world.engine()


def agent(world: World, engine: Engine, name: str = "deployer") -> Any:
    def look(at: str) -> str:
        """Look."""
        return f"seen {at}"

    tool = engine._tools.get("look") or engine.tool(effect="read")(look)
    return world.agent(engine, [tool], name=name)


async def test_runs_come_newest_first_and_by_what_is_asked_for(
    world: World, engine: Engine
) -> None:
    deployer, reviewer = (agent(world, engine, name) for name in ("deployer", "reviewer"))
    async with engine:
        first = await deployer.execute({"n": 1}, labels={"pr": "5", "team": "a=b"})
        again = await deployer.execute({"n": 1}, labels={"pr": "6"})
        other = await reviewer.execute({"n": 1}, labels={"pr": "5"})

        async def ids(**wanted: Any) -> list[str]:
            return [it.id for it in await engine.runs(**wanted)]

        newest = [it.execution_id for it in (other, again, first)]
        assert await ids() == newest, "each was asked something, which takes longer than 1 ms"
        assert await ids(agent="deployer") == newest[1:]
        assert await ids(mode="replay") == await ids(mode=Mode.REPLAY) == [again.execution_id]
        assert await ids(state="published") == [newest[0], newest[2]]
        assert await ids(state="published", agent="deployer", mode="live") == [newest[2]]
        assert await ids(labels={"pr": "5"}) == [newest[0], newest[2]]
        assert await ids(labels={"pr": "5", "team": "a=b"}) == [newest[2]]
        assert await ids(labels={"pr": "5"}, agent="reviewer") == [newest[0]]
        assert await ids(since=timedelta(hours=1)) == newest
        assert await ids(since=datetime.now(UTC) + timedelta(hours=1)) == []
        [run] = await engine.runs(mode="replay")
        assert (run.labels, run.mode, run.replayed) == ({"pr": "6"}, Mode.REPLAY, newest[2])
        assert await ids(task=run.task) == newest[1:]
        assert await ids(task=run.task[:9], state="unpublished") == [newest[1]]


async def test_a_list_goes_on_from_where_it_ended(world: World, engine: Engine) -> None:
    deployer = agent(world, engine)
    async with engine:
        made = sorted([(await deployer.execute({"n": n % 2})).execution_id for n in range(5)])
        pages = [await engine.runs(limit=2)]
        while pages[-1].older is not None:
            pages.append(await engine.runs(before=pages[-1].older, limit=2))
        assert [it.id for page in pages for it in page] == made[::-1]
        assert [len(it) for it in pages] == [2, 2, 1]
        assert (await engine.runs(limit=5)).older is None
        assert [it.id for it in await engine.runs(before=made[1][:-4])] == made[:1]


async def test_runs_that_have_not_ended_are_there(world: World, engine: Engine) -> None:
    async with engine:
        store, now = engine.session().store, int(datetime.now(UTC).timestamp() * 1000)
        for name, at in (("running", now), ("killed", now - KILLED_AFTER_MS - 60_000)):
            execution = Execution(
                id=name,
                task="",
                agent="deployer",
                mode=Mode.LIVE,
                state=ExecutionState.RUNNING,
                started_at=at,
                asked=1,
            )
            await store.note_running([execution])
        for state in ("running", "killed"):
            [run] = await engine.runs(state=state)
            assert (run.id, run.state) == (state, state)
            [run] = await engine.runs(state=state, agent="deployer")
            assert run.id == state
            told = (await engine.runs(state=state)).as_json()["runs"][0]
            assert (told["task"], told["agent"], told["state"]) == (None, "deployer", state)
        assert [it.id for it in await engine.runs()] == ["running", "killed"]


async def test_what_does_not_exist_is_no_empty_list_without_a_word(
    world: World, engine: Engine
) -> None:
    deployer = agent(world, engine)
    async with engine:
        await deployer.execute({"n": 0})
        told = "no run that may be meant has a label 'pr'; none has any"
        assert (await engine.runs(labels={"pr": "5"})).hint == told
        run = await deployer.execute({"n": 1}, labels={"pr": "5"})
        assert "'deployer'" in str((await engine.runs(agent="deplyer")).hint)
        assert "agents are 'deployer'" in str((await engine.runs(agent="xyz")).hint)
        assert "'pr'" in str((await engine.runs(labels={"prr": "5"})).hint)
        assert (await engine.runs(labels={"pr": "6"})).hint is None
        assert (await engine.runs(labels={"prr": "5"}, state="failed")).hint is None, "no run"
        assert (await engine.runs(agent="deployer", state="failed")).hint is None
        for wrong, listed in (("mode", "'replay'"), ("state", "'killed'")):
            with pytest.raises(ConfigurationError, match=listed):
                await engine.runs(**{wrong: "faild"})  # type: ignore[arg-type]
        with pytest.raises(TaskUnknown):
            await engine.runs(task="nonsense")
        with pytest.raises(ExecutionUnknown):
            await engine.runs(before="nonsense")
        with pytest.raises(ConfigurationError, match="limit=0"):
            await engine.runs(limit=0)
        await deployer.execute({"n": 2})
        with pytest.raises(ConfigurationError, match="beginning of several"):
            await engine.runs(task="")
        with pytest.raises(ExecutionUnknown, match="beginning of several"):
            await engine.execution(run.execution_id[:1])
    async with Engine(world.url, namespace=f"{world.namespace}-misspelt") as other:
        hint = (await other.runs()).hint
        assert f"nothing in the namespace '{world.namespace}-misspelt'" in str(hint)


def test_the_sync_face_lists_and_reads_runs(url: str, namespace: str, server: Any) -> None:
    running, script = server
    script[:] = [brain]
    engine = Engine(url, namespace=namespace)

    @engine.tool(effect="read")
    def look(at: str) -> str:
        """Look."""
        return f"seen {at}"

    with engine.sync() as e:
        client = AsyncAnthropic(base_url=running.url, api_key="local")
        runs = [e.agent("a", model="m", client=client, tools=[look]).execute({"n": 1})]
        runs.append(e.agent("a", model="m", client=client, tools=[look]).execute({"n": 1}))
        ids = [it.execution_id for it in runs]
        assert [it.id for it in e.runs()] == ids[::-1]
        assert [it.output for it in e.execution(ids[1]).steps[1:2]] == ["seen a"]
        assert e.payload(ids[1], step=1) == (b'"seen a"', False)
        assert not e.diff(*ids).differs


# In a large store -------------------------------------------------------------------------

_MANY = 10_000
_AT_ONCE = 1_000


async def fill(store: GraphStore) -> None:
    """Many replays; one in a thousand is another agent's, one failed long ago."""
    recording = sample_recording(number=1)
    await store.write(recording)
    failed = sample_recording("broken", number=2, state=ExecutionState.FAILED)
    await store.write(failed)
    for start in range(10, _MANY, _AT_ONCE):
        await store.write_replays([replay(recording, n) for n in range(start, start + _AT_ONCE)])


def replay(of: Any, number: int) -> Replay:
    made = sample_replay(of, number)
    rare = {"agent": "reviewer", "labels": {"pr": str(number)}} if number % 1000 == 500 else {}
    return Replay(execution=made.execution.model_copy(update=rare))


class Reads:
    """What a store gave of executions."""

    def __init__(self, store: GraphStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        given = store.executions

        async def executions(of: Executions = ENDED, *, limit: int = 20) -> Sequence[Execution]:
            found = await given(of, limit=limit)
            self.rows += len(found)
            return found

        monkeypatch.setattr(store, "executions", executions)


async def test_of_many_runs_few_are_read(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine:
        store = engine.session().store
        await fill(store)
        reads = Reads(store, monkeypatch)
        since = datetime.fromtimestamp(1_700_000_000 + 9, UTC)
        for wanted, many in (
            ({}, 5),
            ({"agent": "reviewer"}, 5),
            ({"state": "failed"}, 1),
            ({"state": "failed", "agent": "deployer"}, 1),
            ({"state": "running"}, 0),
            ({"mode": "partial"}, 2),
            ({"task": "broken"}, 1),
            ({"task": "broken", "state": "published"}, 0),
            ({"agent": "reviewer", "mode": "live"}, 0),
            ({"agent": "reviewer", "labels": {"pr": "500"}}, 1),
            ({"since": since}, 5),
        ):
            reads.rows = 0
            found = await engine.runs(limit=5, **wanted)
            assert len(found) == many, wanted
            assert reads.rows <= 11, wanted


async def test_what_no_index_finds_is_looked_for_among_the_newest(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine:
        store = engine.session().store
        await fill(store)
        monkeypatch.setattr(listing, "_MOST_READ", 3_000)
        reads = Reads(store, monkeypatch)
        found = await engine.runs(labels={"pr": "9500"}, limit=1)
        assert [it.labels for it in found] == [{"pr": "9500"}]
        reads.rows = 0
        found = await engine.runs(labels={"pr": "500"})
        assert (len(found), reads.rows) == (0, 3_000)
        assert "the newest 3,000" in str(found.hint)
        looked = 0
        while found.older is not None and not found:
            found = await engine.runs(labels={"pr": "500"}, before=found.older)
            looked += 1
        assert [it.labels for it in found] == [{"pr": "500"}]
        assert looked == 3


async def test_the_steps_of_sqlite_do_not_grow_with_the_runs(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/graph.db", namespace="team")
    async with engine:
        store: Any = engine.session().store
        recording = sample_recording(number=1)
        await store.write(recording)
        await store.write_replays([replay(recording, n) for n in range(10, 4_010)])
        wanted: list[dict[str, Any]] = [
            {},
            {"agent": "deployer"},
            {"agent": "reviewer"},
            {"state": "unpublished"},
            {"mode": "replay"},
            {"task": "deploy"},
        ]

        async def steps() -> list[int]:
            counts = []
            for one in wanted:
                taken = 0

                def count() -> int:
                    nonlocal taken
                    taken += 1
                    return 0

                store._read.set_progress_handler(count, 1)
                await engine.runs(limit=3, **one)
                store._read.set_progress_handler(None, 1)
                counts.append(taken)
            return counts

        few = await steps()
        for start in range(4_010, _MANY, _AT_ONCE):
            some = [replay(recording, n) for n in range(start, start + _AT_ONCE)]
            await store.write_replays(some)
        assert [many <= 1.5 * before for many, before in zip(await steps(), few, strict=True)] == [
            True
        ] * len(wanted)


KILLED = """
import asyncio, os, sys
from anthropic import AsyncAnthropic
from execgraph import Engine

engine = Engine(sys.argv[1], namespace=sys.argv[2])


@engine.tool(effect="write", requires=[], version="1")
def ship() -> str:
    "Ship, and die."
    os.kill(os.getpid(), 9)


@engine.tool(effect="read", version="1")
async def look() -> str:
    "Look until the reply is noted, and die."
    await engine.session().replay_writer.running.flush()
    os.kill(os.getpid(), 9)


async def program() -> None:
    async with engine, engine.run("shipper", {"n": 1}) as run:
        await run.act(ship)


async def agent() -> None:
    client = AsyncAnthropic(base_url=sys.argv[4], api_key="test-key")
    async with engine:
        await engine.agent("looker", model="m", client=client, tools=[look]).execute("go")


asyncio.run({"program": program, "agent": agent}[sys.argv[3]]())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell who is dead")
async def test_what_was_killed_is_told_at_once_and_by_whom(world: World, engine: Engine) -> None:
    world.think(lambda body: Answer([call("look", {})]))
    for what in ("program", "agent"):
        arguments = [world.url, world.namespace, what, world.server.url]
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, *arguments)
        assert await child.wait() == -signal.SIGKILL
    async with engine:
        store, now = engine.session().store, int(datetime.now(UTC).timestamp() * 1000)
        here = sample_effect("at-work").model_copy(update={"process": this_process()})
        await store.intend(here, [], agent="worker")
        far = here.model_copy(
            update={"id": "far", "execution": "far-away", "process": "another machine/a/1/1"}
        )
        await store.intend(far, [], agent="elsewhere")
        told = {it.agent: it.state for it in await engine.runs()}
        alive = {"worker": "running", "elsewhere": "running"}
        assert told == {"shipper": "killed", "looker": "killed", **alive}
        killed = await engine.runs(state="killed")
        assert {it.agent for it in killed} == {"shipper", "looker"}
        assert len(await engine.runs(state="running")) == 2
        for run in killed:
            assert run.started_at <= now
            why, recorded = await engine.why(run.id), await engine.execution(run.id)
            assert (why.execution.state, recorded.execution.state) == ("killed", "killed")
            assert "killed" in str(why.hint)
            with pytest.raises(NotApprovable, match="killed"):
                await engine.approve(run.id)
        stats = await engine.stats()
        assert (stats.running, stats.killed) == (2, 2)
        assert (stats.agents["shipper"].killed, stats.agents["worker"].running) == (1, 1)


async def test_a_plain_replay_is_told_with_the_steps_that_it_replayed(
    world: World, engine: Engine
) -> None:
    deployer = agent(world, engine)
    async with engine:
        for _ in range(2):
            await deployer.execute({"n": 1})
        runs = await engine.runs()
        [replay, first] = runs
        assert runs.told(first) == ("published", str(first.steps))
        assert runs.told(replay) == ("", str(first.steps))
        assert "unpublished" not in runs._repr_html_()
        recorded = await engine.execution(replay.id)
        assert "unpublished" not in recorded._repr_html_()
        told = runs.as_json()["runs"][0]
        assert (told["state"], told["steps"]) == ("unpublished", 0), "JSON says what is stored"


async def test_runs_that_are_given_back_are_not_listed_and_it_is_said(
    world: World, engine: Engine
) -> None:
    deployer = agent(world, engine)
    async with engine:
        first = await deployer.execute({"n": 1}, run_id="r1")
        given = await deployer.execute({"n": 1}, run_id="r1")
        assert (given.mode, given.execution_id) == ("returned", first.execution_id)
        assert [it.id for it in await engine.runs()] == [first.execution_id]
        with pytest.raises(ConfigurationError, match="not recorded as a run"):
            await engine.runs(mode="returned")


async def test_the_newest_run_is_read_without_an_id(world: World, engine: Engine) -> None:
    deployer, reviewer = agent(world, engine), agent(world, engine, name="reviewer")
    async with engine:
        with pytest.raises(ExecutionUnknown):
            await engine.execution()
        one = await deployer.execute({"n": 1})
        other = await reviewer.execute({"n": 1})
        assert (await engine.execution()).execution.id == other.execution_id
        assert (await engine.execution(agent="deployer")).execution.id == one.execution_id
        assert await engine.payload(part="output") == (b'"Done."', False)
        assert (await engine.payload(agent="deployer", part="inputs"))[0] == b'{"n":1}'
