"""Keeping what runs did."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..facts import Expected
from ..model import Execution, JournalEntry, Recording, Replay, SideEffect, Wish
from ..retention import TRACES_PER_TASK

__all__ = ["Published", "ReplayRecording", "RunRecording"]


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing an execution came to.

    ``published`` False: an equal trace (``equal_to``) was there already, or its answer was rejected
    (``rejected``: why, and with which run), or it, or that equal one, waits to be approved
    (``waits``). ``moved``: a guard of its steps does not hold by now, so a walk was opened."""

    published: bool
    equal_to: str | None = None
    unpublished: tuple[str, ...] = ()  # ids of the oldest traces, beyond ``keep``
    moved: bool = False
    rejected: str | None = None
    waits: bool = False


class RunRecording(Protocol):
    """Records one run, and makes it a trace."""

    @abstractmethod
    async def intend(
        self,
        effect: SideEffect,
        expected: Sequence[Expected],
        *,
        traces: Collection[str] = (),
        wish: Wish | None = None,
        agent: str = "",
        entries: Sequence[JournalEntry] = (),
    ) -> SideEffect | None:
        """Check facts and begin an effect, in one statement that is waited for.

        If every resource is as expected (its ``current`` the version, or one that ``holds`` what
        is expected of it; ``believed``: and to be believed at this moment; version 0: still never
        observed), and none of ``traces`` (from which the run was served) is rejected by now, the
        SideEffect is written as intended, performed by its execution (created in state running if
        it is not there yet, as one of ``agent``), and is returned; else nothing is written and None
        is returned. An effect that is known by the same ``once`` is returned instead, as it is,
        whatever the facts are by now: of several callers at once one begins. If it is this very
        effect (by its id), and it is not known to have ended, it begins again.

        One that names an ``approval`` uses it up, if that is open at this moment (pending or
        approved, and not expired), else nothing is written either; of one that is pending it is
        kept that it was ``approved_by`` whoever the effect says, and the effect is returned with
        who did approve.

        ``wish``: what the run is about. One with a run id must be held by its ``execution``; else
        WishLost is raised, and nothing is written. Any other is kept if it is not there yet.
        ``entries``: of the journal, which are kept if the effect begins.

        Not idempotent: must not be repeated by a caller who did not get an answer.
        """

    @abstractmethod
    async def end_effect(self, effect: SideEffect) -> None:
        """Keep that an effect was done, with what it gave, or was not performed, so that what it
        was known by may be claimed again. What is known to be done stays so. An unknown effect is
        ignored. Repeating it changes nothing."""

    @abstractmethod
    async def rejected(self, executions: Collection[str]) -> dict[str, str]:
        """Those of these executions that are rejected, each with the reason."""

    @abstractmethod
    async def write(self, recording: Recording) -> dict[str, int]:
        """Store a finished run with its steps, guards, edges, payloads and effects.

        The execution's state is stored as given, but never as published. Returns ``current`` of
        every resource that guards a step (0: never observed), read after the write began.
        Payloads that its steps name are no longer suspected (``graphstore.retention``). A wish that
        the run holds is forgotten, if it has no run id, or failed, if the run has.
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
        approved: bool = True,
    ) -> Published:
        """Make the first ``steps`` steps of a written execution a trace, in a transaction of
        its own.

        If its answer was rejected (``Verdicts.reject``) it becomes ``rejected`` instead; if a
        published execution of the same task has this signature, or a payload that one of
        its steps names is gone (a collection took it while the run went on), it becomes
        ``unpublished``, with the reason. If the task has more than ``keep`` traces then,
        the oldest are unpublished. Repeating it changes nothing.

        ``approved`` False: it becomes no trace yet, but ``unapproved``. So does one at most of
        those that have a signature, and of these the task keeps the ``keep`` newest.
        """

    @abstractmethod
    async def unpublish(self, execution: str, reason: str) -> None:
        """No lookup that begins after this accepts the trace, and what waits to be approved, or
        was not decided yet, will be none. One that failed or was rejected stays as it is. Unknown
        ids are ignored."""


class ReplayRecording(Protocol):
    """Keeps what nobody waits for."""

    @abstractmethod
    async def write_replays(self, replays: Sequence[Replay]) -> None:
        """Store replays: their executions, REPLAYED, and their effects as done, with CAUSED
        edges to the steps they name. Repeating it changes nothing. A replay of a task that a
        collection has removed meanwhile is added to the totals of its day, and not kept: it alone
        may count twice if it is repeated. Wishes without a run id that the runs hold are
        forgotten."""

    @abstractmethod
    async def note_running(self, executions: Sequence[Execution]) -> None:
        """Keep what runs that have not ended have cost so far, so that it is known of one that is
        killed: agent, mode, time, usage, cost and calls. One that was written meanwhile is left
        alone; ``write`` and ``write_replays`` replace it. Repeating it changes nothing."""
