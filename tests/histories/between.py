"""What happens between the statements of a store: changes by others, and what they make a reader
of a read-committed server see. Test code around production code, which has no hooks for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from execgraph.graphstore.document import Document
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.sqlite import facts, traces
from execgraph.graphstore.sqlite.changes import Change
from execgraph.graphstore.sqlite.connection import connect

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from execgraph.graphstore.facts import Facts
    from execgraph.graphstore.store import GraphStore

    from .world import World

__all__ = ["unwatch_lookup", "watch_effects", "watch_lookup"]


def watch_effects(world: World, store: GraphStore) -> None:
    """Right before an effect is begun is a point where things happen."""
    intend = store.intend

    async def watched(*arguments: Any, **more: Any) -> Any:
        await world.reached("effect")
        return await intend(*arguments, **more)

    vars(store)["intend"] = watched


def watch_lookup(world: World) -> None:
    """Let the changes land while the next lookup reads: after the first fact of those changed."""
    assert world.meanwhile is not None
    store = world.processes[world.meanwhile.process].store
    if isinstance(store, Neo4jStore):
        _watch_statement(world, store)
    else:
        vars(traces)["facts"] = _Reading(world)


def unwatch_lookup(world: World) -> None:
    vars(traces)["facts"] = facts
    for process in world.processes:
        if isinstance(process.store, Neo4jStore):
            vars(process.store._client).pop("row", None)


class _Reading:
    """Stands for the module that reads facts, one resource after another as that does."""

    def __init__(self, world: World) -> None:
        self._world = world

    def read(
        self, connection: sqlite3.Connection, ns: int, wanted: Mapping[str, frozenset[str | None]]
    ) -> Facts:
        found: dict[str, Any] = {}
        for uri, selectors in wanted.items():
            found |= facts.read(connection, ns, {uri: selectors}).by_resource
            self._happened(uri)
        now = facts.read(connection, ns, {}).now
        return type(facts.read(connection, ns, {}))(now, found)

    def _happened(self, uri: str) -> None:
        armed = self._world.meanwhile
        if armed is None or uri not in dict(armed.changes):
            return
        self._world.meanwhile = None
        other = connect(Path(self._world.url.removeprefix("sqlite:///")))
        try:
            # What was read is changed first: with what is read next it never held together.
            for changed, document in sorted(armed.changes, key=lambda it: it[0] != uri):
                self._world.documents[changed] = document
                made = None if document is None else Document.of(document)
                Change(self._world.namespace, changed, made, until=None, source="push")(other)
        finally:
            other.close()


def _watch_statement(world: World, store: Neo4jStore) -> None:
    """One statement is no snapshot there: it may see one resource before, another after."""
    client = store._client
    row = client.row

    async def watched(name: str, parameters: Any, *more: Any) -> Any:
        before = await row(name, parameters, *more)
        armed = world.meanwhile
        if name != "lookup" or armed is None or not before or not before[1]:
            return before
        first = armed.changes[0][0]
        await world.reached("lookup")
        after = await row(name, parameters, *more)
        assert after is not None
        old = [it for it in before[3] if it[0] == first]
        new = [it for it in after[3] if it[0] != first]
        return [*after[:3], [*old, *new]]

    vars(client)["row"] = watched
