"""The embedded store's file: who may read it, where it may lie, what it may be."""

# ruff: noqa: ASYNC240 - looking at a small local file between two awaits blocks nobody

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from execgraph.graphstore import store as store_module
from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import (
    SchemaTooNew,
    StoreAccessDenied,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
)
from execgraph.graphstore.model import ChangeKind
from execgraph.graphstore.retention import Collected, Retention
from execgraph.graphstore.sqlite import connection, files
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.tests.conformance.samples import newest, published, sample_recording
from execgraph.tests.crashes.migrating import old_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "graph.db"


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


async def _write_something(path: Path) -> None:
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    await store.change("acl:a", Document.of({"a": 1}))
    await published(store, sample_recording())
    await store.close()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_constructor_touches_no_file(path: Path) -> None:
    store = SqliteStore(str(path), namespace="team")
    assert not path.exists()
    assert store.url == f"sqlite:///{path}"
    await store.close()


async def test_opening_twice_opens_once(path: Path) -> None:
    store = SqliteStore(str(path), namespace="team")
    await asyncio.gather(store.open(), store.open())
    connections = (store._read, store._write)
    await store.open()
    assert (store._read, store._write) == connections
    await store.close()
    left = {file.name for file in path.parent.iterdir()}
    assert left == {"graph.db", "graph.db-witness"}  # the last one tidies up


@pytest.mark.usefixtures("open_umask")
async def test_file_and_its_logs_are_for_their_owner_only(path: Path) -> None:
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    await store.change("acl:a", Document.of(1))
    modes = {file.name: _mode(file) for file in path.parent.iterdir()}
    endings = ("", "-wal", "-shm", "-witness")
    assert modes == {f"graph.db{ending}": 0o600 for ending in endings}
    await store.close()


@pytest.mark.usefixtures("open_umask")
async def test_a_folder_that_is_made_is_closed_and_ignored_by_git(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    await _write_something(folder / "graph.db")
    assert _mode(folder) == 0o700
    assert _mode(folder.parent) == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"


async def test_a_folder_that_was_there_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    await _write_something(tmp_path / "graph.db")
    assert _mode(tmp_path) == 0o755
    assert {file.name for file in tmp_path.iterdir()} == {"graph.db", "graph.db-witness"}


async def test_a_file_that_was_there_keeps_its_permissions(path: Path) -> None:
    path.touch()
    path.chmod(0o660)
    await _write_something(path)
    assert _mode(path) == 0o660


async def test_a_relative_path_is_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = connect("sqlite:///sub/graph.db", namespace="team")
    await store.open()
    monkeypatch.chdir("/")
    await store.change("acl:a", Document.of(1))
    await store.close()
    assert (tmp_path / "sub" / "graph.db").stat().st_size > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_folder_of_another_user_is_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for folder in list(tmp_path.parents)[:-2]:
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(StoreAccessDenied, match="folder must be writable"):
            await SqliteStore(str(tmp_path / "graph.db"), namespace="team").open()
        with pytest.raises(StoreAccessDenied):
            await SqliteStore(str(tmp_path / "new" / "graph.db"), namespace="team").open()
    finally:
        os.seteuid(0)
    assert list(tmp_path.iterdir()) == []


async def test_a_path_below_a_file_is_refused(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreError, match="cannot be used"):
        await SqliteStore(str(path / "graph.db"), namespace="team").open()


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be used: Is a directory"):
        await SqliteStore(str(tmp_path), namespace="team").open()


async def test_a_store_in_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="temporary folder"):
        await connect("sqlite:///:memory:", namespace="team").open()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph"])
async def test_a_network_file_system_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    table = f"/dev/vda / ext4 rw 0 0\nserver:/x {path.parent} {kind} rw 0 0\n"
    monkeypatch.setattr(files, "_mount_table", lambda: table)
    with pytest.raises(StoreError, match=rf"network file system \({kind}\).*neo4j://"):
        await SqliteStore(str(path), namespace="team").open()
    assert not path.exists()


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("", None),
        ("s:/ / nfs rw 0 0", "nfs"),
        ("s:/ / nfs rw 0 0\n/dev/a /data ext4 rw 0 0", None),
        ("/dev/a / ext4 rw 0 0\ns:/ /data cifs rw 0 0", "cifs"),
        ("/dev/a / ext4 rw 0 0\ns:/ /dat cifs rw 0 0", None),
        ("s:/ /data nfs rw 0 0\n/dev/a /data ext4 rw 0 0", None),
        ("/dev/a /data ext4 rw 0 0\ns:/ /data nfs rw 0 0", "nfs"),
        ("/dev/a / ext4 rw 0 0\ns:/ /data/my\\040disk nfs rw 0 0", "nfs"),
        ("none / fuse.portal rw 0 0", None),
    ],
)
def test_the_innermost_mount_decides(
    monkeypatch: pytest.MonkeyPatch, table: str, found: str | None
) -> None:
    monkeypatch.setattr(files, "_mount_table", lambda: table)
    assert files.network_file_system(Path("/data/my disk/graph.db")) == found


def test_this_machines_mount_table_is_read() -> None:
    table = files._mount_table()
    assert not Path("/proc/self/mounts").exists() or " / " in table


async def test_a_newer_schema_is_refused_and_kept(path: Path) -> None:
    await _write_something(path)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(SchemaTooNew, match=r"version 99.*pip install --upgrade execgraph"):
        await SqliteStore(str(path), namespace="team").open()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (99,)
    raw.close()


async def test_an_older_schema_is_migrated_with_its_data(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _write_something(path)
    newer = [
        *connection._migrations(),
        "-- a comment; with a semicolon\nCREATE TABLE later (x);\nINSERT INTO later VALUES (';');",
    ]
    monkeypatch.setattr(connection, "_migrations", lambda: newer)
    await _write_something(path)
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    assert await store.document("acl:a") is not None
    await store.close()
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT x FROM later").fetchall() == [(";",)]
    assert raw.execute("PRAGMA user_version").fetchone() == (len(newer),)
    raw.close()


async def test_a_trace_of_version_4_is_served_still(path: Path, tmp_path: Path) -> None:
    current = tmp_path / "current.db"
    recording = sample_recording()
    steps = tuple(step.model_copy(update={"started_at": None}) for step in recording.steps)
    store = SqliteStore(str(current), namespace="team")
    await store.open()
    await published(store, recording.model_copy(update={"steps": steps}))
    await store.close()
    old_file(path, 4, current)
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    found = await store.lookup("deploy", newest)
    assert (found.damaged, [trace.steps for trace in found.traces]) == ((), [steps])
    await store.close()


async def test_a_store_of_version_1_is_brought_up_to_date(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.executescript(connection._migrations()[0])
    raw.executescript(
        f"""
        PRAGMA application_id = {connection._APPLICATION};
        PRAGMA user_version = 1;
        INSERT INTO namespace VALUES (1, 'team');
        INSERT INTO resource VALUES (1, 1, 'acl:a', 2, 0, NULL);
        INSERT INTO version VALUES (1, 1, 'digest', 'fingerprint', 5), (1, 2, NULL, NULL, 6);
        INSERT INTO facet VALUES (1, 1, 'facet', 1, NULL);
        INSERT INTO precondition VALUES (1, 1, 'guard', 1, 'fingerprint');
        INSERT INTO holds VALUES (1, 1, 1);
        INSERT INTO change_event VALUES (1, 1, 'one', 1, 0, 1, 0, 'push', 5),
            (2, 1, 'two', 1, 1, 2, 1, 'push', 6);
        INSERT INTO task VALUES (1, 1, 'task', 'agent', 'inputs', NULL);
        INSERT INTO execution (rid, ns, id, state, task, agent, mode, started_at)
            VALUES (1, 1, 'run', 'published', 1, 'agent', 'live', 1);
        INSERT INTO step VALUES (1, 0, 'decision', 'm', 'k', 0, 'c', 'o', 'ok', 0, 1.0, 'h',
            NULL, 0, '[]', 1, 1, 0, 0, NULL, NULL, NULL, NULL);
        INSERT INTO guard VALUES (1, 0, 1);
        """
    )
    raw.close()
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    kinds = [event.kind for event in await store.changes()]
    assert kinds == [ChangeKind.WITHDRAWN, ChangeKind.CHANGED]
    [walk] = await store.walks()
    assert walk.id == "run"
    await store.walk("run")
    assert await store.marks("run") == {0: "guard"}
    assert (await store.totals()).traces == 1
    await store.unpublish("run", "rejected")
    least = Retention(history=0, versions=0, grace=timedelta(0))
    taken = Collected(more=True)
    while taken.more:
        taken += await store.collect(least)
    expected = Collected(executions=1, versions=1, events=1, preconditions=1, facets=1, tasks=1)
    assert taken == expected
    await store.close()
    raw = sqlite3.connect(path)
    for table in ("step", "guard", "mark", "walk", "holds", "changed"):
        rows = raw.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert rows == (0,), f"what belonged to a row of {table} went with it"
    raw.close()


async def test_a_lease_given_before_the_clock_was_set_back_is_free(path: Path) -> None:
    store, hour = SqliteStore(str(path), namespace="team"), timedelta(hours=1)
    await store.open()
    assert await store.lease("walker", "a", hour)
    assert not await store.lease("walker", "b", hour)
    raw = sqlite3.connect(path)
    raw.execute("UPDATE lease SET given = given + 3600000, until = until + 3600000")
    raw.commit()
    raw.close()
    assert await store.lease("walker", "b", hour)
    assert not await store.lease("walker", "a", hour)
    await store.close()


async def test_a_migration_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _write_something(path)
    with monkeypatch.context() as patched:
        broken = [
            *connection._migrations(),
            "CREATE TABLE later (x);\nINSERT INTO nowhere VALUES (1);",
        ]
        patched.setattr(connection, "_migrations", lambda: broken)
        with pytest.raises(StoreError, match="nowhere"):
            await SqliteStore(str(path), namespace="team").open()
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT 1 FROM sqlite_schema WHERE name = 'later'").fetchall() == []
    raw.close()
    await _write_something(path)


async def test_what_is_no_database_is_refused_and_kept(path: Path) -> None:
    path.write_bytes(b"this is a letter to my aunt, and not a database\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match="damaged, or is no SQLite database"):
        await SqliteStore(str(path), namespace="team").open()
    assert path.read_bytes() == before


async def test_a_database_of_another_program_is_refused_and_kept(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE customers (name)")
    raw.commit()
    raw.close()
    with pytest.raises(StoreDamaged, match="of another program"):
        await SqliteStore(str(path), namespace="team").open()
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT name FROM sqlite_schema").fetchall() == [("customers",)]
    raw.close()


async def test_a_damaged_page_is_told_when_it_is_read(path: Path) -> None:
    await _write_something(path)
    raw = sqlite3.connect(path)
    (root,) = raw.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'resource'").fetchone()
    (size,) = raw.execute("PRAGMA page_size").fetchone()
    raw.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    wanted: dict[str, frozenset[str | None]] = {"acl:a": frozenset({None})}
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=r"graph\.db is damaged"):
            await store.read_facts(wanted)
        with pytest.raises(StoreDamaged, match="Restore it from a backup"):
            await store.still("deploy-1", {"acl:a": 1})
        with pytest.raises(StoreDamaged):
            await store.change("acl:a", Document.of(2))
    await store.close()


async def test_a_lock_of_another_process_is_waited_for_while_reads_go_on(path: Path) -> None:
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    await store.change("acl:a", Document.of(1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    change = asyncio.create_task(store.change("acl:a", Document.of(2)))
    await asyncio.sleep(0.8)  # longer than SQLite itself waits
    assert not change.done()
    found = await store.document("acl:a")
    assert found is not None
    assert found[0] == 1
    other.execute("ROLLBACK")
    event = await change
    assert event is not None
    assert event.to_version == 2
    other.close()
    await store.close()


async def test_a_lock_that_stays_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.1)
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process has been writing"):
        await store.change("acl:a", Document.of(1))
    other.execute("ROLLBACK")
    other.close()
    assert await store.change("acl:a", Document.of(1)) is not None
    await store.close()


async def test_a_cancelled_write_does_not_stop_the_next(path: Path) -> None:
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    for n in range(20):
        task = asyncio.create_task(store.change("acl:a", Document.of(n)))
        await asyncio.sleep(0.0005 * (n % 3))
        task.cancel()
        await asyncio.wait([task])
    await store.change("acl:a", Document.of("last"))
    changes = await store.changes()
    assert [it.to_version for it in changes] == list(range(len(changes), 0, -1))
    await store.close()


async def test_a_name_with_half_a_character_is_refused_and_nothing_is_written(path: Path) -> None:
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    with pytest.raises(StoreError, match="half a character"):
        await store.change("acl:\ud83d", Document.of(1))
    assert await store.changes() == []
    assert await store.change("acl:a", Document.of(1)) is not None
    with pytest.raises(StoreError, match="half a character"):
        await store.read_facts({"acl:\ud83d": frozenset()})
    await store.close()
