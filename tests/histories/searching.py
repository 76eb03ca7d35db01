"""Doing operations until something is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

__all__ = ["done_until_found"]

Operation = tuple[Any, ...]
_LENGTH = 60  # operations of one history


class _History(Protocol):
    def do(self, operation: Operation) -> Awaitable[None]: ...


async def done_until_found(
    begin: Callable[[], AbstractAsyncContextManager[_History]],
    operations: Iterator[Operation],
    limit: int,
) -> int | None:
    """How many operations, in one history after another, until something is not as it should be;
    None: there is nothing within the limit."""
    numbers = itertools.count(1)
    while True:
        async with begin() as history:
            for _ in range(_LENGTH):
                if (number := next(numbers)) > limit:
                    return None
                try:
                    await history.do(next(operations))
                except Exception:  # noqa: BLE001 - a broken engine may also fail by itself
                    return number
