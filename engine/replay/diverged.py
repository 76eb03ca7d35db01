"""Where the output of an action differs from the recorded one, and whether it does so each time.

It only explains a miss. It reads the outputs of a few recordings, and what models said in them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from ...graphstore.canonical import Json, canonical, decode
from ...graphstore.errors import ExecgraphError
from ...graphstore.model import Effect, Step, StepKind, Trace
from ..generalising.fields import LEAST_VALUES
from ..generalising.recurring import Compared
from ..keys.standins import StandIns
from ..outcome.cause import MissKind, Recurring
from ..outcome.differences import differences
from ..run.planned_actions import PlannedAction
from ..run.run import Run
from ..steps.run_step import RunStep

__all__ = ["explain"]

_TRACES = 4  # whose outputs are read
_REPLIES = 32  # that are read of them, and so many messages of programs
_TOLD_WHOLE = 0  # stands in for an output


async def explain(run: Run, action: PlannedAction, run_step: RunStep) -> None:
    """Say where an output differs from the recorded one, and what of it does on every run."""
    cause = run_step.cause
    if cause is None or cause.kind is not MissKind.OUTPUT_DIVERGED or action.recorded is None:
        return
    known, digest = action.expected, action.recorded.step.output
    payloads = {digest: known.data} if known else await run.search.payloads([digest])
    if payloads:
        before, after = decode(payloads[digest]), decode(run_step.output)
        recurring = await _recurring(run, run_step.step, before, after)
        where = differences(before, after)
        cause = replace(cause, differences=where, recurring=recurring)
    if run.spec.shadow and action.stands and action.effect is Effect.PURE:
        # A replay would not have run it: what serves is not changed by looking at it.
        cause = replace(cause, kind=MissKind.SHADOW_DIFFERS)
        run.account.do_not_publish(cause)
    run_step.cause = cause


async def _recurring(run: Run, step: Step, before: Json, after: Json) -> Recurring | None:
    try:
        traces = (await run.search.all_traces())[:_TRACES]
        recorded = [it for trace in traces for it in trace.steps if _is_same(it, step)]
        if len(recorded) + 1 < LEAST_VALUES:
            return None
        values = await run.search.payloads(sorted({it.output for it in recorded}))
        others = [decode(values[it.output]) for it in recorded if it.output in values]
        compared = Compared(step.name, after, before, others)
        if not (fields := compared.recurring):
            return None
        return compared.marked(fields, await _said(run, traces, others))
    except (ExecgraphError, ValueError, RecursionError):
        return None


async def _said(run: Run, traces: Iterable[Trace], outputs: Iterable[Json]) -> list[str]:
    """What models said, and what a program told them of its ``outputs`` in words of its own: where
    it sends one whole, what is unseen is left out of that."""
    asked = [it for trace in traces for it in trace.steps if it.kind is StepKind.DECISION]
    replies = dict.fromkeys(it.output for it in asked[:_REPLIES])
    told = [] if run.definition.follows else [it.messages for it in asked[:_REPLIES]]
    messages = dict.fromkeys(list(chain.from_iterable(told))[:_REPLIES])
    payloads = await run.search.payloads(sorted(replies | messages))
    whole = StandIns("")
    for output in outputs:
        whole.remember(output, _TOLD_WHOLE)
    texts = [decode(payloads[it]) for it in replies if it in payloads]
    texts += [whole.hide(decode(payloads[it])) for it in messages if it in payloads]
    return [canonical(it).decode() for it in texts]


def _is_same(recorded: Step, step: Step) -> bool:
    is_there = (recorded.key, recorded.occurrence) == (step.key, step.occurrence)
    return is_there and not recorded.error
