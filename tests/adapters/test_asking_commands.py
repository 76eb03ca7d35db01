"""``execgraph why``, ``impact`` and ``stats``, on a graph that an agent left in a real store."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from typer.testing import CliRunner, Result

from execgraph import Acl, ConfigurationError, Engine, StoreUnavailable
from execgraph.adapters import cli
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text

_DOCUMENTS = {"acl:deploy": {"rule": "allow"}, "acl:[release]": {"rule": "allow", "note": "x"}}


def brain(body: dict[str, Any]) -> Answer:
    turn = len(body["messages"]) // 2
    if turn == 2:
        return Answer([text("Done.")])
    return Answer([call(("deploy", "release")[turn], {"service": "checkout"})])


@dataclass
class Graph:
    """Where the graph is, and the ids of the runs in it: recorded, replayed, asked in part."""

    url: str
    namespace: str
    runs: list[Any]

    def ask(self, *arguments: str, stdin: str | None = None) -> Result:
        where = ["--store", self.url, "--namespace", self.namespace]
        return CliRunner().invoke(cli.app, [*arguments, *where], input=stdin)

    def json(self, *arguments: str, stdin: str | None = None) -> Any:
        run = self.ask(*arguments, "--json", stdin=stdin)
        assert run.exit_code == 0, run.output
        return json.loads(run.stdout)


@pytest.fixture
def graph(url: str) -> Iterator[Graph]:
    engine = Engine(url, namespace=f"test-{uuid.uuid4().hex[:12]}")

    @engine.tool(effect="write", requires=[Acl("deploy", "$.rule")])
    def deploy(service: str) -> str:
        """Deploy."""
        return f"deployed {service}"

    @engine.tool(effect="write", requires=[Acl("[release]", "$.rule")])
    def release(service: str) -> str:
        """Release."""
        return f"released {service}"

    with MessagesServer(brain) as server:
        client = AsyncAnthropic(base_url=server.url, api_key="local")
        agent = engine.agent("deployer", model="m", client=client, tools=[deploy, release])
        with engine.sync() as e:
            runs = e.agent(agent)
            for uri, document in _DOCUMENTS.items():
                e.observe(uri, document)
            found = [runs.execute({"service": "checkout"}) for _ in range(2)]
            e.observe("acl:[release]", {"rule": "ask"})
            found.append(runs.execute({"service": "checkout"}))
            e.settle()
            yield Graph(url, engine.namespace, found)


# why --------------------------------------------------------------------------------------


def test_why_tells_the_newest_run_with_the_path_from_the_change_to_the_step(graph: Graph) -> None:
    told = graph.json("why")
    assert told["execution"] == graph.runs[2].execution_id
    assert [step["fate"] for step in told["steps"]] == [
        *("served", "run again", "asked", "run again", "served")
    ]
    cause = told["steps"][2]["cause"]
    assert (cause["resource"], cause["selector"]) == ("acl:[release]", "$.rule")
    assert cause["change"]["kind"] == "changed"
    [as_changes_tells_it] = graph.json("changes", "--limit", "1")
    assert cause["change"] == as_changes_tells_it
    for moment in (told["started_at"], cause["change"]["at"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", moment)
    shown = graph.ask("why").stdout
    for part in (
        "acl:[release] $.rule",
        cause["change"]["id"],
        cause["before"][:12],
        f"{told['execution']}/2",
        "precondition changed",
        "asked",
    ):
        assert part in " ".join(shown.split()), shown


def test_why_shows_the_documents_of_a_change(graph: Graph) -> None:
    diff = graph.json("why", "--diff")["steps"][2]["cause"]["diff"]
    assert (diff["before"], diff["after"]) == ({"rule": "allow"}, {"rule": "ask"})
    assert graph.json("why")["steps"][2]["cause"]["diff"] is None
    shown = graph.ask("why", "--diff").stdout
    assert re.search(r'-  "rule": "allow"\n.*\+  "rule": "ask"', shown), shown
    assert "acl:[release] $.rule, version 1 -> 2" in shown
    assert "version 1 -> 2\n" not in graph.ask("why").stdout


def test_why_of_a_new_task_names_the_nearest(graph: Graph) -> None:
    with (
        MessagesServer(lambda _: Answer([text("done")])) as server,
        Engine(graph.url, namespace=graph.namespace).sync() as e,
    ):
        client = AsyncAnthropic(base_url=server.url, api_key="local")
        e.agent("deployer", model="m", client=client).execute({"service": "billing\x1b[31m"})
    shown = graph.ask("why", "--diff").stdout
    assert "nearest  " in shown
    assert 'differs  $.service: "checkout" -> "billing' in shown
    assert "opaque=['$.service']" in shown
    assert "\x1b" not in shown


def test_why_of_a_run_by_id(graph: Graph) -> None:
    told = graph.json("why", graph.runs[1].execution_id)
    assert {step["fate"] for step in told["steps"]} == {"served", "run again"}
    assert told["misses"] == []
    heading = graph.ask("why", graph.runs[1].execution_id).stdout.splitlines()[1]
    assert heading.startswith("replay, 2"), "that a replay is not published is no news"
    assert graph.ask("why").stdout.splitlines()[1].startswith("partial, published, 2")
    assert graph.json("why", "--agent", "deployer")["execution"] == graph.runs[2].execution_id


def test_why_of_what_is_not_there(graph: Graph) -> None:
    for arguments in (["why", "nonsense"], ["why", "--agent", "nobody"]):
        run = graph.ask(*arguments)
        assert run.exit_code == 1
        assert f"no execution {'of the agent ' * (len(arguments) > 2)}'" in str(run.exception)
        [named] = re.findall(r"`execgraph ([^`]+)`", str(run.exception))
        as_told = CliRunner().invoke(cli.app, [*shlex.split(named), "--json"])
        listed = {it["execution"] for it in json.loads(as_told.stdout)["runs"]}
        assert listed == {run.execution_id for run in graph.runs}
    assert graph.ask("why", "nonsense", "--agent", "deployer").exit_code == 2


# stats ------------------------------------------------------------------------------------


def test_stats(graph: Graph) -> None:
    told = graph.json("stats")
    assert (told["hits"], told["partial"], told["live"]) == (1, 1, 1)
    assert told["tokens"] == sum(run.tokens for run in graph.runs)
    assert sum(told["misses"].values()) == told["tokens"]
    assert set(told["missed_calls"]) == {"new task", "precondition changed"}
    assert told["agents"]["deployer"]["tokens"] == told["tokens"]
    shown = graph.ask("stats", "--since", "7d").stdout
    assert "33.3%" in shown
    assert "precondition changed" in shown
    assert graph.ask("stats", "--since", "soon").exit_code == 2


# impact -----------------------------------------------------------------------------------


def test_impact_of_a_document(graph: Graph, tmp_path: Path) -> None:
    document = tmp_path / "rule.yaml"
    document.write_text("rule: deny\n")
    told = graph.json("impact", "acl:deploy", str(document))
    assert told["tokens"] == graph.runs[0].steps[0].tokens > 0
    assert told["fallen"] == [graph.runs[2].execution_id], "the first one fell before"
    assert told == graph.json("impact", "acl:deploy", "-", stdin='{"rule": "deny"}')
    shown = graph.ask("impact", "acl:deploy", str(document)).stdout
    assert f"{told['tokens']:,} tokens" in " ".join(shown.split())
    assert f"1 resource differs; {len(told['invalid'])} steps would" in shown
    assert "; 1 trace would fall" in shown
    assert "the next run of 1 task would" in shown
    assert "acl:deploy $.rule" in shown


def test_impact_of_a_withdrawal_an_equal_and_an_unknown_document(graph: Graph) -> None:
    assert graph.json("impact", "acl:deploy", "--withdrawn")["tokens"] > 0
    same = json.dumps(_DOCUMENTS["acl:deploy"])
    assert graph.json("impact", "acl:deploy", "-", stdin=same)["facets"] == []
    unknown = graph.json("impact", "acl:unknown", "-", stdin=same)
    assert unknown["tokens"] == 0
    assert "acl:unknown" in unknown["hints"][0]


def test_impact_fails_beyond_the_tokens_allowed(graph: Graph) -> None:
    cost = graph.json("impact", "acl:deploy", "--withdrawn")["tokens"]
    asked = ["impact", "acl:deploy", "--withdrawn", "--max-tokens"]
    assert graph.ask(*asked, str(cost)).exit_code == 0
    beyond = graph.ask(*asked, str(cost - 1), "--json")
    assert beyond.exit_code == 1
    assert "--max-tokens" in beyond.stderr
    assert json.loads(beyond.stdout)["tokens"] == cost, "JSON stays JSON"


def test_a_gate_that_looks_at_nothing_is_an_error(graph: Graph, trees: Trees) -> None:
    with Engine(graph.url, namespace=graph.namespace).sync() as engine:
        engine.observe("acl:idle", {"rule": "allow"})
    gate = ["--withdrawn", "--max-tokens", "0"]
    assert graph.json("impact", "acl:idle", *gate)["tokens"] == 0, "known, and nothing rests on it"
    unknown = graph.ask("impact", "acl:dpeloy", *gate)
    assert isinstance(unknown.exception, ConfigurationError)
    assert "nobody observed acl:dpeloy" in str(unknown.exception)
    trees.write("new.yaml", "rule: allow")
    assert graph.json(*trees.arguments, "--max-tokens", "0")["tokens"] == 0, "one file is new"
    trees.config.write_text(_CONFIG.replace('"acl:', '"alc:'))
    mistyped = graph.ask(*trees.arguments, "--max-tokens", "0")
    assert isinstance(mistyped.exception, ConfigurationError)
    assert "nobody observed alc:[release], alc:deploy, alc:new, and" in str(mistyped.exception)
    assert graph.ask(*trees.arguments).exit_code == 0


def test_impact_in_a_mistyped_namespace_is_told_and_no_gate(graph: Graph, trees: Trees) -> None:
    graph.namespace += "x"
    told = f"there is nothing in the namespace '{graph.namespace}'; in this store are: "
    for asked in (["impact", "acl:deploy", "--withdrawn"], trees.arguments):
        said = graph.ask(*asked)
        assert (said.exit_code, said.stderr.startswith(told)) == (0, True), said.output
        gate = graph.ask(*asked, "--max-tokens", "0")
        assert isinstance(gate.exception, ConfigurationError)
        assert str(gate.exception).startswith(told)
        assert "check the name of the resource, --namespace and --store" in str(gate.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["acl:deploy"],
        ["acl:deploy", "-", "--withdrawn"],
        ["--from", "."],
        ["acl:deploy", "--from", ".", "--to", "."],
        ["--from", ".", "--to", "nowhere"],
        ["acl:deploy", "--withdrawn", "--max-tokens", "-1"],
    ],
)
def test_impact_used_wrongly(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli.app, ["impact", *arguments]).exit_code == 2


@pytest.mark.parametrize("text", ["{", "a: [", "", "null"])
def test_an_unreadable_document_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rule.json"
    path.write_text(text)
    store = ["--store", f"sqlite:///{tmp_path}/graph.db"]
    run = CliRunner().invoke(cli.app, ["impact", "acl:x", str(path), *store])
    assert "--withdrawn" in str(run.exception)
    assert CliRunner().invoke(cli.app, ["impact", "acl:x", f"{path}s", *store]).exit_code == 1


# impact of trees --------------------------------------------------------------------------

_CONFIG = """
[[source]]
glob = "acl/*.yaml"
resource = "acl:{path.stem}"
"""


@dataclass
class Trees:
    """The configuration as it is, as it would be, and what files are which resources."""

    before: Path
    after: Path
    config: Path

    @property
    def arguments(self) -> list[str]:
        return [
            "impact",
            *("--from", str(self.before), "--to", str(self.after), "--config", str(self.config)),
        ]

    def write(self, name: str, text: str) -> None:
        (self.after / "acl" / name).write_text(text)


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    for tree in ("before", "after"):
        (tmp_path / tree / "acl").mkdir(parents=True)
        for uri, document in _DOCUMENTS.items():
            name = uri.removeprefix("acl:")
            (tmp_path / tree / "acl" / f"{name}.yaml").write_text(json.dumps(document))
    (tmp_path / "execgraph.toml").write_text(_CONFIG)
    return Trees(tmp_path / "before", tmp_path / "after", tmp_path / "execgraph.toml")


def test_equal_trees_cost_nothing(graph: Graph, trees: Trees) -> None:
    trees.write("deploy.yaml", "# a comment\nrule: allow\n")
    told = graph.json(*trees.arguments, "--max-tokens", "0")
    assert (told["resources"], told["tokens"], told["notes"]) == ([], 0, [])


def test_trees_that_differ_cost_what_their_changes_cost_together(
    graph: Graph, trees: Trees
) -> None:
    trees.write("deploy.yaml", "rule: deny")
    trees.write("other.yaml", "rule: deny")
    (trees.after / "acl" / "[release].yaml").unlink()
    told = graph.json(*trees.arguments)
    assert told["resources"] == ["acl:[release]", "acl:deploy", "acl:other"]
    assert len(told["tasks"]) == 1, "a task is counted once"
    steps = graph.runs[0].steps
    assert told["tokens"] == steps[0].tokens + steps[2].tokens
    assert any("acl:other" in hint for hint in told["hints"])
    assert graph.ask(*trees.arguments, "--max-tokens", "10").exit_code == 1


def test_what_cannot_be_read_counts_as_withdrawn(graph: Graph, trees: Trees) -> None:
    trees.write("deploy.yaml", "rule: [")
    told = graph.json(*trees.arguments)
    assert told["resources"] == ["acl:deploy"]
    assert any("acl:deploy counts as withdrawn" in note for note in told["notes"])
    assert told["tokens"] == graph.json("impact", "acl:deploy", "--withdrawn")["tokens"]


def test_a_tree_that_cannot_be_listed_is_told_in_words(graph: Graph, trees: Trees) -> None:
    shutil.rmtree(trees.after / "acl")
    (trees.after / "acl").symlink_to("acl")
    run = graph.ask(*trees.arguments)
    assert isinstance(run.exception, ConfigurationError)
    assert f"{trees.after}/acl" in str(run.exception)


def test_trees_without_files_and_without_a_configuration(graph: Graph, trees: Trees) -> None:
    (trees.config).write_text(_CONFIG.replace("acl/*.yaml", "rules/*.yaml"))
    for more in ([], ["--max-tokens", "0", "--json"]):
        run = graph.ask(*trees.arguments, *more)
        assert isinstance(run.exception, ConfigurationError), "a gate that looks at nothing"
        assert f"match no file in {trees.before} and none in {trees.after}" in str(run.exception)
    trees.config.unlink()
    run = graph.ask(*trees.arguments)
    assert run.exit_code == 1
    assert "execgraph.toml" in str(run.exception)


# the store --------------------------------------------------------------------------------

READING = [
    ["why"],
    ["stats"],
    ["changes"],
    ["changes", "--follow"],
    ["walk"],
    ["walk", "--status"],
    ["cypher", "RETURN 1"],
    ["impact", "acl:x", "--withdrawn"],
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_store_that_is_not_there_is_not_made_by_asking(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXECGRAPH_STORE", "sqlite:///named.db")
    for options, path in (
        (["--store", "sqlite:///folder/given.db"], "folder/given.db"),
        ([], "named.db"),
    ):
        run = CliRunner().invoke(cli.app, [*arguments, *options])
        assert isinstance(run.exception, StoreUnavailable)
        assert f"there is no store at {tmp_path}/{path}; name it with --st" in str(run.exception)
    monkeypatch.setenv("EXECGRAPH_STORE", "")
    run = CliRunner().invoke(cli.app, arguments)
    assert f"there is no store at {tmp_path}/.execgraph/graph.db" in str(run.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_without_a_store_there_is_nothing_to_ask(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECGRAPH_MODE", "off")
    store = ["--store", f"sqlite:///{tmp_path}/graph.db"]
    run = CliRunner().invoke(cli.app, [*arguments, *store])
    assert isinstance(run.exception, ConfigurationError)
    assert "EXECGRAPH_MODE=off" in str(run.exception)
    assert run.stdout == ""


def test_changes_that_are_not_there_are_looked_for_somewhere(graph: Graph) -> None:
    run = graph.ask("changes", "--resource", "acl:unknown")
    assert (run.exit_code, run.stdout) == (0, "")
    where = f"in the namespace {graph.namespace!r} of {graph.url}"
    assert f"no changes of acl:unknown {where}" in run.stderr


def test_changes_of_what_names_no_resource_are_refused(graph: Graph) -> None:
    run = graph.ask("changes", "--resource", "unknown")
    assert isinstance(run.exception, ConfigurationError)
    assert "'unknown' does not name a resource" in str(run.exception)
