"""Several services watch into one store, each the files that it sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import FactState
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.files.file_source import FileSource
from execgraph.invalidation.watching.watcher import Watcher

SPACE = "default"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GraphStore]:
    store = SqliteStore(str(tmp_path / "graph.db"), namespace=SPACE)
    await store.open()
    yield store
    await store.close()


def service(root: Path, name: str) -> FileSource:
    (root / "acl").mkdir(parents=True)
    (root / f"acl/{name}.json").write_text('{"allow": true}', encoding="utf-8")
    return FileSource("acl/*.json", resource="acl:{path.stem}", root=root)


async def states(store: GraphStore, *uris: str) -> list[FactState]:
    facts = await store.read_facts(dict.fromkeys(uris, frozenset()))
    return [facts.of(uri).state for uri in uris]


async def test_equal_globs_in_two_folders_withdraw_nothing_of_each_other(
    store: GraphStore, tmp_path: Path
) -> None:
    billing, search = service(tmp_path / "a", "billing"), service(tmp_path / "b", "search")
    async with Watcher(store, [billing]), Watcher(store, [search]):
        assert await states(store, "acl:billing", "acl:search") == [FactState.PRESENT] * 2
    async with Watcher(store, [billing]):
        assert await states(store, "acl:billing", "acl:search") == [FactState.PRESENT] * 2


async def test_what_has_gone_while_nobody_watched_is_withdrawn_by_the_next_of_that_folder(
    store: GraphStore, tmp_path: Path
) -> None:
    billing = service(tmp_path / "a", "billing")
    async with Watcher(store, [billing]):
        pass
    (tmp_path / "a/acl/billing.json").unlink()
    again = FileSource("acl/*.json", resource="acl:{path.stem}", root=tmp_path / "x/../a")
    async with Watcher(store, [again]):
        assert await states(store, "acl:billing") == [FactState.WITHDRAWN]


class Folders:
    """Two services that each have a folder of their own, and the same idea of a resource."""

    def __init__(self, store: GraphStore, tmp_path: Path) -> None:
        self.store = store
        self.files = [tmp_path / name / "deploy.json" for name in ("a", "b")]
        for file in self.files:
            file.parent.mkdir()
        self.services: list[Watcher] = []

    def say(self, number: int, document: str) -> None:
        self.files[number].write_text(document, encoding="utf-8")

    def service(self, number: int, *, root: Path | None = None) -> Watcher:
        source = FileSource(
            "*.json",
            resource="acl:{path.stem}",
            root=root or self.files[number].parent,
            interval=timedelta(milliseconds=40),
            max_age=timedelta(milliseconds=400),
            debounce=timedelta(0),
        )
        return Watcher(self.store, [source])

    async def state(self) -> FactState:
        return (await states(self.store, "acl:deploy"))[0]

    async def becomes(self, wanted: FactState) -> None:
        async with asyncio.timeout(20):
            while await self.state() is not wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def rests(self, wanted: FactState) -> None:
        """It stays so for some scans of both, without a change."""
        await self.becomes(wanted)
        events = len(await self.store.changes(resource="acl:deploy"))
        await asyncio.sleep(0.25)
        assert await self.state() is wanted
        assert len(await self.store.changes(resource="acl:deploy")) == events


@pytest.fixture
def folders(store: GraphStore, tmp_path: Path) -> Folders:
    found = Folders(store, tmp_path)
    for number in (0, 1):
        found.say(number, '{"allow": true}')
    return found


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [it for it in caplog.messages if "see different documents" in it]


async def test_what_two_watchers_see_differently_is_withdrawn_and_told_once(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    async with folders.service(0), folders.service(1):
        await folders.rests(FactState.PRESENT)
        folders.say(1, '{"allow": false}')
        await folders.rests(FactState.WITHDRAWN)
        assert len(complaints(caplog)) == 2, "each of the two, once"
        assert all("/a as" in it and "/b as" in it for it in complaints(caplog))


async def test_it_is_back_when_they_agree_again(folders: Folders) -> None:
    async with folders.service(0), folders.service(1):
        folders.say(1, '{"allow": false}')
        await folders.rests(FactState.WITHDRAWN)
        folders.say(0, '{"allow": false}')
        await folders.rests(FactState.PRESENT)
        found = await folders.store.document("acl:deploy")
        assert found is not None
        assert found[1].content == {"allow": False}


async def test_it_is_back_when_one_of_them_ends(folders: Folders) -> None:
    async with folders.service(0):
        async with folders.service(1):
            folders.say(1, '{"allow": false}')
            await folders.rests(FactState.WITHDRAWN)
        await folders.rests(FactState.PRESENT)
        found = await folders.store.document("acl:deploy")
        assert found is not None
        assert found[1].content == {"allow": True}


async def test_a_third_document_ends_no_dispute(folders: Folders) -> None:
    async with folders.service(0), folders.service(1):
        folders.say(1, '{"allow": false}')
        await folders.rests(FactState.WITHDRAWN)
        folders.say(1, '{"allow": "perhaps"}')
        await folders.rests(FactState.WITHDRAWN)


async def test_a_service_that_comes_later_with_other_files_joins_the_dispute(
    folders: Folders,
) -> None:
    folders.say(1, '{"allow": false}')
    async with folders.service(0):
        await folders.rests(FactState.PRESENT)
        async with folders.service(1):
            await folders.rests(FactState.WITHDRAWN)
        async with folders.service(1):
            await folders.rests(FactState.WITHDRAWN)


async def test_a_change_that_both_see_is_no_dispute(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    async with folders.service(0), folders.service(0):
        for number in range(5):
            folders.say(0, f'{{"allow": {number}}}')
            await asyncio.sleep(0.1)
        await folders.rests(FactState.PRESENT)
    assert complaints(caplog) == []


async def test_what_is_pushed_is_no_dispute(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    async with folders.service(0):
        await folders.store.change("acl:deploy", Document.of({"allow": "pushed"}))
        await asyncio.sleep(0.2)
        await folders.rests(FactState.PRESENT)
    assert complaints(caplog) == []
