"""What one of several processes does whose callers all want the same at the same time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from anthropic import AsyncAnthropic

from execgraph import Acl, Agent, Engine
from execgraph.engine.sessions import process, single_flight
from execgraph.tests.concurrency.worker import Report, Settings, begin, main

Pause = Callable[[], Awaitable[None]]


def _enter(ledger: str, what: str) -> None:
    with Path(ledger).open("a", encoding="utf-8") as entered:
        entered.write(f"{what}\n")


def _agent(engine: Engine, client: AsyncAnthropic, settings: Settings, pause: Pause) -> Agent:
    @engine.tool(effect="read", version="1")
    async def look() -> str:
        """Look."""
        await pause()
        return "fine"

    @engine.tool(
        effect=settings.get("effect", "write"),
        requires=[Acl("deploy")],
        on_change=settings.get("on_change", "ask"),
        version="1",
    )
    async def deploy(to: str) -> str:
        """Deploy, and enter it where a process that is killed cannot take it back."""
        _enter(settings["ledger"], to)
        return f"deployed to {to}"

    return engine.agent("deployer", client=client, model="m", tools=[look, deploy])


async def callers(settings: Settings, report: Report) -> None:
    """``callers`` runs of one task at once. ``lease``: seconds; ``blind``: a process that has
    ended is not seen to have."""
    chance = random.Random(f"{settings.get('seed')}-{settings.get('number')}")
    single_flight.LEASE_SECONDS = settings.get("lease", single_flight.LEASE_SECONDS)
    if settings.get("blind"):
        process._where = lambda: None
    on: Any = settings.get("single_flight", True)
    how = timedelta(seconds=on) if isinstance(on, float) else on
    engine = Engine(settings["url"], namespace=settings["namespace"], single_flight=how)

    async def pause() -> None:
        await asyncio.sleep(chance.uniform(0, settings.get("pause", 0.0)))

    async with AsyncAnthropic(base_url=settings["model_url"], api_key="k") as client, engine:
        agent = _agent(engine, client, settings, pause)

        async def call() -> None:
            await pause()
            for task in settings.get("tasks", ["go"]):
                started = time.monotonic()
                try:
                    result = await agent.execute(task, resume="off")
                except Exception as error:  # noqa: BLE001 - it is told
                    report.failed("a caller", error)
                    continue
                took = (time.monotonic() - started) * 1000
                effects = [it.id for it in result.effects]
                told = [result.mode, result.output, result.waited_ms, took, effects]
                report.add("results", told)

        begin()
        await asyncio.gather(*(call() for _ in range(settings["callers"])))


if __name__ == "__main__":
    main({"callers": callers})
