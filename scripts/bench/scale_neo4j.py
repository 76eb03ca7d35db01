"""Hit, miss and stale miss with many stored steps beside 1,000, Neo4j: two namespaces of one
database.

Since they share the database's indexes, the statements of a lookup are also profiled, in the small
one before the other has grown, and in the large one: what they touch in the database must be the
same.
"""

from __future__ import annotations

from collections.abc import Mapping

from .bolt import Bolt, Counting, bolt
from .measure import Row, Setting
from .scale import SMALL, Declare, Sized, rows
from .stores import generated, in_namespace
from .synthetic import Bench

__all__ = ["run"]

_STATEMENTS = ("still", "lookup", "confirm")
_GOAL = 1.2


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s, and of database hits."""
    assert setting.neo4j is not None
    async with (
        bolt(setting.neo4j) as it,
        in_namespace(setting, it, "small") as small,
        in_namespace(setting, it, "large") as large,
    ):
        await generated(setting, it.url, small, SMALL)
        before = await _hits(it, small)
        await generated(setting, it.url, large, setting.steps)
        async with Sized(_on(it, small)) as with_few, Sized(_on(it, large)) as with_many:
            found = await rows(setting, "Neo4j", with_few, with_many)
        after = await _hits(it, large)
    return found + [
        Row(
            f"database hits of {name!r}",
            f"{setting.steps:,} steps {after[name]}",
            f"{SMALL:,} steps {before[name]}",
            after[name] / before[name],
            _GOAL,
        )
        for name in _STATEMENTS
    ]


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
