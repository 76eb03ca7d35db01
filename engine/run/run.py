"""A run: one execution in progress.

It holds what the run has done and knows, each in a place of its own that alone writes it: the path
it has taken (``path``), the search by key (``search``), what it has paid (``account``), noted
(``notes``), done to the outside (``effects``) and was refused (``refusals``). What is done with
them stands in ``decisions`` and ``actions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from ...graphstore.canonical import Json
from ...graphstore.model import Attempts, Execution, ExecutionState, Mode, Step
from ...graphstore.store import RunStore
from ..keys.standins import StandIns
from ..lookup.definition import Definition
from ..lookup.lookup import memory_key
from ..lookup.plan import Plan
from ..model.prices import Bill
from ..outcome.attempts import Attempt
from ..outcome.cause import Cause, MissKind
from ..outcome.events import StepEnded
from ..sessions.confirming import Confirming
from ..sessions.memory import MemoryKey
from ..sessions.process import this_process
from ..sessions.session import Session
from ..sessions.single_flight import Lead
from ..steps.noted_facts import Note, Notes
from ..steps.run_step import RunStep
from ..steps.stopwatch import Stopwatch
from ..transcript import Transcripts
from .account import Account
from .begun_effects import Effects
from .family import Chooser, Family
from .history import History
from .journal import RunJournal
from .occurrences import Occurrences
from .path import Path
from .publication import Publication
from .refusals import AskAgain, KnownRefusals
from .search import Search
from .spec import OnPartial, RunSpec
from .wish import RunWish

__all__ = ["Run"]


class Run:
    """One execution of ``definition``, as ``spec`` asks. ``store``: as it was lent to this run.

    ``lead``: those who wait for it. ``waited_ms``: how long it has waited itself.
    """

    def __init__(
        self,
        session: Session,
        store: RunStore,
        definition: Definition,
        spec: RunSpec,
        *,
        plan: Plan,
        lead: Lead,
        waited_ms: float,
        wish: RunWish,
    ) -> None:
        self.session = session
        self.store = store
        self.definition = definition
        self.spec = spec
        self._on_partial = spec.on_partial
        self._live_because: Cause | None = None
        self.began_with = plan.best.trace.id if plan.best is not None else None
        self.lead = lead
        self.waited_ms = waited_ms
        self._stopwatch = Stopwatch(waited_ms)
        self.wish = wish
        self.id = wish.execution
        self.account = Account(plan.causes, lead.end)
        self.account.told.extend(wish.told)
        self.notes = Notes(store, session.refresh)
        self.history = History.of(store, wish.attempts if wish.run_id else Attempts())
        follows = definition.follows and self.may_serve and not self.history.steps
        self.path = Path(plan.best if follows else None)
        self.occurrences = Occurrences(self.path)
        self.search = Search(
            store,
            plan,
            definition=definition,
            spec=spec,
            notes=self.notes,
            account=self.account,
            wish=wish,
        )
        self.journal = RunJournal(session.journal, spec.task.key, wish)
        self.transcripts = Transcripts(kept=definition.follows)
        self.standins = StandIns(spec.task.key)
        spec.task.bind(self.standins)
        self.effects = Effects()
        self.refusals = KnownRefusals()
        self.publication = Publication()
        self._family = Family()
        self._family.add(self)
        self._over = False

    @property
    def inputs(self) -> Json:
        """The inputs of the task, by the names that requirements use."""
        return self.spec.task.inputs.json

    @cached_property
    def texts(self) -> Sequence[str]:
        """The texts that the model reads of the task."""
        return self.spec.task.render(self.standins)

    @property
    def steps(self) -> list[Step]:
        """The steps taken so far, as they would be recorded."""
        return self.path.steps

    @property
    def started_at(self) -> int:
        """When the run was called for, in milliseconds since 1970."""
        return self._stopwatch.started_at

    @property
    def elapsed_ms(self) -> float:
        """The time since the run was called for, in milliseconds."""
        return self._stopwatch.elapsed_ms

    @property
    def memory_key(self) -> MemoryKey:
        """The key under which the process remembers the trace that serves this task."""
        return memory_key(self.store.namespace, self.spec.task.key, self.definition.code)

    @property
    def confirming(self) -> Confirming:
        """How its effects are confirmed that are to be."""
        return self.session.confirming.within(self.spec.confirm, self.spec.wait_for_approval)

    @property
    def away(self) -> bool:
        """Whether the store has gone for this run: nothing is looked up or recorded any more."""
        return self.store.away

    @property
    def over(self) -> bool:
        """Whether the run has come to its end, so that nothing more begins."""
        return self._over

    @property
    def may_serve(self) -> bool:
        """Whether recordings may serve it."""
        serves = self.spec.may_serve and not self.spec.shadow
        return serves and self._live_because is None

    @property
    def live_because(self) -> Cause | None:
        """Why nothing may serve it any more; None: recordings may."""
        return self._live_because

    def go_live(self, cause: Cause) -> None:
        """Have no recording serve the run from now on."""
        self._live_because = cause
        self.search.resume_no_more()

    def take_on_partial(self) -> OnPartial | None:
        """The caller's choice for a run that turns out partial, given once; then None."""
        on_partial, self._on_partial = self._on_partial, None
        return on_partial

    def end(self) -> None:
        """End the run: nothing more begins."""
        self._over = True

    # Other runs ---------------------------------------------------------------------------

    @property
    def family(self) -> Family:
        """This run, and those that are steered together with it."""
        return self._family

    def join(self, outer: Run) -> None:
        """Note that this run began inside another one, which steers it, and learns what it gives;
        one that has ended only steers it."""
        if outer.session is not self.session:
            return
        if outer.over:
            self._family.open(outer.family.opened)
        else:
            self._family = outer.family
            self._family.add(self)

    def is_beside(self, other: Run) -> bool:
        """Whether both runs have the same facts, those of one namespace of one store."""
        here, there = self.session, other.session
        return here is there or (here.store.namespace, here.store.url) == (
            there.store.namespace,
            there.store.url,
        )

    def refuse(self, why: AskAgain, chosen: Iterable[Chooser]) -> None:
        """An effect was refused, and who chose it told so. What is decided from now on knows."""
        for run in {self, *(it.run for it in chosen)}:
            run.account.do_not_publish(why.cause)
        self._family.refuse(why)

    # What it costs ------------------------------------------------------------------------

    def pay(self, bill: Bill) -> None:
        """A reply has come that is paid for, whatever becomes of this run. In its event loop."""
        self.account.pay(bill)
        # Written soon, so that it is told even if this process is killed.
        self.session.replay_writer.running.note(self.id, self._so_far)

    def attempted(self, attempt: Attempt) -> None:
        """Note a request that gave no answer, and pay what it was billed all the same."""
        self.account.fail(attempt)
        if attempt.usage is not None:
            cause = Cause(MissKind.INCOMPLETE, attempt.model)
            self.pay(Bill(attempt.model, attempt.usage, cause))

    def _so_far(self) -> Execution:
        """This run as it is now. Prices are to be at hand."""
        return Execution(
            id=self.id,
            task=self.spec.task.key,
            agent=self.definition.name,
            mode=Mode.LIVE,
            state=ExecutionState.RUNNING,
            started_at=self.started_at,
            duration_ms=self.elapsed_ms,
            usage=self.account.usage,
            cost=self.account.cost,
            asked=len(self.account.bills),
            process=this_process(),
        )

    # Its steps ----------------------------------------------------------------------------

    def take(self, run_step: RunStep) -> None:
        """Give a step its place: after all that ended before it."""
        self.path.take(run_step)
        if run_step.is_decision:
            self.decides_under(run_step.notes)
        if run_step.cause is not None:
            self.account.because(run_step.cause)
        self._emit(run_step)

    def complete(self, begun: RunStep, run_step: RunStep) -> None:
        """Let the step that a reply has ``begun`` become ``run_step``, at the place that it has."""
        begun.become(run_step)
        self.decides_under(run_step.notes)
        if run_step.cause is not None:
            self.account.because(run_step.cause)
        self._emit(begun)

    def decides_under(self, notes: Iterable[Note]) -> None:
        """Note that a decision rests on these. Is one not believed, then it never holds: nobody
        will be served that decision, so nobody waits for it."""
        if not all(note.believed for note in notes):
            self.lead.end()

    def go_along(self, run_step: RunStep) -> None:
        """Take the step that is next on the recorded path, as it is recorded."""
        self.path.go_along(run_step)
        if self.session.events.listeners:
            self._emit(run_step)

    def _emit(self, run_step: RunStep) -> None:
        if not self.session.events.listeners:
            return
        report = run_step.report()
        self.session.events.emit(
            StepEnded(
                execution_id=self.id,
                position=run_step.step.position,
                kind=report.kind,
                name=report.name,
                outcome=report.outcome,
                tokens=report.tokens,
                cause=report.cause,
                error=report.error,
            )
        )
