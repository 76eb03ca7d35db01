"""Between rows and the domain model."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from ..canonical import digest
from ..model import (
    ChangeEvent,
    Execution,
    ExecutionState,
    FacetChange,
    SideEffect,
    Step,
    Usage,
    Value,
    steps_of,
)

__all__ = [
    "change_event",
    "effect",
    "effect_row",
    "execution",
    "execution_row",
    "payload",
    "step_row",
    "steps",
    "value_row",
]

Row = dict[str, Any]

_PLAIN, _ZLIB = 0, 1
_WORTH_COMPRESSING = 256  # bytes; below, zlib's own header eats what it saves
_LEVEL = 4


def value_row(value: Value) -> Row:
    """A payload as it is kept: compressed where that makes it smaller."""
    codec, data = _PLAIN, value.data
    if len(data) >= _WORTH_COMPRESSING and len(small := zlib.compress(data, _LEVEL)) < len(data):
        codec, data = _ZLIB, small
    return {"digest": value.digest, "codec": codec, "data": data}


def payload(expected: str, codec: int, data: bytes) -> bytes | None:
    """The payload's exact bytes; None if they do not have the digest."""
    try:
        exact = zlib.decompress(data) if codec == _ZLIB else bytes(data)
    except (zlib.error, TypeError):
        return None
    return exact if digest(exact) == expected else None


def _usage_row(usage: Usage | None) -> Row:
    return {name: getattr(usage, name, None) for name in Usage.model_fields}


def _usage(row: Sequence[Any]) -> Usage | None:
    return None if row[0] is None else Usage(**dict(zip(Usage.model_fields, row, strict=True)))


def execution_row(execution: Execution) -> Row:
    """The columns of an execution that is being written: never published."""
    row = execution.model_dump(exclude={"usage", "labels", "mode", "state", *_LISTS})
    published = execution.state is ExecutionState.PUBLISHED
    reason = execution.reason
    return row | {
        **_usage_row(execution.usage),
        "mode": execution.mode.value,
        "state": (ExecutionState.UNPUBLISHED if published else execution.state).value,
        "labels": json.dumps(dict(execution.labels)),
        **{name: json.dumps(getattr(execution, name)) for name in _LISTS},
        # A reason may quote anything, so it must not be what makes a store fail.
        "reason": reason and reason.encode(errors="backslashreplace").decode(),
    }


_EXECUTION = [
    "id",
    "task",
    "agent",
    "mode",
    "state",
    "started_at",
    "duration_ms",
    "steps",
    "published_steps",
    "manifest",
    "signature",
    "replayed",
    "output",
]


def execution(row: Sequence[Any]) -> Execution:
    """From the columns of the query ``execution``, without its rid."""
    named = dict(zip(_EXECUTION, row, strict=False))
    named["task"] = named["task"] or ""  # begun by an effect, and not written yet
    usage, rest = row[len(_EXECUTION) : _REST], dict(zip(_TOLD, row[_REST:], strict=True))
    return Execution(
        **named,
        usage=_usage(usage) or Usage(),
        **rest | {name: json.loads(rest[name]) for name in ("labels", *_LISTS)},
    )


_LISTS = ("miss", "miss_asked", "miss_tokens")
#: What comes after the usage.
_TOLD = (
    "saved_tokens", "cost", "labels", "reason", "miss", "report", "asked", "served", "saved_cost",
    "miss_asked", "miss_tokens",
)  # fmt: skip
_REST = len(_EXECUTION) + len(Usage.model_fields)


def step_row(execution: int, step: Step) -> Row:
    """The columns of a step; its guards and feeds are rows of their own."""
    row = {name: getattr(step, name) for name in _STEP}
    return row | {
        **_usage_row(step.usage),
        "execution": execution,
        "kind": step.kind.value,
        "effect": step.effect and step.effect.value,
        "messages": json.dumps(step.messages),
        "seen": json.dumps(step.seen) if step.seen else None,
    }


_STEP = [
    "position",
    "kind",
    "name",
    "key",
    "occurrence",
    "code_key",
    "output",
    "output_key",
    "error",
    "duration_ms",
    "head",
    "extends",
    "shared",
    "messages",
    "effect",
    "arguments",
    "decision",
    "call",
    "asked_at",
    "seen",
    "cost",
]
_BEFORE_USAGE = _STEP.index("messages") + 1
_AFTER_USAGE = _BEFORE_USAGE + len(Usage.model_fields)


def steps(
    found: Iterable[Sequence[Any]],
    guards: Mapping[int, Sequence[str]],
    feeds: Mapping[int, Sequence[int]],
) -> tuple[Step, ...]:
    """From the rows of the query ``steps``, and guards and feeds by position."""
    return steps_of([_step_fields(row, guards, feeds) for row in found])


def _step_fields(
    row: Sequence[Any], guards: Mapping[int, Sequence[str]], feeds: Mapping[int, Sequence[int]]
) -> Row:
    named: Row = dict(zip(_STEP, (*row[:_BEFORE_USAGE], *row[_AFTER_USAGE:]), strict=True))
    named["messages"] = json.loads(named["messages"])
    named["seen"] = json.loads(named["seen"] or "{}")
    named["usage"] = _usage(row[_BEFORE_USAGE:_AFTER_USAGE])
    named["guards"] = sorted(guards.get(row[0], ()))
    named["feeds"] = sorted(feeds.get(row[0], ()))
    return named


def effect_row(effect: SideEffect) -> Row:
    """The columns of a side effect but its execution."""
    return effect.model_dump(exclude={"execution", "state"}) | {"state": effect.state.value}


def effect(row: Sequence[Any]) -> SideEffect:
    """From the columns of the query ``effects``."""
    return SideEffect(**dict(zip(_EFFECT, row, strict=True)))


_EFFECT = ["id", "execution", "tool", "target", "idempotency_key", "state", "begun_at", "step"]


def change_event(row: Sequence[Any], changed: Sequence[Sequence[Any]]) -> ChangeEvent:
    """From the columns of the query ``change_events`` without the rid, and of ``changed``."""
    by_facet = sorted(changed, key=itemgetter(0))
    return ChangeEvent(
        **dict(zip(_EVENT, row, strict=True)),
        changed=tuple(FacetChange(**dict(zip(_CHANGED, it, strict=True))) for it in by_facet),
    )


_EVENT = ["id", "resource", "kind", "from_version", "to_version", "source", "at"]
_CHANGED = ["facet", "resource", "selector", "before", "after"]
