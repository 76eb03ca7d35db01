"""The play: what happens in each act, and what is claimed about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from ...engine.outcome.cause import MissKind
from ...engine.outcome.result import Outcome
from ...graphstore.model import ChangeKind, Mode, StepKind
from .acts import Act, Answer, Claim, figures, perform
from .agent import TASK
from .killed import Ledger, booking, deploy, kill_one
from .naive import NaiveCache
from .world import Effects

if TYPE_CHECKING:
    from ...engine.outcome.result import Result
    from .acts import Audience
    from .stage import Stage
    from .world import World

__all__ = ["play"]

_DEPLOY_RULE = "acl:prod/deploy"
_STAGING_RULE = "acl:staging/deploy"
_SCHEMA = "schema:services"
_TARGET = "target:eu-west-1"
_FREEZE = "rule:change-freeze"

_TAKEN_AWAY = """\
MATCH (:ChangeEvent {id: $event})-[:CHANGED]->(f:Facet)
MATCH (f)-[:HAS_VALUE]->(:Precondition)-[:GUARDS]->(s:Step {state: 'invalid'})
RETURN DISTINCT f.resource AS rule, s.position AS step, s.name AS name
ORDER BY step"""


async def play(stage: Stage, audience: Audience, runs: int) -> AsyncIterator[Act]:
    """Perform the acts one after another; `runs` is the number of the run that act 3 ends with."""
    performance = _Performance(stage, audience)
    yield await performance.first()
    yield await performance.second()
    yield await performance.hundredth(runs)
    yield await performance.unrelated_change()
    yield await performance.tightened()
    yield await performance.reverted()
    yield await performance.schema_changed()
    yield await performance.target_changed()
    yield await performance.rule_changed()
    yield await performance.unwatched()
    yield await performance.watched_again()
    yield await performance.killed()


class _Performance:
    def __init__(self, stage: Stage, audience: Audience) -> None:
        self._stage = stage
        self._audience = audience
        self._naive = NaiveCache(stage.world)
        self._first: Act | None = None

    async def first(self) -> Act:
        act = Act("first", "First run", "The task is new: the model is asked, the run recorded.")
        before = len(self._stage.world.calls)
        await perform(act, self._stage, self._audience)
        result = _last(act)
        self._naive.keep(TASK, self._stage.world.calls[before:], result.output)
        act.claims += [
            Claim("the run was recorded", (Mode.LIVE, True), (result.mode, result.recorded)),
            Claim("the service says that it runs the version", *self._healthy()),
        ]
        if not self._stage.live:
            act.claims += [
                Claim("the server was asked 6 times", 6, act.requests),
                Claim("a release was built, a process started", Effects(1, 1), act.effects),
            ]
        self._first = act
        return self._done(act)

    async def second(self) -> Act:
        act = Act("second", "Second run", "The same task, and nothing changed since.")
        return await self._replay(act)

    async def hundredth(self, runs: int) -> Act:
        act = Act("hundredth", f"Runs 3 to {runs}", "The same task again and again.")
        return await self._replay(act, runs - 2)

    async def unrelated_change(self) -> Act:
        act = Act(
            "unrelated",
            "Unrelated change",
            "The registry got a column, and another access rule was widened: nothing that the"
            " recorded steps rest on.",
        )
        world = self._stage.world
        world.migrate(pager="TEXT")
        world.write(_STAGING_RULE, world.edited(_STAGING_RULE, allow=["on-call", "release-bot"]))
        await self._in_force(act, _SCHEMA, _STAGING_RULE)
        return await self._replay(act)

    async def tightened(self) -> Act:
        """Beside the engine's run, a cache that knows the text of the request alone."""
        act = Act(
            "tightened",
            "Rule tightened",
            "acl:prod/deploy on disk: from now on only people on call deploy to production.",
        )
        stage, world = self._stage, self._stage.world
        event = await self._change(act, _DEPLOY_RULE, world.edited(_DEPLOY_RULE, allow=["on-call"]))
        table = await stage.engine.cypher(_TAKEN_AWAY, {"event": event})
        act.answer = Answer("Which steps rest on what has changed?", _TAKEN_AWAY, table)
        await perform(act, stage, self._audience)
        result = _last(act)
        act.why = await stage.engine.why(result.execution_id)
        reached = [step.why.change for step in act.why.steps if step.why is not None]
        changes = {change.id for change in reached if change is not None}
        act.claims += [
            Claim("a part was served and the rest asked", Mode.PARTIAL, result.mode),
            Claim("no process was started, nothing was deployed", 0, act.effects.starts),
            Claim("fewer tokens than the first run", True, 0 < act.tokens < self._before.tokens),
            Claim("`why` names the change", {event}, changes),
        ]
        if not stage.live:
            served = _count(result, StepKind.DECISION, Outcome.REPLAYED)
            act.claims += [
                Claim("two decisions were served, one was asked", (2, 1), (served, act.requests)),
                Claim("nothing was built", 0, act.effects.builds),
            ]
        act.naive = self._naively()
        act.claims.append(
            Claim("a cache keyed by the request's text deploys all the same", 1, act.naive.starts)
        )
        return self._done(act)

    async def reverted(self) -> Act:
        act = Act(
            "reverted",
            "Rule reverted",
            "acl:prod/deploy reads again as it did when the first run was recorded.",
        )
        world = self._stage.world
        world.write(_DEPLOY_RULE, world.edited(_DEPLOY_RULE, allow=["release-bot", "on-call"]))
        await self._in_force(act, _DEPLOY_RULE)
        await self._replay(act)
        act.claims.append(Claim("the service says that it runs the version", *self._healthy()))
        return act

    async def schema_changed(self) -> Act:
        act = Act(
            "schema",
            "Schema changed",
            "A migration gave the registry's column `runtime` another type. What builds rests on"
            " that column, and so does the decision to build.",
        )
        return await self._asks_once(act, _SCHEMA, lambda world: world.migrate(runtime="VARCHAR"))

    async def target_changed(self) -> Act:
        act = Act(
            "target",
            "Target changed",
            "eu-west-1 has two replicas now. What deploys rests on the target.",
        )
        return await self._asks_once(
            act, _TARGET, lambda world: world.write(_TARGET, world.edited(_TARGET, replicas=2))
        )

    async def rule_changed(self) -> Act:
        act = Act(
            "rule",
            "Business rule",
            "The change freeze ends later. The agent as a whole rests on this rule, and so does"
            " each of its decisions.",
        )
        await self._change(act, _FREEZE, self._stage.world.edited(_FREEZE, until="01-07"))
        await perform(act, self._stage, self._audience)
        assert act.impact is not None
        served = _count(_last(act), StepKind.DECISION, Outcome.REPLAYED)
        act.claims.append(Claim("no decision was served", 0, served))
        if not self._stage.live:
            act.claims += [
                Claim("every decision was asked again", 6, act.requests),
                Claim("it cost what `impact` had foreseen", act.impact.tokens, act.tokens),
            ]
        return self._done(act)

    async def unwatched(self) -> Act:
        stage = self._stage
        act = Act(
            "unwatched",
            "Watcher stopped",
            f"Nobody looks at the files any more. {stage.max_age.total_seconds():.0f} seconds"
            " later their facts have expired: nothing is served on trust.",
        )
        await stage.stop_watching()
        await asyncio.sleep(stage.max_age.total_seconds() + 0.1)
        await perform(act, stage, self._audience)
        result = _last(act)
        act.claims += [
            Claim(
                "no decision was served",
                0,
                _count(result, StepKind.DECISION, Outcome.REPLAYED),
            ),
            Claim(
                "the cause is told",
                True,
                any(miss.kind is MissKind.PRECONDITION_EXPIRED for miss in result.miss),
            ),
        ]
        return self._done(act)

    async def watched_again(self) -> Act:
        act = Act(
            "watched-again",
            "Watcher back",
            "The files are read again, and are what they were: what was recorded stands.",
        )
        await self._stage.watch()
        return await self._replay(act)

    async def killed(self) -> Act:
        """Beside the agent, as its machine is this process's: a program that books at a ledger."""
        act = Act(
            "killed",
            "Killed, retried",
            "Another process deploys under a run id, and is killed (-9) when the ledger has booked"
            " it, before it knows. The same run is called again here.",
        )
        stage = self._stage
        self._audience.begins(act, 1)
        requests, ledger = stage.requests(), Ledger(stage.world.root / "ledger.db")
        ended = await kill_one(stage.url, stage.engine.namespace, ledger)
        tool = booking(stage.engine, ledger, lambda: None)
        result = await deploy(stage.engine, tool)
        booked = ledger.counted
        again = await deploy(stage.engine, tool)
        act.result = result
        act.runs.append(figures(result, 0.0))
        act.requests = stage.requests() - requests
        act.billed_tokens = None if stage.live else 0
        act.claims += [
            Claim("the process was killed", -9, ended),
            Claim("called again, the run came to its end", "booked", result.output),
            Claim("the ledger was told twice, and shows one", (1, 2), booked),
            Claim("once more, it gives its result", Mode.RETURNED, again.mode),
            Claim("and the ledger is not told", booked, ledger.counted),
            Claim("nothing is left in doubt", [], await stage.engine.session().store.doubts()),
        ]
        return self._done(act)

    # What several acts do

    async def _replay(self, act: Act, runs: int = 1) -> Act:
        """Nothing that was recorded has changed."""
        await perform(act, self._stage, self._audience, runs)
        first, result = self._before, _last(act)
        every = Effects(first.effects.builds * runs, first.effects.starts * runs)
        act.claims += [
            Claim("the model was not asked", (0, 0), (act.requests, act.tokens)),
            Claim("the effects happened again", every, act.effects),
            Claim(
                "identical, with the same answer",
                (True, _last(first).output),
                (result.identical, result.output),
            ),
        ]
        return self._done(act)

    async def _asks_once(self, act: Act, uri: str, change: Callable[[World], None]) -> Act:
        """One decision rests on what changed; what it says again is what it said."""
        change(self._stage.world)
        await self._in_force(act, uri)
        await perform(act, self._stage, self._audience)
        result = _last(act)
        act.claims += [
            Claim("a part was served and the rest asked", Mode.PARTIAL, result.mode),
            Claim("fewer tokens than the first run", True, 0 < act.tokens < self._before.tokens),
        ]
        if not self._stage.live:
            act.claims += [
                Claim("one decision was asked again, and said the same", 1, act.requests),
                Claim("the effects happened again", self._before.effects, act.effects),
                Claim("with the same answer", _last(self._before).output, result.output),
            ]
        return self._done(act)

    async def _in_force(self, act: Act, *uris: str) -> str:
        """Wait until these changes are in force; the id of the last event."""
        events = await self._stage.changes_of(frozenset(uris))
        changed = sorted(event.resource for event in events if event.kind is ChangeKind.CHANGED)
        act.claims.append(Claim("the watcher told of the change", sorted(uris), changed))
        return events[-1].id

    async def _change(self, act: Act, uri: str, document: dict[str, Any]) -> str:
        """Ask what a change would do, make it, and compare; the id of its event."""
        engine = self._stage.engine
        before = await self._invalid()
        act.impact = await engine.impact(uri, document)
        self._stage.world.write(uri, document)
        event = await self._in_force(act, uri)
        foreseen = {step.id for step in act.impact.invalid}
        marked = await self._invalid() - before
        act.claims.append(Claim("`impact` had named the steps that are marked", foreseen, marked))
        return event

    async def _invalid(self) -> set[str]:
        """The steps that are marked, once all marks are set."""
        await self._stage.engine.settle()
        table = await self._stage.engine.cypher(
            "MATCH (s:Step {namespace: $namespace, state: 'invalid'}) RETURN s.id AS step"
        )
        return {row["step"] for row in table}

    def _naively(self) -> Effects:
        before = self._stage.world.effects
        self._naive.execute(TASK)
        return self._stage.world.effects.since(before)

    def _healthy(self) -> tuple[str, str]:
        return TASK["version"], self._stage.world.health(TASK["service"]).version

    @property
    def _before(self) -> Act:
        assert self._first is not None
        return self._first

    def _done(self, act: Act) -> Act:
        self._audience.ends(act)
        return act


def _last(act: Act) -> Result:
    assert act.result is not None
    return act.result


def _count(result: Result, kind: StepKind, outcome: Outcome) -> int:
    return sum((step.kind, step.outcome) == (kind, outcome) for step in result.steps)
