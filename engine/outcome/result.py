"""What a run gives back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from ...graphstore.model import EffectState, Mode, StepKind, Usage
from .attempts import Attempt
from .cause import Cause

__all__ = ["EffectReport", "Outcome", "Result", "StepReport"]


class Outcome(StrEnum):
    """What became of a step.

    A decision was asked or replayed. An action was any of the others, or replayed.

    Attributes:
        ASKED: The model was called.
        REPLAYED: Of a decision: its recorded reply was used, and the model was not called. Of an
            action: the tool ran again and gave the recorded output.
        EXECUTED: The tool ran, and nothing was recorded to compare its output with.
        REUSED: The recorded output was used, and the tool did not run.
        DIVERGED: The tool ran again and gave another output than the recorded one.
        REFUSED: The tool did not run, because a fact moved right before it.
    """

    ASKED = "asked"
    REPLAYED = "replayed"
    EXECUTED = "executed"
    REUSED = "reused"
    DIVERGED = "diverged"
    REFUSED = "refused"


class StepReport(NamedTuple):
    """One step of a run.

    Attributes:
        kind: A decision of the model or an action of a tool.
        name: The model's or the tool's name.
        outcome: What became of it.
        tokens: What it cost in this run, in tokens as billed.
        saved_tokens: What it had cost when it was recorded, in tokens; 0 if it was asked now.
        duration_ms: How long it took in this run, in milliseconds.
        cause: Why it was not simply served; None if it was.
        error: The tool raised, or could not be run; the model is told so.
    """

    kind: StepKind
    name: str
    outcome: Outcome
    tokens: int = 0
    saved_tokens: int = 0
    duration_ms: float = 0.0
    cause: Cause | None = None
    error: bool = False


@dataclass(frozen=True, slots=True)
class EffectReport:
    """One effect of a run.

    Attributes:
        id: The effect's id in the store.
        tool: The name of the tool whose write it is.
        target: What it was done to: the resources that the tool requires.
        idempotency_key: What the tool was given, so that the other side can tell a repetition.
        state: How far it came; an effect that was begun and gave no answer is in doubt.
    """

    id: str
    tool: str
    target: str
    idempotency_key: str
    state: EffectState


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one run that came to its end.

    Attributes:
        output: What the run came to: an agent's last text, or what a program set.
        execution_id: By which ``why``, ``graph`` and Cypher find the run.
        mode: ``live``, ``partial`` (something was served and something asked) or ``replay``. A tool
            that ran again counts as neither.
        steps: Each step, in order.
        usage: What this call cost, by kind of token, as billed; failed attempts included.
        saved_tokens: What the recorded run had paid, in tokens, for what was not asked now.
        cost: The price of ``usage`` in US dollars; None if the price of a part is not known.
        recorded: A later run can be served from this one.
        replayed: No model was called.
        identical: Replayed, and every action gave its recorded output.
        duration_ms: From the call to the result, in milliseconds.
        effects: What was done to the outside, in order.
        miss: Why a model was asked, each cause once; empty if none was.
        stop_reason: Why an agent's last reply ended, in the provider's word. What ended by
            ``max_tokens`` is cut, and such a run is not published. None of a program.
        saved_cost: The price of ``saved_tokens`` in US dollars; None if a part is not known.
        attempts: The requests that gave no answer (429, 529, 5xx, time-outs, streams that broke
            off), in order; what one of them was billed all the same is in ``usage``.
    """

    output: Any
    execution_id: str
    mode: Mode
    steps: tuple[StepReport, ...]
    usage: Usage
    saved_tokens: int
    cost: float | None
    recorded: bool
    replayed: bool
    identical: bool
    duration_ms: float
    effects: tuple[EffectReport, ...]
    miss: tuple[Cause, ...]
    stop_reason: str | None = None
    saved_cost: float | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def tokens(self) -> int:
        """What this call cost, in tokens of all kinds, as billed."""
        return self.usage.total
