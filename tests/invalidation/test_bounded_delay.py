"""A changed rule is in force soon, whatever lies beside it and whatever else is at work."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import GONE, NULL
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.files.file_source import FileSource
from execgraph.invalidation.source import Source
from execgraph.invalidation.watching.watcher import Watcher

PATIENCE = 20.0  # a test that waits so long has failed; what holds is far below
NEVER = timedelta(hours=1)
BOMB = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 8)}]}}\n" for n in range(1, 9)
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GraphStore]:
    store = connect(f"sqlite:///{tmp_path}/graph.db", namespace="default")
    await store.open()
    yield store
    await store.close()


async def _until(store: GraphStore, uri: str, content: Any) -> None:
    """Wait until the store believes ``content`` of ``uri``; GONE: that it is withdrawn."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await store.document(uri)
            if (GONE if found is None else found[1].content) == content:
                return
            await asyncio.sleep(0.02)


def _files(root: Path, glob: str = "*") -> FileSource:
    return FileSource(
        glob,
        resource="rule:{path.stem}",
        root=root,
        interval=NEVER,
        debounce=timedelta(milliseconds=50),
    )


class _Held(Source):
    """A source of two resources; what is read of ``rule:slow`` does not come."""

    name = "held"
    max_age = None
    interval = NEVER

    def __init__(self) -> None:
        self.hints: asyncio.Queue[str | None] = asyncio.Queue()
        self.slow = False
        self.value = 0

    async def resources(self) -> list[str]:
        return ["rule:slow", "rule:quick"]

    async def read(self, uri: str) -> Any:
        if uri == "rule:slow" and self.slow:
            await asyncio.Event().wait()
        return {"value": self.value}

    async def changes(self) -> AsyncIterator[str | None]:
        while True:
            yield await self.hints.get()


@pytest.mark.parametrize("hint", ["rule:slow", None], ids=["a resource", "a scan"])
async def test_what_is_read_for_long_delays_no_other_resource_of_its_source(
    store: GraphStore, hint: str | None
) -> None:
    source = _Held()
    async with Watcher(store, [source]):
        source.slow = True
        source.hints.put_nowait(hint)
        await asyncio.sleep(0.05)
        source.value = 1
        source.hints.put_nowait("rule:quick")
        await _until(store, "rule:quick", {"value": 1})


async def test_what_changes_while_it_is_read_is_read_once_more(store: GraphStore) -> None:
    class Twice(_Held):
        reads = 0
        going = asyncio.Event()

        async def read(self, uri: str) -> Any:
            value = self.value
            if self.slow and uri == "rule:quick":
                self.reads += 1
                await self.going.wait()
            return {"value": value}

    source = Twice()
    async with Watcher(store, [source]):
        source.slow = True
        source.value = 1
        source.hints.put_nowait("rule:quick")
        await asyncio.sleep(0.05)
        source.value = 2
        for _ in range(5):
            source.hints.put_nowait("rule:quick")
        await asyncio.sleep(0.05)
        source.going.set()
        await _until(store, "rule:quick", {"value": 2})
        assert source.reads == 2


def _bomb(root: Path) -> None:
    (root / "bomb.yaml").write_text(BOMB, encoding="utf-8")


def _large(root: Path, rules: int = 90_000) -> None:
    text = "".join(f"- {{name: rule{n}, allow: true, who: [a, b, c]}}\n" for n in range(rules))
    (root / "large.yaml").write_text(text, encoding="utf-8")


def _pipe(root: Path) -> None:
    os.mkfifo(root / "pipe.json")


def _undecided(root: Path) -> None:
    (root / "half.json").write_text('{"allow":', encoding="utf-8")


def _deep(root: Path) -> None:
    (root / "deep.yaml").write_text("[" * 500_000, encoding="utf-8")
    (root / "deep.toml").write_text("a." * 500_000 + "a = 1", encoding="utf-8")


@pytest.mark.parametrize("beside", [_bomb, _large, _pipe, _undecided, _deep])
async def test_a_bad_file_delays_no_other(
    store: GraphStore, tmp_path: Path, beside: Callable[[Path], None]
) -> None:
    root = tmp_path / "rules"
    root.mkdir()
    rule = root / "deploy.yaml"
    rule.write_text("allow: true", encoding="utf-8")
    async with Watcher(store, [_files(root)]):
        beside(root)
        await asyncio.sleep(0.3)  # it is being read by now
        rule.write_text("allow: false", encoding="utf-8")
        await _until(store, "rule:deploy", {"allow": False})


async def test_sources_are_read_while_all_threads_of_asyncio_are_taken(
    store: GraphStore, tmp_path: Path
) -> None:
    """They are the program's: synchronous work of its own fills them."""
    rule = tmp_path / "deploy.json"
    rule.write_text('{"allow": true}', encoding="utf-8")
    release = threading.Event()
    async with Watcher(store, [_files(tmp_path, "*.json")]):
        taken = [
            asyncio.ensure_future(asyncio.to_thread(release.wait, PATIENCE))
            for _ in range(min(32, (os.cpu_count() or 1) + 4))
        ]
        await asyncio.sleep(0)
        rule.write_text('{"allow": false}', encoding="utf-8")
        await _until(store, "rule:deploy", {"allow": False})
        assert not any(task.done() for task in taken)
        release.set()
        await asyncio.gather(*taken)


async def test_a_large_file_leaves_the_event_loop_its_turns(
    store: GraphStore, tmp_path: Path
) -> None:
    """At the best of three times: other processes may have the machine meanwhile."""
    waited = []
    for number in range(3):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        _large(folder, 6_000)
        waited.append(await _longest_turn(store, folder))
        if waited[-1] < 1 / 2:
            return
    raise AssertionError(f"of the time that a file took, a turn took {waited}")


async def _longest_turn(store: GraphStore, folder: Path) -> float:
    """How long the event loop had no turn, as a part of the time that a watcher took to start."""
    longest, last = 0.0, time.monotonic()

    async def turn() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    turning = asyncio.ensure_future(turn())
    began = time.monotonic()
    async with Watcher(store, [_files(folder, "*.yaml")]):
        took = time.monotonic() - began
    turning.cancel()
    return longest / took


async def test_null_and_nothing_are_told_apart(store: GraphStore) -> None:
    class Sayer(_Held):
        says: Any = NULL

        async def read(self, uri: str) -> Any:
            return self.says

    source = Sayer()
    async with Watcher(store, [source]):
        found = await store.document("rule:quick")
        assert found is not None
        assert found[1].content is None
        source.says = None
        source.hints.put_nowait("rule:quick")
        await _until(store, "rule:quick", GONE)
