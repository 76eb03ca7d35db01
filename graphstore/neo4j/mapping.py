"""Between the domain model and what the statements take and give.

Properties are flat: usage is four numbers, labels are JSON text. What is None is no property.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from ..canonical import digest
from ..facts import Fact, FactState
from ..model import (
    ChangeEvent,
    Execution,
    ExecutionState,
    FacetChange,
    Precondition,
    SideEffect,
    Step,
    Trace,
    Usage,
    Value,
    step_id,
    steps_of,
)

__all__ = [
    "GATES",
    "effect_of",
    "effect_properties",
    "event_of",
    "execution_of",
    "execution_properties",
    "fact_of",
    "gate_of",
    "payload_of",
    "precondition_row",
    "running_properties",
    "step_properties",
    "trace_of",
    "value_row",
    "verified",
]

Row = Sequence[Any]

#: So many that those who write at the same time seldom meet at one.
GATES = 64

#: Payloads up to this many bytes are kept as text that people can read in a query.
_READABLE = 4096
_USAGE = tuple(Usage.model_fields)
#: The columns of a step, as `lookup` and `execution` list them.
_STEP = (
    "position", "kind", "name", "key", "occurrence", "code_key", "output", "output_key",
    "error", "duration_ms", "head", "extends", "shared", "messages",
)  # fmt: skip
_ACTION = ("effect", "arguments", "decision", "call", "asked_at", "seen", "cost", "guards", "feeds")
_BEFORE_USAGE = len(_STEP)
_AFTER_USAGE = _BEFORE_USAGE + len(_USAGE)
_EFFECT = ("id", "execution", "tool", "target", "idempotency_key", "state", "begun_at", "step")


def gate_of(key: str) -> int:
    """The gate that whoever writes ``key`` passes (retention.cypher)."""
    return zlib.crc32(key.encode()) % GATES


# Payloads ---------------------------------------------------------------------------------


def value_row(value: Value) -> list[Any]:
    """``[digest, text, data, size, packed]``; one of ``text`` and ``data`` is None, and ``packed``
    is how many bytes the latter takes."""
    text = _text(value.data) if len(value.data) <= _READABLE else None
    packed = None if text is not None else zlib.compress(value.data, 6)
    size = None if packed is None else len(packed)
    return [value.digest, text, packed, len(value.data), size]


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def payload_of(text: object, data: object) -> bytes | None:
    """The bytes of a stored Value; None if there are none that can be read."""
    if isinstance(text, str):
        return text.encode()
    try:
        return zlib.decompress(data) if isinstance(data, bytes | bytearray) else None
    except zlib.error:
        return None


def verified(rows: Iterable[Row]) -> dict[str, bytes]:
    """From rows ``[digest, text, data]`` the payloads that have their digests."""
    payloads = {row[0]: payload_of(row[1], row[2]) for row in rows}
    return {key: it for key, it in payloads.items() if it is not None and digest(it) == key}


# Facts ------------------------------------------------------------------------------------


def fact_of(until: int | None, n: int, withdrawn: bool, held: Iterable[Row]) -> Fact:  # noqa: FBT001
    """The fact of version ``n``; ``held`` are ``[selector, fingerprint]``."""
    return Fact(
        version=n,
        state=FactState.WITHDRAWN if withdrawn else FactState.PRESENT,
        until=until,
        fingerprints={selector: fingerprint for selector, fingerprint in held},  # noqa: C416
    )


def precondition_row(it: Precondition) -> list[Any]:
    """``[id, facet, resource, selector, fingerprint]``."""
    return [it.id, it.facet, it.resource, it.selector, it.fingerprint]


def event_of(event: Row, changed: Iterable[Row]) -> ChangeEvent:
    """A change event from its row and its ``[facet, selector, before, after]``."""
    identity, resource, kind, from_version, to_version, source, at = event
    return ChangeEvent(
        id=identity,
        resource=resource,
        kind=kind,
        from_version=from_version,
        to_version=to_version,
        source=source,
        at=at,
        changed=tuple(
            FacetChange(facet=key, resource=resource, selector=selector, before=old, after=new)
            for key, selector, old, new in sorted(changed, key=lambda row: str(row[0]))
        ),
    )


# Executions -------------------------------------------------------------------------------


def execution_properties(it: Execution) -> dict[str, Any]:
    """An execution's properties; its state is never published here."""
    fields = it.model_dump(mode="json")
    if it.state is ExecutionState.PUBLISHED:
        fields["state"] = ExecutionState.UNPUBLISHED.value
    usage = fields.pop("usage")
    return {**fields, **usage, "labels": json.dumps(fields["labels"])}


def execution_of(properties: Mapping[str, Any]) -> Execution:
    """An execution from its properties. One that only began has neither task nor agent yet."""
    fields = {name: properties[name] for name in Execution.model_fields if name in properties}
    fields["labels"] = json.loads(properties.get("labels", "{}"))
    fields["usage"] = {name: properties[name] for name in _USAGE if name in properties}
    return Execution.model_validate({"task": "", "agent": "", "mode": "live", **fields})


#: What is known of an execution that has not ended.
_RUNNING = {"id", "agent", "mode", "started_at", "duration_ms", "usage", "cost", "asked"}


def running_properties(it: Execution) -> dict[str, Any]:
    """The properties of an execution that has not ended; None: there is none."""
    fields = it.model_dump(mode="json", include=_RUNNING)
    usage = fields.pop("usage")
    return {**fields, **usage}


def step_properties(execution: str, namespace: str, step: Step) -> dict[str, Any]:
    """A step's properties; what guards and feeds it are edges."""
    fields = step.model_dump(
        mode="json", exclude={"guards", "feeds", "usage", "seen"}, exclude_none=True
    )
    usage = {} if step.usage is None else step.usage.model_dump()
    seen = {"seen": json.dumps(step.seen)} if step.seen else {}
    named = {"namespace": namespace, "id": step_id(execution, step.position)}
    return {**named, "execution": execution, **fields, **usage, **seen}


def trace_of(execution: Mapping[str, Any], steps: Iterable[Row], guards: Iterable[Row]) -> Trace:
    """A trace from what was read. Raises ValueError for what is no execution or step at all."""
    found = steps_of([_step_fields(row) for row in sorted(steps, key=itemgetter(0))])
    used = {guard for step in found for guard in step.guards}
    return Trace(
        execution=execution_of(execution),
        steps=found,
        preconditions={row[0]: _precondition_of(row) for row in guards if row[0] in used},
    )


def _step_fields(row: Row) -> dict[str, Any]:
    plain, usage, action = row[:_BEFORE_USAGE], row[_BEFORE_USAGE:_AFTER_USAGE], row[_AFTER_USAGE:]
    fields = dict(zip(_STEP, plain, strict=True)) | dict(zip(_ACTION, action, strict=True))
    fields["guards"] = sorted(fields["guards"])
    fields["feeds"] = sorted(fields["feeds"])
    fields["seen"] = json.loads(fields["seen"] or "{}")
    if usage[0] is not None:
        known = zip(_USAGE, usage, strict=True)
        fields["usage"] = {name: number or 0 for name, number in known}  # younger ones may lack
    return fields


def _precondition_of(row: Row) -> Precondition:
    identity, facet, resource, selector, fingerprint = row
    return Precondition(
        id=identity, facet=facet, resource=resource, selector=selector, fingerprint=fingerprint
    )


# Effects ----------------------------------------------------------------------------------


def effect_properties(it: SideEffect) -> dict[str, Any]:
    """A side effect's properties."""
    return it.model_dump(mode="json", exclude_none=True)


def effect_of(row: Row) -> SideEffect:
    """A side effect from the columns of `effects`."""
    return SideEffect.model_validate(dict(zip(_EFFECT, row, strict=True)))
