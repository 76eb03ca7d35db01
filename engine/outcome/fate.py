"""What becomes of a step, as far as it matters for what it costs."""

from __future__ import annotations

from enum import StrEnum

from ...graphstore.model import StepKind
from .result import Outcome

__all__ = ["Fate", "fate_of"]


class Fate(StrEnum):
    """What became of a step, or would, as far as it matters for what it costs.

    ``served``: neither asked nor run. ``run again``: its tool was called, and its output
    compared. ``executed``: nothing was recorded of it. ``unknown``: the run kept no report.
    """

    SERVED = "served"
    RUN_AGAIN = "run again"
    ASKED = "asked"
    EXECUTED = "executed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


def fate_of(kind: StepKind, outcome: Outcome | None) -> Fate:
    """The fate of a step that came out so; ``outcome`` None: that is not known."""
    if outcome is Outcome.REPLAYED and kind is StepKind.DECISION:
        return Fate.SERVED
    return Fate.UNKNOWN if outcome is None else _FATES[outcome]


_FATES = {
    Outcome.ASKED: Fate.ASKED,
    Outcome.REUSED: Fate.SERVED,
    Outcome.REPLAYED: Fate.RUN_AGAIN,
    Outcome.DIVERGED: Fate.RUN_AGAIN,
    Outcome.EXECUTED: Fate.EXECUTED,
    Outcome.REFUSED: Fate.REFUSED,
}
