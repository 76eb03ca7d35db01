"""From the answers of reading.cypher to the domain model."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ..model import ExecutionState, Outline, OutlineStep, Precondition, StepKind
from ..store import Totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["outline_of", "totals_of"]


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


def totals_of(
    groups: Sequence[Sequence[Any]], misses: Iterable[Sequence[Any]], traces: int
) -> Totals:
    """From the columns of `totals`."""
    by_mode: Counter[str] = Counter()
    failed = 0
    for mode, state, count, *_ in groups:
        if state == ExecutionState.FAILED:
            failed += count
        else:
            by_mode[mode] += count
    return Totals(
        executions=dict(by_mode),
        failed=failed,
        misses={kind: count for kind, count in misses},  # noqa: C416
        tokens=sum(row[3] for row in groups),
        saved_tokens=sum(row[4] for row in groups),
        cost=float(sum(row[5] for row in groups)),
        traces=traces,
    )
