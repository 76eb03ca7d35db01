"""A deployment whose process is killed in the middle, and a ledger beside it that counts.

``python -m execgraph.adapters.demo.killed`` deploys and kills itself: where, it reads as JSON from
its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ... import Engine, IdempotencyKey

if TYPE_CHECKING:
    from ...engine.outcome.result import Result
    from ...engine.tools.tool import Tool

__all__ = ["Ledger", "booking", "deploy", "kill_one"]

RUN_ID = "deployment-1041"
_INPUTS = {"service": "checkout", "version": "2.4.1"}


class Ledger:
    """Books deployments, each under its idempotency key once, and counts how often it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def book(self, key: str, what: str) -> None:
        """Book a deployment, unless that key is known."""
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS booked (key TEXT PRIMARY KEY, what, told INT)")
            db.execute(
                "INSERT INTO booked VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET told = told + 1",
                (key, what),
            )

    @property
    def counted(self) -> tuple[int, int]:
        """How many deployments are booked, and how often it was told of one."""
        with closing(sqlite3.connect(self.path)) as db:
            found = db.execute("SELECT count(*), coalesce(sum(told), 0) FROM booked").fetchone()
            return int(found[0]), int(found[1])


def booking(engine: Engine, ledger: Ledger, then: Callable[[], None]) -> Tool:
    """The tool that deploys. ``then``: what happens when that is booked."""

    def book(service: str, version: str, *, key: Annotated[str, IdempotencyKey]) -> str:
        """Book a deployment in the ledger."""
        ledger.book(key, f"{service} {version}")
        then()
        return "booked"

    return engine.tool(book, effect="write", requires=[], version="1")


async def deploy(engine: Engine, tool: Tool) -> Result:
    """Deploy under the run's id."""
    async with engine.run("deployment", _INPUTS, run_id=RUN_ID) as run:
        run.output = await run.act(tool, **_INPUTS)
    return run.result


async def kill_one(store: str, namespace: str, ledger: Ledger) -> int:
    """Have a process deploy that is killed in the middle; the code it ended with."""
    told = json.dumps({"store": store, "namespace": namespace, "ledger": str(ledger.path)})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__), stdin=asyncio.subprocess.PIPE
    )
    await process.communicate(told.encode())
    return process.returncode or 0


async def _die(store: str, namespace: str, ledger: str) -> None:
    async with Engine(store, namespace=namespace) as engine:
        die = partial(os.kill, os.getpid(), signal.SIGKILL)
        await deploy(engine, booking(engine, Ledger(Path(ledger)), die))


if __name__ == "__main__":
    asyncio.run(_die(**json.loads(sys.stdin.read())))
