"""The demo as a user runs it: a process, its exit code, what it prints and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from execgraph.adapters.cli import app
from execgraph.adapters.demo.brain import answer
from execgraph.adapters.demo.naive import NaiveCache
from execgraph.adapters.messages_api import MessagesServer
from execgraph.tests import forks
from execgraph.tests.stores import BOTH

COMMAND = [
    sys.executable,
    "-W",
    "error",
    "-c",
    "from execgraph.adapters.cli import main; main()",
]
QUICK = ["--runs", "5", "--latency", "0.01"]
SECONDS = 120


def environment(folder: Path, **more: str) -> dict[str, str]:
    """One in which temporary files go to `folder`, and no key or store is set."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ANTHROPIC_", "EXECGRAPH_"))
    }
    return {**kept, "TMPDIR": str(folder), **more}


def execgraph(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = environment(folder, **variables)
    return forks.run(forks.COMMAND, *arguments, env=environ, cwd=folder, timeout=SECONDS)


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that name `folder`."""
    if Path("/proc/self/cmdline").exists():
        lines = [_command_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    else:
        command = ["ps", "-A", "-ww", "-o", "args"]
        lines = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    return [line for line in lines if str(folder) in line]


def _command_line(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


@pytest.fixture(scope="module", params=BOTH)
def performance(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What one run of the demo printed, by act; ``""`` is the document itself."""
    folder = tmp_path_factory.mktemp("demo")
    store = []
    if request.param == "neo4j":
        store = ["--store", request.getfixturevalue("neo4j_uri")]
    run = execgraph("demo", "--json", *QUICK, *store, folder=folder)
    assert (run.returncode, run.stderr) == (0, "")
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []
    document = json.loads(run.stdout)
    return {"": document, **{act["act"]: act for act in document["acts"]}}


def test_every_claim_of_the_demo_holds(performance: dict[str, Any]) -> None:
    assert performance[""]["ok"]
    assert all(act["claims"] for act in performance[""]["acts"])


def test_model_requests_and_effects_are_those_of_the_story(performance: dict[str, Any]) -> None:
    found = [
        (act["act"], act["runs"], act["mode"], act["model_requests"], *act["effects"].values())
        for act in performance[""]["acts"]
    ]
    assert found == [
        ("first", 1, "live", 6, 1, 1),
        ("second", 1, "replay", 0, 1, 1),
        ("hundredth", 3, "replay", 0, 3, 3),
        ("unrelated", 1, "replay", 0, 1, 1),
        ("tightened", 1, "partial", 1, 0, 0),
        ("reverted", 1, "replay", 0, 1, 1),
        ("schema", 1, "partial", 1, 1, 1),
        ("target", 1, "partial", 1, 1, 1),
        ("rule", 1, "live", 6, 1, 1),
        ("unwatched", 1, "live", 6, 1, 1),
        ("watched-again", 1, "replay", 0, 1, 1),
        ("killed", 1, "live", 0, 0, 0),
    ]


def test_tokens_are_what_the_server_billed_and_about_4000_a_run(
    performance: dict[str, Any],
) -> None:
    acts = performance[""]["acts"]
    assert [act["tokens"] for act in acts] == [act["billed_tokens"] for act in acts]
    assert 3_500 < performance["first"]["tokens"] < 5_000
    assert [act["tokens"] for act in acts if act["mode"] == "replay"] == [0] * 5
    assert performance["second"]["saved_tokens"] == performance["first"]["tokens"]


def test_money_is_paid_for_what_was_asked_only(performance: dict[str, Any]) -> None:
    costs = {name: act["cost_usd"] for name, act in performance.items() if name}
    assert 0 < costs["tightened"] < costs["first"]
    assert costs["second"] == costs["hundredth"] == costs["unrelated"] == costs["reverted"] == 0


def test_the_times_add_up(performance: dict[str, Any]) -> None:
    for act in performance[""]["acts"]:
        if act["runs"] == 1:
            spent = act["ms"]
            parts = spent["tools"] + spent["model"] + spent["engine"]
            assert parts == pytest.approx(spent["total"])
            assert spent["engine"] > 0
    assert performance["second"]["ms"]["model"] == 0


def test_the_tightened_rule_keeps_the_prefix_and_asks_the_rest(performance: dict[str, Any]) -> None:
    act = performance["tightened"]
    steps = [(step["kind"], step["outcome"]) for step in act["steps"]]
    assert steps == [
        ("decision", "replayed"),
        ("action", "replayed"),
        ("decision", "replayed"),
        ("action", "diverged"),
        ("decision", "asked"),
    ]
    causes = [step["cause"] for step in act["steps"]]
    assert causes[:3] == [None, None, None]
    assert causes[3].startswith("precondition changed: acl:prod/deploy")
    assert causes[4] is not None
    assert "did not deploy" in act["output"]


def test_reverting_the_rule_restores_the_first_recording(performance: dict[str, Any]) -> None:
    assert performance["reverted"]["output"] == performance["first"]["output"]
    assert all(step["cause"] is None for step in performance["reverted"]["steps"])


def test_impact_is_what_then_happens(performance: dict[str, Any]) -> None:
    act = performance["rule"]
    assert act["impact"]["tokens"] == act["tokens"] == performance["first"]["tokens"]
    assert performance["tightened"]["impact"]["tasks"][0]["agent"] == "deployer"
    assert len(performance["tightened"]["impact"]["invalid"]) == 8


def test_why_tells_the_change_and_cypher_the_steps(performance: dict[str, Any]) -> None:
    act = performance["tightened"]
    causes = [step["cause"] for step in act["why"]["steps"] if step["cause"] is not None]
    assert {cause["change"]["resource"] for cause in causes} == {"acl:prod/deploy"}
    assert [row["step"] for row in act["cypher"]["rows"]] == [3, 6, 7]


def test_a_cache_by_the_request_text_deploys_against_the_rule(performance: dict[str, Any]) -> None:
    act = performance["tightened"]
    assert act["naive_cache"] == {"builds": 1, "starts": 1}
    assert act["effects"] == {"builds": 0, "starts": 0}


def test_a_person_edits_the_files_and_runs_the_task(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [*COMMAND, "demo", "--interactive", "--latency", "0"],
        env=environment(tmp_path, COLUMNS="200"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert demo.stdin is not None
    assert demo.stdout is not None
    said = _Said(demo.stdout)
    try:
        config = Path(said.until(":\n").split(" is in ")[1].rstrip(":\n"))
        demo.stdin.write("\n")
        assert "live: 4,527 tokens" in said.until("\n> ", 2)
        rule = config / "acl/prod/deploy.json"
        rule.write_text(rule.read_text().replace("release-bot", "nobody"))
        said.until("acl:prod/deploy: changed, version 2")
        demo.stdin.write("run\n")
        assert "did not deploy" in said.until("\n> ")
        demo.stdin.write("why\n")
        assert "precondition changed: acl:prod/deploy" in said.until("\n> ")
        demo.stdin.write("cypher MATCH (e:Execution) RETURN count(e) AS runs\n")
        assert "2" in said.until("\n> ")
        demo.stdin.write("cypher CREATE (n)\n")
        said.until("\n> ")
        demo.stdin.write("stats\n")
        assert "asked in part" in said.until("\n> ")
        demo.stdin.write("quit\n")
        _, errors = demo.communicate(timeout=SECONDS)
    finally:
        demo.kill()
        demo.communicate()
    assert (demo.returncode, errors) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_conversation_that_is_stopped_leaves_nothing(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    demo = subprocess.Popen(
        [*COMMAND, "demo", "--interactive"],
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert demo.stdout is not None
        _Said(demo.stdout).until("\n> ")
        demo.send_signal(number)
        demo.wait(timeout=SECONDS)  # its input is still open
        assert demo.stderr is not None
        assert one_line(demo.stderr.read()).startswith("execgraph: stopped")
    finally:
        demo.kill()
        demo.communicate()
    assert demo.returncode == code
    assert list(tmp_path.iterdir()) == []


class _Said:
    """What a process says, read as it comes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def until(self, mark: str, times: int = 1) -> str:
        """All up to the mark; hangs no longer than the test's own patience."""
        said = ""
        while said.count(mark) < times:
            character = self._stream.read(1)
            assert character, said
            said += character
        return said


def test_people_see_trees_claims_and_a_table(tmp_path: Path) -> None:
    run = execgraph("demo", *QUICK, folder=tmp_path)

    assert (run.returncode, run.stderr) == (0, "")
    for words in (
        "1. First run",
        "3. Runs 3 to 5",
        "├── decision: asked, ",
        "├── decision: served, ",
        "│   └── check_access: run again, another output",
        "because precondition changed: acl:prod/deploy",
        "✓ tokens agree",
        "`impact` before the change: 8 steps of 1 task would be invalid",
        "check_access",
        "`why`: acl:prod/deploy changed from version 1 to 2",
        "text of the request did the same again",
        "because precondition expired: rule:change-freeze",
        "6 Rule reverted",
        "11 Watcher back",
        "12 Killed, retried",
        "engine",
    ):
        assert words in run.stdout
    assert "✗" not in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_a_store_that_is_given_keeps_the_graph(tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "graph.db"
    kept.parent.mkdir()
    for _ in range(2):  # each performance has a namespace of its own, and starts afresh
        run = execgraph("demo", "--json", *QUICK, "--store", f"sqlite:///{kept}", folder=tmp_path)
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout)["acts"][0]["mode"] == "live"
    assert kept.exists()


def test_a_claim_that_fails_is_named_and_fails_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(NaiveCache, "execute", lambda self, task: "")

    run = CliRunner().invoke(app, ["demo", "--json", *QUICK])

    assert run.exit_code == 1
    assert "deploys all the same" in run.stderr
    assert not json.loads(run.stdout)["ok"]


@pytest.fixture
def real_service() -> Iterator[MessagesServer]:
    """What stands in for the real service."""
    with MessagesServer(answer) as server:
        yield server


def test_live_asks_the_service_that_the_environment_names(
    real_service: MessagesServer, tmp_path: Path
) -> None:
    real_service.fail(529)

    run = execgraph(
        *["demo", "--live", "--json", "--runs", "3"],
        folder=tmp_path,
        ANTHROPIC_API_KEY="sk-test",
        ANTHROPIC_BASE_URL=real_service.url,
    )

    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert document["live"]
    assert [act["model_requests"] for act in document["acts"]] == [
        *(7, 0, 0, 0, 1, 0, 1, 1, 6, 6, 0, 0)
    ]
    assert real_service.requests == 22


def test_live_without_a_key_says_what_is_missing(tmp_path: Path) -> None:
    run = execgraph("demo", "--live", folder=tmp_path)

    assert run.returncode == 2
    assert one_line(run.stderr).startswith("execgraph: --live asks the real service and needs")
    assert "ANTHROPIC_API_KEY" in run.stderr


def test_a_mode_that_forbids_to_record_is_told(tmp_path: Path) -> None:
    run = execgraph("demo", folder=tmp_path, EXECGRAPH_MODE="off")

    assert run.returncode == 2
    assert "EXECGRAPH_MODE=off" in one_line(run.stderr)


def test_a_service_that_refuses_is_one_clear_line(
    real_service: MessagesServer, tmp_path: Path
) -> None:
    real_service.fail(401, times=9, message="invalid x-api-key")

    run = execgraph(
        *["demo", "--live", "--json"],
        folder=tmp_path,
        ANTHROPIC_API_KEY="sk-test",
        ANTHROPIC_BASE_URL=real_service.url,
    )

    assert (run.returncode, run.stdout) == (1, "")
    assert "invalid x-api-key" in one_line(run.stderr)
    assert "sk-test" not in run.stderr


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("mysql://me:secret@host/db", 2),
        ("sqlite://graph.db", 2),
        ("neo4j://me:secret@127.0.0.1:1", 1),
        ("sqlite:////dev/null/graph.db", 1),
    ],
)
def test_a_store_that_cannot_be_is_one_clear_line(url: str, code: int, tmp_path: Path) -> None:
    run = execgraph("demo", "--store", url, folder=tmp_path)

    assert run.returncode == code
    assert one_line(run.stderr).startswith("execgraph: ")
    assert "secret" not in run.stdout + run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_stopped_leaves_no_process_and_no_file(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    demo = subprocess.Popen(
        [*COMMAND, "demo", "--runs", "100000", "--latency", "0"],
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + SECONDS
        while not list(tmp_path.glob("*/machine/starts.journal")) and time.monotonic() < until:
            time.sleep(0.01)
        assert processes_of(tmp_path)
        demo.send_signal(number)
        _, said = demo.communicate(timeout=SECONDS)
    finally:
        demo.kill()
        demo.communicate()

    assert demo.returncode == code
    assert one_line(said).startswith("execgraph: stopped")
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def one_line(text: str) -> str:
    [line] = text.splitlines()
    return line
