"""What an act is: its runs, measured, and what is claimed and checked about them.

Three parties count, and none knows of the others: the server its requests and tokens, the world
what happened to it, the engine what it reports in its results. An act's claims compare them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...engine.outcome.result import Outcome
from .agent import TASK
from .world import Effects

if TYPE_CHECKING:
    from ...engine.asking.why import Why
    from ...engine.outcome.result import Result
    from ...graphstore.cypher import Table
    from ...invalidation.impact import Impact
    from .stage import Stage

__all__ = ["Act", "Answer", "Audience", "Claim", "Figures", "figures", "perform"]


_NONE = Effects(0, 0)


@dataclass(frozen=True)
class Claim:
    """A sentence, and whether it turned out to be true."""

    text: str
    expected: Any
    found: Any

    @property
    def holds(self) -> bool:
        """Whether ``found`` equals ``expected``."""
        return bool(self.expected == self.found)


@dataclass(frozen=True)
class Figures:
    """One run, measured. The engine's own time is what neither tools nor model took."""

    total_ms: float
    tools_ms: float
    model_ms: float
    tokens: int
    saved_tokens: int
    cost: float | None

    @property
    def engine_ms(self) -> float:
        """Total less tools less model."""
        return self.total_ms - self.tools_ms - self.model_ms


@dataclass(frozen=True)
class Answer:
    """A question that was put to the graph, in words and in Cypher, and its answer."""

    question: str
    query: str
    table: Table


@dataclass
class Act:
    """One act: its runs, what others counted meanwhile, and its claims. Times are medians.

    ``impact``: what was foreseen of the act's change. ``naive``: what a cache keyed by the
    request's text did to the machine at that time. ``why``: of the last run.
    """

    key: str
    title: str
    about: str
    runs: list[Figures] = field(default_factory=list)
    requests: int = 0
    billed_tokens: int | None = None
    effects: Effects = _NONE
    claims: list[Claim] = field(default_factory=list)
    result: Result | None = None  # of the last run
    impact: Impact | None = None
    naive: Effects | None = None
    answer: Answer | None = None
    why: Why | None = None

    @property
    def holds(self) -> bool:
        """Whether all claims hold."""
        return all(claim.holds for claim in self.claims)

    @property
    def tokens(self) -> int:
        """What the runs cost together."""
        return sum(run.tokens for run in self.runs)

    @property
    def cost(self) -> float | None:
        """US dollars together; None if the model's price is not known."""
        costs = [run.cost for run in self.runs if run.cost is not None]
        return sum(costs) if len(costs) == len(self.runs) else None

    def median(self, of: Callable[[Figures], float]) -> float:
        """The median over the runs."""
        return statistics.median(of(run) for run in self.runs)


class Audience(Protocol):
    """What is called as the play goes on, to show it."""

    def begins(self, act: Act, runs: int) -> None:
        """An act of so many runs begins."""

    def ran(self, act: Act) -> None:
        """One more run of the act is over."""

    def ends(self, act: Act) -> None:
        """The act is over, and checked."""


async def perform(act: Act, stage: Stage, audience: Audience, runs: int = 1) -> None:
    """Run the task in this act, and read everybody's counters before and after."""
    audience.begins(act, runs)
    requests, billed = stage.requests(), stage.billed_tokens()
    effects = stage.world.effects
    results = []
    for _ in range(runs):
        worked = stage.world.worked_ms
        result = await stage.agent.execute(TASK)
        act.runs.append(figures(result, stage.world.worked_ms - worked))
        results.append(result)
        audience.ran(act)
    act.result = results[-1]
    act.requests = stage.requests() - requests
    act.effects = stage.world.effects.since(effects)
    if billed is not None:
        act.billed_tokens = (stage.billed_tokens() or 0) - billed
        act.claims.append(
            Claim("tokens agree with the server's count", act.billed_tokens, act.tokens)
        )
    reported = sum(len(result.effects) for result in results)
    act.claims.append(Claim("effects agree with the machine's count", act.effects.total, reported))
    if runs > 1:
        identical = sum(result.identical for result in results)
        act.claims.append(Claim(f"all {runs} were identical", runs, identical))


def figures(result: Result, tools_ms: float) -> Figures:
    """One run, measured."""
    asked = (step for step in result.steps if step.outcome is Outcome.ASKED)
    return Figures(
        total_ms=result.duration_ms,
        tools_ms=tools_ms,
        model_ms=sum(step.duration_ms for step in asked),
        tokens=result.tokens,
        saved_tokens=result.saved_tokens,
        cost=result.cost,
    )
