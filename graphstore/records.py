"""Between what stores keep and the domain model.

A store keeps a node as a row of columns, or as properties, that have the names of the model's
fields. ``usage`` is kept as the fields of Usage, a mapping as JSON text; None is kept as nothing.
Guards and feeds are edges. So a field that the model gains is named in the schema, and here not
at all: ``FIELDS`` lists them for the statements (see ``statements.py``) and for what they give.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, get_origin

from .model import (
    Approval,
    ChangeEvent,
    Execution,
    ExecutionState,
    FacetChange,
    Outline,
    OutlineStep,
    Precondition,
    SideEffect,
    Step,
    StepKind,
    Trace,
    Usage,
    Walk,
    steps_of,
)
from .totals import Tally

__all__ = [
    "FIELDS",
    "LISTS",
    "Row",
    "approval_of",
    "effect_of",
    "event_of",
    "execution_of",
    "flat",
    "outline_of",
    "preconditions_of",
    "tally_of",
    "trace_of",
    "walk_of",
    "written",
]

Row = Sequence[Any]

_EDGES = {"guards", "feeds"}
_USAGE = tuple(Usage.model_fields)
_NODES = (Step, Execution)


def _flat_fields(names: Iterable[str], but: Collection[str] = ()) -> tuple[str, ...]:
    kept = [_USAGE if name == "usage" else (name,) for name in names if name not in but]
    return tuple(name for some in kept for name in some)


#: What a statement may list by name. The task of an execution and the execution of an effect are
#: other nodes, which a statement names by itself. A tally is what the totals of a day add up.
FIELDS = {
    "usage": _USAGE,
    "step": _flat_fields(Step.model_fields, _EDGES),
    "execution": _flat_fields(Execution.model_fields, {"task"}),
    "effect": _flat_fields(SideEffect.model_fields, {"execution"}),
    "approval": _flat_fields(Approval.model_fields),
    "event": _flat_fields(ChangeEvent.model_fields, {"changed"}),
    "precondition": _flat_fields(Precondition.model_fields),
    "tally": _flat_fields((it.name for it in fields(Tally)), {"agent", "mode", "state"}),
}
_EXECUTION = ("task", *FIELDS["execution"])
_EFFECT = ("execution", *FIELDS["effect"])
_STEP = (*FIELDS["step"], "guards", "feeds")


def _fields_of_type(*types: type) -> frozenset[str]:
    return frozenset(
        name
        for node in _NODES
        for name, field in node.model_fields.items()
        if get_origin(field.annotation) in types and name not in _EDGES
    )


_MAPPINGS = _fields_of_type(Mapping)
#: The fields that are lists, for a store that can keep none.
LISTS = _fields_of_type(tuple)


# Writing ----------------------------------------------------------------------------------


def flat(node: Step | Execution | SideEffect | Approval) -> dict[str, Any]:
    """The fields of a node as they are kept."""
    kept = node.model_dump(mode="json", exclude=_EDGES)
    if "usage" in kept:
        kept |= kept.pop("usage") or dict.fromkeys(_USAGE)
    if isinstance(node, Step) and not node.seen:  # as of most: it takes no space
        kept["seen"] = None
    for name in _MAPPINGS:
        if kept.get(name) is not None:
            kept[name] = json.dumps(kept[name])
    return kept


def written(execution: Execution) -> dict[str, Any]:
    """The fields of an execution that is being written: it is never published by that."""
    state = (
        ExecutionState.UNPUBLISHED
        if execution.state is ExecutionState.PUBLISHED
        else execution.state
    )
    # A reason may quote anything, so it must not be what makes a store fail.
    reason = execution.reason and execution.reason.encode(errors="backslashreplace").decode()
    return flat(execution) | {"state": state.value, "reason": reason}


def tally_of(execution: Execution) -> dict[str, Any]:
    """What one execution adds to the totals of its day."""
    served = execution.served > 0 or execution.saved_tokens > 0
    return {
        "executions": 1,
        **execution.usage.model_dump(),
        "asked": execution.asked,
        "served": execution.served,
        "saved_tokens": execution.saved_tokens,
        "cost": execution.cost or 0.0,
        "unpriced": int(execution.cost is None),
        "saved_cost": execution.saved_cost or 0.0,
        "saved_unpriced": int(execution.saved_cost is None and served),
    }


# Reading ----------------------------------------------------------------------------------


def _nested(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The model's fields from what is kept; what is None is at its default."""
    fields = {name: value for name, value in kept.items() if value is not None}
    usage = {name: fields.pop(name) for name in _USAGE if name in fields}
    if usage:
        fields["usage"] = usage
    for name in (_MAPPINGS | LISTS) & fields.keys():
        if isinstance(fields[name], str):
            fields[name] = json.loads(fields[name])
    return fields


def execution_of(kept: Mapping[str, Any]) -> Execution:
    """An execution. One that only began has neither task nor agent yet."""
    known = {name: kept[name] for name in _EXECUTION if name in kept}
    begun = {"task": "", "agent": "", "mode": "live"}
    return Execution.model_validate(begun | _nested(known))


def trace_of(execution: Mapping[str, Any], steps: Iterable[Row], guards: Iterable[Row]) -> Trace:
    """A trace from what was read: of each step its fields, guards and feeds.

    Raises ValueError for what is no execution or step at all.
    """
    recorded = steps_of([_step_fields(row) for row in sorted(steps, key=itemgetter(0))])
    used = {guard for step in recorded for guard in step.guards}
    known = preconditions_of(guards)
    return Trace(
        execution=execution_of(execution),
        steps=recorded,
        preconditions={key: it for key, it in known.items() if key in used},
    )


def _step_fields(row: Row) -> dict[str, Any]:
    fields = _nested(dict(zip(_STEP, row, strict=True)))
    return fields | {name: sorted(fields[name]) for name in _EDGES}


def preconditions_of(rows: Iterable[Row]) -> dict[str, Precondition]:
    """Preconditions by id."""
    fields = FIELDS["precondition"]
    return {row[0]: Precondition(**dict(zip(fields, row, strict=True))) for row in rows}


def effect_of(row: Row) -> SideEffect:
    """A side effect from its execution and its other fields."""
    return SideEffect(**dict(zip(_EFFECT, row, strict=True)))


def approval_of(row: Row, now: int) -> Approval:
    """An approval from its fields, as of ``now``."""
    kept = {name: it for name, it in zip(FIELDS["approval"], row, strict=True) if it is not None}
    return Approval(**kept).at(now)


def event_of(event: Row, changed: Iterable[Row]) -> ChangeEvent:
    """A change event from its fields and rows ``[facet, selector, before, after]``."""
    fields = dict(zip(FIELDS["event"], event, strict=True))
    return ChangeEvent(
        **fields,
        changed=tuple(
            FacetChange(
                facet=key, resource=fields["resource"], selector=selector, before=old, after=new
            )
            for key, selector, old, new in sorted(changed, key=itemgetter(0))
        ),
    )


def walk_of(row: Row) -> Walk:
    """A walk from the first of its fields; what is None is at its default."""
    named = zip(Walk.model_fields, row, strict=False)
    return Walk(**{name: value for name, value in named if value is not None})


def outline_of(trace: Row, steps: Iterable[Row], guards: Mapping[str, Precondition]) -> Outline:
    """A trace in outline from its fields, and rows of its steps."""
    execution, task, agent, started_at, complete = trace
    taken = tuple(sorted(map(_outline_step, steps)))
    return Outline(execution, task, agent, started_at, bool(complete), taken, guards)


def _outline_step(row: Row) -> OutlineStep:
    position, kind, name, key, occurrence, tokens, guards, feeds = row
    rests, fed = tuple(sorted(guards)), tuple(sorted(feeds))
    return OutlineStep(position, StepKind(kind), name, key, occurrence, tokens, rests, fed)
