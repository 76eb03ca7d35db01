"""What a tool's function is made of: the part of its code key that comes from the program."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from ..graphstore.canonical import Json, fingerprint
from .errors import ToolError

__all__ = ["Source"]


class Source:
    """The source of one tool, or the ``version`` that stands for it.

    Raises ToolError if the source cannot be read and there is no version.
    """

    def __init__(
        self,
        tool: str,
        function: Callable[..., Any],
        *,
        uses: Iterable[Callable[..., Any]] = (),
        version: str | None = None,
    ) -> None:
        self._stated: Json = version if version is not None else _source_of(tool, [function, *uses])
        self._key: str | None = None

    def key(self, declared: Json) -> str:
        """The digest of ``declared`` (always the same for one tool) and of the source."""
        if self._key is None:
            self._key = fingerprint([*declared, self._stated])
        return self._key


def _source_of(name: str, functions: Iterable[Callable[..., Any]]) -> list[str]:
    """The functions' syntax without comments and layout, engine decorators left out."""
    return [_normalised(name, function) for function in functions]


def _normalised(name: str, function: Callable[..., Any]) -> str:
    function = getattr(function, "function", function)  # a Tool named in uses=
    try:
        source = inspect.getsource(inspect.unwrap(function))
        [definition, *_] = ast.parse(textwrap.dedent(source)).body
    except (OSError, TypeError, SyntaxError, ValueError):
        raise ToolError(
            f"the source of {getattr(function, '__name__', function)!r} of the tool {name} cannot"
            " be read, so a change of it would go unnoticed; state version='1' and count it up"
        ) from None
    if isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        definition.decorator_list = [
            decorator for decorator in definition.decorator_list if not _declares_tool(decorator)
        ]
    return ast.unparse(definition)


def _declares_tool(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute) and called.attr == "tool"
