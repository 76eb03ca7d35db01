"""Values as a key knows them: what they are, and what they hold."""

from __future__ import annotations

import contextlib
import copyreg
import dataclasses
import datetime as dt
import decimal
import fractions
import functools
import ipaddress
import logging
import marshal
import pathlib
import re
import threading
import typing
import uuid
import weakref
import zoneinfo
from collections import deque
from types import FunctionType, MappingProxyType, MemberDescriptorType
from typing import Any

from ..graphstore.canonical import digest

__all__ = ["IGNORED", "IMMUTABLE", "contents", "exact", "plain", "reduced", "state_of"]

_FEW = 4096  # bytes
_PLAIN = (
    type(None), type(...), bool, int, float, complex, str, bytes,
    tuple, list, dict, set, frozenset, bytearray,
)  # fmt: skip
#: What changes no answer.
IGNORED = (
    logging.Logger,
    logging.LoggerAdapter,
    type(threading.Lock()),
    type(threading.RLock()),
    typing.TypeVar,
    weakref.ref,
    weakref.WeakKeyDictionary,
    weakref.WeakValueDictionary,
)
IMMUTABLE = (
    dt.date, dt.time, dt.timedelta, dt.tzinfo, decimal.Decimal,
    fractions.Fraction, ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network,
    ipaddress.IPv6Network, pathlib.PurePath, range, re.Pattern, uuid.UUID, zoneinfo.ZoneInfo,
)  # fmt: skip

# What Python and the makers of classes put into a class beside what was written there.
_MADE = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__class_vars__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__hash__",
        "__match_args__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__private_attributes__",
        "__qualname__",
        "__signature__",
        "__slots__",
        "__static_attributes__",
        "__weakref__",
        "__wrapped__",
        "_abc_impl",
    }
)


def plain(it: Any) -> str | None:
    """The digest of a plain value, as deep as it goes; None if there is anything else in it."""
    if type(it) not in _PLAIN:
        return None
    try:
        return digest(marshal.dumps(it, 2))  # 2: without references, which depend on chance
    except ValueError:
        return None


def exact(it: Any) -> bytes | str | None:
    """What tells cheaply whether a plain value is still the same: its bytes, if they are few."""
    try:
        written = marshal.dumps(it, 2)
    except ValueError:
        return None
    return written if len(written) < _FEW else digest(written)


def contents(it: Any) -> tuple[Any, ...] | None:
    """What a container holds, in its order; None if it is none of Python's own."""
    if isinstance(it, dict | MappingProxyType):
        return tuple(part for item in tuple(it.items()) for part in item)
    if isinstance(it, set | frozenset):
        return tuple(sorted(it, key=_name_or_repr))
    return tuple(it) if isinstance(it, tuple | list | deque) else None


def _name_or_repr(it: Any) -> str:
    return getattr(it, "__qualname__", None) or repr(it)


def state_of(it: Any) -> dict[str, Any]:
    """The attributes of an object, or what was written into a class."""
    if isinstance(it, type):
        return _written(it)
    state = dict(getattr(it, "__dict__", {}))
    for kind in type(it).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # not set yet
                    state[name] = member.__get__(it)
            elif isinstance(member, functools.cached_property):
                state.pop(name, None)
    return state


def _written(kind: type) -> dict[str, Any]:
    held = {
        name: value
        for name, value in tuple(vars(kind).items())
        if name not in _MADE
        and not name.startswith("__pydantic_")
        and not isinstance(value, MemberDescriptorType)
    }
    if (fields := held.pop("__dataclass_fields__", None)) is not None:
        made = [it for it in fields.values() if it.default_factory is not dataclasses.MISSING]
        held |= {f"factory of {it.name}": it.default_factory for it in made}
    held |= {f"field {name}": it for name, it in _pydantic_fields(kind).items()}
    return {name: value for name, value in held.items() if not _is_generated(value)}


def _is_generated(value: object) -> bool:
    return isinstance(value, FunctionType) and value.__code__.co_filename == "<string>"


def _pydantic_fields(kind: type) -> dict[str, Any]:
    """What the fields and validators of a model were declared with."""
    declared: dict[str, Any] = {}
    for name, field in (getattr(kind, "__pydantic_fields__", None) or {}).items():
        default = None if field.is_required() else field.default
        told = [repr(field.alias), repr(field.validation_alias), repr(field.serialization_alias)]
        declared[name] = (field.annotation, default, field.default_factory, *told)
        for index, mark in enumerate(field.metadata):
            function = getattr(mark, "func", None)
            declared[f"{name} by {index}"] = function or repr(mark)
    return declared | _pydantic_validators(kind)


def _pydantic_validators(kind: type) -> dict[str, Any]:
    """How its validators and serializers are applied; what they do is in the class itself."""
    groups = getattr(kind, "__pydantic_decorators__", None)
    if groups is None:
        return {}
    found = [getattr(groups, group.name) for group in dataclasses.fields(groups)]
    return {
        f"applied {name}": repr(getattr(it.info, "mode", "")) + repr(getattr(it.info, "fields", ""))
        for group in found
        for name, it in group.items()
    }


def reduced(it: Any) -> Any:
    """What an immutable value is made of, as pickle would."""
    try:
        made = copyreg.dispatch_table.get(type(it))
        return it.__reduce_ex__(2) if made is None else made(it)
    except Exception:  # noqa: BLE001  (whatever its class raises, it cannot be known)
        return None
