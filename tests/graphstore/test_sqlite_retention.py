"""Retention in the embedded store: its file does not grow without bound, and nothing dangles."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from execgraph.graphstore.canonical import Json
from execgraph.graphstore.collecting import Deletions
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import ExecutionState, Recording
from execgraph.graphstore.retention import Collected, Retention
from execgraph.graphstore.sqlite import retention
from execgraph.graphstore.sqlite.connection import connect
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.tests.conformance.samples import (
    guard,
    none,
    published,
    sample_effect,
    sample_recording,
    sample_replay,
)

_FEW = Retention(traces=2, history=5, versions=3, grace=timedelta(0))
_ORPHANS = """
    WITH named (digest) AS (
        SELECT head FROM step UNION SELECT arguments FROM step UNION SELECT output FROM step
        UNION SELECT told.value FROM step, json_each(step.messages) AS told
        UNION SELECT output FROM execution UNION SELECT report FROM execution
        UNION SELECT inputs FROM task UNION SELECT context FROM task
        UNION SELECT document FROM version
    )
    SELECT count(*) FROM value WHERE digest NOT IN (SELECT digest FROM named WHERE digest NOT NULL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "graph.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(str(path), namespace="team")
    await made.open()
    yield made
    await made.close()


async def _collect(store: SqliteStore, retention: Retention, batch: int = 500) -> Collected:
    taken = Collected(more=True)
    while taken.more:
        taken += await store.collect(retention, batch=batch)
    return taken


def _size(path: Path) -> int:
    return path.stat().st_size


def _rows(path: Path) -> dict[str, int]:
    """How many rows each table has."""
    raw = sqlite3.connect(path)
    tables = [
        name for (name,) in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    ]
    counts = {name: raw.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
    raw.close()
    return counts


async def _rounds(store: SqliteStore, first: int, last: int, replays: int = 10) -> None:
    """The same task, recorded under ever new facts, and replayed."""
    for number in range(first, last):
        content: Json = {"a": number, "noise": f"{number:x}" * 50}
        await store.change("acl:prod", Document.of(content))
        await store.facts({"acl:prod": frozenset({"$.a"})})
        held = guard("team", "acl:prod", content, "$.a")
        recording = sample_recording(
            number=number, says=f"as of {number}", guards=[held], state=ExecutionState.UNPUBLISHED
        )
        await published(store, recording)
        effects = [sample_effect(f"deploy-replay-{1000 * number}", done=True)]
        await store.write_replays(
            [sample_replay(recording, 1000 * number + n, effects[n:]) for n in range(replays)],
        )
        if number % 50 == 49:
            for walk in await store.walks(limit=1000):
                await store.walk(walk.id)
            await _collect(store, _FEW, batch=100)


async def test_the_file_does_not_grow_without_bound(store: SqliteStore, path: Path) -> None:
    sizes, rows = [], []
    for first in (0, 100, 200):
        await _rounds(store, first, first + 100, replays=100)
        rows.append(_rows(path))
        sizes.append(_size(path))
    assert rows[2] == rows[1] == rows[0]
    assert sizes[1] <= 1.2 * sizes[0]  # pages are split
    assert sizes[2] <= 1.05 * sizes[1]  # from then on it stays
    totals = await store.totals()
    assert totals.executions == {"partial": 300, "replay": 30_000}
    found = await store.lookup("deploy", none)
    assert [trace.id for trace in found.traces] == ["deploy-299", "deploy-298"]


async def test_nothing_dangles_and_nothing_is_left_over(store: SqliteStore, path: Path) -> None:
    await _rounds(store, 0, 130)
    for way in (_FEW, replace(_FEW, traces=1, history=0, versions=0)):
        await _collect(store, way, batch=7)
        raw = sqlite3.connect(path)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        assert raw.execute(_ORPHANS).fetchone() == (0,)
        assert raw.execute("SELECT count(*) FROM suspect").fetchone() == (0,)
        raw.close()


async def test_no_scan_without_a_suspect_and_no_sum_without_a_limit(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    executed = retention._Contents._executed

    def spy(
        self: retention._Contents, name: str, parameters: Mapping[str, object]
    ) -> sqlite3.Cursor:
        asked.append(name)
        return executed(self, name, parameters)

    monkeypatch.setattr(retention._Contents, "_executed", spy)
    await published(store, _ended(1))
    await _collect(store, _FEW)
    assert {"page_of_executions", "stored_bytes"}.isdisjoint(asked)
    await store.unpublish("deploy-1", "rejected")
    await _collect(store, replace(_FEW, history=0, max_bytes=0))
    assert {"page_of_executions", "stored_bytes"} <= set(asked)


async def test_a_collection_lets_others_write(store: SqliteStore, path: Path) -> None:
    """Between two batches no lock is held; what is listed is looked at again."""
    for number in range(1, 5):
        await published(store, _ended(number, says=f"{number}"))
    least = replace(_FEW, traces=1, history=0)
    first = await store.collect(least, batch=1)
    assert first == Collected(unpublished=1, more=True)
    other = SqliteStore(str(path), namespace="team")
    await other.open()
    await other.unpublish("deploy-2", "rejected")  # listed, and to be unpublished next
    taken = Collected()
    while (done := await other.collect(least, batch=500)).more:
        taken += done
    await other.close()
    taken += await _collect(store, least)
    assert (taken.unpublished, taken.executions) == (1, 3)
    found = await store.lookup("deploy", none)
    assert [trace.id for trace in found.traces] == ["deploy-4"]


async def test_a_number_given_again_is_not_taken_for_who_had_it_before(
    store: SqliteStore, path: Path
) -> None:
    """SQLite gives the number of the last row again once that is deleted."""
    await published(store, _ended(1))
    for number in (2, 3):
        await store.write(_ended(number, says=f"{number}"))
    listed = Deletions(executions=["deploy-2", "deploy-3"])
    await _collect(store, replace(_FEW, traces=1, history=0))
    for number in (4, 5):
        await store.write(_ended(number, says=f"{number}"))
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT rid FROM execution WHERE id = 'deploy-5'").fetchone() == (3,)
    raw.close()
    connection = connect(path)
    assert await retention._Contents(connection, "team").delete(listed) == Collected()
    connection.close()
    assert await store.execution("deploy-5") is not None


async def test_what_loses_its_last_namer_during_a_look_is_suspected_anew(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look has seen a payload named; then, before that is noted, its namer goes."""
    least = replace(_FEW, traces=1, history=0)
    await published(store, sample_recording("stays"))
    for number in (1, 2):
        await published(store, _ended(number, says="the same"))
        await store.unpublish(f"deploy-{number}", "rejected")
    assert (await store.collect(least, batch=1)).executions == 1
    meet = retention._Contents._meet
    between: list[Collected] = []

    def then_the_other_goes(
        self: retention._Contents,
        executions: Collection[int],
        tasks: Sequence[int],
        versions: Sequence[tuple[Any, ...]],
    ) -> None:
        meet(self, executions, tasks, versions)
        if not between:
            between.append(Collected())
            other = retention.FileCollector(str(path))
            with ThreadPoolExecutor(1) as thread:
                between.append(thread.submit(other.collect, "team", least, 1).result())
            other.close()

    await store.collect(replace(least, history=1))
    monkeypatch.setattr(retention._Contents, "_meet", then_the_other_goes)
    await _suspect_again(path)
    await _collect(store, replace(least, history=1))
    assert between[1].executions == 1
    await _collect(store, least)
    raw = sqlite3.connect(path)
    assert raw.execute(_ORPHANS).fetchone() == (0,)
    raw.close()


async def test_closing_ends_a_collection(path: Path) -> None:
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    await _rounds(store, 0, 30)
    collecting = asyncio.ensure_future(_collect(store, _FEW, batch=1))
    await asyncio.sleep(0.02)
    collecting.cancel()
    await store.close()
    assert collecting.cancelled() or await asyncio.wait({collecting})
    await store.open()
    await _collect(store, _FEW)
    await store.close()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    assert raw.execute(_ORPHANS).fetchone() == (0,)
    raw.close()


async def _suspect_again(path: Path) -> None:
    """As if something else that named all this had just been deleted."""
    raw = sqlite3.connect(path)
    raw.execute("INSERT OR REPLACE INTO suspect (ns, value) SELECT ns, rid FROM value")
    raw.commit()
    raw.close()


def _ended(number: int, says: str = "yes") -> Recording:
    return sample_recording(number=number, says=says, state=ExecutionState.UNPUBLISHED)


async def test_a_batch_lists_as_much_however_often_a_task_was_replayed(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = _ended(1)
    await published(store, recording)
    listed: list[int] = []
    rows = retention._Contents._rows

    def spy(self: retention._Contents, name: str, **parameters: object) -> list[tuple[Any, ...]]:
        found = rows(self, name, **parameters)
        listed.append(len(found))
        return found

    monkeypatch.setattr(retention._Contents, "_rows", spy)
    costs = []
    for first, last in ((0, 700), (700, 2100)):
        await store.write_replays([sample_replay(recording, n) for n in range(first, last)])
        listed.clear()
        assert (await store.collect(replace(_FEW, history=100), batch=20)).replays > 0
        costs.append(sum(listed))
        assert max(listed) <= 500
    assert costs[1] <= costs[0]
