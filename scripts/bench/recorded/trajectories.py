"""Recorded trajectories of real agents, as a program needs them to run again.

They are data that do not belong to this repository: a folder `workload` in `shared` beside the
checkout, or wherever EXECGRAPH_WORKLOAD says. What of them can be driven is decided here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import execgraph

__all__ = [
    "ALL_DOMAINS",
    "DOMAINS",
    "Call",
    "Output",
    "Policy",
    "Preconditions",
    "Trajectory",
    "Turn",
    "Workload",
    "chosen",
    "folder",
    "rows",
    "unknown",
]

#: The domains whose tools are published ...
DOMAINS = ("airline", "retail")
#: ... and one of an older benchmark whose tools are not: they give what they gave when recorded.
ALL_DOMAINS = (*DOMAINS, "airline-v1")

_OLDER = "-v1"
_PREAMBLE = "(preamble)"
#: The recorded agents of tau2 greet before anybody has spoken; the API wants the customer first.
_OPENING = "(A customer has joined the chat.)"
_NOTHING = (0, 0)

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
    """One reply of the recorded agent, and what its calls gave.

    ``usage``: the tokens of its request and of itself, as billed; None: nobody wrote them down.
    """

    text: str
    calls: tuple[Call, ...]
    outputs: tuple[Output, ...]
    usage: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A conversation of an agent with a customer, who opens it.

    ``customer``: what is said later. ``policy`` is the id of the one that the agent was given.
    """

    tid: str
    domain: str
    policy: str
    model: str
    opening: str
    customer: tuple[str, ...]
    turns: tuple[Turn, ...]

    @property
    def calls(self) -> int:
        return sum(len(turn.calls) for turn in self.turns)


@dataclass(frozen=True)
class Policy:
    """One version of a company's rules. ``sections``: heading -> text."""

    id: str
    sections: Mapping[str, str]


@dataclass(frozen=True)
class Workload:
    """All that can be driven, and why the rest cannot: reason -> how many."""

    folder: Path
    trajectories: tuple[Trajectory, ...]
    skipped: Counter[str]

    @classmethod
    def load(cls, folder: Path, domains: Sequence[str] = DOMAINS) -> Workload:
        """Read the trajectories of these domains."""
        driven: list[Trajectory] = []
        skipped: Counter[str] = Counter()
        for domain in domains:
            for row in rows(folder, domain):
                if (reason := _not_drivable(row)) is None:
                    driven.append(_trajectory(row, domain))
                else:
                    skipped[f"{domain}: {reason}"] += 1
        return cls(folder, tuple(driven), skipped)

    def preconditions(self, domain: str) -> dict[str, Preconditions]:
        """By tool: what its calls read and write, and which policy sections speak of it."""
        mapping = _json(self.folder / "preconditions.json")[domain.removesuffix(_OLDER)]
        return {tool: said for tool, said in mapping.items() if not tool.startswith("_")}

    def policies(self, domain: str) -> list[Policy]:
        """All versions of a domain's rules, in the file's order.

        Raises ValueError where a text does not have the digests that the file gives.
        """
        company = domain.removesuffix(_OLDER)
        known = _json(self.folder / "policies.json").items()
        return [_policy(policy, it) for policy, it in known if it["domain"] == company]

    def policy_of(self, domain: str) -> Policy:
        """The version that most of a domain's trajectories were recorded under."""
        used = Counter(it.policy for it in self.trajectories if it.domain == domain)
        ((most, _),) = used.most_common(1)
        return next(it for it in self.policies(domain) if it.id == most)

    def schemas(self, domain: str) -> list[dict[str, Any]]:
        """A domain's tools as they were offered: name, description, parameters."""
        known = _json(self.folder / "env" / "tools.json")["schemas"]
        return [tool["function"] for tool in known[domain.replace("-", "_")]]

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
    domains = sorted({it.domain for it in trajectories})
    by_domain = [[it for it in trajectories if it.domain == domain] for domain in domains]
    kept: list[Trajectory] = []
    for left, group in zip(range(len(by_domain), 0, -1), sorted(by_domain, key=len), strict=True):
        share = min(len(group), (limit - len(kept)) // left)
        kept += [group[index * len(group) // share] for index in range(share)]
    return kept


# Reading ----------------------------------------------------------------------------------


def rows(folder: Path, domain: str) -> Iterator[dict[str, Any]]:
    """The trajectories of a domain as they are in the files."""
    for path in _files(folder, domain):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def unknown(folder: Path) -> dict[str, int]:
    """The trajectories of other domains, which nothing here can drive: domain -> how many."""
    known = {path for domain in ALL_DOMAINS for path in _files(folder, domain)}
    others = {
        path.name.partition("-")[2].partition(".")[0]
        for path in folder.glob("*-*.jsonl.gz")
        if path not in known and not path.name.startswith("tasks-")
    }
    return {domain: sum(1 for _ in rows(folder, domain)) for domain in sorted(others)}


def _files(folder: Path, domain: str) -> list[Path]:
    return sorted(folder.glob(f"*-{domain}.jsonl.gz"))


@cache
def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _policy(policy: str, said: Mapping[str, Any]) -> Policy:
    preamble, *parts = said["text"].rstrip("\n").split("\n## ")
    titled = (part.partition("\n") for part in parts)
    sections = {_PREAMBLE: preamble} | {title.strip(): text for title, _, text in titled}
    there = {name: hashlib.sha256(it.encode()).hexdigest()[:12] for name, it in sections.items()}
    expected = {part["section"]: part["sha"] for part in said["sections"]}
    wrong = sorted(name for name, _ in there.items() ^ expected.items())
    if wrong:
        raise ValueError(
            f"the text of {policy} in policies.json is not what its digests say, in"
            f" {', '.join(wrong)}: the file is damaged or has another format"
        )
    return Policy(policy, sections)


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


def _trajectory(row: Mapping[str, Any], domain: str) -> Trajectory:
    steps = row["steps"]
    answers = iter([step for step in steps if step["role"] == "tool"])
    turns = [step for step in steps if step["role"] == "assistant"]
    # Where tokens were written down, a turn without any is the greeting: no model was asked.
    otherwise = _NOTHING if any("usage" in step for step in turns) else None
    # Nobody answers what the customer says last.
    customer = [step["text"] for step in steps[:-1] if step["role"] == "user"]
    return Trajectory(
        tid=row["tid"],
        domain=domain,
        policy=row["policy"],
        model=row["model"],
        opening=customer.pop(0) if steps[0]["role"] == "user" else _OPENING,
        customer=tuple(customer),
        turns=tuple(_turn(step, answers, otherwise) for step in turns),
    )


def _turn(
    step: Mapping[str, Any],
    answers: Iterator[Mapping[str, Any]],
    otherwise: tuple[int, int] | None,
) -> Turn:
    calls = tuple(Call(call["tool"], call["args"]) for call in step.get("calls", ()))
    # Paired by position: ids were used twice in some sources.
    given = [next(answers) for _ in calls]
    outputs = tuple(Output(it["output"], bool(it.get("error"))) for it in given)
    billed = step.get("usage")
    usage = (billed["in"], billed["out"]) if billed else otherwise
    return Turn(step.get("text") or "", calls, outputs, usage)
