"""Generated stores: made for one benchmark and removed, or kept for the next time (`--keep`)."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from execgraph.graphstore.connect import connect

from .bolt import Bolt, remove
from .generate import STEPS_A_RUN, Generated, fill
from .measure import Setting

__all__ = ["HOT", "NAMESPACE", "generated", "hot_steps", "in_folder", "in_namespace"]

#: On SQLite each generated store is a file of its own, and this is the namespace in it.
NAMESPACE = "bench"
#: The resource that everything rests on, where a store has only one.
HOT = "acl:generated/0"

#: The guards of a generated run: of ten actions, and of three decisions that chose a write.
_GUARDS_A_RUN = 13


def hot_steps(dependants: int) -> int:
    """How many steps a store of one resource needs to have so many that rest on it."""
    return -(-dependants // _GUARDS_A_RUN) * STEPS_A_RUN


@contextmanager
def in_folder(setting: Setting) -> Iterator[Path]:
    """Where the files are."""
    if setting.keep is not None:
        setting.keep.mkdir(parents=True, exist_ok=True)
        yield setting.keep
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@asynccontextmanager
async def in_namespace(setting: Setting, it: Bolt, name: str) -> AsyncIterator[str]:
    """The namespace of that name on Neo4j; unless it is kept, nobody else has it."""
    if setting.keep is not None:
        yield f"bench-{name}"
        return
    namespace = f"{it.namespace}-{name}"
    try:
        yield namespace
    finally:
        setting.say.phase(f"removing what was generated ({name})")
        await remove(it, namespace)


async def generated(
    setting: Setting, url: str, namespace: str, steps: int, resources: int = 200
) -> None:
    """See that the namespace has so many steps."""
    setting.say.phase(f"generating {steps:,} steps")
    store = connect(url, namespace=namespace)
    await store.open()
    try:
        made = Generated(namespace, resources)
        await fill(store, made, steps, url, setting.say.counting(steps))
    finally:
        await store.close()
