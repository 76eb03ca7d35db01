"""Hit, miss and stale miss with many stored steps beside 1,000, SQLite: two files."""

from __future__ import annotations

from .measure import Row, Setting
from .scale import SMALL, Declare, Sized, rows
from .stores import NAMESPACE, generated, in_folder
from .synthetic import Bench

__all__ = ["run"]


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s."""
    with in_folder(setting) as folder:
        urls = {name: f"sqlite:///{folder}/{name}.db" for name in ("small", "large")}
        for name, steps in (("small", SMALL), ("large", setting.steps)):
            await generated(setting, urls[name], NAMESPACE, steps)
        async with Sized(_on(urls["small"])) as small, Sized(_on(urls["large"])) as large:
            return await rows(setting, "SQLite", small, large)


def _on(url: str) -> Declare:
    return lambda client: Bench(url, NAMESPACE, client=client)
