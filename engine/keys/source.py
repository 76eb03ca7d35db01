"""What a tool's function is made of: the part of its code key that comes from the program."""

from __future__ import annotations

import ast
import inspect
import logging
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_type_hints

from ...graphstore.canonical import Json, fingerprint
from ..errors import ToolError
from .dependencies import Dependencies
from .installed import packages_of

__all__ = ["Source"]

_log = logging.getLogger("execgraph")


class Source:
    """The source of one tool, or the ``version`` that stands for it.

    ``reused``: outputs of it are used again without running it, so all that they depend on is a
    part of it, as it is now; what cannot be known is logged once. Raises ToolError if the source
    cannot be read and there is no version.
    """

    def __init__(
        self,
        tool: str,
        function: Callable[..., Any],
        *,
        uses: Iterable[object] = (),
        version: str | None = None,
        reused: bool = False,
    ) -> None:
        uses = tuple(uses)
        parts = [function, *uses]
        # Whoever names what a tool uses has thought of it.
        self._level = logging.INFO if uses else logging.WARNING
        self._tool = tool
        self._stated: Json = version if version is not None else _source_of(tool, parts)
        self._key: str | None = None
        self._roots: list[object] | None = None
        self._seen: Dependencies | None = None
        self._warned_of: set[str] = set()
        if reused and version is None:
            self._roots = [*parts, *_types_of(function)]
            self._packages = packages_of(parts)
            # What is declared below the tool is not there yet: this is for the warning alone.
            self._warn(Dependencies(self._roots, self._packages, imports=False))

    def key(self, declared: Sequence[Json]) -> str:
        """The digest of ``declared`` (always the same for one tool) and of the source."""
        if self._roots is not None and (self._seen is None or not self._seen.stand):
            self._seen = Dependencies(self._roots, self._packages)
            self._key = None
            self._warn(self._seen)
        if self._key is None:
            depends = self._seen.digest if self._seen is not None else []
            self._key = fingerprint([*declared, self._stated, *([depends] if depends else [])])
        return self._key

    def _warn(self, seen: Dependencies) -> None:
        unseen = [it for it in seen.unseen if it not in self._warned_of]
        self._warned_of.update(unseen)
        if unseen:
            _log.log(
                self._level,
                "the outputs of the pure tool %s are reused, and its key does not see a change of:"
                " %s. Give it effect='read', name what it depends on in uses=[...], or state"
                " version='1' and count it up",
                self._tool,
                ", ".join(unseen),
            )


def _types_of(function: Callable[..., Any]) -> list[object]:
    """The types that arguments and the output are made into."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001  (the tool itself tells what is wrong with them)
        return []
    return [hints[name] for name in sorted(hints)]


def _source_of(name: str, parts: Iterable[Any]) -> list[str]:
    """The functions' syntax without comments and layout, engine decorators left out."""
    return [_normalised(name, it) if _has_source(it) else _value(name, it) for it in parts]


def _has_source(value: Any) -> bool:
    return callable(value) or inspect.ismodule(value)


def _value(name: str, value: Any) -> str:
    """A value named in uses=."""
    known = Dependencies([[value]], frozenset())
    if known.unseen or (type(value).__module__ != "builtins" and not known.stand):
        raise ToolError(
            f"the tool {name} uses {value!r}, of which it cannot be known what it is; name"
            " functions, classes, modules or plain values, or state version='1' and count it up"
        )
    return known.digest


def _normalised(name: str, function: Any) -> str:
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
