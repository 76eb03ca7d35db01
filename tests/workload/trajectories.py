"""Recorded trajectories of real agents, as a program needs them to run again.

They are data that do not belong to this repository: a folder `workload` in `shared` beside the
checkout, or wherever EXECGRAPH_WORKLOAD says. What of them can be driven is decided here.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import execgraph

__all__ = [
    "DOMAINS",
    "Call",
    "Output",
    "Preconditions",
    "Trajectory",
    "Turn",
    "Workload",
    "chosen",
    "folder",
    "rows",
]

DOMAINS = ("airline", "retail")

#: Of one tool, as `preconditions.json` has it: what it reads and writes, and its policy sections.
Preconditions = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of the recorded agent. Its id was the service's, and is left out."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool gave when the trajectory was recorded."""

    text: str
    error: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply of the recorded agent, and what its calls gave."""

    text: str
    calls: tuple[Call, ...]
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A conversation of an agent with a customer. ``policy`` is the id of that in force."""

    tid: str
    domain: str
    policy: str
    model: str
    customer: tuple[str, ...]
    turns: tuple[Turn, ...]

    @property
    def calls(self) -> int:
        return sum(len(turn.calls) for turn in self.turns)


@dataclass(frozen=True)
class Workload:
    """All that can be driven, and why the rest cannot: reason -> how many."""

    folder: Path
    trajectories: tuple[Trajectory, ...]
    skipped: Counter[str]

    @classmethod
    def load(cls, folder: Path) -> Workload:
        """Read the trajectories of all domains."""
        driven: list[Trajectory] = []
        skipped: Counter[str] = Counter()
        for domain in DOMAINS:
            for row in rows(folder, domain):
                if (reason := _not_drivable(row)) is None:
                    driven.append(_trajectory(row))
                else:
                    skipped[f"{domain}: {reason}"] += 1
        return cls(folder, tuple(driven), skipped)

    def preconditions(self, domain: str) -> dict[str, Preconditions]:
        """By tool: what its calls read and write, and which policy sections speak of it."""
        mapping = json.loads((self.folder / "preconditions.json").read_text(encoding="utf-8"))
        return {tool: said for tool, said in mapping[domain].items() if not tool.startswith("_")}

    def policy(self, policy: str) -> dict[str, str]:
        """A policy by its sections: heading -> digest of its text."""
        policies = json.loads((self.folder / "policies.json").read_text(encoding="utf-8"))
        return {part["section"]: part["sha"] for part in policies[policy]["sections"]}

    def database(self, domain: str) -> bytes:
        """The customers' records when each conversation begins, as JSON."""
        return gzip.decompress((self.folder / "env" / f"{domain}_db.json.gz").read_bytes())


def folder() -> Path:
    """Where the trajectories are, if they are on this machine."""
    if given := os.environ.get("EXECGRAPH_WORKLOAD"):
        return Path(given)
    checkout = Path(execgraph.__file__).resolve().parent
    return checkout.parent / "shared" / "workload"


def chosen(trajectories: Sequence[Trajectory], limit: int) -> list[Trajectory]:
    """At most ``limit`` of them, each domain's share as equal as can be and spread evenly over
    its file, so that every recorded model and policy has a chance to be there."""
    by_domain = [[it for it in trajectories if it.domain == domain] for domain in DOMAINS]
    kept: list[Trajectory] = []
    for left, group in zip(range(len(by_domain), 0, -1), sorted(by_domain, key=len), strict=True):
        share = min(len(group), (limit - len(kept)) // left)
        kept += [group[index * len(group) // share] for index in range(share)]
    return kept


# Reading ----------------------------------------------------------------------------------


def rows(folder: Path, domain: str) -> Iterator[dict[str, Any]]:
    """The trajectories of a domain as they are in the files."""
    for path in sorted(folder.glob(f"*-{domain}.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _not_drivable(row: Mapping[str, Any]) -> str | None:
    """Why this trajectory is left out; None if it is not.

    A run that failed is never published, so there is nothing to replay. The tools of customers
    act on devices of their own, which are not here.
    """
    steps = row["steps"]
    if row["end"] == "agent_error":
        return "the recorded agent failed: its last turn is empty"
    if any(step.get("by") == "user" for step in steps):
        return "the customer calls tools too"
    if any(_is_empty(step) for step in steps):
        return "a turn of the recorded agent is empty"
    if sum(len(step.get("calls", ())) for step in steps) != sum("call" in step for step in steps):
        return "the recording ends before its last calls were answered"
    return None


def _is_empty(step: Mapping[str, Any]) -> bool:
    return step["role"] == "assistant" and not step.get("text") and not step.get("calls")


def _trajectory(row: Mapping[str, Any]) -> Trajectory:
    steps = row["steps"]
    answers = iter([step for step in steps if step["role"] == "tool"])
    return Trajectory(
        tid=row["tid"],
        domain=row["domain"],
        policy=row["policy"],
        model=row["model"],
        # Nobody answers what the customer says last.
        customer=tuple(step["text"] for step in steps[:-1] if step["role"] == "user"),
        turns=tuple(_turn(step, answers) for step in steps if step["role"] == "assistant"),
    )


def _turn(step: Mapping[str, Any], answers: Iterator[Mapping[str, Any]]) -> Turn:
    calls = tuple(Call(call["tool"], call["args"]) for call in step.get("calls", ()))
    # Paired by position: ids were used twice in some sources.
    given = [next(answers) for _ in calls]
    outputs = tuple(Output(it["output"], bool(it.get("error"))) for it in given)
    return Turn(step.get("text") or "", calls, outputs)
