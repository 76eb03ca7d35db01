"""What a function's result depends on, as far as it can be known by reading the program.

From a function the walk goes to its code, its defaults, its closure, what decorates it, the object
it is bound to, and the globals that its code names; from these, as long as they are the program's
own, to what they depend on in turn. Values are known by what they are, installed packages by their
names and versions. What cannot be known (a live object, a file, the clock) is named as unseen.

Code is known by its bytecode: what runs is what is seen, also after the file has been replaced.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import deque
from collections.abc import Mapping, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ...graphstore.canonical import Json, fingerprint
from .bytecode import Chain, chains, changed, form_of_code, rebound, stored
from .installed import installed, is_own, name_of, reaches_outside
from .reads import MISSING, Reads, all_are, equal, same_members
from .values import (
    BUILT_IN,
    HOLDERS,
    IGNORED,
    contents,
    exact,
    parts_of,
    plain,
    state_of,
    value_of,
)

__all__ = ["Dependencies"]

_LIMIT = 20_000  # objects in one walk
_OF_THE_MODULE = frozenset({"__file__", "__name__", "__doc__", "__spec__", "__package__"})


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return MISSING


class Dependencies:
    """What ``roots`` depend on at one moment. ``packages``: names that are the program's own.

    ``unseen``: what could not be known, each with its kind. Without ``imports`` no module is
    imported that a function would import itself.
    """

    def __init__(
        self, roots: Sequence[object], packages: frozenset[str], *, imports: bool = True
    ) -> None:
        self._imports = imports
        self.unseen: dict[str, None] = {}
        self._packages = packages
        self._reads = Reads()
        self._numbers: dict[int, int] = {}
        self._selves: dict[int, object] = {}  # by function, what it is bound to
        self._members: set[int] = set()  # functions that nobody but their class names
        self._state: dict[int, object] = {}  # what the functions themselves change
        self._rebound: dict[int, frozenset[str]] = {}  # by object, attributes that they bind anew
        self._kept: list[object] = []  # so that an id is of one object as long as the walk lasts
        self._queue: deque[tuple[object, str | None]] = deque()
        forms: list[Json] = [[self._refer(root, "") for root in roots]]
        while self._queue:
            value, path = self._queue.popleft()
            forms.append(self._form(value, path))
            if len(self._kept) > _LIMIT:
                self._not_seen(path, value)
                break
        self.digest = fingerprint(forms)

    @property
    def stand(self) -> bool:
        """Whether all that was read is still as it was; a few comparisons."""
        return self._reads.stand

    # Referring ----------------------------------------------------------------------------

    def _refer(self, target: object, path: str | None) -> Json:
        """What stands for ``target`` where it is mentioned: a value, or the number of its form."""
        if id(target) in self._state:
            return "state"
        if (value := plain(target)) is not None:
            self._watch_plain(target)
            return value
        if isinstance(target, IGNORED):
            return "ignored"
        if (number := self._numbers.get(id(target))) is None:
            number = self._numbers[id(target)] = len(self._kept)
            self._kept.append(target)
            self._queue.append((target, path))
        return number

    def _watch_plain(self, value: object) -> None:
        if isinstance(value, list | dict | set | tuple | bytearray):
            self._reads.value(functools.partial(exact, value), equal)

    def _refer_all(self, items: Mapping[Any, Any], path: str | None) -> Json:
        """What a namespace holds, by name."""
        names = sorted(items, key=str)
        return [[str(name), self._refer(items[name], _join(path, str(name)))] for name in names]

    def _not_seen(self, path: str | None, value: object) -> None:
        if path is not None:
            self.unseen[f"{path} ({_kind(value)})".strip()] = None

    # Forms --------------------------------------------------------------------------------

    def _form(self, value: Any, path: str | None) -> Json:
        if isinstance(value, FunctionType):
            return self._function(value, path)
        if (parts := parts_of(value)) is not None:
            if isinstance(value, MethodType):
                self._selves[id(value.__func__)] = value.__self__
            bound = _join(path, "self") if isinstance(value, MethodType) else path
            return [type(value).__name__, *(self._refer(part, bound) for part in parts)]
        if isinstance(value, type):
            return self._class(value, path)
        if isinstance(value, ModuleType):
            return self._module(value, path)
        if isinstance(value, BUILT_IN):
            return name_of(value)
        return repr(value) if type(value).__module__ == "typing" else self._object(value, path)

    def _function(self, function: FunctionType, path: str | None) -> Json:
        own = self._is_own(function.__globals__.get("__name__"))
        # Generated, or somebody else's: what it holds is followed, and not named.
        within = path if own and function.__code__.co_filename != "<string>" else None
        code, closure = function.__code__, function.__closure__ or ()
        cells = dict(zip(code.co_freevars, closure, strict=True))
        bound = self._own_state(function, cells) if own else frozenset()
        named = self._named_by(function, cells, bound, within) if own else name_of(function)
        whole = {} if own else cells
        attributes = self._attributes(function) if own else vars(function)
        return [
            form_of_code(code, function.__doc__) if own else "",
            named,
            [[name, self._cell(cell, _join(within, name))] for name, cell in whole.items()],
            self._refer(function.__defaults__, within),
            self._refer(function.__kwdefaults__, within),
            self._refer_all(attributes, within),
        ]

    def _attributes(self, function: FunctionType) -> dict[str, Any]:
        """What a function carries, but for what its own code binds, such as a count; and note
        what it is made of, which may be bound anew."""
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self._reads.name(functools.partial(getattr, function), name)
        own = stored(function.__code__)

        def now() -> dict[str, Any]:
            return {name: it for name, it in vars(function).items() if name not in own}

        held: dict[str, Any] = self._reads.value(now, same_members)
        return held

    def _own_state(self, function: FunctionType, cells: Mapping[str, Any]) -> frozenset[str]:
        """Note what a function changes itself: a log, a counter, a cache, and nothing it rests on.
        Gives the names that it binds anew. A method that nobody names may not even be called."""
        if id(function) in self._members:
            return frozenset()
        names = rebound(function.__code__)
        if (owner := self._selves.get(id(function))) is not None:
            self._rebound[id(owner)] = names
        for chain in changed(function.__code__):
            value = self._at(function, cells, chain)
            if isinstance(value, list | dict | set | deque | bytearray):
                self._state[id(value)] = value
        return names

    def _at(self, function: FunctionType, cells: Mapping[str, Any], chain: Chain) -> Any:
        """What a chain leads to, if that is plain to see."""
        if chain.root in cells:
            value = _contents(cells[chain.root])
        elif (chain.root,) == function.__code__.co_varnames[:1]:
            value = self._selves.get(id(function))
        else:
            value = function.__globals__.get(chain.root)
        for name in chain.attributes:
            value = vars(value).get(name) if hasattr(value, "__dict__") else None
        return value

    def _cell(self, cell: Any, path: str | None) -> Json:
        value = self._reads.value(functools.partial(_contents, cell))
        return "missing" if value is MISSING else self._refer(value, path)

    def _named_by(
        self,
        function: FunctionType,
        cells: Mapping[str, Any],
        bound: frozenset[str],
        path: str | None,
    ) -> Json:
        """What the names are that a function's code reads, and does not bind itself."""
        space = function.__globals__
        found = {
            chain: self._named(space, cells, chain, path)
            for chain in chains(function.__code__, space)
            if chain.root not in _OF_THE_MODULE and chain.root not in bound
        }
        return [[str(chain), found[chain]] for chain in sorted(found, key=str)]

    def _named(
        self, space: dict[str, Any], cells: Mapping[str, Any], chain: Chain, path: str | None
    ) -> Json:
        if chain.imported:
            return self._imported(chain, path)
        if chain.root in cells:
            value = self._reads.value(functools.partial(_contents, cells[chain.root]))
            return "unbound" if value is MISSING else self._follow(value, chain, path)
        value = self._reads.name(space.get, chain.root)
        if value is not MISSING:
            return self._follow(value, chain, path)
        if reaches_outside(f"builtins.{chain.root}"):
            self._not_seen(_join(path, chain.root), None)
        return f"built in: {chain.root}"

    def _imported(self, chain: Chain, path: str | None) -> Json:
        """What a function imports itself: only its own program's modules are imported for it."""
        if not self._is_own(chain.root):
            name = ".".join([chain.root, *chain.attributes])
            if reaches_outside(name):
                self._not_seen(_join(path, name), None)
            return [name, installed(chain.root)]
        module = chain.module() if self._imports else None
        return "unknown" if module is None else self._follow(module, chain, path)

    def _follow(self, value: Any, chain: Chain, path: str | None) -> Json:
        """Go along ``a.b.c`` as long as it is plain to see what the next is."""
        known, attributes = chain.root, list(chain.attributes)
        while attributes and value is not os.environ:
            if isinstance(value, ModuleType) and not self._is_own(value.__name__):
                break
            held = vars(value) if _is_plain_namespace(value) else {}
            if attributes[0] not in held:
                break
            name = attributes.pop(0)
            value = self._reads.name(held.get, name)
            known = f"{known}.{name}"
        return self._end(value, attributes, chain, _join(path, known))

    def _end(self, value: Any, attributes: list[str], chain: Chain, path: str | None) -> Json:
        name = ".".join([_dotted(value), *attributes])
        if name in ("os.environ", "os.environ.get", "os.getenv") and chain.constant is not None:
            value = self._reads.value(functools.partial(os.environ.get, chain.constant), equal)
            return ["environment", chain.constant, value]
        if reaches_outside(name) or value is os.environ:
            self._not_seen(_join(path, ".".join(attributes)), None)
            return name
        if isinstance(value, ModuleType) and not self._is_own(value.__name__):
            return [name, installed(value.__name__)]
        if isinstance(value, ModuleType) and chain.constant in vars(value):  # getattr(a, "b")
            return self._refer(self._reads.name(vars(value).get, str(chain.constant)), path)
        return self._refer(value, path)

    def _class(self, kind: type, path: str | None) -> Json:
        if not self._is_own(kind.__module__):
            return name_of(kind)
        held = state_of(kind)
        proxy = vars(kind)
        self._members.update(id(it) for it in held.values())
        for name in held:
            self._reads.name(proxy.get, name)
        bases = [self._refer(it, path) for it in (type(kind), *kind.__mro__[1:])]
        return ["class", kind.__qualname__, bases, self._refer_all(held, _join(path, ""))]

    def _module(self, module: ModuleType, path: str | None) -> Json:
        if self._is_own(module.__name__):
            self._not_seen(path, module)
        return installed(module.__name__)

    def _object(self, instance: Any, path: str | None) -> Json:
        kind = type(instance)
        if hasattr(kind, "source_key"):  # a tool, called as a function
            return ["tool", self._reads.value(instance.source_key, equal)]
        own = self._is_own(kind.__module__)
        held, value = contents(instance), value_of(instance)
        if held is not None:
            self._reads.value(functools.partial(contents, instance), all_are)
        elif not own and value is not None:
            return ["value", name_of(kind), self._refer(value, None)]
        elif not own and not _has_fields(instance) and not isinstance(instance, HOLDERS):
            self._not_seen(path, instance)
            return name_of(kind)
        state = self._reads.value(functools.partial(self._state_of, instance), same_members)
        items = [self._refer(item, path) for item in held or ()]
        return [
            "object",
            self._refer(kind, path),
            self._refer_all(state, path),
            items,
            self._refer(value, None),
        ]

    def _state_of(self, instance: Any) -> dict[str, Any]:
        bound = self._rebound.get(id(instance), frozenset())
        return {
            name: value for name, value in state_of(instance).items() if f"self.{name}" not in bound
        }

    def _is_own(self, module: object) -> bool:
        return is_own(str(module), self._packages)


def _is_plain_namespace(value: Any) -> bool:
    """Whether an attribute that is in ``vars`` is what reading it gives."""
    return isinstance(value, ModuleType) or (
        not isinstance(value, type) and hasattr(value, "__dict__") and not callable(value)
    )


def _has_fields(value: object) -> bool:
    return dataclasses.is_dataclass(value) or hasattr(type(value), "__pydantic_fields__")


def _dotted(value: Any) -> str:
    if value is os.environ:
        return "os.environ"
    module = "" if isinstance(value, ModuleType) else f"{getattr(value, '__module__', '')}."
    name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
    return f"{module}{name}"


def _join(path: str | None, name: str) -> str | None:
    """Where something is; None where nobody is to be told."""
    return f"{path}.{name}" if path and name else path if path is None else path or name


def _kind(value: object) -> str:
    return "outside" if value is None else f"a {type(value).__name__}"
