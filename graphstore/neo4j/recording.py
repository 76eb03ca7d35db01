"""The parameters of what is recorded, sorted so that all transactions lock in one order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..model import step_id
from ..records import FIELDS, tally_of, written
from .mapping import gate_of, properties, value_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import Precondition, Recording, Replay, Step

__all__ = ["replay_parameters", "write_parameters"]


def write_parameters(namespace: str, recording: Recording) -> dict[str, Any]:
    """The parameters of `write`."""
    guards = sorted(recording.preconditions, key=lambda guard: guard.id)
    facets = {guard.facet: [guard.facet, guard.resource, guard.selector] for guard in guards}
    steps = sorted(recording.steps, key=lambda step: step.position)
    values = {value.digest: value for value in recording.values}
    named: set[str | None] = {payload for step in steps for payload in step.payloads}
    named |= {
        recording.task.inputs,
        recording.task.context,
        recording.execution.output,
        recording.execution.report,
    }
    return {
        "namespace": namespace,
        "gate": gate_of(recording.execution.id),
        "named": sorted(digest for digest in named if digest is not None),
        "id": recording.execution.id,
        "task": {"namespace": namespace, **recording.task.model_dump(exclude_none=True)},
        "execution": written(recording.execution),
        "values": [value_row(values[key]) for key in sorted(values)],
        "resources": sorted({guard.resource for guard in guards}),
        "facets": [facets[key] for key in sorted(facets)],
        "preconditions": [_precondition(guard) for guard in guards],
        "steps": [_step(recording.execution.id, step) for step in steps],
        "guards": _guards(steps),
        "feeds": _feeds(steps),
        "effects": [properties(effect) for effect in _by_id(recording.effects)],
    }


def replay_parameters(namespace: str, replays: Sequence[Replay]) -> dict[str, Any]:
    """The parameters of `write_replays`."""
    values = {value.digest: value for replay in replays for value in replay.values}
    return {
        "namespace": namespace,
        "gate": gate_of(replays[0].execution.id),
        "tasks": sorted({it.execution.task for it in replays}),
        "values": [value_row(values[key]) for key in sorted(values)],
        "replays": [
            {
                "named": [
                    digest
                    for digest in (replay.execution.output, replay.execution.report)
                    if digest is not None
                ],
                "execution": written(replay.execution),
                "tally": tally_of(replay.execution),
                "effects": [properties(effect.ended()) for effect in _by_id(replay.effects)],
            }
            for replay in sorted(replays, key=lambda it: it.execution.id)
        ],
    }


def _step(execution: str, step: Step) -> dict[str, Any]:
    """A step's properties; what guards and feeds it are edges."""
    return {"id": step_id(execution, step.position), "execution": execution, **properties(step)}


def _precondition(precondition: Precondition) -> list[Any]:
    return [getattr(precondition, name) for name in FIELDS["precondition"]]


def _guards(steps: Sequence[Step]) -> list[list[Any]]:
    """Rows ``[precondition, indexes of the steps it guards]``."""
    guarded: dict[str, list[int]] = {}
    for index, step in enumerate(steps):
        for guard in step.guards:
            guarded.setdefault(guard, []).append(index)
    return [[guard, guarded[guard]] for guard in sorted(guarded)]


def _feeds(steps: Sequence[Step]) -> list[list[Any]]:
    """Rows ``[index of the feeding step, index of the fed one, what passes between them]``."""
    indexes = {step.position: index for index, step in enumerate(steps)}
    return [
        [indexes[source], index, steps[indexes[source]].output_key]
        for index, step in enumerate(steps)
        for source in step.feeds
    ]


def _by_id(effects: Sequence[Any]) -> list[Any]:
    return sorted(effects, key=lambda effect: effect.id)
