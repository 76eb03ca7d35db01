"""Carrying out actions: reuse, or run and compare, under facts checked right before an effect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...graphstore.canonical import encode, fingerprint, hash_of
from ...graphstore.model import Effect, FacetRef, SideEffect, Step, Value
from ..effects.effect_gate import EffectGate
from ..effects.performing import Begun, begin, confirm_first, end, intent, key_of_read
from ..errors import ArgumentsInvalid, PreconditionChanged
from ..exits import outlived
from ..lookup.judging import Recorded
from ..lookup.plan import Decision
from ..model.client import Call, CallResult
from ..outcome.cause import Cause, MissKind
from ..outcome.result import Outcome
from ..run.begun_effects import known_by
from ..run.family import Chooser, Place
from ..run.inside import through_a_call
from ..run.planned_actions import PlannedAction, plan_act, plan_call, plan_on_path
from ..run.run import Run
from ..steps.kept_steps import KeptStep
from ..steps.noted_facts import Note, distinct
from ..steps.run_step import RunStep
from ..steps.stopwatch import Stopwatch
from ..tools.output import Output, Rendering, Turn, not_taken, run_tool
from ..tools.parsed_call import parse_served, real_text
from ..tools.tool import Tool
from .current import FactReads
from .diverged import explain
from .reuse import kept, may_reuse, reusable, took
from .standing import stand, stand_action, what_it_gave
from .turns import Turns

__all__ = ["ActResult", "act", "act_on"]

REFUSAL = "precondition changed, not executed"
#: What can make a tool give something else. A fact that nobody looked after need not have changed.
_CODE = {MissKind.CODE_CHANGED}
_CODE_OR_FACT = _CODE | {MissKind.PRECONDITION_CHANGED, MissKind.PRECONDITION_WITHDRAWN}


class _Done(NamedTuple):
    """A step carried out, and what came of it for the program that asked."""

    run_step: RunStep
    output: Output


async def act_on(run: Run, decision: Decision, *, final: bool) -> list[CallResult]:
    """Carry out all calls of a reply, concurrently, and give what the model is told.

    Raises AskAgain if facts moved before the first effect, unless ``final``.
    """
    calls = decision.calls
    if not calls:
        return []
    if earlier := run.history.actions(decision.position):
        return await _go_on_with(run, decision, earlier)
    if len(calls) == 1 and (recorded := _next_action(run, decision)) is not None:
        tool = run.definition.code.tools[recorded.step.name]
        if tool.just_reads and not may_reuse(run, tool, recorded.step):
            run_step = await _follow(run, recorded, calls[0])
        else:
            run_step = _reuse(run, recorded)
        return [CallResult(calls[0], run_step.output, run_step.step.error)]
    run_steps = await _carried_out(run, decision, range(len(calls)), final=final)
    if run.path.is_as_recorded and all(it.followed and it.unchanged for it in run_steps):
        run.path.advance(len(calls))
    else:
        run.path.leave(next((it.cause for it in run_steps if it.cause is not None), None))
    return [
        CallResult(call, run_step.output, run_step.step.error)
        for call, run_step in zip(calls, run_steps, strict=True)
    ]


async def _carried_out(
    run: Run, decision: Decision, numbers: Iterable[int], *, final: bool
) -> list[RunStep]:
    """Carry out these calls of a reply. One that stands is not asked again."""
    actions = [await plan_call(run, decision, number) for number in numbers]
    final = final or decision.position < len(run.history.steps)
    gate = EffectGate(run, [Chooser(run, run.path.run_steps[decision.position])], final=final)
    return [it.run_step for it in await _carry_out(run, actions, decision.noted, gate)]


async def _go_on_with(
    run: Run, decision: Decision, earlier: Mapping[int, KeptStep]
) -> list[CallResult]:
    """The calls of a reply of which some were carried out by an earlier run of the same id."""
    taken: dict[int, RunStep] = {}
    for number, before in sorted(earlier.items(), key=lambda it: it[1].step.position):
        rendering = Rendering(run.standins, f"{before.step.name} {decision.position} {number}")
        taken[number] = await stand_action(run, before, rendering)
    rest = [number for number in range(len(decision.calls)) if number not in taken]
    if rest:
        done = await _carried_out(run, decision, rest, final=True)
        taken.update(zip(rest, done, strict=True))
    return [
        CallResult(call, taken[number].output, taken[number].step.error)
        for number, call in enumerate(decision.calls)
    ]


def _next_action(run: Run, decision: Decision) -> Recorded | None:
    """The action that carries out the only call of ``decision`` on the recorded path, if it stands
    and is a read, or is to be reused."""
    recorded = run.path.action(decision.position, 0)
    if recorded is None or recorded.cause is not None or recorded.step.error:
        return None
    tool = run.definition.code.tools.get(recorded.step.name)
    if tool is None or not (tool.just_reads or may_reuse(run, tool, recorded.step)):
        return None
    # What it was given may be other values now.
    if run.standins and not (tool.just_reads and tool.fresh_for is None):
        return None
    return recorded


async def _follow(run: Run, recorded: Recorded, call: Call) -> RunStep:
    """A read that stands, run again: nothing is to be noted, checked or begun for it.

    This is what replays mostly do, so it does without a plan as long as the output is equal.
    """
    followed = run.path.followed
    assert followed is not None
    tool, step = run.definition.code.tools[recorded.step.name], recorded.step
    known = followed.known(step)
    stopwatch = Stopwatch()
    with FactReads() as fact_reads, through_a_call():
        try:
            arguments = tool.parse(real_text(call, run.standins))
            output = await run_tool(
                tool, arguments, "", _rendering(run, tool, step.decision), known
            )
        except ArgumentsInvalid as error:
            output = not_taken(run.standins.hidden(str(error)))
    times = stopwatch.times()
    same = output.error is None and output.data == known.data
    if same and not (fact_reads.notes and _read_anew(step, fact_reads.notes)):
        run_step = RunStep(step, Outcome.REPLAYED, known.data, copied=True)
        took(run, tool, run_step, times)
        _keep_whole(run, tool, run_step, output)
        run.go_along(run_step)
        return run_step
    parsed = parse_served(tool, call, followed.arguments(step), run.standins)
    action = plan_on_path(run, followed, recorded, parsed)
    action.notes = distinct(recorded.notes, fact_reads.notes)
    done = _finished(action, (), output)
    await explain(run, action, done.run_step)
    run_step = done.run_step
    took(run, tool, run_step, times)
    _keep_whole(run, tool, run_step, output)
    run_step.followed = True
    _ended(run, action, run_step, run.notes.ticket())
    run.take(run_step)
    if run_step.unchanged:
        run.path.advance(1)
    else:
        run.path.leave(run_step.cause)
    return run_step


def _reuse(run: Run, recorded: Recorded) -> RunStep:
    """A pure action that stands: its recording is all there is to it."""
    assert run.path.followed is not None
    run_step = run.path.followed.reuse(recorded)
    run.go_along(run_step)
    return run_step


class ActResult(NamedTuple):
    """What an action of a program gave; ``error``: what the tool raised instead."""

    value: Any
    position: int
    error: Exception | None


async def act(
    run: Run, tool: Tool, arguments: Mapping[str, Any], passed: Iterable[Place] = ()
) -> ActResult:
    """One action of a program. ``passed``: the decisions whose handles are among the arguments.

    Raises ArgumentsInvalid, and PreconditionChanged if what the write stands on moved, or may not
    have been known to a decision that chose it; then it did not happen.
    """
    chosen = run.family.choosers(passed) if tool.is_write else []
    with run.effects.acting(tool):
        done = await _act(run, tool, arguments, chosen)
    if done.run_step.outcome is Outcome.REFUSED:
        raise PreconditionChanged(
            f"{tool.name} was not executed: {done.run_step.cause}. Decide again with what is now."
        )
    return ActResult(done.output.value, done.run_step.step.position, done.output.error)


async def _act(
    run: Run, tool: Tool, arguments: Mapping[str, Any], chosen: Sequence[Chooser]
) -> _Done:
    action = await plan_act(run, tool, arguments)
    # A write must find the facts as they were before the decisions that chose it.
    noted = {ref: note for chooser in reversed(chosen) for ref, note in chooser.noted.items()}
    [done] = await _carry_out(run, [action], noted, EffectGate(run, chosen, final=True))
    if done.run_step.outcome is not Outcome.REFUSED:
        for chooser in chosen:
            chooser.guard_by(action.chosen_under)
    return done


async def _carry_out(
    run: Run, actions: Sequence[PlannedAction], noted: Mapping[FacetRef, Note], gate: EffectGate
) -> list[_Done]:
    await _note(run, actions, noted)
    await confirm_first(run, actions, gate.chosen)
    feeds = run.path.frontier if any(action.followed is None for action in actions) else ()
    if len(actions) == 1:
        done = [await _one(run, actions[0], gate, feeds)]
    else:
        turns = Turns(len(actions))
        work = (
            outlived(turns.finish(number, _one(run, action, gate, feeds, turns.of(number))))
            for number, action in enumerate(actions)
        )
        done = _all_of(await asyncio.gather(*work, return_exceptions=True))
    if gate.stopped is not None and gate.ask_again:
        raise gate.stopped
    for action, outcome in zip(actions, done, strict=True):
        outcome.run_step.followed = action.followed is not None
        if action.for_program and run.wish.run_id is not None:
            outcome.run_step.called = _called(action)
        run.take(outcome.run_step)
    if gate.stopped is not None:
        run.refuse(gate.stopped, gate.chosen)
    return done


def _all_of(done: Sequence[_Done | BaseException]) -> list[_Done]:
    """All outcomes, or the first trouble there was; by now no action is still at work."""
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome
    return [it for it in done if isinstance(it, _Done)]


async def _note(run: Run, actions: Sequence[PlannedAction], noted: Mapping[FacetRef, Note]) -> None:
    """Give the actions the facts they rest on: read now, unless the lookup just accepted them."""
    unnoted = []
    for action in actions:
        if action.recorded is not None and action.stands and not run.search.time_has_passed:
            action.notes = action.recorded.notes
        else:
            unnoted.append(action)
    if not unnoted:
        return
    wanted = [facet for action in unnoted for facet in action.facets]
    notes = {**noted, **await run.notes.take(facet for facet in wanted if facet not in noted)}
    for action in unnoted:
        action.notes = tuple(notes[facet] for facet in action.facets)


async def _one(
    run: Run,
    action: PlannedAction,
    gate: EffectGate,
    feeds: tuple[int, ...],
    turn: Turn | None = None,
) -> _Done:
    """Carry out one action: refuse it, reuse its recording, or run its tool."""
    if action.tool is None or action.parsed.arguments is None:
        return _finished(action, feeds, not_taken(action.parsed.problem))
    rendering = _rendering_of(run, action, action.tool)._replace(turn=turn)
    if (before := _standing(run, action, action.tool)) is not None:
        done = _finished(action, feeds, await what_it_gave(action.tool, before, rendering))
        return _stands(run, done, before)
    if (output := await reusable(run, action)) is not None:
        return _reused(action, action.tool, feeds, output)
    if action.tool.is_write:
        return await _perform(run, action, action.tool, gate=gate, feeds=feeds, rendering=rendering)
    key = key_of_read(run, action, action.tool) if action.tool.wants_key else ""
    return await _call(run, action, action.tool, feeds=feeds, rendering=rendering, key=key)


async def _perform(
    run: Run,
    action: PlannedAction,
    tool: Tool,
    *,
    gate: EffectGate,
    feeds: tuple[int, ...],
    rendering: Rendering,
) -> _Done:
    """Carry out a write, unless facts moved or it has happened before."""
    try:
        effect = action.intended or intent(run, action, tool)
    except ArgumentsInvalid as error:
        return _finished(action, feeds, not_taken(run.standins.hidden(str(error))))
    begun = await begin(run, action, effect, gate, rendering)
    if begun.instead is None and not begun.refused:
        effect = begun.effect
        return await _call(
            run,
            action,
            tool,
            feeds=feeds,
            rendering=rendering,
            key=effect.idempotency_key,
            effect=effect,
        )
    done = _instead(action, feeds, gate, begun)
    await explain(run, action, done.run_step)
    if begun.happened:
        done.run_step.known_by = known_by(effect)
        done.run_step.stands = run.wish.run_id is not None
    return done


async def _call(
    run: Run,
    action: PlannedAction,
    tool: Tool,
    *,
    feeds: tuple[int, ...],
    rendering: Rendering,
    key: str,
    effect: SideEffect | None = None,
) -> _Done:
    """Call a tool. ``effect``: what it has begun."""
    assert action.parsed.arguments is not None
    ticket, stopwatch = run.notes.ticket(), Stopwatch()
    cut_short = run.effects.may_be_cut_short(effect)
    with FactReads() as fact_reads, cut_short, through_a_call():
        result = await run_tool(tool, action.parsed.arguments, key, rendering, action.expected)
    times = stopwatch.times()
    if fact_reads.notes and effect is None:  # a write runs again anyway, and asks again
        action.notes = distinct(action.notes, fact_reads.notes)
    if effect is not None:
        effect = await end(run, tool, effect, result)
    if action.for_program and (tool.effect is Effect.PURE or tool.fresh_for):
        result = kept(action, tool, result)
    done = _finished(action, feeds, result)
    await explain(run, action, done.run_step)
    took(run, tool, done.run_step, times)
    if effect is not None:
        done.run_step.effect, done.run_step.known_by = effect, known_by(effect)
    _ended(run, action, done.run_step, ticket)
    _keep_whole(run, tool, done.run_step, result)
    return done


def _keep_whole(run: Run, tool: Tool, run_step: RunStep, output: Output) -> None:
    """Keep the marked values of an output, which a later run of the same id is to know."""
    if run.wish.run_id is not None and tool.has_marks and output.returned and output.is_output:
        run_step.whole = tool.whole(output.value)


def _called(action: PlannedAction) -> str:
    """What a call is known by, whatever the code of its tool is."""
    return hash_of("called", action.name, action.parsed.exact)


def _standing(run: Run, action: PlannedAction, tool: Tool) -> KeptStep | None:
    """A program's call that stands, as an earlier run of the same id has made it."""
    if not action.for_program or tool.is_write or run.wish.run_id is None:
        return None
    return run.history.call(_called(action))


def _stands(run: Run, done: _Done, before: KeptStep) -> _Done:
    step = done.run_step.step.model_copy(update={"guards": before.step.guards})
    run_step = stand(run, before, step)
    run_step.values = done.run_step.values
    return _Done(run_step, done.output)


def _instead(
    action: PlannedAction, feeds: tuple[int, ...], gate: EffectGate, begun: Begun
) -> _Done:
    """What stands in the place of an effect that did not begin."""
    if begun.instead is None:
        assert gate.stopped is not None
        return _refused(action, feeds, gate.stopped.cause)
    done = _finished(action, feeds, begun.instead)
    if begun.happened and done.run_step.outcome is not Outcome.DIVERGED:
        done.run_step.outcome = Outcome.REUSED
        done.run_step.noted = {note.guard.ref: note for note in action.notes}
    return done


def _rendering(run: Run, tool: Tool, decision: int | None, call: int = 0) -> Rendering:
    """How a model's call is rendered, which is known by where it stands in the conversation."""
    return Rendering(run.standins, f"{tool.name} {decision} {call}")


def _rendering_of(run: Run, action: PlannedAction, tool: Tool) -> Rendering:
    """How a program's call is rendered, which is known by what it says."""
    if action.for_program:
        return Rendering(run.standins, f"{tool.name} {action.parsed.exact} {action.occurrence}")
    return _rendering(run, tool, action.decision, action.call or 0)


def _ended(run: Run, action: PlannedAction, run_step: RunStep, ticket: int) -> None:
    """Have a later read of facts confirm what gave something new (I6, torn recordings)."""
    if not run_step.copied:
        run_step.ticket = ticket
        run.notes.ended(ticket, action.notes)


def _reused(action: PlannedAction, tool: Tool, feeds: tuple[int, ...], output: bytes) -> _Done:
    result = Output(output, tool.load(output) if action.for_program else None)
    assert action.recorded is not None
    if action.followed is not None:
        noted = action.recorded.noted
        followed = RunStep(action.recorded.step, Outcome.REUSED, output, noted=noted, copied=True)
        followed.trace = action.recorded.trace
        return _Done(followed, result)
    # It also rests on what its tool had asked for.
    action.notes = distinct(action.notes, action.recorded.notes)
    recorded = action.recorded.step
    step = action.step(feeds, Value.of(output), recorded.output_key, error=False).model_copy(
        update={"started_at": recorded.started_at, "duration_ms": recorded.duration_ms}
    )
    run_step = _run_step(action, Outcome.REUSED, step, output)
    run_step.noted = {note.guard.ref: note for note in action.notes}
    run_step.trace = action.recorded.trace
    return _Done(run_step, result)


def _refused(action: PlannedAction, feeds: tuple[int, ...], cause: Cause) -> _Done:
    output = encode(REFUSAL)
    step = action.step(feeds, Value.of(output), fingerprint(REFUSAL), error=True)
    run_step = _run_step(action, Outcome.REFUSED, step, output, cause)
    return _Done(run_step, Output(output, error=PreconditionChanged(REFUSAL)))


def _finished(action: PlannedAction, feeds: tuple[int, ...], result: Output) -> _Done:
    """What was carried out, compared with what is recorded of it."""
    recorded, failed = action.recorded, result.error is not None
    if recorded is None:
        outcome, cause, output_key = Outcome.EXECUTED, None, result.output_key
    else:
        same, output_key = _compared(action, recorded.step, result)
        anew = _read_anew(recorded.step, action.notes)
        if same and action.followed is not None and action.stands and not anew:
            step, output = recorded.step, action.followed.output(recorded.step)
            return _Done(RunStep(step, Outcome.REPLAYED, output, copied=True), result)
        outcome, cause = Outcome.REPLAYED, recorded.cause
        if not same:
            outcome, cause = Outcome.DIVERGED, _divergence(action, recorded, output_key)
    step = action.step(feeds, Value.of(result.data), output_key, error=failed)
    return _Done(_run_step(action, outcome, step, result.data, cause), result)


def _divergence(action: PlannedAction, recorded: Recorded, output_key: str) -> Cause:
    """Why an output is another one: the tool is, or what a reading tool rests on, else the world.

    What a write rests on only says whether it may be done.
    """
    cause = recorded.cause
    to_blame = _CODE if action.effect is not None and action.effect.writes else _CODE_OR_FACT
    if cause is not None and cause.kind in to_blame:
        return cause
    return Cause(MissKind.OUTPUT_DIVERGED, action.name, recorded.step.output_key, output_key)


def _read_anew(step: Step, notes: Iterable[Note]) -> bool:
    """Whether a tool asked for facts on which its recorded step does not rest."""
    return any(note.guard.id not in step.guards for note in notes)


def _compared(action: PlannedAction, step: Step, output: Output) -> tuple[bool, str]:
    """Whether the output is the recorded one, by its bytes if they are at hand; and its key."""
    same_kind = step.error == (output.error is not None)
    if same_kind and action.followed is not None and action.followed.output(step) == output.data:
        return True, step.output_key
    output_key = output.output_key
    return same_kind and step.output_key == output_key, output_key


def _run_step(
    action: PlannedAction, outcome: Outcome, step: Step, output: bytes, cause: Cause | None = None
) -> RunStep:
    values = (Value.of(action.parsed.dump), Value.of(output))
    return RunStep(step, outcome, output, cause=cause, notes=action.notes, values=values)
