"""What is to happen once happens once, wherever its process is killed, and however many there are.

Who comes after a process that was killed is told that it is in doubt, or does it, or gives what it
gave; a person who looks at the other side settles what is in doubt.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

from execgraph import Engine
from execgraph.tests import forks

_ALONE, _TOGETHER = -1, -2


class Payer:
    """Processes that pay one invoice, and what they have done."""

    def __init__(self, url: str, folder: Path, program: str = "paying") -> None:
        self.program = f"execgraph.tests.crashes.{program}"
        name = uuid.uuid4().hex[:12]
        self.namespace, self.log = f"test-{name}", folder / f"{name}.log"
        self.url = f"sqlite:///{folder}/{name}.db" if url.startswith("sqlite") else url

    async def run(self, die_at: int = _ALONE) -> tuple[int, dict[str, Any]]:
        """Start a process, and give its exit code and what it told."""
        to = (self.url, self.namespace, str(self.log), str(die_at))
        ended = await asyncio.to_thread(forks.run, self.program, *to)
        return ended.returncode, json.loads(ended.stdout) if ended.stdout else {}

    @property
    def paid(self) -> int:
        """How often the invoice was paid."""
        return len(self.log.read_text(encoding="utf-8").splitlines()) if self.log.exists() else 0

    async def settle(self, effect: str) -> None:
        """Do as a person does who looks whether it was paid."""
        async with Engine(self.url, namespace=self.namespace) as engine:
            await engine.resolve(effect, done=self.paid == 1, output="paid")


async def test_it_happens_once_wherever_the_process_is_killed(url: str, tmp_path: Path) -> None:
    _, lived = await Payer(url, tmp_path).run()
    assert lived["gave"] == "paid"
    ends = []
    for point in range(lived["points"]):
        payer = Payer(url, tmp_path)
        code, _ = await payer.run(point)
        assert code == -9, point
        before = payer.paid
        _, told = await payer.run()
        assert payer.paid <= 1, point
        if "in doubt" in told:
            assert payer.paid == before, point
            await payer.settle(told["in doubt"])
            _, told = await payer.run()
        assert (told["gave"], payer.paid) == ("paid", 1), point
        ends.append(before)
    assert set(ends) == {0, 1}, "it was killed before and after"


async def test_of_processes_at_once_one_does_it(url: str, tmp_path: Path) -> None:
    payer = Payer(url, tmp_path)
    async with Engine(payer.url, namespace=payer.namespace):
        pass  # the schema is there
    told = await asyncio.gather(*(payer.run(_TOGETHER) for _ in range(4)))
    assert [it["gave"] for _, it in told] == ["paid"] * 4
    assert payer.paid == 1
