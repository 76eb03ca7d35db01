"""Threads of one process: one engine, in the event loops of several of them."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from execgraph import Acl, Engine
from execgraph.engine.host import Host
from execgraph.engine.lookup.plan import Prepared
from execgraph.engine.lookup.required_facets import needs_of_offered
from execgraph.engine.sessions.memory import Memory
from execgraph.graphstore.model import Trace
from execgraph.tests.conformance.samples import sample_recording

from .conftest import SECONDS, Place
from .history import Answer, Change, Timeline

THREADS = 4


@contextmanager
def switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """What ``work`` gives in each of several threads at once, or what it raises."""
    outcomes: list[Any] = [None] * THREADS

    def job(number: int) -> None:
        try:
            outcomes[number] = work(number)
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            outcomes[number] = error

    threads = [threading.Thread(target=job, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _prepared() -> Prepared:
    recording = sample_recording()
    trace = Trace(execution=recording.execution, steps=recording.steps, preconditions={})
    return Prepared(trace, (), {}, {}, dialect=None)  # type: ignore[arg-type]


def test_what_a_process_remembers_may_be_dropped_by_one_thread_while_another_reads_it() -> None:
    trace = _prepared()
    memory, keys = Memory(limit=2 * trace.size), [("a",), ("b",), ("c",)]
    end = time.monotonic() + 0.3

    def work(number: int) -> int:
        done = 0
        while time.monotonic() < end:
            for key in keys:
                memory.put(key, replace(trace), trace.size)
                memory.get(key)
                memory.drop(key)
                done += 1
        return done

    with switching():
        outcomes = in_threads(work)
    assert [it for it in outcomes if isinstance(it, BaseException)] == []


def test_tools_may_be_declared_by_one_thread_while_another_looks_at_them() -> None:
    engine = Engine("sqlite:///never-opened.db")
    ended = threading.Event()

    def nothing() -> None:
        """Do nothing."""

    def work(number: int) -> None:
        if number > 0:
            while not ended.is_set():
                engine.run("p", "go")._definition.code.identity  # noqa: B018 - it may raise
                needs_of_offered(engine._tools, "go", None)
            return
        try:
            for n in range(50):
                engine.tool(nothing, name=f"t{n}", effect="pure", version="1")
        finally:
            ended.set()

    with switching():
        assert in_threads(work) == [None] * THREADS


def test_threads_may_enter_at_once_what_a_parent_process_had_open() -> None:
    for _ in range(10):
        host, loop = Host(None, "team"), asyncio.new_event_loop()
        host._open |= {(-number, loop): Any for number in range(1, 300)}  # type: ignore[misc]
        barrier = threading.Barrier(THREADS)

        def work(number: int, host: Host = host, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            host._disown(os.getpid())

        with switching():
            assert in_threads(work) == [None] * THREADS
        assert (len(host._open), len(host._inherited)) == (0, 299)
        loop.close()


def test_one_engine_in_the_event_loops_of_many_threads_gives_no_stale_answer(place: Place) -> None:
    engine = place.engine()
    made: list[Change] = []
    ended = threading.Event()

    async def model(request: Any) -> Any:
        found = await engine.session().store.document("acl:a")
        assert found is not None
        return found[1].content

    async def answers() -> list[Answer]:
        found = []
        async with engine:
            while not ended.is_set():
                start = time.monotonic()
                async with engine.run("p", "go", requires=[Acl("a")]) as run:
                    run.output = value = (await run.decide({}, call=model)).value
                took = (start, time.monotonic())
                joint = run.result.replayed
                found.append(Answer("p", run.execution_id, *took, {"acl:a": value}, joint))
        return found

    def change() -> None:
        with engine.sync() as plain:
            for n in range(round(20 * SECONDS)):
                before = time.monotonic()
                event = plain.observe("acl:a", n % 3)
                assert event is not None
                made.append(Change("acl:a", event.to_version, n % 3, before, time.monotonic()))
                time.sleep(0.02)

    def work(number: int) -> Any:
        if number > 0:
            return asyncio.run(answers())
        try:
            return change()
        finally:
            ended.set()

    with engine.sync() as plain:
        before = time.monotonic()
        assert plain.observe("acl:a", "first") is not None
        made.append(Change("acl:a", 1, "first", before, time.monotonic()))
    outcomes = in_threads(work)
    assert [it for it in outcomes if isinstance(it, BaseException)] == []
    timeline, found = Timeline(made), [it for some in outcomes[1:] for it in some]
    assert timeline.lost() == []
    assert [wrong for it in found if (wrong := timeline.stale(it))] == []
    assert any(it.joint for it in found), "of three values each comes back"
