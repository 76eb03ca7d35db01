"""``execgraph approvals``, ``approve`` and ``deny``, on both stores."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import uuid
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from execgraph import Acl, AwaitingApproval, ConfigurationError, Engine, ExecutionUnknown
from execgraph.adapters import cli


class Desk:
    """A program that waits for people, and the command line of one of them."""

    def __init__(self, url: str) -> None:
        self.url, self.namespace = url, f"test-{uuid.uuid4().hex[:12]}"
        self.done: list[str] = []
        self.told = ""

    def run(self, *arguments: str) -> Result:
        """What a command gives."""
        where = ("--store", self.url, "--namespace", self.namespace)
        return CliRunner().invoke(cli.app, [*arguments, *where])

    def ask(self) -> str:
        """Do the task; the id of what it waits for, or what it gave."""
        engine = Engine(self.url, namespace=self.namespace)

        @engine.tool(effect="confirm", requires=[Acl("ship")])
        def ship(service: str, token: str = "") -> str:
            """Ship a service."""
            self.done.append(service)
            return "shipped"

        with engine.sync() as e:
            e.observe("acl:ship", {"rule": 1, "token": "xyzzy"})
            try:
                with e.run("shipper", {"n": 1}) as run:
                    run.output = run.act(ship, service="shop", token="swordfish").value
            except AwaitingApproval as waiting:
                self.told = str(waiting)
                return waiting.approval_id
            return str(run.result.output)


@pytest.fixture
def desk(url: str) -> Desk:
    return Desk(url)


def test_what_waits_is_listed_and_approved(desk: Desk) -> None:
    id_ = desk.ask()
    listed = desk.run("approvals")
    assert listed.exit_code == 0
    for told in (id_, 'ship {"service": "shop", "token": "hidden"}', "for shipper", '{"n": 1}'):
        assert told in listed.stdout
    assert 'rests on acl:ship (version 1): {"rule": 1, "token": "hidden"}' in listed.stdout
    [document] = json.loads(desk.run("approvals", "--json").stdout)
    assert (document["id"], document["tool"], document["in_doubt"]) == (id_, "ship", [])
    assert f"asked by the run {document['execution_id']}" in listed.stdout
    approved = desk.run("approve", id_, "--by", "ann")
    assert (approved.exit_code, desk.done) == (0, [])
    assert "approved by ann" in approved.stdout
    nothing = desk.run("approvals")
    assert "Nothing waits" in nothing.stdout
    assert nothing.stderr == ""
    assert (desk.ask(), desk.done) == ("shipped", ["shop"])
    assert desk.ask() != id_, "it was good for one"
    assert desk.done == ["shop"]


def test_what_the_error_names_approves_it(desk: Desk) -> None:
    desk.ask()
    [command] = re.findall(r"`execgraph ([^`]+)`", desk.told)
    approved = CliRunner().invoke(cli.app, shlex.split(command))
    assert approved.exit_code == 0, approved.output
    assert (desk.ask(), desk.done) == ("shipped", ["shop"])


def test_so_does_what_why_names_as_the_remedy(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = desk.ask()
    monkeypatch.setenv("COLUMNS", "400")
    [command] = re.findall(r"`execgraph (approvals [^`]+)`", desk.run("why").stdout)
    assert id_ in CliRunner().invoke(cli.app, shlex.split(command)).stdout


def test_a_mistyped_id_may_be_that_of_an_approval(desk: Desk) -> None:
    id_ = desk.ask()
    unknown = desk.run("approve", "nope")
    assert isinstance(unknown.exception, ExecutionUnknown)
    commands = re.findall(r"`execgraph ([^`]+)`", str(unknown.exception))
    assert [it.split()[0] for it in commands] == ["runs", "approvals"]
    assert id_ in CliRunner().invoke(cli.app, shlex.split(commands[1])).stdout
    assert "approvals" not in str(desk.run("reject", "nope", "--reason", "wrong").exception)


def test_the_first_answer_stays_and_the_other_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    id_ = desk.ask()
    denied = desk.run("deny", id_, "--reason", "not on a Friday", "--by", "bob", "--json")
    kept: dict[str, Any] = json.loads(denied.stdout)
    assert (kept["state"], kept["by"], kept["reason"]) == ("denied", "bob", "not on a Friday")
    where = ("--store", desk.url, "--namespace", desk.namespace)
    for arguments, told in (
        (("approve", id_), "was denied by bob"),
        (("approve", "approval-x"), "there is no approval 'approval-x'"),
    ):
        monkeypatch.setattr("sys.argv", ["execgraph", *arguments, *where])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        assert told in capsys.readouterr().err
    assert desk.done == []


def test_nothing_in_a_mistyped_namespace_waits_which_is_told(desk: Desk) -> None:
    desk.ask()
    known, desk.namespace = desk.namespace, "mistyped"
    said = desk.run("approvals")
    assert (said.exit_code, said.stdout) == (0, "Nothing waits for an answer.\n")
    assert "nothing in the namespace 'mistyped'; in this store are: " in said.stderr
    if desk.url.startswith("sqlite"):  # a store that many share has more than are named
        assert said.stderr.endswith(f": '{known}'\n")


def test_the_beginning_of_an_id_is_enough_if_no_other_begins_so(desk: Desk) -> None:
    id_ = desk.ask()
    for nothing in ("", "approval-", "approval", id_.removeprefix("approval-")[:9]):
        for command in ("approve", "deny"):
            assert desk.run(command, nothing).exit_code != 0, (command, nothing)
    assert id_ in desk.run("approvals").stdout, "nobody has answered"

    async def ask_another() -> None:
        async with Engine(desk.url, namespace=desk.namespace) as engine:
            store = engine.session().store
            kept = await store.approval(id_)
            assert kept is not None
            other = kept.model_copy(update={"id": f"{id_[:-1]}x", "digest": "other"})
            await store.request(other, timedelta(days=1))
            assert await engine.deny(other.id[:-1] + "x") is not None

    asyncio.run(ask_another())
    for command in ("approve", "deny"):
        several = desk.run(command, id_[:-1])
        assert isinstance(several.exception, ConfigurationError)
        assert "beginning of several" in str(several.exception), "also of what is answered"
    answered = desk.run("approve", id_, "--by", "ann")
    assert "approved by ann" in answered.stdout
    again = Desk(desk.url)
    id_ = again.ask()
    assert "approved by bob" in again.run("approve", id_[:20], "--by", "bob").stdout
    assert (again.ask(), again.done) == ("shipped", ["shop"])
