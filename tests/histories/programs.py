"""Random programs as plain values: what they decide, open, pass on and act. Written down, a program
can be run again.

A program is a name, a task, whether it has requirements of its own, and statements:

    ("decide", x, question, how, passed)  x is the reply; its request holds the handles ``passed``
    ("open", x)                           read what x is
    ("if", x, statements)                 open x, and go on with these if it does not say no
    ("act", x, tool, given, way)          x is what the tool gives for what is ``given``
    ("gather", (statements, ...))         all of these at the same time
    ("loop", times, statements)
    ("join",)                             wait for what was begun and not awaited
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from .script import Facet, facets

__all__ = [
    "AGENT",
    "HOW",
    "NAMES",
    "OWN",
    "TOOLS",
    "Program",
    "Statement",
    "a_program",
    "answer",
    "needed",
]

Statement = tuple[Any, ...]

#: An agent has the last name too.
NAMES = ("triage", "approval", "shared")
AGENT = NAMES[-1]
#: What a program may require for itself.
OWN = Facet("rule:freeze", "$.on")
#: By name: the effect, and what each version of the code requires.
TOOLS: Mapping[str, tuple[str, Mapping[str, tuple[Facet, ...]]]] = {
    "look": ("read", {"1": ()}),
    "tell": ("pure", {"1": ()}),
    "ship": (
        "write",
        {
            "1": (Facet("rule:ship", "$.on"),),
            "2": (Facet("rule:ship", "$.on"), Facet("rule:audit", "$.on")),
        },
    ),
    "pay": ("write", {"1": (Facet("rule:{to}", "$.on"),)}),
    "send": ("write", {"1": (Facet("rule:ship", None), Facet("acl:left", "$.on"))}),
    "page": ("write", {"1": ()}),
}
#: Of a request: any JSON; the Messages API's; the same, and it offers tools.
HOW = ("plain", "messages", "offering")
#: How an act is awaited: at once; until it is given up; not at all, or not even begun.
_WAYS = ("wait", "timeout", "background", "late")


class Program(NamedTuple):
    """``own``: it requires OWN. ``stubborn``: it goes on when an act is refused."""

    name: str
    task: str
    own: bool
    stubborn: bool
    statements: tuple[Statement, ...]


def needed(tool: str, version: str, given: Mapping[str, Any]) -> tuple[Facet, ...]:
    """What a tool requires for these arguments."""
    versions = TOOLS[tool][1]
    return facets(versions.get(version, versions["1"]), {}, given)


def answer(question: str, documents: Mapping[str, Any]) -> str:
    """What the model says: whom something is done for, or no. It knows what rules say now."""
    said = sorted((uri, it["on"]) for uri, it in documents.items() if it is not None)
    return random.Random(repr((question, said))).choice(("a", "b", "a", "no"))


# Choosing ---------------------------------------------------------------------------------


def a_program(choose: random.Random) -> Program:
    """A program at random."""
    made = _Maker(choose)
    statements = made.statements(choose.randrange(2, 6), 0)
    return Program(
        choose.choice(NAMES),
        choose.choice(("one", "two")),
        choose.random() < 0.3,
        choose.random() < 0.5,
        statements,
    )


class _Maker:
    """Makes statements that speak of what earlier ones have made."""

    def __init__(self, choose: random.Random) -> None:
        self._choose = choose
        self._known: list[str] = []  # handles so far, the last one last
        self._calm = choose.random() < 0.7  # each act is awaited

    def statements(self, count: int, depth: int) -> tuple[Statement, ...]:
        return tuple(self._statement(depth) for _ in range(count))

    def _statement(self, depth: int) -> Statement:
        if not self._known:
            return self._decide(depth)
        kinds = {"decide": 4, "act": 5, "open": 1, "join": 0 if self._calm else 1}
        if depth < 3:
            kinds |= {"if": 5, "gather": 1, "loop": 1}
        kind = self._choose.choices(list(kinds), list(kinds.values()))[0]
        made: Statement = getattr(self, f"_{kind}")(depth + 1)
        return made

    def _decide(self, _: int) -> Statement:
        choose = self._choose
        passed = (self._any(),) if self._known and choose.random() < 0.3 else ()
        question = f"q{choose.randrange(4)}"
        return ("decide", self._new(), question, choose.choice(HOW), passed)

    def _act(self, _: int) -> Statement:
        choose = self._choose
        tool = choose.choices(list(TOOLS), [2, 1, 5, 4, 3, 1])[0]
        how = choose.choice(("text", "pass", "pass", "open"))
        given = ("text", choose.choice("ab")) if how == "text" else (how, self._any())
        way = "wait" if self._calm else choose.choices(_WAYS, [5, 2, 2, 1])[0]
        return ("act", self._new(), tool, given, way if TOOLS[tool][0] == "write" else "wait")

    def _open(self, _: int) -> Statement:
        return ("open", self._any())

    def _if(self, depth: int) -> Statement:
        return ("if", self._any(), self.statements(self._choose.randrange(1, 3), depth))

    def _gather(self, depth: int) -> Statement:
        bodies = range(self._choose.randrange(2, 4))
        return ("gather", tuple(self.statements(1, depth) for _ in bodies))

    def _loop(self, depth: int) -> Statement:
        return ("loop", 2, self.statements(self._choose.randrange(1, 3), depth))

    def _join(self, _: int) -> Statement:
        return ("join",)

    def _any(self) -> str:
        return self._choose.choice([*self._known, *self._known[-2:]])

    def _new(self) -> str:
        self._known.append(f"x{len(self._known)}")
        return self._known[-1]
