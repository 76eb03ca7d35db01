"""Carrying out actions: reuse, or run and compare, under facts checked right before an effect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...graphstore.canonical import hash_of
from ...graphstore.model import FacetRef, SideEffect
from ..effects.effect_gate import EffectGate
from ..effects.performing import Begun, begin, confirm_first, end, intent, key_of_read
from ..errors import ArgumentsInvalid, PreconditionChanged
from ..exits import outlived
from ..outcome.result import Outcome
from ..run.begun_effects import known_by
from ..run.family import Chooser, Place
from ..run.inside import through_a_call
from ..run.planned_actions import PlannedAction, plan_act
from ..run.run import Run
from ..steps.kept_steps import KeptStep
from ..steps.noted_facts import Note, distinct
from ..steps.run_step import RunStep
from ..steps.stopwatch import Stopwatch
from ..tools.at_work import performing
from ..tools.output import Output, Rendering, Turn, not_taken, run_tool
from ..tools.tool import Tool
from .current import FactReads
from .diverged import explain
from .done import Done, finished, refused, reused
from .reuse import kept, reusable, took
from .standing import stand, what_it_gave
from .turns import Turns

__all__ = ["ActResult", "act", "carry_out", "ended", "keep_whole", "rendering_of_call"]


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
) -> Done:
    action = await plan_act(run, tool, arguments)
    # A write must find the facts as they were before the decisions that chose it.
    noted = {ref: note for chooser in reversed(chosen) for ref, note in chooser.noted.items()}
    [done] = await carry_out(run, [action], noted, EffectGate(run, chosen, final=True))
    if done.run_step.outcome is not Outcome.REFUSED:
        for chooser in chosen:
            chooser.guard_by(action.chosen_under)
    return done


async def carry_out(
    run: Run, actions: Sequence[PlannedAction], noted: Mapping[FacetRef, Note], gate: EffectGate
) -> list[Done]:
    """Carry out these at the same time, and take their steps into the run in their order.

    ``noted``: what is noted already of the facts that they rest on. Raises AskAgain if ``gate``
    finds that facts moved, and the decision may be asked anew.
    """
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


def _all_of(done: Sequence[Done | BaseException]) -> list[Done]:
    """All outcomes, or the first trouble there was; by now no action is still at work."""
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome
    return [it for it in done if isinstance(it, Done)]


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
) -> Done:
    """Carry out one action: refuse it, reuse its recording, or run its tool."""
    if action.tool is None or action.parsed.arguments is None:
        return finished(action, feeds, not_taken(action.parsed.problem))
    rendering = _rendering_of(run, action, action.tool)._replace(turn=turn)
    if (before := _standing(run, action, action.tool)) is not None:
        done = finished(action, feeds, await what_it_gave(action.tool, before, rendering))
        return _stands(run, done, before)
    if (output := await reusable(run, action)) is not None:
        return reused(action, action.tool, feeds, output)
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
) -> Done:
    """Carry out a write, unless facts moved or it has happened before."""
    try:
        effect = action.intended or intent(run, action, tool)
    except ArgumentsInvalid as error:
        return finished(action, feeds, not_taken(run.standins.hidden(str(error))))
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
) -> Done:
    """Call a tool. ``effect``: what it has begun."""
    assert action.parsed.arguments is not None
    ticket, stopwatch = run.notes.ticket(), Stopwatch()
    cut_short = run.effects.may_be_cut_short(effect, tool)
    at_work = performing(None if effect is None else effect.id)
    with FactReads() as fact_reads, cut_short, at_work, through_a_call():
        result = await run_tool(tool, action.parsed.arguments, key, rendering, action.expected)
    times = stopwatch.times()
    if fact_reads.notes and effect is None:  # a write runs again anyway, and asks again
        action.notes = distinct(action.notes, fact_reads.notes)
    if effect is not None:
        effect = await end(run, tool, effect, result)
    if action.for_program and tool.is_reused and not tool.has_marks:
        result = kept(action, tool, result)
    done = finished(action, feeds, result)
    await explain(run, action, done.run_step)
    took(run, tool, done.run_step, times)
    if effect is not None:
        done.run_step.effect, done.run_step.known_by = effect, known_by(effect)
    ended(run, action, done.run_step, ticket)
    keep_whole(run, tool, done.run_step, result)
    return done


def keep_whole(run: Run, tool: Tool, run_step: RunStep, output: Output) -> None:
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


def _stands(run: Run, done: Done, before: KeptStep) -> Done:
    step = done.run_step.step.model_copy(update={"guards": before.step.guards})
    run_step = stand(run, before, step)
    run_step.values = done.run_step.values
    return Done(run_step, done.output)


def _instead(action: PlannedAction, feeds: tuple[int, ...], gate: EffectGate, begun: Begun) -> Done:
    """What stands in the place of an effect that did not begin."""
    if begun.instead is None:
        assert gate.stopped is not None
        return refused(action, feeds, gate.stopped.cause)
    done = finished(action, feeds, begun.instead)
    if begun.happened and done.run_step.outcome is not Outcome.DIVERGED:
        done.run_step.outcome = Outcome.REUSED
        done.run_step.noted = {note.guard.ref: note for note in action.notes}
    return done


def rendering_of_call(run: Run, tool: Tool, decision: int | None, call: int = 0) -> Rendering:
    """How a model's call is rendered, which is known by where it stands in the conversation."""
    return Rendering(run.standins, f"{tool.name} {decision} {call}")


def _rendering_of(run: Run, action: PlannedAction, tool: Tool) -> Rendering:
    """How a program's call is rendered, which is known by what it says."""
    if action.for_program:
        return Rendering(run.standins, f"{tool.name} {action.parsed.exact} {action.occurrence}")
    return rendering_of_call(run, tool, action.decision, action.call or 0)


def ended(run: Run, action: PlannedAction, run_step: RunStep, ticket: int) -> None:
    """Have a later read of facts confirm what gave something new (I6, torn recordings)."""
    if not run_step.copied:
        run_step.ticket = ticket
        run.notes.ended(ticket, action.notes)
