"""What has to come out, counted without the engine: from the recordings and the texts alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .drive import Driven, Pass, Policies
from .tools import is_write, sections
from .trajectories import Trajectory, Workload

__all__ = [
    "Rest",
    "billed",
    "changed",
    "edited",
    "every_turn",
    "resting_on",
    "rests",
    "start",
    "steps_of",
    "unseen",
]


@dataclass(frozen=True)
class Rest:
    """A turn in which writes were chosen or that led to one, and the sections of the policy that
    speak of those writes."""

    tid: str
    turn: int
    sections: frozenset[str]

    def text(self, policy: Mapping[str, str]) -> tuple[str | None, ...]:
        """All that the policy has to say about it."""
        return tuple(policy.get(section) for section in sorted(self.sections))


def steps_of(trajectories: Iterable[Trajectory]) -> int:
    """How many steps the trajectories have: the agent's turns and its calls."""
    return sum(len(trajectory.turns) + trajectory.calls for trajectory in trajectories)


def rests(workload: Workload, trajectories: Sequence[Trajectory]) -> list[Rest]:
    """All turns that rest on the policy. The program opens each reply, so a turn rests on what
    speaks of its own writes and of all later ones."""
    writes = {
        (domain, tool): frozenset(sections(said))
        for domain in {it.domain for it in trajectories}
        for tool, said in workload.preconditions(domain).items()
        if is_write(said)
    }
    return [
        Rest(it.tid, number, frozenset().union(*spoken_of))
        for it in trajectories
        for number in range(len(it.turns))
        if (
            spoken_of := [
                writes[key]
                for turn in it.turns[number:]
                for call in turn.calls
                if (key := (it.domain, call.tool)) in writes
            ]
        )
    ]


def _by_trajectory(turns: Iterable[Rest]) -> dict[str, list[int]]:
    """Tid -> turns, as a Pass tells which it asked for."""
    found: dict[str, list[int]] = {}
    for it in turns:
        found.setdefault(it.tid, []).append(it.turn)
    return found


def resting_on(section: str, turns: Iterable[Rest]) -> dict[str, list[int]]:
    """By tid, the turns that rest on a section."""
    return _by_trajectory(it for it in turns if section in it.sections)


def unseen(
    turns: Iterable[Rest], earlier: Sequence[Mapping[str, str]], now: Mapping[str, str]
) -> dict[str, list[int]]:
    """By tid, the turns of which a policy says now what none has said of them before."""
    return _by_trajectory(
        it for it in turns if it.text(now) not in {it.text(policy) for policy in earlier}
    )


def every_turn(trajectories: Iterable[Trajectory]) -> dict[str, list[int]]:
    """By tid, all its turns."""
    return {it.tid: list(range(len(it.turns))) for it in trajectories}


def billed(turns: Mapping[str, Sequence[int]], first: Pass) -> tuple[int, int]:
    """How many model calls these turns are, and their tokens: those that were written down, else
    what the first pass was billed."""
    tokens = [_tokens(it, turn) for it in first.driven for turn in turns.get(it.trajectory.tid, ())]
    return len(tokens), sum(tokens)


def _tokens(it: Driven, turn: int) -> int:
    usage = it.trajectory.turns[turn].usage
    return it.decisions[turn].tokens if usage is None else sum(usage)


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The sections that differ, those included that only one version has."""
    return sorted(it for it in before.keys() | now.keys() if before.get(it) != now.get(it))


def start(workload: Workload, trajectories: Iterable[Trajectory]) -> Policies:
    """The policy under which most of each domain's trajectories were recorded."""
    domains = sorted({trajectory.domain for trajectory in trajectories})
    return {domain: workload.policy_of(domain).sections for domain in domains}


def edited(policies: Policies, section: str) -> Policies:
    """The policies with an edit in one section, where they have it."""
    return {
        domain: {name: f"{it} Edited." if name == section else it for name, it in parts.items()}
        for domain, parts in policies.items()
    }
