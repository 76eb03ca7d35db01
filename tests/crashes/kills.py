"""Kills processes that deploy, calls them again, and counts what a ledger was made to do twice."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import execgraph
from execgraph import Engine
from execgraph.adapters.messages_api import MessagesServer

from .deploying import NOTICES, THINGS, brain
from .ledger import Ledger, ledger

__all__ = ["WAYS", "Kills", "Way", "deaths", "kills"]

_ROOT = Path(execgraph.__file__).resolve().parent
_DECISIONS = 4


@dataclass(frozen=True)
class Way:
    """Who deploys, by which tool, and how a killed one is called again."""

    kind: str
    tool: str
    named: bool

    @property
    def things(self) -> set[str]:
        """What is to be done."""
        return {*THINGS, *(NOTICES if self.kind == "team" else ())}

    def __str__(self) -> str:
        return f"{self.kind}, {self.tool}, {'run_id' if self.named else 'plain retry'}"


#: Without a run id the other side can only tell by its key that it is called again.
WAYS = (
    Way("agent", "key", named=True),
    Way("agent", "lookup", named=True),
    Way("program", "key", named=True),
    Way("program", "lookup", named=True),
    Way("team", "key", named=True),
    Way("team", "lookup", named=True),
    Way("agent", "key", named=False),
    Way("program", "key", named=False),
)


@dataclass
class Kills:
    """What was tried so far. ``duplicates``: what was done more than once for one wish."""

    url: str
    folder: Path
    ledger: Ledger
    model: MessagesServer
    killed: Counter[str] = field(default_factory=Counter)
    duplicates: list[str] = field(default_factory=list)
    ended: int = 0  # deaths after the end of a run, of which nothing more is to be asked

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crashes.deploying"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._points: dict[Way, int] = {}

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    async def points(self, way: Way) -> int:
        """How many points a run has that lives."""
        if way not in self._points:
            place = await self._place()
            answer = self._ask(way, place, uuid.uuid4().hex)
            assert answer["ended"] == 0, answer
            self._points[way] = answer["points"]
        return self._points[way]

    async def trial(self, way: Way, *deaths: dict[str, float]) -> None:
        """Kill processes one after another, and then let one live. Raises AssertionError if what
        was wished was not done at last, or paid for more often than it must be."""
        place, wish = await self._place(), uuid.uuid4().hex
        before = self.model.requests
        lived: dict[str, Any] = {}
        deaths_met = 0
        for death in (*deaths, {}):
            if not way.named and await self._has_ended(place, wish):
                self.ended += 1  # who calls again has another wish
                break
            lived = self._ask(way, place, wish, **death)
            if lived["ended"] == 0 and way.named is False:
                break
            assert lived["ended"] in (0, -9), lived.get("error")
            deaths_met += lived["ended"] == -9
        self.killed[str(way)] += deaths_met
        times = self.ledger.times(wish)
        twice = {what: many for what, many in times.items() if many > 1}
        self.duplicates += [
            f"{way}: {what} {many} times ({deaths})" for what, many in twice.items()
        ]
        assert set(times) == way.things, (way, deaths, times)
        asked = self.model.requests - before
        assert asked <= _DECISIONS + deaths_met, (way, deaths, asked)

    def _ask(self, way: Way, place: tuple[str, str], wish: str, **death: float) -> dict[str, Any]:
        request = {
            "url": place[0],
            "namespace": place[1],
            "ledger": self.ledger.url,
            "model": self.model.url,
            "wish": wish,
            "kind": way.kind,
            "tool": way.tool,
            "run_id": f"run-{wish}" if way.named else None,
            **death,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    async def _place(self) -> tuple[str, str]:
        """A store, or a namespace, that knows the rule."""
        if not self.url.startswith("sqlite"):
            namespace = f"test-kill-{uuid.uuid4().hex[:12]}"
            await _prepare(self.url, namespace)
            return self.url, namespace
        first = self.folder / "first.db"
        if not first.exists():
            await _prepare(f"sqlite:///{first}", "team")
        copy = self.folder / "copy.db"
        for name in ("copy.db", "copy.db-wal", "copy.db-shm", "copy.db-witness"):
            self.folder.joinpath(name).unlink(missing_ok=True)
        for kept in self.folder.glob("first.db*"):
            shutil.copy(kept, self.folder / kept.name.replace("first", "copy"))
        return f"sqlite:///{copy}", "team"

    async def _has_ended(self, place: tuple[str, str], wish: str) -> bool:
        if self.ledger.calls(wish) == 0:
            return False
        async with Engine(place[0], namespace=place[1]) as engine:
            ran = await engine.session().store.executions()
        return any(it.state in ("published", "unpublished") for it in ran)


async def _prepare(url: str, namespace: str) -> None:
    async with Engine(url, namespace=namespace) as engine:
        await engine.observe("acl:deploy", {"rule": 1})


@contextmanager
def kills(url: str, folder: Path) -> Iterator[Kills]:
    """A place in which processes are killed."""
    with ledger(folder) as kept, MessagesServer(brain) as model:
        it = Kills(url, folder, kept, model)
        try:
            yield it
        finally:
            it.close()


def deaths(rng: random.Random, points: int, seconds: float) -> list[dict[str, float]]:
    """Some deaths, one after another: at points, of which later runs have fewer, and at any
    moment."""
    met: list[dict[str, float]] = []
    for number in range(rng.choice((1, 2, 3, 5))):
        if rng.random() < 0.25:
            met.append({"die_after": rng.uniform(0.0, seconds)})
        else:
            met.append({"die_at": rng.randrange(points if number == 0 else points // 2)})
    return met
