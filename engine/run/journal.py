"""What a run has done, kept beside it until it ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from ...graphstore.errors import StoreError
from ...graphstore.model import JournalEntry, SideEffect, Step
from ..errors import EffectInDoubt
from ..sessions.journal import Journal
from ..steps.kept_steps import Begun, entry_of_effect, entry_of_step
from ..steps.run_step import RunStep
from .wish import RunWish

if TYPE_CHECKING:
    from .planned_actions import PlannedAction

__all__ = ["RunJournal"]


class RunJournal:
    """The decisions of one run that the next run of its task need not ask again, if this one fails
    or its process dies. Of a run with an id all steps, as far as an effect has followed them.

    They are kept where the failure came from outside: the model's service, a tool, the store,
    who cancelled, who is to approve first. What failed by what the model said is decided anew, else
    it would fail for ever.
    """

    def __init__(self, journal: Journal, task: str, wish: RunWish) -> None:
        self._journal = journal
        self._task = task
        self._execution = wish.execution
        self._wish = None if wish.run_id is None else wish.wish.key
        self._earlier = {it.execution for it in wish.attempts.entries}
        self._inner, self._is_inside = wish.inner, wish.place is not None
        self._kept = 0
        self._written: dict[int, Step] = {}
        self._service_failed = False
        self._tool_failed = False
        self._awaits_a_person = False

    def keep(self, run_step: RunStep) -> None:
        """Keep a step."""
        entry = entry_of_step(self._task, self._execution, self._kept, run_step, self._wish)
        self._kept += 1
        self._written[run_step.step.position] = run_step.step
        self._journal.keep(entry)

    async def kept(self) -> None:
        """Wait until what was done is kept, so that a process that dies loses one reply at most.
        Raises StoreError if the run has an id; any other goes on without."""
        if self._wish is not None:
            await self._journal.flush()
        else:
            await self._journal.caught_up()

    async def before_effect(
        self, run_steps: Sequence[RunStep], effect: SideEffect, action: PlannedAction
    ) -> Sequence[JournalEntry]:
        """What an effect follows from, if it is one of a run with an id, as far as it is not kept:
        to be kept with the intent, or given to ``keep_without``. What runs around this one have
        decided is kept before. Raises StoreError."""
        if self._wish is None:
            return ()
        if self._is_inside:
            await self._journal.flush()
        for run_step in run_steps:
            if self._written.get(run_step.step.position) is not run_step.step:
                self.keep(run_step)
        place = (action.decision, action.call)
        begun = Begun(effect.id, len(run_steps), action.code_key, *place)
        entry = entry_of_effect(self._task, self._execution, self._kept, begun, self._wish)
        self._kept += 1
        return [*await self._journal.take(self._execution), entry]

    def keep_without(self, entries: Iterable[JournalEntry]) -> None:
        """Keep what an effect would have followed from that did not begin."""
        for entry in entries:
            self._journal.keep(entry)

    def decides(self) -> None:
        """A decision is due, so what failed before was got over."""
        self._service_failed = self._tool_failed = self._awaits_a_person = False

    def service_failed(self) -> None:
        """The model's service gave no answer."""
        self._service_failed = True

    def tool_failed(self) -> None:
        """A tool raised, or was cut short."""
        self._tool_failed = True

    def awaits_a_person(self) -> None:
        """An effect may not begin before somebody approves it."""
        self._awaits_a_person = True

    def ended(self, resumed: Collection[str]) -> None:
        """The run has come to its end. ``resumed``: unfinished executions that have served it. What
        a run inside another one has done is kept until that is over."""
        self._inner.leave([*self._own, *resumed, *self._earlier])
        if self._inner.over or not self._is_inside:
            self._journal.drop(self._inner.entries)

    def failed(self, error: BaseException, resumed: Collection[str]) -> None:
        """The run has failed. A tool that fails as it did before ends what is kept: another
        decision may do better."""
        from_outside = (
            not isinstance(error, Exception)
            or isinstance(error, StoreError | EffectInDoubt)
            or self._service_failed
            or self._awaits_a_person
            or (self._tool_failed and (self._kept > 0 or not resumed))
        )
        if not from_outside and self._wish is None:
            self._journal.drop([*self._own, *resumed])

    @property
    def _own(self) -> list[str]:
        return [self._execution] if self._kept else []
