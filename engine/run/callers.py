"""Asking the caller's own functions, sync or async."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from ...graphstore.threads import in_thread
from .inside import through_a_call

__all__ = ["answer_of"]

_Shown = TypeVar("_Shown")
_T = TypeVar("_T")


async def answer_of(function: Callable[[_Shown], _T | Awaitable[_T]], shown: _Shown) -> _T:
    """What a function of the caller's says. A synchronous one is asked in a thread, as tools are:
    nobody else waits for it."""
    with through_a_call():
        if inspect.iscoroutinefunction(function):
            return await function(shown)  # type: ignore[no-any-return]
        answer: _T | Awaitable[_T] = await in_thread(partial(function, shown))
        return await answer if inspect.isawaitable(answer) else answer
