"""As ``paying``, a program that pays, but with the approval of a person.

Its points are before and after each call of the store, and before and after what its tool does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from execgraph import AwaitingApproval, Engine

from .paying import Fate

_CALLS = ("request", "approval", "precedents", "facts", "intend", "end_effect", "write", "publish")


async def main(url: str, namespace: str, log: Path, die_at: int) -> None:
    """Pay, if that is approved."""
    fate, engine = Fate(die_at), Engine(url, namespace=namespace)

    @engine.tool(effect="confirm", requires=[])
    def pay(invoice: str) -> str:
        """Pay an invoice."""
        fate()
        with log.open("ab", buffering=0) as file:
            file.write(f"{invoice}\n".encode())
        fate()
        return "paid"

    async with engine:
        for name in _CALLS:
            fate.around(engine.session().store, name)
        told: dict[str, Any] = {}
        try:
            async with engine.run("pay", {"invoice": "i-1"}) as run:
                told["gave"] = run.output = (await run.act(pay, invoice="i-1")).value
        except AwaitingApproval as error:
            told |= {"awaiting": error.approval_id, "message": str(error)}
    print(json.dumps({**told, "points": fate.points}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
