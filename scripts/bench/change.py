"""A changed fact is in force after one commit, whatever rests on it.

A resource with two facets, on one of which 10, 1,000 and 100,000 steps rest, is changed again and
again; beside it the least durable commit that there is: on SQLite an insert of one row into a file
of its own, as durable as a change (`synchronous=FULL`), on Neo4j the creation of one node. What
rests on the facet is marked later, and not here.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import Document
from execgraph.graphstore.store import GraphStore

from .bolt import bolt
from .generate import Generated
from .measure import Row, Setting, Side, side_by_side
from .stores import HOT, NAMESPACE, generated, hot_steps, in_folder, in_namespace

__all__ = ["run"]

_DEPENDANTS = (10, 1_000, 100_000)
_GOAL = 2.0
_COMMIT = "a bare commit"

_Call = Callable[[], Awaitable[object]]


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s."""
    found = await _on_sqlite(setting)
    if setting.neo4j is not None:
        found += await _on_neo4j(setting, setting.neo4j)
    return found


async def _on_sqlite(setting: Setting) -> list[Row]:
    with in_folder(setting) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
        calls: dict[int, _Call] = {}
        async with AsyncExitStack() as stack:
            for dependants in _DEPENDANTS:
                made = folder / f"hot-{dependants}.db"
                await generated(setting, _url(made), NAMESPACE, hot_steps(dependants), 1)
                # A copy: the walks that the changes open are never done.
                copy = shutil.copy(made, scratch)
                store = await _opened(stack, _url(copy))
                calls[dependants] = await _changing(store)
            commit = stack.enter_context(closing(_bare(Path(scratch) / "bare.db")))

            async def bare() -> None:
                commit.execute("INSERT INTO bare (n) VALUES (1)")

            return await _rows(setting, "SQLite", calls, bare)


def _url(path: Path | str) -> str:
    return f"sqlite:///{path}"


def _bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE bare (n INTEGER)")
    return connection


async def _on_neo4j(setting: Setting, address: str) -> list[Row]:
    async with bolt(address) as it, AsyncExitStack() as stack:
        calls: dict[int, _Call] = {}
        for dependants in _DEPENDANTS:
            name = f"hot-{dependants}"
            namespace = await stack.enter_async_context(in_namespace(setting, it, name))
            await generated(setting, it.url, namespace, hot_steps(dependants), 1)
            store = connect(it.url, namespace=namespace, driver=it.driver)
            await store.open()
            calls[dependants] = await _changing(store)
            stack.push_async_callback(_restore, store)
            # Nothing was marked meanwhile, so that nothing is to be walked.
            forget = (
                "MATCH (c:ChangeEvent) WHERE c.namespace = $ns AND c.walk = 'open' REMOVE c.walk"
            )
            stack.push_async_callback(it.rows, forget, ns=namespace)
        return await _rows(setting, "Neo4j", calls, it.commit)


async def _opened(stack: AsyncExitStack, url: str) -> GraphStore:
    store = connect(url, namespace=NAMESPACE)
    await store.open()
    stack.push_async_callback(store.close)
    return store


async def _changing(store: GraphStore) -> _Call:
    """Changes the resource, as it was never before."""
    await store.facts({HOT: frozenset({"$.rule", "$.groups"})})
    facets = await store.facets(HOT)
    assert facets == {"$.rule", "$.groups"}, facets
    numbers = itertools.count()
    first = await store.document(HOT)
    version = 0 if first is None else first[0]

    async def change() -> None:
        number = next(numbers)
        document = {"rule": f"deny-{version}-{number}", "name": HOT, "groups": [f"{number}"]}
        event = await store.change(HOT, Document.of(document))
        assert event is not None
        assert len(event.changed) == len(facets)

    return change


async def _restore(store: GraphStore) -> None:
    document = Generated(store.namespace, 1).documents[HOT]
    await store.change(HOT, document)


async def _rows(setting: Setting, store: str, calls: dict[int, _Call], bare: _Call) -> list[Row]:
    setting.say.phase(f"changing in turns with a bare commit, {store}")
    names = {dependants: f"{dependants:,} dependants" for dependants in calls}
    sides = [Side(names[dependants], call) for dependants, call in calls.items()]
    p50s = await side_by_side(setting, Side(_COMMIT, bare), *sides)
    return [
        Row(
            f"a change, {name}, {store}",
            f"{p50s[name]:.3f} ms",
            f"{_COMMIT} {p50s[_COMMIT]:.3f} ms",
            p50s[name] / p50s[_COMMIT],
            _GOAL,
        )
        for name in names.values()
    ]
