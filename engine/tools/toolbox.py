"""Where tools are declared, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeVar, overload

from ...graphstore.model import Effect
from ...invalidation.resources import Resource
from ..errors import ToolError
from .tool import DeclaredTool, Tool

__all__ = ["Toolbox"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Toolbox:
    """Declares tools. ``known``: where they are kept by name."""

    def __init__(self, known: dict[str, Tool]) -> None:
        self._tools = known

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools declared so far, by name."""
        return MappingProxyType(self._tools)

    @overload
    def tool(
        self,
        function: _F,
        /,
        *,
        effect: Literal["pure", "read", "write"] | Effect | None = None,
        requires: Sequence[Resource] | None = None,
        name: str | None = None,
        version: str | None = None,
        uses: Iterable[object] = (),
    ) -> DeclaredTool[_F]: ...

    @overload
    def tool(
        self,
        /,
        *,
        effect: Literal["pure", "read", "write"] | Effect | None = None,
        requires: Sequence[Resource] | None = None,
        name: str | None = None,
        version: str | None = None,
        uses: Iterable[object] = (),
    ) -> Callable[[_F], DeclaredTool[_F]]: ...

    def tool(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        effect: Literal["pure", "read", "write"] | Effect | None = None,
        requires: Sequence[Resource] | None = None,
        name: str | None = None,
        version: str | None = None,
        uses: Iterable[object] = (),
    ) -> Tool | Callable[[Callable[..., Any]], Tool]:
        """Declare a function as a tool. Raises ToolError, naming what is missing.

        ``effect``: ``pure`` (its output may be reused), ``read`` (runs again, is compared) or
        ``write`` (the default; must state ``requires``). ``uses``: functions, classes, modules and
        values that are part of this tool's source; ``version`` stands for all of it. Of what a
        ``pure`` tool is seen to depend on and its key cannot see, a warning is logged once.
        """

        def declare(function: Callable[..., Any]) -> Tool:
            tool: Tool = DeclaredTool(
                function, effect=effect, requires=requires, name=name, version=version, uses=uses
            )
            if tool.name in self._tools:
                raise ToolError(
                    f"the engine has a tool named {tool.name} already; name this one otherwise:"
                    " @engine.tool(name=...)"
                )
            self._tools[tool.name] = tool
            return tool

        return declare if function is None else declare(function)
