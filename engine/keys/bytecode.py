"""Reading bytecode: what a function's code is, and the globals that it names."""

from __future__ import annotations

import dis
import importlib
import importlib.util
import marshal
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any, NamedTuple

from ...graphstore.canonical import Json, digest

__all__ = ["Chain", "chains", "changed", "form_of_code", "rebound", "stored"]

_ROOTS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_CELLS = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_MUTATORS = frozenset(
    {
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "insert",
        "pop",
        "popitem",
        "remove",
        "setdefault",
        "update",
    }
)
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_BETWEEN = frozenset({"CACHE", "PRECALL", "PUSH_NULL", "NOP", "RESUME", "EXTENDED_ARG"})


class Chain(NamedTuple):
    """``root.a.b`` as code reads it; ``constant``: the text that follows, as in ``a["x"]``.

    ``imported``: the root is a module that the function imports itself.
    """

    root: str
    attributes: tuple[str, ...]
    constant: str | None = None
    imported: bool = False

    def module(self) -> Any:
        """The module that it imports; None if it cannot be."""
        try:
            module = importlib.import_module(self.root)
        except Exception:  # noqa: BLE001  (whatever importing it raises, the function will too)
            return None
        inner = self.root
        for name in self.attributes:  # a module of a package is there once it is imported
            inner = f"{inner}.{name}"
            try:
                importlib.import_module(inner)
            except Exception:  # noqa: BLE001  (as above, or it is no module)
                break
        return module


def form_of_code(code: CodeType, doc: str | None = None) -> Json:
    """What code does, whatever its layout and its docstring."""
    constants = list(code.co_consts)
    if doc is not None and constants and constants[0] == doc:
        constants[0] = None
    return [
        digest(code.co_code + code.co_exceptiontable),
        [_constant(it) for it in constants],
        [list(code.co_names), list(code.co_varnames), list(code.co_freevars)],
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
    ]


def _constant(value: Any) -> Json:
    return form_of_code(value) if isinstance(value, CodeType) else digest(marshal.dumps(value, 2))


def chains(
    code: CodeType, space: Mapping[str, Any], cells: frozenset[str] | None = None
) -> Iterator[Chain]:
    """The globals and the closure's names that code reads, its inner functions included, and what
    it imports."""
    cells = frozenset(code.co_freevars) if cells is None else cells
    yield from _chains(code, str(space.get("__package__") or ""), cells)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from chains(constant, space, cells)


def _chains(code: CodeType, package: str, cells: frozenset[str]) -> Iterator[Chain]:
    steps, imported = _steps(code), dict[str, Chain]()
    for index, step in enumerate(steps):
        if step.opname in _ROOTS or (step.opname in _CELLS and step.argval in cells):
            yield _chain(steps, index)
        elif step.opname == "IMPORT_NAME":
            yield from _import(steps, index, package, imported)
    yield from _through(code, imported)


def _import(
    steps: list[dis.Instruction], index: int, package: str, imported: dict[str, Chain]
) -> Iterator[Chain]:
    """What is imported: under its name in ``imported``, if it has one."""
    level, names = steps[index - 2].argval, steps[index - 1].argval or ()
    modules = list(_imports("." * level + steps[index].argval, names, package))
    bound = list(_bound(steps, index + 1, len(modules)))
    if len(bound) != len(modules):
        yield from modules
    imported.update(zip(bound, modules, strict=False))


def _bound(steps: list[dis.Instruction], index: int, number: int) -> Iterator[str]:
    """The local names that the next ``number`` stores bind."""
    for step in steps[index:]:
        if step.opname in ("STORE_FAST", "STORE_DEREF") and number:
            number -= 1
            yield step.argval
        elif step.opname not in ("IMPORT_FROM", "SWAP", "POP_TOP") or not number:
            return


def _through(code: CodeType, imported: dict[str, Chain]) -> Iterator[Chain]:
    """What is read of the modules that code imports: of one that is never read, all of it."""
    read = {name: list(_reads_of(code, name, chain)) for name, chain in imported.items()}
    for name, chain in imported.items():
        yield from read[name] or [chain]


def _reads_of(code: CodeType, name: str, module: Chain) -> Iterator[Chain]:
    steps = _steps(code)
    for index, step in enumerate(steps):
        if step.opname.startswith(("LOAD_FAST", "LOAD_DEREF")) and step.argval == name:
            yield _beyond(module, _chain(steps, index))
        elif step.opname.startswith("LOAD_FAST") and name in _pair(step.argval):
            last = step.argval[-1] == name
            yield _beyond(module, _chain(steps, index)) if last else module
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and name in constant.co_freevars:
            yield from _reads_of(constant, name, module)


def _pair(argument: Any) -> tuple[Any, ...]:
    return argument if isinstance(argument, tuple) else ()


def _beyond(module: Chain, read: Chain) -> Chain:
    """``a.b.c``, where ``a`` is what ``import a.b`` gave, or ``import a.b as a``."""
    attributes, inner = read.attributes, tuple(module.root.split(".")[1:])
    if inner and not module.attributes and str(read.root) == module.root.partition(".")[0]:
        if attributes[: len(inner)] == inner:
            attributes = attributes[len(inner) :]
        else:
            module = module._replace(root=str(read.root))
    return module._replace(attributes=(*module.attributes, *attributes), constant=read.constant)


def stored(code: CodeType) -> frozenset[str]:
    """The attributes, of whatever object, that code binds."""
    inner = [stored(it) for it in code.co_consts if isinstance(it, CodeType)]
    own = (it.argval for it in dis.get_instructions(code) if it.opname == "STORE_ATTR")
    return frozenset(own).union(*inner)


def changed(code: CodeType) -> Iterator[Chain]:
    """What code itself changes in place: ``a.b`` in ``a.b.append(1)`` and ``a.b[key] = 1``."""
    steps = _steps(code)
    for index, step in enumerate(steps):
        if not step.opname.startswith("LOAD_") or step.opname in _ATTRIBUTES:
            continue
        chain = _chain(steps, index)
        if chain.attributes and chain.attributes[-1] in _MUTATORS:
            yield Chain(str(chain.root), chain.attributes[:-1])
        after = [it.opname for it in steps[index + len(chain.attributes) + 1 :][:3]]
        if after[1:2] in (["STORE_SUBSCR"], ["DELETE_SUBSCR"]) or after[1:] == ["COPY", "COPY"]:
            yield Chain(str(chain.root), chain.attributes)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from changed(constant)


def rebound(code: CodeType) -> frozenset[str]:
    """The globals and the closure's names that code binds itself, and attributes of its first
    argument, as ``self.name``."""
    steps = _steps(code)
    stored = {it.argval for it in steps if it.opname in ("STORE_GLOBAL", "STORE_DEREF")}
    for index, step in enumerate(steps):
        if (step.argval,) == code.co_varnames[:1] and step.opname.startswith("LOAD_FAST"):
            after = steps[index + 1 : index + 3]
            # ``self.a = x`` stores at once; ``self.a += x`` copies self, loads, and stores later.
            target = after[-1] if after[0].opname == "COPY" else after[0]
            if target is not after[0] or target.opname == "STORE_ATTR":
                stored.add(f"self.{target.argval}")
    inner = [rebound(it) for it in code.co_consts if isinstance(it, CodeType)]
    return frozenset(stored).union(*inner)


def _steps(code: CodeType) -> list[dis.Instruction]:
    return [it for it in dis.get_instructions(code) if it.opname not in _BETWEEN]


def _chain(steps: list[dis.Instruction], index: int) -> Chain:
    root, attributes = steps[index].argval, []
    index += 1
    while index < len(steps) and steps[index].opname in _ATTRIBUTES:
        attributes.append(steps[index].argval)
        index += 1
    after = steps[index] if index < len(steps) else None
    if after is not None and after.opname == "CONTAINS_OP":  # "x" in a
        after = steps[steps.index(after) - len(attributes) - 2]
    constant = after.argval if after is not None and after.opname == "LOAD_CONST" else None
    return Chain(root, tuple(attributes), constant if isinstance(constant, str) else None)


def _imports(name: str, names: tuple[str, ...], package: str) -> Iterator[Chain]:
    try:
        module = importlib.util.resolve_name(name, package)
    except ImportError:
        return
    if not names:
        yield Chain(module, (), imported=True)
    for imported in names:
        yield Chain(module, (imported,), imported=True)
