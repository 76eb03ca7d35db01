"""Reading traces, and looking one up with the facts it rests on. All of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..facts import Facts, wanted_by
from ..model import FacetRef, SideEffect, Task, Trace
from ..records import FIELDS, effect_of, trace_of
from ..roles.lookups import Choose, Lookup
from . import facts, rows
from .connection import reading
from .queries import QUERIES

__all__ = [
    "MissingFacets",
    "effects",
    "look",
    "named",
    "payloads",
    "read_execution",
    "read_task",
    "still",
]


@dataclass(frozen=True)
class MissingFacets:
    """Facets that nobody has computed at a current version: compute them, and look again."""

    missing: list[FacetRef]


def look(
    connection: sqlite3.Connection,
    ns: int,
    namespace: str,
    task: str,
    choose: Choose,
    *,
    lost: Collection[FacetRef],
) -> Lookup | MissingFacets:
    """One read transaction: traces, facts and payloads of one moment. ``lost``: facets that
    cannot be computed, so that they hold nothing."""
    with reading(connection):
        rows = connection.execute(QUERIES["traces"], {"ns": ns, "key": task}).fetchall()
        read = [(row["id"], _published(connection, ns, row)) for row in map(named, rows)]
        traces = [trace for _, trace in read if trace is not None and trace.intact(namespace)]
        held = facts.read(connection, ns, wanted_by(traces))
        if missing := [it for it in held.missing(wanted_by(traces)) if it not in lost]:
            return MissingFacets(missing)
        chosen, values = _choose(connection, ns, traces, held, choose)
    whole = {trace.id for trace in traces}
    damaged = tuple(execution for execution, _ in read if execution not in whole)
    return Lookup(tuple(traces), held, chosen, values, damaged)


def _choose(
    connection: sqlite3.Connection, ns: int, traces: list[Trace], held: Facts, choose: Choose
) -> tuple[str | None, Mapping[str, bytes]]:
    """The first choice whose payloads are whole; ``traces`` loses the others."""
    while (chosen := choose(tuple(traces), held)) is not None:
        trace = next(trace for trace in traces if trace.id == chosen)
        values, damaged = payloads(connection, ns, trace.payloads)
        if not damaged:
            return chosen, values
        traces.remove(trace)
    return None, {}


def payloads(
    connection: sqlite3.Connection, ns: int, digests: Collection[str]
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Payloads by digest, each verified, and the digests of what is missing or damaged."""
    verified = {}
    wanted = {"ns": ns, "digests": json.dumps(list(digests))}
    for digest, codec, data in connection.execute(QUERIES["values"], wanted).fetchall():
        if (exact := rows.payload(digest, codec, data)) is not None:
            verified[digest] = exact
    return verified, tuple(sorted(set(digests) - verified.keys()))


def still(
    connection: sqlite3.Connection,
    ns: int,
    execution: str,
    accepted: Mapping[str, int],
    unless: tuple[str | None, Collection[str]],
) -> bool:
    """Many resources at once, for which one statement would be too deep for SQLite's parser.

    ``unless``: the exact task of which a run is unfinished, but for those of these processes.
    """
    exact, alive = unless
    with reading(connection):
        held = facts.read(connection, ns, {uri: frozenset() for uri in accepted})
        parameters = (ns, execution, held.now, json.dumps(sorted(alive)), exact)
        published = connection.execute(QUERIES["still"], parameters).fetchone()
    return published is not None and all(
        held.of(uri).version == version and held.of(uri).believed(held.now)
        for uri, version in accepted.items()
    )


def read_execution(connection: sqlite3.Connection, ns: int, execution: str) -> Trace | None:
    """One execution with all its recorded steps, whatever its state."""
    with reading(connection):
        row = connection.execute(QUERIES["execution"], {"ns": ns, "id": execution}).fetchone()
        return row and _trace(connection, ns, named(row), steps=2**31)


def read_task(connection: sqlite3.Connection, ns: int, key: str) -> Task | None:
    """The task with this key."""
    row = connection.execute(QUERIES["task"], {"ns": ns, "key": key}).fetchone()
    return row and Task(**dict(zip(Task.model_fields, row, strict=True)))


def effects(connection: sqlite3.Connection, ns: int, execution: str) -> list[SideEffect]:
    """What this execution performed, in the order it was begun."""
    rows = connection.execute(QUERIES["effects"], {"ns": ns, "id": execution}).fetchall()
    return [effect_of(row) for row in rows]


def effect(connection: sqlite3.Connection, ns: int, id_: str) -> SideEffect | None:
    """The effect with this id."""
    row = connection.execute(QUERIES["effect"], {"ns": ns, "id": id_}).fetchone()
    return row and effect_of(row)


def named(row: Sequence[Any]) -> dict[str, Any]:
    """The row of an execution by the names of its columns."""
    return dict(zip(("rid", "task", *FIELDS["execution"]), row, strict=True))


def _published(connection: sqlite3.Connection, ns: int, row: Mapping[str, Any]) -> Trace | None:
    """None if what the rows hold is not even a trace."""
    try:
        return _trace(connection, ns, row, row["published_steps"])
    except ValueError:
        return None


def _trace(connection: sqlite3.Connection, ns: int, row: Mapping[str, Any], steps: int) -> Trace:
    part = {"ns": ns, "execution": row["rid"], "steps": steps}
    preconditions = {rid: rest for rid, *rest in connection.execute(QUERIES["guarding"], part)}
    guards: dict[int, list[str]] = defaultdict(list)
    for position, rid in connection.execute(QUERIES["guards"], part):
        if rid in preconditions:
            guards[position].append(preconditions[rid][0])
    feeds: dict[int, list[int]] = defaultdict(list)
    for source, target in connection.execute(QUERIES["feeds"], part):
        feeds[target].append(source)
    rows = connection.execute(QUERIES["steps"], part)
    whole = ((*step, guards[step[0]], feeds[step[0]]) for step in rows)
    return trace_of(row, whole, preconditions.values())
