"""Which run of a program the caller is inside of, so that calls of a model are its decisions."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from ..sessions.single_flight import leading

__all__ = ["current", "directly", "set_current", "through_a_call"]

#: A ProgramRun, or None.
current: contextvars.ContextVar[Any] = contextvars.ContextVar("execgraph_run", default=None)
#: The same, where the program's own code is what calls: it begins from the start each time. What
#: its steps call may be left out, where they stand.
directly: contextvars.ContextVar[Any] = contextvars.ContextVar("execgraph_directly", default=None)


@contextmanager
def through_a_call() -> Iterator[None]:
    """Inside, what is called is no part of the program's own code: a tool, or what is asked."""
    token = directly.set(None)
    try:
        yield
    finally:
        with suppress(ValueError):
            directly.reset(token)


@contextmanager
def set_current(run: Any) -> Iterator[None]:
    """Inside, calls through the middleware are decisions of ``run``, and runs belong to it; None:
    of no run."""
    token, own = current.set(run), directly.set(run)
    try:
        with nullcontext() if run is None or run.begun is None else leading(run.begun.lead):
            yield
    finally:
        with suppress(ValueError):  # left in another context, which has not been changed
            current.reset(token)
            directly.reset(own)
