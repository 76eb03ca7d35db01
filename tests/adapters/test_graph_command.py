"""``execgraph graph`` in all its forms, with names that are hostile to each of them."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import networkx as nx
import pytest
from anthropic import AsyncAnthropic
from typer.testing import CliRunner, Result

from execgraph import (
    Acl,
    ConfigurationError,
    Engine,
    ExecutionUnknown,
    ResourceUnknown,
    TaskUnknown,
)
from execgraph.adapters import cli
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text

HOSTILE = 'a"] --> b\nend; \\" <i>`#35; |x| é\x1b[31m%%\\'
FORMS = ["dot", "mermaid", "graphml", "json", "text"]


def brain(body: dict[str, Any]) -> Answer:
    first = len(body["messages"]) == 1
    return Answer([call("deploy", {"service": HOSTILE})] if first else [text("Done.")])


@dataclass
class Left:
    """Where the graph is, the id of the run in it, and the same as networkx has it."""

    url: str
    namespace: str
    run: str
    graph: Any

    def ask(self, *arguments: str) -> Result:
        where = ["--store", self.url, "--namespace", self.namespace]
        return CliRunner().invoke(cli.app, ["graph", *arguments, *where])

    def printed(self, *arguments: str) -> str:
        run = self.ask(*arguments)
        assert run.exit_code == 0, run.output
        return run.stdout


@pytest.fixture
def left(url: str) -> Iterator[Left]:
    engine = Engine(url, namespace=f"test-{uuid.uuid4().hex[:12]}")

    @engine.tool(effect="write", requires=[Acl(HOSTILE, "$['\"']"), Acl(HOSTILE)])
    def deploy(service: str) -> str:
        """Deploy."""
        return "sk-payload"

    with MessagesServer(brain) as server, engine.sync() as e:
        client = AsyncAnthropic(base_url=server.url, api_key="local")
        e.observe(f"acl:{HOSTILE}", {'"': 1, "password": "sk-document"})
        run = e.agent("deployer", model="m", client=client, tools=[deploy]).execute("sk-task")
        yield Left(url, engine.namespace, run.execution_id, e.graph(run.execution_id))


def test_json_is_what_networkx_reads_again(left: Left) -> None:
    document = json.loads(left.printed("--format", "json"))
    again = nx.node_link_graph(document, edges="edges")
    assert dict(again.nodes(data=True)).keys() == dict(left.graph.nodes(data=True)).keys()
    assert again.nodes[left.run]["state"] == "published"
    assert sorted(again.edges(keys=True)) == sorted(left.graph.edges(keys=True))
    assert json.loads(left.printed(left.run, "--json")) == document


def test_graphml_is_what_networkx_reads_again(left: Left) -> None:
    printed = left.printed("--format", "graphml")
    again = nx.read_graphml(io.BytesIO(printed.encode()), force_multigraph=True)
    assert len(again) == len(left.graph)
    assert sorted(edge["type"] for _, _, edge in again.edges(data=True)) == sorted(
        kind for _, _, kind in left.graph.edges(keys=True)
    )
    [uri] = [it["uri"] for _, it in again.nodes(data=True) if it["label"] == "Resource"]
    assert uri == f"acl:{HOSTILE}".replace("\x1b", "\\x1b")
    ids = [it.get("id") for it in ET.fromstring(printed).iter() if "edge" in it.tag]
    assert len(set(ids)) == len(ids) == again.number_of_edges()


def test_dot_has_a_line_for_each_node_and_edge_and_strings_end_where_they_should(
    left: Left,
) -> None:
    string = r'"(?:[^"\\\n]|\\.)*"'
    lines = left.printed("--format", "dot").splitlines()
    assert (lines[0], lines[-1]) == ("digraph execgraph {", "}")
    nodes = [line for line in lines if re.fullmatch(rf"  {string} \[label={string}\];", line)]
    edges = [
        line for line in lines if re.fullmatch(rf"  {string} -> {string} \[label={string}\];", line)
    ]
    assert (len(nodes), len(edges)) == (len(left.graph), left.graph.number_of_edges())
    assert len(lines) == len(nodes) + len(edges) + 3


def test_mermaid_has_a_line_for_each_node_and_edge_with_nothing_of_its_syntax_in_names(
    left: Left,
) -> None:
    lines = left.printed("--format", "mermaid").splitlines()
    assert lines[0] == "flowchart LR"
    nodes = [line for line in lines if re.fullmatch(r'  n\d+\["(?:[\w ./:,-]|#\d+;)*"\]', line)]
    edges = [line for line in lines if re.fullmatch(r"  n\d+ -->\|[A-Z_]+\| n\d+", line)]
    assert (len(nodes), len(edges)) == (len(left.graph), left.graph.number_of_edges())
    assert len(lines) == len(nodes) + len(edges) + 1


def test_text_tells_each_node_on_a_line_of_its_own(left: Left) -> None:
    lines = left.printed().splitlines()
    for label in ("Task deployer", f"Execution {left.run}", "Step 1 action deploy valid"):
        assert any(label in line for line in lines), lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("form", FORMS)
def test_payloads_are_in_no_form(left: Left, form: str) -> None:
    for arguments in ((), ("--resource", f"acl:{HOSTILE}")):
        printed = left.printed(*arguments, "--format", form)
        assert "sk-" not in printed
        assert "deploy" in printed


@pytest.mark.parametrize("form", FORMS)
def test_a_resource_and_a_task_are_printed_in_every_form(left: Left, form: str) -> None:
    [task] = [key for key, label in left.graph.nodes(data="label") if label == "Task"]
    assert "PERFORMED" in left.printed("--task", task, "--format", form) or form == "text"
    assert "ChangeEvent" in left.printed("--resource", f"acl:{HOSTILE}", "--format", form)


def test_what_is_not_there_and_what_is_asked_twice(left: Left) -> None:
    for arguments, error in (
        (["nonsense"], ExecutionUnknown),
        (["--agent", "nobody"], ExecutionUnknown),
        (["--task", "nonsense"], TaskUnknown),
        (["--resource", "acl:nonsense"], ResourceUnknown),
        (["--resource", "nonsense"], ConfigurationError),
        (["--task", "one", "--resource", "acl:two"], ConfigurationError),
    ):
        run = left.ask(*arguments)
        assert run.exit_code == 1
        assert type(run.exception) is error
    assert left.ask("--json", "--format", "dot").exit_code == 2
    assert left.ask("--format", "png").exit_code == 2


def test_another_command_does_not_load_networkx(left: Left) -> None:
    code = f"""
import sys
from execgraph.adapters.cli import main
sys.argv = ["execgraph", "why", "--store", {left.url!r}, "--namespace", {left.namespace!r}]
try:
    main()
finally:
    print("networkx" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False"
