"""What the README shows is true of the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import execgraph
from execgraph.adapters.cli import app
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text

ROOT = Path(execgraph.__file__).resolve().parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def brain(body: dict[str, Any]) -> Answer:
    """Uses the tool once, then reports."""
    if len(body["messages"]) == 1:
        return Answer([call("deploy", {"service": "checkout", "version": "2.4.1"})])
    return Answer([text("Deployed.")])


def test_the_example_runs_and_does_what_its_comments_say(tmp_path: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    program = tmp_path / "example.py"
    program.write_text(example)
    with MessagesServer(brain) as server:
        run = subprocess.run(
            [sys.executable, "-W", "error", program],
            cwd=tmp_path,
            env={
                **os.environ,
                "ANTHROPIC_API_KEY": "local",
                "ANTHROPIC_BASE_URL": server.url,
                "NO_PROXY": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    told, changed = run.stdout.splitlines()
    first, second, identical = told.split()
    assert int(first) > 0
    assert (second, identical) == ("0", "True")
    assert changed.startswith("partial ")
    assert "precondition changed: acl:prod/deploy" in changed


def test_links_and_scripts_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    scripts = re.findall(r"\bscripts/\w+", README)
    assert links
    assert scripts
    assert [path for path in {*links, *scripts} if not (ROOT / path).exists()] == []


def test_every_command_is_named() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        assert f"scripts/{name}" in README or f"execgraph {name}" in README
