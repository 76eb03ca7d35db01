"""What a run was asked: its own inputs and context, and never those of another run of its task.

A task is stored once, with the inputs of the first of its runs that ended. Marked values in them
are others in each run, so that a run of such a task keeps its own with its report.
"""

from __future__ import annotations

from typing import NamedTuple

from ...graphstore.canonical import decode
from ...graphstore.errors import PayloadCorrupted
from ...graphstore.model import Task, Value
from ...graphstore.store import GraphStore
from ..outcome.report import Report
from ..task import kind_of

__all__ = ["Asked", "asked_of"]

_NOT_KEPT = "its inputs are not told: there are marked values in the task, and it has kept none"


class Asked(NamedTuple):
    """The task of a run, with the run's own inputs and context; None: it is not known.

    ``own``: those of its payloads that the run has kept, by digest. ``hint``: why it is not told.
    """

    task: Task | None
    own: dict[str, bytes]
    hint: str | None = None


async def asked_of(
    store: GraphStore, task: str, report: Report | None, *, is_whole: bool = False
) -> Asked:
    """What a run was asked that has kept this ``report``; ``is_whole``: it tells all there is."""
    stored = await store.task(task)
    if stored is None:
        return Asked(None, {})
    if report is not None and report.asked is not None:
        inputs, context = report.asked
        own = [Value.of(it.encode()) for it in (inputs, context) if it is not None]
        digests = {"inputs": own[0].digest, "context": own[1].digest if own[1:] else None}
        return Asked(stored.model_copy(update=digests), {it.digest: it.data for it in own})
    if is_whole or not await _is_marked(store, stored):
        return Asked(stored, {})
    return Asked(None, {}, _NOT_KEPT)


async def _is_marked(store: GraphStore, task: Task) -> bool:
    """Whether values in a task are marked; False if it is damaged, so that nothing is shown."""
    digests = [it for it in (task.inputs, task.context) if it is not None]
    try:
        values = await store.values(digests)
    except PayloadCorrupted:
        return False
    inputs, *context = (decode(values[it]) for it in digests)
    return kind_of(store.namespace, task, inputs, *context) is None
