"""scripts/neo4j, on homes of its own; what it downloaded for the test run is shared."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neo4j
import pytest
from neo4j.exceptions import AuthError

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "neo4j"
NOT_RUNNING = 3

needs_downloads = pytest.mark.skipif(
    not (ROOT / ".neo4j" / "jars" / ".stamp").exists(),
    reason="scripts/neo4j was never started here, and a test is not to download 200 MB",
)


def script(
    command: str, home: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, command, "--home", home, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def start(home: Path, *options: str, **environment: str) -> dict[str, Any]:
    run = script("start", home, "--json", "--memory", "512m", *options, **environment)
    assert run.returncode == 0, run.stderr
    server: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return server


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    script("stop", tmp_path)


def test_the_status_of_a_home_where_nothing_ran_is_not_running(tmp_path: Path) -> None:
    run = script("status", tmp_path / "nowhere", "--json")
    assert run.returncode == NOT_RUNNING
    assert json.loads(run.stdout)["running"] is False
    assert not (tmp_path / "nowhere").exists()


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    run = script("stop", tmp_path)
    assert run.returncode == 0
    assert "does not run" in run.stderr


def test_a_stale_process_id_is_not_taken_for_a_server(tmp_path: Path) -> None:
    (tmp_path / "server.lock").write_text(f"{os.getpid()}\n")
    ours = {"pid": os.getpid(), "port": 1, "user": None, "password": None}
    (tmp_path / "server.json").write_text(json.dumps(ours))
    assert script("status", tmp_path).returncode == NOT_RUNNING
    assert script("stop", tmp_path).returncode == 0  # and this process still lives


@pytest.mark.neo4j
@pytest.mark.usefixtures("neo4j_uri")
@needs_downloads
def test_what_was_written_survives_a_stop_and_a_start(home: Path) -> None:
    server = start(home)
    with neo4j.GraphDatabase.driver(server["uri"]) as driver:
        driver.execute_query("CREATE (:Kept {by: 'the test'})", database_="neo4j")

    again = start(home)
    assert again == server, "a second start finds the first"
    status = script("status", home)
    assert (status.returncode, status.stdout.strip()) == (0, server["uri"])

    assert script("stop", home).returncode == 0
    assert script("status", home).returncode == NOT_RUNNING
    log = (home / "server.log").read_text()
    assert "stopped cleanly" in log

    server = start(home)
    with neo4j.GraphDatabase.driver(server["uri"]) as driver:
        kept = driver.execute_query("MATCH (k:Kept) RETURN k.by AS by", database_="neo4j")
    assert [record["by"] for record in kept.records] == ["the test"]


@pytest.mark.neo4j
@pytest.mark.usefixtures("neo4j_uri")
@needs_downloads
def test_with_authentication_only_the_right_password_is_let_in(home: Path) -> None:
    server = start(home, "--auth", NEO4J_PASSWORD="correct horse")
    assert (server["user"], server["password"]) == ("neo4j", "correct horse")
    with neo4j.GraphDatabase.driver(server["uri"], auth=("neo4j", "correct horse")) as driver:
        driver.verify_connectivity()
    with (
        neo4j.GraphDatabase.driver(server["uri"], auth=("neo4j", "battery staple")) as driver,
        pytest.raises(AuthError),
    ):
        driver.verify_connectivity()
