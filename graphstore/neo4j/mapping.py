"""Between the domain model and what the statements take and give, apart from what all stores do
alike (see ``records.py``)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from ..canonical import digest
from ..facts import Fact, FactState
from ..model import Approval, Execution, ExecutionState, Mode, SideEffect, Step, Value
from ..records import FIELDS, Row, flat, written

__all__ = [
    "GATES",
    "begun_properties",
    "fact_of",
    "gate_of",
    "payload_of",
    "properties",
    "running_properties",
    "value_row",
    "verified",
]

#: So many that those who write at the same time seldom meet at one.
GATES = 64

#: Payloads up to this many bytes are kept as text that people can read in a query.
_READABLE = 4096


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
        fingerprints={selector: fingerprint for selector, fingerprint in held},  # noqa: C416
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
