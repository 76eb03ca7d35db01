"""Writing runs: effects, recordings, what is published of them. All of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..facts import Expected
from ..model import EffectState, Execution, Recording, Replay, SideEffect, Step, Task
from ..records import tally_of
from ..retention import EQUAL_TO, LOST, TRACES_PER_TASK, beyond
from ..roles.recording import Published
from .clock import believed_until, now_ms
from .connection import taking_away, writing
from .marks import open_walk_if_moved
from .names import Names
from .queries import QUERIES
from .rows import columns, execution_columns, value_row

__all__ = [
    "Write",
    "clear_suspicion",
    "intend",
    "note_running",
    "publish",
    "unpublish",
    "write_replays",
]


def intend(
    connection: sqlite3.Connection,
    namespace: str,
    effect: SideEffect,
    expected: Sequence[Expected],
) -> bool:
    """Check facts and begin an effect, under the lock that a change takes too."""
    with writing(connection):
        names = Names(connection, namespace)
        now = now_ms()
        if not all(_is_as_expected(names, it, now) for it in expected):
            return False
        names.run("begin_execution", ns=names.ns, id=effect.execution, at=now)
        execution, *_ = _state(names, effect.execution)
        begun = {"execution": execution, "state": EffectState.INTENDED.value}
        names.run("begin_effect", ns=names.ns, **columns(effect) | begun)
    return True


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
            if not _is_written(names, self._recording.execution.id):
                self._write(names)
            return {uri: self._current(names, uri) for uri in self._resources()}

    def _write(self, names: Names) -> None:
        recording = self._recording
        _add_values(names, self._values or ())
        clear_suspicion(names, _named(recording))
        _add_task(names, recording.task)
        execution = _add_execution(names, recording.execution, recording.task.key)
        guards = {
            precondition.id: names.precondition(precondition.ref, precondition.fingerprint)
            for precondition in recording.preconditions
        }
        _add_steps(names, execution, recording.steps, guards)
        _add_effects(names, execution, recording.effects)

    def _resources(self) -> set[str]:
        guards = {guard for step in self._recording.steps for guard in step.guards}
        return {it.resource for it in self._recording.preconditions if it.id in guards}

    @staticmethod
    def _current(names: Names, uri: str) -> int:
        row = names.row("resource", ns=names.ns, uri=uri)
        return row[1] if row else 0


def _state(
    names: Names, execution: str
) -> tuple[int | None, str, int | None, int | None, str | None]:
    """Rid, state, task (None: only begun), when it was decided, and what it equals."""
    row = names.row("execution_state", ns=names.ns, id=execution)
    return (None, "", None, None, None) if row is None else row


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


def _is_written(names: Names, execution: str) -> bool:
    return _state(names, execution)[2] is not None


def _add_task(names: Names, task: Task) -> int:
    row = names.row("task_rid", ns=names.ns, key=task.key)
    return names.add("add_task", ns=names.ns, **task.model_dump()) if row is None else row[0]


def _add_execution(names: Names, execution: Execution, task: str) -> int:
    """Written in place of what an effect made of it, so that the effect stays with it."""
    rid, *_ = _state(names, execution.id)
    if rid is not None:
        names.run("remove_begun_execution", rid=rid)
    known = names.row("task_rid", ns=names.ns, key=task)
    row = execution_columns(execution) | {"task": known and known[0]}
    return names.add("add_execution", rid=rid, ns=names.ns, **row)


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
        names.run("add_effect", ns=names.ns, **columns(effect) | {"execution": execution})


def publish(
    connection: sqlite3.Connection,
    namespace: str,
    execution: str,
    *,
    steps: int,
    manifest: str,
    signature: str,
    keep: int = TRACES_PER_TASK,
) -> Published:
    """Make a written execution a trace, unless that was decided before."""
    with writing(connection):
        names = Names(connection, namespace)
        rid, state, task, decided_at, equal_to = _state(names, execution)
        if rid is None or task is None or decided_at is not None or state == "failed":
            return Published(state == "published", equal_to)
        if equal := names.row("equal_trace", task=task, signature=signature):
            _unpublish(names, rid, EQUAL_TO + equal[0], equal[0])
            return Published(False, equal[0])
        if names.row("missing_payload", ns=names.ns, execution=rid, steps=steps):
            _unpublish(names, rid, LOST)
            return Published(False)
        now = now_ms()
        as_said = {"steps": steps, "manifest": manifest, "signature": signature}
        names.run("set_published", rid=rid, now=now, **as_said)
        moved = open_walk_if_moved(names, rid, now)
        return Published(True, None, _unpublish_oldest(names, task, keep), moved)


def _unpublish_oldest(names: Names, task: int, keep: int) -> tuple[str, ...]:
    wanted = {"task": task, "keep": keep}
    oldest = names.connection.execute(QUERIES["traces_beyond"], wanted).fetchall()
    for rid, _ in oldest:
        _unpublish(names, rid, beyond(keep))
    return tuple(execution for _, execution in oldest)


def _unpublish(names: Names, rid: int | None, reason: str, equal_to: str | None = None) -> None:
    names.run("set_unpublished", rid=rid, reason=reason, equal_to=equal_to, now=now_ms())


def unpublish(connection: sqlite3.Connection, namespace: str, execution: str, reason: str) -> None:
    """Unpublish a trace for good: a ``publish`` repeated later does not bring it back."""
    with taking_away(connection):
        names = Names(connection, namespace)
        rid, state, *_ = _state(names, execution)
        if rid is not None and state == "published":
            _unpublish(names, rid, reason)


def write_replays(
    connection: sqlite3.Connection, namespace: str, replays: Sequence[Replay]
) -> None:
    """Executions and effects of replays, in one transaction."""
    with writing(connection):
        names = Names(connection, namespace)
        for replay in replays:
            if not _is_written(names, replay.execution.id):
                _write_replay(names, replay)


def note_running(
    connection: sqlite3.Connection, namespace: str, executions: Sequence[Execution]
) -> None:
    """What runs that have not ended have cost so far."""
    with writing(connection):
        names = Names(connection, namespace)
        for execution in executions:
            names.run("note_running", ns=names.ns, **execution_columns(execution))


def _write_replay(names: Names, replay: Replay) -> None:
    execution = replay.execution
    if names.row("task_rid", ns=names.ns, key=execution.task) is None:
        _count(names, replay)
        return
    _add_values(names, [value_row(value) for value in replay.values])
    clear_suspicion(names, {it for it in (execution.output, execution.report) if it is not None})
    rid = _add_execution(names, execution, execution.task)
    _add_effects(names, rid, [effect.ended() for effect in replay.effects])


def _count(names: Names, replay: Replay) -> None:
    """A collection has removed the task meanwhile: what the replay came to is all that is kept."""
    begun, *_ = _state(names, replay.execution.id)
    if begun is not None:
        done = json.dumps([effect.id for effect in replay.effects])
        names.run("remove_effects", execution=begun, done=done)
        names.run("remove_execution_without_effects", rid=begun)
    row = execution_columns(replay.execution) | tally_of(replay.execution)
    names.run("add_to_daily_totals", ns=names.ns, effects=len(replay.effects), **row)
