"""``execgraph approve`` and ``execgraph reject``, on real stores; and what docs/trust.md shows."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import execgraph
from execgraph.adapters import cli
from execgraph.adapters.messages_api import Answer, text
from execgraph.graphstore.model import ExecutionState
from execgraph.tests.conformance.samples import guard, published, sample_recording
from execgraph.tests.stores import opened

from .examples import said_by_the_example_of

PAGE = (Path(execgraph.__file__).parent / "docs" / "trust.md").read_text(encoding="utf-8")


class Runs:
    """Of one task: a run that waits, and two traces that have the same answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = f"test-{uuid.uuid4().hex}"

    async def fill(self) -> None:
        async with opened(self.url, self.namespace) as store:
            waits = sample_recording(number=1, says="waits", state=ExecutionState.UNPUBLISHED)
            await published(store, waits, approved=False)
            other = [guard(self.namespace, "acl:a", 1)]
            for number, guards in ((2, ()), (3, other)):
                await published(store, sample_recording(number=number, guards=guards))

    def ask(self, command: str, *arguments: str) -> Result:
        where = ["--store", self.url, "--namespace", self.namespace]
        return CliRunner().invoke(cli.app, [command, *arguments, *where])

    def state(self, execution: str) -> str:
        async def read() -> str:
            async with opened(self.url, self.namespace) as store:
                found = await store.execution(execution)
                assert found is not None
                return found.execution.state

        return asyncio.run(read())


@pytest.fixture
def runs(url: str) -> Runs:
    made = Runs(url)
    asyncio.run(made.fill())
    return made


def test_approve_makes_a_trace_and_may_be_repeated(runs: Runs) -> None:
    for _ in range(2):
        run = runs.ask("approve", "deploy-1")
        assert run.exit_code == 0, run.output
        assert run.stdout.startswith("Approved")
    assert runs.state("deploy-1") == "published"
    assert json.loads(runs.ask("approve", "deploy-1", "--json").stdout) == {"approved": "deploy-1"}


def test_reject_tells_what_is_rejected_with_it(runs: Runs) -> None:
    run = runs.ask("reject", "deploy-2", "--reason", "wrong region")
    assert run.exit_code == 0, run.output
    assert "deploy-2 serves nobody any more" in run.stdout
    assert "1 other run (deploy-3)" in run.stdout
    assert runs.state("deploy-3") == "rejected"
    told = json.loads(runs.ask("reject", "deploy-2", "--reason", "very wrong", "--json").stdout)
    assert told == {"rejected": ["deploy-2"], "reason": "very wrong"}


def test_what_was_rejected_is_approved_by_word_only(runs: Runs) -> None:
    runs.ask("reject", "deploy-2", "--reason", "wrong region")
    refused = runs.ask("approve", "deploy-2")
    where = f"--store {runs.url} --namespace {runs.namespace}"
    assert f"`execgraph approve deploy-2 --overrule {where}`" in str(refused.exception)
    assert refused.exit_code == 1
    assert "wrong region" in str(refused.exception)
    assert runs.ask("approve", "deploy-2", "--overrule").exit_code == 0
    assert runs.state("deploy-2") == "published"


def test_a_rejection_needs_a_reason(runs: Runs) -> None:
    assert runs.ask("reject", "deploy-2").exit_code == 2
    assert runs.state("deploy-2") == "published"


def test_an_unknown_run_is_told(runs: Runs) -> None:
    for arguments in (["approve", "never"], ["reject", "never", "--reason", "wrong"]):
        run = runs.ask(*arguments)
        assert run.exit_code == 1
        assert "there is no execution 'never'" in str(run.exception)


def test_stats_count_what_waits_and_what_is_rejected(runs: Runs) -> None:
    runs.ask("reject", "deploy-2", "--reason", "wrong region")
    told = json.loads(runs.ask("stats", "--json").stdout)
    assert (told["traces"], told["unapproved"], told["rejected"]) == (0, 1, 2)


def test_the_example_accepts_approves_and_rejects(tmp_path: Path) -> None:
    said = said_by_the_example_of(PAGE, tmp_path, lambda body: Answer([text("Hello Ann.")]))
    assert said.splitlines() == [
        "accepted: True",
        "not approved -> live",
        "approved -> replay",
        "live -> rejected",
        "True",
    ]
