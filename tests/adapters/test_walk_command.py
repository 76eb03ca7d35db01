"""``execgraph walk``, on a real store."""

from __future__ import annotations

import asyncio
import io
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from execgraph.adapters import cli
from execgraph.adapters.commands import common
from execgraph.adapters.commands import walk as command
from execgraph.adapters.commands.walk import Pace
from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import Walk
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.marks import branching_recording
from execgraph.tests.conformance.samples import guard, published


@dataclass
class Graph:
    """Three executions of two steps that rest on a facet which changed; nobody walked yet."""

    url: str
    namespace: str

    def ask(self, *arguments: str) -> Result:
        where = ["--store", self.url, "--namespace", self.namespace]
        return CliRunner().invoke(cli.app, ["walk", *arguments, *where])

    def json(self, *arguments: str) -> Any:
        run = self.ask(*arguments, "--json")
        assert run.exit_code == 0, run.output
        return json.loads(run.stdout)

    def do(self, work: Callable[[GraphStore], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            store = connect(self.url, namespace=self.namespace)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(main())


async def _fill(store: GraphStore) -> None:
    await store.change("acl:a", Document.of({"x": 1}))
    held = guard(store.namespace, "acl:a", {"x": 1}, "$.x")
    for name in ("one", "two", "three"):
        await published(store, branching_recording(name, [[held], []], [(), (0,)]))
    for walk in await store.walks():
        await store.walk(walk.id)
    await store.change("acl:a", Document.of({"x": 2}))


@pytest.fixture
def graph(url: str) -> Graph:
    graph = Graph(url, f"test-{uuid.uuid4().hex[:12]}")
    graph.do(_fill)
    return graph


def test_status_lists_open_walks_and_does_none(graph: Graph) -> None:
    [told] = graph.json("--status")
    assert (told["resource"], told["cursor"], told["marked"]) == ("acl:a", None, 0)
    assert datetime.fromisoformat(told["at"]).utcoffset() == timedelta(0)
    assert told["ended_at"] is None
    [walk] = graph.do(lambda store: store.walks())
    assert told["id"] == walk.id
    assert "acl:a" in graph.ask("--status").stdout
    graph.do(lambda store: store.walk(walk.id, batch=2))
    [told] = graph.json("--status")
    assert told["marked"] == 4
    assert told["cursor"] is not None
    assert told["cursor"] in graph.ask("--status").stdout.replace("\n", "")


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    graph = Graph(f"sqlite:///{tmp_path}/graph.db", "team")

    async def change(store: GraphStore) -> None:
        for n in range(2):
            await store.change("acl:a:prod", Document.of({"x": n}))

    graph.do(change)
    assert "acl:a:prod" in graph.ask("--status").stdout, "`:a:` would be an emoji"


def test_walking_leaves_no_walk_open(graph: Graph) -> None:
    run = graph.ask()
    assert run.exit_code == 0
    assert "1 walk done: 6 steps found invalid, 0 valid." in run.stdout
    assert run.stderr == "", "off a terminal there is no progress to be shown"
    marks = graph.do(lambda store: store.marks("three-1"))
    assert set(marks) == {0, 1}
    assert "Nothing to walk" in graph.ask().stdout
    assert "No walk is open" in graph.ask("--status").stdout
    assert graph.json("--status") == []


def test_what_was_walked_as_json(graph: Graph) -> None:
    [told] = graph.json()
    assert (told["resource"], told["marked"], told["cleared"], told["visited"]) == (
        "acl:a",
        6,
        0,
        6,
    )
    assert told["ended_at"] >= told["at"]
    assert datetime.fromisoformat(told["ended_at"]).utcoffset() == timedelta(0)
    assert graph.json() == []


def test_facts_that_have_expired_are_walked_too(graph: Graph) -> None:
    graph.ask()
    graph.do(lambda store: store.change("acl:a", Document.of({"x": 1}), until=timedelta(hours=1)))
    assert [it["cleared"] for it in graph.json()] == [6]
    graph.do(lambda store: store.change("acl:a", Document.of({"x": 1}), until=timedelta(0)))
    assert [it["marked"] for it in graph.json()] == [6]


def test_an_unknown_store_is_told_in_one_line() -> None:
    run = CliRunner().invoke(cli.app, ["walk", "--store", "nonsense"])
    assert run.exit_code != 0
    assert run.stdout == ""


def test_the_pace_counts_what_was_seen_to_be_done() -> None:
    """A walk that others began is not counted as done in no time."""
    now = iter([10.0, 10.0, 12.0, 12.0, 14.0])
    pace = Pace(lambda: next(now))

    def seen(name: str, marked: int, cleared: int = 0) -> float | None:
        walk = Walk(id=name, resource="acl:a", at=1, marked=marked, cleared=cleared)
        return pace.of(walk)

    assert seen("one", 50_000) is None
    assert seen("one", 50_000) is None
    assert seen("one", 60_000, 10_000) == 10_000
    assert seen("two", 500) is None
    assert seen("one", 90_000, 10_000) == 12_500


def test_a_terminal_shows_steps_and_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """And shows names as they are: `:a:` would be an emoji."""
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=120)
    monkeypatch.setattr(common, "console", lambda **_: terminal)
    with command._progress() as show:
        for marked in (500, 1_500):
            show(Walk(id="one", resource="acl:a", at=1, marked=marked))
            time.sleep(0.01)
    assert "acl:a: 1,500 steps invalid, 0 valid, " in out.getvalue()
    assert " a second" in out.getvalue()
