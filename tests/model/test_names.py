"""The model's steps are the stores' own: none is made up, and none is forgotten."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import execgraph
from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Expected, Span
from execgraph.graphstore.model import Wish, WishState, manifest, signature
from execgraph.graphstore.neo4j.client import Client
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import guard, sample_effect, sample_recording

from . import systems
from .checker import Isolation, explore
from .protocol import NEO4J, NOT_MODELLED, Rules, lookup
from .wishes import WishRules, calling_again

FILES = Path(execgraph.__file__).parent / "graphstore" / "neo4j"
#: The files whose statements decide what is replayed.
DECIDING = ("facts.cypher", "traces.cypher", "journal.cypher")


def names_in(*files: str) -> set[str]:
    """The names of all statements in these files."""
    text = "\n".join((FILES / file).read_text(encoding="utf-8") for file in files)
    return set(re.findall(r"^// name: (\w+)$", text, re.MULTILINE))


def run_by_the_model() -> set[str]:
    """The statements that the processes of the model run; ``clock`` is the time itself."""
    rules = Rules()
    every = (
        systems.withdrawing,
        systems.recording_late,
        systems.remembering,
        systems.beginning,
        systems.publishing,
        systems.rejecting,
        systems.approving,
        systems.collecting,
        systems.adding_late,
        systems.marking,
    )
    steps = Isolation.SERIALIZABLE  # which runs the same statements, in fewer states
    found = set().union(*(explore(build(rules, isolation=steps)).statements for build in every))
    found |= explore(systems.renewing(rules, "r", lookup, isolation=steps)).statements
    found |= explore(calling_again(WishRules(), isolation=steps)).statements
    return found - {"clock"}


def test_the_model_runs_statements_that_are_in_production() -> None:
    assert run_by_the_model() <= names_in(*(path.name for path in FILES.glob("*.cypher")))


def test_no_statement_that_decides_what_is_replayed_is_left_out() -> None:
    known = run_by_the_model() | NOT_MODELLED.keys()
    assert names_in(*DECIDING) - known == set(), (
        "a new statement: model it in tests/model/protocol.py, or say there why not"
    )
    assert NOT_MODELLED.keys() <= names_in(*DECIDING), "what is left out is there"
    assert not NOT_MODELLED.keys() & run_by_the_model()


def test_each_statement_has_a_name_of_its_own() -> None:
    texts = [path.read_text(encoding="utf-8") for path in FILES.glob("*.cypher")]
    names = re.findall(r"^// name: (\w+)$", "\n".join(texts), re.MULTILINE)
    assert sorted(names) == sorted(set(names)), "the later one would be run in place of both"


async def use(store: GraphStore, told: list[str]) -> dict[str, set[str]]:
    """What is ``told`` while each method that the model is about does all it can."""
    ran: dict[str, set[str]] = {}

    @contextmanager
    def during(method: str) -> Iterator[None]:
        told.clear()
        yield
        ran.setdefault(method, set()).update(told)

    for number in range(2):
        with during("change"):
            await store.change("acl:a", Document.of(number), until=timedelta(hours=1))
    with during("change"):  # an equal one
        await store.change("acl:a", Document.of(1), until=timedelta(hours=2))
    with during("renew"):
        await store.renew({"acl:a": 2}, until=timedelta(hours=3))
    with during("facts"):
        await store.facts({"acl:a": frozenset(["$.late"])})
    recording = sample_recording(guards=[guard(store.namespace, "acl:a", 1, "$.new")])
    with during("write"):
        await store.write(recording)
    with during("publish"):
        await store.publish(
            recording.execution.id,
            steps=len(recording.steps),
            manifest=manifest(recording.steps),
            signature=signature(recording.steps),
        )
    with during("lookup"):  # whose facet was never computed
        await store.lookup(recording.task.key, lambda traces, _: traces[0].id if traces else None)
    with during("still"):
        assert await store.still(recording.execution.id, {"acl:a": 2})
    expected = [Expected("acl:a", 1, True, (guard(store.namespace, "acl:a", 1, "$.new").id,))]
    with during("intend"):
        assert await store.intend(sample_effect(execution="other"), expected)
    first, second = (Wish("one", recording.task.key, it, None, run_id="r-1") for it in ("e1", "e2"))
    with during("claim"):
        await store.claim(first)
        await store.claim(second, over="e1")
    with during("intend"):
        assert await store.intend(sample_effect("e2", 2), expected, wish=second)
    with during("attempts"):
        await store.attempts("one")
    with during("end_wish"):
        assert await store.end_wish(second._replace(state=WishState.DONE, result="{}"))
    with during("change"):  # after a facet came
        await store.change("acl:a", None)
    with during("unbroken"):
        await store.unbroken([Span(guard(store.namespace, "acl:a", 1, "$.new").id, "acl:a", 1, 3)])
    other = sample_recording(number=2, says="no")
    await store.write(other)
    await store.publish(
        other.execution.id,
        steps=len(other.steps),
        manifest=manifest(other.steps),
        signature=signature(other.steps),
        approved=False,
    )
    with during("approve"):
        assert (await store.approve(other.execution.id)).published
    with during("reject"):
        await store.reject(other.execution.id, "wrong", signature(other.steps))
    with during("unpublish"):
        await store.unpublish(recording.execution.id, "enough")
    return ran


@pytest.mark.neo4j
async def test_each_method_runs_the_statements_that_the_model_says(
    neo4j_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = Client.run, list[str]()

    async def noted(self: Client, name: str, *rest: Any) -> list[list[Any]]:
        told.append(name)
        return await run(self, name, *rest)

    store = Neo4jStore(neo4j_uri, namespace=f"test-{uuid.uuid4().hex[:12]}")
    await store.open()
    monkeypatch.setattr(Client, "run", noted)
    try:
        ran = await use(store, told)
    finally:
        await store.close()
    for method, names in ran.items():
        assert names <= NEO4J[method], f"{method} runs what the model does not know"
        assert names, f"{method} ran something"
    assert ran["lookup"] == NEO4J["lookup"]
    assert run_by_the_model() >= set().union(*NEO4J.values())


async def test_on_sqlite_each_method_that_decides_is_one_transaction(tmp_path: Path) -> None:
    """That is all that the model takes for granted there: a transaction is one step."""
    told: list[str] = []
    store = SqliteStore(str(tmp_path / "graph.db"), namespace="here")
    await store.open()
    try:
        for each in (store._write, store._read):
            assert each is not None
            each.set_trace_callback(partial(note_outside, each, told))
        ran = await use(store, told)
    finally:
        await store.close()
    # Read before the lock is taken, to compute fingerprints; what counts is read again under it.
    ahead = ("FROM namespace", "FROM resource", "FROM facet", "PRAGMA")
    for method in (
        "change",
        "write",
        "publish",
        "approve",
        "reject",
        "intend",
        "unpublish",
        "claim",
        "end_wish",
        "lookup",
    ):
        outside = [it for it in ran[method] if not any(known in it for known in ahead)]
        assert not outside, f"{method} runs this outside of its transaction: {outside}"


def note_outside(connection: sqlite3.Connection, told: list[str], statement: str) -> None:
    """Note a statement that runs outside of a transaction."""
    if not connection.in_transaction and not statement.startswith("BEGIN"):
        told.append(" ".join(statement.split()))
