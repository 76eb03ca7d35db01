"""What the demo's agent works on: real files, real processes, and a scripted model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from execgraph.adapters.demo.brain import answer
from execgraph.adapters.demo.naive import NaiveCache
from execgraph.adapters.demo.world import Effects, World

TASK = {"service": "checkout", "version": "2.4.1", "target": "eu-west-1"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with World() as made:
        yield made
    assert list(tmp_path.iterdir()) == []


def deploy(world: World, version: str, key: str) -> None:
    world.build("checkout", version, f"build {key}")
    world.deploy("checkout", version, "eu-west-1", f"deploy {key}")


def test_a_deployed_service_answers_with_its_version(world: World) -> None:
    deploy(world, "1.0.0", "a")
    assert world.health("checkout").model_dump() == {
        "service": "checkout",
        "version": "1.0.0",
        "status": "ok",
    }
    deploy(world, "1.0.1", "b")
    assert world.health("checkout").version == "1.0.1"
    assert world.effects == Effects(2, 2)
    assert world.worked_ms > 0


def test_a_request_seen_before_is_not_performed_again(world: World) -> None:
    for _ in range(3):
        deploy(world, "1.0.0", "a")
    assert world.effects == Effects(1, 1)


def test_outputs_are_the_same_each_time(world: World) -> None:
    outputs = [
        (world.lookup("checkout"), world.access("prod/deploy"), world.build("checkout", "1", key))
        for key in "abc"
    ]
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_service_that_was_never_deployed_does_not_answer(world: World) -> None:
    with pytest.raises(OSError, match="refused"):
        world.health("checkout")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("checkout", "9.9.9", "eu-west-1"), r"no release 9\.9\.9"),
        (("checkout", "1.0.0", "mars"), "no target 'mars'"),
        (("nonsense", "1.0.0", "eu-west-1"), "no service 'nonsense'"),
        (("checkout", "../../..", "eu-west-1"), "does not name a release"),
    ],
)
def test_what_cannot_be_deployed_is_refused(
    world: World, arguments: tuple[str, str, str], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        world.deploy(*arguments, key="a")
    assert world.effects == Effects(0, 0)


def test_the_rule_on_disk_decides(world: World) -> None:
    allowed = world.document("acl:prod/deploy")
    assert world.access("prod/deploy").allowed
    world.write("acl:prod/deploy", world.edited("acl:prod/deploy", allow=["on-call"]))
    assert not world.access("prod/deploy").allowed
    assert world.document("acl:prod/deploy") != allowed
    world.write("acl:prod/deploy", allowed)
    assert world.access("prod/deploy").allowed


def test_a_migration_changes_the_registry_and_its_schema(world: World) -> None:
    found = world.lookup("checkout")
    before = world.document("schema:services")["columns"]
    world.migrate(pager="TEXT")
    world.migrate(runtime="VARCHAR")
    after = world.document("schema:services")["columns"]
    assert after == before | {"pager": {"type": "TEXT"}, "runtime": {"type": "VARCHAR"}}
    assert world.lookup("checkout") == found


def test_what_the_tools_did_is_what_a_cache_does_again(world: World) -> None:
    cache = NaiveCache(world)
    deploy(world, "2.4.1", "a")
    cache.keep(TASK, world.calls, "done")
    assert cache.execute(TASK) == "done"
    assert world.effects == Effects(2, 2)
    with pytest.raises(KeyError):
        cache.execute({"service": "another"})


# The scripted model


def conversation(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    """A task and tools that were called, each with what it gave; text is an error."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": f"Task: {json.dumps(TASK)}"}]
    for number, (tool, output) in enumerate(turns):
        used = {"type": "tool_use", "id": f"toolu_{number}", "name": tool, "input": {}}
        result = {
            "type": "tool_result",
            "tool_use_id": used["id"],
            "content": output if isinstance(output, str) else json.dumps(output),
            "is_error": isinstance(output, str),
        }
        messages += [
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [result]},
        ]
    return messages


def says(*turns: tuple[str, Any]) -> tuple[str, str | None]:
    """The text of the answer, and the tool it calls."""
    content = answer({"messages": conversation(*turns)}).content
    return content[0]["text"], content[1]["name"] if len(content) > 1 else None


FOUND = ("lookup_service", {"name": "checkout", "owner": "payments", "runtime": "python3"})


def test_the_model_looks_first() -> None:
    assert says()[1] == "lookup_service"


def test_the_model_builds_what_it_may_deploy() -> None:
    access = ("check_access", {"allowed": True, "reason": "listed"})
    assert says(FOUND, access)[1] == "build_release"


def test_the_model_stops_at_a_rule_that_forbids() -> None:
    words, tool = says(FOUND, ("check_access", {"allowed": False, "reason": "not listed"}))
    assert tool is None
    assert "did not deploy" in words
    assert "not listed" in words


def test_the_model_reports_an_error_and_stops() -> None:
    words, tool = says(("lookup_service", "there is no service 'checkout'"))
    assert tool is None
    assert "lookup_service failed with: there is no service" in words
