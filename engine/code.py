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

__all__ = ["Chain", "chains", "form_of_code"]

_ROOTS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
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


def chains(code: CodeType, space: Mapping[str, Any]) -> Iterator[Chain]:
    """The globals that code names, its inner functions included, and what it imports."""
    yield from _chains(code, str(space.get("__package__") or ""))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from chains(constant, space)


def _chains(code: CodeType, package: str) -> Iterator[Chain]:
    steps = [it for it in dis.get_instructions(code) if it.opname not in _BETWEEN]
    for index, step in enumerate(steps):
        if step.opname in _ROOTS:
            yield _chain(steps, index)
        elif step.opname == "IMPORT_NAME":
            level, names = steps[index - 2].argval, steps[index - 1].argval
            yield from _imports("." * level + step.argval, names or (), package)


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
