"""A run: its steps are served from the graph where that is sound, and else carried out.

A run of an agent *follows* the recorded graph as long as everything is as recorded, without
looking at any request. Where something is invalid, missing or different it leaves that path for
good; from there each step is looked up by its own key (I2). A program's own run has no path to
follow: its steps are looked up by key from the start.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ...graphstore.canonical import Json, decode, fingerprint
from ...graphstore.errors import PayloadCorrupted
from ...graphstore.model import (
    Effect,
    Execution,
    ExecutionState,
    FacetRef,
    Mode,
    Precondition,
    SideEffect,
    Step,
    StepKind,
    Trace,
    Value,
    new_id,
)
from ...graphstore.store import GraphStore, Published
from ..model.client import Dialect
from ..model.prices import Bill, load_prices_early
from ..outcome.cause import Cause, MissKind
from ..outcome.events import StepEnded
from ..outcome.result import Outcome
from ..sessions.memory import MemoryKey
from ..sessions.outage import is_away, store_away
from ..sessions.session import Session
from ..tools.reading import read_call
from ..tools.tool import Tool
from ..transcript import Asked, Transcript, request_messages
from .account import Account
from .family import Chooser, Family, Place
from .judging import Recorded
from .lookup import look_up, memory_key
from .noted_facts import Note, Notes, guards_of, merged
from .plan import Decision, Plan, Prepared
from .refusals import AskAgain, Refusals
from .required_facets import (
    needed_facets,
    needs_of_calls,
    needs_of_offered,
    required_by_writes,
)
from .step_taken import Taken, frontier
from .steps_by_key import Shelf
from .subject import Subject
from .wish import MustNotAsk, Wish

__all__ = ["Ask", "Run"]

#: Puts a request to a model and gives the exact body of its reply.
Ask = Callable[[Mapping[str, Json]], Awaitable[bytes]]

_MAY_BE_NEW = (Outcome.ASKED, Outcome.EXECUTED, Outcome.DIVERGED, Outcome.REFUSED)


class _Question(NamedTuple):
    """A request that no recording answers: what to ask, why, and what the answer rests on."""

    asked: Asked
    occurrence: int
    body: Mapping[str, Json]
    cause: Cause
    inherited: tuple[FacetRef, ...]


def _age(place: Place) -> tuple[str, int]:
    return place.run.id, place.position


class Run:
    """One execution in progress. ``taken``: its steps so far, in their order."""

    def __init__(
        self, session: Session, store: GraphStore, subject: Subject, wish: Wish, *, plan: Plan
    ) -> None:
        self.session = session
        self.store = store  # as it was lent to this run
        self.subject = subject
        self.wish = wish
        self.plan = plan
        self.followed: Prepared | None = plan.best if subject.follows else None
        self.began_with = plan.best.trace.id if plan.best is not None else None
        self.started_at = time.time_ns() // 1_000_000
        self.id = new_id(self.started_at)
        self.taken: list[Taken] = []
        self.begun: dict[str, SideEffect] = {}  # by id, also those whose step was never taken
        self.preconditions: dict[str, Precondition] = plan.preconditions
        self.notes = Notes(store, session.refresh)
        self.account = Account(plan.causes)
        self._clock = time.perf_counter()
        self._path: int | None = 0 if self.followed is not None else None
        self._left: Cause | None = None  # why it left the path
        self._counts: Counter[str] | None = None
        self._unanswered: dict[str, set[int]] = {}  # by key, occurrences free to be asked again
        self._transcripts: dict[str, Transcript] = {}
        self._shelf: Shelf | None = None
        self.publishing: asyncio.Future[Published] | None = None
        self.asked = False  # time has passed since the lookup, so facts are read again
        self.over = False  # it has come to its end: nothing more begins
        self.unfinished: list[Tool] = []  # what a program acts with, or was kept from ending
        self.family = Family()
        self.family.runs.append(self)
        self.told = Refusals()  # what was decided since knows of
        self.knows: dict[int, dict[Run, Refusals]] = {}  # of a program's, until it is opened
        self.refusals = Refusals()  # and what is decided from now on will

    @property
    def inputs(self) -> Json:
        """The task's, as requirements name them."""
        return self.wish.task.inputs.json

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self._clock) * 1000

    @property
    def steps(self) -> list[Step]:
        return [taken.step for taken in self.taken]

    @property
    def memory_key(self) -> MemoryKey:
        """Under what the process remembers which trace serves this task."""
        return memory_key(self.store.namespace, self.wish.task.key, self.subject.code)

    @property
    def as_followed(self) -> bool:
        """Whether it took the steps of the followed trace, all of them and to the end."""
        trace = None if self.followed is None else self.followed.trace
        return (
            trace is not None
            and len(self.taken) == len(trace.steps)
            and trace.execution.complete
            and all(taken.copied for taken in self.taken)
        )

    @property
    def on_path(self) -> bool:
        return self._path is not None

    @property
    def away(self) -> bool:
        """Whether the store has gone for this run: nothing is looked up or recorded any more."""
        return is_away(self.store)

    @contextmanager
    def acting(self, tool: Tool) -> Iterator[None]:
        """A program acts. What is cut short, or not awaited, stays among the unfinished."""
        self.unfinished.append(tool)
        try:
            yield
        except Exception:
            self.unfinished.remove(tool)
            raise
        self.unfinished.remove(tool)

    def join(self, outer: Run) -> None:
        """This run has begun inside another one, which steers it, and learns what it gives; it is
        only steered by one that has ended."""
        if outer.session is not self.session:
            return
        if outer.over:
            self.family.opened |= outer.family.opened
        else:
            self.family = outer.family
            self.family.runs.append(self)

    def is_beside(self, other: Run) -> bool:
        """Whether the facts of both are the same: of one namespace of one store."""
        here, there = self.session, other.session
        return here is there or (here.store.namespace, here.store.url) == (
            there.store.namespace,
            there.store.url,
        )

    def choosing(self, passed: Iterable[Place]) -> list[Chooser]:
        """The decisions that chose a program's write: those ``passed`` to it as handles, and all
        that were opened before, those of the runs around it and inside it too."""
        passed, opened = set(passed), set(self.family.opened)
        for run, position in sorted(passed | opened, key=_age):
            for other, told in run.knows.pop(position, {}).items():
                other.told = other.told.and_then(told)
        counts = {it for it in opened if it.position >= it.run.told.all_before}
        return [
            Chooser(run, run.taken[position]) for run, position in sorted(passed | counts, key=_age)
        ]

    @property
    def served(self) -> Iterator[Taken]:
        """The steps that were served, and on which what comes next stands."""
        return (it for it in self.taken[self.told.all_before :] if it.served)

    def noted(self, taken: Taken) -> Mapping[FacetRef, Note]:
        """The facts as they were known before a step; what moved since, and the run was told of
        and has decided anew, as it was told."""
        return {**taken.noted, **self.told.before(taken)} if self.told else taken.noted

    def rests_on(self, taken: Taken) -> Iterable[Note]:
        """The facts that must be as noted for what follows from a step to stand."""
        if not self.told:
            return taken.rests_on
        told = self.told.before(taken)
        return [told.get(note.guard.ref, note) for note in taken.rests_on]

    def refused(self, why: AskAgain, chosen: Iterable[Chooser]) -> None:
        """An effect was refused, and who chose it told so. What is decided from now on knows."""
        for run in {self, *(it.run for it in chosen)}:
            run.account.do_not_publish(why.cause)
        for run in self.family.runs:
            run.asked = True
            run.refusals = run.refusals.with_more(why, len(run.taken))

    def pay(self, bill: Bill) -> None:
        """A reply has come that is paid for, whatever becomes of this run. In its event loop."""
        self.account.bills.append(bill)
        self.keep_bills()

    def keep_bills(self) -> None:
        """Have what was paid so far written soon: it is told even if this process is killed."""
        self.session.journal.running.note(self.id, self._so_far)

    def _so_far(self) -> Execution:
        """This run as it is now. Prices are to be at hand."""
        return Execution(
            id=self.id,
            task=self.wish.task.key,
            agent=self.subject.name,
            mode=Mode.LIVE,
            state=ExecutionState.RUNNING,
            started_at=self.started_at,
            duration_ms=self.elapsed_ms,
            usage=self.account.usage,
            cost=self.account.cost,
            asked=len(self.account.bills),
        )

    def take(self, taken: Taken) -> None:
        """Give a step its place: after all that ended before it."""
        position = len(self.taken)
        if taken.step.position != position:
            taken.step = taken.step.model_copy(update={"position": position})
        self.taken.append(taken)
        if taken.cause is not None:
            self.account.causes.append(taken.cause)
        self._tell(taken)

    def _tell(self, taken: Taken) -> None:
        if not self.session.events.listeners:
            return
        it = taken.report()
        self.session.events.emit(
            StepEnded(
                self.id,
                taken.step.position,
                it.kind,
                it.name,
                it.outcome,
                it.tokens,
                it.cause,
                it.error,
            )
        )

    # Decisions ----------------------------------------------------------------------------

    async def decide(
        self,
        request: Callable[[], Mapping[str, Json]],
        ask: Ask,
        dialect: Dialect,
        *,
        again: AskAgain | None = None,
    ) -> Decision:
        """The reply to ``request``: a recorded one if it stands, else the model's.

        ``again``: why the decision just forgotten does not stand.
        """
        told = {run: run.refusals for run in self.family.runs if run.refusals}
        decision = await self._decide(request, ask, dialect, again)
        if self.subject.follows:
            self.told = self.told.and_then(told.get(self, Refusals()))
        else:  # nothing follows from it before it is opened or passed on
            self.knows[decision.position] = told
        return decision

    async def _decide(
        self,
        request: Callable[[], Mapping[str, Json]],
        ask: Ask,
        dialect: Dialect,
        again: AskAgain | None,
    ) -> Decision:
        cause = again.cause if again is not None else None
        inherited = again.facets if again is not None else ()
        if self._path is not None:
            if (followed := self.follow()) is not None:
                return followed
            cause, inherited = self._leaving(self._next_on_path())
        body = request()
        asked = self._read(body, dialect)
        occurrence = self.occurrence(asked.key)
        found = await self.find(asked.key, occurrence)
        if found is not None and found.cause is None:
            if (served := await self._serve(asked, occurrence, found, dialect)) is not None:
                return served
        elif found is not None:
            cause, inherited = cause or found.cause, (*inherited, *found.failing)
        cause = cause or self._unknown_request(asked)
        question = _Question(asked, occurrence, body, cause, inherited)
        try:
            return await self._ask(question, ask, dialect)
        except BaseException:
            # The SDK, or the program, may try again: that is the same occurrence.
            self._unanswered.setdefault(asked.key, set()).add(occurrence)
            raise

    def follow(self) -> Decision | None:
        """The next decision of the recorded path, if this run is on it and it stands."""
        if self._path is None or self.followed is None:
            return None
        recorded = self._next_on_path()
        if recorded is None or recorded.cause is not None:
            return None
        if recorded.step.kind is not StepKind.DECISION:
            return None
        decision, taken = self.followed.serve(recorded)
        self.go_along(taken)
        return decision

    def next_action(self, decision: Decision) -> Recorded | None:
        """The action that carries out the only call of ``decision`` on the path, if it stands and
        is a read, or is to be reused."""
        if self._path is None or self.followed is None:
            return None
        recorded = self.followed.actions.get((decision.position, 0))
        if recorded is None or recorded.cause is not None or recorded.step.error:
            return None
        tool = self.subject.code.tools.get(recorded.step.name)
        if tool is None or not (tool.just_reads or self._may_reuse(tool, recorded.step)):
            return None
        return recorded

    def _may_reuse(self, tool: Tool, step: Step) -> bool:
        """Whether a pure action of the path that stood at the lookup stands now."""
        pure = tool.effect is Effect.PURE and step.effect is Effect.PURE
        # What its tool depends on may have become something else since the lookup.
        return pure and not self.asked and tool.code_key == step.code_key

    def go_back(self, decision: Decision, again: AskAgain) -> int:
        """Forget what facts have taken away that moved before an effect of ``decision``: it, and
        each decision before it that was served under one of them; the position gone back to.

        What an effect has followed stays as history, and the run is then no trace.
        """
        effects = [it.step.position for it in self.taken if it.effect is not None]
        history = max(effects, default=-1) + 1
        fallen = [
            it.step.position if it.step.decision is None else it.step.decision
            for it in self.served
            if any(note.guard.id in again.guards for note in self.rests_on(it))
        ]
        back = min([decision.position, *(it for it in fallen if it >= history)])
        if any(it < history for it in fallen):
            self.account.do_not_publish(again.cause)
            self.told = self.told.with_more(again, back)
        self._forget(back, again)
        return back

    def _forget(self, position: int, again: AskAgain) -> None:
        replaced = self.taken[position:]
        del self.taken[position:]
        self.notes.forget(taken.ticket for taken in replaced if taken.ticket is not None)
        self.leave_path(again.cause)
        self._counts = None
        self._unanswered.clear()
        self.asked = True  # facts moved since the lookup, so what stands is judged anew

    def _next_on_path(self) -> Recorded | None:
        assert self.followed is not None
        assert self._path is not None
        judged = self.followed.judged
        return judged[self._path] if self._path < len(judged) else None

    def _leaving(self, recorded: Recorded | None) -> tuple[Cause, tuple[FacetRef, ...]]:
        self.leave_path(None if recorded is None else recorded.cause)
        assert self._left is not None
        return self._left, () if recorded is None else recorded.failing

    def leave_path(self, cause: Cause | None = None) -> None:
        """From here each step is looked up by its own key. ``cause`` None: no more is recorded."""
        if self._path is not None and self.followed is not None:
            self._path = None
            self._left = cause or Cause(MissKind.RECORDING_ENDS, self.followed.trace.id)

    def go_along(self, taken: Taken) -> None:
        """Take the step that is next on the path, as it is recorded."""
        assert self._path is not None
        self.taken.append(taken)
        self._path += 1
        if self.session.events.listeners:
            self._tell(taken)

    def advance(self, steps: int) -> None:
        """Go on along the path."""
        if self._path is not None:
            self._path += steps

    def _read(self, request: Mapping[str, Json], dialect: Dialect) -> Asked:
        if (transcript := self._transcripts.get(dialect.name)) is None:
            transcript = self._transcripts[dialect.name] = Transcript(dialect)
        actions = (it for it in self.taken if it.step.kind is StepKind.ACTION)
        outputs = {it.step.output: it.output for it in actions}
        return transcript.read(request, self.subject.declared, outputs)

    def _unknown_request(self, asked: Asked) -> Cause:
        """Why it is not recorded: what first made this run another than the recorded ones."""
        if (first := self._first_new()) is not None:
            return first
        if self.away:
            return store_away(self.store)
        if self.plan.best is None and self.account.causes:
            return self.account.causes[0]
        if self.followed is not None:
            return Cause(MissKind.RECORDING_ENDS, self.followed.trace.id)
        return Cause(MissKind.REQUEST_CHANGED, asked.model)

    def _first_new(self) -> Cause | None:
        """Why the first step gave what is recorded nowhere: what follows from it is new, too.

        A step that was asked or run again, and gave what is recorded, is not to blame.
        """
        for taken in self.taken:
            new = taken.outcome in _MAY_BE_NEW and taken.cause is not None
            if new and not self._is_recorded(taken.step):
                return taken.cause
        return None

    def _is_recorded(self, step: Step) -> bool:
        known = () if self._shelf is None else self._shelf.find(step.key, step.occurrence)
        said = (step.output_key, step.error)
        return any((it.step.output_key, it.step.error) == said for it in known)

    async def _serve(
        self, asked: Asked, occurrence: int, found: Recorded, dialect: Dialect
    ) -> Decision | None:
        """A decision of another place in the graph; None if its payload is damaged."""
        if (output := await self.payload(found)) is None:
            return None
        reply = decode(output)
        values = (asked.head, *asked.messages, Value.of(output))
        step = self._decision_step(asked, occurrence).model_copy(
            update={
                "guards": found.step.guards,
                "usage": found.step.usage,
                "cost": found.step.cost,
                "output": found.step.output,
                "output_key": found.step.output_key,
                "duration_ms": found.step.duration_ms,
                "asked_at": found.step.asked_at,
                "seen": found.step.seen,
            }
        )
        # What it chose must find the facts by which it was found to stand.
        noted = found.noted
        self.take(Taken(step, Outcome.REPLAYED, output, noted=noted, values=values))
        return Decision(step.position, reply, dialect.calls(reply), noted)

    async def _ask(self, question: _Question, ask: Ask, dialect: Dialect) -> Decision:
        if self.wish.must_serve:
            raise MustNotAsk(question.cause)
        asked, ticket = question.asked, self.notes.ticket()
        tools, inputs = self.subject.code.tools, self.inputs
        own = (*needed_facets(self.subject.code.requires, inputs), *question.inherited)
        # A program may act with any tool, whatever it offers to the model.
        names = dialect.offered(question.body) if self.subject.follows else None
        offered = needs_of_offered(tools, inputs, names)
        before = await self.notes.take((*own, *offered))
        asked_at, seen = await self._newest_versions()
        self.asked = True
        self.account.calls += 1
        load_prices_early()
        feeds = frontier(self.steps)
        started = time.perf_counter()
        output = await ask(question.body)
        duration = (time.perf_counter() - started) * 1000
        reply = decode(output)
        calls, usage = dialect.calls(reply), dialect.usage(reply)
        bill = Bill(asked.model, usage, question.cause, dialect.terms(reply))
        self.pay(bill)
        # One read serves both: it confirms what was noted before the decision, and notes what
        # the calls rest on.
        self.notes.ended(ticket, before.values())
        readings = tuple(read_call(tools, inputs, call) for call in calls)
        chosen, needed = needs_of_calls(tools, calls, readings)
        noted = {**await self.notes.take(needed), **before}
        self.notes.ended(ticket, (noted[facet] for facet in chosen if facet not in before))
        notes = merged([noted[facet] for facet in (*own, *chosen)])
        if not (dialect.complete(reply) or (self.subject.follows and dialect.paused(reply))):
            self.account.do_not_publish(Cause(MissKind.INCOMPLETE, asked.model))
        values = (asked.head, *asked.messages, Value.of(output))
        step = self._decision_step(asked, question.occurrence).model_copy(
            update={
                "guards": guards_of(notes),
                "usage": usage,
                "output": values[-1].digest,
                "output_key": fingerprint(dialect.canonical_reply(reply, asked.names)),
                "duration_ms": duration,
                "feeds": feeds,
                "asked_at": asked_at,
                "seen": seen,
            }
        )
        self.take(
            Taken(
                step,
                Outcome.ASKED,
                output,
                ticket=ticket,
                cause=question.cause,
                duration_ms=duration,
                notes=notes,
                noted=noted,
                values=values,
                bill=bill,
            )
        )
        return Decision(step.position, reply, calls, noted, readings)

    async def _newest_versions(self) -> tuple[int | None, Mapping[str, int]]:
        """What tells later whether a program's decision knew what it chose: an agent's calls
        stand in the reply, and what they rest on is noted with it."""
        if self.subject.follows or self.away:
            return None, {}
        tools = tuple(self.subject.code.tools.values())
        return await self.notes.newest(required_by_writes(tools, self.inputs))

    def _decision_step(self, asked: Asked, occurrence: int) -> Step:
        """The step of a request, its messages told as a continuation of the last one's."""
        steps = self.steps
        messages = tuple(value.digest for value in asked.messages)
        last = next((s.position for s in reversed(steps) if s.kind is StepKind.DECISION), None)
        known = () if last is None else request_messages(steps, last)
        shared = 0
        while shared < min(len(known), len(messages)) and known[shared] == messages[shared]:
            shared += 1
        return Step(
            position=len(steps),
            kind=StepKind.DECISION,
            name=asked.model,
            key=asked.key,
            occurrence=occurrence,
            code_key=asked.code_key,
            output="",
            output_key="",
            feeds=frontier(steps),
            head=asked.head.digest,
            extends=last if shared else None,
            shared=shared,
            messages=messages[shared:],
        )

    # Looking up by key --------------------------------------------------------------------

    def occurrence(self, key: str) -> int:
        """How many steps of this key came before; counts this one."""
        if self._counts is None:
            self._counts = Counter(step.key for step in self.steps)
        if free := self._unanswered.get(key):
            free.remove(first := min(free))
            return first
        self._counts[key] += 1
        return self._counts[key] - 1

    async def find(self, key: str, occurrence: int) -> Recorded | None:
        """The recorded step of this key: one that stands if there is one."""
        if not self.wish.may_serve or self.away:
            return None
        if self._shelf is None:
            self._shelf = Shelf(self.plan, self.subject.code)
        found = await self._judged(self._shelf.find(key, occurrence))
        if (found is None or found.cause is not None) and self.plan.from_memory:
            # Memory knows one trace; others may serve as well.
            await self._look_up()
            found = await self._judged(self._shelf.find(key, occurrence))
        return None if is_away(self.store) else found  # what it went by may be no facts

    async def _judged(self, found: list[Recorded]) -> Recorded | None:
        if self.asked and found:
            notes = await self.notes.take(facet for it in found for facet in it.facets)
            found = [recorded.under(notes) for recorded in found]
        return next((it for it in found if it.cause is None), found[0] if found else None)

    async def all_traces(self) -> Sequence[Trace]:
        """The task's traces; memory knows only one of them."""
        if self.plan.from_memory:
            await self._look_up()
        return self.plan.traces

    async def _look_up(self) -> None:
        self.plan = await look_up(self.store, self.wish.task.key, self.subject)
        self.preconditions |= self.plan.preconditions
        self._shelf = Shelf(self.plan, self.subject.code)

    async def payload(self, found: Recorded) -> bytes | None:
        digest = found.step.output
        if self.plan.best is not None and digest in self.plan.best.values:
            return self.plan.best.values[digest]
        try:
            return (await self.store.values([digest]))[digest]
        except PayloadCorrupted:
            if not self.away:
                self.account.causes.append(Cause(MissKind.PAYLOAD_DAMAGED, found.trace))
            return None
