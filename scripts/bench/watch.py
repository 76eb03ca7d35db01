"""Files under watch: how soon a change is a fact, and what it costs that nothing changed.

A file is replaced by a rename, as careful writers do it. Time runs from the rename to the moment
the change is committed, less the debounce that the source was told to wait. The rescan lists
10,000 files and renews 10,000 facts; it must read no file.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from execgraph.graphstore.canonical import Json
from execgraph.graphstore.connect import connect
from execgraph.graphstore.model import ChangeEvent
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.files.file_source import FileSource
from execgraph.invalidation.watching.watcher import Watcher

from .measure import Row, Setting

__all__ = ["run"]

_DEBOUNCE = timedelta(milliseconds=200)
_FILES = 10_000
_AGED_SECONDS = 2.2  # after which a file's times are trusted
_RESCANS = 5
_GOAL_MS, _GOAL_SECONDS = 50.0, 2.0


async def run(setting: Setting) -> list[Row]:
    """Times beside their goals, and the number of files that a rescan reads."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stores = {"SQLite": f"sqlite:///{folder}/graph.db"}
        if setting.neo4j is not None:
            stores["Neo4j"] = setting.neo4j
        for name, url in stores.items():
            async with _opened(url) as store:
                setting.say.phase(f"replacing a file, {name}")
                rows.append(await _latency(setting, store, name, Path(folder, name)))
        async with _opened(stores["SQLite"]) as store:
            rows += await _rescan(setting, store, Path(folder, "many"))
    return rows


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[GraphStore]:
    store = connect(url, namespace=f"bench-{uuid.uuid4().hex}")
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def _latency(setting: Setting, store: GraphStore, name: str, folder: Path) -> Row:
    rule = _put(folder / "rule.json", "0")
    committed: asyncio.Queue[float] = asyncio.Queue()

    def on_change(_: ChangeEvent) -> None:
        committed.put_nowait(time.perf_counter())

    source = FileSource("*.json", resource="rule:{path.stem}", root=folder, debounce=_DEBOUNCE)
    taken = []
    rounds = max(5, setting.rounds // 10)
    advance = setting.say.counting(rounds)
    async with Watcher(store, [source], on_change=on_change):
        await committed.get()
        await asyncio.sleep(1)  # until the operating system tells of changes
        for done in range(1, rounds + 1):
            scratch = _put(folder / "scratch", str(done))
            await asyncio.sleep(0.05)
            began = time.perf_counter()
            scratch.replace(rule)
            taken.append((await committed.get() - began) * 1000)
            advance(done)
    waited = _DEBOUNCE.total_seconds() * 1000
    p50 = statistics.median(taken)
    return Row(
        f"from a file's rename to the fact in force, {name}",
        f"p50 {p50:.0f} ms",
        f"of it {waited:.0f} ms debounce",
        p50 - waited,
        _GOAL_MS,
        " ms",
    )


def _put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class _Counting(FileSource):
    """Counts what is read."""

    reads = 0

    async def read(self, uri: str) -> Json:
        self.reads += 1
        return await super().read(uri)


async def _rescan(setting: Setting, store: GraphStore, folder: Path) -> list[Row]:
    setting.say.phase(f"writing {_FILES:,} files, and reading them once")
    for number in range(_FILES):
        _put(folder / f"{number // 100}/{number % 100}.json", f"[{number}]")
    await asyncio.sleep(_AGED_SECONDS)
    source = _Counting("**/*.json", resource="rule:{path}", root=folder)
    watcher = Watcher(store, [source])
    began = time.perf_counter()
    await watcher.scan()
    first = time.perf_counter() - began
    assert source.reads == _FILES, source.reads
    source.reads = 0
    setting.say.phase("scanning them again")
    taken = []
    for _ in range(_RESCANS):
        began = time.perf_counter()
        await watcher.scan()
        taken.append(time.perf_counter() - began)
    p50 = statistics.median(taken)
    what = f"rescan of {_FILES:,} unchanged files, SQLite"
    return [
        Row(what, f"p50 {p50:.2f} s", f"first scan {first:.1f} s", p50, _GOAL_SECONDS, " s"),
        Row(f"{what}: files read", str(source.reads), "", source.reads, 0.0, ""),
    ]
