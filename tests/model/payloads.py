"""How payloads are collected on Neo4j, statement by statement, beside runs that name them.

Statements have the names that they have in ``graphstore/neo4j``. Places of the store:

- ``value``: the payload: None if it is not there, 0 if nobody suspects it, or the epoch in which it
  was suspected last;
- ``old``, ``new``, ``other``: whether that run is there; each names the payload;
- ``new.published``: whether that run is a trace;
- ``epoch``, ``scanned``: of the Collection; what a look confirms was suspected in ``scanned`` at
  the latest. One gate stands for all of them.

``PayloadRules`` are what makes it sound: each may be broken, to see that the checker finds out.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from .checker import END, Commit, Isolation, Lock, Op, Process, Read, System

__all__ = ["PayloadRules", "naming", "naming_twice"]

_Steps = Generator[Op, Any, None]
_RUNS = ("old", "new", "other")


@dataclass(frozen=True)
class PayloadRules:
    """Each rule on which it rests that no payload is deleted which something kept names."""

    passes_gates: bool = True
    clears: bool = True
    asks_again: bool = True
    counts_looks: bool = True


def write(rules: PayloadRules, run: str, *, carries: bool) -> _Steps:
    """A run is written that names the payload, and perhaps brings it."""
    if rules.passes_gates:
        yield Lock("write", "gate")
    parts: list[tuple[str, Any]] = [(run, True)]
    value = yield Read("write", "value")
    if (value and rules.clears) or (value is None and carries):
        yield Lock("write", "value")
        value = yield Read("write", "value")
        if value is not None or carries:
            parts.append(("value", 0))
    yield Commit("write", tuple(parts))


def record(rules: PayloadRules, carries: bool) -> _Steps:  # noqa: FBT001
    """Write a run, and publish it if its payload is there."""
    yield from write(rules, "new", carries=carries)
    found = yield Read("publish", "value")
    yield Commit("publish", (("new.published", True),) if found is not None else ())


def delete(run: str) -> _Steps:
    """A run is deleted, and suspects what it names."""
    yield Lock("delete_executions", "collection")
    epoch = yield Read("delete_executions", "epoch")
    yield Lock("delete_executions", "value")
    value = yield Read("delete_executions", "value")
    suspected = (("value", epoch),) if value is not None else ()
    yield Commit("delete_executions", ((run, None), *suspected))


def come_and_go(rules: PayloadRules) -> _Steps:
    """A run is written, and deleted again."""
    yield from write(rules, "other", carries=False)
    yield from delete("other")


def look(rules: PayloadRules) -> _Steps:
    """Look who names the payload; delete it, if nobody does and it was suspected before."""
    yield Lock("begin_look", "collection")
    if rules.passes_gates:
        yield Lock("begin_look", "gate")
    scanned = yield Read("begin_look", "epoch")
    yield Commit("begin_look", (("scanned", scanned), ("epoch", scanned + 1)))
    is_named = False
    for run in _RUNS:
        is_named |= (yield Read("look_at", run)) is not None
    yield END
    yield Lock("cleared", "collection")
    if is_named:
        yield from _if_confirmed(rules, "cleared", scanned, 0)
    else:
        yield Commit("cleared", ())
    found = yield Read("suspects", "value")
    yield END
    if found and (found <= scanned or not rules.counts_looks):
        yield Lock("delete_values", "collection")
        yield from _if_confirmed(rules, "delete_values", scanned, None)


def _if_confirmed(rules: PayloadRules, statement: str, scanned: int, becomes: int | None) -> _Steps:
    """Under the payload's lock, if its suspicion is one that this look confirms."""
    yield Lock(statement, "value")
    value = yield Read(statement, "value")
    confirms = value and (value <= scanned or not rules.counts_looks)
    if not rules.asks_again:
        confirms = value is not None
    yield Commit(statement, (("value", becomes),) if confirms else ())


def collect(rules: PayloadRules) -> _Steps:
    """Delete the old run, and look."""
    yield from delete("old")
    yield from look(rules)


# Systems -----------------------------------------------------------------------------------


def naming(rules: PayloadRules, isolation: Isolation, *, carries: bool) -> System:
    """A run names the payload of another one that is collected at the same time."""
    return _system(
        isolation,
        {"value": 0, "old": True},
        _collector(collect, rules),
        _recorder(rules, carries=carries),
    )


def naming_twice(rules: PayloadRules, isolation: Isolation) -> System:
    """Two runs name a payload that is suspected, and one of them is deleted again."""
    return _system(
        isolation,
        {"value": 1, "old": None},
        _collector(look, rules),
        _recorder(rules, carries=False),
        Process("visitor", come_and_go, (rules,), frozenset({"other", "value"}), _LOCKS),
    )


_LOCKS = frozenset({"collection", "gate", "value"})


def _collector(program: Any, rules: PayloadRules) -> Process:
    writes = frozenset({"old", "value", "epoch", "scanned"})
    return Process("collector", program, (rules,), writes, _LOCKS, crashes=True)


def _recorder(rules: PayloadRules, *, carries: bool) -> Process:
    writes = frozenset({"new", "new.published", "value"})
    return Process("recorder", record, (rules, carries), writes, _LOCKS, crashes=True)


def _system(isolation: Isolation, places: Mapping[str, Any], *processes: Process) -> System:
    store = {"new": None, "new.published": None, "other": None, "epoch": 1, "scanned": 0}
    return System(
        store={**store, **places},
        processes=processes,
        moment=lambda _store: None,
        allowed=lambda _answer, _moments, _store: None,
        ended=_ended,
        isolation=isolation,
    )


def _ended(store: Mapping[str, Any]) -> str | None:
    """Why the store must not be left so."""
    if store["new.published"] and store["value"] is None:
        return "a payload is gone that a trace names"
    return None
