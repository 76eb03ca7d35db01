"""``execgraph gc``, on real stores; and what docs/retention.md says of the defaults."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from execgraph import Retention
from execgraph.adapters import cli
from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import ExecutionState
from execgraph.tests.conformance.samples import (
    published,
    sample_effect,
    sample_recording,
    sample_replay,
)

PAGE = (Path(__file__).parents[2] / "docs" / "retention.md").read_text()


@dataclass
class Graph:
    """A task with two traces and four replays, and a resource with three versions."""

    url: str
    namespace: str

    def ask(self, *arguments: str) -> Result:
        where = ["--store", self.url, "--namespace", self.namespace]
        return CliRunner().invoke(cli.app, ["gc", *arguments, *where])

    def json(self, *arguments: str) -> Any:
        run = self.ask(*arguments, "--json")
        assert run.exit_code == 0, run.output
        return json.loads(run.stdout)


async def _fill(url: str, namespace: str) -> None:
    store = connect(url, namespace=namespace)
    await store.open()
    for number in (1, 2):
        recording = sample_recording(
            number=number, says=f"{number}", state=ExecutionState.UNPUBLISHED
        )
        await published(store, recording)
        replays = [sample_replay(recording, 10 * number + n) for n in (1, 2)]
        effects = [sample_effect(it.execution.id, done=True) for it in replays]
        await store.write_replays(
            [
                it.model_copy(update={"effects": (effect,)})
                for it, effect in zip(replays, effects, strict=True)
            ]
        )
    for content in (1, 2, 3):
        await store.change("acl:a", Document.of(content))
    for walk in await store.walks():
        await store.walk(walk.id)
    await store.close()


@pytest.fixture
def graph(url: str) -> Graph:
    made = Graph(url, f"test-{uuid.uuid4().hex[:12]}")
    asyncio.run(_fill(made.url, made.namespace))
    return made


KEEP = ["--history-age", "36500d", "--grace", "0"]


def test_nothing_goes_that_is_within_the_limits(graph: Graph) -> None:
    run = graph.ask("--history-age", "36500d")
    assert (run.exit_code, run.stdout) == (0, "There is nothing to delete.\n")


def test_a_dry_run_deletes_nothing_and_tells_what_would_go(graph: Graph) -> None:
    tight = [*KEEP, "--traces", "1", "--history", "0", "--versions", "1"]
    told = graph.json("--dry-run", *tight)
    assert graph.json("--dry-run", *tight) == told
    done = graph.json(*tight)
    assert (told.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert told.pop("bytes") >= done.pop("bytes") > 0
    assert told.pop("values") >= done.pop("values") > 0
    assert told == done
    assert (done["unpublished"], done["executions"], done["replays"]) == (1, 1, 3)
    assert (done["versions"], done["events"], done["tasks"]) == (1, 1, 0)
    assert graph.ask(*tight).stdout == "There is nothing to delete.\n"


def test_it_says_in_words_what_has_gone(graph: Graph) -> None:
    run = graph.ask(*KEEP, "--history", "0", "--versions", "0", "--dry-run")
    told = "Would go: 2 runs, 2 effects, 2 versions, 2 change events, 2 payloads ("
    assert run.stdout.startswith(told)
    run = graph.ask(*KEEP, "--max-age", "90d", "--max-bytes", "1.5GB")
    assert run.stdout.startswith("Gone: 2 traces unpublished, 2 runs, ")


def test_a_mistyped_namespace_is_told(graph: Graph) -> None:
    assert graph.ask("--dry-run").stderr == ""
    graph.namespace += "x"
    run = graph.ask("--dry-run")
    assert (run.exit_code, run.stdout) == (0, "There is nothing to delete.\n")
    assert run.stderr.startswith(f"there is nothing in the namespace '{graph.namespace}'; in this")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-age", "soon"],
        ["--grace", "-1"],
        ["--max-bytes", "much"],
        ["--max-bytes", "2 boxes"],
        ["--traces", "0"],
        ["--history", "-1"],
    ],
)
def test_used_wrongly(tmp_path: Path, arguments: list[str]) -> None:
    asyncio.run(_fill(f"sqlite:///{tmp_path}/graph.db", "default"))
    run = CliRunner().invoke(
        cli.app, ["gc", "--store", f"sqlite:///{tmp_path}/graph.db", *arguments]
    )
    assert run.exit_code != 0
    assert run.stdout == ""
    assert f"Invalid value for {arguments[0]}: " in run.stderr.replace("'", "")


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    run = CliRunner().invoke(cli.app, ["gc", "--store", f"sqlite:///{tmp_path}/none.db"])
    assert run.exit_code != 0
    assert list(tmp_path.iterdir()) == []


def test_the_page_has_every_limit_with_its_default() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE))
    shown = {None: "none", timedelta(days=30): "30 days", timedelta(hours=1): "1 hour"}
    defaults = {it.name: getattr(Retention(), it.name) for it in fields(Retention)}
    assert told == {name: shown.get(value, str(value)) for name, value in defaults.items()}
