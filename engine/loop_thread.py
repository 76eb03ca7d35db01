"""An event loop in a thread of its own, for programs that have none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from .errors import NotOpen

__all__ = ["LoopThread"]

_T = TypeVar("_T")

_UNWIND_SECONDS = 5.0  # what an interrupted call waits for its work to end, and be kept as failed


class LoopThread:
    """An event loop in a thread of its own, to which several threads may give work. A fork has no
    such thread: a child begins it anew."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()
        self._inherited: list[asyncio.AbstractEventLoop] = []
        self._pid = 0

    def begin(self) -> None:
        """Begin the thread. Raises NotOpen if it has begun already."""
        self.disown()
        if self._loop is not None:
            raise NotOpen("this is entered already; 'with engine.sync() as e:' opens another")
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(
            target=_run, args=(self._loop, self._ended), name="execgraph", daemon=True
        )
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The outcome of ``work``, done in this event loop."""
        if self._loop is None:
            work.close()
            raise NotOpen("use it inside 'with engine.sync() as e:'")
        if self._pid != os.getpid():
            work.close()
            raise NotOpen(
                "this was entered before the process forked, and the thread that does its work is"
                " not in this one; write 'with engine.sync() as e:' in the child too"
            )
        if threading.current_thread() is self._thread:
            work.close()
            raise NotOpen("this is the engine's own event loop; await the engine itself here")
        return _outcome(work, self._loop)

    def disown(self) -> bool:
        """Forget what the process that this one forked from had open, and say whether it had.

        Its event loop is kept from the garbage collector: the parent shares the pipe that wakes it.
        """
        if self._loop is None or self._pid == os.getpid():
            return False
        self._inherited.append(self._loop)
        self._loop = self._thread = None
        return True

    def end(self) -> None:
        """Wait for the loop to end, and what is still under way in it to be cancelled."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop = self._thread = None


def _outcome(work: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> _T:
    """What comes of ``work`` in ``loop``, which runs in another thread."""
    ended: concurrent.futures.Future[_T] = concurrent.futures.Future()
    begun: list[asyncio.Task[_T]] = []

    def begin() -> None:
        begun.append(task := loop.create_task(work))
        task.add_done_callback(lambda done: _hand_over(done, ended))

    def give_up() -> None:
        for task in begun:
            task.cancel()

    loop.call_soon_threadsafe(begin)
    try:
        return ended.result()
    except BaseException:  # Ctrl-C: the work must not go on behind the caller, but end first
        if not ended.done():
            loop.call_soon_threadsafe(give_up)
            concurrent.futures.wait([ended], timeout=_UNWIND_SECONDS)
        raise


def _hand_over(task: asyncio.Task[_T], ended: concurrent.futures.Future[_T]) -> None:
    if task.cancelled():
        ended.cancel()
        ended.set_running_or_notify_cancel()
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())


def _run(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Run ``loop`` until it is ``ended``, and clean up after it in its own thread."""
    try:
        _outlasting_exits(loop, ended.wait())
        _outlasting_exits(loop, _end_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _outlasting_exits(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, object]) -> None:
    """Run ``loop`` until ``work`` has ended. An exit that a task raises stops the loop; it is for
    who waits for that task, and the others go on."""
    until = loop.create_task(work)
    while not until.done():
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_until_complete(until)


async def _end_all() -> None:
    """Cancel what is still under way: who waits for it in another thread would wait for ever."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
