"""The file at a store's path is replaced, deleted or moved while the store is open."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import StoreAccessDenied, StoreError, StoreReplaced
from execgraph.graphstore.facts import Expected, FactState
from execgraph.graphstore.finding import Level
from execgraph.graphstore.retention import Retention
from execgraph.graphstore.sqlite import opened
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.tests.conformance.samples import guard, published, sample_effect, sample_recording

SPACE, URI = "team", "acl:prod"
ALLOWED, FORBIDDEN = Document.of({"allow": True}), Document.of({"allow": False})
LOGS = ("-wal", "-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "at").mkdir()
    return tmp_path / "at/graph.db"


@pytest.fixture(params=["a young folder", "a folder as it was for long"])
async def store(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    await store.change(URI, ALLOWED)
    await published(store, sample_recording(guards=[guard(SPACE, URI, {"allow": True})]))
    if request.param != "a young folder":
        monkeypatch.setattr(opened, "_SETTLED_NS", 10_000_000)
        await asyncio.sleep(0.03)
        assert await store.still("deploy-1", {URI: 1})
        assert store._place.opened is not None
        assert store._place.opened.names._settled is not None, "only the folder is looked at now"
    yield store
    await store.close()


async def fresh(path: Path) -> SqliteStore:
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    return store


def backup(path: Path) -> Path:
    copy = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as other:
        live.backup(other)
    return copy


def rename_over(path: Path) -> None:
    backup(path).rename(path)


def rename_over_and_drop_logs(path: Path) -> None:
    rename_over(path)
    delete_logs(path)


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def delete_logs(path: Path) -> None:
    for ending in LOGS:
        path.with_name(path.name + ending).unlink(missing_ok=True)


def delete_shared_memory(path: Path) -> None:
    path.with_name(path.name + "-shm").unlink()


def delete_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("away"))


def replace_folder(path: Path) -> None:
    copy = path.parent.with_name("copy")
    shutil.copytree(path.parent, copy)
    path.parent.rename(path.parent.with_name("away"))
    copy.rename(path.parent)


WAYS = [
    rename_over,
    rename_over_and_drop_logs,
    delete,
    delete_all,
    delete_folder,
    move_folder,
    replace_folder,
]
way = pytest.mark.parametrize("replace", WAYS, ids=lambda it: it.__name__)


async def allows(store: SqliteStore) -> bool:
    """Whether what rests on the rule that allows is in force, by each way to ask."""
    still = await store.still("deploy-1", {URI: 1})
    found = await store.lookup("deploy", lambda traces, _: (traces and traces[0].id) or None)
    held = found.facts.of(URI).fingerprints.get(None)
    return still or held == ALLOWED.whole


@way
async def test_what_another_process_is_acknowledged_is_in_force_here(
    store: SqliteStore, path: Path, replace: Callable[[Path], None]
) -> None:
    replace(path)
    other = await fresh(path)
    await other.change(URI, FORBIDDEN)
    assert not await allows(store)
    await other.close()
    assert not await allows(store)


@way
async def test_what_is_acknowledged_here_is_in_force_in_another_process(
    store: SqliteStore, path: Path, replace: Callable[[Path], None]
) -> None:
    replace(path)
    other = await fresh(path)
    await store.change(URI, FORBIDDEN)
    assert not await allows(other)
    await other.close()
    later = await fresh(path)
    found = await later.document(URI)
    assert found is not None
    assert found[1].whole == FORBIDDEN.whole
    await later.close()


@way
async def test_no_effect_begins_by_what_was_read_of_the_old_file(
    store: SqliteStore, path: Path, replace: Callable[[Path], None]
) -> None:
    run = store.pinned()
    facts = await run.facts({URI: frozenset({None})})
    replace(path)
    other = await fresh(path)
    await other.change(URI, FORBIDDEN)
    expected = [Expected(URI, facts.of(URI).version, believed=True)]
    with pytest.raises(StoreReplaced, match="Begin it anew"):
        await run.intend(sample_effect("deploy-2", 1), expected)
    with pytest.raises(StoreReplaced):
        await run.still("deploy-1", {URI: 1})
    assert await other.effects("deploy-2") == []
    await other.close()


@way
async def test_the_token_says_that_it_is_another_file(
    store: SqliteStore, path: Path, replace: Callable[[Path], None]
) -> None:
    before = await store.incarnation()
    assert await store.incarnation() == before
    replace(path)
    assert await store.incarnation() != before


@way
async def test_leaving_the_old_file_does_no_harm_to_the_new_one(
    store: SqliteStore, path: Path, replace: Callable[[Path], None]
) -> None:
    replace(path)
    other = await fresh(path)
    await other.change(URI, FORBIDDEN)
    files = {file.name: file.stat().st_ino for file in path.parent.iterdir()}
    await store.close()
    assert {file.name: file.stat().st_ino for file in path.parent.iterdir()} == files
    third = await fresh(path)
    await other.change(URI, ALLOWED)
    found = await third.document(URI)
    assert found is not None
    assert found[1].whole == ALLOWED.whole
    await third.close()
    await other.close()


OTHER_PROCESS = """
import asyncio, sys
from execgraph.graphstore.document import Document
from execgraph.graphstore.sqlite import opened
from execgraph.graphstore.sqlite.store import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1], namespace="team")
    await store.open()
    await store.change("acl:prod", Document.of({"allow": False}))
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("drop", [delete_logs, delete_shared_memory], ids=lambda it: it.__name__)
async def test_a_log_that_is_deleted_under_the_store_is_noticed(
    store: SqliteStore, path: Path, drop: Callable[[Path], None]
) -> None:
    drop(path)
    command = [sys.executable, "-c", OTHER_PROCESS, str(path)]
    await asyncio.to_thread(subprocess.run, command, check=True)
    assert not await allows(store)
    await store.change(URI, ALLOWED)
    again = await fresh(path)
    facts = await again.facts({URI: frozenset({None})})
    assert facts.of(URI).fingerprints[None] == ALLOWED.whole
    assert {it.level for it in await again.examine()} == {Level.GOOD}
    await again.close()


async def test_a_collection_goes_on_in_the_new_file(store: SqliteStore, path: Path) -> None:
    await store.collect(Retention())
    rename_over(path)
    other = await fresh(path)
    await store.collect(Retention())
    await other.change(URI, FORBIDDEN)
    assert not await allows(store)
    await other.close()


async def test_cypher_sees_the_new_file(store: SqliteStore, path: Path) -> None:
    engine = "MATCH (e:Execution {namespace: $namespace}) RETURN count(e) AS n"

    async def executions() -> int:
        from datetime import timedelta

        limits = {"time_limit": timedelta(seconds=30), "limit": 10}
        return (await store.cypher(engine, {}, **limits)).rows[0][0]  # type: ignore[arg-type,no-any-return]

    assert await executions() == 1
    delete_all(path)
    assert await executions() == 0


async def test_a_link_that_leads_elsewhere_is_followed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    link = tmp_path / "current.db"
    link.symlink_to(tmp_path / "old/graph.db")
    store = await fresh(link)
    await store.change(URI, ALLOWED)
    link.unlink()
    link.symlink_to(tmp_path / "new/graph.db")
    assert (await store.facts({URI: frozenset()})).of(URI).state is FactState.ABSENT
    await store.change(URI, FORBIDDEN)
    await store.close()
    assert (tmp_path / "new/graph.db").stat().st_size > 0


async def test_a_backup_without_the_witness_lacks_what_this_process_has_seen(
    store: SqliteStore, path: Path
) -> None:
    copy = backup(path)
    await store.change(URI, FORBIDDEN)
    copy.rename(path)
    path.with_name("graph.db-witness").unlink()
    delete_logs(path)
    facts = await store.facts({URI: frozenset({None})})
    assert not facts.of(URI).believed(facts.now)


async def test_it_is_told_once(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rename_over(path)
    await asyncio.gather(*(store.facts({URI: frozenset()}) for _ in range(8)))
    assert sum("replaced or deleted while it was in use" in it for it in caplog.messages) == 1


remove = Path.rmdir


def put_a_folder_there(path: Path) -> None:
    delete_all(path)
    path.mkdir()


async def test_a_path_that_leads_to_no_store_is_an_error_until_it_does(
    store: SqliteStore, path: Path
) -> None:
    put_a_folder_there(path)
    for _ in range(2):
        with pytest.raises(StoreError, match="Is a directory"):
            await store.change(URI, FORBIDDEN)
    remove(path)
    await store.change(URI, FORBIDDEN)


async def test_a_change_that_nobody_can_testify_to_is_not_made(
    store: SqliteStore, path: Path
) -> None:
    witness = path.with_name("graph.db-witness")
    witness.unlink()
    witness.mkdir()
    with pytest.raises(StoreAccessDenied, match="cannot be written"):
        await store.change(URI, FORBIDDEN)
    found = await store.document(URI)
    assert found is not None
    assert found[1].whole == ALLOWED.whole
    witness.rmdir()
    await store.change(URI, FORBIDDEN)
    assert stat.S_ISREG(witness.stat().st_mode)


async def test_changes_go_to_a_file_that_has_the_name_when_they_are_acknowledged(
    store: SqliteStore, path: Path
) -> None:
    """Backups are renamed over the file all the while; the newest change is never missing in
    silence: either it is there, or nothing is believed."""
    for number in range(12):
        document = Document.of({"number": number})
        change = asyncio.ensure_future(store.change(URI, document))
        if number % 3 == 0:
            await asyncio.to_thread(rename_over, path)
        await change
        other = await fresh(path)
        facts = await other.facts({URI: frozenset({None})})
        fact = facts.of(URI)
        assert not fact.believed(facts.now) or fact.fingerprints[None] == document.whole
        await other.close()


async def test_a_copy_elsewhere_is_a_store_of_its_own(store: SqliteStore, path: Path) -> None:
    before = await store.incarnation()
    shutil.copy(backup(path), path.with_name("copy.db"))
    copy = await fresh(path.with_name("copy.db"))
    await copy.change(URI, FORBIDDEN)
    assert await store.incarnation() == before
    assert await allows(store)
    await copy.close()


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


async def test_what_is_left_keeps_no_descriptor_open(store: SqliteStore, path: Path) -> None:
    before = descriptors()
    delete_all(path)
    for _ in range(20):
        await store.facts({URI: frozenset()})
    assert descriptors() == before
