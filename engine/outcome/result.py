"""What a run gives back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from ...graphstore.model import EffectState, Mode, StepKind, Usage
from .cause import Cause

__all__ = ["EffectReport", "Outcome", "Result", "StepReport"]


class Outcome(StrEnum):
    """What became of a step.

    A decision is ``asked`` or ``replayed`` (not asked). An action is ``executed`` (nothing was
    recorded), ``replayed`` (run again, same output), ``reused`` (not run), ``diverged`` (run
    again, other output) or ``refused`` (not run, because a fact moved right before it).
    """

    ASKED = "asked"
    REPLAYED = "replayed"
    EXECUTED = "executed"
    REUSED = "reused"
    DIVERGED = "diverged"
    REFUSED = "refused"


class StepReport(NamedTuple):
    """One step of a run. ``tokens``: paid now; ``saved_tokens``: paid when it was recorded."""

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
    """One effect: performed by this run, or in doubt if it was begun and gave no answer."""

    id: str
    tool: str
    target: str
    idempotency_key: str
    state: EffectState


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one run.

    ``tokens``: what this call cost, as billed. ``saved_tokens``: what the recorded run had paid
    for what was not asked. ``cost`` and ``saved_cost``: of these in US dollars; None if a part is
    not known. ``mode``: ``partial`` if something was served (a decision, or an action that was
    reused) and something asked; a tool that ran again was not served. ``recorded``: a trace was
    committed. ``replayed``: no model call was made. ``identical``: replayed, and every action gave
    its recorded output. ``miss``: why a model was asked; of a run that asked nobody, nothing.
    ``stop_reason``: of an agent, why the reply that gave the output ended, in the provider's word;
    what ended by ``max_tokens`` is cut, and such a run is not published. None of a program.
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

    @property
    def tokens(self) -> int:
        return self.usage.total
