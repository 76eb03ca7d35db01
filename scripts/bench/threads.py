"""32 threads in 4 processes replay from one SQLite store, beside LangGraph's SQLite node cache.

Ten reads with fixed arguments, whose outputs are recorded. For LangGraph they are the nodes of a
chain, each with a ``CachePolicy``: a run takes each output from ``SqliteCache``, runs no node and
checks nothing. For execgraph they are the calls of an agent: a replay also serves eleven decisions,
checks what each call requires, and is written down. On one side (``fresh_for=``) it runs no tool
either, as the nodes are kept for the same time; on the other side it runs all ten again, as reads
do by default, and compares what they give. All give the same ten outputs, which is checked.

The threads of a process share what a threaded service would share: one engine (``engine.sync()``),
or one compiled graph and its cache. A portion is so many replays by all threads at once; it is over
when the last thread has ended and all that was to be stored is. Portions of the sides alternate,
and medians count. Stores, caches and processes are warm by then. What is not compared: first runs,
what is served after a change, and what a model costs.
"""

from __future__ import annotations

import importlib
import multiprocessing
import operator
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from typing import Annotated, Any, TypedDict

from .measure import Row, Setting
from .synthetic import CALLS, Bench, columns, rule_of, task

__all__ = ["run"]

_PROCESSES, _THREADS = 4, 8  # of each process
_GOAL = 1 / 4
_FRESH, _RUN_AGAIN, _THEIRS = "execgraph, no tool runs", "execgraph", "LangGraph, SqliteCache"
_KEPT = timedelta(hours=1)
_ROUNDS_A_PORTION = 60  # one portion for so many rounds of the other benchmarks
_EACH = 100  # replays of a thread in a portion
_BODIES: Mapping[str, Callable[..., dict[str, Any]]] = {"look_at": columns, "ask_rule": rule_of}
_NAMESPACE = "bench"

_Side = Callable[[Connection, str, timedelta | None], None]
_OUTPUTS = [_BODIES[tool](**arguments) for tool, arguments in CALLS]


async def run(setting: Setting) -> list[Row]:
    """Ratios of times for a replay, which are those of throughputs the other way round."""
    portions = max(5, setting.rounds // _ROUNDS_A_PORTION)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = {}
        for name, fresh_for in ((_FRESH, _KEPT), (_RUN_AGAIN, None)):
            file = f"{folder}/{'again' if fresh_for is None else 'fresh'}.db"
            await _record(file, fresh_for)
            sides[name] = stack.enter_context(_workers(_execgraph, file, fresh_for))
        sides[_THEIRS] = stack.enter_context(_workers(_langgraph, f"{folder}/nodes.db", _KEPT))
        setting.say.phase("replaying in turns")
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for workers in sides.values():
            _portion(workers)
        advance = setting.say.counting(portions)
        for done in range(1, portions + 1):
            for name, workers in sides.items():
                taken[name].append(_portion(workers))
            advance(done)
    replays = _PROCESSES * _THREADS * _EACH
    ms = {name: statistics.median(times) / replays * 1000 for name, times in taken.items()}
    told = {name: f"{name}: {it:.3f} ms, {1000 / it:,.0f} a second" for name, it in ms.items()}
    what = f"replay of 10 reads, {_THREADS * _PROCESSES} threads in {_PROCESSES} processes"
    return [
        Row(what, told[name], told[_THEIRS], ms[name] / ms[_THEIRS], goal)
        for name, goal in ((_FRESH, _GOAL), (_RUN_AGAIN, None))
    ]


def _portion(workers: list[Connection]) -> float:
    """The seconds that all processes take, from the word to begin to the last one's end."""
    started = time.perf_counter()
    for worker in workers:
        worker.send(_EACH)
    done = [worker.recv() for worker in workers]
    seconds = time.perf_counter() - started
    assert done == [_THREADS * _EACH] * _PROCESSES, "a thread has failed"
    return seconds


# The processes -----------------------------------------------------------------------------


@contextmanager
def _workers(side: _Side, file: str, kept: timedelta | None) -> Iterator[list[Connection]]:
    """The processes of a side, ready to begin."""
    start = multiprocessing.get_context("spawn")
    ends = [start.Pipe() for _ in range(_PROCESSES)]
    processes = [start.Process(target=side, args=(theirs, file, kept)) for _, theirs in ends]
    for process in processes:
        process.start()
    try:
        workers = [ours for ours, _ in ends]
        for _, theirs in ends:
            theirs.close()  # so that a process which dies is noticed
        for worker in workers:
            assert worker.recv() == "ready"
        yield workers
        for worker in workers:
            worker.send(0)
    finally:
        for process in processes:
            process.join(30)
            process.kill()


def _serve(
    parent: Connection, replay: Callable[[], None], settle: Callable[[], None] | None = None
) -> None:
    """Do portions until there is no more, in threads, and tell of each how many replays it was."""
    replay()
    parent.send("ready")
    while each := parent.recv():
        done: list[int] = []

        def some(each: int = each, done: list[int] = done) -> None:
            for _ in range(each):
                replay()
            done.append(each)

        threads = [threading.Thread(target=some) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if settle is not None:
            settle()
        parent.send(sum(done))


# execgraph ---------------------------------------------------------------------------------


async def _record(file: str, fresh_for: timedelta | None) -> None:
    bench = Bench(f"sqlite:///{file}", _NAMESPACE, fresh_for=fresh_for)
    async with bench.engine:
        await bench.observe()
        result = await bench.agent.execute(task())
        assert result.recorded
        recorded = await bench.engine.execution(result.execution_id)
        outputs = [step.output for step in recorded.steps if step.kind == "action"]
        assert outputs == _OUTPUTS


def _execgraph(parent: Connection, file: str, kept: timedelta | None) -> None:
    bench = Bench(f"sqlite:///{file}", _NAMESPACE, fresh_for=kept)
    with bench.engine.sync() as engine:
        agent = engine.agent(bench.agent)

        def replay() -> None:
            assert agent.execute(task()).identical  # in its outputs, too

        async def write() -> None:
            await bench.engine.session().replay_writer.flush()

        _serve(parent, replay, lambda: engine.wait(write()))


# LangGraph ---------------------------------------------------------------------------------


class _State(TypedDict):
    outputs: Annotated[list[Any], operator.add]


def _langgraph(parent: Connection, file: str, kept: timedelta | None) -> None:
    assert kept is not None
    # Loaded by name: only the environment of the benchmarks has it.
    graph = importlib.import_module("langgraph.graph")
    types = importlib.import_module("langgraph.types")
    cache = importlib.import_module("langgraph.cache.sqlite").SqliteCache(path=file)
    builder = graph.StateGraph(_State)
    last = graph.START
    for number, (tool, arguments) in enumerate(CALLS):
        name = f"{number} {tool}"
        node = partial(_node, tool, arguments)
        policy = types.CachePolicy(ttl=int(kept.total_seconds()))
        builder.add_node(name, node, cache_policy=policy)
        builder.add_edge(last, name)
        last = name
    builder.add_edge(last, graph.END)
    chain = builder.compile(cache=cache)

    def replay() -> None:
        assert chain.invoke({"outputs": []})["outputs"] == _OUTPUTS

    _serve(parent, replay)


def _node(tool: str, arguments: dict[str, str], _: _State) -> dict[str, Any]:
    return {"outputs": [_BODIES[tool](**arguments)]}
