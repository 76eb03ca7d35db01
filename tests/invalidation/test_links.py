"""What a link leads to is watched where it is."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from execgraph.graphstore.connect import connect
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.files.file_source import FileSource
from execgraph.invalidation.files.links import trail
from execgraph.invalidation.watching.watcher import Watcher

PATIENCE = 30.0  # a test that waits so long has failed; what holds is far below
NEVER = timedelta(hours=1)


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    (tmp_path / "watched").mkdir()
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "watched"


@asynccontextmanager
async def _following(root: Path, interval: timedelta = NEVER) -> AsyncIterator[GraphStore]:
    """A store that follows ``root``, by hints alone once it has begun to look."""
    store = connect(f"sqlite:///{root.parent}/graph.db", namespace="default")
    await store.open()
    source = FileSource(
        "**/*.json",
        resource="rule:{path.stem}",
        root=root,
        interval=interval,
        debounce=timedelta(milliseconds=50),
    )
    async with Watcher(store, [source]):
        (root / "begun.json").write_text("1", encoding="utf-8")
        await _until(store, "rule:begun", 1)
        yield store
    await store.close()


async def _until(store: GraphStore, uri: str, content: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await store.document(uri)
            if (None if found is None else found[1].content) == content:
                return
            await asyncio.sleep(0.02)


def _write(path: Path, content: int) -> Path:
    path.write_text(str(content), encoding="utf-8")
    return path


def _replace(path: Path, content: int) -> None:
    _write(path.with_suffix(".new"), content).replace(path)


def _plain(target: Path, link: Path) -> None:
    link.symlink_to(target)


def _relative(target: Path, link: Path) -> None:
    link.symlink_to(Path("..") / "elsewhere" / target.name)


def _chain(target: Path, link: Path) -> None:
    between = target.parent / "between"
    between.mkdir()
    (between / "second").symlink_to(Path("..") / target.name)
    (between / "first").symlink_to(between / "second")
    link.symlink_to(between / "first")


def _by_a_directory(target: Path, link: Path) -> None:
    """As a ConfigMap has it: the visible file, `..data`, and a directory with a date."""
    (target.parent.parent / "data").symlink_to(target.parent)
    link.symlink_to(target.parent.parent / "data" / target.name)


@pytest.mark.parametrize("made", [_plain, _relative, _chain, _by_a_directory])
@pytest.mark.parametrize("change", [_write, _replace])
async def test_what_a_link_leads_to_is_followed(
    watched: Path, made: Callable[[Path, Path], None], change: Callable[[Path, int], Any]
) -> None:
    target = _write(watched.parent / "elsewhere" / "target", 1)
    made(target, watched / "rule.json")
    async with _following(watched) as store:
        await _until(store, "rule:rule", 1)
        change(target, 2)
        await _until(store, "rule:rule", 2)
        target.unlink()
        await _until(store, "rule:rule", None)
        _write(target, 3)
        await _until(store, "rule:rule", 3)


async def test_a_link_that_leads_elsewhere_from_now_on_is_followed_there(watched: Path) -> None:
    one, two = (_write(watched.parent / "elsewhere" / name, n) for n, name in enumerate("ab"))
    link = watched / "rule.json"
    link.symlink_to(one)
    async with _following(watched) as store:
        await _until(store, "rule:rule", 0)
        (watched / "new").symlink_to(two)
        (watched / "new").rename(link)
        await _until(store, "rule:rule", 1)
        await asyncio.sleep(0.3)  # until it looks at the other target
        _write(two, 2)
        await _until(store, "rule:rule", 2)


async def test_a_link_in_the_middle_that_leads_elsewhere_is_followed(watched: Path) -> None:
    one, two = (_write(watched.parent / "elsewhere" / name, n) for n, name in enumerate("ab"))
    middle = watched.parent / "elsewhere" / "middle"
    middle.symlink_to(one)
    (watched / "rule.json").symlink_to(middle)
    async with _following(watched) as store:
        await _until(store, "rule:rule", 0)
        (watched.parent / "elsewhere" / "new").symlink_to(two)
        (watched.parent / "elsewhere" / "new").rename(middle)
        await _until(store, "rule:rule", 1)


async def test_a_link_made_while_looking_and_one_to_what_comes_later(watched: Path) -> None:
    target = watched.parent / "elsewhere" / "later"
    (watched / "dangling.json").symlink_to(target)
    async with _following(watched) as store:
        (watched / "made.json").symlink_to(target)
        await asyncio.sleep(0.3)
        _write(target, 1)
        await _until(store, "rule:dangling", 1)
        await _until(store, "rule:made", 1)
        _write(target, 2)
        await _until(store, "rule:dangling", 2)
        await _until(store, "rule:made", 2)


async def test_links_that_lead_in_a_circle_are_no_resource_and_stop_nothing(watched: Path) -> None:
    (watched / "a.json").symlink_to(watched / "b.json")
    (watched / "b.json").symlink_to(watched / "a.json")
    (watched / "self.json").symlink_to("self.json")
    async with _following(watched) as store:
        _write(watched / "rule.json", 1)
        await _until(store, "rule:rule", 1)
        assert await store.document("rule:self") is None


async def test_a_file_that_is_changed_by_another_name_of_it_is_followed(watched: Path) -> None:
    other = _write(watched.parent / "elsewhere" / "other", 1)
    os.link(other, watched / "rule.json")
    async with _following(watched) as store:
        await _until(store, "rule:rule", 1)
        _write(other, 2)
        await _until(store, "rule:rule", 2)


async def test_what_is_written_through_shared_memory_is_read_within_max_age(watched: Path) -> None:
    file = _write(watched / "rule.json", 1)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as page:
        page[0:1] = b"1"
        async with _following(watched, interval=timedelta(seconds=0.3)) as store:
            await asyncio.sleep(
                2.5
            )  # until its times can be trusted, and no scan reads it any more
            page[0:1] = b"2"
            await _until(store, "rule:rule", 2)


def test_a_trail_names_all_that_decides_what_a_path_is(watched: Path) -> None:
    elsewhere = watched.parent / "elsewhere"
    (watched.parent / "data").symlink_to(elsewhere)
    (elsewhere / "middle").symlink_to("target")
    (watched / "rule.json").symlink_to("../data/middle")
    passed = (watched.parent / "data", elsewhere / "middle", elsewhere / "target")
    assert trail(str(watched / "rule.json")) == tuple(map(str, passed))
    assert trail(str(elsewhere / "target")) == ()
