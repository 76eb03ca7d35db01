"""Reading bytecode: what a function's code is, and the globals that it names."""

from __future__ import annotations

import dis
import importlib
import importlib.util
import marshal
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any, NamedTuple

from ..graphstore.canonical import Json, digest

__all__ = ["Chain", "chains", "changed", "form_of_code", "rebound"]

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
            return importlib.import_module(self.root)
        except Exception:  # noqa: BLE001  (whatever importing it raises, the function will too)
            return None


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


def _constant(it: Any) -> Json:
    return form_of_code(it) if isinstance(it, CodeType) else digest(marshal.dumps(it, 2))


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
    steps = _steps(code)
    for index, step in enumerate(steps):
        if step.opname in _ROOTS or (step.opname in _CELLS and step.argval in cells):
            yield _chain(steps, index)
        elif step.opname == "IMPORT_NAME":
            level, names = steps[index - 2].argval, steps[index - 1].argval
            yield from _imports("." * level + step.argval, names or (), package)


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
    found = {it.argval for it in steps if it.opname in ("STORE_GLOBAL", "STORE_DEREF")}
    for index, step in enumerate(steps):
        if (step.argval,) == code.co_varnames[:1] and step.opname.startswith("LOAD_FAST"):
            after = steps[index + 1 : index + 3]
            # ``self.a = x`` stores at once; ``self.a += x`` copies self, loads, and stores later.
            target = after[-1] if after[0].opname == "COPY" else after[0]
            if target is not after[0] or target.opname == "STORE_ATTR":
                found.add(f"self.{target.argval}")
    inner = [rebound(it) for it in code.co_consts if isinstance(it, CodeType)]
    return frozenset(found).union(*inner)


def _steps(code: CodeType) -> list[dis.Instruction]:
    return [it for it in dis.get_instructions(code) if it.opname not in _BETWEEN]


def _chain(steps: list[dis.Instruction], index: int) -> Chain:
    root, attributes = steps[index].argval, []
    index += 1
    while index < len(steps) and steps[index].opname in _ATTRIBUTES:
        attributes.append(steps[index].argval)
        index += 1
    after = steps[index] if index < len(steps) else None
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
