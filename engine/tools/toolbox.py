"""Where tools are declared, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
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
        effect: Literal["pure", "read", "write", "once", "confirm"] | Effect | None = None,
        requires: Sequence[Resource] | None = None,
        name: str | None = None,
        version: str | None = None,
        uses: Iterable[object] = (),
        opaque: Iterable[str] = (),
        unseen: Iterable[str] = (),
        once_per: str | None = None,
        on_change: Literal["ask", "rerun"] = "ask",
        fresh_for: timedelta | None = None,
        lookup: Callable[..., Any] | None = None,
    ) -> DeclaredTool[_F]: ...

    @overload
    def tool(
        self,
        /,
        *,
        effect: Literal["pure", "read", "write", "once", "confirm"] | Effect | None = None,
        requires: Sequence[Resource] | None = None,
        name: str | None = None,
        version: str | None = None,
        uses: Iterable[object] = (),
        opaque: Iterable[str] = (),
        unseen: Iterable[str] = (),
        once_per: str | None = None,
        on_change: Literal["ask", "rerun"] = "ask",
        fresh_for: timedelta | None = None,
        lookup: Callable[..., Any] | None = None,
    ) -> Callable[[_F], DeclaredTool[_F]]: ...

    def tool(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        effect: Literal["pure", "read", "write", "once", "confirm"] | Effect | None = None,
        requires: Sequence[Resource] | None = None,
        name: str | None = None,
        version: str | None = None,
        uses: Iterable[object] = (),
        opaque: Iterable[str] = (),
        unseen: Iterable[str] = (),
        once_per: str | None = None,
        on_change: Literal["ask", "rerun"] = "ask",
        fresh_for: timedelta | None = None,
        lookup: Callable[..., Any] | None = None,
    ) -> Tool | Callable[[Callable[..., Any]], Tool]:
        """Declare a function as a tool, as a decorator or by a call.

        What a ``pure`` tool is seen to depend on, and its key cannot see, is named in the log once.

        Args:
            function: A function with a docstring and annotations, sync or async.
            effect: "pure": the output follows from arguments and code, and may be reused. "read":
                it looks at the world; it runs again, and its output is compared. "write", the
                default: it changes something, and runs again after what it rests on was checked.
                "once": a write that is performed at most once; afterwards it gives what it gave
                then, whatever has changed. "confirm": a write that a person approves each time,
                before it is done (``Engine(confirm=...)``).
            requires: What its steps rest on. A write has to state it, an empty list if nothing.
            name: The tool's name; None: the function's.
            version: What stands for all of its source; it is for you to change it then.
            uses: Functions, classes, modules and values that are part of its source.
            opaque: Selectors of what in its output differs on every run, as in
                ``["$.ticket.id"]``: a model is shown stand-ins, and may pass them on.
            unseen: Selectors of what in its output no model is to see, as in ``["$.took_ms"]``.
            once_per: What two effects of a "once" are told apart by, as in ``"{invoice_id}"``; an
                input of the task is ``{task.name}``. None: the task, the arguments, and which of
                equal calls of a run it is.
            on_change: What is done when something changes that a write requires. "ask": the model,
                which chose it under what was. "rerun": only the tool, if its doing so is as right
                now as it was then.
            fresh_for: How long an output of a "read" is used again without running it, from when
                the tool began that gave it. None: it runs each time.
            lookup: A function that says whether a call of a write in doubt has happened. It is
                given those of the tool's arguments that it names, the idempotency key among them,
                and returns what the tool would have returned, or None if it did not happen.

        Returns:
            The tool, which can still be called as the function; without ``function``, the
            decorator.

        Raises:
            ToolError: It cannot be a tool; the message says what is missing.
        """

        def declare(function: Callable[..., Any]) -> Tool:
            tool: Tool = DeclaredTool(
                function,
                effect=effect,
                requires=requires,
                name=name,
                version=version,
                uses=uses,
                opaque=opaque,
                unseen=unseen,
                once_per=once_per,
                on_change=on_change,
                fresh_for=fresh_for,
                lookup=lookup,
            )
            if tool.name in self._tools:
                raise ToolError(
                    f"the engine has a tool named {tool.name} already; name this one otherwise:"
                    " @engine.tool(name=...)"
                )
            self._tools[tool.name] = tool
            return tool

        return declare if function is None else declare(function)
