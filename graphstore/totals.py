"""What executions came to, added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from .model import ExecutionState, Usage

__all__ = ["ENDED_WELL", "Missed", "Tally", "Totals"]

#: The state of executions that gave an answer, published or not.
ENDED_WELL = "ended"
_WITHOUT_ANSWER = (ExecutionState.FAILED, ExecutionState.RUNNING, ExecutionState.KILLED)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the executions of one agent came to that have one mode and state: ``ENDED_WELL``,
    failed, running or killed.

    ``cost`` and ``saved_cost`` are of those whose price is known, in US dollars; ``unpriced`` and
    ``saved_unpriced`` count the others.
    """

    agent: str
    mode: str
    state: str
    executions: int = 0
    usage: Usage = field(default_factory=Usage)
    asked: int = 0
    served: int = 0
    saved_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    saved_cost: float = 0.0
    saved_unpriced: int = 0

    @classmethod
    def of(cls, row: Sequence[Any]) -> Tally:
        """Read the columns of the statement ``totals``: as above, usage spread out."""
        kinds = tuple(Usage.model_fields)
        usage = Usage(**dict(zip(kinds, row[4:], strict=False)))
        agent, mode, state, executions = row[:4]
        if state not in _WITHOUT_ANSWER:  # a trace may be unpublished at any time
            state = ENDED_WELL
        values = (agent, mode, state, executions, usage, *row[4 + len(kinds) :])
        return cls(**dict(zip((it.name for it in fields(cls)), values, strict=True)))

    def __add__(self, other: Tally) -> Tally:
        added = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name not in ("agent", "mode", "state")
        }
        return replace(self, **added)


class Missed(NamedTuple):
    """Calls that one kind of cause made necessary, and the tokens they took."""

    asked: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What executions came to; those included that failed, or have not ended."""

    tallies: tuple[Tally, ...] = ()
    misses: Mapping[str, Missed] = field(default_factory=dict)  # by kind of cause
    traces: int = 0  # published now
    unapproved: int = 0  # waiting to be approved now
    rejected: int = 0  # rejected, and kept

    @property
    def executions(self) -> dict[str, int]:
        """How many have ended well, by mode."""
        by_mode: Counter[str] = Counter()
        for tally in self.tallies:
            if tally.state == ENDED_WELL:
                by_mode[tally.mode] += tally.executions
        return dict(by_mode)

    @property
    def failed(self) -> int:
        return sum(it.executions for it in self.tallies if it.state == ExecutionState.FAILED)

    @property
    def tokens(self) -> int:
        return sum(it.usage.total for it in self.tallies)

    @property
    def saved_tokens(self) -> int:
        return sum(it.saved_tokens for it in self.tallies)

    @property
    def cost(self) -> float:
        """In US dollars, of those whose price is known."""
        return sum(it.cost for it in self.tallies)

    def rounded(self, digits: int = 6) -> Totals:
        """The totals, whatever the order was in which its sums of dollars were made."""
        return replace(
            self,
            tallies=tuple(
                replace(
                    tally,
                    cost=round(tally.cost, digits),
                    saved_cost=round(tally.saved_cost, digits),
                )
                for tally in self.tallies
            ),
        )

    @classmethod
    def of(
        cls,
        groups: Iterable[Sequence[Any]],
        misses: Iterable[Sequence[Any]],
        traces: int,
        unapproved: int,
        rejected: int,
    ) -> Totals:
        """Add up rows of tallies, and rows ``[kind of cause, calls, tokens]``; there may be several
        of one agent, mode and state, or of one kind. Then: how many executions are published,
        wait to be approved, and are rejected now."""
        tallies: dict[tuple[str, str, str], Tally] = {}
        for tally in map(Tally.of, groups):
            key = (tally.agent, tally.mode, tally.state)
            tallies[key] = tallies[key] + tally if key in tallies else tally
        by_kind: dict[str, Missed] = {}
        for kind, asked, tokens in misses:
            known = by_kind.get(kind, Missed(0, 0))
            by_kind[kind] = Missed(known.asked + (asked or 0), known.tokens + (tokens or 0))
        missed = {kind: it for kind, it in by_kind.items() if any(it)}
        in_order = tuple(tallies[key] for key in sorted(tallies))
        return cls(in_order, missed, traces, unapproved, rejected)
