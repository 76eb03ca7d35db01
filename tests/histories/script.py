"""What agents and tools of the histories are: the one part that the world and the oracle share.

The model is a function of what it is sent: which agent it is, what the task is, and what its calls
gave so far, round by round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "AGENTS",
    "PROGRAM",
    "TOOLS",
    "Call",
    "Facet",
    "Tool",
    "facets",
    "marked",
    "question",
    "received",
    "think",
    "tokens",
]

REFUSED = "precondition changed, not executed"


class Facet(NamedTuple):
    """A part of a resource; ``part`` None: all of it."""

    uri: str
    part: str | None


class Tool(NamedTuple):
    """A tool as one version of the code declares it."""

    name: str
    effect: str
    requires: tuple[Facet, ...]
    version: str

    @property
    def terms(self) -> tuple[Any, ...]:
        return (self.effect, self.requires)


class Call(NamedTuple):
    tool: str
    arguments: tuple[tuple[str, Any], ...]


FREEZE = Facet("rule:freeze", "$.on")
_DEPLOY = (Facet("acl:prod", "$.items['{target}']"), Facet("target:{target}", None))

#: By name, all versions that the code ever has; the first is what every process begins with.
TOOLS: Mapping[str, Mapping[str, Tool]] = {
    tool: {it.version: it for it in versions}
    for tool, versions in {
        "probe": [Tool("probe", "read", (), "1"), Tool("probe", "read", (), "2")],
        "peek": [Tool("peek", "read", (Facet("schema:{name}", "$.limit"),), "1")],
        "price": [
            Tool("price", "pure", (Facet("schema:prices", "$.items['{item}']"),), "1"),
            Tool("price", "pure", (Facet("schema:prices", "$.items['{item}']"),), "2"),
        ],
        "square": [Tool("square", "pure", (), "1")],
        "deploy": [
            Tool("deploy", "write", _DEPLOY, "1"),
            Tool("deploy", "write", (*_DEPLOY, Facet("rule:audit", None)), "2"),
        ],
        "notify": [Tool("notify", "write", (Facet("rule:{task.user}", "$.rows[*].id"),), "1")],
        "log": [Tool("log", "write", (), "1")],
    }.items()
}


class Agent(NamedTuple):
    name: str
    tools: tuple[str, ...]
    requires: tuple[Facet, ...]
    tasks: tuple[tuple[tuple[str, str], ...], ...]


AGENTS: Mapping[str, Agent] = {
    it.name: it
    for it in (
        Agent(
            "deployer",
            ("probe", "deploy", "notify"),
            (FREEZE,),
            (
                (("target", "eu"), ("user", "ann")),
                (("target", "us"), ("user", "ann")),
                (("target", "eu"), ("user", "bob")),
            ),
        ),
        Agent(
            "clerk",
            ("probe", "price", "square", "log"),
            (),
            ((("item", "a"),), (("item", "b"),)),
        ),
        Agent(
            "reader",
            ("probe", "peek"),
            (Facet("acl:left", "$.on"), Facet("acl:right", None)),
            ((("name", "a"),), (("name", "b"),)),
        ),
    )
}

#: The program, which decides and acts by itself; its task is the name of a target.
PROGRAM = Agent("triage", (), (FREEZE,), ((("target", "eu"), ("user", "ann")),))

_BLANK = re.compile(r"\{([\w.]+)\}")


def facets(
    requires: Sequence[Facet], inputs: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[Facet, ...]:
    """Requirements with their blanks filled."""
    known = {**{f"task.{name}": value for name, value in inputs.items()}, **arguments}

    def fill(text: str | None) -> str | None:
        return text and _BLANK.sub(lambda found: str(known[found[1]]), text)

    return tuple(Facet(fill(it.uri) or "", fill(it.part)) for it in requires)


def marked(text: str) -> str:
    """What a validator makes of a text. Done twice, it gives something else."""
    return f"{text}!"


def received(call: Call) -> dict[str, Any]:
    """What a tool is called with: arguments are validated once, whether live or replayed."""
    given = dict(call.arguments)
    return {**given, "text": marked(given["text"])} if call.tool == "log" else given


def _call(tool: str, **arguments: Any) -> Call:
    return Call(tool, tuple(arguments.items()))


def think(
    agent: str, inputs: Mapping[str, Any], rounds: Sequence[Sequence[Any]]
) -> list[Call] | str:
    """What the model says: calls, or its last words."""
    return {"deployer": _deployer, "clerk": _clerk, "reader": _reader}[agent](inputs, rounds)


def _deployer(inputs: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> list[Call] | str:
    deploy, notify = _call("deploy", target=inputs["target"]), _call("notify", user=inputs["user"])
    if not rounds:
        return [_call("probe", name=inputs["target"])]
    state = rounds[0][0]
    if len(rounds) == 1:
        return {0: [deploy], 1: [deploy, notify]}.get(state, "nothing to do")
    if len(rounds) == 2 and state == 0 and rounds[1][0] != REFUSED:
        return [notify]
    return f"done: {rounds[1:]}"


def _clerk(inputs: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> list[Call] | str:
    if not rounds:
        return [_call("price", item=inputs["item"]), _call("probe", name="stock")]
    price, stock = rounds[0]
    if len(rounds) == 1:
        if stock == 2:
            return f"sold out at {price}"
        return [_call("square", n=stock), _call("price", item="a"), _call("log", text=f"{price}")]
    return f"logged {price}: {rounds[1]}"


def _reader(inputs: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> list[Call] | str:
    if not rounds:
        return [_call("peek", name=inputs["name"])]
    if len(rounds) == 1:
        return [_call("probe", name="eu"), _call("peek", name="b")]
    if len(rounds) == 2 and rounds[1][0] == 1:
        return [_call("probe", name="eu")]
    return f"read {rounds}"


def tokens(rounds: int) -> tuple[int, int]:
    """What a reply after so many rounds is billed: input and output."""
    return 50 + 10 * rounds, 5


def question(state: int, deployed: str | None) -> dict[str, Any]:
    """What the program asks its model."""
    return {"model": "local", "question": "ship?" if deployed is None else "well?", "state": state}
