"""What came of an action: told from what is recorded of it, and compared with that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...graphstore.canonical import encode, fingerprint
from ...graphstore.model import Step, Value
from ..errors import PreconditionChanged
from ..lookup.judging import Recorded
from ..outcome.cause import Cause, MissKind
from ..outcome.result import Outcome
from ..run.planned_actions import PlannedAction
from ..steps.noted_facts import Note, distinct
from ..steps.run_step import RunStep
from ..tools.output import Output
from ..tools.parsed_call import ParsedCall
from ..tools.tool import Tool

__all__ = ["Done", "as_called", "finished", "read_anew", "refused", "reused"]

_REFUSAL = "precondition changed, not executed"
#: What can make a tool give something else. A fact that nobody looked after need not have changed.
_CODE = {MissKind.CODE_CHANGED}
_CODE_OR_FACT = _CODE | {MissKind.PRECONDITION_CHANGED, MissKind.PRECONDITION_WITHDRAWN}


class Done(NamedTuple):
    """A step carried out, and what came of it for the program that asked."""

    run_step: RunStep
    output: Output


def reused(action: PlannedAction, tool: Tool, feeds: tuple[int, ...], output: bytes) -> Done:
    """An action for which its recorded output stands."""
    result = Output(output, tool.load(output) if action.for_program else None)
    assert action.recorded is not None
    if action.followed is not None:
        noted = action.recorded.noted
        followed = RunStep(action.recorded.step, Outcome.REUSED, output, noted=noted, copied=True)
        followed.trace = action.recorded.trace
        return Done(followed, result)
    # It also rests on what its tool had asked for.
    action.notes = distinct(action.notes, action.recorded.notes)
    recorded = action.recorded.step
    step = action.step(feeds, Value.of(output), recorded.output_key, error=False).model_copy(
        update={"started_at": recorded.started_at, "duration_ms": recorded.duration_ms}
    )
    run_step = _run_step(action, Outcome.REUSED, step, output)
    run_step.noted = {note.guard.ref: note for note in action.notes}
    run_step.trace = action.recorded.trace
    return Done(run_step, result)


def refused(action: PlannedAction, feeds: tuple[int, ...], cause: Cause) -> Done:
    """A write that was not begun, since facts moved."""
    output = encode(_REFUSAL)
    step = action.step(feeds, Value.of(output), fingerprint(_REFUSAL), error=True)
    run_step = _run_step(action, Outcome.REFUSED, step, output, cause)
    return Done(run_step, Output(output, error=PreconditionChanged(_REFUSAL)))


def finished(action: PlannedAction, feeds: tuple[int, ...], result: Output) -> Done:
    """What was carried out, compared with what is recorded of it."""
    recorded, failed = action.recorded, result.error is not None
    if recorded is None:
        outcome, cause, output_key = Outcome.EXECUTED, None, result.output_key
    else:
        same, output_key = _compared(action, recorded.step, result)
        anew = read_anew(recorded.step, action.notes)
        if same and action.followed is not None and action.stands and not anew:
            output = action.followed.output(recorded.step)
            return Done(as_called(recorded.step, action.parsed, output), result)
        outcome, cause = Outcome.REPLAYED, recorded.cause
        if not same:
            outcome, cause = Outcome.DIVERGED, _divergence(action, recorded, output_key)
    step = action.step(feeds, Value.of(result.data), output_key, error=failed)
    return Done(_run_step(action, outcome, step, result.data, cause), result)


def as_called(step: Step, parsed: ParsedCall, output: bytes) -> RunStep:
    """A recorded action that gave what is recorded, with the arguments that it had now: marked
    values in them are others."""
    run_step = RunStep(step, Outcome.REPLAYED, output, copied=True)
    if parsed.is_bound and (arguments := Value.of(parsed.dump)).digest != step.arguments:
        run_step.step = step.model_copy(update={"arguments": arguments.digest})
        run_step.values = (arguments,)
    return run_step


def _divergence(action: PlannedAction, recorded: Recorded, output_key: str) -> Cause:
    """Why an output is another one: the tool is, or what a reading tool rests on, else the world.

    What a write rests on only says whether it may be done.
    """
    cause = recorded.cause
    to_blame = _CODE if action.effect is not None and action.effect.writes else _CODE_OR_FACT
    if cause is not None and cause.kind in to_blame:
        return cause
    return Cause(MissKind.OUTPUT_DIVERGED, action.name, recorded.step.output_key, output_key)


def read_anew(step: Step, notes: Iterable[Note]) -> bool:
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
