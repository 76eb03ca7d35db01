"""The search by key: what any trace has recorded need not be asked (I2, ask only what must be)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ...graphstore.errors import PayloadCorrupted, StoreError
from ...graphstore.model import JournalEntry, Precondition, Step, Trace
from ...graphstore.store import RunStore
from ..lookup.definition import Definition
from ..lookup.judging import Recorded
from ..lookup.lookup import look_up
from ..lookup.plan import Plan
from ..lookup.steps_by_key import StepsByKey
from ..lookup.unfinished import Unfinished, read_unfinished
from ..outcome.cause import Cause, MissKind
from ..steps.noted_facts import Notes
from .account import Account
from .spec import RunSpec
from .wish import RunWish

__all__ = ["Search"]


class Search:
    """Finds recorded steps for one run, in what its lookup found (``plan``).

    Once time has passed since that lookup, a step that is found is judged by facts read anew.
    """

    def __init__(
        self,
        store: RunStore,
        plan: Plan,
        *,
        definition: Definition,
        spec: RunSpec,
        notes: Notes,
        account: Account,
        wish: RunWish,
    ) -> None:
        self._store = store
        self._definition = definition
        self._spec = spec
        self._plan = plan
        self._notes = notes
        self._account = account
        self._wish = wish
        self._index: StepsByKey | None = None
        self._unfinished: Unfinished | None = None
        self._former: list[Plan] = []
        self._resumes = spec.may_serve and spec.resume and not spec.shadow
        self._time_has_passed = False

    @property
    def plan(self) -> Plan:
        """What the last lookup found."""
        return self._plan

    @property
    def preconditions(self) -> dict[str, Precondition]:
        """The preconditions of steps found in some lookup, by id."""
        known = {} if self._unfinished is None else self._unfinished.preconditions
        plans = (*self._former, self._plan)
        return known | {key: it for plan in plans for key, it in plan.preconditions.items()}

    @property
    def resumed(self) -> Collection[str]:
        """The unfinished executions of which decisions were served."""
        return () if self._unfinished is None else self._unfinished.served_from

    @property
    def time_has_passed(self) -> bool:
        """Whether facts may have moved since the lookup, so that they are to be read again."""
        return self._time_has_passed

    def is_unfinished(self, execution: str | None) -> bool:
        """Whether decisions of this execution are known by its journal."""
        return self._unfinished is not None and execution in self._unfinished.executions

    def resume_no_more(self) -> None:
        """Have no decision of an unfinished run found from now on."""
        self._resumes = False

    def let_time_pass(self) -> None:
        """Have facts read anew from now on."""
        self._time_has_passed = True

    async def find(self, key: str, occurrence: int) -> Recorded | None:
        """Find the recorded step of this key: one that stands if there is one."""
        recorded = await self._find(key, occurrence)
        if recorded is not None and recorded.cause is None:
            return recorded
        return await self._of_unfinished(key, occurrence) or recorded

    async def _find(self, key: str, occurrence: int) -> Recorded | None:
        if not self._may_find():
            return None
        if self._index is None:
            self._index = StepsByKey(self._plan, self._definition)
        recorded = await self._best_of(self._index.find(key, occurrence))
        if (recorded is None or recorded.cause is not None) and self._plan.from_memory:
            # Memory knows one trace; others may serve as well.
            index = await self._look_up()
            recorded = await self._best_of(index.find(key, occurrence))
        return recorded if self._may_find() else None  # what it went by may be no facts

    def _may_find(self) -> bool:
        return not self._store.away

    async def _of_unfinished(self, key: str, occurrence: int) -> Recorded | None:
        """A decision that an unfinished run of this task has made, if it stands."""
        if not self._resumes or self._store.away:
            return None
        if self._unfinished is None:
            entries = await self._entries()
            self._unfinished = await read_unfinished(
                self._store, self._notes, entries, self._definition
            )
        recorded = await self._best_of(self._unfinished.find(key, occurrence))
        if recorded is None or recorded.cause is not None or self._store.away:
            return None
        self._unfinished.serve(recorded)
        return recorded

    async def _entries(self) -> Sequence[JournalEntry]:
        """What unfinished runs of the task have done, and those of this run's own id."""
        found = self._wish.unfinished or await self._store.unfinished(self._spec.task.key)
        own = reversed(self._wish.attempts.entries)
        every = {(it.execution, it.number): it for it in (*own, *found.entries)}
        return list(every.values())

    def is_recorded(self, step: Step) -> bool:
        """Whether what ``step`` gave is recorded of it, as far as is known by now."""
        known = () if self._index is None else self._index.find(step.key, step.occurrence)
        output = (step.output_key, step.error)
        return any((it.step.output_key, it.step.error) == output for it in known)

    async def all_traces(self) -> Sequence[Trace]:
        """The task's traces; memory knows only one of them."""
        if self._plan.from_memory:
            await self._look_up()
        return self._plan.traces

    async def output(self, recorded: Recorded) -> bytes | None:
        """The exact output of a recorded step; None if it is damaged, which is told."""
        digest = recorded.step.output
        if self._plan.best is not None and digest in self._plan.best.values:
            return self._plan.best.values[digest]
        if self._unfinished is not None and digest in self._unfinished.outputs:
            return self._unfinished.outputs[digest]
        try:
            return (await self._store.values([digest]))[digest]
        except PayloadCorrupted:
            if not self._store.away:
                self._account.because(Cause(MissKind.PAYLOAD_DAMAGED, recorded.trace))
            return None

    async def payloads(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """Payloads that only explain something: none where the store does not give them, which is
        raised by who needs it."""
        try:
            return await self._store.values(digests)
        except StoreError:
            return {}

    async def _best_of(self, candidates: list[Recorded]) -> Recorded | None:
        if self._time_has_passed and candidates:
            notes = await self._notes.take(
                facet for recorded in candidates for facet in recorded.facets
            )
            candidates = [recorded.under(notes) for recorded in candidates]
        return next(
            (it for it in candidates if it.cause is None), candidates[0] if candidates else None
        )

    async def look_anew(self) -> None:
        """Have no step found any more of traces that were rejected since the lookup."""
        await self._look_up()

    async def _look_up(self) -> StepsByKey:
        task = self._spec.task.key
        self._former.append(self._plan)
        self._plan = await look_up(self._store, task, self._definition)
        self._index = StepsByKey(self._plan, self._definition)
        return self._index
