"""Of a node that is deleted while a statement reads it the server may give a part, and null for the
rest: such rows are left out, whichever statement gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.model import JournalEntry, Wish
from execgraph.graphstore.neo4j.changing import read_before
from execgraph.graphstore.neo4j.client import Client
from execgraph.graphstore.neo4j.queries import is_of_schema, queries, writes
from execgraph.graphstore.neo4j.retention import Contents
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.roles.history import Executions
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    published,
    sample_approval,
    sample_effect,
    sample_recording,
)

pytestmark = pytest.mark.neo4j

_URI = "acl:prod"

#: Statements whose rows are of nodes.
_ROWS = {
    *("current_at", "changes", "changes_of_resource", "resources_of_source", "selectors"),
    *("holder", "walks", "marks", "rejected", "approval", "approvals", "precedents"),
    *("effects", "effect", "doubts", "execution", "executions", "task", "tasks_of_agent", "values"),
    *("execution_ids", "effect_ids", "approval_ids", "lengths", "dependants", "task_keys", "uris"),
    *("runs", "killed", "unanswered", "pasts", "versions", "expiries", "wish"),
    *("idle_preconditions", "suspects"),
    *(name for name in queries() if name.startswith("executions_of_")),
}
#: Statements that collect rows of nodes into fields: the places of these.
_FIELDS = {
    "unfinished": (0, 1),
    "attempts": (0, 1),
    "before_change": (7, 8),
    "changes": (1,),
    "changes_of_resource": (1,),
    "execution": (1, 2),
    "dependants": (6, 7),
    "walk_of_execution": (0,),
    "confirm": (3,),
}
#: How many fields are never null, of those that have few.
_NEVER_NULL = dict.fromkeys(("pasts", "versions", "expiries"), 2)
#: Statements of which no node is taken from a row, or is looked for again where it is not whole.
_OTHERS = {
    *("still", "unbroken", "now", "server", "indexes"),  # no node
    *("due", "event", "document"),  # what is never deleted, or is looked for again
    *("read_facts", "lookup", "totals"),  # looked for again
    *("next_agent", "next_namespace"),  # what an index has
    *("traces", "histories"),  # with null where nothing is
    *("look_state", "look_at", "stored_bytes", "sizes", "foreseen", "foreseen_payloads"),  # sums
}


def test_of_each_statement_that_reads_it_is_known_whether_its_rows_may_go() -> None:
    reading = {name for name in queries() if not (writes(name) or is_of_schema(name))}
    assert _ROWS | _FIELDS.keys() | _OTHERS == reading


@pytest.mark.parametrize("kept", [0, 1, 2])
async def test_rows_of_which_a_part_is_gone_are_left_out(
    neo4j_store: Neo4jStore, space: str, kept: int
) -> None:
    """``kept``: how many of their fields are still given."""
    store = neo4j_store
    await _fill(store, space)
    whole = await _read(store)
    assert all(whole.values()), [name for name, it in whole.items() if not it]
    haunted: set[str] = set()
    with _ghosts(store._client, kept, haunted):
        found = await _read(store)
    assert found == whole
    assert haunted == _ROWS | _FIELDS.keys() - {"walk_of_execution"}


@contextmanager
def _ghosts(client: Client, kept: int, haunted: set[str]) -> Iterator[None]:
    """Statements give a ghost of each row, too, before the row."""
    run = client.run

    async def with_ghosts(name: str, *given: Any) -> list[list[Any]]:
        rows = await run(name, *given)
        left = min(kept, _NEVER_NULL.get(name, kept + 1) - 1)
        for place in _FIELDS.get(name, ()):
            rows = [[*row[:place], _haunted(row[place], left), *row[place + 1 :]] for row in rows]
        if name in _ROWS | _FIELDS.keys():
            haunted.add(name)
        return _haunted(rows, left) if name in _ROWS else rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "run", with_ghosts)
        yield


def _haunted(rows: list[Any], kept: int) -> list[Any]:
    return [it for row in rows for it in (_ghost(row, kept), row)]


def _ghost(row: list[Any], kept: int) -> list[Any]:
    """A row of which so many fields are left, but not all."""
    match row:
        case [dict(), *rest]:
            return [{}, *rest]
        case [list() as node, *rest]:
            return [_ghost(node, kept), *rest]
    left = min(kept, len(row) - 1)
    return [*row[:left], *(None for _ in row[left:])]


async def _fill(store: Neo4jStore, space: str) -> None:
    for number in range(4):
        await store.change(_URI, Document.of(number), source="files")
        if number == 1:
            await store.hold(_URI, 2, {None: Document.of(1).whole})
    await store.walk((await store.changes())[-1].id)
    held = [guard(space, _URI, 3)]
    for number in range(3):
        recording = sample_recording(number=number, says=f"{number}", guards=held)
        await store.intend(sample_effect(recording.execution.id), [])
        await published(store, recording)
        await store.request(
            sample_approval(number, digest=f"{number}"), timedelta(hours=number and 1)
        )
    await store.unpublish("deploy-0", "a test")
    await store.reject("deploy-1", "it was wrong", "signature")
    wish = Wish("wish", "deploy", "killed", "a process", run_id="run")
    entry = JournalEntry("deploy", "killed", 0, 1, b"said", wish="wish")
    await store.claim(wish)
    effect = sample_effect("killed")
    await store.intend(effect.model_copy(update={"wish": "wish"}), [], wish=wish, entries=[entry])
    await store.lease("a lease", "an owner", timedelta(hours=1))
    await store.change(_URI, Document.of(4))


async def _read(store: Neo4jStore) -> dict[str, Any]:
    """What is read by each of the statements."""
    ids = ["deploy-0", "deploy-1", "deploy-2", "killed"]
    lookup = await store.lookup("deploy", newest)
    unfinished = await store.unfinished("deploy")
    return {
        "facts": [
            await store.current_at([_URI], 2**60),
            await store.resources("push"),
            await store.facets(_URI),
            (await read_before(store._client, _URI)).facets,
            (await read_before(store._client, _URI)).held,
        ],
        "events": [await store.changes(), await store.changes(resource=_URI)],
        "marks": [await store.walks(), *[await store.marks(it) for it in ids]],
        "wishes": [
            [it._replace(idle_ms=0) for it in unfinished.wishes],
            unfinished.entries,
            await store.attempts("wish"),
            (await store._wish_of(unfinished.wishes[0]))._replace(idle_ms=0),
        ],
        "approvals": [
            await store.approvals(),
            await store.approval("approval-1"),
            await store.precedents("deploy", "deploy"),
        ],
        "effects": [*[await store.effects(it) for it in ids], await store.doubts()],
        "effect": await store.effect("killed-effect-1"),
        "runs": [
            *[await store.executions(it) for it in _LISTS],
            *[await store.execution(it) for it in ids],
        ],
        "traces": [lookup.traces, lookup.values, lookup.damaged],
        "tasks": [await store.task("deploy"), await store.recent_tasks("deployer")],
        "names": [
            await store.execution_ids("d"),
            await store.effect_ids("d"),
            await store.approval_ids("a"),
            await store.task_keys(),
            await store.uris(),
            await store.lengths(ids),
            await store.rejected(ids),
        ],
        "dependants": await store.dependants(lookup.traces[0].preconditions),
        "values": await store.values(lookup.values),
        "lease": await store.holder("a lease"),
        "collection": [await _listed(Contents(store._client), it) for it in _LISTINGS],
    }


_LISTS = [
    Executions(),
    Executions(by="agent", value="deployer"),
    Executions(by="task", value="deploy"),
    Executions(by="state", value="published"),
    Executions(by="mode", value="partial"),
]
_LISTINGS: list[tuple[str, dict[str, Any]]] = [
    ("runs", {"task": "deploy", "going": [], "started_at": 0, "id": ""}),
    *((name, {}) for name in ("killed", "unanswered", "pasts", "idle_preconditions", "suspects")),
    ("versions", {"resource": _URI, "after": 0}),
    ("expiries", {"resource": _URI, "skip": 0}),
]
_PAGE = {"until": 2**53, "most": 100, "batch": 100, "after": "", "scanned": 100}


async def _listed(contents: Contents, listing: tuple[str, Mapping[str, Any]]) -> list[Any]:
    name, of = listing
    rows: list[Any] = await contents.rows(name, **{**_PAGE, **of})
    return rows
