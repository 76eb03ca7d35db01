"""``execgraph doctor``, on real stores: sound ones, and ones that were damaged."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sqlite3
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from execgraph.adapters import cli
from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import WITHIN_A_WISH
from execgraph.tests.conformance.samples import (
    guard,
    published,
    sample_approval,
    sample_effect,
    sample_recording,
)

_URI = "acl:prod"


@dataclass
class Graph:
    """A trace that rests on a fact, and an effect that was begun and never ended."""

    url: str
    namespace: str

    def examine(self, *arguments: str) -> Result:
        where = ["--store", self.url, "--namespace", self.namespace]
        return CliRunner().invoke(cli.app, ["doctor", *arguments, *where])

    def found(self) -> dict[str, Any]:
        """Findings by what they are about."""
        return {it["about"]: it for it in json.loads(self.examine("--json").output)}

    async def make(self) -> None:
        store = connect(self.url, namespace=self.namespace)
        await store.open()
        await store.change(_URI, Document.of({"a": 1}))
        await store.facts({_URI: frozenset({"$.a"})})
        guards = [guard(self.namespace, _URI, {"a": 1}, "$.a")]
        await published(store, sample_recording(guards=guards))
        await store.intend(sample_effect("deploy-9"), [])
        await store.request(sample_approval(), timedelta(days=1))
        used = {"approval": sample_approval().id}
        await store.intend(sample_effect("deploy-10").model_copy(update=used), [])
        within = {"once": f"{WITHIN_A_WISH}key"}
        await store.intend(sample_effect("deploy-11").model_copy(update=within), [])
        for walk in await store.walks():
            await store.walk(walk.id)
        await store.close()


@pytest.fixture
def graph(url: str) -> Graph:
    made = Graph(url, f"test-{uuid.uuid4().hex}")
    asyncio.run(made.make())
    return made


def test_a_sound_store_has_no_error(graph: Graph) -> None:
    said = graph.examine()
    assert said.exit_code == 0, said.output
    levels = {about: it["level"] for about, it in graph.found().items()}
    assert levels.pop("effects") == "warning"
    assert set(levels.values()) == {"good"}, levels
    assert {"traces", "facts", "marks", "time"} < levels.keys()


def test_an_effect_in_doubt_is_named_with_what_to_do(graph: Graph) -> None:
    found = graph.found()["effects"]
    assert "deploy checkout (execution deploy-9)" in found["says"]
    assert "(execution deploy-10, which has used approval-1 up)" in found["says"]
    assert "(execution deploy-11, which has a run id)" in found["says"]
    assert "whether it happened" in found["remedy"]
    assert "A run that has an id, called again under it, settles its own" in found["remedy"]
    [command] = re.findall(r"`execgraph ([^`]+)`", found["remedy"])
    [id_] = re.findall(r"(\S+) deploy checkout \(execution deploy-9\)", found["says"])
    resolved = CliRunner().invoke(cli.app, shlex.split(command.replace("ID", id_)))
    assert resolved.exit_code == 0, resolved.output
    assert "deploy-9)" not in graph.found()["effects"]["says"]


async def _damage_payload(graph: Graph) -> None:
    digest = sample_recording().steps[0].output
    if graph.url.startswith("sqlite"):
        raw = sqlite3.connect(graph.url.removeprefix("sqlite:///"))
        raw.execute("UPDATE value SET data = x'00' WHERE digest = ?", (digest,))
        raw.commit()
        raw.close()
        return
    from neo4j import AsyncGraphDatabase

    async with AsyncGraphDatabase.driver(graph.url) as driver:
        await driver.execute_query(
            "MATCH (v:Value {namespace: $space, digest: $digest}) SET v.text = 'x'",
            space=graph.namespace,
            digest=digest,
        )


def test_a_damaged_payload_is_an_error_that_names_the_trace(graph: Graph) -> None:
    asyncio.run(_damage_payload(graph))
    assert graph.examine().exit_code == 1
    found = graph.found()["traces"]
    assert found["level"] == "error"
    assert "1 of 1 are damaged: deploy-1" in found["says"]


def test_people_read_what_to_do(graph: Graph) -> None:
    asyncio.run(_damage_payload(graph))
    said = graph.examine().output
    assert "To do: nothing has to be done: it is never replayed" in said


def test_a_namespace_in_which_there_is_nothing_is_told(graph: Graph) -> None:
    assert "namespace" not in graph.found()
    mistyped = Graph(graph.url, "mistyped")
    assert mistyped.examine().exit_code == 0
    if graph.url.startswith("sqlite"):  # a store that many share has more than are named
        found = mistyped.found()["namespace"]
        assert found["level"] == "warning"
        assert found["says"].endswith(f"in this store are: {graph.namespace!r}")


def test_a_file_that_is_no_store_is_told(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    path.write_bytes(b"this is no database at all" * 200)
    said = Graph(f"sqlite:///{path}", "default").examine()
    assert said.exit_code == 1
    assert "damaged, or is no SQLite database" in " ".join(said.output.split())


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    said = Graph(f"sqlite:///{tmp_path}/none.db", "default").examine()
    assert said.exit_code == 1
    assert not (tmp_path / "none.db").exists()


def test_brackets_in_what_is_found_are_shown_as_they_are(tmp_path: Path) -> None:
    graph = Graph(f"sqlite:///{tmp_path}/graph.db", "default")

    async def make() -> None:
        store = connect(graph.url, namespace=graph.namespace)
        await store.open()
        effect = sample_effect("deploy-9").model_copy(update={"target": '{"path": "[/etc]"}'})
        await store.intend(effect, [])
        await store.close()

    asyncio.run(make())
    said = graph.examine()
    assert said.exit_code == 0, said.output
    assert '{"path": "[/etc]"}' in said.output
