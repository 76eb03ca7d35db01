"""Several processes on one store: how they are started, and what they tell.

EXECGRAPH_CONCURRENCY_SECONDS makes each history longer (3 by default), and
EXECGRAPH_CONCURRENCY_SEED makes it another one (printed when a test fails).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from execgraph import Engine
from execgraph.graphstore.connect import connect
from execgraph.graphstore.store import GraphStore
from execgraph.tests.forks import Fork

SECONDS = float(os.environ.get("EXECGRAPH_CONCURRENCY_SECONDS", "3"))
SEED = int(os.environ.get("EXECGRAPH_CONCURRENCY_SEED", "1"))

_WORKER = Path(__file__).with_name("worker.py")
_PATIENCE = 120.0  # seconds a process may take beyond its own time


class Worker:
    """Another process at work: ``role`` is a function of its script, worker.py if not named."""

    def __init__(self, process: Fork) -> None:
        self._process = process
        self.pid = process.pid

    def say(self, word: str) -> None:
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    async def heard(self) -> str:
        """The next line it says."""
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert line, "the process has ended: " + await self._errors()
        return line.strip()

    async def told(self, seconds: float = 0.0) -> Any:
        """What it has to tell at its end."""
        try:
            output, errors = await asyncio.to_thread(
                self._process.communicate, timeout=seconds + _PATIENCE
            )
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, errors = await asyncio.to_thread(self._process.communicate)
            errors = f"it did not end in time\n{errors}"
            raise AssertionError(errors) from None
        assert self._process.poll() == 0, errors
        return json.loads(output.splitlines()[-1])

    async def _errors(self) -> str:
        return (await asyncio.to_thread(self._process.communicate))[1]

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@dataclass
class Place:
    """A namespace that nobody used before, in a real store."""

    url: str
    namespace: str

    def engine(self, **settings: Any) -> Engine:
        return Engine(self.url, namespace=self.namespace, **settings)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[GraphStore]:
        store = connect(self.url, namespace=self.namespace)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    def start(self, role: str, *, script: Path = _WORKER, **settings: Any) -> Worker:
        """A process that opens the store, says ``ready``, and waits for a line to begin."""
        told = {"role": role, "url": self.url, "namespace": self.namespace, **settings}
        return Worker(Fork(script, json.dumps(told)))

    async def at_once(self, role: str, many: int, **settings: Any) -> list[Any]:
        """What ``many`` processes tell that begin at the same time; ``number`` is each one's."""
        workers = [self.start(role, number=number, **settings) for number in range(many)]
        try:
            for worker in workers:
                assert await worker.heard() == "ready"
            for worker in workers:
                worker.say("go")
            seconds = settings.get("seconds", 0.0)
            told = await asyncio.gather(
                *(worker.told(seconds) for worker in workers), return_exceptions=True
            )
            for it in told:
                if isinstance(it, BaseException):
                    raise it
            return told
        finally:
            for worker in workers:
                worker.kill()

    @asynccontextmanager
    async def beside(self, role: str, **settings: Any) -> AsyncIterator[Worker]:
        """A process that is at work meanwhile, until it is told to stop."""
        worker = self.start(role, **settings)
        try:
            assert await worker.heard() == "ready"
            worker.say("go")
            assert await worker.heard() == "begun"
            yield worker
        finally:
            worker.kill()


@pytest.fixture
def place(url: str) -> Place:
    return Place(url, f"test-{uuid.uuid4().hex[:12]}")
