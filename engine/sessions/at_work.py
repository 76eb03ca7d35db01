"""Which runs are at work: those of this process, and those of processes that are known to live."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection

from ...graphstore.errors import StoreError
from ...graphstore.model import Wish, WishState, new_id
from ...graphstore.roles.wishes import WishRenewing
from .process import is_dead, is_here, this_process

__all__ = ["AtWork", "runs_here"]

_log = logging.getLogger("execgraph")

_RENEW_SECONDS = 15.0
_PAUSE_SECONDS = 0.01
#: How long is waited at most until a failure is kept. Who keeps it may wait for who waits here, if
#: that one holds up its event loop.
_KEEPING_SECONDS = 30.0
#: After so long a run is dead of which nothing is heard, and of whose process nothing is known.
_SILENT_MS = 60_000

#: The runs of this process, in all its event loops.
_HERE: set[str] = set()

#: Those of them that have failed, which is being kept: the task, and by which event loop.
_FAILING: dict[str, tuple[str, asyncio.AbstractEventLoop]] = {}

#: The tasks of which a run of this process has failed and the store could not be told.
_UNTOLD: set[str] = set()

if hasattr(os, "register_at_fork"):  # a child has none of the runs of its parent
    for _of_parent in (_HERE, _FAILING, _UNTOLD):
        os.register_at_fork(after_in_child=_of_parent.clear)


def runs_here(execution: str) -> bool:
    """Whether it is a run of this process that is at work."""
    return execution in _HERE


class AtWork:
    """The runs of one session that are at work; now and then the store is told so."""

    def __init__(self, store: WishRenewing) -> None:
        self._store = store
        self._own: dict[str, float] = {}
        self._kept: set[str] = set()
        self._processes: set[str] = set()
        self._renewer: asyncio.Task[None] | None = None

    def begin(self) -> str:
        """A run begins; its id."""
        execution = new_id(time.time_ns() // 1_000_000)
        _HERE.add(execution)
        self._own[execution] = time.monotonic()
        if self._renewer is None or self._renewer.done():
            self._renewer = asyncio.get_running_loop().create_task(self._renew())
        return execution

    def end(self, execution: str) -> None:
        """A run is over, and its end is kept, if anything is."""
        _FAILING.pop(execution, None)
        if execution not in self._kept:
            _HERE.discard(execution)
            self._own.pop(execution, None)

    def fail(self, execution: str, task: str) -> None:
        """A run of a task has failed, which is kept from now on until it ends."""
        _FAILING[execution] = task, asyncio.get_running_loop()

    async def failures_kept(self, task: str) -> None:
        """Wait until it is kept which runs of a task have failed before this, as long as that may
        come to its end: what they did is known then, and that they are at work no more."""
        until = time.monotonic() + _KEEPING_SECONDS
        failing = {it: loop for it, (of, loop) in _FAILING.copy().items() if of == task}
        while any(it in _FAILING and loop.is_running() for it, loop in failing.items()):
            if time.monotonic() > until:
                _log.warning("it takes long to keep that runs of the task %s have failed", task)
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    def end_untold(self, execution: str, task: str) -> None:
        """A run of a task has failed, and its wish is kept as one that this process is at work
        on."""
        _UNTOLD.add(task)
        self.end(execution)

    def keep(self, execution: str) -> None:
        """A run is at work until it is released: the run is that it is inside of."""
        self._kept.add(execution)

    def release(self, execution: str) -> None:
        """The run is over that it is inside of."""
        self._kept.discard(execution)
        self.end(execution)

    def is_alive(self, wish: Wish) -> bool:
        """Whether the run that holds a wish is at work, as far as can be known."""
        if wish.state is not WishState.RUNNING:
            return False
        if wish.execution in _HERE:
            return True
        if wish.process is not None and wish.process == this_process():
            return False
        if wish.process is not None and is_here(wish.process):
            if alive := not is_dead(wish.process):
                self._processes.add(wish.process)
            return alive
        return wish.idle_ms < _SILENT_MS

    def here(self) -> Collection[str]:
        """The runs that are at work in this process."""
        return frozenset(_HERE)

    def alive(self, task: str) -> Collection[str]:
        """The processes whose runs of a task are at work, if they have not told their ends: those
        that are known to live; the nameless are taken for such."""
        self._processes = {it for it in self._processes if not is_dead(it)}
        return self._processes if task in _UNTOLD else {*self._processes, this_process() or ""}

    async def close(self) -> None:
        """Tell nothing any more."""
        renewer, self._renewer = self._renewer, None
        if renewer is not None:
            renewer.cancel()
            await asyncio.gather(renewer, return_exceptions=True)

    async def _renew(self) -> None:
        while self._own:
            await asyncio.sleep(_RENEW_SECONDS)
            since = time.monotonic() - _RENEW_SECONDS
            long = [it for it, began in self._own.items() if began <= since]
            try:
                if long:
                    await self._store.renew_wishes(long)
            except StoreError as error:
                _log.warning("it cannot be told that runs are at work: %s", error)
