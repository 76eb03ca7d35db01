"""Hit and miss with 100,000 stored steps beside 1,000, Neo4j: two namespaces of one database.

Since they share the database's indexes, the statements of a lookup are also profiled in one
namespace before and after it has grown: what they touch in the database must not grow with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from execgraph.graphstore.connect import connect

from .bolt import Bolt, Counting, bolt, remove
from .generate import Generated, fill
from .measure import Row, Setting
from .scale import LARGE, SMALL, Declare, Sized, rows
from .synthetic import Bench

__all__ = ["run"]

_STATEMENTS = ("still", "lookup", "confirm")
_GOAL = 1.2


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s, and of database hits."""
    assert setting.neo4j is not None
    async with bolt(setting.neo4j) as it:
        small, large = f"{it.namespace}-small", f"{it.namespace}-large"
        try:
            for namespace in (small, large):
                await _fill(setting, it, namespace, SMALL)
            before = await _hits(it, large)
            await _fill(setting, it, large, LARGE)
            async with (
                Sized(_on(it, small)) as with_few,
                Sized(_on(it, large)) as with_many,
            ):
                found = await rows(setting, "Neo4j", with_few, with_many)
            after = await _hits(it, large)
        finally:
            setting.say.phase("removing what was generated")
            for namespace in (small, large):
                await remove(it, namespace)
    return found + [
        Row(
            f"database hits of {name!r}",
            f"{LARGE:,} steps {after[name]}",
            f"{SMALL:,} steps {before[name]}",
            after[name] / before[name],
            _GOAL,
        )
        for name in _STATEMENTS
    ]


async def _fill(setting: Setting, it: Bolt, namespace: str, steps: int) -> None:
    setting.say.phase(f"generating {steps:,} steps")
    store = connect(it.url, driver=it.driver)
    await store.open()
    await fill(store, Generated(namespace), steps, it.url, setting.say.counting(steps))
    await store.close()


def _on(it: Bolt, namespace: str) -> Declare:
    return lambda client: Bench(it.url, namespace, driver=it.driver, client=client)


async def _hits(it: Bolt, namespace: str) -> Mapping[str, int]:
    """What the statements of a first and of a hot hit touch."""
    counting = Counting(it.driver)
    async with Sized(
        lambda client: Bench(it.url, namespace, driver=counting.driver, client=client)
    ) as sized:
        await sized.prepare()
        await sized.first_hit()
        for _ in range(2):
            await sized.hit()
    return {name: await it.hits(name, counting.last[name]) for name in _STATEMENTS}
