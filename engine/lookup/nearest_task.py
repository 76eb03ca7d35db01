"""Which recorded task is nearest to one that nothing is recorded of, and where the two differ.

It only explains a miss. What it costs does not grow with the store, and whatever goes wrong with it
changes nothing of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from ...graphstore.errors import ExecgraphError
from ...graphstore.selecting import Path
from ...graphstore.store import RunStore
from ..generalising.recurring import recurring_inputs
from ..outcome.cause import Cause, MissKind
from ..outcome.differences import (
    Difference,
    TaskContent,
    distance,
    place_of,
    shown,
    task_differences,
)
from ..outcome.hiding import HIDDEN
from ..task import Payload, Task
from .definition import Definition

__all__ = ["RecordedTask", "new_task", "recorded_tasks"]

_RUNS = 20  # that are looked at, of an agent
_TASKS = 8  # of these, whose inputs are read

_FILLS = "a requirement is named by it, so it is never opaque"
_OPAQUE = "opaque: its kind counts, and which values are equal"


class RecordedTask(NamedTuple):
    """A task that can be served, with what it says, exactly."""

    key: str
    inputs: bytes
    context: bytes | None = None

    def as_marked(self, like: Task) -> Task:
        """This task with the marks that ``like`` has. Raises ValueError."""
        inputs, context = like.inputs.like(self.inputs), None
        if self.context is not None:
            given = like.context or Payload(b"null", None)
            context = given.like(self.context)
        return Task(self.key, like.name, inputs, context)


async def recorded_tasks(
    store: RunStore, agent: str, *, runs: int = _RUNS, most: int = _TASKS
) -> list[RecordedTask]:
    """The tasks of an agent's or a program's newest ``runs`` runs that can be served, the newest
    first, at most so many. Two reads. Raises StoreError."""
    tasks = (await store.recent_tasks(agent, limit=runs))[:most]
    named = {
        digest for task in tasks for digest in (task.inputs, task.context) if digest is not None
    }
    values = await store.values(sorted(named)) if named else {}
    return [
        RecordedTask(
            task.key,
            values[task.inputs],
            None if task.context is None else values[task.context],
        )
        for task in tasks
    ]


async def new_task(store: RunStore, task: Task, definition: Definition) -> Cause:
    """The cause that nothing is recorded of ``task``, with the nearest that something is."""
    try:
        recorded = await recorded_tasks(store, definition.name)
        return _compared(task, [it.as_marked(task) for it in recorded], definition)
    except (ExecgraphError, ValueError, RecursionError):
        return Cause(MissKind.NEW_TASK, task.key)


def _compared(task: Task, recorded: list[Task], definition: Definition) -> Cause:
    known, cause = task.known, Cause(MissKind.NEW_TASK, task.key)
    if not recorded:
        return cause
    # ``min`` keeps the first of equals, and they come newest first.
    nearest = min(recorded, key=lambda it: distance(it.known, known))
    where = task_differences(nearest.known, known)
    real = _Real(nearest.content, task.content, _opaque(task))
    fills = _filling(definition)
    told = tuple(_noted(real.of(it), fills) for it in where)
    recurring = None
    if nearest.known.context == known.context:
        others = [it.known.inputs for it in recorded]
        recurring = recurring_inputs(known.inputs, nearest.known.inputs, others, but=fills)
    return replace(cause, before=nearest.key, differences=told, recurring=recurring)


def _opaque(task: Task) -> dict[str, Path]:
    """Where opaque values are, by how a difference tells the place."""
    parts = (("", task.inputs), ("context ", task.context))
    return {
        f"{of}{place_of(path)}": path
        for of, payload in parts
        if payload is not None and payload.marks is not None
        for path in payload.marks.opaque
    }


class _Real(NamedTuple):
    """Two tasks as they are: what differs by what stands in for a value is told by the value."""

    before: TaskContent
    after: TaskContent
    opaque: Mapping[str, Path]

    def of(self, difference: Difference) -> Difference:
        path = self.opaque.get(difference.place)
        if path is None:
            return difference
        if HIDDEN in (difference.before, difference.after):
            return difference._replace(note=_OPAQUE)
        before, after = (
            _at(it.context if difference.of else it.inputs, path)
            for it in (self.before, self.after)
        )
        return difference._replace(before=before, after=after, note=_OPAQUE)


def _at(json: object, path: Path) -> str | None:
    """What stands at ``path``, as it is shown."""
    inner: object = json
    for key in path:
        try:
            inner = inner[key]  # type: ignore[index]
        except (LookupError, TypeError):
            return None
    return shown(inner)


def _filling(definition: Definition) -> frozenset[str]:
    """The places in the inputs that name what is required."""
    code = definition.code
    needed = (*code.requires, *(it for tool in code.tools.values() for it in tool.requires))
    named = (name for requirement in needed for name in requirement.placeholders)
    return frozenset(
        place_of([name.removeprefix("task.")]) for name in named if name.startswith("task.")
    )


def _noted(difference: Difference, fills: frozenset[str]) -> Difference:
    filling = not difference.of and any(
        difference.path == place or difference.path.startswith((f"{place}.", f"{place}["))
        for place in fills
    )
    return difference._replace(note=_FILLS) if filling and not difference.note else difference
