"""Histories: operations done to real engines on all stores at once, each checked by the oracle."""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from execgraph import Result
from execgraph.graphstore.model import ExecutionState
from execgraph.graphstore.retention import Retention

from .oracle import Expected, Meanwhile, Oracle, Task
from .script import AGENTS, PROGRAM, TOOLS
from .world import FUTURE, WATCHED, World, past

__all__ = ["KINDS", "PUSHED", "History", "Operation", "Violation", "operations"]

#: A name, and arguments of plain values: written down, it can be done again.
Operation = tuple[Any, ...]

PUSHED = (
    "acl:left",
    "acl:right",
    "acl:prod",
    "rule:freeze",
    "rule:ann",
    "schema:prices",
    "target:eu",
    "target:us",
    "rule:bob",
    "rule:audit",
)
_THERE_AT_FIRST = PUSHED[:7]
_READINGS = {"eu": 0, "us": 1, "stock": 3}
_PATIENCE = 10.0  # seconds until a hint must have been looked at


def _document() -> dict[str, Any]:
    items = dict.fromkeys(("eu", "us", "a", "b"), 0)
    return {"on": 0, "limit": 0, "items": items, "rows": [{"id": 1}, {"note": 0}], "note": 0}


def _edited(document: Any, part: str, value: int) -> dict[str, Any]:
    """A document with one of its parts changed."""
    edited: dict[str, Any] = copy.deepcopy(document) if isinstance(document, dict) else _document()
    if part in edited["items"]:
        edited["items"][part] = value
    elif part == "rows":  # one with an id, or an unrelated one before all others
        row = {"id": value} if value < 2 else {"note": value}
        edited["rows"] = [row, *edited["rows"][-1:]]
    elif part == "limit" and value == 2:
        edited.pop("limit", None)
    else:
        edited[part] = value
    return edited


class Violation(AssertionError):
    """Something was not as the oracle says."""


class Side(NamedTuple):
    """One store with what is done to it, and what must come of that."""

    world: World
    oracle: Oracle


class History:
    """Several worlds, each with an oracle, to which the same is done."""

    def __init__(self, worlds: Sequence[World]) -> None:
        self.sides = [Side(it, Oracle(dict(_READINGS), snapshots=it.is_sqlite)) for it in worlds]
        self.done: list[Operation] = []

    async def __aenter__(self) -> History:
        for world, oracle in self.sides:
            world.readings = dict(_READINGS)
            for uri in WATCHED:
                world.source.documents[uri] = _document()
                oracle.facts.change(uri, _document())
                world.documents[uri] = _document()
            await world.open(oracle.code)
            for uri in _THERE_AT_FIRST:
                await world.observe(0, uri, _document())
                oracle.facts.change(uri, _document())
        return self

    async def __aexit__(self, *error: object) -> None:
        for world, _ in self.sides:
            await world.close()

    async def do(self, operation: Operation) -> None:
        """Do one operation to every world. Raises Violation."""
        self.done.append(operation)
        name, *arguments = operation
        work: Callable[..., Awaitable[None]] = getattr(self, f"_{name}")
        for side in self.sides:
            await work(side, *arguments)

    # Executing ----------------------------------------------------------------------------

    async def _execute(
        self, side: Side, process: int, agent: str, task: int, replay: int = 1
    ) -> None:
        where: Task = (agent, (PROGRAM if agent == PROGRAM.name else AGENTS[agent]).tasks[task])
        expected = side.oracle.execute(process, where, replay=bool(replay))
        await self._checked(side, (process, agent, task, replay), expected)

    async def _again(self, side: Side, process: int) -> None:
        """Execute what was executed last; ``process`` 1: in the other process."""
        before = (it for it in reversed(self.done) if it[0] == "execute")
        if (last := next(before, None)) is not None:
            _, where, agent, task, *_ = last
            await self._execute(side, where ^ process, agent, task)

    async def _checked(
        self,
        side: Side,
        what: tuple[int, str, int, int],
        expected: Expected,
        *,
        alone: bool = False,
    ) -> None:
        process, agent, task, replay = what
        side.world.done.clear()
        before = side.world.calls
        if agent == PROGRAM.name:
            result = await side.world.program(process, replay=bool(replay))
        else:
            how = {"replay": bool(replay), "alone": alone}
            result = await side.world.execute(process, agent, task, **how)
        self._compare(side, _found(result, side.world.calls - before, side.world.done), expected)
        if result.recorded:
            tasks = (PROGRAM if agent == PROGRAM.name else AGENTS[agent]).tasks
            side.oracle.traces[agent, tasks[task]][-1].id = result.execution_id

    async def _together(self, side: Side, process: int, agent: str, task: int) -> None:
        """Execute three times at once, in both processes: one asks, and the others are served.

        Where they run different code, or what one records does not serve the others, nobody waits
        for anybody, and what they come to depends on who is first: then one executes alone.
        """
        tasks = (PROGRAM if agent == PROGRAM.name else AGENTS[agent]).tasks
        where, processes = (agent, tasks[task]), (process, process, 1 - process)
        alone = side.oracle.code[0] != side.oracle.code[1]
        if alone or any(it.calls for it in _all(copy.deepcopy(side.oracle), processes, where)[1:]):
            await self._execute(side, process, agent, task)
            return
        expected = _all(side.oracle, processes, where)
        side.world.done.clear()
        before = side.world.calls
        results = await asyncio.gather(*(self._result(side, it, agent, task) for it in processes))
        calls, done = side.world.calls - before, side.world.done
        # Which of them asks is nobody's choice, and what the tools did is told for all of them.
        found = [_found(it, 0, []) for it in results]
        self._compare(side, calls, sum(it.calls for it in expected))
        self._compare(side, sorted(done), sorted(itertools.chain(*(it.done for it in expected))))
        bare = [replace(it, calls=0, done=()) for it in expected]
        self._compare(side, sorted(found, key=repr), sorted(bare, key=repr))
        for result in results:
            if result.recorded:
                side.oracle.traces[where][-1].id = result.execution_id

    async def _result(self, side: Side, process: int, agent: str, task: int) -> Result:
        if agent == PROGRAM.name:
            return await side.world.program(process)
        return await side.world.execute(process, agent, task)

    def _compare(self, side: Side, found: object, expected: object) -> None:
        if found != expected:
            raise Violation(
                f"{side.world.url.partition(':')[0]}: after {len(self.done)} operations,"
                f" {self.done[-1]} came to\n  {found}\nand not to\n  {expected}"
            )

    async def _meanwhile(
        self,
        side: Side,
        process: int,
        point: str,
        what: tuple[str, int],
        edits: Sequence[tuple[str, str, int]],
    ) -> None:
        """Execute, and let changes land at a point of it; after it if it never comes there."""
        documents: dict[str, Any] = {}
        changes = []
        for uri, part, value in edits:
            known = documents.get(uri, side.oracle.facts.document(uri))
            documents[uri] = None if part == "gone" else _edited(known, part, value)
            changes.append((uri, documents[uri]))
        side.world.arm(point, process, changes)
        agent, task = what
        where: Task = (agent, AGENTS[agent].tasks[task])
        expected = side.oracle.execute(process, where, meanwhile=Meanwhile(point, tuple(changes)))
        try:
            # Who leads looks up twice, and what has moved between may have come back.
            await self._checked(side, (process, agent, task, 1), expected, alone=True)
        finally:
            await side.world.disarm()

    # Facts --------------------------------------------------------------------------------

    async def _change(self, side: Side, process: int, uri: str, part: str, value: int) -> None:
        document = _edited(side.oracle.facts.document(uri), part, value)
        await self._observe(side, process, uri, document)

    async def _observe(
        self,
        side: Side,
        process: int,
        uri: str,
        document: Any,
        *,
        until: datetime | timedelta | None = None,
        believed: bool = True,
    ) -> None:
        doubted = uri in side.oracle.facts.doubted
        moved = side.oracle.facts.change(uri, document, believed=believed)
        event = await side.world.observe(process, uri, document, until=until)
        if moved:
            found = None if event is None else (str(event.kind), event.to_version)
            self._compare(side, found, ("changed", side.oracle.facts.version(uri)))
        elif not doubted:
            self._compare(side, event, None)

    async def _same(self, side: Side, process: int, uri: str) -> None:
        """Tell again what it is, in another order."""
        if (document := side.oracle.facts.document(uri)) is not None:
            turned = dict(reversed(list(document.items())))
            await self._observe(side, process, uri, turned)

    async def _revert(self, side: Side, process: int, uri: str, back: int) -> None:
        if earlier := [it for it in side.oracle.facts.versions.get(uri, ()) if it is not None]:
            document = copy.deepcopy(earlier[-1 - back % len(earlier)])
            await self._observe(side, process, uri, document)

    async def _withdraw(self, side: Side, process: int, uri: str) -> None:
        moved = side.oracle.facts.change(uri, None)
        event = await side.world.withdraw(process, uri)
        found = None if event is None else (str(event.kind), event.to_version)
        expected = ("withdrawn", side.oracle.facts.version(uri)) if moved else None
        self._compare(side, found, expected)

    async def _expire(self, side: Side, process: int, uri: str, how: int) -> None:
        """What it is may be believed no longer: by a moment, by a time, by a short one."""
        document = side.oracle.facts.document(uri) or _document()
        until = past(how) if how < 2 else timedelta(milliseconds=1)
        await self._observe(side, process, uri, document, until=until, believed=False)
        if how == 2:
            await asyncio.sleep(0.005)

    async def _renew(self, side: Side, process: int, uri: str, how: int) -> None:
        if (document := side.oracle.facts.document(uri)) is not None:
            until = datetime.now(UTC) + FUTURE if how else FUTURE
            await self._observe(side, process, uri, document, until=until)

    async def _sense(self, side: Side, name: str, value: int) -> None:
        side.world.readings[name] = side.oracle.senses.readings[name] = value

    # Sources ------------------------------------------------------------------------------

    async def _source(self, side: Side, uri: str, part: str, value: int) -> None:
        """What a source has changes; nobody is told."""
        documents = side.world.source.documents
        if part == "gone":
            documents.pop(uri, None)
        elif part == "broken":
            documents[uri] = "broken"
        else:
            documents[uri] = _edited(documents.get(uri), part, value)

    async def _hint(self, side: Side, uris: Sequence[str]) -> None:
        """Hints, perhaps twice and in any order; each says only: look again."""
        reads, source = side.world.source.reads, side.world.source
        moved = [uri for uri in set(uris) if self._looked(side, uri)]
        for uri in uris:
            source.hints.put_nowait(uri)
        until = asyncio.get_running_loop().time() + _PATIENCE
        while source.reads == reads or not await self._arrived(side, moved):
            if asyncio.get_running_loop().time() > until:
                raise Violation(f"hints of {uris} were not looked at")
            await asyncio.sleep(0.001)

    async def _arrived(self, side: Side, uris: Sequence[str]) -> bool:
        wanted = {uri: frozenset[str | None]() for uri in uris}
        facts = await side.world.processes[1].store.read_facts(wanted)
        return all(facts.of(uri).version == side.oracle.facts.version(uri) for uri in uris)

    async def _scan(self, side: Side) -> None:
        for uri in WATCHED:
            self._looked(side, uri)
        await side.world.scan()
        if not await self._arrived(side, WATCHED):
            raise Violation("a scan did not bring all that a source has")

    @staticmethod
    def _looked(side: Side, uri: str) -> bool:
        document = side.world.source.documents.get(uri)
        document = copy.deepcopy(document) if isinstance(document, dict) else None
        side.world.documents[uri] = document
        return side.oracle.facts.change(uri, document)

    # Processes ----------------------------------------------------------------------------

    async def _restart(self, side: Side, process: int) -> None:
        side.oracle.restart(process)
        if process == 0:  # it scans as it begins
            for uri in WATCHED:
                self._looked(side, uri)
        await side.world.restart(process)

    async def _code(self, side: Side, process: int, name: str, version: str) -> None:
        """A process is started with another version of a tool, or of all agents."""
        side.oracle.code[process][name] = side.world.code[process][name] = version
        await self._restart(side, process)

    async def _collect(self, side: Side, process: int, traces: int, versions: int) -> None:
        """Delete all that nobody needs any more, at once."""
        for task in side.oracle.traces:
            side.oracle.keep(task, traces)
        kept = Retention(traces=traces, history=0, versions=versions, grace=timedelta(0))
        await side.world.processes[process].engine.collect(kept)

    # Settled ------------------------------------------------------------------------------

    async def _settle(self, side: Side) -> None:
        """The traces are those of the oracle, and so is every mark on them; so are all totals."""
        await side.world.settle()
        store = side.world.processes[0].store
        for trace in (it for some in side.oracle.traces.values() for it in some):
            marks = await store.marks(trace.id)
            inside = {position for position in marks if position < len(trace.steps)}
            self._compare(side, inside, trace.marks(side.oracle.facts))
        stats = await side.world.processes[0].engine.stats()
        found = (stats.tokens, stats.saved_tokens, stats.traces)
        traces = sum(map(len, side.oracle.traces.values()))
        self._compare(side, found, (side.oracle.tokens, side.oracle.saved, traces))
        for trace in side.oracle.gone:
            was = await store.execution(trace.id)
            state = None if was is None else was.execution.state
            if state is ExecutionState.PUBLISHED:
                raise Violation(f"{trace.id} is beyond what its task keeps, and is published")
        side.oracle.gone.clear()


def _all(oracle: Oracle, processes: Sequence[int], task: Task) -> list[Expected]:
    return [oracle.execute(process, task) for process in processes]


def _found(result: Result, calls: int, done: list[tuple[str, tuple[Any, ...]]]) -> Expected:
    return Expected(
        output=result.output,
        calls=calls,
        done=tuple(sorted(done)),
        tokens=result.tokens,
        saved=result.saved_tokens,
        recorded=result.recorded,
        replayed=result.replayed,
    )


# Choosing ---------------------------------------------------------------------------------

_PARTS = ("on", "limit", "eu", "us", "a", "b", "rows", "note")
_TASKS = [(name, n) for name, it in AGENTS.items() for n in range(len(it.tasks))]


def _uri(choose: random.Random) -> str:
    return choose.choice(PUSHED)


def _process(choose: random.Random) -> int:
    return choose.randrange(2)


def _an_execute(choose: random.Random) -> Operation:
    agent, task = choose.choice(_TASKS)
    return ("execute", _process(choose), agent, task, int(choose.random() > 0.03))


def _a_code(choose: random.Random) -> Operation:
    several = [name for name, versions in TOOLS.items() if len(versions) > 1]
    name = choose.choice([*several, "agents"])
    return ("code", _process(choose), name, choose.choice(["1", "1", "2"]))


def _edits_of(choose: random.Random, uris: Sequence[str]) -> tuple[tuple[str, str, int], ...]:
    some = []
    for _ in range(choose.choice([1, 1, 2, 3])):
        part = choose.choice([*_PARTS, "on", "eu", "gone"])
        some.append((choose.choice(uris), part, choose.randrange(2)))
    return tuple(some)


def _a_meanwhile(choose: random.Random) -> Operation:
    point = choose.choice(["lookup", "ask", "effect"])
    process = _process(choose)
    if point == "lookup":
        edits = tuple(
            (uri, "on", choose.randrange(2)) for uri in choose.sample(["acl:left", "acl:right"], 2)
        )
        return ("meanwhile", process, point, ("reader", choose.randrange(2)), edits)
    if point == "effect":
        uris = [*PUSHED[2:7], "rule:audit", "schema:prices"]
        writing = [it for it in _TASKS if it[0] != "reader"]
        return ("meanwhile", process, point, choose.choice(writing), _edits_of(choose, uris))
    return ("meanwhile", process, point, choose.choice(_TASKS), _edits_of(choose, PUSHED))


#: How often each kind of operation is chosen, of all these together, and how it is made.
KINDS: dict[str, tuple[float, Callable[[random.Random], Operation]]] = {
    "execute": (14, _an_execute),
    "again": (30, lambda c: ("again", int(c.random() < 0.15))),
    "together": (2, lambda c: ("together", _process(c), *c.choice([*_TASKS, (PROGRAM.name, 0)]))),
    "program": (2, lambda c: ("execute", _process(c), PROGRAM.name, 0, int(c.random() > 0.03))),
    "meanwhile": (2, _a_meanwhile),
    "change": (22, lambda c: ("change", _process(c), _uri(c), c.choice(_PARTS), c.randrange(3))),
    "same": (6, lambda c: ("same", _process(c), _uri(c))),
    "revert": (20, lambda c: ("revert", _process(c), _uri(c), c.randrange(6))),
    "withdraw": (3, lambda c: ("withdraw", _process(c), _uri(c))),
    "expire": (
        3,
        lambda c: ("expire", _process(c), _uri(c), c.choices([0, 1, 2], [10, 10, 1])[0]),
    ),
    "renew": (5, lambda c: ("renew", _process(c), _uri(c), c.randrange(2))),
    "sense": (3, lambda c: ("sense", c.choice(["eu", "us", "stock"]), c.randrange(3))),
    "source": (
        2,
        lambda c: (
            "source",
            c.choice(WATCHED),
            c.choice([*_PARTS, "gone", "broken"]),
            c.randrange(3),
        ),
    ),
    "hint": (2, lambda c: ("hint", tuple(c.choices(WATCHED, k=c.randrange(1, 5))))),
    "scan": (1, lambda _c: ("scan",)),
    "restart": (0.5, lambda c: ("restart", _process(c))),
    "code": (0.5, _a_code),
    "collect": (
        0.5,
        lambda c: ("collect", _process(c), c.choice([1, 2, 4, 8]), c.choice([0, 1, 100])),
    ),
    "settle": (1, lambda _c: ("settle",)),
}


def operations(choose: random.Random, count: int) -> list[Operation]:
    """A history at random; the last operation settles."""
    kinds = choose.choices(list(KINDS), [weight for weight, _ in KINDS.values()], k=count - 1)
    return [*(KINDS[kind][1](choose) for kind in kinds), ("settle",)]
