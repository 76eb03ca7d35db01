"""What has a command ask the same store."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from execgraph.graphstore.connect import connect
from execgraph.graphstore.urls import options_for


@pytest.mark.parametrize("name", ["graph.db", "a b.db", "it's.db", "ann@home.db", "a%20b.db"])
def test_its_file_is_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = "sqlite:///" + name.replace("%", "%25")
    store = connect(written, namespace="team a")
    monkeypatch.chdir("/")
    option, url, *namespace = shlex.split(options_for(store))
    assert (option, namespace) == ("--store", ["--namespace", "team a"])
    assert repr(connect(url, namespace="team a")) == f"SqliteStore({str(tmp_path / name)!r})"


def test_no_password_stands_in_it() -> None:
    store = connect("neo4j://ann:hunter2@localhost:7687/graphs", namespace="default")
    assert options_for(store) == " --store 'neo4j://***@localhost:7687/graphs'"
