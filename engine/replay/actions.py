"""Carrying out actions: reuse, or run and compare, under facts checked right before an effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...graphstore.canonical import canonical, decode, encode, fingerprint, hash_of
from ...graphstore.model import (
    Effect,
    EffectState,
    FacetRef,
    SideEffect,
    Step,
    Value,
    new_id,
)
from ..errors import ArgumentsInvalid, PreconditionChanged
from ..exits import outlived
from ..model.client import Call, CallResult
from ..outcome.cause import Cause, MissKind
from ..outcome.result import Outcome
from ..tools.output import Output, Telling, Turn, not_taken, run_tool
from ..tools.reading import read_served, real_text
from ..tools.tool import Tool
from .current import Asking
from .effect_gate import EffectGate
from .family import Chooser, Place
from .judging import Recorded
from .noted_facts import Note, distinct
from .plan import Decision
from .planned_actions import Job, job_of_act, job_of_call, job_on_path
from .run import Run
from .step_taken import Taken
from .turns import Turns

__all__ = ["Acted", "act", "act_on"]

REFUSAL = "precondition changed, not executed"

#: What can make a tool give something else. A fact that nobody looked after need not have changed.
_CODE = {MissKind.CODE_CHANGED}
_CODE_OR_FACT = _CODE | {MissKind.PRECONDITION_CHANGED, MissKind.PRECONDITION_WITHDRAWN}


class _Done(NamedTuple):
    """A step carried out, and what came of it for the program that asked."""

    taken: Taken
    output: Output


async def act_on(run: Run, decision: Decision, *, final: bool) -> list[CallResult]:
    """Carry out all calls of a reply, concurrently, and give what the model is told.

    Raises AskAgain if facts moved before the first effect, unless ``final``.
    """
    calls = decision.calls
    if not calls:
        return []
    if len(calls) == 1 and (recorded := _next_action(run, decision)) is not None:
        if run.subject.code.tools[recorded.step.name].just_reads:
            it = await _follow(run, recorded, calls[0])
        else:
            it = _reuse(run, recorded)
        return [CallResult(calls[0], it.output, it.step.error)]
    jobs = [await job_of_call(run, decision, number) for number in range(len(calls))]
    gate = EffectGate(run, [Chooser(run, run.path.taken[decision.position])], final=final)
    taken = [it.taken for it in await _carry_out(run, jobs, decision.noted, gate)]
    if run.path.is_as_recorded and all(it.followed and it.unchanged for it in taken):
        run.path.advance(len(calls))
    else:
        run.path.leave(next((it.cause for it in taken if it.cause is not None), None))
    return [
        CallResult(call, it.output, it.step.error) for call, it in zip(calls, taken, strict=True)
    ]


def _next_action(run: Run, decision: Decision) -> Recorded | None:
    """The action that carries out the only call of ``decision`` on the recorded path, if it stands
    and is a read, or is to be reused."""
    recorded = run.path.action(decision.position, 0)
    if recorded is None or recorded.cause is not None or recorded.step.error:
        return None
    tool = run.subject.code.tools.get(recorded.step.name)
    if tool is None or not (tool.just_reads or _may_reuse(run, tool, recorded.step)):
        return None
    if run.standins and not tool.just_reads:  # what it was given may be other values now
        return None
    return recorded


def _may_reuse(run: Run, tool: Tool, step: Step) -> bool:
    """Whether a pure action of the path that stood at the lookup stands now."""
    pure = tool.effect is Effect.PURE and step.effect is Effect.PURE and not tool.has_marks
    # What its tool depends on may have become something else since the lookup.
    return pure and not run.search.time_has_passed and tool.code_key == step.code_key


async def _follow(run: Run, recorded: Recorded, call: Call) -> Taken:
    """A read that stands, run again: nothing is to be noted, checked or begun for it.

    This is what replays mostly do, so it does without a job as long as the output is equal.
    """
    followed = run.path.followed
    assert followed is not None
    tool, step = run.subject.code.tools[recorded.step.name], recorded.step
    known = followed.known(step)
    started = time.perf_counter()
    with Asking() as asked:
        try:
            parsed = tool.parse(real_text(call, run.standins))
            given = await run_tool(tool, parsed, "", _telling(run, tool, step.decision), known)
        except ArgumentsInvalid as error:
            given = not_taken(run.standins.hidden(str(error)))
    duration = (time.perf_counter() - started) * 1000
    same = given.error is None and given.data == known.data
    if same and not (asked.notes and _asked_anew(step, asked.notes)):
        taken = Taken(step, Outcome.REPLAYED, known.data, duration_ms=duration, copied=True)
        run.go_along(taken)
        return taken
    reading = read_served(tool, call, followed.arguments(step), run.standins)
    job = job_on_path(run, followed, recorded, reading)
    job.notes = distinct(recorded.notes, asked.notes)
    taken = _finished(job, (), given).taken
    taken.duration_ms, taken.followed = duration, True
    _ended(run, job, taken, run.notes.ticket())
    run.take(taken)
    if taken.unchanged:
        run.path.advance(1)
    else:
        run.path.leave(taken.cause)
    return taken


def _reuse(run: Run, recorded: Recorded) -> Taken:
    """A pure action that stands: its recording is all there is to it."""
    assert run.path.followed is not None
    taken = run.path.followed.reuse(recorded)
    run.go_along(taken)
    return taken


class Acted(NamedTuple):
    """What an action of a program gave; ``error``: what the tool raised instead."""

    value: Any
    position: int
    error: Exception | None


async def act(
    run: Run, tool: Tool, arguments: Mapping[str, Any], passed: Iterable[Place] = ()
) -> Acted:
    """One action of a program. ``passed``: the decisions whose handles are among the arguments.

    Raises ArgumentsInvalid, and PreconditionChanged if what the write stands on moved, or may not
    have been known to a decision that chose it; then it did not happen.
    """
    chosen = run.family.choosers(passed) if tool.is_write else []
    with run.effects.acting(tool):
        done = await _acted(run, tool, arguments, chosen)
    if done.taken.outcome is Outcome.REFUSED:
        raise PreconditionChanged(
            f"{tool.name} was not executed: {done.taken.cause}. Decide again with what is now."
        )
    return Acted(done.output.value, done.taken.step.position, done.output.error)


async def _acted(
    run: Run, tool: Tool, arguments: Mapping[str, Any], chosen: Sequence[Chooser]
) -> _Done:
    job = await job_of_act(run, tool, arguments)
    # A write must find the facts as they were before the decisions that chose it.
    noted = {ref: note for it in reversed(chosen) for ref, note in it.noted.items()}
    [done] = await _carry_out(run, [job], noted, EffectGate(run, chosen, final=True))
    if done.taken.outcome is not Outcome.REFUSED:
        for chooser in chosen:
            chooser.guard_by(done.taken)
    return done


async def _carry_out(
    run: Run, jobs: Sequence[Job], noted: Mapping[FacetRef, Note], gate: EffectGate
) -> list[_Done]:
    await _note(run, jobs, noted)
    feeds = run.path.frontier if any(job.followed is None for job in jobs) else ()
    if len(jobs) == 1:
        done = [await _one(run, jobs[0], gate, feeds)]
    else:
        turns = Turns(len(jobs))
        work = (
            outlived(turns.taken(number, _one(run, job, gate, feeds, turns.of(number))))
            for number, job in enumerate(jobs)
        )
        done = _all_of(await asyncio.gather(*work, return_exceptions=True))
    if gate.stopped is not None and gate.ask_again:
        raise gate.stopped
    for job, it in zip(jobs, done, strict=True):
        it.taken.followed = job.followed is not None
        run.take(it.taken)
    if gate.stopped is not None:
        run.refuse(gate.stopped, gate.chosen)
    return done


def _all_of(done: Sequence[_Done | BaseException]) -> list[_Done]:
    """All of them, or the first trouble there was; by now none of them is still at work."""
    for it in done:
        if isinstance(it, BaseException):
            raise it
    return [it for it in done if isinstance(it, _Done)]


async def _note(run: Run, jobs: Sequence[Job], noted: Mapping[FacetRef, Note]) -> None:
    """Give the jobs the facts they rest on: read now, unless the lookup just accepted them."""
    open_jobs = []
    for job in jobs:
        if job.recorded is not None and job.stands and not run.search.time_has_passed:
            job.notes = job.recorded.notes
        else:
            open_jobs.append(job)
    if not open_jobs:
        return
    wanted = [facet for job in open_jobs for facet in job.facets]
    notes = {**noted, **await run.notes.take(facet for facet in wanted if facet not in noted)}
    for job in open_jobs:
        job.notes = tuple(notes[facet] for facet in job.facets)


async def _one(
    run: Run, job: Job, gate: EffectGate, feeds: tuple[int, ...], turn: Turn | None = None
) -> _Done:
    """Carry out one job: refuse it, reuse its recording, or run its tool."""
    if job.tool is None or job.reading.parsed is None:
        return _finished(job, feeds, not_taken(job.reading.problem))
    if (output := await _reusable(run, job)) is not None:
        return _reused(job, job.tool, feeds, output)
    key = _idempotency_key(run, job) if job.tool.wants_key or job.tool.is_write else ""
    effect = _intent(run, job, key) if job.tool.is_write else None
    if effect is not None and not await gate.begin(effect, job.notes):
        assert gate.stopped is not None
        return _refused(job, feeds, gate.stopped.cause)
    if effect is not None:
        run.effects.begin(effect)
    telling = _telling_of(run, job, job.tool)._replace(turn=turn)
    ticket, started = run.notes.ticket(), time.perf_counter()
    with Asking() as asked:
        given = await run_tool(job.tool, job.reading.parsed, key, telling, job.expected)
    duration = (time.perf_counter() - started) * 1000
    if asked.notes and effect is None:  # a write runs again anyway, and asks again
        job.notes = distinct(job.notes, asked.notes)
    if effect is not None and given.returned:
        effect = run.effects.end(effect)
    if job.for_program and job.tool.effect is Effect.PURE:
        given = _kept(job, job.tool, given)
    done = _finished(job, feeds, given)
    done.taken.duration_ms = duration
    if effect is not None:
        done.taken.effect = effect
    _ended(run, job, done.taken, ticket)
    return done


def _telling(run: Run, tool: Tool, decision: int | None, call: int = 0) -> Telling:
    """A model's call is known by where it stands in the conversation."""
    return Telling(run.standins, f"{tool.name} {decision} {call}")


def _telling_of(run: Run, job: Job, tool: Tool) -> Telling:
    """A program's call is known by what it says."""
    if job.for_program:
        return Telling(run.standins, f"{tool.name} {job.reading.said} {job.occurrence}")
    return _telling(run, tool, job.decision, job.call or 0)


def _ended(run: Run, job: Job, taken: Taken, ticket: int) -> None:
    """What gave something new is confirmed by a later read of facts (I6)."""
    if not taken.copied:
        taken.ticket = ticket
        run.notes.ended(ticket, job.notes)


async def _reusable(run: Run, job: Job) -> bytes | None:
    """The recorded output of a pure action; errors are never reused."""
    recorded = job.recorded
    if job.tool is None or job.tool.effect is not Effect.PURE or recorded is None:
        return None
    if job.reading.is_bound or job.tool.has_marks:  # the recorded output is that of other values
        return None
    if not job.stands or recorded.step.error or recorded.step.effect is not Effect.PURE:
        return None
    return await run.search.output(recorded)


def _kept(job: Job, tool: Tool, given: Output) -> Output:
    """An output as it can be given to a program again; else the tool is run again, as a read is."""
    # While it ran, what it depends on may have become something else.
    same = given.shown and given.error is None and tool.code_key == job.code_key
    kept = tool.keep(given.value) if same else None
    job.effect = Effect.READ if kept is None else Effect.PURE
    return given if kept is None else given._replace(data=kept, key="")


def _reused(job: Job, tool: Tool, feeds: tuple[int, ...], output: bytes) -> _Done:
    given = Output(output, tool.load(output) if job.for_program else None)
    assert job.recorded is not None
    if job.followed is not None:
        noted = job.recorded.noted
        return _Done(
            Taken(job.recorded.step, Outcome.REUSED, output, noted=noted, copied=True), given
        )
    # It also rests on what its tool had asked for.
    job.notes = distinct(job.notes, job.recorded.notes)
    step = job.step(feeds, Value.of(output), job.recorded.step.output_key, error=False)
    taken = _taken(job, Outcome.REUSED, step, output)
    taken.noted = {note.guard.ref: note for note in job.notes}
    return _Done(taken, given)


def _refused(job: Job, feeds: tuple[int, ...], cause: Cause) -> _Done:
    output = encode(REFUSAL)
    step = job.step(feeds, Value.of(output), fingerprint(REFUSAL), error=True)
    taken = _taken(job, Outcome.REFUSED, step, output, cause)
    return _Done(taken, Output(output, error=PreconditionChanged(REFUSAL)))


def _finished(job: Job, feeds: tuple[int, ...], given: Output) -> _Done:
    """What was carried out, compared with what is recorded of it."""
    recorded, failed = job.recorded, given.error is not None
    if recorded is None:
        outcome, cause, output_key = Outcome.EXECUTED, None, given.output_key
    else:
        same, output_key = _compared(job, recorded.step, given)
        anew = _asked_anew(recorded.step, job.notes)
        if same and job.followed is not None and job.stands and not anew:
            step, output = recorded.step, job.followed.output(recorded.step)
            return _Done(Taken(step, Outcome.REPLAYED, output, copied=True), given)
        outcome, cause = Outcome.REPLAYED, recorded.cause
        if not same:
            outcome, cause = Outcome.DIVERGED, _divergence(job, recorded, output_key)
    step = job.step(feeds, Value.of(given.data), output_key, error=failed)
    return _Done(_taken(job, outcome, step, given.data, cause), given)


def _divergence(job: Job, recorded: Recorded, output_key: str) -> Cause:
    """Why an output is another one: the tool is, or what a reading tool rests on, else the world.

    What a write rests on only says whether it may be done.
    """
    cause = recorded.cause
    to_blame = _CODE if job.effect is Effect.WRITE else _CODE_OR_FACT
    if cause is not None and cause.kind in to_blame:
        return cause
    return Cause(MissKind.OUTPUT_DIVERGED, job.name, recorded.step.output_key, output_key)


def _asked_anew(step: Step, notes: Iterable[Note]) -> bool:
    """Whether a tool asked for facts on which its recorded step does not rest."""
    return any(note.guard.id not in step.guards for note in notes)


def _compared(job: Job, step: Step, given: Output) -> tuple[bool, str]:
    """Whether the output is the recorded one, by its bytes if they are at hand; and its key."""
    same_kind = step.error == (given.error is not None)
    if same_kind and job.followed is not None and job.followed.output(step) == given.data:
        return True, step.output_key
    output_key = given.output_key
    return same_kind and step.output_key == output_key, output_key


def _taken(
    job: Job, outcome: Outcome, step: Step, output: bytes, cause: Cause | None = None
) -> Taken:
    values = (Value.of(job.reading.arguments), Value.of(output))
    return Taken(step, outcome, output, cause=cause, notes=job.notes, values=values)


def _intent(run: Run, job: Job, key: str) -> SideEffect:
    now = time.time_ns() // 1_000_000
    return SideEffect(
        id=new_id(now),
        execution=run.id,
        tool=job.name,
        target=canonical(decode(job.reading.arguments)).decode()[:200],
        idempotency_key=key,
        state=EffectState.INTENDED,
        begun_at=now,
    )


def _idempotency_key(run: Run, job: Job) -> str:
    return hash_of("idempotency", run.id, job.key, job.occurrence)
