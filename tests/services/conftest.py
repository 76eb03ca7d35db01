"""A small service, written from docs/services.md, with all it talks to: a model, a platform, both
stores. Each test has a folder and a namespace to itself, and no process outlives it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import execgraph
from execgraph import Engine
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text

ROOT = Path(execgraph.__file__).resolve().parent
PAGE = (ROOT / "docs" / "services.md").read_text(encoding="utf-8")

FILES: dict[str, str] = dict(
    re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
]

ON_CALL = "allow: [on-call]\n"


def command(program: str) -> list[str]:
    """The one command line of the page that starts ``program``."""
    [found] = [words for words in COMMANDS if words[0] == program]
    return found


def deploys(body: dict[str, Any]) -> Answer:
    """The model: uses the tool once, then reports."""
    if len(body["messages"]) > 1:
        return Answer([text("It is deployed.")])
    task = str(body["messages"][0]["content"])
    service = "checkout" if "checkout" in task else "payments"
    version = re.search(r"\d+\.\d+", task)
    return Answer(
        [call("deploy", {"service": service, "version": version[0] if version else "nightly"})]
    )


class Platform(ThreadingHTTPServer):
    """What the tool deploys to. ``keys``: the idempotency key of each deployment, in order."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.answer = "running"
        super().__init__(("127.0.0.1", 0), _Deployments)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Deployments(BaseHTTPRequestHandler):
    server: Platform

    def do_PUT(self) -> None:
        self.server.keys.append(self.headers["Idempotency-Key"])
        answer = self.server.answer.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Started:
    """A program that runs, and what it has said so far."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def says(self, pattern: str, *, times: int = 1, within: float = 30) -> list[str]:
        """Wait until it has said this so often. Gives what the pattern found."""
        until = time.monotonic() + within
        while len(found := re.findall(pattern, self.said)) < times:
            assert self.process.poll() is None, f"it ended: {self.said}"
            assert time.monotonic() < until, f"no {pattern!r} within {within} s: {self.said}"
            time.sleep(0.02)
        return found

    def stop(self, *, within: float = 20) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)

    def kill(self) -> None:
        """It, and all that it started: it leads a process group of its own."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait(10)


@dataclass
class Service:
    """The files of the page in a folder, and the world around them."""

    folder: Path
    url: str
    namespace: str
    model: MessagesServer
    platform: Platform
    stack: ExitStack
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "EXECGRAPH_STORE": self.url,
            "DEPLOYS_NAMESPACE": self.namespace,
            "ANTHROPIC_BASE_URL": self.model.url,
            "ANTHROPIC_API_KEY": "test-key",
            "PLATFORM_URL": self.platform.url,
            "NO_PROXY": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
            **self.extra,
        }

    def start(self, program: list[str]) -> Started:
        """Start a Python program: what ``python -m`` takes."""
        log = self.folder / f"{program[0]}-{uuid.uuid4().hex[:6]}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", *program],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = Started(process, log)
        self.stack.callback(started.kill)
        return started

    def run(self, *program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``execgraph`` or a Python module to its end."""
        start = (sys.executable, "-m") if program[0] != "execgraph" else ()
        words = [*start, *program]
        if not start:
            words[0] = str(Path(sys.executable).with_name("execgraph"))
        return subprocess.run(
            words,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def engine(self) -> Engine:
        """Another program's engine on the same store."""
        return Engine(self.url, namespace=self.namespace)

    def rule(self, content: str) -> None:
        """Write the access rule as an editor does: beside it, then renamed over it."""
        target = self.folder / "config" / "acl" / "deploy.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_suffix(".tmp")
        beside.write_text(content)
        beside.rename(target)

    def rule_in_force(self, content: str) -> None:
        """Write the access rule, and wait until somebody who watches it has told the store."""

        async def write_and_wait() -> None:
            async with self.engine() as engine, asyncio.timeout(20):
                known = await engine.session().store.read_facts({})
                self.rule(content)
                since = datetime.fromtimestamp(known.now / 1000, UTC)
                async for event in engine.changes(since=since, resource="acl:deploy"):
                    if event.kind == "changed":
                        return

        asyncio.run(write_and_wait())

    def counted(self, work: Callable[[], Any]) -> tuple[Any, int, int]:
        """What ``work`` gives, how often the model was asked, and how often was deployed."""
        asked, deployed = self.model.requests, len(self.platform.keys)
        outcome = work()
        return outcome, self.model.requests - asked, len(self.platform.keys) - deployed


#: For what is the same whatever the store.
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture
def service(url: str, tmp_path: Path) -> Iterator[Service]:
    folder = tmp_path / "service"
    folder.mkdir()
    for name, code in FILES.items():
        (folder / name).write_text(code)
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        platform = stack.enter_context(Platform())
        serving = threading.Thread(target=platform.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        stack.callback(serving.join)
        stack.callback(platform.shutdown)
        model = stack.enter_context(MessagesServer(deploys))
        made = Service(folder, url, namespace, model, platform, stack)
        made.rule("allow: [release-bot]\n")
        yield made
