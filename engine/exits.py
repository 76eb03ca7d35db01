"""What ends more than the call that raised it: ``sys.exit``, Ctrl-C, a cancellation.

asyncio stops its event loop where a task raises ``SystemExit`` or ``KeyboardInterrupt``, before
anybody who waits for the task is told. So a task of ours gives them back instead of raising them,
and they are raised where the caller's own task waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["is_ended", "is_exit", "outlived"]

_T = TypeVar("_T")

_ENDS_THE_LOOP = (SystemExit, KeyboardInterrupt)
_ENDS_A_COROUTINE = (asyncio.CancelledError, GeneratorExit)


async def outlived(work: Coroutine[Any, Any, _T]) -> _T | BaseException:
    """What ``work`` gives; an exit that it raises is given back, so that the loop outlives it."""
    try:
        return await work
    except _ENDS_THE_LOOP as error:
        return error


def is_exit(error: BaseException) -> bool:
    """Whether ``error`` is to end the program, and not just what was called: it passes as it is."""
    return not isinstance(error, (Exception, *_ENDS_A_COROUTINE))


def is_ended(task: asyncio.Task[Any] | None, error: BaseException) -> bool:
    """Whether ``error`` says that the coroutine that ``task`` runs is being ended from outside;
    else what it awaited has raised it by itself."""
    if isinstance(error, GeneratorExit):
        return task is None or _running() is not task  # a coroutine is closed in no task
    if isinstance(error, asyncio.CancelledError):
        return task is None or bool(task.cancelling())
    return False


def _running() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
