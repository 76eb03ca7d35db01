"""Effects that happen at most once: what they are known by, and what there is of them already."""

from __future__ import annotations

import asyncio
import itertools

from ...graphstore.canonical import encode, fingerprint, hash_of
from ...graphstore.model import SideEffect
from ..errors import EffectInDoubt
from ..run.planned_actions import PlannedAction
from ..run.run import Run
from ..sessions.at_work import runs_here
from ..sessions.process import is_dead, this_process
from ..tools.at_work import is_at_work
from ..tools.output import Output, Rendering, not_taken, output_again
from ..tools.tool import Tool
from .effect_gate import EffectGate

__all__ = ["PAUSES", "begin_or_find", "known_by", "may_have_happened", "output_of"]

#: What is waited for an effect that somebody else has begun, in seconds: about ten in all.
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2)


def known_by(run: Run, action: PlannedAction, tool: Tool, arguments: str) -> str:
    """What an effect is known by that happens once. ``arguments``: their fingerprint.

    Without ``once_per`` it is the agent, the tool, the task and the arguments with their real
    values, and how many equal effects the run has begun before; no code and no fact. Raises
    ArgumentsInvalid.
    """
    assert action.parsed.arguments is not None
    if (per := tool.once_per(action.parsed.arguments, run.inputs)) is not None:
        return hash_of("once", tool.name, per)
    task = run.spec.task
    given = fingerprint([task.inputs.json, None if task.context is None else task.context.json])
    equal = (
        hash_of("once", run.definition.name, tool.name, given, arguments, before)
        for before in itertools.count()
    )
    return next(key for key in equal if run.effects.claim(key))


async def begin_or_find(
    run: Run, gate: EffectGate, action: PlannedAction, effect: SideEffect
) -> SideEffect | None:
    """Begin an effect, or give the one of before; None if facts moved. One that somebody else is
    about to perform is waited for, in another run not for ever: then EffectInDoubt is raised."""
    pauses = iter(PAUSES)
    while True:
        found = await gate.begin(effect, action)
        if found is None or found.id == effect.id or not _awaited(found, effect):
            return found
        if run.effects.in_doubt(effect) is not None:
            return found
        pause = next(pauses, PAUSES[-1] if run.effects.has_begun(found) else None)
        if pause is None or _is_over(found):
            raise EffectInDoubt(found, run.store)
        await asyncio.sleep(pause)


def _is_over(found: SideEffect) -> bool:
    """Whether nobody is at an effect any more, as far as can be known here."""
    here = found.process is not None and found.process == this_process()
    return is_dead(found.process) or (
        here and not runs_here(found.execution) and not is_at_work(found.id)
    )


def _awaited(found: SideEffect, effect: SideEffect) -> bool:
    same = found.arguments_key == effect.arguments_key
    return same and found.is_in_doubt


def may_have_happened(run: Run, tool: Tool, effect: SideEffect) -> Output:
    """What a caller is told who repeats a call that failed."""
    problem = (
        f"{tool.name} was not called again: it failed before with these arguments, may have done"
        " what it does all the same, and is to do it at most once"
    )
    return Output(encode(problem), error=EffectInDoubt(effect, run.store), returned=False)


async def output_of(
    run: Run, tool: Tool, effect: SideEffect, earlier: SideEffect, rendering: Rendering
) -> Output:
    """What an effect gave when it happened, or why its tool is not called."""
    if earlier.arguments_key != effect.arguments_key:
        return not_taken(
            f"{tool.name} was not called: its effect is to happen once, and was begun with other"
            f" arguments (it is the effect {earlier.id})"
        )
    if earlier.is_in_doubt:
        return may_have_happened(run, tool, earlier)
    if earlier.output_text is None:
        text = encode(f"{tool.name} is done; do not repeat it. What it gave was not kept.")
        return Output(text, is_output=False)
    return await output_again(tool, earlier.output_text.encode(), rendering)
