"""The calls of a reply: followed, reused, gone on with, or carried out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..effects.effect_gate import EffectGate
from ..errors import ArgumentsInvalid
from ..lookup.judging import Recorded
from ..lookup.plan import Decision
from ..model.client import Call, CallResult
from ..outcome.result import Outcome
from ..run.family import Chooser
from ..run.inside import through_a_call
from ..run.planned_actions import plan_call, plan_on_path
from ..run.run import Run
from ..steps.kept_steps import KeptStep
from ..steps.noted_facts import distinct
from ..steps.run_step import RunStep
from ..steps.stopwatch import Stopwatch
from ..tools.output import Rendering, not_taken, run_tool
from ..tools.parsed_call import parse_served, real_text
from .actions import carry_out, ended, keep_whole, rendering_of_call
from .current import FactReads
from .diverged import explain
from .done import as_called, finished, read_anew
from .reuse import may_reuse, took
from .standing import stand_action

__all__ = ["act_on"]


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
    return [it.run_step for it in await carry_out(run, actions, decision.noted, gate)]


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
    text, stopwatch = call.text, Stopwatch()
    with FactReads() as fact_reads, through_a_call():
        try:
            text = real_text(call, run.standins)
            arguments = tool.parse(text)
            output = await run_tool(
                tool, arguments, "", rendering_of_call(run, tool, step.decision), known
            )
        except ArgumentsInvalid as error:
            output = not_taken(run.standins.hidden(str(error)))
    times = stopwatch.times()
    same = output.error is None and output.data == known.data
    if same and not (fact_reads.notes and read_anew(step, fact_reads.notes)):
        if text is call.text:
            run_step = RunStep(step, Outcome.REPLAYED, known.data, copied=True)
        else:
            parsed = parse_served(tool, call, followed.arguments(step), run.standins)
            run_step = as_called(step, parsed, known.data)
        took(run, tool, run_step, times)
        keep_whole(run, tool, run_step, output)
        run.go_along(run_step)
        return run_step
    parsed = parse_served(tool, call, followed.arguments(step), run.standins)
    action = plan_on_path(run, followed, recorded, parsed)
    action.notes = distinct(recorded.notes, fact_reads.notes)
    done = finished(action, (), output)
    await explain(run, action, done.run_step)
    run_step = done.run_step
    took(run, tool, run_step, times)
    keep_whole(run, tool, run_step, output)
    run_step.followed = True
    ended(run, action, run_step, run.notes.ticket())
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
