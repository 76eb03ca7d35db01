"""Between rows and the domain model, apart from what all stores do alike (see ``records.py``)."""

from __future__ import annotations

import json
import zlib
from typing import Any

from ..canonical import digest
from ..model import Execution, SideEffect, Step, Value
from ..records import LISTS, flat, written

__all__ = ["columns", "execution_columns", "payload", "value_row"]

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


def columns(node: Step | SideEffect) -> Row:
    """The columns of a step or an effect but its execution."""
    return _without_lists(flat(node))


def execution_columns(execution: Execution) -> Row:
    """The columns of an execution that is being written but its task."""
    return _without_lists(written(execution))


def _without_lists(fields: Row) -> Row:
    return fields | {name: json.dumps(fields[name]) for name in LISTS if name in fields}
