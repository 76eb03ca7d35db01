"""Several services watch into one store, each the files that it sees."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from execgraph.graphstore.facts import FactState
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.files import FileSource
from execgraph.invalidation.watcher import Watcher

SPACE = "default"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GraphStore]:
    store = SqliteStore(str(tmp_path / "graph.db"))
    await store.open()
    yield store
    await store.close()


def service(root: Path, name: str) -> FileSource:
    (root / "acl").mkdir(parents=True)
    (root / f"acl/{name}.json").write_text('{"allow": true}', encoding="utf-8")
    return FileSource("acl/*.json", resource="acl:{path.stem}", root=root)


async def states(store: GraphStore, *uris: str) -> list[FactState]:
    facts = await store.read_facts(SPACE, dict.fromkeys(uris, frozenset()))
    return [facts.of(uri).state for uri in uris]


async def test_equal_globs_in_two_folders_withdraw_nothing_of_each_other(
    store: GraphStore, tmp_path: Path
) -> None:
    billing, search = service(tmp_path / "a", "billing"), service(tmp_path / "b", "search")
    async with Watcher(store, SPACE, [billing]), Watcher(store, SPACE, [search]):
        assert await states(store, "acl:billing", "acl:search") == [FactState.PRESENT] * 2
    async with Watcher(store, SPACE, [billing]):
        assert await states(store, "acl:billing", "acl:search") == [FactState.PRESENT] * 2


async def test_what_has_gone_while_nobody_watched_is_withdrawn_by_the_next_of_that_folder(
    store: GraphStore, tmp_path: Path
) -> None:
    billing = service(tmp_path / "a", "billing")
    async with Watcher(store, SPACE, [billing]):
        pass
    (tmp_path / "a/acl/billing.json").unlink()
    again = FileSource("acl/*.json", resource="acl:{path.stem}", root=tmp_path / "x/../a")
    async with Watcher(store, SPACE, [again]):
        assert await states(store, "acl:billing") == [FactState.WITHDRAWN]
