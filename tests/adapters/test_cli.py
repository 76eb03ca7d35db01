"""The command line itself: help, version, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import execgraph
from execgraph.adapters import cli

HEAVY = ("anthropic", "genai_prices", "neo4j", "networkx", "starlette", "uvicorn")
COMMANDS = {
    "approvals": "",
    "approve": "ID",
    "changes": "",
    "cypher": "QUERY",
    "demo": "",
    "deny": "APPROVAL_ID",
    "diff": "A B",
    "doctor": "",
    "gc": "",
    "generalise": "",
    "graph": "[EXECUTION_ID]",
    "impact": "[URI] [DOCUMENT_FILE]",
    "reject": "EXECUTION_ID",
    "resolve": "EFFECT_ID",
    "runs": "",
    "show": "[EXECUTION_ID]",
    "stats": "",
    "walk": "",
    "watch": "[FILE]",
    "why": "[EXECUTION_ID]",
}


def test_version() -> None:
    run = CliRunner().invoke(cli.app, ["--version"])
    assert (run.exit_code, run.stdout) == (0, f"execgraph {execgraph.__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
def test_help_shows_an_example(arguments: list[str]) -> None:
    run = CliRunner().invoke(cli.app, arguments)
    assert run.exit_code == 0
    assert "Example: execgraph demo" in run.stdout


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["demo", "--nonsense"], ["demo", "--runs", "2"], ["demo", "--runs", "x"]],
)
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli.app, arguments).exit_code == 2


def test_the_list_of_commands_is_in_order_and_whole() -> None:
    run = CliRunner().invoke(cli.app, ["-h"])
    assert run.exit_code == 0
    listed = run.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    names = [line.split()[0] for line in listed]
    assert names == sorted(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("..") for line in listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_usage_of_a_command_names_its_arguments_plainly(command: str) -> None:
    run = CliRunner().invoke(cli.app, [command, "-h"])
    usage = run.stdout.splitlines()[0]
    assert usage.removeprefix("Usage: ").partition("[OPTIONS]")[2].strip() == COMMANDS[command]
    assert f"Example: execgraph {command}" in run.stdout


def test_the_help_of_a_command_loads_nothing_heavy() -> None:
    code = f"""
import sys
from execgraph.adapters.cli import main
sys.argv = ["execgraph", "demo", "--help"]
try:
    main()
except SystemExit:
    print(*[name for name in {HEAVY} if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == ""
