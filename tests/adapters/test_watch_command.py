"""`execgraph watch` and `execgraph changes`, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execgraph import Engine
from execgraph.tests.forks import COMMAND, Fork

PATIENCE = 60.0


class Process:
    """A command that is running, and the lines it has printed."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        told = {**os.environ, **environment}
        self.popen = Fork(COMMAND, *arguments, cwd=folder, env=told)
        self.logged: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._log: queue.Queue[str] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.popen.stdout, self._lines)),
            threading.Thread(target=self._read, args=(self.popen.stderr, self._log)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, into: queue.Queue[str]) -> None:
        for line in stream:
            into.put(line.rstrip("\n"))

    def line(self) -> str:
        """The next line on standard output."""
        try:
            return self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"printed nothing; logged {self.logs()}") from None

    def log(self, wanted: str) -> str:
        """Wait for a line on standard error that holds ``wanted``."""
        ended = time.monotonic() + PATIENCE
        while time.monotonic() < ended:
            try:
                line = self._log.get(timeout=1)
            except queue.Empty:
                if self.popen.poll() is not None:
                    break
                continue
            self.logged.append(line)
            if wanted in line:
                return line
        raise AssertionError(f"{wanted!r} was not logged, but {self.logged}")

    def logs(self) -> list[str]:
        """What was printed on standard error so far; all of it, once the process has ended."""
        if self.popen.poll() is not None:
            self._readers[1].join(PATIENCE)
        while not self._log.empty():
            self.logged.append(self._log.get())
        return self.logged

    def lines(self) -> list[str]:
        """The rest of standard output, once it has ended."""
        self.popen.wait(PATIENCE)
        self._readers[0].join()
        return list(self._lines.queue)

    def ends_with(self, code: int, *, after: signal.Signals | None = None) -> None:
        if after is not None:
            self.popen.send_signal(after)
        assert self.popen.wait(PATIENCE) == code, self.logs()

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for reader in self._readers:
            reader.join()
        self.popen.close()


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts commands in the test's folder, and ends those that are still running."""
    started: list[Process] = []

    def begin(*arguments: str, **environment: str) -> Process:
        started.append(Process(tmp_path, *arguments, **environment))
        return started[-1]

    yield begin
    for process in started:
        process.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/graph.db"


@pytest.fixture
def space() -> str:
    return f"test-{uuid.uuid4().hex}"


def configure(folder: Path, url: str, space: str, more: str = "interval = '1s'") -> None:
    (folder / "execgraph.toml").write_text(
        f"""
        store = "${{THE_STORE}}"
        namespace = "{space}"
        [[source]]
        glob = "acl/*.yaml"
        resource = "acl:{{path.stem}}"
        {more}
        """,
        encoding="utf-8",
    )
    os.environ["THE_STORE"] = url


def put(folder: Path, name: str, text: str) -> None:
    path = folder / "acl" / name
    path.parent.mkdir(exist_ok=True)
    scratch = path.with_name(f".{name}.tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_STORE", "")  # so that it is unset again
    monkeypatch.setenv("COLUMNS", "200")


# watch --------------------------------------------------------------------------------------


def test_a_change_is_a_line_and_sigterm_ends_it_cleanly(
    tmp_path: Path, start: Start, url: str, space: str
) -> None:
    configure(tmp_path, url, space)
    put(tmp_path, "deploy.yaml", "who: [ada]")
    watch = start("watch")
    assert "acl:deploy changed 0 -> 1" in watch.line()
    watch.log("leading: watching files acl/*.yaml")
    put(tmp_path, "deploy.yaml", "who: [bob]")
    assert "acl:deploy changed 1 -> 2" in watch.line()
    put(tmp_path, "deploy.yaml", "who: [")
    assert "acl:deploy withdrawn 2 -> 3" in watch.line()
    watch.log("acl/deploy.yaml is not YAML")
    put(tmp_path, "deploy.yaml", "who: [bob]")
    assert "acl:deploy changed 3 -> 4" in watch.line()
    (tmp_path / "acl/deploy.yaml").unlink()
    assert "acl:deploy withdrawn 4 -> 5" in watch.line()
    watch.ends_with(0, after=signal.SIGTERM)
    assert watch.lines() == []
    watch.log("INFO stopped")
    assert "Traceback" not in "\n".join(watch.logs())


def test_json_lines(tmp_path: Path, start: Start, sqlite_url: str, space: str) -> None:
    configure(tmp_path, sqlite_url, space)
    put(tmp_path, "deploy.yaml", "who: [ada]")
    watch = start("watch", "--json")
    event = json.loads(watch.line())
    assert event["resource"] == "acl:deploy"
    assert (event["kind"], event["from_version"], event["to_version"]) == ("changed", 0, 1)
    watch.ends_with(130, after=signal.SIGINT)


async def test_what_rests_on_a_change_is_named(
    tmp_path: Path, start: Start, sqlite_url: str, space: str
) -> None:
    configure(tmp_path, sqlite_url, space)
    put(tmp_path, "deploy.yaml", "who: [ada]\nwhy: x")
    watch = start("watch", "--json")
    json.loads(watch.line())
    async with Engine(sqlite_url, namespace=space) as engine:
        store = engine.session().store
        await store.facts({"acl:deploy": frozenset({"$.who"})})
        put(tmp_path, "deploy.yaml", "who: [bob]\nwhy: x")
        event = json.loads(await asyncio.to_thread(watch.line))
        [changed] = event["changed"]
        assert changed["selector"] == "$.who"
        assert changed["before"] != changed["after"]
        async with asyncio.timeout(PATIENCE):
            while await store.walks():  # noqa: ASYNC110 - another process does them
                await asyncio.sleep(0.1)


def test_another_instance_takes_over_from_a_dead_leader(
    tmp_path: Path, start: Start, url: str, space: str
) -> None:
    configure(tmp_path, url, space)
    put(tmp_path, "deploy.yaml", "who: [ada]")
    first = start("watch", EXECGRAPH_WATCH_LEASE="2")
    assert "acl:deploy changed 0 -> 1" in first.line()
    second = start("watch", EXECGRAPH_WATCH_LEASE="2")
    second.log("another instance leads")
    put(tmp_path, "deploy.yaml", "who: [bob]")
    assert "acl:deploy changed 1 -> 2" in first.line()
    first.popen.kill()
    first.popen.wait()
    put(tmp_path, "deploy.yaml", "who: [eve]")
    second.log("leading")
    assert "acl:deploy changed 2 -> 3" in second.line()
    second.ends_with(0, after=signal.SIGTERM)
    assert second.lines() == []


def test_a_leader_that_is_stopped_hands_over_at_once(
    tmp_path: Path, start: Start, sqlite_url: str, space: str
) -> None:
    configure(tmp_path, sqlite_url, space)
    put(tmp_path, "deploy.yaml", "who: [ada]")
    first = start("watch", EXECGRAPH_WATCH_LEASE="12")
    first.line()
    second = start("watch", EXECGRAPH_WATCH_LEASE="12")
    second.log("another instance leads")
    began = time.monotonic()
    first.ends_with(0, after=signal.SIGTERM)
    second.log("leading")
    assert time.monotonic() - began < 7.5  # a lease that is not given up ends after 8 at least


def ask(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def until(url: str, wanted: Callable[[int, dict[str, Any]], bool]) -> dict[str, Any]:
    ended = time.monotonic() + PATIENCE
    while not wanted(*(answer := ask(url))):
        assert time.monotonic() < ended, answer
        time.sleep(0.1)
    return answer[1]


def health_of(process: Process) -> str:
    return process.log("health at ").rpartition(" ")[2]


def test_health(tmp_path: Path, start: Start, sqlite_url: str, space: str) -> None:
    configure(tmp_path, sqlite_url, space, "interval = '500ms'\nmax_age = '2s'")
    put(tmp_path, "deploy.yaml", "who: [ada]")
    put(tmp_path, "broken.yaml", "who: [")
    leader = start("watch", "--health", "0")
    leading = health_of(leader)
    assert leading.startswith("http://127.0.0.1:")
    said = until(leading, lambda code, it: code == 200 and it["last_scan"] is not None)
    assert said["leader"] is True
    assert said["since"] <= said["last_scan"]
    assert said["resources"] == 2
    assert [*said["unreadable"]] == ["acl:broken"]
    assert "not YAML" in said["unreadable"]["acl:broken"]
    assert said["store"] == "reachable"
    until(leading, lambda _, it: it["pending_walks"] == 0)

    standing_by = start("watch", "--health", "127.0.0.1:0")
    other = health_of(standing_by)
    standing_by.log("another instance leads")
    code, said = ask(other)
    assert (code, said["leader"], said["since"], said["last_scan"]) == (200, False, None, None)

    # A directory that cannot be listed: nothing is withdrawn, and the facts grow old.
    (tmp_path / "acl").rename(tmp_path / "away")
    (tmp_path / "acl").symlink_to("acl")
    leader.log("cannot be listed")
    until(leading, lambda code, _: code == 503)
    (tmp_path / "acl").unlink()
    (tmp_path / "away").rename(tmp_path / "acl")
    until(leading, lambda code, _: code == 200)
    leader.ends_with(0, after=signal.SIGTERM)


def test_health_on_a_port_that_is_taken(
    tmp_path: Path, start: Start, sqlite_url: str, space: str
) -> None:
    configure(tmp_path, sqlite_url, space)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        watch = start("watch", "--health", str(taken.getsockname()[1]))
        watch.ends_with(2)
    assert "name another port" in "".join(watch.logs())


class Line:
    """A wire to Neo4j that can be cut."""

    def __init__(self, uri: str) -> None:
        host, _, port = uri.rpartition("/")[2].rpartition(":")
        self._to = (host or "127.0.0.1", int(port))
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    async def connect(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, here = await asyncio.open_connection(*self._to)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, here}
        await asyncio.gather(self._copy(reader, here), self._copy(there, writer))
        self._writers -= {writer, here}

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()


@pytest.mark.neo4j
async def test_a_store_that_is_away_is_waited_for(
    tmp_path: Path, start: Start, neo4j_uri: str, space: str
) -> None:
    if "@" in neo4j_uri:
        pytest.skip("the line carries no credentials")
    line = Line(neo4j_uri)
    configure(tmp_path, f"bolt://127.0.0.1:{line.port}", space)
    put(tmp_path, "deploy.yaml", "who: [ada]")
    watch = start("watch", "--health", "0")
    health = await asyncio.to_thread(health_of, watch)
    assert (await asyncio.to_thread(ask, health))[0] == 503
    await asyncio.to_thread(watch.log, "the store is away")
    await line.connect()
    assert "acl:deploy changed 0 -> 1" in await asyncio.to_thread(watch.line)
    await asyncio.to_thread(until, health, lambda code, _: code == 200)
    await line.cut()
    await asyncio.to_thread(until, health, lambda code, _: code == 503)
    put(tmp_path, "deploy.yaml", "who: [bob]")
    await line.connect()
    assert "acl:deploy changed 1 -> 2" in await asyncio.to_thread(watch.line)
    watch.popen.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(watch.popen.wait, PATIENCE) == 0
    assert "Traceback" not in "\n".join(watch.logs())
    await line.cut()


def test_once_prints_what_changed_and_ends(
    tmp_path: Path, start: Start, url: str, space: str
) -> None:
    configure(tmp_path, url, space)
    put(tmp_path, "deploy.yaml", "who: [ada]")
    first = start("watch", "--once", "--json")
    first.ends_with(0)
    assert [json.loads(line)["resource"] for line in first.lines()] == ["acl:deploy"]
    again = start("watch", "--once")
    again.ends_with(0)
    assert again.lines() == []
    put(tmp_path, "broken.yaml", "who: [")
    (tmp_path / "acl/deploy.yaml").unlink()
    third = start("watch", "--once")
    third.ends_with(1)
    [line] = third.lines()
    assert "acl:deploy withdrawn 1 -> 2" in line
    assert "acl:broken cannot be read" in "".join(third.logs())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[source]]\nglob = 'x'\nresource = 'acl:x'\nintervall = 3", "did you mean 'interval'?"),
        ("[[source", "is not TOML"),
        ("", "no source is named"),
        ("store = '${NO_SUCH_VARIABLE}'\n[[source]]\nglob = 'x'\nresource = 'acl:x'", "NO_SUCH"),
        ("store = 'mysql://x'\n[[source]]\nglob = 'x'\nresource = 'acl:x'", "no store answers"),
        (None, "there is no"),
    ],
)
def test_a_wrong_file_is_exit_code_2(
    tmp_path: Path, start: Start, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "execgraph.toml").write_text(text, encoding="utf-8")
    for arguments in ([], ["--once"]):
        watch = start("watch", *arguments)
        watch.ends_with(2)
        assert said in "".join(watch.logs())
        assert "Traceback" not in "".join(watch.logs())


@pytest.mark.parametrize("address", ["x", "8080x", ":80", "1:2:x", "70000", "host:"])
def test_a_wrong_address_of_health_is_exit_code_2(
    tmp_path: Path, start: Start, sqlite_url: str, space: str, address: str
) -> None:
    configure(tmp_path, sqlite_url, space)
    watch = start("watch", "--health", address)
    watch.ends_with(2)
    assert "--health" in "".join(watch.logs())


def test_what_looks_once_answers_nobody_about_its_health(
    tmp_path: Path, start: Start, sqlite_url: str, space: str
) -> None:
    configure(tmp_path, sqlite_url, space)
    watch = start("watch", "--once", "--health", "0")
    watch.ends_with(2)
    assert "--once ends before" in " ".join("".join(watch.logs()).split())


def test_a_store_that_is_not_there_is_made(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "deploy.yaml", "who: [ada]")
    path = tmp_path / "execgraph.toml"
    path.write_text("[[source]]\nglob = 'acl/*'\nresource = 'acl:{path}'", encoding="utf-8")
    start("watch", "--once", EXECGRAPH_STORE="").ends_with(0)
    changes = start("changes", EXECGRAPH_STORE="")
    assert "acl:deploy" in changes.lines()[1]
    assert (tmp_path / ".execgraph/graph.db").exists()


def test_without_a_store_there_is_nobody_to_tell(
    tmp_path: Path, start: Start, sqlite_url: str, space: str
) -> None:
    configure(tmp_path, sqlite_url, space)
    watch = start("watch", EXECGRAPH_MODE="off")
    watch.ends_with(2)
    assert "EXECGRAPH_MODE=off" in "".join(watch.logs())


@pytest.mark.parametrize("command", ["watch", "changes"])
def test_help_shows_an_example_and_loads_nothing_slow(command: str) -> None:
    code = f"""
import sys
from execgraph.adapters.cli import main
sys.argv = ["execgraph", {command!r}, "--help"]
try:
    main()
except SystemExit:
    slow = ("neo4j", "rich", "re2", "starlette", "uvicorn", "watchdog", "yaml")
    print(*[name for name in slow if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"Example: execgraph {command}" in run.stdout
    assert run.stdout.splitlines()[-1] == ""


# changes ------------------------------------------------------------------------------------


async def observe(url: str, space: str, **documents: Any) -> None:
    async with Engine(url, namespace=space) as engine:
        for name, document in documents.items():
            await engine.observe(f"acl:{name}", document)


async def test_changes_are_told_newest_last(
    tmp_path: Path, start: Start, url: str, space: str
) -> None:
    await observe(url, space, a=1, b=1)
    await observe(url, space, a=2)
    options = ["--store", url, "--namespace", space]

    async def told(*more: str) -> list[str]:
        process = start("changes", *options, *more)
        return await asyncio.to_thread(process.lines)

    def rows(lines: list[str]) -> list[tuple[str, int]]:
        return [(row["resource"], row["to_version"]) for row in json.loads("\n".join(lines))]

    assert rows(await told("--json")) == [("acl:a", 1), ("acl:b", 1), ("acl:a", 2)]
    assert rows(await told("--json", "--limit", "1")) == [("acl:a", 2)]
    assert rows(await told("--json", "--resource", "acl:b")) == [("acl:b", 1)]
    assert rows(await told("--json", "--since", "1h")) == [("acl:a", 1), ("acl:b", 1), ("acl:a", 2)]
    assert rows(await told("--json", "--since", "0")) == []
    table = await told()
    assert table[0].split() == ["when", "resource", "what", "version", "facets", "source"]
    assert table[-1].split()[2:7] == ["acl:a", "changed", "1", "->", "2"]


async def test_changes_are_followed(tmp_path: Path, start: Start, url: str, space: str) -> None:
    await observe(url, space, a=1)
    options = ["--store", url, "--namespace", space, "--follow"]
    lines = start("changes", *options, "--since", "1h")
    assert "acl:a changed 0 -> 1" in await asyncio.to_thread(lines.line)
    limited = start("changes", *options, "--json", "--since", "1h", "--limit", "2")
    assert json.loads(await asyncio.to_thread(limited.line))["to_version"] == 1
    await observe(url, space, a=2)
    assert "acl:a changed 1 -> 2" in await asyncio.to_thread(lines.line)
    assert json.loads(await asyncio.to_thread(limited.line))["to_version"] == 2
    assert await asyncio.to_thread(limited.popen.wait, PATIENCE) == 0
    lines.popen.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(lines.popen.wait, PATIENCE) == 130
    assert lines.logs() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--since", "soon"], "--since"), (["--since", "-1"], "--since"), (["--limit", "0"], "limit")],
)
def test_wrong_use_of_changes_is_exit_code_2(
    tmp_path: Path, start: Start, arguments: list[str], said: str
) -> None:
    process = start("changes", *arguments)
    process.ends_with(2)
    assert said in "".join(process.logs())
