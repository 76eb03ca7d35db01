"""From the answers of reading.cypher to the domain model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..model import Outline, OutlineStep, Precondition, StepKind

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["outline_of"]


def outline_of(row: Sequence[Any]) -> Outline:
    """A trace in outline from a row of `dependants`."""
    execution, task, agent, started_at, complete, steps, guards = row
    return Outline(
        execution=execution,
        task=task,
        agent=agent,
        started_at=started_at,
        complete=complete,
        steps=tuple(_step_of(it) for it in sorted(steps, key=lambda it: int(it[0]))),
        preconditions={
            key: Precondition(
                id=key, facet=facet, resource=resource, selector=selector, fingerprint=at
            )
            for key, facet, resource, selector, at in guards
        },
    )


def _step_of(row: Sequence[Any]) -> OutlineStep:
    position, kind, name, key, occurrence, tokens, guards, feeds = row
    return OutlineStep(
        position=position,
        kind=StepKind(kind),
        name=name,
        key=key,
        occurrence=occurrence,
        tokens=tokens,
        guards=tuple(sorted(guards)),
        feeds=tuple(sorted(feeds)),
    )
