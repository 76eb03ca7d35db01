"""``execgraph generalise``, and what ``why`` and ``doctor`` say of what could be marked."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from typer.testing import CliRunner, Result

from execgraph import Engine, ExecutionUnknown
from execgraph.adapters import cli
from execgraph.adapters.messages_api import Answer, MessagesServer, text
from execgraph.tests.models import MODEL


def brain(body: dict[str, Any]) -> Answer:
    task = json.loads(body["messages"][0]["content"][0]["text"])
    return Answer([text(f"{task['incident']} is over.")])


@dataclass
class Graph:
    """Where the graph is, and the ids of its runs."""

    url: str
    namespace: str
    runs: list[str]

    def ask(self, *arguments: str) -> Result:
        where = ["--store", self.url, "--namespace", self.namespace]
        return CliRunner().invoke(cli.app, [*arguments, *where])

    def json(self, *arguments: str) -> Any:
        run = self.ask(*arguments, "--json")
        assert run.exit_code == 0, run.output
        return json.loads(run.stdout)


@pytest.fixture
def graph(url: str) -> Graph:
    engine = Engine(url, namespace=f"test-{uuid.uuid4().hex[:12]}")
    with MessagesServer(brain) as server, engine.sync() as e:
        client = AsyncAnthropic(base_url=server.url, api_key="test-key")
        agent = e.agent("triage", model=MODEL, client=client)
        runs = [agent.execute({"incident": f"INC-{4711 + n}"}).execution_id for n in range(4)]
    return Graph(url, engine.namespace, runs)


def test_it_says_what_to_declare_and_on_what_it_rests(graph: Graph) -> None:
    said = graph.ask("generalise", "--agent", "triage")
    assert said.exit_code == 0
    assert 'agent triage  opaque=["$.incident"]' in said.stdout
    assert "3 runs would have asked no model\n" in said.stdout
    assert "4 values seen, and at most 53% of others" in said.stdout
    assert all(run in said.stdout for run in graph.runs)
    [proposal] = graph.json("generalise")["proposals"]
    assert (proposal["recordings"], proposal["served"]) == (graph.runs[:1], graph.runs[1:])
    assert proposal["marks"][0]["declaration"] == 'opaque=["$.incident"]'


def test_why_and_doctor_name_the_field_the_mark_and_the_tokens(graph: Graph) -> None:
    tokens = graph.json("generalise")["proposals"][0]["tokens"]
    advice = f'opaque=["$.incident"] of the agent would have saved {tokens:,} tokens in 3 of its'
    assert advice in " ".join(graph.ask("why").stdout.split())
    assert graph.json("why")["proposal"]["tokens"] == tokens
    where = f"--namespace {graph.namespace}"
    assert f": execgraph generalise --store {graph.url} {where}\n" in graph.ask("why").stdout
    found = {it["about"]: it for it in graph.json("doctor")}
    assert found["values"]["level"] == "warning"
    assert f"triage: {advice}" in found["values"]["says"]
    assert f"`execgraph generalise --store {graph.url} {where}`" in found["values"]["remedy"]


def test_an_unknown_agent_is_an_error_and_an_empty_namespace_is_told(graph: Graph) -> None:
    unknown = graph.ask("generalise", "--agent", "nobody")
    assert isinstance(unknown.exception, ExecutionUnknown)  # which ``main`` makes exit code 1
    assert graph.ask("generalise", "--runs", "0").exit_code == 2
    graph.namespace = "elsewhere"
    said = graph.ask("generalise")
    assert said.exit_code == 0
    assert "elsewhere" in said.stdout or "Nothing is recorded yet." in said.stdout


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    assert CliRunner().invoke(cli.app, ["generalise", "--store", url]).exit_code == 1
    assert list(tmp_path.iterdir()) == []
