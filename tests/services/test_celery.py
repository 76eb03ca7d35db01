"""The Celery worker of docs/services.md: a real worker that forks, both stores."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from execgraph.adapters.messages_api import Answer

from .conftest import ON_CALL, Service, Started, command, deploys, on_sqlite

CHECKOUT = {"service": "checkout", "version": "2.4"}
PAYMENTS = {"service": "payments", "version": "1.9"}


class Tasks:
    """A program that sends tasks, and waits for what they give."""

    def __init__(self, service: Service) -> None:
        self.service = service
        settings = runpy.run_path(str(service.folder / "celeryconfig.py"))
        self.app = Celery("sender", set_as_current=False)
        self.app.conf.update({key: settings[key] for key in settings if key.startswith("b")})
        self.app.conf.result_backend = settings["result_backend"]

    def deploy(self, *calls: dict[str, str], within: float = 30) -> list[dict[str, Any]]:
        """What these calls of the task give; all are sent before any is waited for."""
        sent = self.send(*calls)
        return [result.get(timeout=within, interval=0.02) for result in sent]

    def send(self, *calls: dict[str, str]) -> list[Any]:
        """What the results of these calls will be."""
        return [self.app.send_task("deploy", kwargs=kwargs) for kwargs in calls]

    def work(self, *options: str) -> Worker:
        """Start a worker with two children."""
        started = self.service.start([*command("celery"), "--concurrency", "2", *options])
        started.says(r"celery@\S+ ready")
        return Worker(started)


class Worker:
    def __init__(self, started: Started) -> None:
        self.started = started

    @property
    def children(self) -> set[str]:
        """Those that have run an agent, as their log lines say."""
        return set(re.findall(r"ForkPoolWorker-(\d+)\] deployer", self.started.said))


@pytest.fixture
def tasks(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tasks]:
    monkeypatch.chdir(service.folder)
    # Celery warns of root, who runs tests in containers.
    service.extra["PYTHONWARNINGS"] = "error,ignore:You're running the worker"
    made = Tasks(service)
    yield made
    made.app.close()


def test_what_one_child_records_every_other_one_replays(service: Service, tasks: Tasks) -> None:
    worker = tasks.work()
    [first], asked, deployed = service.counted(lambda: tasks.deploy(CHECKOUT))
    assert (first["mode"], asked, deployed) == ("live", 2, 1)
    assert first["tokens"] > 0

    def again() -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        while len(worker.children) < 2 and len(answers) < 80:
            answers += tasks.deploy(*[CHECKOUT] * 8)
        return answers

    answers, asked, deployed = service.counted(again)
    assert len(worker.children) == 2, "both children have served"
    assert asked == 0
    assert deployed == len(answers)
    assert {(it["mode"], it["tokens"], it["output"]) for it in answers} == {
        ("replay", 0, first["output"])
    }
    assert worker.started.stop() == 0
    assert "Traceback" not in worker.started.said
    assert asyncio.run(hits(service)) == len(answers), "what waited to be written was"


def test_a_changed_file_makes_the_next_task_ask(service: Service, tasks: Tasks) -> None:
    tasks.work()
    tasks.deploy(CHECKOUT)
    service.rule_in_force(ON_CALL)
    [changed], asked, _ = service.counted(lambda: tasks.deploy(CHECKOUT))
    assert (changed["mode"], asked) == ("partial", 1)
    answers, asked, _ = service.counted(lambda: tasks.deploy(*[CHECKOUT] * 4))
    assert ({it["mode"] for it in answers}, asked) == ({"replay"}, 0)


def test_a_child_that_is_killed_loses_no_recording(service: Service, tasks: Tasks) -> None:
    worker = tasks.work()
    [first] = tasks.deploy(CHECKOUT)
    [recorder] = worker.children
    pids = sorted(children_of(worker.started.process.pid))
    os.kill(pids[int(recorder) - 1], signal.SIGKILL)
    worker.started.says(rf"ForkPoolWorker-{recorder}' pid:\d+ exited with 'signal 9")
    [again], asked, _ = service.counted(lambda: tasks.deploy(CHECKOUT))
    assert (again["mode"], again["output"], asked) == ("replay", first["output"], 0)
    assert len(worker.children) == 2


@on_sqlite
def test_children_are_replaced_after_each_task(service: Service, tasks: Tasks) -> None:
    worker = tasks.work("--max-tasks-per-child", "1")
    tasks.deploy(CHECKOUT)
    answers, asked, _ = service.counted(lambda: tasks.deploy(*[CHECKOUT] * 5))
    assert ({it["mode"] for it in answers}, asked) == ({"replay"}, 0)
    assert len(worker.children) == 6
    worker.started.says("deployer .* replay", times=5)
    until_equal(lambda: asyncio.run(hits(service)), 5)


@on_sqlite
def test_what_is_safe_to_try_again_is_tried_again(service: Service, tasks: Tasks) -> None:
    worker = tasks.work()
    service.model.fail(529, times=3)
    [answer], asked, deployed = service.counted(lambda: tasks.deploy(CHECKOUT))
    assert (answer["mode"], asked, deployed) == ("live", 3 + 2, 1)
    assert "Retry in 2s: RunFailed(" in worker.started.said


@on_sqlite
def test_what_may_have_been_done_is_not_tried_again(service: Service, tasks: Tasks) -> None:
    tasks.work()

    def gives_up(body: dict[str, Any]) -> Answer:
        if len(body["messages"]) > 1:
            raise ValueError("no answer")
        return deploys(body)

    service.model.brain = gives_up
    [sent] = tasks.send(CHECKOUT)
    with pytest.raises(Exception, match="effects done: 1") as failure:
        sent.get(timeout=30, interval=0.02)
    assert "RunFailed" in repr(failure.value)
    assert len(service.platform.keys) == 1
    assert service.model.requests == 2


@on_sqlite
@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_pools_that_do_not_fork_are_served_too(service: Service, tasks: Tasks, pool: str) -> None:
    worker = tasks.work("--pool", pool)
    tasks.deploy(CHECKOUT)
    answers, asked, _ = service.counted(lambda: tasks.deploy(*[CHECKOUT] * 4))
    assert ({it["mode"] for it in answers}, asked) == ({"replay"}, 0)
    assert worker.started.stop() == 0
    assert asyncio.run(hits(service)) == 4, "what waited to be written was"


@on_sqlite
def test_a_store_that_is_away_is_waited_for(service: Service, tasks: Tasks) -> None:
    away = service.folder / "store"
    away.write_text("a file where the folder should be")
    service.url = f"sqlite:///{away}/graph.db"
    worker = tasks.work()
    [sent] = tasks.send(CHECKOUT)
    worker.started.says("Retry in 2s: Store")
    assert (service.model.requests, service.platform.keys) == (0, [])
    away.unlink()
    assert sent.get(timeout=30, interval=0.02)["mode"] == "live"


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = [line.split() for line in listed.stdout.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


def until_equal(count: Callable[[], int], expected: int) -> None:
    """Wait until ``count`` gives so many."""
    until = time.monotonic() + 15
    while (found := count()) != expected:
        assert time.monotonic() < until, f"{found} instead of {expected}"
        time.sleep(0.1)


async def hits(service: Service) -> int:
    async with service.engine() as engine:
        return (await engine.stats()).hits
