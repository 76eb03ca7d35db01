"""The FastAPI service of docs/services.md: real workers, real HTTP, both stores."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from .conftest import ON_CALL, Service, Started, command, on_sqlite

CHECKOUT = {"service": "checkout", "version": "2.4"}
PAYMENTS = {"service": "payments", "version": "1.9"}

_open = build_opener(ProxyHandler({})).open


class Refused(Exception):
    """Another answer than 200, with its body."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body
        super().__init__(status, body)


class Api:
    """The service over HTTP, each request on a connection of its own."""

    def __init__(self, started: Started) -> None:
        self.started = started
        [address] = started.says(r"running on (http://127\.0\.0\.1:\d+)")
        self.url = address

    def deploy(self, task: dict[str, str]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self.url}/deployments", json.dumps(task).encode(), headers)
        try:
            with _open(request, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
        except HTTPError as error:
            with error:
                raise Refused(error.code, error.read()) from None
        return found

    @property
    def workers(self) -> set[str]:
        """The processes that have run an agent, as their log lines say."""
        return set(re.findall(r"(?m)^\S+ \S+ (\d+) deploys deployer", self.started.said))


def start(service: Service, *options: str) -> Api:
    started = service.start([*command("uvicorn"), "--port", "0", "--workers", "2", *options])
    started.says("Application startup complete", times=2)
    return Api(started)


def test_what_one_worker_records_every_other_one_replays(service: Service) -> None:
    api = start(service)
    first, asked, deployed = service.counted(lambda: api.deploy(CHECKOUT))
    assert (first["mode"], asked, deployed) == ("live", 2, 1)
    assert first["tokens"] > 0

    def again() -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        with ThreadPoolExecutor(8) as pool:
            while len(api.workers) < 2 and len(answers) < 400:
                answers += pool.map(api.deploy, [CHECKOUT] * 8)
        return answers

    answers, asked, deployed = service.counted(again)
    assert len(api.workers) == 2, "both workers have served"
    assert asked == 0
    assert deployed == len(answers)
    assert {(it["mode"], it["tokens"], it["output"]) for it in answers} == {
        ("replay", 0, first["output"])
    }
    assert len({it["execution_id"] for it in answers}) == len(answers)
    assert len(set(service.platform.keys)) == len(service.platform.keys), "each has its own key"

    assert api.started.stop() == 0
    assert "Traceback" not in api.started.said
    assert asyncio.run(hits(service)) == len(answers), "what waited to be written was"


def test_a_changed_file_makes_the_next_request_ask(service: Service) -> None:
    api = start(service)
    api.deploy(CHECKOUT)
    api.deploy(PAYMENTS)
    service.rule_in_force(ON_CALL)
    changed, asked, _ = service.counted(lambda: api.deploy(CHECKOUT))
    assert (changed["mode"], asked) == ("partial", 1)
    assert "precondition changed: acl:deploy" in api.started.said
    again, asked, _ = service.counted(lambda: api.deploy(CHECKOUT))
    assert (again["mode"], asked) == ("replay", 0)
    service.rule_in_force("allow: [release-bot]\n")
    back, asked, _ = service.counted(lambda: api.deploy(PAYMENTS))
    assert (back["mode"], asked) == ("replay", 0), "it is again as it was recorded"


@on_sqlite
def test_a_failed_run_says_whether_it_may_be_tried_again(service: Service) -> None:
    api = start(service)
    service.model.fail(400, message="no")
    with pytest.raises(Refused) as failure:
        api.deploy(CHECKOUT)
    assert failure.value.status == 502
    told = json.loads(failure.value.body)
    assert told["safe_to_retry"] is True
    assert told["execution_id"]
    assert api.deploy(CHECKOUT)["mode"] == "live"


def test_requests_that_outlast_the_shutdown_are_kept_as_failed(service: Service) -> None:
    api = start(service, "--timeout-graceful-shutdown", "1")
    service.model.latency = 60
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.deploy, CHECKOUT)
        while service.model.requests == 0:
            assert not waiting.done()
        assert api.started.stop() == 0
        assert isinstance(waiting.exception(20), Refused | OSError)
    service.model.latency = 0
    [kept] = asyncio.run(executions(service))
    assert (kept.state, kept.reason) == ("failed", "cancelled")


@on_sqlite
def test_a_worker_that_is_killed_is_replaced_and_loses_no_recording(service: Service) -> None:
    api = start(service)
    api.deploy(CHECKOUT)
    [recorder] = api.workers
    os.kill(int(recorder), signal.SIGKILL)
    api.started.says("Application startup complete", times=3)
    again, asked, _ = service.counted(lambda: api.deploy(CHECKOUT))
    assert (again["mode"], asked) == ("replay", 0)


async def hits(service: Service) -> int:
    async with service.engine() as engine:
        return (await engine.stats()).hits


async def executions(service: Service) -> list[Any]:
    async with service.engine() as engine:
        return list(await engine.session().store.executions())
