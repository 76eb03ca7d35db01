"""Several processes on one file, some of which are killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from execgraph.graphstore.document import Document
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.tests.conformance.samples import newest

_WORKER = """
import asyncio, itertools, sys
from execgraph.tests.conformance.samples import guard, published, sample_recording
from execgraph.graphstore.document import Document
from execgraph.graphstore.sqlite.store import SqliteStore

async def main(path, worker, rounds):
    store = SqliteStore(path, namespace="team")
    await store.open()
    for n in (range(rounds) if rounds else itertools.count()):
        content = {"worker": worker, "n": n}
        event = await store.change("acl:a", Document.of(content))
        assert event is not None
        recording = sample_recording(
            f"task-{worker}", number=n, says=f"{n}", guards=[guard("team", "acl:a", content)]
        )
        assert (await published(store, recording)).published
        print(n, flush=True)
    await store.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""

# Trace n is published only while version n is current.
_MOVER = """
import asyncio, sys
from execgraph.tests.conformance.samples import guard, published, sample_recording
from execgraph.graphstore.document import Document
from execgraph.graphstore.sqlite.store import SqliteStore

async def main(path, _, rounds):
    store = SqliteStore(path, namespace="team")
    await store.open()
    for n in range(1, rounds + 1):
        await store.change("acl:a", Document.of({"a": n}))
        held = guard("team", "acl:a", {"a": n}, "$.a")
        recording = sample_recording(number=n, says=f"{n}", guards=[held], turns=30)
        await published(store, recording)
        await asyncio.sleep(0.002)
        await store.unpublish(recording.execution.id, "it moves on")
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def _start(path: Path, worker: int, rounds: int, script: str = _WORKER) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(path), str(worker), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def _versions(store: SqliteStore) -> list[tuple[int, int]]:
    changes = await store.changes(limit=10_000)
    return [(it.from_version, it.to_version) for it in changes][::-1]


async def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    workers, rounds = 4, 20
    path = tmp_path / "new" / "graph.db"
    processes = [_start(path, worker, rounds) for worker in range(workers)]
    for process in processes:
        _, errors = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, errors
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    assert await _versions(store) == [(n, n + 1) for n in range(workers * rounds)]
    for worker in range(workers):
        found = await store.lookup(f"task-{worker}", newest)
        assert len(found.traces) == 8
        assert found.damaged == ()
        assert found.chosen == f"task-{worker}-{rounds - 1}"
    await store.close()


async def test_a_second_store_in_a_process_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """Or the next process to close believes to be the last, and deletes the log of the others."""
    path = tmp_path / "graph.db"
    one, two = SqliteStore(str(path), namespace="team"), SqliteStore(str(path), namespace="team")
    await one.open()
    await two.open()
    await two.close()
    _, errors = await asyncio.to_thread(_start(path, 1, 3).communicate, timeout=60)
    assert errors == ""
    assert _files(tmp_path) == {"graph.db", "graph.db-shm", "graph.db-wal", "graph.db-witness"}
    await one.change("acl:a", Document.of("mine"))
    await one.close()
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    assert await _versions(store) == [(n, n + 1) for n in range(4)]
    await store.close()


async def test_a_killed_process_leaves_whole_transactions(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    for worker in range(3):
        process = _start(path, worker, 0)
        assert process.stdout is not None
        done = [process.stdout.readline() for _ in range(5 + worker)]
        await asyncio.sleep(0.003 * worker)  # another moment of its work each time
        process.kill()
        process.communicate()
        assert done[-1] == f"{4 + worker}\n"

        store = SqliteStore(str(path), namespace="team")
        await store.open()
        versions = await _versions(store)
        assert versions == [(n, n + 1) for n in range(len(versions))]
        assert len(versions) >= len(done)
        found = await store.lookup(f"task-{worker}", newest)
        assert found.damaged == ()
        assert int((found.chosen or "").rpartition("-")[2]) >= 4 + worker
        assert await store.change("acl:a", Document.of("after the crash")) is not None
        await store.close()


async def test_a_lookup_is_of_one_moment_while_another_process_moves_on(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    store = SqliteStore(str(path), namespace="team")
    await store.open()
    process = _start(path, 0, 60, _MOVER)
    seen = set()
    while process.poll() is None:
        found = await store.lookup("deploy", newest)
        assert found.damaged == ()
        for trace in found.traces:
            assert trace.id == f"deploy-{found.facts.of('acl:a').version}"
            seen.add(trace.id)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert len(seen) > 10
    await store.close()
