"""The effects of a run: what it has begun to do to the outside, and what never came to its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...graphstore.model import SideEffect
from ..tools.tool import Tool

__all__ = ["Effects"]


class Effects:
    """The effects of a run by id, also those whose step was never taken."""

    def __init__(self) -> None:
        self._begun: dict[str, SideEffect] = {}
        self._unfinished: list[Tool] = []

    @property
    def begun(self) -> list[SideEffect]:
        """The effects begun, in their order; those in doubt are among them."""
        return list(self._begun.values())

    @property
    def lost(self) -> list[str]:
        """The names of writing tools with which a program acted, without that coming to its end."""
        names = {tool.name for tool in self._unfinished if tool.is_write}
        return sorted(names) if names else []

    def begin(self, effect: SideEffect) -> None:
        """Note an effect whose intent is written, so that it may happen from now on."""
        self._begun[effect.id] = effect

    def end(self, effect: SideEffect) -> SideEffect:
        """Mark an effect as done, and give it."""
        self._begun[effect.id] = done = effect.ended()
        return done

    @contextmanager
    def acting(self, tool: Tool) -> Iterator[None]:
        """Note that a program acts. What is cut short, or not awaited, stays among the
        unfinished."""
        self._unfinished.append(tool)
        try:
            yield
        except Exception:
            self._unfinished.remove(tool)
            raise
        self._unfinished.remove(tool)
