"""Collections: deleting what nobody needs, by the rules of ``graphstore.retention``.

What is to go is listed by reading. Then it is deleted in batches, each a short write transaction
that looks once more at what it deletes; so whoever else writes waits for one batch at most, and
who reads waits for nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..retention import Collected, Retention
from .clock import now_ms
from .connection import connect, patiently, reading, taking_away, writing
from .listing import LISTS, Listing, as_json, make_lists, squeezed, told
from .names import Names, find

__all__ = ["Collector"]

_STEPS = 4  # a batch of executions has at most this many times as many steps
_BYTES = 8 << 20  # of payloads at once: the pages of a large one are freed one by one

_Row = tuple[Any, ...]


class Collector:
    """Collects in the store at ``path``, on a connection of its own. By one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._connection: sqlite3.Connection | None = None
        self._going: _Going | None = None

    def collect(self, namespace: str, retention: Retention, batch: int) -> Collected:
        """As ``GraphStore.collect``. What is listed is kept from one call to the next."""
        if batch < 1:
            raise ValueError(f"a batch of {batch} is none; delete 1 or more at a time")
        going, self._going = self._going, None
        if going is None or not going.by(namespace, retention):
            connection = self._connected()
            if (ns := find(connection, "namespace", name=namespace)) is None:
                return Collected()
            going = _Going(connection, namespace, ns, retention)
        found = going.batch(batch)
        if found.more:
            self._going = going
        return found

    def collectable(self, namespace: str, retention: Retention) -> Collected:
        """As ``GraphStore.collectable``."""
        connection, self._going = self._connected(), None
        if (ns := find(connection, "namespace", name=namespace)) is None:
            return Collected()
        return patiently(lambda: told(connection, ns, retention))

    def interrupt(self) -> None:
        """Have what another thread does here fail soon; what it has committed stays."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """Let go of the connection, while those of the store are open."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._going = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = connect(self._path)
            make_lists(connection)
            self._connection = connection
        return self._connection


class _Going:
    """A collection under way: lists that are worked off, and made anew when they are empty."""

    def __init__(
        self, connection: sqlite3.Connection, namespace: str, ns: int, retention: Retention
    ) -> None:
        self._connection = connection
        self._namespace = namespace
        self._asked = retention
        self._lists = Listing(connection, ns, retention)
        self._lists.clear(*LISTS)

    def by(self, namespace: str, retention: Retention) -> bool:
        """Whether this is the collection that is asked for."""
        return (self._namespace, self._asked) == (namespace, retention)

    def batch(self, most: int) -> Collected:
        """Delete some of what is listed."""
        found = self._listed(most) or self._anew(most, self._asked) or self._squeezed(most)
        return Collected() if found is None else replace(found, more=True)

    def _listed(self, most: int) -> Collected | None:
        """Delete some of the first list that is not empty; None if all are."""
        for name, delete in (
            ("some_traces", self._unpublish),
            ("some_versions", self._delete_versions),
            ("some_events", self._delete_expiries),
            ("some_executions", self._delete_executions),
            ("some_unnamed", self._delete_values),
            ("some_named", self._clear),
        ):
            if rows := self._lists.run(name, batch=most).fetchall():
                return patiently(partial(delete, rows, most))
        return None

    def _anew(self, most: int, retention: Retention) -> Collected | None:
        self._lists.retention = retention
        self._list(self._lists.list_all)
        found = self._listed(most)
        if found is None and self._lists.run("is_suspected").fetchone():
            self._list_payloads()
            found = self._listed(most)
        return found

    def _squeezed(self, most: int) -> Collected | None:
        """What goes only because payloads take too much."""
        if not self._lists.excess():
            return None
        if (found := self._anew(most, squeezed(self._asked))) is not None:
            return found
        if self._lists.run("is_leaving", **self._lists.limits()).fetchone():
            return None
        excess = self._lists.excess()
        self._list(lambda: self._lists.list_least_used(excess, most))
        return self._listed(most)

    def _list(self, work: Callable[[], None]) -> None:
        """List what is so at one moment."""

        def listing() -> None:
            with reading(self._connection):
                work()

        patiently(listing)

    def _list_payloads(self) -> None:
        """List who of those suspected now is not named.

        Nothing that exists now escapes the look, and who writes what names one later clears it
        of *this* suspicion: so one that still has it in the end, and was not seen named, is not.
        One that was seen named is cleared; unless it was suspected anew since, its namer having
        been deleted after the look.
        """
        self._list(self._list_suspects)
        [last] = self._lists.run("last_suspect").fetchone()
        self._lists.look_for_names()
        self._lists.run("found_unnamed")
        self._lists.run("found_named", last=last)

    def _list_suspects(self) -> None:
        self._lists.clear("suspected")
        self._lists.run("suspects")

    # Deleting: each is a transaction, which takes what it has done off the list ---------------

    def _unpublish(self, rows: Sequence[_Row], _most: int) -> Collected:
        done = 0
        with taking_away(self._connection):
            names = Names(self._connection, self._namespace)
            for rid, execution, reason in rows:
                state = names.row("execution_state", ns=names.ns, id=execution)
                if state is not None and state[:2] == (rid, "published"):
                    names.run(
                        "set_unpublished", rid=rid, reason=reason, equal_to=None, now=now_ms()
                    )
                    done += 1
            self._off_the_list("no_more_trace", [row[:1] for row in rows])
        return Collected(unpublished=done)

    def _delete_executions(self, rows: Sequence[_Row], most: int) -> Collected:
        upto = accumulate(steps for _, _, steps in rows)
        few = [row for row, steps in zip(rows, upto, strict=True) if steps <= _STEPS * most]
        rows = few or rows[:1]
        with writing(self._connection):
            going = as_json(row[:2] for row in rows)
            rids = self._column("deletable", going=going)
            found = self._delete_those(as_json(rids))
            self._off_the_list("no_more_execution", [row[:1] for row in rows])
        return found

    def _delete_those(self, executions: str) -> Collected:
        replays, others = self._lists.run("counted", executions=executions).fetchone()
        tasks = self._column("tasks_of", executions=executions)
        guarding = self._column("guarding_executions", executions=executions)
        self._lists.run("fold", executions=executions)
        self._lists.run("suspect_of_executions", executions=executions)
        for name in ("marks", "walks", "guards", "feeds", "steps"):
            self._lists.run(f"delete_{name}", executions=executions)
        effects = self._lists.run("delete_effects", executions=executions).rowcount
        self._lists.run("delete_executions", executions=executions)
        deleted = Collected(executions=others, replays=replays, effects=effects)
        return deleted + self._delete_tasks(tasks) + self._delete_facets(guarding)

    def _delete_tasks(self, tasks: Sequence[int]) -> Collected:
        """Those of the tasks that have no execution any more."""
        left = as_json(self._column("tasks_left", tasks=as_json(tasks)))
        self._lists.run("suspect_of_tasks", tasks=left)
        return Collected(tasks=self._lists.run("delete_tasks", tasks=left).rowcount)

    def _delete_facets(self, preconditions: Sequence[int]) -> Collected:
        """Those of the facets on which no step rests any more; and preconditions of others."""
        facets = self._lists.run("facets_left", preconditions=as_json(preconditions)).fetchall()
        deleted = 0
        for facet, resource in facets:
            at = {"facet": facet, "resource": resource}
            self._lists.run("delete_holds_of_facet", **at)
            self._lists.run("delete_changed_of_facet", **at)
            deleted += self._lists.run("delete_preconditions_of_facet", **at).rowcount
            self._lists.run("delete_facet", **at)
            self._lists.run("delete_resource", **at)
        gone = Collected(facets=len(facets), preconditions=deleted)
        return gone + self._delete_preconditions(preconditions)

    def _delete_preconditions(self, preconditions: Sequence[int]) -> Collected:
        """Those on which no step rests, and that no version holds, any more."""
        left = self._column("preconditions_left", preconditions=as_json(preconditions))
        deleted = self._lists.run("delete_preconditions", preconditions=as_json(left))
        return Collected(preconditions=deleted.rowcount)

    def _delete_versions(self, rows: Sequence[_Row], _most: int) -> Collected:
        held: set[int] = set()
        events: list[int] = []
        versions = 0
        with writing(self._connection):
            for resource, n in rows:
                at = {"resource": resource, "n": n}
                held.update(self._column("held_by_version", **at))
                events += self._column("events_of_version", **at)
                self._lists.run("suspect_of_version", **at)
                self._lists.run("delete_holds_of_version", **at)
                versions += self._lists.run("delete_version", **at).rowcount
            found = self._delete_events(events) + self._delete_preconditions(sorted(held))
            self._off_the_list("no_more_version", rows)
        return replace(found, versions=versions)

    def _delete_expiries(self, rows: Sequence[_Row], _most: int) -> Collected:
        with writing(self._connection):
            return self._delete_events([rid for (rid,) in rows])

    def _delete_events(self, rids: Sequence[int]) -> Collected:
        events = as_json(rids)
        self._lists.run("delete_changed", events=events)
        self._lists.run("delete_walks_of_events", events=events)
        deleted = self._lists.run("delete_events", events=events).rowcount
        self._off_the_list("no_more_event", [(rid,) for rid in rids])
        return Collected(events=deleted)

    def _delete_values(self, rows: Sequence[_Row], _most: int) -> Collected:
        upto = accumulate(size for _, size in rows)
        rows = [row for row, size in zip(rows, upto, strict=True) if size <= _BYTES] or rows[:1]
        suspects = as_json(rid for rid, _ in rows)
        with writing(self._connection):
            values = self._lists.run("values_to_delete", suspects=suspects).fetchall()
            self._lists.run("delete_suspects", suspects=suspects)
            self._lists.run("delete_values", values=as_json(rid for rid, _ in values))
            self._off_the_list("no_more_unnamed", [row[:1] for row in rows])
        return Collected(values=len(values), bytes=sum(size for _, size in values))

    def _clear(self, rows: Sequence[_Row], _most: int) -> Collected:
        with writing(self._connection):
            self._lists.run("delete_suspects", suspects=as_json(rid for (rid,) in rows))
            self._off_the_list("no_more_named", rows)
        return Collected()

    def _column(self, name: str, **parameters: Any) -> list[int]:
        return [row[0] for row in self._lists.run(name, **parameters)]

    def _off_the_list(self, name: str, rows: Sequence[_Row]) -> None:
        self._lists.run_many(name, rows)
