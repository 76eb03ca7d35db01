"""What a run gives back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from ...graphstore.model import EffectState, Mode, StepKind, Usage
from .attempts import Attempt
from .cause import Cause, MissKind
from .hiding import shown_target, without_secrets
from .html import page, shortened, table
from .shadow import Agreement

__all__ = ["EffectReport", "Outcome", "Result", "StepReport"]

_LONGEST = 200  # characters of a line that is printed


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
        target: What it was done to: the arguments of the call, cut at 200 characters.
        idempotency_key: What the tool was given, so that the other side can tell a repetition.
        state: How far it came; an effect that was begun and gave no answer is in doubt.
        reused: It happened before, in another run, and was not to happen again.
        approved_by: Of one that was confirmed, who approved it, if that was said.
    """

    id: str
    tool: str
    target: str
    idempotency_key: str
    state: EffectState
    reused: bool = False
    approved_by: str | None = None


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
        miss: Why a model was asked, and why this run serves no later one, or not to its end; each
            cause once. Empty if there was neither.
        stop_reason: Why an agent's last reply ended, in the provider's word. What ended by
            ``max_tokens`` is cut, and such a run is not published. None of a program.
        saved_cost: The price of ``saved_tokens`` in US dollars; None if a part is not known.
        attempts: The requests that gave no answer (429, 529, 5xx, time-outs, streams that broke
            off), in order; what one of them was billed all the same is in ``usage``.
        waited_ms: How much of ``duration_ms`` was spent waiting for an equal run that was asking
            the model, in milliseconds.
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
    waited_ms: float = 0.0

    @property
    def tokens(self) -> int:
        """What this call cost, in tokens of all kinds, as billed."""
        return self.usage.total

    @property
    def shadow(self) -> Agreement:
        """How many replies were compared with recorded ones in a shadow run, and said the same;
        what differs stands in the causes of the steps."""
        asked = [it.cause.kind for it in self.steps if it.cause and it.kind is StepKind.DECISION]
        same, other = (asked.count(it) for it in (MissKind.SHADOW_SAME, MissKind.SHADOW_DIFFERS))
        return Agreement(same, same + other)

    def __str__(self) -> str:
        lines = [f"{self.mode} {self.execution_id}: {self._told}"]
        if self.output is not None:
            lines.append(f"output: {shortened(str(without_secrets(self.output)), _LONGEST)}")
        lines += [f"miss: {shortened(str(cause), _LONGEST)}" for cause in self.miss]
        for it in self.effects:
            lines.append(f"effect: {it.tool} {shown_target(it.target)} ({_became(it)})")
        return "\n".join(lines)

    @property
    def _told(self) -> str:
        return f"{self.tokens:,} tokens, {self.saved_tokens:,} saved, {self.duration_ms:,.0f} ms"

    def _repr_html_(self) -> str:
        head = ("", "step", "", "cause", "ms", "tokens", "saved")
        rows = [
            (
                *(position, f"{it.kind} {it.name}", it.outcome, it.cause),
                *(f"{it.duration_ms:,.0f}", f"{it.tokens:,}", f"{it.saved_tokens:,}"),
            )
            for position, it in enumerate(self.steps)
        ]
        of_steps = [it.cause for it in self.steps]
        effects = [(it.id, it.tool, shown_target(it.target), _became(it)) for it in self.effects]
        return page(
            f"{self.mode} {self.execution_id}",
            without_secrets(self.output),
            self._told,
            *(str(cause) for cause in self.miss if cause not in of_steps),
            table(head, rows, numbers=3),
            *([table(("effect", "tool", "target", "state"), effects)] if effects else []),
        )


def _became(effect: EffectReport) -> str:
    return f"{effect.state}, reused" if effect.reused else f"{effect.state}"
