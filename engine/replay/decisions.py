"""Decisions: followed, served by key, or asked for if they must be (I2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from ...graphstore.canonical import Json, decode, fingerprint
from ...graphstore.model import FacetRef, Step, StepKind, Value
from ..lookup.judging import Recorded
from ..lookup.plan import Decision
from ..lookup.required_facets import (
    needed_facets,
    needs_of_calls,
    needs_of_offered,
    required_by_writes,
)
from ..model.client import Call, Dialect
from ..model.prices import Bill, load_prices_early
from ..outcome.attempts import attempts_told_to
from ..outcome.cause import Cause, MissKind
from ..outcome.result import Outcome
from ..run.family import Place
from ..run.refusals import AskAgain, Refusals
from ..run.run import Run
from ..run.spec import MustNotAsk
from ..sessions.outage import store_away
from ..steps.noted_facts import Note, guards_of, merged
from ..steps.run_step import RunStep
from ..steps.stopwatch import Stopwatch, Times
from ..tools.parsed_call import parse_call
from ..transcript import Asked, request_messages
from .nearest_request import request_changed
from .partial import before_asking
from .shadow import Shadowed, following
from .standing import stand, stand_decision

__all__ = ["Ask", "NotHeld", "at_once", "decide", "follow", "go_back", "start_over"]

#: Puts a request to a model and gives the exact body of its reply. What it calls tells that the
#: reply begins to be known to the program.
Ask = Callable[[Mapping[str, Json], Callable[[], None]], Awaitable[bytes]]

#: What a decision keeps of the day it was asked, when it is served in another trace.
_KEPT = (
    "guards", "usage", "cost", "output", "output_key", "started_at", "duration_ms", "asked_at",
    "seen",
)  # fmt: skip
_MAY_BE_NEW = (Outcome.ASKED, Outcome.EXECUTED, Outcome.DIVERGED, Outcome.REFUSED)


class NotHeld(Exception):
    """A request continues a conversation that the service does not hold: it is to be made again
    with all that was said before."""


class _Question(NamedTuple):
    """A request that no recording answers: what to ask, why, and what the answer rests on; in a
    shadow run also what is recorded of it (``shadowed``), which then is why it is asked."""

    asked: Asked
    occurrence: int
    body: Mapping[str, Json]
    cause: Cause
    inherited: tuple[FacetRef, ...]
    shadowed: Shadowed | None = None


class _Reply(NamedTuple):
    """A model's reply, as its dialect reads it."""

    value: Value
    json: Json
    calls: tuple[Call, ...]
    bill: Bill
    times: Times


def at_once(ask: Callable[[Mapping[str, Json]], Awaitable[bytes]]) -> Ask:
    """Make an ``Ask`` of a call whose reply is known only once it has come as a whole."""

    async def asking(request: Mapping[str, Json], _: Callable[[], None]) -> bytes:
        return await ask(request)

    return asking


def follow(run: Run) -> Decision | None:
    """The next decision of the recorded path, if the run is on it and it stands."""
    if run.history.steps and (stands := stand_decision(run)) is not None:
        return stands
    recorded, followed = run.path.next_decision(), run.path.followed
    if recorded is None or followed is None:
        return None
    decision, run_step = followed.serve(recorded)
    run.go_along(run_step)
    return decision


async def decide(
    run: Run,
    request: Callable[[], Mapping[str, Json]],
    ask: Ask,
    dialect: Dialect,
    *,
    again: AskAgain | None = None,
) -> Decision:
    """The reply to ``request``: a recorded one if it stands, else the model's.

    ``again``: why the decision just forgotten does not stand.
    """
    known = run.family.refusals()
    decision = await _decide(run, request, ask, dialect, again)
    if run.definition.follows:
        run.refusals.heed(known.get(run.refusals, Refusals()))
    elif not run.path.run_steps[decision.position].stands:  # else it was made before
        run.refusals.keep(decision.position, known)
    return decision


async def _decide(
    run: Run,
    request: Callable[[], Mapping[str, Json]],
    ask: Ask,
    dialect: Dialect,
    again: AskAgain | None,
) -> Decision:
    cause, inherited = (None, ()) if again is None else (again.cause, again.facets)
    if run.path.is_as_recorded:
        if (followed := follow(run)) is not None:
            return followed
        cause, inherited = _leave_path(run)
    run.journal.decides()
    body = request()
    asked = run.transcripts.read(body, dialect, run.definition.declared, run.path.outputs)
    occurrence = run.occurrences.next(asked.key)
    if (kept := run.history.decision(asked.key, occurrence)) is not None:
        step = _step(run, asked, occurrence).model_copy(update=_kept_of(kept.step))
        run_step = stand(run, kept, step)
        return _taken(run, run_step, dialect)
    recorded = await run.search.find(asked.key, occurrence)
    if recorded is not None and recorded.cause is None and run.may_serve:
        if (served := await _serve(run, asked, occurrence, recorded, dialect)) is not None:
            return served
    elif recorded is not None:
        cause, inherited = cause or recorded.cause, (*inherited, *recorded.failing)
    shadowed = None
    if recorded is not None and recorded.cause is None and run.spec.shadow:
        shadowed = await Shadowed.of(run, recorded)
    cause = cause or run.live_because or (shadowed and shadowed.as_expected)
    cause = cause or following(await _unknown_request(run, asked, dialect))
    question = _Question(asked, occurrence, body, cause, inherited, shadowed)
    try:
        return await _put(run, question, ask, dialect)
    except BaseException:
        # The SDK, or the program, may try again: that is the same occurrence.
        run.occurrences.give_back(asked.key, occurrence)
        raise


def _leave_path(run: Run) -> tuple[Cause | None, tuple[FacetRef, ...]]:
    """Leave the recorded path, and say why its next decision cannot be followed, and which facets
    do not hold."""
    recorded = run.path.next
    run.path.leave(None if recorded is None else recorded.cause)
    return run.path.left, () if recorded is None else recorded.failing


def go_back(run: Run, decision: Decision, again: AskAgain) -> int:
    """Forget ``decision``, of which an effect found that facts have moved, and each decision before
    it that was served under one of them, or by a trace that was rejected; the position gone back
    to.

    What an effect has followed stays as history, and the run is then no trace.
    """
    history = run.path.history
    fallen = [
        served.step.position if served.step.decision is None else served.step.decision
        for served in run.path.served(run.refusals.heeded.all_before)
        if served.trace in again.traces
        or any(note.guard.id in again.guards for note in run.refusals.rests_on(served))
    ]
    back = min([decision.position, *(it for it in fallen if it >= history)])
    if any(it < history for it in fallen):
        run.account.do_not_publish(again.cause)
        run.refusals.heed_at_once(again, back)
    _forget(run, back, again.cause)
    return back


def start_over(run: Run, cause: Cause) -> None:
    """Have a run without effects begin anew, and be served nothing."""
    run.go_live(cause)
    _forget(run, 0, cause)


def _forget(run: Run, back: int, cause: Cause) -> None:
    forgotten = run.path.go_back(back, cause)
    run.notes.forget(run_step.ticket for run_step in forgotten if run_step.ticket is not None)
    run.occurrences.start_over()
    run.effects.start_over(run.path.run_steps)
    run.search.let_time_pass()


# Why nothing answers ----------------------------------------------------------------------


async def _unknown_request(run: Run, asked: Asked, dialect: Dialect) -> Cause:
    """Why a request is not recorded: what first made this run another than the recorded ones."""
    if (first := _first_new(run)) is not None:
        return first
    if run.away:
        return store_away(run.store)
    if run.search.plan.best is None and run.account.causes:
        return run.account.causes[0]
    if run.path.followed is not None:
        return Cause(MissKind.RECORDING_ENDS, run.path.followed.trace.id)
    return await request_changed(run, asked, dialect)


def _first_new(run: Run) -> Cause | None:
    """Why the first step gave what is recorded nowhere: what follows from it is new, too.

    A step that was asked or run again, and gave what is recorded, is not to blame.
    """
    for run_step in run.path.run_steps:
        new = run_step.outcome in _MAY_BE_NEW and run_step.cause is not None
        if new and not run.search.is_recorded(run_step.step):
            return run_step.cause
    return None


# Served by key ----------------------------------------------------------------------------


async def _serve(
    run: Run, asked: Asked, occurrence: int, recorded: Recorded, dialect: Dialect
) -> Decision | None:
    """A decision of another place in the graph; None if its payload is damaged."""
    if (output := await run.search.output(recorded)) is None:
        return None
    values = (asked.head, *asked.messages, Value.of(output))
    step = _step(run, asked, occurrence).model_copy(update=_kept_of(recorded.step))
    # What it chose must find the facts by which it was found to stand.
    run_step = RunStep(step, Outcome.REPLAYED, output, noted=recorded.noted, values=values)
    run_step.trace = recorded.trace
    return _taken(run, run_step, dialect)


def _kept_of(step: Step) -> Mapping[str, object]:
    return {name: getattr(step, name) for name in _KEPT}


def _taken(run: Run, run_step: RunStep, dialect: Dialect) -> Decision:
    """Take a decision that is not asked."""
    step, reply = run_step.step, decode(run_step.output)
    if run_step.stands or run.search.is_unfinished(run_step.trace):
        run_step.terms = dialect.terms(reply)
    run.transcripts.add_reply(step, dialect.reply_id(reply), served=True)
    run.take(run_step)
    return Decision(step.position, reply, dialect.calls(reply), run_step.noted)


# Asked for --------------------------------------------------------------------------------


async def _put(run: Run, question: _Question, ask: Ask, dialect: Dialect) -> Decision:
    """Put a question to the model, and take what it decides."""
    if run.transcripts.continues_served(question.body, dialect):
        raise NotHeld
    if run.spec.must_serve:
        raise MustNotAsk(question.cause)
    await before_asking(run, question.cause)
    await run.journal.kept()
    ticket = run.notes.ticket()
    own, before = await _note_before(run, question, dialect)
    run.decides_under(before[facet] for facet in own)
    asked_at, seen = await _newest_versions(run)
    feeds = run.path.frontier
    step = {"feeds": feeds, "asked_at": asked_at, "seen": seen}
    beginning = _Beginning(run, question, [before[facet] for facet in own], before, step)
    try:
        reply = await _ask(run, question, ask, dialect, beginning)
    except BaseException:
        run.journal.service_failed()
        if beginning.run_step is not None:
            beginning.run_step.times = beginning.stopwatch.times()
            run.account.do_not_publish(Cause(MissKind.INCOMPLETE, question.asked.model))
        raise
    # One read serves both: it confirms what was noted before the decision, and notes what
    # the calls rest on.
    run.notes.ended(ticket, before.values())
    tools = run.definition.code.tools
    parsed_calls = tuple(parse_call(tools, run.inputs, call, run.standins) for call in reply.calls)
    chosen, needed = needs_of_calls(tools, reply.calls, parsed_calls)
    noted = {**await run.notes.take(needed), **before}
    run.notes.ended(ticket, (noted[facet] for facet in chosen if facet not in before))
    rests_on = [noted[facet] for facet in (*own, *chosen)]
    run_step = _run_step(run, question, reply, dialect, rests_on)
    run_step.ticket, run_step.noted = ticket, noted
    run_step.step = run_step.step.model_copy(update=step)
    run.transcripts.add_reply(run_step.step, dialect.reply_id(reply.json), served=False)
    if beginning.run_step is None:
        run.take(run_step)
    else:
        run.complete(beginning.run_step, run_step)
    if run.account.unpublishable is None and not run.away:
        run.journal.keep(run_step)
    return Decision(run_step.step.position, reply.json, reply.calls, noted, parsed_calls)


class _Beginning:
    """A reply that begins to be known before it has ended: it has its place from then on, and
    what the program does meanwhile may follow from it. ``run_step``: what there is of it;
    ``stopwatch``: since the model is asked."""

    def __init__(
        self,
        run: Run,
        question: _Question,
        rests_on: Sequence[Note],
        noted: Mapping[FacetRef, Note],
        step: Mapping[str, object],
    ) -> None:
        self.run_step: RunStep | None = None
        self.stopwatch = Stopwatch()
        self._run = run
        self._question = question
        self._rests_on = rests_on
        self._noted = noted
        self._step = step

    def __call__(self) -> None:
        run, asked, nothing = self._run, self._question.asked, Value.of(b"null")
        if self.run_step is not None:
            return
        notes = merged(self._rests_on)
        step = _step(run, asked, self._question.occurrence).model_copy(
            update={
                **self._step,
                "guards": guards_of(notes),
                "output": nothing.digest,
                "output_key": fingerprint(None),
            }
        )
        values = (asked.head, *asked.messages, nothing)
        self.run_step = RunStep(
            step, Outcome.ASKED, nothing.data, notes=notes, noted=self._noted, values=values
        )
        run.path.take(self.run_step)
        run.family.open([Place(run, step.position)])


async def _note_before(
    run: Run, question: _Question, dialect: Dialect
) -> tuple[Sequence[FacetRef], Mapping[FacetRef, Note]]:
    """The facets that the decision rests on in any case, and the facts that it may rest on."""
    own = (*needed_facets(run.definition.code.requires, run.inputs), *question.inherited)
    # A program may act with any tool, whatever it offers to the model.
    names = dialect.offered(question.body) if run.definition.follows else None
    offered = needs_of_offered(run.definition.code.tools, run.inputs, names)
    return own, await run.notes.take((*own, *offered))


async def _newest_versions(run: Run) -> tuple[int | None, Mapping[str, int]]:
    """The newest version of each facet, which tells later whether a program's decision knew what it
    chose: an agent's calls stand in the reply, and what they rest on is noted with it."""
    if run.definition.follows or run.away:
        return None, {}
    tools = tuple(run.definition.code.tools.values())
    return await run.notes.newest(required_by_writes(tools, run.inputs))


async def _ask(
    run: Run, question: _Question, ask: Ask, dialect: Dialect, beginning: _Beginning
) -> _Reply:
    """Have the model asked, and pay for its reply."""
    run.search.let_time_pass()
    run.account.ask()
    load_prices_early()
    with attempts_told_to(run.attempted):
        body = await ask(question.body, beginning)
    times = beginning.stopwatch.times()
    json, cause = decode(body), question.cause
    if question.shadowed is not None:
        cause = question.shadowed.beside(json, question.asked.names, dialect)
    bill = Bill(question.asked.model, dialect.usage(json), cause, dialect.terms(json))
    calls = dialect.calls(json)
    run.pay(bill)
    if cause.kind is MissKind.SHADOW_DIFFERS:  # what serves is not changed by looking at it
        run.account.do_not_publish(cause)
    return _Reply(Value.of(body), json, calls, bill, times)


def _run_step(
    run: Run, question: _Question, reply: _Reply, dialect: Dialect, rests_on: Sequence[Note]
) -> RunStep:
    """Make a step of the reply; one that was cut belongs to no trace."""
    asked = question.asked
    if not (
        dialect.complete(reply.json) or (run.definition.follows and dialect.paused(reply.json))
    ):
        run.account.do_not_publish(Cause(MissKind.INCOMPLETE, asked.model))
    notes = merged(rests_on)
    step = _step(run, asked, question.occurrence).model_copy(
        update={
            "guards": guards_of(notes),
            "usage": reply.bill.usage,
            "output": reply.value.digest,
            "output_key": fingerprint(dialect.canonical_reply(reply.json, asked.names)),
        }
    )
    return RunStep(
        step,
        Outcome.ASKED,
        reply.value.data,
        cause=reply.bill.cause,
        times=reply.times,
        notes=notes,
        values=(asked.head, *asked.messages, reply.value),
        bill=reply.bill,
    )


def _step(run: Run, asked: Asked, occurrence: int) -> Step:
    """The step of a request, its messages told as a continuation of the last one's."""
    steps, last = run.path.steps, run.path.last_decision
    messages = tuple(value.digest for value in asked.messages)
    shared = _shared(() if last is None else request_messages(steps, last), messages)
    return Step(
        position=len(steps),
        kind=StepKind.DECISION,
        name=asked.model,
        key=asked.key,
        occurrence=occurrence,
        code_key=asked.code_key,
        output="",
        output_key="",
        feeds=run.path.frontier,
        head=asked.head.digest,
        extends=last if shared else None,
        shared=shared,
        messages=messages[shared:],
    )


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many messages two requests begin with that are the same."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return sum(1 for _ in same)
