"""The questions of docs/cypher.md with many stored steps: SQLite's view beside Neo4j.

Both stores are asked through their own interface; loading the view is timed for itself. One
resource has changed, and what rests on it is marked.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import execgraph
from execgraph.graphstore.canonical import hash_of
from execgraph.graphstore.connect import connect
from execgraph.graphstore.cypher import Table
from execgraph.graphstore.document import Document
from execgraph.graphstore.store import GraphStore

from .bolt import bolt, remove
from .generate import Generated, fill, task_key
from .measure import Row, Setting, Side, side_by_side

__all__ = ["run"]

_GOAL = 3.0
_ROUNDS = 10  # of each question; some take a second
_TIME = timedelta(minutes=2)
_ROWS = 100_000
_URI = "acl:generated/0"
_QUESTION = re.compile(r"^### (.+?)\n.*?```cypher\n(.*?)```", re.DOTALL | re.MULTILINE)


async def run(setting: Setting) -> list[Row]:
    """For each question the ratio of p50s, and how fast the view is loaded."""
    assert setting.neo4j is not None
    async with bolt(setting.neo4j) as it:
        with tempfile.TemporaryDirectory() as folder:
            embedded, server = (
                connect(url, namespace=it.namespace)
                for url in (f"sqlite:///{folder}/graph.db", setting.neo4j)
            )
            await embedded.open()
            await server.open()
            try:
                for store, url in ((embedded, embedded.url), (server, setting.neo4j)):
                    await _generate(setting, store, url, it.namespace)
                return await _compared(setting, embedded, server, it.namespace)
            finally:
                setting.say.phase("removing what was generated")
                await remove(it, it.namespace)
                await embedded.close()
                await server.close()


async def _generate(setting: Setting, store: GraphStore, url: str, namespace: str) -> None:
    setting.say.phase(f"generating {setting.steps:,} steps in {store.url}")
    counting = setting.say.counting(setting.steps)
    await fill(store, Generated(namespace), setting.steps, url, counting)
    await store.change(_URI, Document.of({"rule": "deny"}))
    for walk in await store.walks():
        while (it := await store.walk(walk.id)) is not None and it.ended_at is None:
            pass


async def _compared(
    setting: Setting, embedded: GraphStore, server: GraphStore, namespace: str
) -> list[Row]:
    parameters = _parameters(namespace)

    async def ask(store: GraphStore, query: str) -> Table:
        return await store.cypher(query, parameters, time_limit=_TIME, limit=_ROWS)

    started = time.perf_counter()
    await ask(embedded, "RETURN 1 AS one")
    loading = time.perf_counter() - started
    found = [
        Row(
            "loading the view",
            f"{setting.steps:,} steps",
            f"{loading:.1f} s",
            setting.steps / loading,
            unit=" steps/s",
        )
    ]
    for question, query in _questions().items():
        setting.say.phase(question)
        sides = [
            Side(name, lambda store=store, query=query: ask(store, query))  # type: ignore[misc]
            for name, store in (("SQLite", embedded), ("Neo4j", server))
        ]
        p50s = await side_by_side(setting, *sides, rounds=min(_ROUNDS, setting.rounds))
        found.append(
            Row(
                question,
                f"SQLite {p50s['SQLite']:.1f} ms",
                f"Neo4j {p50s['Neo4j']:.1f} ms",
                p50s["SQLite"] / p50s["Neo4j"],
                _GOAL,
            )
        )
    return found


def _questions() -> Mapping[str, str]:
    page = Path(execgraph.__file__).parent / "docs" / "cypher.md"
    return dict(_QUESTION.findall(page.read_text(encoding="utf-8")))


def _parameters(namespace: str) -> dict[str, Any]:
    task = task_key(namespace, 0)
    execution = hash_of("execution", task)
    return {
        "uri": _URI,
        "task": task,
        "execution": execution,
        "step": f"{execution}/15",
        "effect": "none",
    }
