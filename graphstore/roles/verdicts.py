"""What people decide about runs that have ended."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from ..retention import TRACES_PER_TASK
from .recording import Published

__all__ = ["Verdicts"]


class Verdicts(Protocol):
    """Approves and rejects.

    The *answer* of a run is what its last decision said to what it was asked. Another run has it
    if one of its decisions has the same key and output, or if it took the same steps under the same
    guards (``model.signature``).
    """

    @abstractmethod
    async def approve(
        self, execution: str, *, keep: int = TRACES_PER_TASK, overrule: bool = False
    ) -> Published:
        """Make an ``unapproved`` execution a trace, as ``publish`` would have done.

        ``overrule``: also one that is rejected; and rejections of its answer are lifted, with
        what they took along. Whatever else there is stays as it is, unknown ids included.
        Repeating it changes nothing.
        """

    @abstractmethod
    async def reject(self, execution: str, reason: str, signature: str) -> tuple[str, ...]:
        """Make an execution that has ended ``rejected``, in one transaction: no lookup that begins
        after this accepts it, and ``publish`` makes no trace of another run with its answer. Traces
        of its task that have this answer, and what waits to be one, are rejected with it.

        ``signature``: of all its steps; it counts if none was stored. One that failed or has not
        ended stays as it is, and unknown ids are ignored. Repeating it changes nothing but the
        reason. Gives the ids of all that were taken along.
        """
