"""Keeping what runs did."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..facts import Expected
from ..model import Execution, Recording, Replay, SideEffect
from ..retention import TRACES_PER_TASK

__all__ = ["Published", "ReplayRecording", "RunRecording"]


@dataclass(frozen=True, slots=True)
class Published:
    """``published`` False: an equal trace (``equal_to``) was there already. ``moved``: a guard
    of its steps does not hold by now, so a walk was opened."""

    published: bool
    equal_to: str | None = None
    unpublished: tuple[str, ...] = ()  # ids of the oldest traces, beyond ``keep``
    moved: bool = False


class RunRecording(Protocol):
    """Records one run, and makes it a trace."""

    @abstractmethod
    async def intend(self, effect: SideEffect, expected: Sequence[Expected]) -> bool:
        """Check facts and begin an effect, in one statement that is waited for.

        If every resource is as expected (its ``current`` the version, or one that ``holds`` what
        is expected of it; ``believed``: and to be believed at this moment; version 0: still never
        observed) the SideEffect is written as
        intended, performed by its execution (created in state running if it is not there yet),
        and True is returned; else nothing is written and False is returned. Not idempotent:
        must not be repeated by a caller who did not get an answer.
        """

    @abstractmethod
    async def write(self, recording: Recording) -> dict[str, int]:
        """Store a finished run with its steps, guards, edges, payloads and effects.

        The execution's state is stored as given, but never as published. Returns ``current`` of
        every resource that guards a step (0: never observed), read after the write began.
        Payloads that its steps name are no longer suspected (``graphstore.retention``).
        Repeating it with the same execution id changes nothing.
        """

    @abstractmethod
    async def publish(
        self,
        execution: str,
        *,
        steps: int,
        manifest: str,
        signature: str,
        keep: int = TRACES_PER_TASK,
    ) -> Published:
        """Make the first ``steps`` steps of a written execution a trace, in a transaction of
        its own.

        If a published execution of the same task has this signature, or a payload that one of
        its steps names is gone (a collection took it while the run went on), it becomes
        ``unpublished`` instead, with the reason. If the task has more than ``keep`` traces then,
        the oldest are unpublished. Repeating it changes nothing.
        """

    @abstractmethod
    async def unpublish(self, execution: str, reason: str) -> None:
        """No lookup that begins after this accepts the trace. Unknown ids are ignored."""


class ReplayRecording(Protocol):
    """Keeps what nobody waits for."""

    @abstractmethod
    async def write_replays(self, replays: Sequence[Replay]) -> None:
        """Store replays: their executions, REPLAYED, and their effects as done, with CAUSED
        edges to the steps they name. Repeating it changes nothing. A replay of a task that a
        collection has removed meanwhile is added to the totals of its day, and not kept: it alone
        may count twice if it is repeated."""

    @abstractmethod
    async def note_running(self, executions: Sequence[Execution]) -> None:
        """Keep what runs that have not ended have cost so far, so that it is known of one that is
        killed: agent, mode, time, usage, cost and calls. One that was written meanwhile is left
        alone; ``write`` and ``write_replays`` replace it. Repeating it changes nothing."""
