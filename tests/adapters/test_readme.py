"""What the README shows is true of the code."""

from __future__ import annotations

import re
from pathlib import Path

import execgraph
from execgraph.adapters.cli import app

from .examples import said_by_the_example_of

ROOT = Path(execgraph.__file__).resolve().parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_does_what_its_comments_say(tmp_path: Path) -> None:
    said = said_by_the_example_of(README, tmp_path)
    told, changed = said.splitlines()
    first, second, identical = told.split()
    assert int(first) > 0
    assert (second, identical) == ("0", "True")
    assert changed.startswith("live ")
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
