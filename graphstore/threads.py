"""Threads for what blocks: synchronous tools, sources, and whatever they wait for.

A pool with a bound deadlocks once what runs in it waits for something that needs a thread of the
same pool, as a tool does that has another agent do something. So there is no bound: each call has a
thread for itself at once, an idle one if there is one. asyncio's default executor is for users.

The threads are daemons: a tool that never returns does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["in_thread"]

_T = TypeVar("_T")

_IDLE_SECONDS = 0.5  # after which a thread without work ends

_Job = Callable[["_Thread"], None]

_idle: list[_Thread] = []  # the last one to become idle is used first
os.register_at_fork(after_in_child=_idle.clear)  # a child has none of them


async def in_thread(work: Callable[[], _T]) -> _T:
    """What ``work`` returns, or raises, in a thread of its own, with the caller's context.

    Who is cancelled meanwhile leaves the thread to end by itself.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()
    run = contextvars.copy_context().run

    def job(thread: _Thread) -> None:
        tell = _done(lambda: run(work), outcome)
        _idle.append(thread)  # before it is told: the next call is to find this thread
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(tell)

    _free_thread().jobs.put(job)
    return await outcome


def _done(work: Callable[[], _T], outcome: asyncio.Future[_T]) -> Callable[[], None]:
    """Do ``work``; gives what tells who awaits ``outcome`` what came of it, exits included."""
    try:
        result = work()
    except (StopIteration, GeneratorExit) as error:  # a coroutine cannot be handed one of these
        stopped = RuntimeError(f"{type(error).__name__} was raised")
        stopped.__cause__ = error
        return partial(_fail, outcome, stopped)
    except BaseException as error:  # noqa: BLE001
        return partial(_fail, outcome, error)
    return partial(_succeed, outcome, result)


def _fail(outcome: asyncio.Future[_T], error: BaseException) -> None:
    if not outcome.done():  # else who awaited it was cancelled
        outcome.set_exception(error)


def _succeed(outcome: asyncio.Future[_T], result: _T) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _free_thread() -> _Thread:
    try:
        return _idle.pop()
    except IndexError:
        thread = _Thread()
        thread.start()
        return thread


class _Thread(threading.Thread):
    """Does one job after another. Each puts it among the idle ones when its work has ended."""

    def __init__(self) -> None:
        super().__init__(name="execgraph-work", daemon=True)
        self.jobs: SimpleQueue[_Job] = SimpleQueue()

    def run(self) -> None:
        while self._did_one():
            pass

    def _did_one(self) -> bool:
        """Do the next job; False if none came. What it held is let go of with it."""
        try:
            job = self.jobs.get(timeout=_IDLE_SECONDS)
        except Empty:
            with suppress(ValueError):
                _idle.remove(self)
                return False
            job = self.jobs.get()  # somebody took this thread just now, and has a job for it
        job(self)
        return True
