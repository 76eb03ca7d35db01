"""The exact form of a Python value: equal texts iff a function cannot tell two values apart.

JSON is too coarse for that: a set and a list, an unset field and one set to its default, two
secrets and two subclasses may have one JSON form. The exact form is made of types and of what
``copy`` and ``pickle`` know of a value; it is read by nobody and compared only.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import Any

__all__ = ["NotExact", "exact"]


class NotExact(Exception):
    """A value has no exact form: it is, or holds, something that cannot be copied."""


def exact(value: Any) -> str:
    """The exact form of ``value``, the same in every process. Raises NotExact."""
    try:
        return _exact(value)
    except NotExact:
        raise
    except Exception as error:  # a type's own way to be copied may raise anything
        raise NotExact(f"a {type(value).__name__} has no exact form: {error}") from error


def _exact(value: Any) -> str:
    kind = type(value)
    if (write := _WRITERS.get(kind)) is not None:
        return write(value)
    if isinstance(value, type):
        return _named(value)
    if isinstance(value, Enum):
        return f"{_named(kind)}.{value.name}"
    if isinstance(value, set | frozenset):
        return f"{_named(kind)}{_unordered(value)}{_exact(getattr(value, '__dict__', None))}"
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return _function(value)
    return _reduced(value)


def _reduced(value: Any) -> str:
    """A value by what makes it again."""
    reduce = copyreg.dispatch_table.get(type(value))
    made: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
    if isinstance(made, str):
        return f"{_named(type(value))}.{made}"
    make, arguments, *rest = made
    state, items, pairs = (*rest[:3], None, None, None)[:3]
    parts = (
        _exact(make),
        _exact(arguments),
        _exact(state),
        _listed(items or ()),
        _listed(pairs or ()),
    )
    return f"make({';'.join(parts)})"


def _named(value: Any) -> str:
    return f"@{value.__module__}:{value.__qualname__}"


def _function(value: Any) -> str:
    """A function that can be found by its name; any other may close over something."""
    if isinstance(owner := getattr(value, "__self__", None), type):
        return f"{_named(owner)}.{value.__name__}"
    member: Any = sys.modules.get(value.__module__ or "builtins")
    for part in value.__qualname__.split("."):
        member = getattr(member, part, None)
    if member is not value:
        raise NotExact(f"the function {value.__qualname__} cannot be found by its name")
    return _named(value)


def _moment(value: datetime | time) -> str:
    """Offsets that are fixed are of several classes, and alike if they have the same name."""
    naive = _reduced(value.replace(tzinfo=None))
    if value.tzinfo is None or type(value.tzinfo).__name__ not in {"timezone", "TzInfo"}:
        return f"{naive}{_exact(value.tzinfo)}"
    return f"{naive}{value.utcoffset()}{value.tzname()!a}"


def _listed(values: Iterable[Any]) -> str:
    return f"[{','.join(map(_exact, values))}]"


def _unordered(values: Iterable[Any]) -> str:
    return f"{{{','.join(sorted(map(_exact, values)))}}}"


def _mapped(values: Mapping[Any, Any]) -> str:
    return f"{{{','.join(f'{_exact(key)}:{_exact(item)}' for key, item in values.items())}}}"


_WRITERS: dict[type, Callable[[Any], str]] = {
    type(None): repr,
    bool: repr,
    int: hex,  # has no limit of digits
    float: lambda value: f"f{value.hex()}",
    str: ascii,
    bytes: repr,
    list: _listed,
    tuple: lambda value: f"t{_listed(value)}",
    dict: _mapped,
    set: lambda value: f"s{_unordered(value)}",
    frozenset: lambda value: f"z{_unordered(value)}",
    datetime: _moment,
    time: _moment,
}
