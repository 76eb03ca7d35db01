"""scripts/bench/workload: what it finds, and that it would say so if something were wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from pydantic import BaseModel

from execgraph import Engine
from execgraph.adapters.anthropic.events import EventReader, StreamedMessage, as_message
from execgraph.scripts.bench import workload as command
from execgraph.scripts.bench.recorded.drive import Driver
from execgraph.scripts.bench.recorded.foreseen import Rest, changed, start, unseen
from execgraph.scripts.bench.recorded.play import Domain, Edit, Once
from execgraph.scripts.bench.recorded.size import Size
from execgraph.scripts.bench.recorded.tools import Desk, _RealDesk
from execgraph.scripts.bench.recorded.trajectories import DOMAINS, Workload, chosen, unknown

FEW = 6
# Some were recorded with models that the SDK calls outdated by now.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = command.main(["--json", "--limit", str(FEW), *arguments])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("store", ["sqlite", pytest.param("neo4j", marks=pytest.mark.neo4j)])
def test_real_policy_edits_cost_what_the_texts_say(
    workload: Workload,
    store: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if store == "neo4j":
        request.getfixturevalue("neo4j_uri")
    code, told = found(capsys, "--store", store, "--domain", "airline")
    it = told[store]["airline"]
    assert (code, it["wrong"]) == (0, [])
    assert [edit["after"] for edit in it["edits"]] == [
        policy.id for policy in workload.policies("airline")
    ][1:]
    asked = [edit["asked"][0] for edit in it["edits"]]
    assert 0 < max(asked) < it["first"]["model_calls"]
    # ... which says something only because edits differ in what they cost.
    assert len(set(asked)) > 1
    assert it["returned"]["asked"] == [0, 0]


def test_tools_that_were_never_published_give_what_was_recorded(
    workload: Workload, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = found(capsys, "--store", "sqlite", "--domain", "airline-v1")
    it = told["sqlite"]["airline-v1"]
    assert (code, it["wrong"]) == (0, [])
    assert it["first"]["outputs_as_recorded"] == it["outputs"] > 0
    assert it["second"]["outputs_as_recorded"] == it["outputs"]
    assert it["databases"].startswith("none")
    assert it["tokens"].startswith("estimated")


async def test_raw_bytes_are_those_of_the_requests_and_replies(
    workload: Workload, tmp_path: Path
) -> None:
    some = chosen(workload.trajectories, FEW)
    seen = 0

    async def note(response: Any) -> None:
        nonlocal seen
        message = StreamedMessage()  # as JSON, whichever way it came
        for event in EventReader(response.headers, unpacked=True).feed(await response.aread()):
            message.add(event)
        seen += len(response.request.content.replace(b',"stream":true', b""))
        reply = as_message(message.message)
        seen += len(json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode())

    http = DefaultAsyncHttpxClient(event_hooks={"response": [note]})
    with Driver.server(some) as server:
        async with (
            AsyncAnthropic(base_url=server.url, api_key="local", http_client=http) as client,
            Engine(f"sqlite:///{tmp_path / 'graph.db'}") as engine,
        ):
            driver = Driver(engine, workload, some, server, client)
            await driver.tell(start(workload, some))
            done = await driver.drive()
    assert done.raw_bytes == seen > 0


def test_a_turn_is_asked_only_for_what_no_policy_has_said_of_it() -> None:
    first = {"(preamble)": "Be kind.", "Cancel": "Within a day.", "Book": "Always."}
    cancel_edited = first | {"Cancel": "Never."}
    turns = [
        Rest("a", 0, frozenset({"(preamble)", "Cancel"})),
        Rest("a", 3, frozenset({"(preamble)", "Book"})),
        Rest("b", 1, frozenset({"(preamble)", "Refund"})),
    ]
    assert unseen(turns, [first], cancel_edited) == {"a": [0]}
    assert unseen(turns, [first, cancel_edited], first) == {}
    assert unseen(turns, [first], first | {"Refund": "No."}) == {"b": [1]}
    assert unseen(turns, [first], first | {"(preamble)": "Be brief."}) == {"a": [0, 3], "b": [1]}
    assert changed(first, {"(preamble)": "Be kind.", "Cancel": "Never."}) == ["Book", "Cancel"]


# A database that is put back --------------------------------------------------------------


class Person(BaseModel):
    name: str
    cards: list[str]


class People(BaseModel):
    people: dict[str, Person]


@pytest.fixture
def people() -> People:
    return People(
        people={name: Person(name=name, cards=["1"]) for name in ("Ada", "Ben", "Cy")},
    )


@pytest.fixture
def desk(people: People) -> Desk:
    return _RealDesk(SimpleNamespace(db=people))


def test_a_desk_that_nobody_changed_anything_at_says_always_the_same(
    desk: Desk, people: People
) -> None:
    untouched = desk.close()
    assert [person.name for person in people.people.values()] == ["Ada", "Ben", "Cy"]
    assert people.people["Ada"].cards == ["1"]
    assert desk.close() == untouched
    desk.check()


def test_whatever_a_conversation_changes_is_seen_and_taken_back(desk: Desk, people: People) -> None:
    first = people.model_dump()
    seen = [desk.close()]
    for change in (
        lambda: people.people["Ada"].cards.append("2"),
        lambda: people.people["Ben"].cards.append("2"),
        lambda: [person.cards.pop() for person in people.people.values()],
        lambda: people.people.pop("Cy"),
        lambda: people.people.__setitem__("Dan", Person(name="Dan", cards=[])),
        lambda: setattr(people.people.get("Cy"), "name", "Cyril"),
    ):
        change()
        seen.append(desk.close())
        assert people.model_dump() == first
        desk.check()
    assert len(set(seen)) == len(seen)


def test_a_change_that_was_not_seen_is_an_error(desk: Desk, people: People) -> None:
    dict.__getitem__(people.people, "Ada").cards.append("2")
    desk.close()
    with pytest.raises(RuntimeError, match="nobody saw"):
        desk.check()


# Where there is nothing to drive, or something is wrong -------------------------------------


def test_without_the_data_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXECGRAPH_WORKLOAD", str(tmp_path / "nowhere"))
    assert command.main(["--store", "sqlite"]) == 2
    told = capsys.readouterr().err
    assert str(tmp_path / "nowhere") in told
    assert "EXECGRAPH_WORKLOAD" in told
    assert "docs/workload.md" in told


def domain(**other: Any) -> Domain:
    """What came out where all is well, but for ``other``."""
    size = Size(1_000_000, "the file on disk", {})
    edit = Edit("p1", "p2", ["Cancel"], (2, 20), (2, 20), True, (3, 30), (7, 70))
    well = Domain(
        trajectories=2,
        skipped={},
        turns=7,
        outputs=3,
        tokens="as recorded",
        tokens_written_down=70,
        raw_bytes=10_000_000,
        first=Once(7, 70, 0, 3, 1.0, size),
        second=Once(0, 0, 2, 3, 0.1, size),
        databases="equal",
        relative_size=0.1,
        edits=[edit],
        returned=None,
    )
    return dataclasses.replace(well, **other)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"turns": 8}, "asked 7 times, not once for each of the 8 turns"),
        ({"tokens_written_down": 69}, "billed 70 tokens, 69 were written down"),
        ({"second": dataclasses.replace(domain().second, model_calls=1)}, "second pass asked 1"),
        ({"second": dataclasses.replace(domain().second, identical=1)}, "1 second runs are not"),
        ({"databases": "DIFFERENT"}, "the databases differ"),
        ({"relative_size": 0.31}, "larger than 0.3"),
        ({"edits": [dataclasses.replace(domain().edits[0], as_texts_say=False)]}, "p1 -> p2"),
        ({"returned": dataclasses.replace(domain().edits[0], as_texts_say=False)}, "p1 -> p2"),
    ],
)
def test_what_is_wrong_is_told(other: dict[str, Any], told: str) -> None:
    assert domain().wrong() == []
    [wrong] = domain(**other).wrong()
    assert told in wrong


def test_neo4j_alone_needs_a_neo4j(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NEO4J_URI", raising=False)
    assert command.main(["--store", "neo4j"]) == 2
    assert "scripts/neo4j start" in capsys.readouterr().err


def test_a_text_that_was_tampered_with_is_not_taken_for_a_real_edit(
    workload: Workload, tmp_path: Path
) -> None:
    known = json.loads((workload.folder / "policies.json").read_text(encoding="utf-8"))
    policy = workload.policies("airline")[1].id
    known[policy]["text"] = known[policy]["text"].replace("the", "that", 1)
    (tmp_path / "policies.json").write_text(json.dumps(known), encoding="utf-8")
    with pytest.raises(ValueError, match=policy):
        dataclasses.replace(workload, folder=tmp_path).policies("airline")


def test_what_nothing_can_drive_is_counted(workload: Workload) -> None:
    assert not set(unknown(workload.folder)) & set(DOMAINS)
