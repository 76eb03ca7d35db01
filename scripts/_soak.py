"""Does random histories to real engines, and compares all that comes of them with an oracle.

Each history has a seed of its own, in a namespace of its own: some hundred operations by two
processes on every store, of which tests/histories has the kinds, the oracle and the checks. What
differs is a violation; its history is made as short as it can be, and printed.

    scripts/soak --minutes 10                     on SQLite, in one process
    scripts/soak --operations 1000000 --jobs 2    as many as that, in two
    scripts/soak --neo4j --minutes 5              on Neo4j ($NEO4J_URI)
    scripts/soak --seed 7 --histories 1           the history of one seed, again
    scripts/soak --programs 1 --minutes 5         of random programs alone

A share of the histories is one of random programs, judged by what their acts truly follow from, and
one of wishes: of runs that are killed, fail and are called again.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anthropic import AsyncAnthropic

from execgraph.adapters.messages_api import MessagesServer
from execgraph.scripts._soak_shrink import shrunk
from execgraph.tests.histories.history import History, operations
from execgraph.tests.histories.program_history import ProgramHistory, program_operations
from execgraph.tests.histories.program_world import ProgramWorld
from execgraph.tests.histories.wish_history import WishHistory, wish_operations
from execgraph.tests.histories.wish_world import WishWorld
from execgraph.tests.histories.world import World, brain

_TOGETHER = 10  # histories that share an SQLite file
_OVER_HTTP = 10  # of so many histories one asks the model over HTTP, through the SDK
_TELL_SECONDS = 15.0


@dataclass
class Tally:
    """What was done so far."""

    first: int | None = None  # the least seed, and the greatest
    last: int | None = None
    histories: int = 0
    over_http: int = 0
    of_programs: int = 0
    of_wishes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def operations(self) -> int:
        return self.kinds.total()

    @property
    def seeds(self) -> str:
        """Of which seeds there were histories."""
        return f"seeds {self.first} to {self.last}"

    def add(self, other: Tally) -> None:
        seeds = [it for it in (self.first, self.last, other.first, other.last) if it is not None]
        self.first, self.last = min(seeds, default=None), max(seeds, default=None)
        self.histories += other.histories
        self.over_http += other.over_http
        self.of_programs += other.of_programs
        self.of_wishes += other.of_wishes
        self.kinds += other.kinds
        self.violations += other.violations


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 1 if there was a violation."""
    options = _parser().parse_args(arguments)
    urls = list(options.store or ())
    if options.neo4j:
        if not (uri := os.environ.get("NEO4J_URI")):
            print("soak: NEO4J_URI is not set; start a server with scripts/neo4j", file=sys.stderr)
            return 2
        urls.append(uri)
    logging.disable(logging.WARNING)
    began = time.monotonic()
    total = Tally()
    for tally in _results(options, urls):
        total.add(tally)
        if total.violations and not options.keep_going:
            break
    seconds = time.monotonic() - began
    _print(options, urls or ["sqlite"], total, seconds)
    return 1 if total.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, help="stop after so long")
    add("--operations", type=int, help="stop after so many, done to each store")
    add("--histories", type=int, help="stop after so many (without any limit: 1 minute)")
    add("--seed", type=int, default=None, help="of the first history; the next ones count up")
    add("--length", type=int, default=300, help="operations of one history (300)")
    add(
        "--store",
        action="append",
        metavar="URL",
        help="do it to this one; may be given several times. Default: SQLite files of its own",
    )
    add("--neo4j", action="store_true", help="do it to the one at $NEO4J_URI")
    add("--http", action="store_true", help="ask the model over HTTP in every history")
    add(
        "--programs",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="how many of the histories are of random programs, from 0 to 1 (0.5)",
    )
    add(
        "--wishes",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="how many are of runs that are called again, from 0 to 1 (0.2)",
    )
    add("--folder", type=Path, help="where SQLite files are made, and removed again")
    add("--jobs", type=int, default=1, help="processes that do it at the same time (1)")
    add("--keep-going", action="store_true", help="do not stop at the first violation")
    add("--shrink", type=float, default=60, metavar="SECONDS", help="for each violation (60)")
    add("--json", action="store_true", help="print one JSON object at the end")
    return parser


# Processes --------------------------------------------------------------------------------


def _results(options: argparse.Namespace, urls: Sequence[str]) -> Iterator[Tally]:
    """What each bunch of histories came to, as they end."""
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    budget = _Budget(options)
    bunches = _bunches(options, urls, first, budget.until)
    done = Tally()
    if options.jobs == 1:
        for bunch in bunches:
            if budget.is_spent(done):
                return
            for tally in _bunch(bunch):
                done.add(tally)
                _tell(done, budget)
                yield tally
                if budget.is_spent(done):
                    return
        return
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        queued = pool.imap_unordered(_whole_bunch, _until(bunches, done, budget))
        for tally in queued:
            done.add(tally)
            _tell(done, budget)
            yield tally
            if budget.is_spent(done):
                pool.terminate()
                return


class _Budget:
    """How much there is to do."""

    def __init__(self, options: argparse.Namespace) -> None:
        limits = (options.minutes, options.operations, options.histories)
        minutes = options.minutes if any(limits) else 1.0
        self.began = time.monotonic()
        self.until = None if not minutes else self.began + minutes * 60
        self.operations = options.operations
        self.histories = options.histories
        self.told_at = self.began

    def is_spent(self, done: Tally) -> bool:
        return (
            (self.until is not None and time.monotonic() >= self.until)
            or (self.operations is not None and done.operations >= self.operations)
            or (self.histories is not None and done.histories >= self.histories)
        )


@dataclass(frozen=True)
class _Bunch:
    """Histories that are done one after another, to the same stores."""

    seeds: tuple[int, ...]
    length: int
    urls: tuple[str, ...]
    folder: str | None
    http: bool
    programs: float  # the share of histories that are of random programs
    wishes: float  # and of those that are of runs called again
    shrink: float  # seconds
    until: float | None  # by the monotonic clock, which all processes of a machine share


def _bunches(
    options: argparse.Namespace, urls: Sequence[str], first: int, until: float | None
) -> Iterator[_Bunch]:
    together = min(_TOGETHER, options.histories or _TOGETHER)
    folder = None if options.folder is None else str(options.folder)
    while True:
        seeds = tuple(range(first, first + together))
        yield _Bunch(
            seeds,
            options.length,
            tuple(urls),
            folder,
            options.http,
            options.programs,
            options.wishes,
            options.shrink,
            until,
        )
        first += together


def _until(bunches: Iterator[_Bunch], done: Tally, budget: _Budget) -> Iterator[_Bunch]:
    """As many as are needed, and not many more: a pool takes them all at once."""
    handed = 0
    for bunch in bunches:
        while handed - done.histories > 3 * _TOGETHER and not budget.is_spent(done):
            time.sleep(0.05)
        if budget.is_spent(done):
            return
        handed += len(bunch.seeds)
        yield bunch


def _whole_bunch(bunch: _Bunch) -> Tally:
    logging.disable(logging.WARNING)
    total = Tally()
    for tally in _bunch(bunch):
        total.add(tally)
        if tally.violations:
            break
    return total


def _bunch(bunch: _Bunch) -> Iterator[Tally]:
    with ExitStack() as stack:
        gc.disable()  # between histories is soon enough
        stack.callback(gc.enable)
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(dir=bunch.folder, ignore_cleanup_errors=True)
        )
        urls = bunch.urls or (f"sqlite:///{folder}/graph.db",)
        server = stack.enter_context(MessagesServer(brain))
        for seed in bunch.seeds:
            if bunch.until is not None and time.monotonic() >= bunch.until:
                return
            over_http = bunch.http or seed % _OVER_HTTP == 0
            yield _history(seed, bunch, urls, server.url if over_http else None)
            gc.collect()


# Histories --------------------------------------------------------------------------------


_OPERATIONS: dict[str, Callable[[random.Random, int], list[Any]]] = {
    "tasks": operations,
    "programs": program_operations,
    "wishes": wish_operations,
}


def _kind(seed: int, bunch: _Bunch) -> str:
    """What a history is of."""
    lot = random.Random(f"kind of {seed}").random()  # noqa: S311
    if lot < bunch.programs:
        return "programs"
    return "wishes" if lot >= 1 - bunch.wishes else "tasks"


def _history(seed: int, bunch: _Bunch, urls: Sequence[str], model: str | None) -> Tally:
    choose = random.Random(seed)  # noqa: S311 - reproducible is the point
    kind = _kind(seed, bunch)
    model = model if kind == "tasks" else None  # the others ask in the process

    def do(some: Sequence[Any]) -> tuple[list[Any], str | None]:
        return asyncio.run(_do(kind, some, urls, model))

    done, why = do(_OPERATIONS[kind](choose, bunch.length))
    tally = Tally(seed, seed, 1, over_http=int(model is not None))
    tally.of_programs, tally.of_wishes = int(kind == "programs"), int(kind == "wishes")
    tally.kinds.update(it[0] if kind == "tasks" else f"{it[0]} (of {kind})" for it in done)
    if why is not None:
        short = shrunk(done, lambda some: do(some)[1], bunch.shrink)
        again = f"scripts/soak --seed {seed} --histories 1 --length {bunch.length}"
        tally.violations.append(
            {
                "seed": seed,
                "why": why,
                "again": f"{again} --programs {bunch.programs:g} --wishes {bunch.wishes:g}",
                "shortest": [repr(it) for it in short],
            }
        )
    return tally


async def _do(
    kind: str, some: Sequence[Any], urls: Sequence[str], model: str | None
) -> tuple[list[Any], str | None]:
    """The operations that were done, and what was wrong with the last one."""
    space = f"soak-{uuid.uuid4().hex[:12]}"
    if kind == "programs":
        return await _all_of(some, ProgramHistory([ProgramWorld(url, space) for url in urls]))
    if kind == "wishes":
        return await _all_of(some, WishHistory([WishWorld(url, space) for url in urls]))
    client = None if model is None else AsyncAnthropic(base_url=model, api_key="local")
    try:
        return await _all_of(some, History([World(url, space, client) for url in urls]))
    finally:
        if client is not None:
            await client.close()


async def _all_of(
    operations: Sequence[Any], history: History | ProgramHistory | WishHistory
) -> tuple[list[Any], str | None]:
    try:
        async with history:
            for operation in operations:
                await history.do(operation)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is to be told with its seed
        wrong = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
        return list(history.done), wrong
    return list(history.done), None


# Telling ----------------------------------------------------------------------------------


def _tell(done: Tally, budget: _Budget) -> None:
    now = time.monotonic()
    if now < budget.told_at + _TELL_SECONDS and not done.violations:
        return
    budget.told_at = now
    seconds = now - budget.began
    print(
        f"{seconds:6.0f} s  {done.seeds}: {done.histories} histories, {done.operations} operations"
        f" ({done.operations / seconds:.0f}/s), {len(done.violations)} violations"
        + "".join(f" (seed {it['seed']})" for it in done.violations[-3:]),
        file=sys.stderr,
        flush=True,
    )


def _print(options: argparse.Namespace, urls: Sequence[str], total: Tally, seconds: float) -> None:
    if options.json:
        summary = {
            "stores": list(urls),
            "seeds": [total.first, total.last],
            "length": options.length,
            "seconds": round(seconds, 1),
            "histories": total.histories,
            "over_http": total.over_http,
            "of_programs": total.of_programs,
            "of_wishes": total.of_wishes,
            "operations": total.operations,
            "kinds": dict(total.kinds.most_common()),
            "violations": total.violations,
        }
        print(json.dumps(summary))
        return
    for violation in total.violations:
        print(f"\nseed {violation['seed']}: {violation['why']}")
        print(f"the shortest history found of it, {len(violation['shortest'])} operations:")
        print("\n".join(f"    {it}," for it in violation["shortest"]))
        print(f"again: {violation['again']}")
    for kind, count in total.kinds.most_common():
        print(f"{kind:22} {count:>9}")
    print(
        f"{total.seeds}, {total.histories} histories ({total.of_programs} of programs,"
        f" {total.of_wishes} of wishes, {total.over_http} over HTTP),"
        f" {total.operations} operations on each of {', '.join(urls)} in {seconds:.0f} s"
        f" ({total.operations / max(seconds, 0.001):.0f}/s), {len(total.violations)} violations"
    )


if __name__ == "__main__":
    sys.exit(main())
