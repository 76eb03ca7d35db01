"""Facts and runs of a namespace, by queries that are not the store's: what an oracle goes by."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from execgraph.graphstore.document import Document
from execgraph.graphstore.model import Value
from execgraph.graphstore.neo4j.mapping import payload_of
from execgraph.graphstore.sqlite.rows import payload

from .dumps import neo4j_session, opened

__all__ = ["Raw", "RawExecution", "RawResource", "RawStep", "read"]


@dataclass(frozen=True)
class RawResource:
    """What a resource is now."""

    current: int
    present: bool
    expired: bool  # an event says so
    versions: tuple[int, ...]
    document: bytes | None

    def fingerprint(self, selector: str | None) -> str | None:
        """None where nothing is to be believed."""
        if not self.present or self.expired or self.document is None:
            return None
        return Document(Value.of(self.document)).fingerprint(selector)


@dataclass(frozen=True)
class RawStep:
    """A step, and what it rests on: ids of preconditions, and positions."""

    position: int
    kind: str
    output: str
    payloads: tuple[str, ...]
    guards: frozenset[str]
    feeds: frozenset[int]


@dataclass(frozen=True)
class RawExecution:
    """An execution with its steps, in order, and its marks."""

    id: str
    state: str
    task: str | None
    started_at: int
    steps: tuple[RawStep, ...]
    declared: int
    published: int
    marks: Mapping[int, str]
    effects: Mapping[str, str]  # states by idempotency key


@dataclass(frozen=True)
class Raw:
    """The facts and the runs of a namespace, by queries that are not the store's."""

    resources: Mapping[str, RawResource]
    guards: Mapping[str, tuple[str, str | None, str]]  # resource, selector, fingerprint
    executions: Mapping[str, RawExecution]
    payloads: frozenset[str]
    open_walks: int

    def holds(self, guard: str) -> bool:
        """Whether a precondition holds."""
        uri, selector, fingerprint = self.guards[guard]
        found = self.resources.get(uri)
        return found is not None and found.fingerprint(selector) == fingerprint

    def current(self, uri: str) -> int:
        """The number of a resource's version; 0: it was never observed."""
        found = self.resources.get(uri)
        return 0 if found is None else found.current

    def traces(self, task: str | None = None) -> list[RawExecution]:
        """Those published, newest first; of one task if it is given."""
        found = [it for it in self.executions.values() if it.state == "published"]
        wanted = [it for it in found if task is None or it.task == task]
        return sorted(wanted, key=lambda it: (it.started_at, it.id), reverse=True)

    def expected_marks(self, trace: RawExecution) -> dict[int, str]:
        """For each step that is invalid the least of the guards that say so."""
        above: dict[int, set[str]] = {}
        for step in trace.steps:
            broken = {it for it in step.guards if not self.holds(it)}
            above[step.position] = broken.union(*(above[it] for it in step.feeds))
        return {position: min(why) for position, why in above.items() if why}


def read(url: str, namespace: str) -> Raw:
    """What is in the store now; nobody has an SQLite file open."""
    if url.startswith("sqlite"):
        with opened(Path(url.removeprefix("sqlite:///"))) as connection:
            return _sqlite_raw(connection, namespace)
    with neo4j_session(url) as session:
        return _neo4j_raw(session, namespace)


def _sqlite_raw(db: sqlite3.Connection, namespace: str) -> Raw:
    def rows(sql: str) -> list[tuple[Any, ...]]:
        return db.execute(sql, {"namespace": namespace}).fetchall()

    ns = "(SELECT rid FROM namespace WHERE name = :namespace)"
    values = {
        digest: payload(digest, codec, data)
        for digest, codec, data in rows(f"SELECT digest, codec, data FROM value WHERE ns = {ns}")
    }
    resources = {}
    for rid, uri, current, present, expired in rows(
        f"SELECT rid, uri, current, present, expired FROM resource WHERE ns = {ns}"
    ):
        versions = dict(rows(f"SELECT n, document FROM version WHERE resource = {rid} ORDER BY n"))
        document = values.get(versions.get(current) or "")
        resources[uri] = RawResource(
            current=current,
            present=bool(present),
            expired=bool(expired),
            versions=tuple(versions),
            document=document,
        )
    guards = {
        key: (uri, selector, at)
        for key, uri, selector, at in rows(
            "SELECT precondition.id, resource.uri, facet.selector, precondition.fingerprint"
            " FROM precondition JOIN facet ON facet.rid = precondition.facet"
            f" JOIN resource ON resource.rid = facet.resource WHERE precondition.ns = {ns}"
        )
    }
    executions = {}
    for rid, key, state, task, started, declared, published in rows(
        "SELECT execution.rid, id, state, task.key, started_at, steps, published_steps"
        f" FROM execution LEFT JOIN task ON task.rid = execution.task WHERE execution.ns = {ns}"
    ):
        guarding = rows(
            "SELECT position, precondition.id FROM guard JOIN precondition"
            f" ON precondition.rid = guard.precondition WHERE execution = {rid}"
        )
        feeding = rows(f"SELECT target, source FROM feeds WHERE execution = {rid}")
        steps = [
            RawStep(
                position=position,
                kind=kind,
                output=output,
                payloads=tuple(
                    it for it in (head, *json.loads(messages), arguments, output) if it is not None
                ),
                guards=frozenset(it for at, it in guarding if at == position),
                feeds=frozenset(it for at, it in feeding if at == position),
            )
            for position, kind, output, head, messages, arguments in rows(
                "SELECT position, kind, output, head, messages, arguments FROM step"
                f" WHERE execution = {rid} ORDER BY position"
            )
        ]
        marks = dict(
            rows(
                "SELECT position, precondition.id FROM mark JOIN precondition"
                f" ON precondition.rid = mark.invalidated_by WHERE execution = {rid}"
            )
        )
        effects = dict(
            rows(f"SELECT idempotency_key, state FROM side_effect WHERE execution = {rid}")
        )
        executions[key] = RawExecution(
            id=key,
            state=state,
            task=task,
            started_at=started,
            steps=tuple(steps),
            declared=declared,
            published=published,
            marks=marks,
            effects=effects,
        )
    [(walks,)] = rows(f"SELECT count(*) FROM walk WHERE ns = {ns} AND ended_at IS NULL")
    intact = frozenset(digest for digest, data in values.items() if data is not None)
    return Raw(resources, guards, executions, intact, walks)


def _neo4j_raw(session: Any, namespace: str) -> Raw:
    def rows(statement: str) -> list[list[Any]]:
        found: list[list[Any]] = session.run(statement, namespace=namespace).values()
        return found

    values = {
        digest: payload_of(text, data)
        for digest, text, data in rows(
            "MATCH (x:Value) WHERE x.namespace = $namespace AND x.digest IS NOT NULL"
            " RETURN x.digest, x.text, x.data"
        )
    }
    resources = {}
    for uri, current, state, expired, versions in rows(
        "MATCH (r:Resource) WHERE r.namespace = $namespace AND r.uri IS NOT NULL"
        " RETURN r.uri, r.current, r.state, r.expired,"
        " [(r)-[:HAS_VERSION]->(v) | [v.n, v.document]]"
    ):
        numbered = dict(sorted(versions))
        document = values.get(numbered.get(current) or "")
        resources[uri] = RawResource(
            current=current,
            present=state == "present",
            expired=bool(expired),
            versions=tuple(numbered),
            document=document,
        )
    guards = {
        key: (uri, selector, at)
        for key, uri, selector, at in rows(
            "MATCH (p:Precondition) WHERE p.namespace = $namespace AND p.id IS NOT NULL"
            " RETURN p.id, p.resource, p.selector, p.fingerprint"
        )
    }
    executions = {}
    for it, tasks, steps, effects in rows(
        "MATCH (e:Execution) WHERE e.namespace = $namespace AND e.id IS NOT NULL"
        " RETURN properties(e), [(t)-[:HAS_EXECUTION]->(e) | t.key],"
        " [(e)-[:HAS_STEP]->(s) | [properties(s), [(s)<-[:GUARDS]-(p) | p.id],"
        "  [(s)<-[:FEEDS]-(u) | u.position]]],"
        " [(e)-[:PERFORMED]->(f) | [f.idempotency_key, f.state]]"
    ):
        steps.sort(key=lambda row: row[0]["position"])
        found = [
            RawStep(
                position=step["position"],
                kind=step["kind"],
                output=step["output"],
                payloads=tuple(
                    it
                    for it in (
                        step.get("head"), *step["messages"], step.get("arguments"), step["output"]
                    )
                    if it is not None
                ),
                guards=frozenset(guarding),
                feeds=frozenset(feeding),
            )
            for step, guarding, feeding in steps
        ]  # fmt: skip
        marks = {
            step["position"]: step["invalidated_by"]
            for step, *_ in steps
            if step.get("invalidated_by") is not None
        }
        executions[it["id"]] = RawExecution(
            id=it["id"],
            state=it["state"],
            task=tasks[0] if tasks else None,
            started_at=it.get("started_at", 0),
            steps=tuple(found),
            declared=it.get("steps", 0),
            published=it.get("published_steps", 0),
            marks=marks,
            effects=dict(effects),
        )
    [[walks]] = rows(
        "CALL () { MATCH (c:ChangeEvent) WHERE c.namespace = $namespace AND c.walk = 'open'"
        " RETURN c AS it UNION ALL MATCH (e:Execution) WHERE e.namespace = $namespace"
        " AND e.walk = 'open' RETURN e AS it } RETURN count(it)"
    )
    intact = frozenset(digest for digest, data in values.items() if data is not None)
    return Raw(resources, guards, executions, intact, walks)
