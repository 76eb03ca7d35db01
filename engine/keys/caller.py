"""Who is asked by ``run.decide(request, call=...)``: the name of ``call``, as a key has it.

A name stays the same from process to process, and when the code of ``call`` is changed: that would
cost every recorded reply. What tells two calls of one name apart is part of it: the texts and
numbers that were bound when it was made (in a closure, a partial, a default, an object's
attributes), and the code of a lambda, which has no name. What ``call`` itself rebinds, such as a
counter, and what a list, a set or a dict holds is state, and no part of who it is.
"""

from __future__ import annotations

import dis
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from types import CodeType, FunctionType
from typing import Any

from ...graphstore.canonical import Json, encode, fingerprint
from .bytecode import form_of_code
from .exact import NotExact, exact
from .values import IMMUTABLE, state_of

__all__ = ["caller_name"]

_STATE = "..."
_MAKING = ("__init__", "__post_init__")
_DEPTH = 4
_CREDENTIAL = re.compile(
    r"(^|_|api|access|private)key$|(^|_)token$|secret|passw(or)?d|credential", re.IGNORECASE
)


def caller_name(call: Callable[..., Any]) -> str:
    """The name of the model, service or function that ``call`` asks, as JSON text."""
    return encode(_named(call, _DEPTH)).decode()


def _named(value: Any, depth: int) -> Json:
    if depth == 0:
        return _STATE
    if isinstance(value, functools.partial):
        names = sorted(value.keywords)
        bound = [_bound(x, depth) for x in value.args]
        bound += [_bound_to(name, value.keywords[name], depth) for name in names]
        return [_named(value.func, depth), names, bound]
    if inspect.ismethod(value):
        return [_named(value.__func__, depth), _bound(value.__self__, depth)]
    if isinstance(value, FunctionType):
        return [value.__module__, _name_or_code(value), _bindings(value, depth)]
    if isinstance(value, type) or inspect.isroutine(value):
        return [value.__module__, value.__qualname__]
    return _object(value, depth)


def _name_or_code(function: FunctionType) -> str:
    if function.__name__ != "<lambda>":
        return function.__qualname__
    return fingerprint(form_of_code(function.__code__))


def _bindings(function: FunctionType, depth: int) -> Json:
    """What its defaults and its closure bind, by name, as far as it does not rebind it."""
    rebound = _stored(function.__code__, "STORE_DEREF")
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closed = {
        name: _bound_to(name, _contents(cell), depth) for name, cell in cells if name not in rebound
    }
    return [closed, [_bound_to(name, value, depth) for name, value in _defaults(function)]]


def _defaults(function: FunctionType) -> Iterable[tuple[str, Any]]:
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount][-len(defaults) :] if defaults else ()
    return [*zip(names, defaults, strict=True), *(function.__kwdefaults__ or {}).items()]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _bound_to(name: str, value: Any, depth: int) -> Json:
    """What is bound under a name, unless that is one of credentials."""
    return _STATE if _CREDENTIAL.search(name) else _bound(value, depth)


def _bound(value: Any, depth: int) -> Json:
    match value:
        case Enum():
            return [type(value).__qualname__, value.name]
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return [_bound(item, depth) for item in value]
        case list() | dict() | set():
            return _STATE
    if isinstance(value, (bytes, frozenset, *IMMUTABLE)):
        return _exactly(value)
    return _named(value, depth - 1)


def _exactly(value: Any) -> Json:
    try:
        return exact(value)
    except NotExact:
        return _STATE


def _object(instance: Any, depth: int) -> Json:
    """An object by its class and the plain attributes that its methods do not rebind."""
    kind: Any = type(instance)
    name = [kind.__module__, kind.__qualname__]
    if (address := getattr(instance, "base_url", None)) is not None:  # a client of some service
        return [*name, str(address)]
    attributes = state_of(instance)
    state = _rebound_by(kind)
    parts = {
        key: _bound(value, depth)
        for key, value in sorted(attributes.items())
        if key not in state and not _CREDENTIAL.search(key)
    }
    return [*name, parts]


@functools.lru_cache(maxsize=256)
def _rebound_by(kind: type) -> frozenset[str]:
    """The attributes that methods, and functions made in them, set after an object was made."""
    methods: Iterable[Any] = (member for base in kind.__mro__ for member in vars(base).values())
    codes = (it.__code__ for it in methods if isinstance(it, FunctionType))
    after = (inner for code in codes for inner in _with_inner(code) if inner.co_name not in _MAKING)
    return frozenset(name for code in after for name in _stored(code, "STORE_ATTR"))


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


def _stored(code: CodeType, instruction: str) -> frozenset[str]:
    instructions = dis.get_instructions(code)
    return frozenset(str(it.argval) for it in instructions if it.opname == instruction)
