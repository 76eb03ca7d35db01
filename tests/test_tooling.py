"""What is set up for whoever changes the code agrees with the scripts."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import execgraph

from .test_dependencies import LOCKS, locked

ROOT = Path(execgraph.__file__).resolve().parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def scripts_named(text: str) -> set[str]:
    return set(re.findall(r"\bscripts/\w+", text))


def test_the_hooks_before_a_commit_are_steps_of_the_lint() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    entries = [hook["entry"].split() for hook in config["repos"][0]["hooks"]]
    steps = {word for entry in entries if entry[0] == "scripts/lint" for word in entry[1:]}
    known = re.findall(r"^(\w+)\(\) \{", (ROOT / "scripts/lint").read_text("utf-8"), re.MULTILINE)
    assert steps - {"--fix"} == set(known) - {"run"}


def test_the_devcontainer_is_set_up_by_scripts_that_exist() -> None:
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    scripts = scripts_named(made["onCreateCommand"])
    assert scripts == {"scripts/lint", "scripts/neo4j"}
    assert [it for it in scripts if not (ROOT / it).exists()] == []


def test_what_has_to_pass_runs_lint_site_and_tests() -> None:
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert scripts_named(run) == {"scripts/lint", "scripts/docs", "scripts/test"}


def test_each_group_of_dependencies_is_locked_at_versions_that_will_do() -> None:
    groups: dict[str, list[str]] = PROJECT["dependency-groups"]
    assert {f"{group}.txt" for group in groups} <= {path.name for path in LOCKS.iterdir()}
    wrong = [
        need
        for group, needs in groups.items()
        for need in map(Requirement, needs)
        if not need.specifier.contains(
            locked(f"{group}.txt", "3.11").get(canonicalize_name(need.name), "0")
        )
    ]
    assert wrong == [], "run scripts/lock"


def test_what_two_environments_have_is_of_one_version() -> None:
    development, docs = locked("development.txt", "3.11"), locked("docs.txt", "3.11")
    both = set(development) & set(docs)
    assert {name for name in both if development[name] != docs[name]} == set()


def test_types_are_shipped() -> None:
    assert (ROOT / "py.typed").exists()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["*"]
