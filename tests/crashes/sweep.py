"""Processes are killed at points of a scenario, and what they leave behind is judged."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import execgraph
from execgraph.adapters.messages_api import MessagesServer
from execgraph.graphstore.connect import connect
from execgraph.graphstore.store import GraphStore
from execgraph.graphstore.totals import Totals
from execgraph.invalidation.walker import Walker
from execgraph.tests.conformance.samples import newest

from .agents import LIVES, WRITES, asked, brain, declared, journaled
from .dumps import dump, left_in, neo4j_session
from .migrating import OLD_VERSIONS, old_file
from .raw import Raw, RawExecution, read
from .scenarios import SCENARIOS

__all__ = ["ALL", "Crashes", "Lives", "Migrations", "Report", "Zygote", "sweep", "swept", "zygote"]

#: The names of all scenarios.
ALL = (*SCENARIOS, *LIVES, "migrating")

_ROOT = Path(execgraph.__file__).resolve().parent
_PATIENCE = 30.0  # seconds, for what a dead process leaves to the next


class Zygote:
    """The process whose forks are killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crashes.child"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """What became of a fork that does this. Raises AssertionError if it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=_PATIENCE)
        self._process.stdout.close()


@contextmanager
def zygote() -> Iterator[Zygote]:
    it = Zygote()
    try:
        yield it
    finally:
        it.close()


@dataclass(frozen=True)
class Reference:
    """A run that lived: its points, and the store before and after each call."""

    points: list[list[Any]]
    dumps: list[list[str]]
    done: list[int]
    calls: list[tuple[str, int]]
    commits: list[tuple[list[str], int, int]]


class Crashes:
    """One scenario on one store. ``url``: of the server; for SQLite, any file in ``folder``."""

    def __init__(self, zygote: Zygote, url: str, name: str, folder: Path) -> None:
        self._zygote = zygote
        self._url = url
        self._name = name
        self._folder = folder
        self._sqlite = url.startswith("sqlite")
        self._made = 0
        #: What is wrong with the processes that die, by ``breaking.BREAK``; None: nothing.
        self.broken: str | None = None

    async def prepared(self) -> tuple[str, str]:
        """A store, or a namespace, in which the scenario may begin: its url and namespace."""
        if not self._sqlite:
            namespace = f"test-crash-{uuid.uuid4().hex[:12]}"
            await self._prepare(self._url, namespace)
            return self._url, namespace
        first = self._folder / f"{self._name}.db"
        if not first.exists():
            await self._prepare(f"sqlite:///{first}", "team")
        self._made += 1
        copy = self._folder / f"{self._name}-{self._made}.db"
        shutil.copy(first, copy)
        return f"sqlite:///{copy}", "team"

    async def _prepare(self, url: str, namespace: str) -> None:
        async with _open(url, namespace) as store:
            for operation in SCENARIOS[self._name].before:
                await operation(store)

    def _begin(self) -> dict[str, Any]:
        """What else a child is told."""
        return {}

    async def reference(self) -> Reference:
        """The scenario without a death."""
        url, namespace = await self.prepared()
        answer = self._ask(url, namespace, None, look=True)
        assert answer["ended"] == 0
        return Reference(*(answer[it] for it in ("points", "dumps", "done", "calls", "commits")))

    def _ask(self, url: str, namespace: str, die_at: int | None, **more: Any) -> dict[str, Any]:
        told: dict[str, Any] = {"act": self._name, "url": url, "namespace": namespace}
        told |= {"die_at": die_at, "broken": self.broken}
        return self._zygote.ask(**told, **self._begin(), **more)

    async def died(self, point: int) -> tuple[str, list[tuple[str, int]]]:
        """What is left of a process that died at a point: the store's url, and the calls that
        had ended, each with the size of SQLite's log then."""
        url, namespace = await self.prepared()
        answer = self._ask(url, namespace, point)
        assert answer["ended"] == -9, f"point {point} of {self._name} was not reached"
        return url, answer["calls"]

    async def kill(self, reference: Reference, point: int, *, go_on: bool) -> str:
        """Die at a point; check what is left, and what comes next. The kind of point."""
        url, namespace = await self.prepared()
        answer = self._ask(url, namespace, point)
        assert answer["ended"] == -9, f"point {point} of {self._name} was not reached"
        _, kind, what, ended, under_way = answer["died"]
        at = f"{self._name}, point {point}: {kind} {what!r}"
        if not self._sqlite:
            _wait_until_quiet(url, namespace)
        left = await self._left(url, namespace)
        expected = reference.dumps[ended : ended + under_way + 1]
        if under_way and not self._sqlite and reference.calls[ended][0] == "walk":
            expected = [*expected, _marked(*expected[:2])]
        assert left in expected, f"{at}\n{_differences(left, expected)}"
        await self._next(url, namespace, at, (reference, ended) if go_on else None)
        if self._sqlite:
            left_in(_file(url))
        return str(kind)

    async def _next(
        self, url: str, namespace: str, at: str, go_on: tuple[Reference, int] | None
    ) -> None:
        """Another process comes, and goes on with what was not done, or only settles."""
        async with _open(url, namespace) as store:
            if go_on is not None:
                reference, ended = go_on
                await self._go_on(store, reference, ended)
                after = _lasting(await dump(url, namespace))
                last = _lasting(reference.dumps[-1])
                assert after == last, f"{at}, gone on\n{_differences(after, [last])}"
            await settled(store)
        async with _open(url, namespace) as store:
            await judge(store, url, namespace, at)

    async def _left(self, url: str, namespace: str) -> list[str]:
        return left_in(_file(url)) if self._sqlite else await dump(url, namespace)

    async def _go_on(self, store: GraphStore, reference: Reference, ended: int) -> None:
        """Do what the dead one did not come to, beginning with what it was doing."""
        first = next((n for n, it in enumerate(reference.done) if it > ended), None)
        if first is not None:
            for operation in SCENARIOS[self._name].acts[first:]:
                await operation(store)


class Migrations(Crashes):
    """The opening of a file as an older version has left it."""

    def __init__(self, zygote: Zygote, version: int, folder: Path) -> None:
        super().__init__(zygote, "sqlite:", "opening", folder)
        self._version = version

    async def prepared(self) -> tuple[str, str]:
        current, _ = await super().prepared()
        old = _file(current).with_suffix(f".v{self._version}")
        old_file(old, self._version, _file(current))
        return f"sqlite:///{old}", "team"


class Collections(Crashes):
    """A collection. What runs came to is told as before, whatever became of them."""

    def __init__(self, zygote: Zygote, url: str, folder: Path) -> None:
        super().__init__(zygote, url, "collecting", folder)
        self._before: Totals | None = None

    async def _prepare(self, url: str, namespace: str) -> None:
        await super()._prepare(url, namespace)
        async with _open(url, namespace) as store:
            self._before = await store.totals()

    async def _next(
        self, url: str, namespace: str, at: str, go_on: tuple[Reference, int] | None
    ) -> None:
        await super()._next(url, namespace, at, go_on)
        assert self._before is not None
        async with _open(url, namespace) as store:
            after = await store.totals()
        assert replace(after, traces=0) == replace(self._before, traces=0), at


class Lives(Crashes):
    """The life of an agent. ``server`` is its model, which answers the next process too."""

    def __init__(
        self, zygote: Zygote, url: str, name: str, folder: Path, server: MessagesServer
    ) -> None:
        super().__init__(zygote, url, name, folder)
        self._server = server
        self._log = folder / f"{name}.log"
        self._before = folder / f"before {name}.log"

    async def _prepare(self, url: str, namespace: str) -> None:
        told = {"model": self._server.url, "log": str(self._before), "before": True}
        where = {"act": self._name, "url": url, "namespace": namespace, "die_at": None}
        assert self._zygote.ask(**where, **told)["ended"] == 0

    def _begin(self) -> dict[str, Any]:
        self._log.unlink(missing_ok=True)
        return {"model": self._server.url, "log": str(self._log)}

    def _performed(self) -> list[list[str]]:
        """What tools did since the process that died began: names and keys."""
        return _lines(self._log)

    async def _next(self, url: str, namespace: str, at: str, _: object) -> None:
        self._judge_effects(read(url, namespace), at)
        it = declared(url, namespace, self._server.url, self._log)
        async with it.engine:
            await it.engine.settle()
            store = it.engine.session().store
            raw = await judge(store, url, namespace, at)
            for _again in range(2):
                before, done = self._server.requests, len(self._performed())
                kept = await journaled(store, raw)
                result = await it.agent.execute("go")
                requests = self._server.requests - before
                assert requests == asked(raw, kept), f"{at}: the model was asked {requests} times"
                assert result.output == "done", at
                written = [name for name, _ in self._performed()[done:]]
                assert sorted(written) == sorted(WRITES), f"{at}: {written}"
                await it.engine.settle()
                raw = await judge(store, url, namespace, at)
                self._judge_effects(raw, at, done)

    def _judge_effects(self, raw: Raw, at: str, since: int = 0) -> None:
        """No effect without an intent before it, none twice in a process (``since``: what other
        processes have done), and none told done that was not."""
        states: dict[str, str] = {}
        for execution in raw.executions.values():
            states |= execution.effects
        keys = [key for _, key in self._performed()]
        assert len(set(keys[since:])) == len(keys[since:]), f"{at}: an effect was done twice"
        assert states.keys() >= set(keys), f"{at}: an effect of which the store knows nothing"
        done = {key for key, state in states.items() if state == "done"}
        before = [key for _, key in _lines(self._before)]
        assert done <= {*keys, *before}, f"{at}: an effect that is told done, and was not"


def _lines(log: Path) -> list[list[str]]:
    if not log.exists():
        return []
    return [line.split() for line in log.read_text(encoding="utf-8").splitlines()]


class _open:  # noqa: N801
    """An open store, which is closed in the end."""

    def __init__(self, url: str, namespace: str) -> None:
        self._store = connect(url, namespace=namespace)

    async def __aenter__(self) -> GraphStore:
        await self._store.open()
        return self._store

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _marked(before: list[str], after: list[str]) -> list[str]:
    """On Neo4j a walk tells in a second transaction that it has marked the steps of a batch."""
    steps = [line for line in after if _is_step(line)]
    others = [line for line in before if not _is_step(line)]
    return sorted([*steps, *others])


def _is_step(line: str) -> bool:
    """Whether it is of the node, and not of what goes out of it."""
    return line.startswith("Step ") and not re.match(r"Step \S+ -", line)


def _lasting(lines: list[str]) -> list[str]:
    """A lease that a dead process held may be there until it is taken over; and a change that is
    made again, though it was committed, counts again."""
    return [line for line in lines if not line.lower().startswith(("lease ", "lineage "))]


def _differences(left: list[str], expected: Sequence[list[str]]) -> str:
    told = []
    for name, other in enumerate(expected):
        told.append(f"--- state {name} of those that may be")
        told += [f"  missing {it[:400]}" for it in other if it not in left]
        told += [f"  too much {it[:400]}" for it in left if it not in other]
    return "\n".join(told)


def _wait_until_quiet(url: str, namespace: str) -> None:
    """Until no statement of the dead process runs any more on the server."""
    running = (
        "SHOW TRANSACTIONS YIELD parameters"
        " WHERE $namespace IN [parameters.namespace, parameters.given.namespace] RETURN count(*)"
    )
    quiet, until = 0, time.monotonic() + _PATIENCE
    with neo4j_session(url) as session:
        while quiet < 2:
            assert time.monotonic() < until, "a statement of a dead process does not end"
            # One of these is this statement itself.
            quiet = quiet + 1 if session.run(running, namespace=namespace).single()[0] <= 1 else 0
            time.sleep(0.005)


async def settled(store: GraphStore) -> None:
    """What the next process does with what is open: it leads once the dead one's lease is over."""
    await Walker(store, uuid.uuid4().hex).settle(_PATIENCE)


async def judge(store: GraphStore, url: str, namespace: str, at: str) -> Raw:
    """Compare a settled store, and what it answers, with what an oracle makes of its raw facts."""
    raw = read(url, namespace)
    assert raw.open_walks == 0, at
    assert await store.walks() == [], at
    for uri, it in raw.resources.items():
        assert it.versions[-1:] == ((it.current,) if it.current else ()), (
            f"{at}: {uri} is not whole"
        )
        assert it.document is not None or not it.present, f"{at}: document of {uri}"
    for execution in raw.executions.values():
        _judge_execution(raw, execution, at)
    for trace in raw.traces():
        assert trace.marks == raw.expected_marks(trace), f"{at}: marks of {trace.id}"
        assert await store.marks(trace.id) == trace.marks, at
    for task in {it.task for it in raw.executions.values() if it.task is not None}:
        await _judge_lookup(store, raw, task, at)
    return raw


def _judge_execution(raw: Raw, it: RawExecution, at: str) -> None:
    """All of it or nothing: and nothing of it is a trace that is not whole."""
    if it.task is None:
        assert (it.state, it.steps) == ("running", ()), f"{at}: {it.id} was only begun"
        return  # how its effects ended is told by themselves, or by who repeats them
    whole = [step.position for step in it.steps] == list(range(len(it.steps)))
    assert whole, f"{at}: steps of {it.id}"
    for step in it.steps:
        assert raw.payloads.issuperset(step.payloads), f"{at}: payloads of {it.id}"
    if it.state == "published":
        assert len(it.steps) == it.declared >= it.published > 0, f"{at}: {it.id} is not whole"


async def _judge_lookup(store: GraphStore, raw: Raw, task: str, at: str) -> None:
    found = await store.lookup(task, newest)
    traces = raw.traces(task)
    assert found.damaged == (), at
    assert [it.id for it in found.traces] == [it.id for it in traces], f"{at}: traces of {task}"
    assert found.chosen == (traces[0].id if traces else None), at
    for it in found.traces:
        assert it.intact(store.namespace), at
        for guard in it.preconditions.values():
            fact = found.facts.of(guard.resource)
            held = fact.believed(found.facts.now) and (
                fact.fingerprints.get(guard.selector) == guard.fingerprint
            )
            assert held == raw.holds(guard.id), f"{at}: {guard.resource} in a lookup"


# Sweeps -----------------------------------------------------------------------------------


@dataclass
class Report:
    """How many points there are, and how many processes were killed, by kind of point."""

    points: int = 0
    killed: Counter[str] = field(default_factory=Counter)


async def sweep(
    url: str, *, points: int | None, names: Collection[str] = ALL, seed: int = 1
) -> dict[str, Report]:
    """Kill a process at points of these scenarios: after each call that changed the store, and at
    so many points within calls; ``points`` None: at all there are. By scenario what it came to.

    ``url``: of a Neo4j server, or ``sqlite:``, for files in a temporary folder. Raises
    AssertionError, which tells the point and what is wrong there.
    """
    reports = {}
    with (
        zygote() as forks,
        MessagesServer(brain) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        for name in (it for it in names if it != "migrating"):
            crashes = crashes_of(name, forks, url, Path(folder), server)
            reports[name] = await swept(crashes, points, seed=seed)
        for version in OLD_VERSIONS if url.startswith("sqlite") and "migrating" in names else ():
            crashes = Migrations(forks, version, Path(folder))
            reports[f"migrating from {version}"] = await swept(crashes, points, seed=seed)
    return reports


def crashes_of(name: str, forks: Zygote, url: str, folder: Path, server: MessagesServer) -> Crashes:
    """Those of a scenario, by its name."""
    if name in LIVES:
        return Lives(forks, url, name, folder, server)
    if name == "collecting":
        return Collections(forks, url, folder)
    return Crashes(forks, url, name, folder)


async def swept(
    crashes: Crashes, points: int | None, *, calls: int | None = None, seed: int = 1
) -> Report:
    """``sweep`` of one scenario; after so many calls at most, if ``calls`` is given."""
    reference = await crashes.reference()
    report = Report(len(reference.points))
    for point in _chosen(reference, points, calls, seed):
        report.killed[await crashes.kill(reference, point, go_on=point % 2 == 0)] += 1
    return report


def _chosen(reference: Reference, points: int | None, calls: int | None, seed: int) -> list[int]:
    if points is None:
        return [it[0] for it in reference.points]
    states = reference.dumps
    after = [
        it[0] for it in reference.points if it[1] == "after" and states[it[3]] != states[it[3] - 1]
    ]
    within = [it[0] for it in reference.points if it[1] not in ("before", "after")]
    rng = random.Random(seed)
    return sorted(
        [
            *rng.sample(after, min(calls or len(after), len(after))),
            *rng.sample(within, min(points, len(within))),
        ]
    )
