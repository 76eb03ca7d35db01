"""Between the domain model and what the statements take and give, apart from what all stores do
alike (see ``records.py``)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from ..canonical import digest
from ..facts import Fact, FactState
from ..model import (
    Approval,
    Execution,
    ExecutionState,
    Mode,
    Precondition,
    SideEffect,
    Step,
    Task,
    Value,
)
from ..records import FIELDS, Row, flat, written

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "EACH_HAS",
    "GATES",
    "begun_properties",
    "fact_of",
    "gate_of",
    "payload_of",
    "properties",
    "running_properties",
    "there",
    "value_row",
    "verified",
]

_Row = TypeVar("_Row", bound=Row)

#: So many that those who write at the same time seldom meet at one.
GATES = 64

#: Payloads up to this many bytes are kept as text that people can read in a query.
_READABLE = 4096


def gate_of(key: str) -> int:
    """The gate that whoever writes ``key`` passes (retention.cypher)."""
    return zlib.crc32(key.encode()) % GATES


def _never_null(node: type[BaseModel], names: Iterable[str]) -> tuple[int, ...]:
    annotations = [node.model_fields[name].annotation for name in names]
    return tuple(place for place, it in enumerate(annotations) if type(None) not in get_args(it))


#: Which fields are never null, where a statement gives such a node.
EACH_HAS = {
    "task": _never_null(Task, Task.model_fields),
    "effect": _never_null(SideEffect, ("execution", *FIELDS["effect"])),
    "approval": _never_null(Approval, FIELDS["approval"]),
    "precondition": _never_null(Precondition, FIELDS["precondition"]),
    "step": tuple(range(8)),  # what it is and gave; of the rest a default is kept as null
    "outline step": tuple(range(5)),
}


def there(rows: Iterable[_Row], *each_has: int) -> list[_Row]:
    """The rows of nodes without those that were deleted while the statement read them.

    Of such a one it gives what an index or an earlier clause had of it, and null for the rest.
    ``each_has``: the fields that are never null of a node that is there; none named: all.
    """
    if not each_has:
        return [row for row in rows if None not in row]
    return [row for row in rows if all(row[it] is not None for it in each_has)]


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
    """The payloads of rows ``[digest, text, data]`` that have their digests."""
    payloads = {row[0]: payload_of(row[1], row[2]) for row in rows}
    return {key: it for key, it in payloads.items() if it is not None and digest(it) == key}


# Facts ------------------------------------------------------------------------------------


def fact_of(until: int | None, n: int, withdrawn: bool, held: Iterable[Row]) -> Fact:  # noqa: FBT001
    """The fact of version ``n``; ``held`` are ``[selector, fingerprint]``."""
    return Fact(
        version=n,
        state=FactState.WITHDRAWN if withdrawn else FactState.PRESENT,
        until=until,
        fingerprints={selector: at for selector, at in there(held, 1)},  # noqa: C416
    )


#: What is known of an execution that has not ended.
_RUNNING = {
    *("id", "agent", "mode", "started_at", "duration_ms", "cost", "asked", "process"),
    *FIELDS["usage"],
}


def properties(node: Step | SideEffect | Approval) -> dict[str, Any]:
    """The properties of a node; a field that is None is left out, and one in the store stays."""
    return {name: value for name, value in flat(node).items() if value is not None}


def begun_properties(effect: SideEffect, agent: str) -> dict[str, Any]:
    """The properties of an execution that begins with an effect; nothing but its process if it is
    not known whose it is."""
    execution = Execution(
        id=effect.execution,
        task="",
        agent=agent,
        mode=Mode.LIVE,
        state=ExecutionState.RUNNING,
        started_at=effect.begun_at,
        process=effect.process,
    )
    return running_properties(execution) if agent else {"process": effect.process}


def running_properties(execution: Execution) -> dict[str, Any]:
    """The properties of an execution that has not ended; None: there is none."""
    return {name: value for name, value in written(execution).items() if name in _RUNNING}
