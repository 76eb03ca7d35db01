"""What one of several processes does. It tells of it in JSON, on the last line it prints.

Each role is an async function of the settings and a Report. Times are of CLOCK_MONOTONIC, which
the processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from execgraph import BusinessRule, Engine, Handle, PreconditionChanged, Result, Tool
from execgraph.engine.sync import SyncEngine, SyncRun
from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import VersionMoved
from execgraph.graphstore.retention import Retention
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.walker import Walker
from execgraph.tests.conformance.marks import branching_recording
from execgraph.tests.conformance.samples import guard, published, sample_recording

Settings = dict[str, Any]

CYCLES = ("rule:cycle-0", "rule:cycle-1")  # each comes back to what it was
SERIAL = "rule:serial"  # never does
GRACE = 0.5  # seconds that a run may take while others collect
LEASED, LASTS = "rule:leased", 0.15  # is believed for so many seconds at a time
RULES = ("rule:0", "rule:1")


class Report(logging.Handler):
    """What a process tells: what it counted, and each error and warning that reached its user."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: dict[str, list[Any]] = {"errors": [], "warnings": []}

    def emit(self, record: logging.LogRecord) -> None:
        self.add("warnings", f"{record.name}: {record.getMessage()}")

    def add(self, name: str, *items: Any) -> None:
        self.told.setdefault(name, []).extend(items)

    def failed(self, doing: str, error: BaseException) -> None:
        self.add("errors", f"{doing}: {type(error).__name__}: {error} (cause: {error.__cause__!r})")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def begin() -> None:
    say("ready")
    sys.stdin.readline()


def _store(settings: Settings) -> GraphStore:
    return connect(settings["url"], namespace=settings["namespace"])


async def hot(settings: Settings, report: Report) -> None:
    """Change one facet of a resource until told to stop; ``rate`` a second, 0: without a pause."""
    store = _store(settings)
    await store.open()
    stopped = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        stopped.set()

    number, pause = 0, 1 / settings["rate"] if settings["rate"] else 0.0
    begin()
    threading.Thread(target=listen, daemon=True).start()
    began = due = time.monotonic()
    while not stopped.is_set():
        number += 1
        document = Document.of({"hot": number, **settings["calm"]})
        await store.change(settings["resource"], document)
        if number == 1:
            say("begun")
        due += pause
        await asyncio.sleep(max(0.0, due - time.monotonic()) if pause else 0)
    report.add("changes", number)
    report.add("rate", number / (time.monotonic() - began))
    await store.close()


class Service:
    """One engine in two threads, each with an event loop: programs that tell under which facts
    they were decided, changes, and traces that are taken away."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self.settings = settings
        self.report = report
        self.random = random.Random(f"{settings['seed']}-{settings['number']}")
        self.end = math.inf
        self.changed = 0
        self.engine = Engine(settings["url"], namespace=settings["namespace"])

        @self.engine.tool(effect="pure", requires=[BusinessRule("{name}", "$.value")], version="1")
        async def look(name: str) -> Any:
            """Look."""
            return await self.fact(f"rule:{name}")

        @self.engine.tool(effect="write", requires=[BusinessRule("serial", "$.value")], version="1")
        def ship(serial: Any) -> str:
            """Ship."""
            return f"shipped under {serial}"

        self.look, self.ship = look, ship

    @property
    def store(self) -> GraphStore:
        return self.engine.session().store

    async def fact(self, uri: str) -> Any:
        """What is so now, as the world knows it."""
        found = await self.store.document(uri)
        await asyncio.sleep(self.random.choice((0, 0, 0.003)))
        content: Any = {"value": None} if found is None else found[1].content
        return content["value"]

    # What may be done ---------------------------------------------------------------------

    async def model(self, request: Any) -> Any:
        """Says what the facts are that it was asked to decide by."""
        self.report.add("asked", 1)
        return {uri: await self.fact(uri) for uri in request["facts"]}

    async def pair(self, run: Any) -> dict[str, Any]:
        return dict((await run.decide({"facts": CYCLES}, call=self.model)).value)

    async def leased(self, run: Any) -> dict[str, Any]:
        return dict((await run.decide({"facts": [LEASED]}, call=self.model)).value)

    async def looks(self, run: Any) -> dict[str, Any]:
        found = {uri: (await run.act(self.look, name=uri[5:])).value for uri in CYCLES}
        await run.decide({"facts": [], "found": found}, call=self.model)
        return found

    async def shipping(self, run: Any) -> dict[str, Any]:
        chosen = dict((await run.decide({"facts": [SERIAL]}, call=self.model)).value)
        start = time.monotonic()
        await run.act(self.ship, serial=chosen[SERIAL])
        self.report.add("effects", [start, time.monotonic(), chosen[SERIAL]])
        return chosen

    KINDS: ClassVar = {
        "pair": (pair, [BusinessRule(uri[5:], "$.value") for uri in CYCLES]),
        "looks": (looks, []),
        "leased": (leased, [BusinessRule("leased", "$.value")]),
        "shipping": (shipping, [BusinessRule("serial", "$.value")]),
    }

    def answered(self, kind: str, start: float, values: dict[str, Any], result: Result) -> None:
        # What was looked up again tells of another moment than what was served.
        looked = any(it.name == "look" and it.outcome != "reused" for it in result.steps)
        joint = result.replayed and not looked
        told = [kind, result.execution_id, start, time.monotonic(), values, joint]
        self.report.add("answers", told)

    def wish(self) -> tuple[str, dict[str, Any]]:
        kind = self.random.choice(list(self.KINDS))
        return kind, {"task": self.random.randrange(3)}

    # Who does it --------------------------------------------------------------------------

    async def programs(self) -> None:
        while time.monotonic() < self.end:
            kind, inputs = self.wish()
            steps, requires = self.KINDS[kind]
            start = time.monotonic()
            try:
                async with self.engine.run(kind, inputs, requires=requires) as run:
                    run.output = values = await steps(self, run)
                self.answered(kind, start, values, run.result)
            except PreconditionChanged:
                self.report.add("refused", 1)
            except Exception as error:  # noqa: BLE001 - none is to reach a user
                self.report.failed(kind, error)

    def plain_programs(self, engine: SyncEngine) -> None:
        """The same from a thread without an event loop."""
        while time.monotonic() < self.end:
            kind, inputs = self.wish()
            steps, requires = self.KINDS[kind]
            start = time.monotonic()
            try:
                with engine.run(kind, inputs, requires=requires) as run:
                    run.output = values = asyncio.run(steps(self, Plain(run)))
                self.answered(kind, start, values, run.result)
            except PreconditionChanged:
                self.report.add("refused", 1)
            except Exception as error:  # noqa: BLE001 - none is to reach a user
                self.report.failed(f"{kind}, without a loop", error)

    async def agents(self) -> None:
        """The real SDK, over HTTP; the model says what the first rule is. It is slow to begin."""
        if self.settings["number"] > 0:
            return
        from anthropic import AsyncAnthropic

        async with AsyncAnthropic(base_url=self.settings["model_url"], api_key="k") as client:
            rule = BusinessRule("cycle-0", "$.value")
            agent = self.engine.agent("teller", client=client, model="m", requires=[rule])
            while time.monotonic() < self.end:
                start = time.monotonic()
                try:
                    result = await agent.execute({"task": self.random.randrange(3)})
                    self.answered("agent", start, {CYCLES[0]: json.loads(result.output)}, result)
                except Exception as error:  # noqa: BLE001 - none is to reach a user
                    self.report.failed("agent", error)
                await asyncio.sleep(0.005)

    async def changes(self) -> None:
        while time.monotonic() < self.end:
            await asyncio.sleep(self.random.uniform(0, 2 * self.settings["pause"]))
            uri = self.random.choice((*CYCLES, *CYCLES, SERIAL, LEASED))
            self.changed += 1
            value: Any = self.random.randrange(3)
            if uri == SERIAL:
                value = f"{self.settings['number']}-{self.changed}"
            elif uri in CYCLES and self.random.random() < 0.05:
                value = None
            try:
                await self.change(uri, value)
            except Exception as error:  # noqa: BLE001 - none is to reach a user
                self.report.failed("change", error)

    async def change(self, uri: str, value: Any) -> None:
        """Let a resource have this value; None: withdraw it."""
        document = {"value": value, "noise": self.random.randrange(3)}
        lasts = LASTS if uri == LEASED else None
        before = time.monotonic()
        if value is None:
            event = await self.engine.withdraw(uri)
        else:
            until = None if lasts is None else timedelta(seconds=lasts)
            event = await self.engine.observe(uri, document, until=until)
        after = time.monotonic()
        if event is not None and event.kind in ("changed", "withdrawn"):
            self.report.add("changes", [uri, event.to_version, value, before, after])
        if lasts is not None:
            self.report.add("believed", [uri, value, before, after + lasts])

    async def taking_away(self) -> None:
        """Now and then a trace is no longer to be replayed, whoever remembers it."""
        while time.monotonic() < self.end:
            await asyncio.sleep(self.random.uniform(0.1, 0.5))
            try:
                newest = await self.store.executions(limit=50)
                published = [it.id for it in newest if it.state == "published"]
                if published:
                    gone = self.random.choice(published)
                    await self.store.unpublish(gone, "for a test")
                    self.report.add("gone", [gone, time.monotonic()])
            except Exception as error:  # noqa: BLE001 - none is to reach a user
                self.report.failed("unpublish", error)

    async def collecting(self) -> None:
        """Have taken away what is no longer needed, if the settings say so."""
        if not self.settings.get("collecting"):
            return
        kept = Retention(traces=2, history=3, versions=3, grace=timedelta(seconds=GRACE))
        while time.monotonic() < self.end:
            await asyncio.sleep(self.random.uniform(0, 0.2))
            try:
                done = await self.store.collect(kept, batch=20)
                self.report.add("collected", done.executions + done.replays + done.versions)
            except Exception as error:  # noqa: BLE001 - none is to reach a user
                self.report.failed("collect", error)

    def thread(self) -> None:
        """The sync face, from two threads."""
        with self.engine.sync() as engine:
            threads = [
                threading.Thread(target=self.plain_programs, args=(engine,)) for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    async def work(self) -> None:
        if self.settings["number"] == 0:
            import anthropic  # noqa: F401 - takes a second or two
        async with self.engine:
            begin()
            self.end = time.monotonic() + self.settings["seconds"]
            beside = threading.Thread(target=self.thread)
            beside.start()
            await asyncio.gather(
                *(self.programs(), self.programs(), self.agents()),
                *(self.changes(), self.taking_away(), self.collecting()),
            )
            await asyncio.to_thread(beside.join)


class Plain:
    """A run of the sync face, as the programs above use it."""

    def __init__(self, run: SyncRun) -> None:
        self._run = run

    async def decide(self, request: Any, **how: Any) -> Handle:
        return self._run.decide(request, **how)

    async def act(self, tool: Tool, /, **arguments: Any) -> Handle:
        return self._run.act(tool, **arguments)


async def history(settings: Settings, report: Report) -> None:
    """``trusting``: what is remembered is believed to stand, which the checker must find."""
    if settings.get("trusting"):

        async def still(*args: Any, **options: Any) -> bool:
            return True

        SqliteStore.still = still  # type: ignore[method-assign]
    await Service(settings, report).work()


async def count(settings: Settings, report: Report) -> None:
    """Add one to a counter many times, by reading it and changing what was read; and push what
    nobody else pushes."""
    store = _store(settings)
    await store.open()
    begin()

    async def increment() -> None:
        while True:
            found = await store.document("custom:counter")
            assert found is not None
            noted, document = found
            number: Any = document.content
            try:
                event = await store.change("custom:counter", Document.of(number + 1), noted=noted)
            except VersionMoved:
                report.add("again", 1)
            else:
                assert event is not None
                report.add("increments", event.to_version)
                return

    async def push(pushed: str) -> None:
        event = await store.change("custom:pushed", Document.of(pushed))
        assert event is not None
        report.add("pushes", event.to_version)

    async def work(task: int) -> None:
        try:
            for n in range(settings["times"]):
                await increment()
                await push(f"{settings['number']}-{task}-{n}")
        except Exception as error:  # noqa: BLE001 - none is to reach a user
            report.failed("count", error)

    await asyncio.gather(*(work(task) for task in range(settings["tasks"])))
    await store.close()


async def publish(settings: Settings, report: Report) -> None:
    """Record and publish runs of one task, many of which equal one of another process."""
    store = _store(settings)
    await store.open()
    begin()

    async def work(task: int) -> None:
        try:
            for n in range(settings["times"]):
                number = (n * settings["tasks"] + task) * 10 + settings["number"]
                recording = sample_recording(number=number, says=f"{n}-{task}")
                done = await published(store, recording)
                report.add("published" if done.published else "equal", recording.execution.id)
        except Exception as error:  # noqa: BLE001 - none is to reach a user
            report.failed("publish", error)

    await asyncio.gather(*(work(task) for task in range(settings["tasks"])))
    await store.close()


async def walk(settings: Settings, report: Report) -> None:
    """Change facts, publish, and settle, all the time; ``led``: when this one led."""
    chance = random.Random(f"{settings['seed']}-{settings['number']}")
    namespace = settings["namespace"]
    engine = Engine(settings["url"], namespace=namespace)
    lead = Walker._walk_all

    async def led(self: Walker, *arguments: Any, **settings: Any) -> int:
        start = time.monotonic()
        try:
            return await lead(self, *arguments, **settings)
        finally:
            report.add("led", [start, time.monotonic()])

    Walker._walk_all = led  # type: ignore[method-assign]
    async with engine:
        store = engine.session().store
        begin()
        end = time.monotonic() + settings["seconds"]

        async def change() -> None:
            await engine.observe(chance.choice(RULES), {"x": chance.randrange(2)})
            report.add("changes", 1)

        async def record() -> None:
            if len(report.told.get("recorded", [])) == settings["most"]:
                return
            held = [guard(namespace, uri, {"x": chance.randrange(2)}, "$.x") for uri in RULES]
            name = f"{settings['number']}-{chance.randrange(10**9)}"
            guards = [[held[0]], [held[1]], []]
            await published(store, branching_recording(name, guards, [(), (0,), (1,)]))
            report.add("recorded", name)

        async def work(act: Callable[[], Awaitable[None]]) -> None:
            while time.monotonic() < end:
                try:
                    await act()
                except Exception as error:  # noqa: BLE001 - none is to reach a user
                    report.failed("walk", error)
                await asyncio.sleep(chance.uniform(0, 0.1))

        await asyncio.gather(work(change), work(record), work(engine.session().walker.settle))
        report.add("settled", 1)


async def unpublish(settings: Settings, report: Report) -> None:
    """Take away a trace that others may remember."""
    store = _store(settings)
    await store.open()
    begin()
    await store.unpublish(settings["execution"], "for a test")
    await store.close()


async def stand_still(settings: Settings, report: Report) -> None:
    """Begin a transaction that writes, and wait in it for a line: the file is locked."""
    connection = sqlite3.connect(settings["url"].removeprefix("sqlite:///"), isolation_level=None)
    begin()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO namespace (name) VALUES ('half done')")
    say("begun")
    sys.stdin.readline()
    connection.execute("COMMIT")
    connection.close()


async def read_long(settings: Settings, report: Report) -> None:
    """Begin a transaction that reads, and keep it open until a line is read."""
    connection = sqlite3.connect(settings["url"].removeprefix("sqlite:///"), isolation_level=None)
    begin()
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM execution").fetchone()
    say("begun")
    sys.stdin.readline()
    connection.execute("COMMIT")
    connection.close()


ROLES = {
    it.__name__: it
    for it in (hot, history, count, publish, walk, unpublish, stand_still, read_long)
}


def main(roles: Mapping[str, Callable[[Settings, Report], Coroutine[Any, Any, None]]]) -> None:
    """Do what is asked for, if it is one of these roles."""
    settings = json.loads(sys.argv[1])
    report = Report()
    logging.getLogger().addHandler(report)
    asyncio.run(roles[settings["role"]](settings, report))
    say(json.dumps(report.told))


if __name__ == "__main__":
    main(ROLES)
