"""Which runs are traces: published, approved, rejected, unpublished. All of it blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ..model import ExecutionState
from ..retention import (
    APPROVED_LATER,
    EQUAL_TO,
    LOST,
    TRACES_PER_TASK,
    UNAPPROVED,
    beyond,
    beyond_unapproved,
    rejected_with,
)
from ..roles.recording import Published
from .clock import now_ms
from .connection import taking_away, writing
from .marks import open_walk_if_moved
from .names import Names
from .queries import QUERIES

__all__ = ["approve", "publish", "reject", "state_of", "unpublish"]


def state_of(
    names: Names, execution: str
) -> tuple[int | None, str, int | None, int | None, str | None]:
    """Rid, state, task (None: only begun), when it was decided, and what it equals."""
    row = names.row("execution_state", ns=names.ns, id=execution)
    return (None, "", None, None, None) if row is None else row


class _Candidate(NamedTuple):
    """A run that may become a trace: its first ``steps`` steps."""

    rid: int
    task: int
    steps: int
    manifest: str
    signature: str


def publish(
    connection: sqlite3.Connection,
    namespace: str,
    execution: str,
    *,
    steps: int,
    manifest: str,
    signature: str,
    keep: int = TRACES_PER_TASK,
    approved: bool = True,
) -> Published:
    """Make a written execution a trace, unless that was decided before."""
    with writing(connection):
        names = Names(connection, namespace)
        rid, state, task, decided_at, _ = state_of(names, execution)
        if rid is None or task is None or decided_at is not None or state == "failed":
            return _as_decided(names, execution)
        candidate = _Candidate(rid, task, steps, manifest, signature)
        told = _decide(names, candidate, keep, approved=approved)
        return replace(_as_decided(names, execution), **told)


def approve(
    connection: sqlite3.Connection,
    namespace: str,
    execution: str,
    *,
    keep: int = TRACES_PER_TASK,
    overrule: bool = False,
) -> Published:
    """Make a trace of an execution that waits for it, or of a rejected one."""
    with writing(connection):
        names = Names(connection, namespace)
        rid, state, task, *_ = state_of(names, execution)
        waits = state == "unapproved" or (overrule and state == "rejected")
        if rid is None or task is None or not waits:
            return _as_decided(names, execution)
        [part] = _rows(names, "publishable_part", rid=rid)
        if not part[0]:
            return _as_decided(names, execution)
        candidate = _Candidate(rid, task, *part)
        if overrule:
            _lift(names, candidate, execution)
        told = _decide(names, candidate, keep, approved=True)
        return replace(_as_decided(names, execution), **told)


def _as_decided(names: Names, execution: str) -> Published:
    row = names.row("verdict", ns=names.ns, id=execution)
    state, equal_to, reason, state_of_equal = row or ("", None, None, None)
    rejected = reason if state == "rejected" else None
    waits = "unapproved" in (state, state_of_equal)
    return Published(state == "published", equal_to, rejected=rejected, waits=waits)


def _decide(names: Names, candidate: _Candidate, keep: int, *, approved: bool) -> Mapping[str, Any]:
    """Decide what becomes of a run, and give what that has set off: ``moved``, ``unpublished``."""
    rid, task, *_ = candidate
    if rejections := _rejections(names, candidate):
        _, by, why = rejections[0]
        _set(names, candidate, "rejected", rejected_with(by, why), equal_to=by)
        return {}
    if equal := _equal(names, candidate, approved=approved):
        _unpublish(names, rid, EQUAL_TO + equal, equal)
        return {}
    if names.row("missing_payload", ns=names.ns, execution=rid, steps=candidate.steps):
        _unpublish(names, rid, LOST)
        return {}
    state, reason = ("published", None) if approved else ("unapproved", UNAPPROVED)
    _set(names, candidate, state, reason)
    moved = open_walk_if_moved(names, rid, now_ms())
    return {"moved": moved, "unpublished": _unpublish_oldest(names, task, keep, approved=approved)}


def _set(
    names: Names,
    candidate: _Candidate,
    state: str,
    reason: str | None,
    equal_to: str | None = None,
) -> None:
    said = {**candidate._asdict(), "state": state, "reason": reason, "equal_to": equal_to}
    names.run("set_decided", now=now_ms(), **said)


def _equal(names: Names, candidate: _Candidate, *, approved: bool) -> str | None:
    of = {"task": candidate.task, "signature": candidate.signature}
    row = names.row("equal_trace", **of)
    if row is None and not approved:
        row = names.row("equal_unapproved", **of)
    return None if row is None else row[0]


def _unpublish_oldest(names: Names, task: int, keep: int, *, approved: bool) -> tuple[str, ...]:
    listing, why = (
        ("traces_beyond", beyond) if approved else ("unapproved_beyond", beyond_unapproved)
    )
    oldest = _rows(names, listing, task=task, keep=keep)
    for rid, _ in oldest:
        _unpublish(names, rid, why(keep))
    return tuple(execution for _, execution in oldest) if approved else ()


def _unpublish(names: Names, rid: int | None, reason: str, equal_to: str | None = None) -> None:
    names.run("set_unpublished", rid=rid, reason=reason, equal_to=equal_to, now=now_ms())


def unpublish(connection: sqlite3.Connection, namespace: str, execution: str, reason: str) -> None:
    """Unpublish a trace for good: a ``publish`` repeated later does not bring it back."""
    with taking_away(connection):
        names = Names(connection, namespace)
        rid, state, task, decided_at, _ = state_of(names, execution)
        undecided = task is not None and decided_at is None and state != "failed"
        if undecided or state in (ExecutionState.PUBLISHED, ExecutionState.UNAPPROVED):
            _unpublish(names, rid, reason)


# Rejected ---------------------------------------------------------------------------------


def reject(
    connection: sqlite3.Connection, namespace: str, execution: str, reason: str, signature: str
) -> tuple[str, ...]:
    """Reject an execution that has ended, and the traces that have its answer."""
    with taking_away(connection):
        names = Names(connection, namespace)
        rid, state, task, *_ = state_of(names, execution)
        if task is None or state == "failed":
            return ()
        now = now_ms()
        said = {"reason": reason, "signature": signature, "equal_to": None, "now": now}
        names.run("set_rejected", rid=rid, **said)
        others = _rows(names, "with_answer", rid=rid, task=task)
        said |= {"reason": rejected_with(execution, reason), "equal_to": execution}
        for other, _ in others:
            names.run("set_rejected", rid=other, **said)
        return tuple(id_ for _, id_ in others)


def _rejections(names: Names, candidate: _Candidate) -> list[Any]:
    """The rejected runs whose answer it has: rid, id and reason."""
    of = {"rid": candidate.rid, "task": candidate.task, "steps": candidate.steps}
    return _rows(names, "rejections", signature=candidate.signature, **of)


def _lift(names: Names, candidate: _Candidate, execution: str) -> None:
    """Lift the rejections that keep a run from being a trace, and of what was rejected with it."""
    reason, now = APPROVED_LATER + execution, now_ms()
    lifted = _rejections(names, candidate)
    for rid, *_ in lifted:
        _unpublish(names, rid, reason)
    for id_ in (execution, *(id_ for _, id_, _ in lifted)):
        names.run("release_rejected", task=candidate.task, equal_to=id_, reason=reason, now=now)


def _rows(names: Names, query: str, **parameters: Any) -> list[Any]:
    return names.connection.execute(QUERIES[query], parameters).fetchall()
