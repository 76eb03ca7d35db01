"""``execgraph runs``, ``show`` and ``diff``, as processes, on a graph in a real store."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from typer.testing import CliRunner

from execgraph import Acl, EffectInDoubt, Engine, RunFailed
from execgraph.adapters import cli
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.graphstore.connect import connect
from execgraph.graphstore.model import Mode, Replay
from execgraph.tests import forks
from execgraph.tests.conformance.samples import sample_recording, sample_replay
from execgraph.tests.stores import BOTH, store_url

HOSTILE = "\x1b[31m[red]<b>\u202e\r\x07"


def brain(body: dict[str, Any]) -> Answer:
    if len(body["messages"]) == 1:
        return Answer([text(HOSTILE), call("logs", {"service": HOSTILE, "token": "hunter2"})])
    return Answer([text(f"Done {HOSTILE}.")])


@dataclass
class Graph:
    """Where the graph is, and the runs in it: one recorded, one replayed, one that diverged."""

    url: str
    namespace: str
    ids: list[str] = field(default_factory=list)

    def run(
        self, *arguments: str, namespace: str | None = None, columns: int = 300
    ) -> subprocess.CompletedProcess[bytes]:
        where = ["--store", self.url, "--namespace", namespace or self.namespace]
        environment = {**os.environ, "COLUMNS": f"{columns}", "TERM": "dumb"}
        done = forks.run(forks.COMMAND, *arguments, *where, env=environment)
        said = (done.stdout.encode(), done.stderr.encode())
        return subprocess.CompletedProcess(done.args, done.returncode, *said)

    def said(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.said(*arguments, "--json"))


@pytest.fixture(scope="module", params=BOTH)
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """One for all that only look at it."""
    return made(store_url(request, tmp_path_factory.mktemp("runs")))


def made(url: str) -> Graph:
    engine = Engine(url, namespace=f"test-{uuid.uuid4().hex[:12]}")
    graph = Graph(url, engine.namespace)
    given = ["x" * 5000]

    @engine.tool(effect="read", requires=[Acl("logs", "$.rule")])
    def logs(service: str, token: str) -> dict[str, Any]:
        """Read logs."""
        return {"text": given[0], "service": service, "password": token}

    with MessagesServer(brain) as server, engine.sync() as e:
        client = AsyncAnthropic(base_url=server.url, api_key="local")
        agent = e.agent(HOSTILE, model="m", client=client, tools=[logs])
        e.observe("acl:logs", {"rule": "allow"})
        e.observe(f"acl:{HOSTILE}", {"rule": HOSTILE})
        for number in range(3):
            if number == 2:
                given[0] = "y" * 5000
            result = agent.execute({"n": 1}, labels={"pr": HOSTILE} if number else {"pr": "5"})
            graph.ids.append(result.execution_id)
            time.sleep(0.005)  # of two in one millisecond nobody knows which was first
        e.settle()
    return graph


def harmless(shown: str) -> None:
    assert "hunter2" not in shown
    assert not [it for it in shown if not it.isprintable() and it != "\n"], shown


@pytest.mark.parametrize("command", ["runs", "why", "stats", "changes", "generalise", "doctor"])
def test_nothing_that_is_kept_commands_a_terminal(graph: Graph, command: str) -> None:
    harmless(graph.said(command))


def test_nor_does_why_it_is_not_served(url: str) -> None:
    graph = made(url)
    with Engine(graph.url, namespace=graph.namespace).sync() as e:
        e.reject(graph.ids[0], reason=f"wrong {HOSTILE}")
    for more in ([], ["--diff"]):
        said = graph.said("why", graph.ids[0], *more)
        assert "wrong" in said
        harmless(said)


def test_runs_are_listed_as_processes_see_them(graph: Graph) -> None:
    told = graph.json("runs")
    assert [it["execution"] for it in told["runs"]] == graph.ids[::-1]
    assert (told["older"], told["hint"]) == (None, None)
    assert [it["mode"] for it in told["runs"]] == ["partial", "replay", "live"]
    for wanted in (
        ["--label", "pr=5"],
        ["--mode", "live", "--since", "1h"],
        ["--agent", HOSTILE, "--task", told["runs"][0]["task"][:8], "--mode", "live"],
        ["--before", graph.ids[1]],
    ):
        found = graph.json("runs", *wanted)["runs"]
        assert [it["execution"] for it in found] == graph.ids[:1], wanted
    shown = graph.said("runs")
    harmless(shown)
    assert all(it in shown for it in graph.ids)
    assert "[red]<b>" in shown, "nothing is read as markup"


TWINS = ("01a20a8d820d0d6c63fc3e1378475d4d", "01a20a8d820d0e1a1f0c31e0c7d2a9b4")


@pytest.fixture
def twins(url: str) -> Graph:
    """Two runs that began in the same millisecond, today, and one of another year."""
    graph = Graph(url, f"test-{uuid.uuid4().hex[:12]}", list(TWINS))

    async def fill() -> None:
        store = connect(url, namespace=graph.namespace)
        await store.open()
        recording = sample_recording(turns=1)
        old = recording.execution.model_copy(update={"labels": {}})
        await store.write(recording.model_copy(update={"execution": old}))
        started = time.time_ns() // 1_000_000
        more = {"agent": "deployer of services", "started_at": started, "labels": {}}
        made = [sample_replay(recording, 10).execution.model_copy(update=more) for _ in TWINS]
        ids = [{"id": id_, "mode": Mode.PARTIAL} for id_ in TWINS]
        runs = [it.model_copy(update=id_) for it, id_ in zip(made, ids, strict=True)]
        await store.write_replays([Replay(execution=it) for it in runs])
        await store.close()

    asyncio.run(fill())
    return graph


def test_a_list_can_be_read_in_a_narrow_terminal(twins: Graph) -> None:
    lines = twins.run("runs", columns=80).stdout.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert [it for it in lines if it != it.rstrip()] == []
    head = ["started", "run", "agent", "mode", "state", "steps", "ms", "tokens", "saved"]
    assert lines[0].split() == head, "no run has a label"
    for id_ in TWINS:
        [line] = [it for it in lines if id_[:14] in it]
        assert re.match(r"\d\d-\d\d \d\d:\d\d +01a20a8d820d0[de] +deployer", line), line
        assert twins.json("show", id_[:14])["execution"] == id_
    assert any(it.startswith("2023-11-1") for it in lines), "of another year the date"


def test_no_id_is_broken_in_a_terminal_of_any_width(twins: Graph) -> None:
    for columns in (20, 60, 100, 120, 200):
        shown = twins.run("runs", columns=columns).stdout.decode()
        for id_ in TWINS:
            assert id_ in shown or f" {id_[:14]} " in shown, (columns, shown)
        assert ("task" in shown) == (columns >= 100)
        assert (TWINS[0] in shown) == (columns == 200)


def test_a_list_says_how_to_go_on(graph: Graph) -> None:
    first = graph.run("runs", "--limit", "2")
    assert f"--before {graph.ids[1]}" in first.stderr.decode()
    rest = graph.run("runs", "--limit", "2", "--before", graph.ids[1])
    assert graph.ids[0] in rest.stdout.decode()
    assert "--before" not in rest.stderr.decode()


WRONG = [
    (["runs", "--state", "faild"], 2, "--state='faild' is unknown"),
    (["runs", "--mode", "love"], 2, "--mode='love' is unknown"),
    (["runs", "--mode", "returned"], 2, "not recorded as a run"),
    (["show", "ID", "--agent", "x"], 2, "not both"),
    (["runs", "--label", "pr"], 2, "pr=5"),
    (["runs", "--limit", "0"], 2, "--limit"),
    (["runs", "--since", "soon"], 2, "--since"),
    (["runs", "--task", "nonsense"], 1, "`execgraph runs --json --store"),
    (["runs", "--agent", "deplyer"], 0, "no run of 'deplyer'"),
    (["show", "nonsense"], 1, "execgraph runs"),
    (["show", "0"], 1, "beginning of several"),
    (["diff", "nonsense", "0"], 1, "execgraph runs"),
    (["show", "ID", "--step", "9"], 2, "steps 0 to 2"),
    (["show", "ID", "--raw", "--json"], 2, "--raw"),
    (["show", "ID", "--part", "output"], 2, "--raw"),
    (["show", "ID", "--raw", "--part", "request"], 2, "no request"),
]


def test_wrong_use_says_what_is_meant(graph: Graph) -> None:
    for arguments, code, says in WRONG:
        done = graph.run(*(graph.ids[0] if it == "ID" else it for it in arguments))
        assert (done.returncode, done.stdout) == (code, b""), arguments
        assert says in " ".join(done.stderr.decode().split()), arguments
        assert b"Traceback" not in done.stderr, arguments


def test_a_misspelt_namespace_is_told(graph: Graph) -> None:
    done = graph.run("runs", namespace="misspelt")
    assert done.stdout == b""
    if graph.url.startswith("sqlite"):  # a shared server has more than are named
        assert graph.namespace in done.stderr.decode()
        assert graph.namespace in graph.run("show", "x", namespace="misspelt").stderr.decode()


def test_a_run_is_shown_with_long_payloads_shortened(graph: Graph) -> None:
    shown = graph.said("show", graph.ids[0][:-4])
    harmless(shown)
    joined = " ".join(shown.split())
    for part in (
        *(graph.ids[0], "live, published", "labels pr=5", 'inputs {"n": 1}', "acl:logs $.rule"),
        *("action logs executed read", "holds", "[red]<b>", "as before, but for its messages"),
    ):
        assert part in joined, part
    assert "x" * 500 not in joined
    whole = f"execgraph show {graph.ids[0]} --step 1 --raw --store"
    assert whole in joined, "how to read all of it"
    one = " ".join(graph.said("show", graph.ids[0], "--step", "1").split())
    assert "x" * 200 in one
    assert "--step 1 --raw" not in one, "nothing of it is left out"
    told = graph.json("show", graph.ids[0])
    assert told["steps"][1]["output"]["text"] == "x" * 5000
    assert told["steps"][1]["output"]["password"] == "hidden"
    assert told["steps"][1]["started_at"] >= told["started_at"]
    assert told["steps"][1]["duration_ms"] > 0


def test_a_replay_names_the_run_that_it_replayed(graph: Graph) -> None:
    shown = graph.said("show", graph.ids[1])
    assert f"its steps are those of {graph.ids[0]}" in shown
    assert "run again" in shown
    assert graph.json("show", graph.ids[1])["recorded_with"] == graph.ids[0]


def test_a_plain_replay_is_listed_with_what_it_replayed(graph: Graph) -> None:
    shown = graph.said("runs").splitlines()
    [line] = [it for it in shown if graph.ids[1] in it]
    assert "unpublished" not in line
    assert line.split()[-4] == "3", "its steps"
    assert "unpublished" not in graph.said("show", graph.ids[1])
    assert graph.json("runs")["runs"][1]["state"] == "unpublished"


def test_without_an_id_the_newest_run_is_shown(graph: Graph) -> None:
    for wanted in ([], ["--agent", HOSTILE]):
        assert graph.json("show", *wanted)["execution"] == graph.ids[2]
    raw = json.loads(graph.said("show", "--raw", "--step", "1"))
    assert raw["text"] == "y" * 5000
    none = graph.run("show", "--agent", "nobody")
    assert (none.returncode, none.stdout) == (1, b"")


def test_two_runs_are_compared(graph: Graph) -> None:
    same = graph.said("diff", *graph.ids[:2])
    assert "no step differs" in same
    shown = graph.said("diff", graph.ids[0], graph.ids[2][:-4])
    harmless(shown)
    assert "step 1 differs first: action logs" in shown
    lines = [it.strip() for it in shown.splitlines()]
    removed = lines.index('-  "text":')
    assert lines[removed + 1].startswith('"xxx')
    told = graph.json("diff", graph.ids[0], graph.ids[2])
    assert (told["differs"], told["step"]) == (True, 1)
    assert [it["about"] for it in told["fields"]] == ["output"]


def test_raw_writes_a_payload_of_20_mb_whole(url: str) -> None:
    engine = Engine(url, namespace=f"test-{uuid.uuid4().hex[:12]}")
    graph = Graph(url, engine.namespace)
    long = "é\n" * 5_000_000

    @engine.tool(effect="read")
    def read() -> str:
        """Read."""
        return long

    with engine.sync() as e, e.run("p", {"n": 1}) as run:
        run.act(read)
    with engine.sync() as e:
        exact, hidden = e.payload(run.execution_id, step=0)
    assert not hidden
    assert len(exact) > 20_000_000
    done = graph.run("show", run.execution_id, "--step", "0", "--raw")
    assert done.returncode == 0
    assert done.stdout == exact
    assert json.loads(done.stdout) == long
    shown = graph.said("show", run.execution_id)
    assert len(shown) < 10_000
    assert "more characters: execgraph show" in shown


def test_only_what_is_asked_for_is_written_raw(graph: Graph) -> None:
    of_step = ["show", graph.ids[0], "--raw", "--step", "1"]
    done = graph.run(*of_step, "--part", "arguments")
    told = json.loads(done.stdout)
    assert told == {"service": HOSTILE, "token": "hidden"}
    assert b"named as secrets" in done.stderr
    inputs = graph.run("show", graph.ids[0], "--raw", "--part", "inputs")
    assert (inputs.stdout, inputs.stderr) == (b'{"n":1}', b"")
    output = graph.run("show", graph.ids[0], "--raw")
    assert json.loads(output.stdout) == f"Done {HOSTILE}."


def test_an_effect_in_doubt_is_shown_with_the_command_that_resolves_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(url, namespace=f"test-{uuid.uuid4().hex[:12]}")

    @engine.tool(effect="write", requires=[])
    def ship() -> str:
        """Ship."""
        raise OSError("the line is dead")

    with engine.sync() as e, pytest.raises((OSError, RunFailed)), e.run("shipper", "go") as run:
        run.output = run.act(ship).value
    monkeypatch.setenv("COLUMNS", "400")
    show = ["show", "--store", url, "--namespace", engine.namespace]
    shown = CliRunner().invoke(cli.app, show).stdout
    [command] = re.findall(r"execgraph (resolve .+), or --not-done", shown)
    resolved = CliRunner().invoke(cli.app, shlex.split(command))
    assert resolved.exit_code == 0, resolved.output
    assert "--not-done" not in CliRunner().invoke(cli.app, show).stdout


def test_a_secret_that_an_effect_in_doubt_was_called_with_is_hidden_on_every_face(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(url, namespace=f"test-{uuid.uuid4().hex[:12]}")
    graph = Graph(url, engine.namespace)

    @engine.tool(effect="once", once_per="{invoice}", requires=[])
    def pay(invoice: str, token: str) -> str:
        """Pay."""
        raise TimeoutError("no answer")

    with engine.sync() as e:
        with pytest.raises(TimeoutError), e.run("p", {"n": 1}) as run:
            run.act(pay, invoice="i1", token="hunter2")
        with pytest.raises(EffectInDoubt) as failed, e.run("p", {"n": 1}) as again:
            again.act(pay, invoice="i1", token="hunter2")
        told = {"nodes": str(e.graph(run.execution_id).nodes(data=True))}
    told |= {"raised": str(failed.value), "log": caplog.text}
    commands = ["doctor", "doctor --json", "show", "show --json", "why", "why --json"]
    graphs = [f"graph {run.execution_id}{it}" for it in ("", " --json", " --format dot")]
    commands += ["runs --json", *graphs, f"resolve {failed.value.effect.id} --not-done"]
    told |= {it: graph.said(*it.split()) for it in commands}
    assert not [face for face, says in told.items() if "hunter2" in says]
    assert not [face for face, says in told.items() if "hidden" not in says]
