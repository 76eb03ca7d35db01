"""docs/cypher.md: each of its queries runs on both stores, on the same history, with equal rows."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import execgraph
from execgraph.graphstore.connect import connect
from execgraph.graphstore.cypher import LABELS, RELATIONSHIPS, Table
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import CypherRefused
from execgraph.graphstore.model import (
    ApprovalState,
    ExecutionState,
    Mode,
    Precondition,
    Recording,
    Replay,
    signature,
    step_id,
)
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import (
    guard,
    published,
    sample_approval,
    sample_effect,
    sample_recording,
    sample_replay,
)

PAGE = (Path(execgraph.__file__).parent / "docs" / "cypher.md").read_text(encoding="utf-8")
_QUESTION = re.compile(
    r"^### (.+?)\n(.*?)```cypher\n(.*?)```\n\n(.+?)\n\n", re.DOTALL | re.MULTILINE
)
QUESTIONS = {found[1]: found[3] for found in _QUESTION.finditer(PAGE)}
SAID = {found[1]: found[4] for found in _QUESTION.finditer(PAGE)}

ACL, SCHEMA, RULE, TARGET = "acl:prod/deploy", "schema:orders", "rule:freeze", "target:eu-west-1"
SPACE = f"test-cookbook-{uuid.uuid4().hex}"
PARAMETERS: Mapping[str, Any] = {
    "uri": ACL,
    "task": "deploy",
    "step": "deploy-1/3",
    "execution": "deploy-1",
    "effect": "deploy-1-effect-1",
}
#: Of the queries in tests/dialect.
OTHER_PARAMETERS: Mapping[str, Any] = {
    "k": "id",
    "l": [1, 2, 3],
    "m": {"id": "deploy-1", "x": 1},
    "s": "deploy-1/3",
}
#: What the stores make up: it is there on both, and differs.
MADE_UP = {"at"}


# The history ------------------------------------------------------------------------------


async def record(store: GraphStore) -> None:
    """Runs, replays, effects and changes: every cookbook query finds something in it."""
    acl = {"groups": ["ops"], "owner": "ann"}
    for uri in (ACL, SCHEMA, RULE, TARGET, "acl:unused"):
        await store.change(uri, Document.of(acl))
    await store.change(TARGET, Document.of(acl), until=timedelta(milliseconds=1))
    await store.change("acl:unused", Document.of(acl), until=timedelta(hours=1))
    guards = [
        guard(store.namespace, ACL, acl, "$.groups"),
        guard(store.namespace, SCHEMA, acl),
        guard(store.namespace, RULE, acl),
        guard(store.namespace, TARGET, acl),
    ]
    await store.facts(
        {it.resource: frozenset({it.selector}) for it in guards} | {"acl:unused": frozenset()},
    )

    deploy = _run("deploy", guards[:2], turns=8)
    once = {
        "once": "deploy checkout",
        "arguments_key": "checkout",
        "output_text": '"done"',
        "process": "p",
        "wish": "deploy-1",
    }
    effect = sample_effect("deploy-1", 1, done=True, step=step_id("deploy-1", 3)).model_copy(
        update=once
    )
    await published(store, deploy.model_copy(update={"effects": (effect,)}))
    await published(store, _run("triage", guards[:1], agent="triager"))
    await published(store, _run("migrate", guards[1:3], mode=Mode.LIVE))
    await published(store, _run("scale", guards[3:], mode=Mode.LIVE, miss=("new task",)))
    failed = _run("broken", (), mode=Mode.LIVE, reason="RunFailed: the tool deploy raised")
    await store.write(_in_state(failed, ExecutionState.FAILED))

    # What people decide, and may decide.
    await published(store, _run("reviewed", ()), approved=False)
    wrong = _run("wrong", ())
    await published(store, wrong)
    await store.reject("wrong-1", "wrong region", signature(wrong.steps))

    for number, state in enumerate((None, ApprovalState.DENIED, ApprovalState.APPROVED)):
        asked = sample_approval(number, digest=f"{number}", execution="deploy-replay-1")
        await store.request(asked, timedelta(days=1))
        if state is not None:
            said = {"by": "ann", "reason": "not on a Friday", "heard_by": "deploy-replay-1"}
            await store.answer(asked.id, state, **said)
    confirmed = {"approval": "approval-2", "approved_by": "ann"}
    assert await store.intend(sample_effect("confirmed-1").model_copy(update=confirmed), [])

    # Begun, and never ended: as a crash leaves it.
    crashed = sample_effect("crashed-1").model_copy(update={"process": "machine/1/1"})
    assert await store.intend(crashed, [], agent="deployer")
    replays = [
        sample_replay(deploy, number, [sample_effect(f"deploy-replay-{number}", done=True)])
        for number in (1, 2)
    ]
    partial = replays[1].execution.model_copy(
        update={"mode": Mode.PARTIAL, "miss": ("precondition changed", "new task")}
    )
    await store.write_replays([replays[0], Replay(execution=partial)])
    # Of a task that a collection has removed: only the totals of its day tell of it.
    late = sample_replay(_run("removed", ()), 1, [sample_effect("removed-replay-1", done=True)])
    await store.write_replays([late])

    widened = {**acl, "groups": ["ops", "dev"]}
    await store.change(ACL, Document.of(widened), source="test")
    await store.change(RULE, None)
    await published(store, _run("rollout", [guard(store.namespace, ACL, widened, "$.groups")]))
    await asyncio.sleep(0.01)
    assert [event.resource for event in await store.expire()] == [TARGET]
    while walks := await store.walks():
        for walk in walks:
            while (it := await store.walk(walk.id)) is not None and it.ended_at is None:
                pass


def _run(
    task: str,
    guards: Sequence[Precondition],
    *,
    turns: int = 3,
    agent: str = "deployer",
    **execution: Any,
) -> Recording:
    """A run whose fourth step, an action, is the first that rests on anything."""
    made = sample_recording(task, guards=guards, turns=turns)
    steps = [
        step if step.position >= 3 else step.model_copy(update={"guards": ()})
        for step in made.steps
    ]
    asked = {"asked_at": made.execution.started_at, "seen": {ACL: 1}}  # as a program's is
    steps[0] = steps[0].model_copy(update=asked)
    fields = {"agent": agent, "replayed": None, "miss": (), **execution}
    return made.model_copy(
        update={
            "task": made.task.model_copy(update={"agent": agent}),
            "execution": made.execution.model_copy(update=fields),
            "steps": tuple(steps),
        }
    )


def _in_state(made: Recording, state: ExecutionState) -> Recording:
    execution = made.execution.model_copy(update={"state": state})
    return made.model_copy(update={"execution": execution})


# Asking -----------------------------------------------------------------------------------


async def answers(url: str, queries: Mapping[str, str]) -> dict[str, Table]:
    store = connect(url, namespace=SPACE)
    await store.open()
    try:
        await record(store)
        return {
            name: await store.cypher(
                query,
                OTHER_PARAMETERS if query in EQUAL else PARAMETERS,
                time_limit=timedelta(seconds=30),
                limit=1000,
            )
            for name, query in queries.items()
        }
    finally:
        await store.close()


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    path = tmp_path_factory.mktemp("cookbook") / "graph.db"
    return asyncio.run(answers(f"sqlite:///{path}", ASKED))


@pytest.fixture(scope="module")
def on_neo4j(neo4j_uri: str) -> dict[str, Table]:
    return asyncio.run(answers(neo4j_uri, ASKED))


def shown(table: Table) -> list[dict[str, Any]]:
    """Its rows, without what the stores make up."""
    return [{name: it for name, it in row.items() if name not in MADE_UP} for row in table]


#: The whole graph: each node with all it has, and each relationship between the keys of its ends.
_KEY = (
    "coalesce({0}.id, {0}.key, {0}.digest, {0}.uri, {0}.resource) + coalesce(toString({0}.n), '')"
)
WHOLE = {
    f"nodes: {label}": f"MATCH (n:{label} {{namespace: $namespace}})"
    f" RETURN n, {_KEY.format('n')} AS key ORDER BY key"
    for label in LABELS
    if label != "ChangeEvent"
} | {
    f"relationships: {kind}": f"MATCH (a:{source} {{namespace: $namespace}})-[r:{kind}]->(b)"
    f" RETURN {_KEY.format('a')} AS a, {_KEY.format('b')} AS b, r ORDER BY a, b"
    for kind, (source, _, _) in RELATIONSHIPS.items()
    if source != "ChangeEvent"
}


#: Queries of all kinds: equal rows on both stores; or refused on SQLite, never otherwise.
def _dialect(file: str) -> list[str]:
    text = (Path(__file__).parent / "dialect" / file).read_text(encoding="utf-8")
    return text.strip().split("\n\n")[1:]


EQUAL, REFUSED = _dialect("equal.cypher"), _dialect("refused.cypher")
ASKED = {**QUESTIONS, **WHOLE, **{query: query for query in EQUAL}}
#: When it is was told by the clock, and differs.
TIMES = {
    "answered_at", "at", "decided_at", "expires_at", "requested_at", "since", "started_at", "until",
}  # fmt: skip


def test_the_page_has_at_least_twenty_questions() -> None:
    assert len(QUESTIONS) >= 20
    assert len(QUESTIONS) == PAGE.count("```cypher")


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_an_answer(question: str, on_sqlite: dict[str, Table]) -> None:
    assert len(on_sqlite[question]) > 0


@pytest.mark.neo4j
@pytest.mark.parametrize("question", QUESTIONS)
def test_both_stores_give_equal_rows(
    question: str, on_sqlite: dict[str, Table], on_neo4j: dict[str, Table]
) -> None:
    assert on_sqlite[question].columns == on_neo4j[question].columns
    assert shown(on_sqlite[question]) == shown(on_neo4j[question])


@pytest.mark.neo4j
@pytest.mark.parametrize("part", WHOLE)
def test_both_stores_show_the_same_graph(
    part: str, on_sqlite: dict[str, Table], on_neo4j: dict[str, Table]
) -> None:
    embedded, server = _without_times(on_sqlite[part]), _without_times(on_neo4j[part])
    assert embedded
    assert embedded == server


@pytest.mark.neo4j
@pytest.mark.parametrize("query", EQUAL)
def test_both_stores_understand_the_same(
    query: str, on_sqlite: dict[str, Table], on_neo4j: dict[str, Table]
) -> None:
    embedded, server = on_sqlite[query], on_neo4j[query]
    assert embedded.columns == server.columns
    assert _sorted(embedded) == _sorted(server)


def _sorted(table: Table) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in table.rows)


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[GraphStore]:
    store = connect(f"sqlite:///{tmp_path / 'graph.db'}", namespace=SPACE)
    await store.open()
    yield store
    await store.close()


@pytest.mark.parametrize("query", REFUSED)
async def test_what_the_embedded_store_does_not_understand_it_refuses(
    query: str, embedded: GraphStore
) -> None:
    with pytest.raises(CypherRefused):
        await embedded.cypher(query, OTHER_PARAMETERS, time_limit=timedelta(seconds=30), limit=10)


def _without_times(table: Table) -> list[dict[str, Any]]:
    rows = list(table)
    for row in rows:
        for name in TIMES & row.get("n", {"properties": {}})["properties"].keys():
            row["n"]["properties"][name] = "a time"
    return rows


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_line_after_a_query_explains_columns_that_it_has(
    question: str, on_sqlite: dict[str, Table]
) -> None:
    explained = re.findall(r"`(\w+)`(?=[:,]| and `)", SAID[question].split(". ")[0])
    assert set(explained) & set(on_sqlite[question].columns)


# The table of labels, types and properties ------------------------------------------------


def _documented() -> tuple[dict[str, set[str]], dict[str, tuple[str, str, set[str]]]]:
    nodes, relationships = {}, {}
    for line in PAGE[PAGE.index("## Labels, types") :].splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        name = cells[0].strip("`")
        if not line.startswith("| `"):
            continue
        if name.isupper():
            properties = set(re.findall(r"`(\w+)`", line.split("|")[4]))
            relationships[name] = (cells[1].strip("`"), cells[2].strip("`"), properties)
        else:
            outside = re.sub(r"\([^)]*\)", "", cells[1])
            nodes[name] = set(re.findall(r"`(\w+)`", outside))
    return nodes, relationships


def test_the_table_is_the_contract() -> None:
    nodes, relationships = _documented()
    assert nodes == {label: set(names) for label, names in LABELS.items()}
    assert relationships == {
        kind: (source, target, set(names))
        for kind, (source, target, names) in RELATIONSHIPS.items()
    }


def test_the_graph_has_every_property_of_the_table(on_sqlite: dict[str, Table]) -> None:
    for label, names in LABELS.items():
        if label == "ChangeEvent":
            continue
        there = {
            name
            for row in on_sqlite[f"nodes: {label}"]
            if label in row["n"]["labels"]
            for name in row["n"]["properties"]
        }
        assert set(names) - there <= {"equal_to", "replayed"}, label
