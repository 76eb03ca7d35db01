"""Hit and miss with 100,000 stored steps beside 1,000, SQLite: two files."""

from __future__ import annotations

import tempfile

from execgraph.graphstore.connect import connect

from .generate import Generated, fill
from .measure import Row, Setting
from .scale import LARGE, SMALL, Declare, Sized, rows
from .synthetic import Bench

__all__ = ["run"]

_NAMESPACE = "bench"


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s."""
    with tempfile.TemporaryDirectory() as folder:
        urls = {steps: f"sqlite:///{folder}/{steps}.db" for steps in (SMALL, LARGE)}
        for steps, url in urls.items():
            setting.say.phase(f"generating {steps:,} steps")
            store = connect(url)
            await store.open()
            await fill(store, Generated(_NAMESPACE), steps, url, setting.say.counting(steps))
            await store.close()
        async with Sized(_on(urls[SMALL])) as small, Sized(_on(urls[LARGE])) as large:
            return await rows(setting, "SQLite", small, large)


def _on(url: str) -> Declare:
    return lambda client: Bench(url, _NAMESPACE, client=client)
