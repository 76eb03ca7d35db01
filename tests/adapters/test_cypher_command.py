"""``execgraph cypher``: tables, JSON, parameters, exit codes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from execgraph.adapters import cli
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.tests.conformance.samples import published, sample_recording

STEPS = "MATCH (s:Step {namespace: $namespace}) RETURN s.id AS step, s.position AS at ORDER BY step"


@pytest.fixture
def url(tmp_path: Path) -> str:
    async def record() -> None:
        store = SqliteStore(str(tmp_path / "graph.db"), namespace="team-a")
        await store.open()
        await published(store, sample_recording())
        await store.close()

    asyncio.run(record())
    return f"sqlite:///{tmp_path / 'graph.db'}"


def cypher(url: str, *arguments: str, stdin: str | None = None) -> Result:
    given = ["cypher", *arguments, "--store", url, "--namespace", "team-a"]
    return CliRunner().invoke(cli.app, given, input=stdin)


def test_rows_are_a_table(url: str) -> None:
    run = cypher(url, STEPS)
    assert run.exit_code == 0
    lines = [line.split() for line in run.stdout.splitlines() if line.strip(" ─")]
    assert lines[0] == ["step", "at"]
    assert lines[1:] == [[f"deploy-1/{n}", str(n)] for n in range(4)]
    assert run.stderr == "4 rows\n"


def test_rows_are_json(url: str) -> None:
    run = cypher(url, STEPS, "--json")
    assert json.loads(run.stdout) == {
        "columns": ["step", "at"],
        "rows": [[f"deploy-1/{n}", n] for n in range(4)],
        "truncated": False,
    }


def test_what_is_cut_is_said(url: str) -> None:
    assert json.loads(cypher(url, STEPS, "--limit", "3", "--json").stdout)["truncated"]
    assert "the first 3 rows; there are more" in cypher(url, STEPS, "--limit", "3").stderr


def test_parameters_are_json_or_else_text(url: str) -> None:
    query = "RETURN $a AS a, $b AS b, $c AS c, $d AS d"
    given = ["a=1", "b=acl:prod/deploy", '$c={"id": [null]}', 'd="1"']
    arguments = [item for pair in given for item in ("--param", pair)]
    run = cypher(url, query, *arguments, "--json")
    assert json.loads(run.stdout)["rows"] == [[1, "acl:prod/deploy", {"id": [None]}, "1"]]


def test_the_query_may_come_from_standard_input(url: str) -> None:
    assert json.loads(cypher(url, "-", "--json", stdin=STEPS).stdout)["rows"][0][1] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["MATCH (n) SET n.x = 1"], "the query would write"),
        (["MATCH (n:Step) WHERE n.id = 'a' RETRUN n.id"], "line 1, column 33: "),
        (["RETURN $uri, $a, $namespace", "-p", "a=1"], "give what is not given yet: -p uri=..."),
        (["RETURN 1", "--param", "nothing"], "is no NAME=JSON"),
    ],
)
def test_what_is_refused_is_exit_code_2(url: str, arguments: list[str], says: str) -> None:
    run = cypher(url, *arguments)
    assert run.exit_code == 2
    assert says in run.stderr
    assert run.stdout == ""


def test_what_takes_too_long_is_exit_code_1(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "UNWIND range(1, 3000) AS a UNWIND range(1, 3000) AS b UNWIND range(1, 3000) AS c"
    arguments = ["execgraph", "cypher", f"{long} RETURN sum(a * b * c) AS n", "--timeout", "0.2"]
    monkeypatch.setattr("sys.argv", [*arguments, "--store", url])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "stopped after 0.2 seconds" in capsys.readouterr().err


def test_the_help_has_an_example() -> None:
    run = CliRunner().invoke(cli.app, ["cypher", "--help"])
    assert run.exit_code == 0
    assert "Example: execgraph cypher" in run.stdout


@pytest.mark.parametrize("module", ["json", "sys", "sqlite3", "kglite", "resource", "execgraph"])
def test_a_module_in_the_working_folder_is_not_run(url: str, tmp_path: Path, module: str) -> None:
    folder = tmp_path / "untrusted"
    folder.mkdir()
    (folder / f"{module}.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise SystemExit\n", encoding="utf-8"
    )
    script = Path(sys.executable).with_name("execgraph")
    query = ["cypher", "RETURN 1 AS one", "--json", "--store", url]
    run = subprocess.run([script, *query], cwd=folder, capture_output=True, text=True, check=False)
    assert not (tmp_path / "ran").exists()
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["rows"] == [[1]]


def test_a_relative_entry_of_the_module_path_is_not_handed_on(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kglite.py").write_text("raise SystemExit", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    assert json.loads(cypher(url, "RETURN 1 AS one", "--json").stdout)["rows"] == [[1]]
