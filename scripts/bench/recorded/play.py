"""One domain's trajectories on one store, pass after pass, and what came out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from anthropic import AsyncAnthropic

from execgraph import Engine
from execgraph.adapters.messages_api import MessagesServer
from execgraph.scripts.bench.measure import Say

from .drive import Driver, Pass
from .foreseen import billed, changed, every_turn, rests, unseen
from .size import Size
from .trajectories import Policy, Trajectory, Workload

__all__ = ["GOAL", "Domain", "Edit", "Once", "Play"]

#: A store takes at most this much of the room that the bare requests and replies take.
GOAL = 0.3
#: Below so many bytes of them an empty store, of 0.2 MB, already is a part that says nothing.
_ENOUGH = 3_000_000


@dataclass(frozen=True)
class Once:
    """One pass over a domain, in figures."""

    model_calls: int
    tokens: int
    identical: int
    outputs_as_recorded: int
    seconds: float
    store: Size

    @classmethod
    def of(cls, done: Pass, store: Size) -> Once:
        return cls(
            done.model_calls,
            done.tokens,
            done.identical,
            done.outputs[0],
            round(done.seconds, 3),
            store,
        )


@dataclass(frozen=True)
class Edit:
    """From one real version of a policy to the next, and what was asked again because of it.

    ``texts``: what the texts alone say has to be asked. ``without_sections``: what would have been
    if the policy were one text, and ``flushed`` if every recording had been thrown away: model
    calls and tokens. What an edit brings back as it was before costs nothing.
    """

    before: str
    after: str
    changed: Sequence[str]
    asked: tuple[int, int]
    texts: tuple[int, int]
    as_texts_say: bool
    without_sections: tuple[int, int]
    flushed: tuple[int, int]


@dataclass(frozen=True)
class Domain:
    """What came out for one domain on one store."""

    trajectories: int
    skipped: Mapping[str, int]
    turns: int
    outputs: int
    tokens: str  # how they were counted
    tokens_written_down: int
    raw_bytes: int
    first: Once
    second: Once
    databases: str
    relative_size: float
    edits: Sequence[Edit]
    returned: Edit | None

    def wrong(self) -> list[str]:
        """What did not come out as it should."""
        edits = [*self.edits, *([self.returned] if self.returned else [])]
        checks = {
            f"the first pass asked {self.first.model_calls} times, not once for each of the"
            f" {self.turns} turns": self.first.model_calls == self.turns,
            f"the first pass was billed {self.first.tokens} tokens, {self.tokens_written_down} were"
            " written down": self.first.tokens == self.tokens_written_down,
            f"the second pass asked {self.second.model_calls} times": not self.second.model_calls,
            f"{self.trajectories - self.second.identical} second runs are not identical": (
                self.second.identical == self.trajectories
            ),
            "the databases differ after the second pass": self.databases != "DIFFERENT",
            f"the store is larger than {GOAL} of the raw requests": (
                self.relative_size <= GOAL or self.raw_bytes < _ENOUGH
            ),
        }
        edited = [
            f"{it.before} -> {it.after} asked other turns than the texts say"
            for it in edits
            if not it.as_texts_say
        ]
        return [what for what, holds in checks.items() if not holds] + edited


class Play:
    """One domain's trajectories on one store, which is empty before."""

    def __init__(
        self,
        workload: Workload,
        domain: str,
        trajectories: Sequence[Trajectory],
        *,
        engine: Callable[[], Engine],
        size: Callable[[], Awaitable[Size]],
        say: Say,
    ) -> None:
        self._workload = workload
        self._domain = domain
        self._trajectories = trajectories
        self._engine = engine
        self._size = size
        self._say = say
        self._rests = rests(workload, trajectories)

    async def play(self) -> Domain:
        """Everything, pass after pass. Each of the two first ones opens the store anew."""
        with Driver.server(self._trajectories) as server:
            async with AsyncAnthropic(base_url=server.url, api_key="local") as client:
                policy = self._workload.policy_of(self._domain)
                async with self._driver(server, client) as driver:
                    await driver.tell({self._domain: policy.sections})
                    first = await self._drive(driver, "the first time")
                after_first = await self._size()
                async with self._driver(server, client) as driver:
                    second = await self._drive(driver, "the second time")
                after_second = await self._size()
                async with self._driver(server, client) as driver:
                    edits, returned = await self._edits(driver, policy, first)
        return Domain(
            trajectories=len(self._trajectories),
            skipped={
                why: count
                for why, count in self._workload.skipped.items()
                if why.startswith(f"{self._domain}:")
            },
            turns=sum(len(it.turns) for it in self._trajectories),
            outputs=first.outputs[1],
            tokens=self._how_counted(),
            tokens_written_down=billed(every_turn(self._trajectories), first)[1],
            raw_bytes=first.raw_bytes,
            first=Once.of(first, after_first),
            second=Once.of(second, after_second),
            databases=_compared(first, second),
            relative_size=round(after_first.bytes / first.raw_bytes, 4),
            edits=edits,
            returned=returned,
        )

    @asynccontextmanager
    async def _driver(
        self, server: MessagesServer, client: AsyncAnthropic
    ) -> AsyncIterator[Driver]:
        async with self._engine() as engine:
            yield Driver(engine, self._workload, self._trajectories, server, client)

    async def _drive(self, driver: Driver, what: str) -> Pass:
        done = await driver.drive(self._say.counting(len(self._trajectories)))
        self._say.phase(f"{self._domain}, {what}: {done.figures().strip()}")
        return done

    async def _edits(
        self, driver: Driver, start: Policy, first: Pass
    ) -> tuple[list[Edit], Edit | None]:
        """Every version that comes after the one recorded under, and then that one again."""
        versions = self._workload.policies(self._domain)
        later = versions[versions.index(start) + 1 :]
        seen, edits = [start], list[Edit]()
        for policy in [*later, start] if later else []:
            await driver.tell({self._domain: policy.sections})
            done = await self._drive(driver, f"{seen[-1].id} -> {policy.id}")
            edits.append(self._edit(seen, policy, first, done))
            seen.append(policy)
        return (edits[:-1], edits[-1]) if edits else ([], None)

    def _edit(self, seen: Sequence[Policy], now: Policy, first: Pass, done: Pass) -> Edit:
        before = seen[-1]
        expected = unseen(self._rests, [it.sections for it in seen], now.sections)
        writes = {} if now in seen else unseen(self._rests, [], now.sections)
        return Edit(
            before=before.id,
            after=now.id,
            changed=changed(before.sections, now.sections),
            asked=(done.model_calls, done.tokens),
            texts=billed(expected, first),
            as_texts_say=done.asked == expected
            and (done.model_calls, done.tokens) == billed(expected, first),
            without_sections=billed(writes, first),
            flushed=(first.model_calls, first.tokens),
        )

    def _how_counted(self) -> str:
        turns = [turn for it in self._trajectories for turn in it.turns]
        if all(turn.usage is None for turn in turns):
            return "estimated: a token for each 4 characters of the request and the reply"
        return "as recorded"


def _compared(first: Pass, second: Pass) -> str:
    if not any(first.databases.values()):
        return "none: the tools gave what was recorded"
    return "equal" if first.databases == second.databases else "DIFFERENT"
