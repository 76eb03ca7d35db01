"""Which recorded outputs stand for running a tool: those of pure tools, and of reads for a time."""

from __future__ import annotations

import time

from ...graphstore.model import Effect, Step
from ..run.planned_actions import PlannedAction
from ..run.run import Run
from ..sessions.reads import Reads
from ..steps.run_step import RunStep
from ..steps.stopwatch import Times
from ..tools.output import Output
from ..tools.tool import Tool

__all__ = ["is_as_good", "kept", "may_reuse", "reusable", "took"]


def may_reuse(run: Run, tool: Tool, step: Step) -> bool:
    """Whether an action of the path that stood at the lookup stands now, and is not to run."""
    if tool.has_marks or not is_as_good(run.session.reads, tool, step):
        return False
    # What its tool depends on may have become something else since the lookup.
    return not run.search.time_has_passed and tool.code_key == step.code_key


def is_as_good(reads: Reads, tool: Tool, step: Step) -> bool:
    """Whether a recorded output is as good as a new one: of a pure tool, or of a read that is not
    older than its tool allows."""
    if tool.effect is Effect.PURE or (fresh_ms := tool.fresh_ms) is None:
        return tool.effect is step.effect is Effect.PURE
    began = reads.last(step)
    if step.effect is not Effect.READ or began is None:
        return False
    age = time.time_ns() // 1_000_000 - began
    return 0 <= age <= fresh_ms


async def reusable(run: Run, action: PlannedAction) -> bytes | None:
    """The recorded output of an action that is not to run; errors are never reused."""
    recorded = action.recorded
    if (
        not run.may_serve
        or action.tool is None
        or recorded is None
        or not action.stands
        or recorded.step.error
    ):
        return None
    if action.parsed.is_bound or action.tool.has_marks:  # it is recorded of other values
        return None
    if not is_as_good(run.session.reads, action.tool, recorded.step):
        return None
    if action.tool.effect is Effect.READ and not action.guards_hold:
        return None
    return await run.search.output(recorded)


def kept(action: PlannedAction, tool: Tool, output: Output) -> Output:
    """An output as it can be given to a program again; else the tool is run again, as a read is."""
    # While it ran, what it depends on may have become something else.
    same = output.is_output and output.error is None and tool.code_key == action.code_key
    data = tool.keep(output.value) if same else None
    pure = tool.effect is Effect.PURE
    action.effect = tool.effect if data is not None else Effect.READ if pure else None
    return output if data is None else output._replace(data=data, key="")


def took(run: Run, tool: Tool, run_step: RunStep, times: Times) -> None:
    """Note when a tool ran."""
    run_step.times = times
    if tool.fresh_for is not None and not run_step.step.error:
        run.session.reads.note(run_step.step, times.started_at)
