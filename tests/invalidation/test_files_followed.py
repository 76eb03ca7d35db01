"""Whatever happens in a directory, hints alone make facts what the files say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from execgraph.graphstore.canonical import Json
from execgraph.graphstore.connect import connect
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.files.file_source import FileSource
from execgraph.invalidation.watching.watcher import Watcher

PATIENCE = 30.0
NEVER = timedelta(hours=1)
KINDS = ("replace", "replace", "write", "write", "delete", "rename", "make", "move", "drop", "link")


class Mischief:
    """Does things at random to a directory."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.done = 0

    def act(self) -> None:
        self.done += 1
        with contextlib.suppress(OSError):  # what cannot be done is not done
            getattr(self, self.random.choice(KINDS))(self.random.choice(self.directories()))

    def directories(self) -> list[Path]:
        below = sorted(self.root.rglob("*"))
        return [self.root, *(it for it in below if it.is_dir() and not it.is_symlink())]

    def file(self, directory: Path) -> Path:
        return directory / f"{self.random.randrange(5)}.json"

    def some(self) -> Path:
        return self.random.choice([*self.root.rglob("*.json"), self.root / "none"])

    def replace(self, directory: Path) -> None:
        scratch = directory / ".scratch"
        scratch.write_text(json.dumps(self.done), encoding="utf-8")
        scratch.replace(self.file(directory))

    def write(self, directory: Path) -> None:
        self.file(directory).write_text(json.dumps(self.done), encoding="utf-8")

    def delete(self, _: Path) -> None:
        self.some().unlink()

    def rename(self, directory: Path) -> None:
        self.some().rename(self.file(directory))

    def make(self, directory: Path) -> None:
        if len(self.directories()) < 20:
            (directory / f"d{self.random.randrange(4)}").mkdir()

    def move(self, directory: Path) -> None:
        directory.rename(self.random.choice(self.directories()) / f"d{self.random.randrange(4)}")

    def drop(self, directory: Path) -> None:
        if directory != self.root:
            shutil.rmtree(directory)

    def link(self, directory: Path) -> None:
        links = [it for it in self.root.rglob("*") if it.is_symlink()]
        if len(links) > 2:
            self.random.choice(links).unlink()
        (directory / "link").symlink_to(self.random.choice(self.directories()))


async def facts(store: GraphStore, source: FileSource) -> dict[str, Json]:
    known = await store.resources(source.name)
    found = {uri: await store.document(uri) for uri in known}
    return {uri: it[1].content for uri, it in found.items() if it is not None}


async def files(root: Path) -> dict[str, Json]:
    fresh = FileSource("**/*.json", resource="rule:{path}", root=root)
    return {uri: await fresh.read(uri) for uri in await fresh.resources()}


@pytest.mark.parametrize("polling", [False, True], ids=["events", "polling"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_facts_become_what_the_files_say(tmp_path: Path, seed: int, polling: bool) -> None:  # noqa: FBT001
    mischief = Mischief(tmp_path / "root", seed)
    mischief.root.mkdir()
    source = FileSource(
        "**/*.json",
        resource="rule:{path}",
        root=mischief.root,
        interval=NEVER,
        debounce=timedelta(milliseconds=50),
        polling=polling,
    )
    store = connect(f"sqlite:///{tmp_path}/graph.db", namespace="default")
    await store.open()
    async with Watcher(store, [source]):
        for _ in range(5):
            for _ in range(mischief.random.randrange(10, 60)):
                mischief.act()
                await asyncio.sleep(mischief.random.choice([0, 0, 0, 0.05]))
            async with asyncio.timeout(PATIENCE):
                while await facts(store, source) != await files(mischief.root):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        assert await files(mischief.root) != {}
    await store.close()
