"""A program that pays once: ``python -m execgraph.tests.crashes.paying URL NAMESPACE LOG DIE_AT``.

It kills itself at the point ``DIE_AT`` (none if negative): points are before and after each call of
the store, and before and after what its tool does, which is a line in ``LOG``. If it lives it
prints what came of it, and how many points there were, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from execgraph import EffectInDoubt, Engine
from execgraph.engine.effects import once

_CALLS = ("lookup", "facts", "intend", "end_effect", "write", "publish", "values", "read_facts")


class Fate:
    """Counts points, and kills this process at one of them."""

    def __init__(self, die_at: int) -> None:
        self._die_at = die_at
        self.points = 0

    def __call__(self) -> None:
        if self.points == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.points += 1

    def around(self, store: Any, name: str) -> None:
        """Have a call of the store lie between two points."""
        call = getattr(store, name)

        async def watched(*arguments: Any, **named: Any) -> Any:
            self()
            found = await call(*arguments, **named)
            self()
            return found

        setattr(store, name, watched)


async def main(url: str, namespace: str, log: Path, die_at: int) -> None:
    """Pay, unless that has happened."""
    fate, engine = Fate(die_at), Engine(url, namespace=namespace)
    if die_at >= -1:  # alone: who has begun it is dead, and that is to be noticed
        vars(once)["PAUSES"] = (3600.0 if sys.platform == "linux" else 0.01,)

    @engine.tool(effect="once", requires=[])
    def pay(invoice: str) -> str:
        """Pay an invoice."""
        fate()
        with log.open("ab", buffering=0) as file:
            file.write(f"{invoice}\n".encode())
        time.sleep(0.2 if die_at < -1 else 0)
        fate()
        return "paid"

    async with engine:
        for name in _CALLS:
            fate.around(engine.session().store, name)
        told: dict[str, Any] = {}
        try:
            async with engine.run("pay", {"invoice": "i-1"}) as run:
                told["gave"] = run.output = (await run.act(pay, invoice="i-1")).value
        except EffectInDoubt as error:
            told["in doubt"] = error.effect.id
    print(json.dumps({**told, "points": fate.points}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
