"""What is wished for in the histories of wishes: the part that world and judge share.

A job is a few tools, one a turn: an agent is told by its model which is next, a program asks before
each. The model knows what the rules say when it is asked, and says so in what it has tools called
with: so what it knew shows in what is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .script import Facet

__all__ = ["END", "JOBS", "OWN", "TOOLS", "WHO", "Call", "Job", "answer", "needed", "said_of"]

#: What the agent and the program require for themselves.
OWN = Facet("rule:own", "$.on")
#: By name: the effect, and what it requires. ``sign`` is given nothing of what its rule says.
TOOLS: Mapping[str, tuple[str, Facet | None]] = {
    "look": ("read", None),
    "ship": ("write", Facet("rule:ship", "$.on")),
    "send": ("write", Facet("rule:send", "$.on")),
    "pay": ("once", Facet("rule:pay", "$.on")),
    "sign": ("confirm", Facet("rule:sign", "$.on")),
}
#: An agent, and a program.
WHO = ("clerk", "steward")
JOBS: Mapping[str, tuple[str, ...]] = {
    "restock": ("look", "ship", "look", "ship"),
    "notify": ("look", "send", "ship"),
    "refund": ("pay", "look", "ship"),
    "contract": ("look", "sign", "sign", "look"),
}
END = "end"  # in place of a tool: the model has done


class Job(NamedTuple):
    """What is to be done, by whom. ``name``: the kind, and maybe a number."""

    who: str
    name: str

    @property
    def kind(self) -> str:
        """One of JOBS."""
        return self.name.partition(" ")[0]

    def tool(self, turn: int) -> str:
        """What is called in a turn."""
        tools = JOBS[self.kind]
        return tools[turn] if turn < len(tools) else END

    @property
    def turns(self) -> int:
        """How many replies of the model it takes."""
        return len(JOBS[self.kind]) + 1


class Call(NamedTuple):
    """What the model says: what is to be called, for which item, and what it knows."""

    tool: str
    item: str
    said: str


def needed(tool: str) -> tuple[Facet, ...]:
    """What a decision for this rests on."""
    rule = None if tool == END else TOOLS[tool][1]
    return (OWN,) if rule is None else (OWN, rule)


def answer(job: Job, turn: int, values: Mapping[Facet, str]) -> Call:
    """What the model says, where the rules say this."""
    tool = job.tool(turn)
    told = needed(tool)[:1] if tool == "sign" else needed(tool)
    return Call(tool, f"{job.name}-{turn}", " ".join(f"{it.uri}={values[it]}" for it in told))


def said_of(said: str) -> dict[str, Any]:
    """What the model knew, by resource."""
    return dict(part.split("=") for part in said.split())
