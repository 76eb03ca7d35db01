"""Work in an event loop on behalf of a thread that waits for it, and is given things to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["Errands", "in_loop", "running_loop"]

_T = TypeVar("_T")


async def in_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _T]) -> _T:
    """The outcome of ``work``, which runs in ``loop``, whichever loop the caller's is."""
    if loop is asyncio.get_running_loop():
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of the caller's thread; None if none runs in it."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Errands:
    """Errands: functions that a waiting thread calls for the work that it waits for. So whatever
    blocks on its behalf takes no other thread, and meets the thread's own context and locals."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._errands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def until(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run ``work`` in the loop, and errands in this thread. The outcome of ``work``."""
        ended = asyncio.run_coroutine_threadsafe(work, self._loop)
        ended.add_done_callback(lambda _: self._errands.put(None))
        try:
            while (errand := self._errands.get()) is not None:
                errand()
        except BaseException:  # an exit: the work must not go on behind the caller
            ended.cancel()
            raise
        return ended.result()

    def do(self, errand: Callable[[], _T]) -> Awaitable[_T]:
        """Have the thread call ``errand``. What that returns; called in the loop."""
        outcome: asyncio.Future[_T] = self._loop.create_future()

        def run() -> None:
            try:
                result = errand()
            except Exception as error:  # noqa: BLE001  (it is for who awaits the outcome)
                self._loop.call_soon_threadsafe(_set, outcome.set_exception, error, outcome)
            else:
                self._loop.call_soon_threadsafe(_set, outcome.set_result, result, outcome)

        self._errands.put(run)
        return outcome


def _set(setting: Callable[[Any], None], value: object, outcome: asyncio.Future[Any]) -> None:
    if not outcome.done():  # else who awaited it was cancelled
        setting(value)
