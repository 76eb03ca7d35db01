"""Opening and closing: several event loops, forks, threads, cancellation, and a damaged store."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from execgraph import (
    Acl,
    Agent,
    ConfigurationError,
    Engine,
    NotOpen,
    RunFailed,
    StoreError,
    StoreUnavailable,
)
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.tests.models import MODEL

from .conftest import World, misses, outcomes, turn

SECRET = "s3cr3t-w0rd"  # not a real one


class Program:
    """A program as people write it: engine, client, tool and agent at module level."""

    def __init__(self, url: str, server: MessagesServer, namespace: str | None = None) -> None:
        self.engine = Engine(url, namespace=namespace or f"test-{uuid.uuid4().hex[:12]}")
        self.client = AsyncAnthropic(base_url=server.url, api_key="test-key", max_retries=0)
        self.done: list[str] = []

        @self.engine.tool(effect="write", requires=[Acl("ship")])
        async def ship() -> str:
            """Ship."""
            self.done.append("ship")
            return "shipped"

        self.agent: Agent = self.engine.agent(
            "shipper", client=self.client, model=MODEL, tools=[ship]
        )

    async def main(self, task: str = "go") -> Any:
        async with self.engine:
            await self.engine.observe("acl:ship", "yes")
            return await self.agent.execute(task)


def ship_once(body: dict[str, Any]) -> Answer:
    return Answer([text("done")] if turn(body) else [call("ship", {})])


@pytest.fixture
def program(url: str, server: tuple[MessagesServer, list[Any]]) -> Program:
    running, script = server
    script[:] = [ship_once]
    return Program(url, running)


@pytest.fixture
def requests(server: tuple[MessagesServer, list[Any]]) -> Callable[[], int]:
    return lambda: server[0].requests


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Neither an event loop's nor a store's."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    until = time.monotonic() + 2
    while (left := _started_since(before)) and time.monotonic() < until:
        time.sleep(0.02)
    assert left == []


def _started_since(before: set[threading.Thread]) -> list[str]:
    new = set(threading.enumerate()) - before
    return [thread.name for thread in new if thread.name.startswith("execgraph")]


# Before it is open ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["neo4j://user:pw@203.0.113.1:7687/graph", "sqlite:////nowhere/at/all/graph.db"]
)
def test_constructing_does_no_io(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[Any] = []
    monkeypatch.setattr(socket, "socket", sockets.append)
    engine = Engine(url)
    engine.agent("a", model=MODEL)
    engine.run("program", "go")
    assert sockets == []
    assert not Path("/nowhere").exists()


@pytest.mark.parametrize(
    "url", ["mysql://u:s3cr3t-w0rd@h/d", "graph.db", "sqlite://x.db", "neo4j://", "", "::"]
)
def test_a_wrong_url_is_told_where_it_is_written(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///graph.db|is not the address") as told:
        Engine(url)
    assert SECRET not in str(told.value)


def test_what_is_not_open_says_how_to_open_it(program: Program) -> None:
    async def use() -> None:
        await program.agent.execute("go")

    async def in_a_run() -> None:
        async with program.engine.run("p", "go"):
            pass

    works: tuple[Callable[[], Any], ...] = (
        use,
        in_a_run,
        lambda: program.engine.observe("acl:ship", "yes"),
        lambda: program.engine.withdraw("acl:ship"),
        program.engine.settle,
    )
    for work in works:
        with pytest.raises(NotOpen, match=r"write 'async with engine:' around this"):
            asyncio.run(work())
    with pytest.raises(NotOpen, match=r"with engine.sync\(\) as e"):
        program.engine.session()
    face = program.engine.sync()
    with pytest.raises(NotOpen, match="use it inside"):
        face.observe("acl:ship", "yes")


async def test_a_store_that_cannot_be_reached_is_told_and_tried_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if world.url.startswith("sqlite"):
        blocked = tmp_path / "blocked"
        blocked.write_text("a file where the folder should be")
        engine = Engine(f"sqlite:///{blocked}/graph.db")
        for _ in range(2):
            with pytest.raises(StoreError, match="blocked"):
                await engine.__aenter__()
        blocked.unlink()
        async with engine:
            await engine.observe("acl:ship", "yes")
        return
    monkeypatch.setattr("execgraph.graphstore.neo4j.client.RETRY_SECONDS", 0.3)
    engine = Engine(f"bolt://neo4j:{SECRET}@127.0.0.1:9")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9") as failure:
            await engine.__aenter__()
        assert SECRET not in f"{failure.value!r}{failure.value.__cause__!r}"
        with pytest.raises(NotOpen):
            await engine.observe("acl:ship", "yes")


async def test_opening_may_be_given_up(world: World) -> None:
    engine = world.engine()
    for _ in range(3):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await engine.__aenter__()
                await engine.__aexit__(None, None, None)
    async with engine:
        await engine.observe("acl:ship", "yes")


async def test_entering_again_uses_the_same_session(world: World) -> None:
    engine = world.engine()
    async with engine:
        session = engine.session()
        async with engine:
            assert engine.session() is session
        await engine.observe("acl:ship", "yes")
        await asyncio.gather(*(engine.__aenter__() for _ in range(5)))
        await asyncio.gather(*(engine.__aexit__(None, None, None) for _ in range(5)))
        await engine.observe("acl:ship", "no")
    with pytest.raises(NotOpen):
        engine.session()
    async with engine:
        assert engine.session() is not session


# Several loops, processes and threads -----------------------------------------------------


def test_a_program_may_run_several_event_loops_one_after_another(
    program: Program, requests: Callable[[], int]
) -> None:
    """Engine and client are the same: neither is bound to the first loop's connections."""
    assert asyncio.run(program.main()).tokens > 0
    for number in range(4):
        assert asyncio.run(program.main()).identical
        assert asyncio.run(program.main(f"other {number}")).tokens > 0
    assert requests() == 2 * 5
    asyncio.run(program.client.close())


def test_a_client_with_an_http_client_of_its_own_is_used_as_it_is(
    url: str, server: tuple[MessagesServer, list[Any]]
) -> None:
    import httpx2

    running, script = server
    script[:] = [ship_once]
    sent = []

    async def sending(request: Any) -> None:
        sent.append(request.url.path)

    async def main() -> None:
        async with httpx2.AsyncClient(event_hooks={"request": [sending]}) as http_client:
            program = Program(url, running)
            client = AsyncAnthropic(base_url=running.url, api_key="k", http_client=http_client)
            agent = program.engine.agent(
                "own", client=client, model=MODEL, tools=list(program.agent.tools.values())
            )
            async with program.engine:
                await program.engine.observe("acl:ship", "yes")
                await agent.execute("go")
            assert not http_client.is_closed, "it is the program's"
            await program.client.close()

    asyncio.run(main())
    assert sent == ["/v1/messages"] * 2


def test_without_a_client_the_environment_s_is_used_and_closed(
    url: str, server: tuple[MessagesServer, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, script = server
    script[:] = [lambda body: Answer([text("hi")])]
    monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
    engine = Engine(url, namespace=f"test-{uuid.uuid4().hex[:12]}")
    agent = engine.agent("talker", model=MODEL)
    request = {
        "model": MODEL,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    }

    async def main(task: str) -> None:
        async with engine:
            await agent.execute(task)
            async with engine.run("program", task) as run:
                await run.decide(request)

    for number in range(3):
        asyncio.run(main(f"task {number}"))
    assert running.requests == 6


def child(program: Program, answers: Any) -> None:
    """What a forked worker does: it replays, records, and changes a fact."""
    try:
        replayed = asyncio.run(program.main())
        recorded = asyncio.run(program.main("from the child"))
        answers.put((replayed.identical, recorded.recorded, len(program.done)))
    except BaseException as error:  # noqa: BLE001  (the parent is to see it)
        answers.put(repr(error))


@pytest.mark.filterwarnings(
    # What this test is about: the worker opens connections of its own and touches no inherited one.
    "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"
)
def test_a_forked_worker_and_its_parent_both_go_on(
    program: Program, requests: Callable[[], int]
) -> None:
    context = multiprocessing.get_context("fork")

    async def parent() -> None:
        async with program.engine:
            await program.main()
            answers: Any = context.Queue()
            workers = [context.Process(target=child, args=(program, answers)) for _ in range(2)]
            for worker in workers:
                worker.start()
            got = [await asyncio.to_thread(answers.get, timeout=60) for _ in workers]
            for worker in workers:
                await asyncio.to_thread(worker.join, 30)
                assert worker.exitcode == 0
            answers.close()
            await asyncio.to_thread(answers.join_thread)
            assert [it[::2] for it in got] == [(True, 3)] * 2, got
            assert True in [recorded for _, recorded, _ in got]
            before = requests()
            again = await program.agent.execute("go")
            assert again.identical
            theirs = await program.agent.execute("from the child")
            assert theirs.identical
            assert requests() == before
            await program.engine.observe("acl:ship", "no")
            assert not (await program.agent.execute("go")).replayed

    asyncio.run(parent())
    assert asyncio.run(program.main()).identical
    asyncio.run(program.client.close())


async def test_many_engines_share_one_store(world: World) -> None:
    world.think(ship_once)
    programs = [Program(world.url, world.server, world.namespace) for _ in range(8)]
    async with programs[0].engine:
        await programs[0].engine.observe("acl:ship", "yes")
    results = await asyncio.gather(*(it.main(f"task {n % 4}") for n, it in enumerate(programs)))
    assert all(result.output == "done" for result in results)
    before = world.server.requests
    again = await asyncio.gather(*(it.main(f"task {n % 4}") for n, it in enumerate(programs)))
    assert all(result.identical for result in again)
    assert world.server.requests == before
    for program in programs:
        await program.client.close()


# The sync face ----------------------------------------------------------------------------


def test_the_sync_face_serves_several_threads(
    program: Program, requests: Callable[[], int]
) -> None:
    with program.engine.sync() as e:
        e.observe("acl:ship", "yes")
        agent = e.agent(program.agent)
        with ThreadPoolExecutor(8) as pool:
            first = list(pool.map(lambda n: agent.execute(f"task {n}"), range(8)))
            assert requests() == 16
            second = list(pool.map(lambda n: agent.execute(f"task {n}"), range(8)))
        assert requests() == 16
        assert [it.output for it in first] == [it.output for it in second] == ["done"] * 8
        assert all(it.identical for it in second)
        e.settle()
    with pytest.raises(NotOpen):
        agent.execute("task 1")


def test_each_thread_may_open_a_face_of_its_own(program: Program) -> None:
    def work(number: int) -> str:
        with program.engine.sync() as e:
            e.observe("acl:ship", "yes")
            return str(e.agent(program.agent).execute(f"task {number}").output)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(12))) == ["done"] * 12


def test_a_face_is_entered_once_and_another_may_be_opened_inside(program: Program) -> None:
    face = program.engine.sync()
    with face as e, program.engine.sync() as other:
        e.observe("acl:ship", "yes")
        other.observe("acl:ship", "no")
        with pytest.raises(NotOpen, match="entered already"):
            face.__enter__()
    with face as e:
        assert e.observe("acl:ship", "no") is None


async def test_the_sync_face_works_in_the_thread_of_a_running_loop(program: Program) -> None:
    with program.engine.sync() as e:
        e.observe("acl:ship", "yes")
        assert e.agent(program.agent).execute("go").recorded
    await program.client.close()


def test_the_sync_face_cannot_be_waited_for_in_its_own_loop(program: Program) -> None:
    with program.engine.sync() as e:

        @program.engine.tool(effect="read")
        async def blocks() -> str:
            """Wait for itself."""
            e.observe("acl:ship", "no")
            return "never"

        @program.engine.tool(effect="read")
        def from_a_thread() -> str:
            """Wait for the loop in a thread of its own."""
            e.observe("acl:ship", "yes")
            return "fine"

        with e.run("program", "go") as run:
            with pytest.raises(NotOpen, match="own event loop"):
                run.act(blocks)
            assert run.act(from_a_thread).value == "fine"


def test_errors_come_through_the_sync_face_as_they_are(program: Program) -> None:
    with program.engine.sync() as e:

        @program.engine.tool(effect="read")
        def breaks() -> str:
            """Break."""
            raise LookupError("not there")

        run = e.run("program", "go")

        def work() -> None:
            with run:
                with pytest.raises(LookupError, match="not there"):
                    run.act(breaks)
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError) as failure:
            work()
        assert "was not published" in failure.value.__notes__[0]
        with pytest.raises(NotOpen):
            _ = run.result
        with pytest.raises(ConfigurationError, match="does not name a resource"):
            e.observe("nonsense", "x")
        with pytest.raises(RunFailed):
            e.agent(
                "lost",
                client=program.client,
                model=MODEL,
                max_turns=1,
                tools=[program.engine.tools["ship"]],
            ).execute("go")
    with pytest.raises(StoreError), Engine("sqlite:////proc/nope/graph.db").sync():
        pass


def test_ctrl_c_in_the_sync_face_ends_the_work_and_keeps_nothing(
    program: Program, server: tuple[MessagesServer, list[Any]]
) -> None:
    import signal

    asked = threading.Event()

    def slow(body: dict[str, Any]) -> Answer:
        asked.set()
        return ship_once(body)

    server[1][:] = [slow]
    server[0].latency = 30

    def press() -> None:
        assert asked.wait(30)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    before = time.monotonic()

    def work() -> None:
        with program.engine.sync() as e:
            e.observe("acl:ship", "yes")
            e.agent(program.agent).execute("go")

    with pytest.raises(KeyboardInterrupt):
        work()
    presser.join()
    assert time.monotonic() - before < 20
    server[0].latency = 0
    server[1][:] = [ship_once]
    assert program.done == []
    with program.engine.sync() as e:
        assert e.agent(program.agent).execute("go").recorded


# Cancellation -----------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [True, False])
async def test_a_cancelled_run_is_kept_as_failed_and_publishes_nothing(
    world: World, caplog: pytest.LogCaptureFixture, wait: Any
) -> None:
    asked = threading.Event()

    def slow(body: dict[str, Any]) -> Answer:
        asked.set()
        return Answer([text("late")])

    world.think(slow)
    world.server.latency = 5
    engine = world.engine()
    agent = world.agent(engine, [])
    labels = {"ticket": "7"}
    async with engine:
        task = asyncio.create_task(agent.execute("go", labels=labels))
        await asyncio.to_thread(asked.wait, 10)
        task.cancel()
        if wait:
            with pytest.raises(asyncio.CancelledError):
                await task
    with pytest.raises(asyncio.CancelledError):
        await task
    world.server.latency = 0
    async with engine:
        result, requests, _ = await world.count(agent.execute("go"))
        assert (requests, misses(result)) == (1, ["new task"])
    assert "failed" not in caplog.text


async def test_a_cancelled_run_is_written_for_people(world: World) -> None:
    asked = threading.Event()

    def slow(body: dict[str, Any]) -> Answer:
        if turn(body):
            asked.set()
        return ship_once(body)

    world.think(slow)
    engine = world.engine()
    ran: list[str] = []

    @engine.tool(effect="write", requires=[])
    def ship() -> str:
        """Ship."""
        ran.append("ship")
        world.server.latency = 5
        return "shipped"

    async with engine:
        run = engine.run("program", "go", client=world.client)

        async def work() -> None:
            async with run:
                await run.act(ship)
                await run.decide(
                    {
                        "model": MODEL,
                        "max_tokens": 9,
                        "messages": [
                            {"role": "user", "content": "x"},
                            {"role": "assistant", "content": "y"},
                            {"role": "user", "content": "z"},
                        ],
                    }
                )

        task = asyncio.create_task(work())
        await asyncio.to_thread(asked.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with engine:
        store = engine.session().store
        kept = await store.execution(run.execution_id)
        assert kept is not None
        assert (kept.execution.state, kept.execution.reason) == ("failed", "cancelled")
        assert [step.name for step in kept.steps] == ["ship"]
        [effect] = await store.effects(run.execution_id)
        assert effect.state == "done"


# What must not be told --------------------------------------------------------------------


async def test_no_password_is_shown_or_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, neo4j_uri: str
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("execgraph.graphstore.neo4j.client.RETRY_SECONDS", 0.3)
    host = neo4j_uri.partition("://")[2]
    told = []
    for url in (
        f"bolt://neo4j:{SECRET}@127.0.0.1:9",
        f"neo4j+s://neo4j:{SECRET}@127.0.0.1:9/graph",
        f"bolt://neo4j:{SECRET}@{host}/no-such-database",
    ):
        engine = Engine(url)
        told += [repr(engine), repr(vars(engine)), str(engine)]
        with pytest.raises(StoreError) as failure:
            await engine.__aenter__()
        error: BaseException | None = failure.value
        while error is not None:
            told += [repr(error), str(error)]
            error = error.__cause__ or error.__context__
    assert SECRET not in "".join(told)
    assert SECRET not in caplog.text
    assert "***@127.0.0.1:9" in "".join(told)


# A damaged store --------------------------------------------------------------------------


async def damage_payloads(url: str, namespace: str, digests: set[str]) -> None:
    """Change a byte of these payloads, as a bad disk would."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
            for digest in digests:
                changed = db.execute("UPDATE value SET data = x'00' WHERE digest = ?", (digest,))
                assert changed.rowcount == 1
        return
    from neo4j import AsyncGraphDatabase

    async with AsyncGraphDatabase.driver(url) as driver:
        summary = await driver.execute_query(
            "MATCH (v:Value {namespace: $namespace}) WHERE v.digest IN $digests"
            " SET v.data = null, v.text = 'damaged' RETURN count(v) AS n",
            namespace=namespace,
            digests=sorted(digests),
        )
        assert summary.records[0]["n"] == len(digests)


@pytest.mark.parametrize("part", ["reply", "output"])
async def test_a_damaged_payload_is_reported_asked_again_and_healed(
    world: World, part: str
) -> None:
    world.think(ship_once)
    program = Program(world.url, world.server, world.namespace)
    first = await program.main()
    async with program.engine:
        store = program.engine.session().store
        kept = await store.execution(first.execution_id)
    assert kept is not None
    step = kept.steps[0 if part == "reply" else 1]
    await damage_payloads(world.url, world.namespace, {step.output})
    fresh = Program(world.url, world.server, world.namespace)
    result, asked, _ = await world.count(fresh.main())
    assert asked > 0
    assert "payload damaged" in misses(result)
    assert result.output == "done"
    assert result.recorded
    healed = Program(world.url, world.server, world.namespace)
    result, asked, _ = await world.count(healed.main())
    assert asked == 0
    assert result.identical
    assert outcomes(result) == [("?", "replayed"), ("ship", "replayed"), ("?", "replayed")]
    for it in (program, fresh, healed):
        await it.client.close()
