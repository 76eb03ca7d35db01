"""Values as a key knows them: what they are, and what they hold."""

from __future__ import annotations

import contextlib
import copyreg
import dataclasses
import datetime as dt
import decimal
import fractions
import functools
import inspect
import ipaddress
import logging
import marshal
import operator
import pathlib
import re
import string
import struct
import threading
import typing
import uuid
import weakref
import zoneinfo
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Callable
from enum import Enum
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from ...graphstore.canonical import digest
from .installed import name_of

__all__ = [
    "BUILT_IN",
    "HOLDERS",
    "IGNORED",
    "contents",
    "exact",
    "parts_of",
    "plain",
    "state_of",
    "value_of",
]

#: What pydantic has where there is no default.
_UNDEFINED = FieldInfo(annotation=int).default

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
    ipaddress.IPv6Network, operator.attrgetter, operator.itemgetter, operator.methodcaller,
    pathlib.PurePath, range, re.Pattern, slice, uuid.UUID, zoneinfo.ZoneInfo,
)  # fmt: skip
#: Of the library, and known by their attributes.
HOLDERS = (UserDict, UserList, UserString, ChainMap, string.Template)
#: What an object of a subclass is beside its attributes.
_VALUE_OF: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int.__index__),
    (float, float.__float__),
    (complex, complex.__complex__),
    (str, str.__str__),
    (bytes, bytes.__bytes__),
    (struct.Struct, lambda it: it.format),
)

BUILT_IN = (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)

# What is made of other things, and where it has them.
_MADE_OF: tuple[tuple[type, tuple[str, ...]], ...] = (
    (MethodType, ("__func__", "__self__")),
    (functools.partial, ("func", "args", "keywords")),
    (staticmethod, ("__func__",)),
    (classmethod, ("__func__",)),
    (property, ("fget", "fset", "fdel")),
    (functools.cached_property, ("func",)),
    (TypeAdapter, ("_type",)),
)

# What Python and the makers of classes put into a class beside what was written there.
_MADE = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__class_vars__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__hash__",
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


def plain(value: Any) -> str | None:
    """The digest of a plain value, as deep as it goes; None if there is anything else in it."""
    if type(value) not in _PLAIN:
        return None
    try:
        return digest(marshal.dumps(value, 2))  # 2: without references, which depend on chance
    except ValueError:
        return None


def exact(value: Any) -> bytes | str | None:
    """What tells cheaply whether a plain value is still the same: its bytes, if they are few."""
    try:
        written = marshal.dumps(value, 2)
    except ValueError:
        return None
    return written if len(written) < _FEW else digest(written)


def contents(value: Any) -> tuple[Any, ...] | None:
    """What a container holds, in its order; None if it is none of Python's own."""
    if isinstance(value, dict | MappingProxyType):
        return tuple(part for item in tuple(value.items()) for part in item)
    if isinstance(value, set | frozenset):
        return tuple(sorted(value, key=_name_or_repr))
    if isinstance(value, BaseException):
        return value.args
    return tuple(value) if isinstance(value, tuple | list | deque) else None


def _name_or_repr(value: Any) -> str:
    return getattr(value, "__qualname__", None) or repr(value)


def state_of(value: Any) -> dict[str, Any]:
    """The attributes of an object, or what was written into a class."""
    if isinstance(value, type):
        return _written(value)
    state = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # not set yet
                    state[name] = member.__get__(value)
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
        held |= {f"declared {it.name}": _how_declared(it) for it in fields.values()}
    if (parameters := held.pop("__dataclass_params__", None)) is not None:
        held["dataclass"] = repr(parameters)
    held |= {f"field {name}": it for name, it in _pydantic_fields(kind).items()}
    return {name: value for name, value in held.items() if not _is_generated(value)}


def _how_declared(field: Any) -> tuple[Any, ...]:
    return (field.init, field.repr, field.hash, field.compare, getattr(field, "kw_only", None))


def _is_generated(value: object) -> bool:
    return isinstance(value, FunctionType) and value.__code__.co_filename == "<string>"


def _pydantic_fields(kind: type) -> dict[str, Any]:
    """What the fields and validators of a model were declared with."""
    declared: dict[str, Any] = {}
    for name, field in (getattr(kind, "__pydantic_fields__", None) or {}).items():
        default = _default_of(field)
        settings = [repr(getattr(field, name, None)) for name in _TOLD]
        declared[name] = (field.annotation, default, field.default_factory, *settings)
        for index, mark in enumerate(field.metadata):
            function = getattr(mark, "func", None)
            declared[f"{name} by {index}"] = function or repr(mark)
    for name, private in (getattr(kind, "__private_attributes__", None) or {}).items():
        declared[name] = (_default_of(private), private.default_factory)
    return declared | _pydantic_validators(kind)


#: What a field is declared with, beside its type, default and marks.
_TOLD = (
    "alias",
    "validation_alias",
    "serialization_alias",
    "discriminator",
    "exclude",
    "frozen",
    "init",
    "init_var",
    "kw_only",
    "validate_default",
)


def _default_of(declared: Any) -> Any:
    return None if declared.default is _UNDEFINED else declared.default


def _pydantic_validators(kind: type) -> dict[str, Any]:
    """How its validators and serializers are applied; what they do is in the class itself."""
    groups = getattr(kind, "__pydantic_decorators__", None)
    if groups is None:
        return {}
    decorators = [getattr(groups, group.name) for group in dataclasses.fields(groups)]
    return {
        f"applied {name}": repr(getattr(decorator.info, "mode", ""))
        + repr(getattr(decorator.info, "fields", ""))
        for group in decorators
        for name, decorator in group.items()
    }


def value_of(value: Any) -> Any:
    """What an immutable value is made of; None of what is not known to be one."""
    for kind, contents_of in _VALUE_OF:
        if isinstance(value, kind):
            return contents_of(value)
    return _reduced(value) if isinstance(value, IMMUTABLE) else None


def _reduced(value: Any) -> Any:
    """The parts of a value as pickle would have them."""
    try:
        made = copyreg.dispatch_table.get(type(value))
        return value.__reduce_ex__(2) if made is None else made(value)
    except Exception:  # noqa: BLE001  (whatever its class raises, it cannot be known)
        return None


def parts_of(value: Any) -> list[Any] | None:
    """What ``value`` is made of; None if it is not known to be made of other things."""
    for kind, names in _MADE_OF:
        if isinstance(value, kind):
            return [getattr(value, name) for name in names]
    if isinstance(value, Enum):
        return [type(value), value.name, value.value]
    if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType | None):
        return [value.__name__, value.__self__]
    if inspect.isroutine(value) and hasattr(value, "__wrapped__"):  # as lru_cache makes them
        return [name_of(type(value)), value.__wrapped__]
    if (origin := get_origin(value)) is not None:
        return [origin, *get_args(value)]
    return None
