"""The engine broken on purpose, each time in one place: the histories find it every time.

This is what makes '0 violations' say something. Production code is replaced from here.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from execgraph.engine.lookup import judging
from execgraph.engine.lookup.steps_by_key import StepsByKey
from execgraph.engine.replay import decisions, start
from execgraph.engine.run import path, planned_actions
from execgraph.engine.steps.noted_facts import Notes
from execgraph.engine.tools import parsed_call
from execgraph.graphstore.facts import Fact, Facts, FactState, wanted_by
from execgraph.graphstore.neo4j import client as neo4j_client
from execgraph.graphstore.neo4j import lookup as neo4j_lookup
from execgraph.graphstore.neo4j import queries
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.sqlite import facts, traces
from execgraph.graphstore.sqlite.queries import QUERIES
from execgraph.graphstore.sqlite.store import SqliteStore

from .history import History, Operation, operations
from .searching import done_until_found
from .world import World

Break = Callable[[pytest.MonkeyPatch], None]
Choose = Callable[[random.Random], Operation]

#: Within how many operations each must be found.
LIMIT = {"sqlite": 1500, "neo4j": 300}


# What is broken ---------------------------------------------------------------------------


def ignore_guards(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(judging, "broken_guards", lambda *_: ())


def ignore_code(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(judging, "_changed_code", lambda *_: None)


def ignore_the_terms_of_writes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(judging, "_changed_terms", lambda *_: ())


def trust_marks(patch: pytest.MonkeyPatch) -> None:
    """A step stands unless it is marked, as the walker left it."""
    marked: dict[str, dict[int, str]] = {}
    judged = judging._judged

    def by_marks(step: Any, trace: Any, *more: Any) -> Any:
        found = judged(step, trace, *more)
        return found if step.position in marked[trace.id] else replace(found, cause=None)

    patch.setattr(judging, "_judged", by_marks)
    for store in (SqliteStore, Neo4jStore):
        patch.setattr(store, "lookup", _after_reading_marks(store.lookup, marked))


def _after_reading_marks(look_up: Any, marked: dict[str, dict[int, str]]) -> Any:
    async def first(store: Any, task: str, choose: Any) -> Any:
        found: list[str] = []
        await look_up(store, task, lambda some, _: found.extend(it.id for it in some))
        marked.update({it: await store.marks(it) for it in found})
        return await look_up(store, task, choose)

    return first


def skip_the_second_read(patch: pytest.MonkeyPatch) -> None:
    """Believe the first read; on SQLite, read without a transaction around it."""
    patch.setattr(traces, "reading", lambda _: nullcontext())
    patch.setattr(neo4j_lookup, "_held", lambda reading, now, _: _of(reading, now, {}))


def pair_facts_with_a_later_current(patch: pytest.MonkeyPatch) -> None:
    look = traces.look

    def later(connection: Any, ns: int, namespace: str, task: str, choose: Any, **lost: Any) -> Any:
        def paired(some: Any, held: Facts) -> Any:
            wanted = wanted_by(some)
            now = facts.read(connection, ns, wanted)
            for uri in wanted:
                fact = replace(held.of(uri), version=now.of(uri).version)
                held.by_resource[uri] = fact  # type: ignore[index]
            return choose(some, held)

        return look(connection, ns, namespace, task, paired, **lost)

    patch.setattr(traces, "reading", lambda _: nullcontext())
    patch.setattr(traces, "look", later)
    patch.setattr(neo4j_lookup, "_held", _of)


def _of(reading: Any, now: int, moved: Any) -> Facts:
    return Facts(
        now,
        {
            uri: replace(fact, version=moved[uri][0] if uri in moved else fact.version)
            for uri, fact in reading.facts.by_resource.items()
        },
    )


def forget_what_guards_decisions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decisions, "guards_of", lambda _: ())


def forget_what_guards_actions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planned_actions, "guards_of", lambda _: ())


def forget_what_feeds_steps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(path, "frontier", lambda _: ())


def do_not_unmark(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(QUERIES, "remove_mark", "SELECT :execution, :position")
    query, setting = queries.query, "SET d.invalidated_by = why"

    def kept(name: str) -> str:
        assert name != "walk" or setting in query(name)
        return query(name).replace(
            setting, "SET d.invalidated_by = coalesce(why, d.invalidated_by)"
        )

    patch.setattr(neo4j_client, "query", kept)


def ignore_until(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fact, "believed", lambda fact, _: fact.state is FactState.PRESENT)


def serve_from_memory_without_a_look(patch: pytest.MonkeyPatch) -> None:
    async def still(*_: Any, **__: Any) -> bool:
        return True

    for store in (SqliteStore, Neo4jStore):
        patch.setattr(store, "still", still)


def skip_the_check_before_effects(patch: pytest.MonkeyPatch) -> None:
    for store in (SqliteStore, Neo4jStore):
        patch.setattr(store, "intend", _unchecked(store.intend))


def _unchecked(intend: Any) -> Any:
    async def unchecked(store: Any, effect: Any, _expected: Any, **more: Any) -> Any:
        return await intend(store, effect, [], **more)

    return unchecked


def publish_what_is_torn(patch: pytest.MonkeyPatch) -> None:
    async def torn(*_: Any) -> set[int]:
        return set()

    patch.setattr(Notes, "torn", torn)


def parse_what_was_dumped(patch: pytest.MonkeyPatch) -> None:
    """On the path, a tool is called with what is stored of its arguments."""

    def dumped(tool: Any, _call: Any, arguments: bytes) -> parsed_call.ParsedCall:
        return parsed_call.ParsedCall("", arguments, tool.parse(arguments))

    patch.setattr(planned_actions, "parse_served", dumped)


def forget_all_traces_but_one(patch: pytest.MonkeyPatch) -> None:
    """I2: what any trace of the task answers need not be asked."""
    add = StepsByKey._add

    def only_the_followed(index: StepsByKey, *of: Any) -> None:
        if not index._judged:
            add(index, *of)

    patch.setattr(StepsByKey, "_add", only_the_followed)


def lead_without_a_lease(patch: pytest.MonkeyPatch) -> None:
    """Who leads holds nothing that another process could see."""

    async def leased(*_: Any, **__: Any) -> bool:
        return True

    for store in (SqliteStore, Neo4jStore):
        patch.setattr(store, "lease", leased)


def go_on_as_if_nothing_had_come(patch: pytest.MonkeyPatch) -> None:
    """Who has waited does not look up again."""
    look_up = start._Start.look_up

    async def once(it: Any) -> None:
        if not hasattr(it, "_plan"):
            await look_up(it)

    patch.setattr(start._Start, "look_up", once)


# Where it shows ---------------------------------------------------------------------------


def anything(choose: random.Random) -> Operation:
    return operations(choose, 2)[0]


def around_lookups(choose: random.Random) -> Operation:
    """Two resources of one task, also while it is looked up."""
    process = choose.randrange(2)
    uris = choose.sample(["acl:left", "acl:right"], 2)
    both = tuple((uri, "on", choose.randrange(2)) for uri in uris)
    return choose.choice(
        [
            ("execute", process, "reader", 0),
            ("change", process, *both[0]),
            ("meanwhile", process, "lookup", ("reader", 0), both),
        ]
    )


def around_effects(choose: random.Random) -> Operation:
    process = choose.randrange(2)
    edit = (choose.choice(["target:eu", "rule:freeze"]), "on", choose.randrange(2))
    return choose.choice(
        [
            ("execute", process, "deployer", 0),
            ("meanwhile", process, choose.choice(["ask", "effect"]), ("deployer", 0), (edit,)),
        ]
    )


def around_replies(choose: random.Random) -> Operation:
    """What every decision of a task rests on, also while the model thinks."""
    process = choose.randrange(2)
    edit = ("acl:left", "on", choose.randrange(2))
    return choose.choice(
        [
            ("execute", process, "reader", 0),
            ("meanwhile", process, "ask", ("reader", 0), (edit,)),
        ]
    )


def around_marks(choose: random.Random) -> Operation:
    process = choose.randrange(2)
    return choose.choice(
        [
            ("execute", process, "deployer", 0),
            ("change", process, "rule:freeze", "on", choose.randrange(2)),
            ("change", process, "target:eu", "on", choose.randrange(2)),
            ("expire", process, "target:eu", 0),
            ("settle",),
        ]
    )


def around_parts(choose: random.Random) -> Operation:
    """Two resources that different decisions of a task rest on."""
    process = choose.randrange(2)
    return choose.choice(
        [
            ("execute", process, "deployer", 0),
            ("change", process, "target:eu", "on", choose.randrange(2)),
            ("change", process, "rule:ann", "rows", choose.randrange(2)),
        ]
    )


def around_reuse(choose: random.Random) -> Operation:
    process = choose.randrange(2)
    return choose.choice(
        [
            ("execute", process, "clerk", 0),
            ("change", process, "schema:prices", "a", choose.randrange(2)),
        ]
    )


def around_code(choose: random.Random) -> Operation:
    process = choose.randrange(2)
    tool = choose.choice(["price", "deploy"])
    return choose.choice(
        [
            ("execute", process, "deployer", 0),
            ("execute", process, "clerk", 0),
            ("code", process, tool, choose.choice("12")),
        ]
    )


def at_once(choose: random.Random) -> Operation:
    """The same in both processes, before which something may have changed."""
    process = choose.randrange(2)
    return choose.choice(
        [
            ("together", process, "reader", 0),
            ("change", process, "acl:left", "on", choose.randrange(2)),
        ]
    )


BROKEN: dict[Break, Choose] = {
    ignore_guards: anything,
    ignore_code: around_code,
    ignore_the_terms_of_writes: around_code,
    trust_marks: around_marks,
    skip_the_second_read: around_lookups,
    pair_facts_with_a_later_current: around_lookups,
    forget_what_guards_decisions: anything,
    forget_what_guards_actions: around_reuse,
    forget_what_feeds_steps: around_marks,
    do_not_unmark: around_marks,
    ignore_until: around_marks,
    serve_from_memory_without_a_look: anything,
    skip_the_check_before_effects: around_effects,
    publish_what_is_torn: around_replies,
    parse_what_was_dumped: around_reuse,
    forget_all_traces_but_one: around_parts,
    lead_without_a_lease: at_once,
    go_on_as_if_nothing_had_come: at_once,
}


async def found_at(url: str, choose: Choose) -> int | None:
    """How many operations until something is not as the oracle says; None: there is nothing."""
    chosen = random.Random(7)
    return await done_until_found(
        lambda: History([World(url, f"test-{uuid.uuid4().hex[:12]}")]),
        (choose(chosen) for _ in itertools.count()),
        LIMIT["sqlite" if url.startswith("sqlite") else "neo4j"],
    )


@pytest.mark.parametrize("broken", BROKEN, ids=lambda it: it.__name__)
async def test_what_is_broken_is_found(
    broken: Break, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert await found_at(url, BROKEN[broken]) is not None
    await asyncio.sleep(0)


@pytest.mark.parametrize("choose", dict.fromkeys(BROKEN.values()), ids=lambda it: it.__name__)
async def test_what_is_not_broken_is_not_found(
    choose: Choose, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMIT, "sqlite", 120)
    monkeypatch.setitem(LIMIT, "neo4j", 30)
    assert await found_at(url, choose) is None
