"""Many callers of one task in several processes: one asks the model, whatever becomes of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from execgraph.adapters.messages_api import Answer, MessagesServer, call, text

from .conftest import SEED, Place, Worker

_log = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("callers.py")
PROCESSES = 4
LEASE = 3.0  # seconds: a loaded machine must not take a process at work for a dead one
LONG = 5.0  # seconds that a reply takes while something is done to who waits for it


def think(body: dict[str, Any]) -> Answer:
    """Look, deploy, and say so."""
    turns = sum(message["role"] == "assistant" for message in body["messages"])
    said = [[call("look", {})], [call("deploy", {"to": "eu"})], [text("deployed")]]
    return Answer(said[turns])


@pytest.fixture
def server() -> Iterator[MessagesServer]:
    with MessagesServer(think, latency=0.1) as running:
        yield running


@dataclass
class Callers:
    """Processes whose callers all want the same. ``ledger``: where each effect is entered."""

    place: Place
    server: MessagesServer
    ledger: Path

    def _settings(self, callers: int, more: dict[str, Any]) -> dict[str, Any]:
        outside = {"model_url": self.server.url, "ledger": str(self.ledger)}
        return {"script": SCRIPT, **outside, "callers": callers, **more}

    async def told(
        self, many: int = PROCESSES, callers: int = 13, **settings: Any
    ) -> list[dict[str, Any]]:
        """What ``many`` processes tell that begin at the same time."""
        of = self._settings(callers, settings)
        told: list[dict[str, Any]] = await self.place.at_once("callers", many, **of)
        return told

    async def started(self, callers: int, **settings: Any) -> Worker:
        """One more process, at work."""
        worker = self.place.start("callers", **self._settings(callers, settings))
        assert await worker.heard() == "ready"
        worker.say("go")
        return worker

    @property
    def done(self) -> int:
        """How many effects were performed."""
        return len(self.ledger.read_text(encoding="utf-8").splitlines())


@pytest.fixture
async def callers(place: Place, server: MessagesServer, tmp_path: Path) -> Callers:
    async with place.engine() as engine:
        await engine.observe("acl:deploy", {"allow": ["team"]})
    return Callers(place, server, tmp_path / "ledger")


def results_of(told: list[dict[str, Any]]) -> list[Any]:
    return [result for it in told for result in it.get("results", [])]


def check_effects(told: list[dict[str, Any]], runs: int) -> None:
    """Each run did its own writes, once each."""
    results = results_of(told)
    assert len(results) == runs
    assert {result[1] for result in results} == {"deployed"}
    assert all(len(result[4]) == 1 for result in results)
    assert len({result[4][0] for result in results}) == runs


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  (as anybody would see it)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("choice", "asked"), [("on", 3), ("off", 3 * 13 * PROCESSES)])
async def test_of_fifty_callers_in_four_processes_one_asks(
    callers: Callers, choice: str, asked: int
) -> None:
    told = await callers.told(single_flight=choice == "on")
    results = results_of(told)
    waited = sorted(result[2] for result in results)
    took = sorted(result[3] for result in results)
    _log.info(
        "%s: %d callers, %d requests, waited p50 %.0f max %.0f ms, took p50 %.0f max %.0f ms",
        *(choice, len(results), callers.server.requests),
        *(waited[len(waited) // 2], waited[-1], took[len(took) // 2], took[-1]),
    )
    assert [it["errors"] for it in told] == [[]] * PROCESSES
    check_effects(told, 13 * PROCESSES)
    assert (callers.server.requests, callers.done) == (asked, 13 * PROCESSES)


@pytest.mark.parametrize(("how", "performed"), [("once", 1), ("rerun", 13 * PROCESSES)])
async def test_each_effect_is_performed_as_often_as_it_says(
    callers: Callers, how: str, performed: int
) -> None:
    declared: dict[str, Any] = {"effect": "once"} if how == "once" else {"on_change": "rerun"}
    told = await callers.told(**declared)
    results = results_of(told)
    assert [it["errors"] for it in told] == [[]] * PROCESSES
    assert {result[1] for result in results} == {"deployed"}
    assert len({effect for result in results for effect in result[4]}) == performed
    assert (callers.server.requests, callers.done) == (3, performed)


@pytest.mark.parametrize("seen", ["seen", "unseen"])
async def test_a_leader_that_is_killed_is_replaced_by_one(callers: Callers, seen: str) -> None:
    """Also where nobody sees that its process has ended: then when its lease has run out."""
    callers.server.latency = LONG
    how: dict[str, Any] = {"lease": LEASE, "blind": seen == "unseen"}
    leader = await callers.started(1, **how)
    try:
        await until(lambda: callers.server.requests == 1)
        waiters = asyncio.ensure_future(callers.told(3, 5, **how))
        await asyncio.sleep(LONG / 2)
    finally:
        leader.kill()
    callers.server.latency = 0.1
    told = await waiters
    check_effects(told, 15)
    assert callers.done == 15
    assert callers.server.requests == 1 + 3, "what the dead one had asked, and one run"


async def test_a_leader_that_stands_still_is_replaced_and_ends_well_later(callers: Callers) -> None:
    leader = await callers.started(1, lease=LEASE, pause=0.5)
    try:
        await until(lambda: callers.server.requests == 1)
        os.kill(leader.pid, signal.SIGSTOP)
        told = await callers.told(3, 5, lease=LEASE)
        check_effects(told, 15)
        os.kill(leader.pid, signal.SIGCONT)
        late = await leader.told()
    finally:
        leader.kill()
    check_effects([late], 1)
    assert callers.done == 16
    assert callers.server.requests <= 3 + 3


async def test_a_leader_that_fails_lets_all_processes_go(callers: Callers) -> None:
    callers.server.fail(400)
    told = await callers.told(callers=3)
    assert sum(len(it["errors"]) for it in told) == 1
    check_effects(told, 3 * PROCESSES - 1)
    assert callers.done == 3 * PROCESSES - 1


async def test_leases_that_are_lost_all_the_time_only_cost_requests(callers: Callers) -> None:
    callers.server.latency = 0.02
    tasks, many = ["a", "b", "a", "c"], 6
    how: dict[str, Any] = {"lease": 0.02, "pause": 0.05, "single_flight": 0.2, "seed": SEED}
    told = await callers.told(callers=many, tasks=tasks, **how)
    assert [it["errors"] for it in told] == [[]] * PROCESSES
    check_effects(told, len(tasks) * many * PROCESSES)
    assert callers.done == len(tasks) * many * PROCESSES
    assert callers.server.requests <= 3 * len(set(tasks)) * many * PROCESSES, "no more than without"
