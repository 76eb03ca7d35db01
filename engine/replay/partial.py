"""What becomes of a run that would be served in part only: its caller's choice, before the first
effect."""

from __future__ import annotations

from ..errors import AgentError
from ..outcome.cause import Cause
from ..outcome.run_plan import RunPlan
from ..run.callers import answer_of
from ..run.run import Run
from ..run.spec import MustNotAsk, OnPartial
from .foreseen import so_far

__all__ = ["GoLive", "StopPartial", "before_asking", "choice"]

_CHOICES = ("continue", "live", "stop")


class GoLive(Exception):
    """A run is to begin anew, and to be served nothing."""

    def __init__(self, cause: Cause) -> None:
        self.cause = cause
        super().__init__(str(cause))


class StopPartial(MustNotAsk):
    """A run that was served something is to end where a model would have to be asked."""

    why = "on_partial= stops a run that would be served in part only"


async def choice(on_partial: OnPartial, plan: RunPlan) -> str:
    """What is to become of a run that would be partial. Raises AgentError."""
    chosen = on_partial if isinstance(on_partial, str) else await answer_of(on_partial, plan)
    if chosen not in _CHOICES:
        raise AgentError(
            f"on_partial= gave {chosen!r}; it is to give one of {', '.join(map(repr, _CHOICES))}"
        )
    return chosen


async def before_asking(run: Run, cause: Cause) -> None:
    """Ask the caller right before the first question of a run that was served something, if no
    effect has begun. Raises GoLive, StopPartial."""
    served = any(run_step.served for run_step in run.path.run_steps)
    if not served or run.effects.begun or (on_partial := run.take_on_partial()) is None:
        return
    match await choice(on_partial, so_far(run, cause)):
        case "live":
            raise GoLive(cause)
        case "stop":
            raise StopPartial(cause)
