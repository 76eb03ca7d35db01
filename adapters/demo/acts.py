"""The acts: what is done, what is measured, and what is claimed and checked about it.

Three parties count, and none knows of the others: the server its requests and tokens, the world
what happened to it, the engine what it reports in its results. An act's claims compare them.
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...engine.result import Outcome
from ...graphstore.model import Mode, StepKind
from .agent import TASK
from .world import Effects

if TYPE_CHECKING:
    from ...engine.result import Result
    from .stage import Stage

__all__ = ["Act", "Audience", "Claim", "Figures", "play"]


_NONE = Effects(0, 0)


@dataclass(frozen=True)
class Claim:
    """A sentence, and whether it turned out to be true."""

    text: str
    expected: Any
    found: Any

    @property
    def holds(self) -> bool:
        """Whether what was found is what was expected."""
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


@dataclass
class Act:
    """One act: its runs, what others counted meanwhile, and its claims. Times are medians."""

    key: str
    title: str
    about: str
    runs: list[Figures] = field(default_factory=list)
    requests: int = 0
    billed_tokens: int | None = None
    effects: Effects = _NONE
    claims: list[Claim] = field(default_factory=list)
    result: Result | None = None  # of the last run

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
    """Who is told how the play goes."""

    def begins(self, act: Act, runs: int) -> None:
        """An act of so many runs begins."""

    def ran(self, act: Act) -> None:
        """One more run of the act is over."""

    def ends(self, act: Act) -> None:
        """The act is over, and checked."""


async def play(stage: Stage, audience: Audience, runs: int) -> AsyncIterator[Act]:
    """Perform the acts one after another; `runs` is the number of the run that act 3 ends with."""
    performance = _Performance(stage, audience)
    await stage.observe(*stage.world.resources)
    yield (first := await performance.first())
    for act in (
        performance.second,
        lambda first: performance.hundredth(first, runs),
        performance.unrelated_change,
        performance.tightened,
        performance.reverted,
    ):
        yield await act(first)


class _Performance:
    def __init__(self, stage: Stage, audience: Audience) -> None:
        self._stage = stage
        self._audience = audience

    async def first(self) -> Act:
        act = await self._run(
            Act("first", "First run", "The task is new: the model is asked, the run recorded.")
        )
        result = _last(act)
        act.claims += [
            Claim("the run was recorded", (Mode.LIVE, True), (result.mode, result.recorded)),
            Claim("the service says that it runs the version", *self._healthy()),
        ]
        if not self._stage.live:
            act.claims += [
                Claim("the server was asked 6 times", 6, act.requests),
                Claim("a release was built, a process started", Effects(1, 1), act.effects),
            ]
        return self._done(act)

    async def second(self, first: Act) -> Act:
        act = await self._run(
            Act("second", "Second run", "The same task, and nothing changed since."),
        )
        act.claims += self._replays(act, first)
        return self._done(act)

    async def hundredth(self, first: Act, runs: int) -> Act:
        more = runs - 2
        act = await self._run(
            Act("hundredth", f"Runs 3 to {runs}", "The same task again and again."), more
        )
        act.claims += self._replays(act, first)
        return self._done(act)

    async def unrelated_change(self, first: Act) -> Act:
        self._stage.world.change_something_else()
        changed = await self._stage.observe(*self._stage.world.resources)
        act = await self._run(
            Act(
                "unrelated",
                "Unrelated change",
                "The registry got a column, and another access rule was widened: nothing that the"
                " recorded steps rest on.",
            )
        )
        facts = ["schema:services", "acl:staging/deploy"]
        act.claims.append(Claim("two facts did change", sorted(facts), sorted(changed)))
        act.claims += self._replays(act, first)
        return self._done(act)

    async def tightened(self, first: Act) -> Act:
        self._stage.world.tighten()
        changed = await self._stage.observe("acl:prod/deploy")
        act = await self._run(
            Act(
                "tightened",
                "Rule tightened",
                "acl:prod/deploy on disk: from now on only people on call deploy to production.",
            )
        )
        result = _last(act)
        served = sum(
            (step.kind, step.outcome) == (StepKind.DECISION, Outcome.REPLAYED)
            for step in result.steps
        )
        act.claims += [
            Claim("the fact did change", ["acl:prod/deploy"], changed),
            Claim("a part was served and the rest asked", Mode.PARTIAL, result.mode),
            Claim("no process was started, nothing was deployed", 0, act.effects.starts),
            Claim("fewer tokens than the first run", True, 0 < act.tokens < first.tokens),
        ]
        if not self._stage.live:
            act.claims += [
                Claim("two decisions were served, one was asked", (2, 1), (served, act.requests)),
                Claim("nothing was built", 0, act.effects.builds),
            ]
        return self._done(act)

    async def reverted(self, first: Act) -> Act:
        self._stage.world.revert()
        changed = await self._stage.observe("acl:prod/deploy")
        act = await self._run(
            Act(
                "reverted",
                "Rule reverted",
                "acl:prod/deploy reads again as it did when the first run was recorded.",
            )
        )
        act.claims.append(Claim("the fact did change", ["acl:prod/deploy"], changed))
        act.claims += self._replays(act, first)
        act.claims.append(Claim("the service says that it runs the version", *self._healthy()))
        return self._done(act)

    async def _run(self, act: Act, runs: int = 1) -> Act:
        """Run the task, and read everybody's counters before and after."""
        stage = self._stage
        self._audience.begins(act, runs)
        requests, billed = stage.requests(), stage.billed_tokens()
        effects = stage.world.effects
        results = []
        for _ in range(runs):
            worked = stage.world.worked_ms
            result = await stage.agent.execute(TASK)
            act.runs.append(_figures(result, stage.world.worked_ms - worked))
            results.append(result)
            self._audience.ran(act)
        act.result = results[-1]
        act.requests = stage.requests() - requests
        act.effects = stage.world.effects.since(effects)
        if billed is not None:
            act.billed_tokens = (stage.billed_tokens() or 0) - billed
            act.claims.append(
                Claim("tokens agree with the server's count", act.billed_tokens, act.tokens)
            )
        reported = sum(len(result.effects) for result in results)
        act.claims.append(
            Claim("effects agree with the machine's count", act.effects.total, reported)
        )
        identical = sum(result.identical for result in results)
        act.claims += [Claim(f"all {runs} were identical", runs, identical)] if runs > 1 else []
        return act

    def _replays(self, act: Act, first: Act) -> list[Claim]:
        runs, result = len(act.runs), _last(act)
        every = Effects(first.effects.builds * runs, first.effects.starts * runs)
        return [
            Claim("the model was not asked", (0, 0), (act.requests, act.tokens)),
            Claim("the effects happened again", every, act.effects),
            Claim(
                "identical, with the same answer",
                (True, _last(first).output),
                (result.identical, result.output),
            ),
        ]

    def _healthy(self) -> tuple[str, str]:
        return TASK["version"], self._stage.world.health(TASK["service"]).version

    def _done(self, act: Act) -> Act:
        self._audience.ends(act)
        return act


def _figures(result: Result, tools_ms: float) -> Figures:
    asked = (step for step in result.steps if step.outcome is Outcome.ASKED)
    return Figures(
        total_ms=result.duration_ms,
        tools_ms=tools_ms,
        model_ms=sum(step.duration_ms for step in asked),
        tokens=result.tokens,
        saved_tokens=result.saved_tokens,
        cost=result.cost,
    )


def _last(act: Act) -> Result:
    assert act.result is not None
    return act.result
