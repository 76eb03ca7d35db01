"""Writing runs: effects, recordings, what is published of them. All of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..facts import Expected
from ..model import (
    EffectState,
    Execution,
    ExecutionState,
    JournalEntry,
    Recording,
    Replay,
    SideEffect,
    Step,
    Task,
    Wish,
)
from ..records import effect_of, tally_of
from .clock import believed_until, now_ms
from .connection import writing
from .journal import write_entries
from .names import Names
from .publishing import state_of
from .queries import QUERIES
from .rows import columns, execution_columns, value_row
from .wishes import keep

__all__ = [
    "Told",
    "Write",
    "clear_suspicion",
    "end_effect",
    "intend",
    "note_running",
    "rejected",
    "write_replays",
]


class Told(NamedTuple):
    """What else is told of an effect: the traces that served its run, what that is about, who
    carries it out, and what is to be kept in the journal with it."""

    traces: Collection[str]
    wish: Wish | None
    agent: str
    entries: Sequence[JournalEntry]


def intend(
    connection: sqlite3.Connection,
    namespace: str,
    effect: SideEffect,
    expected: Sequence[Expected],
    told: Told,
) -> SideEffect | None:
    """Check facts and begin an effect, under the lock that a change takes too. Its approval is used
    up by that, and entries of the journal are kept with it."""
    traces, wish, agent, entries = told
    with writing(connection):
        names, now = Names(connection, namespace), now_ms()
        if wish is not None and wish.run_id is not None:
            keep(names, wish, now)
        known = names.row("effect_once", ns=names.ns, once=effect.once) if effect.once else None
        again = None if known is None else effect_of(known)
        if again is not None and not (again.id == effect.id and again.is_in_doubt):
            return again
        if not all(_is_as_expected(names, it, now) for it in expected):
            return None
        if traces and rejected(connection, names.ns, traces):
            return None
        if effect.approval is not None:
            used = {"id": effect.approval, "effect": effect.id, "by": effect.approved_by}
            if (row := names.row("use_approval", ns=names.ns, now=now, **used)) is None:
                return None
            effect = effect.model_copy(update={"approved_by": row[0]})
        write_entries(names, entries)
        if again is not None:
            names.run("begin_effect_again", ns=names.ns, **columns(effect))
            return effect
        if wish is not None and wish.run_id is None:
            keep(names, wish, now)
        carried_out = {"agent": agent, "process": effect.process}
        names.run("begin_execution", ns=names.ns, id=effect.execution, at=now, **carried_out)
        execution, *_ = state_of(names, effect.execution)
        begun = {"execution": execution, "state": EffectState.INTENDED.value}
        names.run("begin_effect", ns=names.ns, **columns(effect) | begun)
    return effect


def end_effect(connection: sqlite3.Connection, namespace: str, effect: SideEffect) -> None:
    """Keep how an effect ended; what is done stays done."""
    with writing(connection):
        names = Names(connection, namespace)
        names.run("end_effect", ns=names.ns, **columns(effect))


def rejected(
    connection: sqlite3.Connection, ns: int, executions: Collection[str]
) -> dict[str, str]:
    """Those of these executions that are rejected, each with the reason."""
    wanted = {"ns": ns, "ids": json.dumps(sorted(executions))}
    return dict(connection.execute(QUERIES["rejected"], wanted).fetchall())


def _is_as_expected(names: Names, expected: Expected, now: int) -> bool:
    row = names.row("resource", ns=names.ns, uri=expected.resource)
    _, current, present, until, since, _ = row or (None, 0, 0, None, None, None)
    until = believed_until(until, since, now)
    believed = bool(present) and (until is None or now < until)
    if expected.believed and not believed:
        return False
    return current == expected.version or _holds(names, current, expected.holds)


def _holds(names: Names, version: int, preconditions: Sequence[str]) -> bool:
    """Whether this version holds all of them, and there are any."""
    at = {"ns": names.ns, "after": version - 1, "through": version}
    return bool(preconditions) and all(
        names.row("versions_holding", id=precondition, **at) == (1,)
        for precondition in preconditions
    )


class Write:
    """One recording to be written, perhaps after several tries: compressed once."""

    def __init__(self, namespace: str, recording: Recording) -> None:
        self._namespace = namespace
        self._recording = recording
        self._values: list[dict[str, object]] | None = None

    def __call__(self, connection: sqlite3.Connection) -> dict[str, int]:
        if self._values is None:
            self._values = [value_row(value) for value in self._recording.values]
        with writing(connection):
            names = Names(connection, self._namespace)
            begun, _, written, *_ = state_of(names, self._recording.execution.id)
            if written is None:
                self._write(names, begun)
            return {uri: self._current(names, uri) for uri in self._resources()}

    def _write(self, names: Names, begun: int | None) -> None:
        recording = self._recording
        _add_values(names, self._values or ())
        clear_suspicion(names, _named(recording))
        task = _add_task(names, recording.task)
        execution = _add_execution(names, recording.execution, begun, task)
        guards = {
            precondition.id: names.precondition(precondition.ref, precondition.fingerprint)
            for precondition in recording.preconditions
        }
        _add_steps(names, execution, recording.steps, guards)
        _add_effects(names, execution, recording.effects)
        _end_wish(names, recording.execution)

    def _resources(self) -> set[str]:
        guards = {guard for step in self._recording.steps for guard in step.guards}
        return {it.resource for it in self._recording.preconditions if it.id in guards}

    @staticmethod
    def _current(names: Names, uri: str) -> int:
        row = names.row("resource", ns=names.ns, uri=uri)
        return row[1] if row else 0


def clear_suspicion(names: Names, digests: Collection[str]) -> None:
    """Have no collection that is under way take payloads that are named from now on."""
    if names.row("is_any_suspected", ns=names.ns) is not None:
        names.run("clear_suspicion", ns=names.ns, digests=json.dumps(list(digests)))


def _named(recording: Recording) -> set[str]:
    """The digests of all payloads that a recording brings, or names."""
    task, execution = recording.task, recording.execution
    named = {task.inputs, task.context, execution.output, execution.report}
    named.update(value.digest for value in recording.values)
    named.update(digest for step in recording.steps for digest in step.payloads)
    return {digest for digest in named if digest is not None}


def _add_values(names: Names, rows: Iterable[Mapping[str, object]]) -> None:
    many = names.connection.executemany
    many(QUERIES["add_value"], [{"ns": names.ns, **row} for row in rows])


def _add_task(names: Names, task: Task) -> int:
    row = names.row("task_rid", ns=names.ns, key=task.key)
    return names.add("add_task", ns=names.ns, **task.model_dump()) if row is None else row[0]


def _add_execution(names: Names, execution: Execution, begun: int | None, task: int) -> int:
    """Write an execution in place of the row that its first effect made (``begun``); the effect
    stays."""
    if begun is not None:
        names.run("remove_begun_execution", rid=begun)
    row = execution_columns(execution) | {"task": task}
    return names.add("add_execution", rid=begun, ns=names.ns, **row)


def _add_steps(names: Names, execution: int, steps: Sequence[Step], guards: dict[str, int]) -> None:
    many = names.connection.executemany
    many(QUERIES["add_step"], [columns(step) | {"execution": execution} for step in steps])
    known = {
        key: guards.get(key) or names.known_precondition(key) for s in steps for key in s.guards
    }
    guarded = [(execution, step.position, known[key]) for step in steps for key in step.guards]
    many(QUERIES["add_guard"], guarded)
    fed = [(execution, source, step.position) for step in steps for source in step.feeds]
    many(QUERIES["add_feed"], fed)


def _add_effects(names: Names, execution: int, effects: Sequence[SideEffect]) -> None:
    for effect in effects:
        begun = {"execution": execution, "state": EffectState.INTENDED.value, "once": None}
        names.run("add_effect", ns=names.ns, **columns(effect) | begun)
        names.run("end_effect", ns=names.ns, **columns(effect))


def _end_wish(names: Names, execution: Execution) -> None:
    """A run that has come to its end has done what was wished; one that failed may be tried
    again."""
    failed = execution.state is ExecutionState.FAILED
    if failed:
        names.run("fail_wish_of", ns=names.ns, execution=execution.id, now=now_ms())
    else:
        names.run("forget_wish_of", ns=names.ns, execution=execution.id)


def write_replays(
    connection: sqlite3.Connection, namespace: str, replays: Sequence[Replay]
) -> None:
    """Executions and effects of replays, in one transaction."""
    with writing(connection):
        names = Names(connection, namespace)
        executions = [replay.execution for replay in replays]
        named = {digest for it in executions for digest in (it.output, it.report)}
        clear_suspicion(names, {digest for digest in named if digest is not None})
        for replay in replays:
            begun, _, written, *_ = state_of(names, replay.execution.id)
            if written is None:
                _write_replay(names, replay, begun)


def note_running(
    connection: sqlite3.Connection, namespace: str, executions: Sequence[Execution]
) -> None:
    """What runs that have not ended have cost so far."""
    with writing(connection):
        names = Names(connection, namespace)
        for execution in executions:
            names.run("note_running", ns=names.ns, **execution_columns(execution))


def _write_replay(names: Names, replay: Replay, begun: int | None) -> None:
    execution = replay.execution
    _end_wish(names, execution)
    if (task := names.row("task_rid", ns=names.ns, key=execution.task)) is None:
        _count(names, replay)
        return
    _add_values(names, [value_row(value) for value in replay.values])
    rid = _add_execution(names, execution, begun, task[0])
    _add_effects(names, rid, [effect.ended() for effect in replay.effects])


def _count(names: Names, replay: Replay) -> None:
    """A collection has removed the task meanwhile: what the replay came to is all that is kept."""
    begun, *_ = state_of(names, replay.execution.id)
    if begun is not None:
        done = json.dumps([effect.id for effect in replay.effects])
        names.run("remove_effects", execution=begun, done=done)
        names.run("remove_execution_without_effects", rid=begun)
    row = execution_columns(replay.execution) | tally_of(replay.execution)
    names.run("add_to_daily_totals", ns=names.ns, effects=len(replay.effects), **row)
