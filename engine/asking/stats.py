"""What all runs of a namespace came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add
from typing import Any

from ...graphstore.errors import ConfigurationError
from ...graphstore.model import ExecutionState, Mode
from ...graphstore.totals import ENDED_WELL, Tally, Totals
from ..outcome.cause import MissKind
from ..outcome.shadow import Agreement

__all__ = ["AgentStats", "Stats", "milliseconds_of"]


@dataclass(frozen=True, slots=True)
class AgentStats:
    """What the runs of one agent or program came to.

    Attributes:
        hits: Runs that asked no model.
        partial: Runs that asked, and were served something.
        live: Runs that were served nothing.
        failed: Runs that ended without an answer.
        running: Runs that have begun to pay or to act, and not ended.
        killed: Runs of which nothing is heard any more.
        calls_asked: Replies of a model that were paid.
        calls_served: Decisions for which no model was asked.
        tokens: Tokens paid, by runs of every kind.
        cache_read_tokens: Those of them that were read from the provider's cache.
        cache_write_tokens: Those of them that were written to it.
        saved_tokens: What the recorded runs had paid for what was served.
        cost_at_least: The price of ``tokens`` in US dollars, as far as prices are known.
        unpriced: The number of runs of whose price a part is not known.
        saved_cost_at_least: The price of ``saved_tokens`` in US dollars, as far as it is known.
        saved_unpriced: The number of runs of which a part of that is not known.
    """

    hits: int
    partial: int
    live: int
    failed: int
    running: int
    killed: int
    calls_asked: int
    calls_served: int
    tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    saved_tokens: int
    cost_at_least: float
    unpriced: int
    saved_cost_at_least: float
    saved_unpriced: int

    @property
    def executions(self) -> int:
        """How many runs have ended well."""
        return self.hits + self.partial + self.live

    @property
    def hit_rate(self) -> float | None:
        """The part of them that asked no model, from 0 to 1; None if there are none."""
        return self.hits / self.executions if self.executions else None

    @property
    def cost(self) -> float | None:
        """The price of ``tokens`` in US dollars; None if that of a run is not known."""
        return None if self.unpriced else self.cost_at_least

    @property
    def saved_cost(self) -> float | None:
        """The price of ``saved_tokens`` in US dollars; None if a part is not known."""
        return None if self.saved_unpriced else self.saved_cost_at_least

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            What ``execgraph stats --json`` prints of one agent.
        """
        return {
            "executions": self.executions,
            "hits": self.hits,
            "partial": self.partial,
            "live": self.live,
            "failed": self.failed,
            "running": self.running,
            "killed": self.killed,
            "hit_rate": self.hit_rate,
            "calls_asked": self.calls_asked,
            "calls_served": self.calls_served,
            "tokens": self.tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "saved_tokens": self.saved_tokens,
            "cost": self.cost,
            "cost_at_least": self.cost_at_least,
            "unpriced": self.unpriced,
            "saved_cost": self.saved_cost,
            "saved_cost_at_least": self.saved_cost_at_least,
            "saved_unpriced": self.saved_unpriced,
        }


@dataclass(frozen=True, slots=True)
class Stats(AgentStats):
    """What all runs of a namespace came to that began since a moment; beside what ``agents`` has.

    Attributes:
        traces: How many traces may be replayed now.
        unapproved: How many runs wait to be approved now.
        rejected: How many runs are rejected.
        misses: Tokens paid, by the kind of cause for which a model was asked.
        missed_calls: Replies paid, by that kind.
        agents: The same for each agent or program, by its name.
        hint: That the namespace does not exist, and which do; None if it does.
    """

    traces: int
    unapproved: int
    rejected: int
    misses: Mapping[str, int]
    missed_calls: Mapping[str, int]
    agents: Mapping[str, AgentStats]
    hint: str | None = None

    @property
    def shadow(self) -> Agreement:
        """How many replies were compared with recorded ones in shadow runs, and said the same."""
        kinds = (MissKind.SHADOW_SAME, MissKind.SHADOW_DIFFERS)
        same, other = (self.missed_calls.get(kind.value, 0) for kind in kinds)
        return Agreement(same, same + other)

    @property
    def anything(self) -> bool:
        """Whether there was any run."""
        return bool(self.executions or self.failed or self.running or self.killed)

    @classmethod
    def of(cls, totals: Totals) -> Stats:
        """Make statistics of what a store counted."""
        names = sorted({it.agent for it in totals.tallies if it.agent})
        paid = sorted(totals.misses.items(), key=lambda it: (-it[1].tokens, -it[1].asked, it[0]))
        return cls(
            **_counted(totals.tallies),
            traces=totals.traces,
            unapproved=totals.unapproved,
            rejected=totals.rejected,
            misses={kind: missed.tokens for kind, missed in paid},
            missed_calls={kind: missed.asked for kind, missed in paid},
            agents={
                name: AgentStats(**_counted(it for it in totals.tallies if it.agent == name))
                for name in names
            },
        )

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            What ``execgraph stats --json`` prints.
        """
        return {
            **AgentStats.as_json(self),
            "traces": self.traces,
            "unapproved": self.unapproved,
            "rejected": self.rejected,
            "misses": dict(self.misses),
            "missed_calls": dict(self.missed_calls),
            "shadow": self.shadow.as_json(),
            "agents": {name: it.as_json() for name, it in self.agents.items()},
            "hint": self.hint,
        }


def _counted(tallies: Iterable[Tally]) -> dict[str, Any]:
    some = list(tallies)
    whole = reduce(add, some, Tally("", "", ""))
    by_state: dict[str, int] = {}
    by_mode: dict[str, int] = {}
    for tally in some:
        by_state[tally.state] = by_state.get(tally.state, 0) + tally.executions
    for tally in some:
        if tally.state == ENDED_WELL:
            by_mode[tally.mode] = by_mode.get(tally.mode, 0) + tally.executions
    return {
        "hits": by_mode.get(Mode.REPLAY, 0),
        "partial": by_mode.get(Mode.PARTIAL, 0),
        "live": by_mode.get(Mode.LIVE, 0),
        "failed": by_state.get(ExecutionState.FAILED, 0),
        "running": by_state.get(ExecutionState.RUNNING, 0),
        "killed": by_state.get(ExecutionState.KILLED, 0),
        "calls_asked": whole.asked,
        "calls_served": whole.served,
        "tokens": whole.usage.total,
        "cache_read_tokens": whole.usage.cache_read_input_tokens,
        "cache_write_tokens": whole.usage.cache_creation_input_tokens,
        "saved_tokens": whole.saved_tokens,
        "cost_at_least": whole.cost,
        "unpriced": whole.unpriced,
        "saved_cost_at_least": whole.saved_cost,
        "saved_unpriced": whole.saved_unpriced,
    }


def milliseconds_of(since: datetime | timedelta | None) -> int | None:
    """A moment, or how long ago, in milliseconds since 1970. Raises ConfigurationError."""
    if since is None:
        return None
    moment: object = datetime.now(UTC) - since if isinstance(since, timedelta) else since
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigurationError(
            f"since={since!r} is no moment; give a timedelta, as in timedelta(days=7), or a"
            " datetime with a time zone, as in datetime.now(UTC)"
        )
    return int(moment.timestamp() * 1000)
