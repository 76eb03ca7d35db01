"""The rules of runs that are called again, of approvals and of trust, broken in one place at a
time: histories of wishes find it every time."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from execgraph.engine.effects import confirming
from execgraph.engine.lookup import unfinished
from execgraph.engine.lookup.definition import Definition
from execgraph.engine.run.run import Run
from execgraph.engine.tools.tool import Tool
from execgraph.graphstore.canonical import hash_of
from execgraph.graphstore.neo4j import client as neo4j_client
from execgraph.graphstore.neo4j import queries
from execgraph.graphstore.sqlite.queries import QUERIES
from execgraph.tests.engine.test_run_id_mutations import (
    do_again_what_is_in_doubt,
    forget_history,
    new_key_on_retry,
    skip_the_token,
)

from .searching import done_until_found
from .wish_history import URIS, WishHistory, wish_operations
from .wish_world import WishWorld
from .wishes import WHO

Break = Callable[[pytest.MonkeyPatch], None]
Operation = tuple[Any, ...]
Choose = Callable[[random.Random], Iterator[Operation]]

#: Within how many operations each must be found.
LIMIT = {"sqlite": 600, "neo4j": 300}


# What is broken ---------------------------------------------------------------------------


def resume_under_changed_facts(patch: pytest.MonkeyPatch) -> None:
    """What an unfinished run has decided is served, whatever has changed."""

    async def all_of_them(_store: Any, _notes: Any, decided: Any) -> list[Any]:
        return list(decided)

    patch.setattr(unfinished, "_judged", all_of_them)


def use_an_approval_twice(patch: pytest.MonkeyPatch) -> None:
    sql, used = QUERIES["use_approval"], "SET state = 'used'"
    assert used in sql
    patch.setitem(QUERIES, "use_approval", sql.replace(used, "SET state = 'approved'"))
    query, setting = queries.query, "SET a.state = 'used'"

    def kept(name: str) -> str:
        assert name != "intend" or setting in query(name)
        return query(name).replace(setting, "SET a.state = 'approved'")

    patch.setattr(neo4j_client, "query", kept)


def bind_approvals_to_no_facts(patch: pytest.MonkeyPatch) -> None:
    def digest(kind: str, *bound: Any) -> str:
        tool, code, arguments, equal, *_ = bound
        return hash_of(kind, tool, code, arguments, equal)

    patch.setattr(confirming, "hash_of", digest)


def bind_approvals_to_no_arguments(patch: pytest.MonkeyPatch) -> None:
    def digest(kind: str, *bound: Any) -> str:
        tool, code, _, equal, *guards = bound
        return hash_of(kind, tool, code, equal, *guards)

    patch.setattr(confirming, "hash_of", digest)


def ignore_max_age(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Definition, "_period", None)


def ignore_max_age_of_what_is_unfinished(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Definition, "may_be_served", lambda *_: True)


def serve_shadow_runs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Run, "may_serve", property(lambda run: run.spec.may_serve))


def pay_for_each_invoice_as_often_as_it_is_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tool, "once_per", lambda *_: uuid.uuid4().hex)


# Where it shows ---------------------------------------------------------------------------


def around_resuming(choose: random.Random) -> Iterator[Operation]:
    """Runs of new tasks are killed or fail, facts change, and they are called again."""
    for number in itertools.count():
        what = (choose.choice(WHO), f"restock {number}", choose.choice((None, "a")))
        at = ((10 + choose.randrange(50), ("kill",)),) if choose.random() < 0.5 else ()
        yield ("call", choose.randrange(2), what, at, {"fails": choose.choice((2, 3))})
        if choose.random() < 0.6:
            yield ("edit", 0, *_an_edit(choose, number))
        yield ("again", choose.randrange(2))


def around_losing(choose: random.Random) -> Iterator[Operation]:
    """A run of an id is taken for dead by another one, and comes to decide otherwise."""
    for number in itertools.count():
        point = 1 + choose.randrange(40)
        later = (point + 1 + choose.randrange(3), ("edit", *_an_edit(choose, number)))
        at = ((point, ("take over",)), later)
        yield ("call", choose.randrange(2), (choose.choice(WHO), f"restock {number}", "a"), at)


def _an_edit(choose: random.Random, number: int) -> Operation:
    return (choose.choice(("rule:own", "rule:ship")), "on", number % 2)


def around_approvals(choose: random.Random) -> Iterator[Operation]:
    """People answer at once, later or never, while facts change."""
    while True:
        what = ("clerk", "contract", choose.choice((None, None, "a", "b")))
        confirm = choose.choice((None, None, "yes", "later"))
        yield ("call", choose.randrange(2), what, (), {"confirm": confirm})
        yield ("answer", choose.randrange(2), int(choose.random() < 0.9))
        if choose.random() < 0.4:
            yield ("edit", 0, choose.choice(("rule:own", "rule:sign")), "on", choose.randrange(2))


def around_trust(choose: random.Random) -> Iterator[Operation]:
    """What may serve, and is too old; and shadow runs."""
    while True:
        how = choose.choice(("replay", "replay", "shadow"))
        age = choose.choice((None, 0, 3, 6)) if how == "replay" else None
        more = {"fails": choose.choice((None, 2, 3)), "how": how, "age": age}
        yield ("call", choose.randrange(2), (choose.choice(WHO), "restock", None), (), more)
        yield ("edit", 0, choose.choice(URIS), "on", choose.randrange(2))
        yield ("wait",)


def anything(choose: random.Random) -> Iterator[Operation]:
    while True:
        yield from wish_operations(choose, 60)


BROKEN: dict[Break, Choose] = {
    skip_the_token: around_losing,
    resume_under_changed_facts: around_resuming,
    new_key_on_retry: around_resuming,
    forget_history: around_resuming,
    do_again_what_is_in_doubt: anything,
    use_an_approval_twice: around_approvals,
    bind_approvals_to_no_facts: around_approvals,
    bind_approvals_to_no_arguments: around_approvals,
    ignore_max_age: around_trust,
    ignore_max_age_of_what_is_unfinished: around_trust,
    serve_shadow_runs: around_trust,
    pay_for_each_invoice_as_often_as_it_is_asked: anything,
}


async def found(url: str, choose: Choose) -> str | None:
    """What is not as the judge says; None: there is nothing."""
    histories: list[WishHistory] = []

    def begin() -> WishHistory:
        histories.append(WishHistory([WishWorld(url, f"test-{uuid.uuid4().hex[:12]}")]))
        return histories[-1]

    limit = LIMIT["sqlite" if url.startswith("sqlite") else "neo4j"]
    number = await done_until_found(begin, choose(random.Random(7)), limit)
    if number is None:
        return None
    assert histories[-1].wrong is not None, "the judge finds it, and it is no other error"
    return f"by operation {number}: {histories[-1].wrong}"


@pytest.mark.parametrize("broken", BROKEN, ids=lambda it: it.__name__)
async def test_what_is_broken_is_found(
    broken: Break, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    why = await found(url, BROKEN[broken])
    print(f"found {why}")  # noqa: T201  (pytest captures it)
    assert why is not None
    assert " raised " not in why, "the break itself is found, and not that nothing works"


@pytest.mark.parametrize("choose", dict.fromkeys(BROKEN.values()), ids=lambda it: it.__name__)
async def test_what_is_not_broken_is_not_found(
    choose: Choose, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMIT, "sqlite", 60)
    monkeypatch.setitem(LIMIT, "neo4j", 15)
    assert await found(url, choose) is None
