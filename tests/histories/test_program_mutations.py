"""The rule of which decisions chose a write, broken in one place at a time: histories of random
programs find it every time."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from execgraph.engine import agent, program, task
from execgraph.engine.effects import effect_gate
from execgraph.engine.lookup import judging
from execgraph.engine.program import Handle
from execgraph.engine.replay import decisions
from execgraph.engine.run.begun_effects import Effects
from execgraph.engine.run.family import Family
from execgraph.engine.run.run import Run
from execgraph.engine.steps.noted_facts import Note
from execgraph.graphstore.model import StepKind

from .program_history import ProgramHistory, program_operations
from .program_world import ProgramWorld
from .programs import AGENT, Program
from .searching import done_until_found

Break = Callable[[pytest.MonkeyPatch], None]
Operation = tuple[Any, ...]

#: Within how many operations each must be found.
LIMIT = {"sqlite": 2400, "neo4j": 1500}


# What is broken ---------------------------------------------------------------------------


def guard_only_the_last_decision(patch: pytest.MonkeyPatch) -> None:
    choosers = Family.choosers
    patch.setattr(Family, "choosers", lambda family, passed: choosers(family, passed)[-1:])


def do_not_notice_opening(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Handle, "value", property(lambda handle: handle.passed_on()))


def do_not_notice_what_is_passed_on(patch: pytest.MonkeyPatch) -> None:
    given = program._given

    def unnoticed(run: Run, value: Any) -> Any:
        known = set(run.family.opened)
        made, _ = given(run, value)
        run.family.opened &= known
        return made, frozenset()

    patch.setattr(program, "_given", unnoticed)


def act_on_what_was_not_known(patch: pytest.MonkeyPatch) -> None:
    async def none(*_: Any) -> list[Any]:
        return []

    patch.setattr(effect_gate, "unknown_facts", none)


def check_only_the_write(patch: pytest.MonkeyPatch) -> None:
    def own(gate: Any, notes: Any) -> list[Note]:
        return list(notes)

    patch.setattr(effect_gate.EffectGate, "_all", own)


def publish_an_effect_without_a_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Effects, "acting", lambda *_: nullcontext())


def let_added_requirements_be(patch: pytest.MonkeyPatch) -> None:
    """Of the recorded terms of a write, and of what its decisions knew, one is enough."""
    patch.setattr(judging, "_changed_terms", lambda *_: ())
    act_on_what_was_not_known(patch)


def follow_any_kind(patch: pytest.MonkeyPatch) -> None:
    """An agent's path is whatever stands under its name."""
    key = task.task_key
    patch.setattr(task, "task_key", lambda space, _, *rest: key(space, "agent", *rest))
    patch.setattr(judging, "_changed_code", lambda *_: None)
    follow = decisions.follow

    def any_kind(run: Run) -> Any:
        recorded, followed = run.path.next, run.path.followed
        if recorded is None or recorded.step.kind is StepKind.DECISION or recorded.cause:
            return follow(run)
        step = recorded.step.model_copy(update={"kind": StepKind.DECISION})
        assert followed is not None
        decision, taken = followed.serve(type(recorded)(recorded.trace, step, (), None))
        run.path.go_along(taken)
        return decision

    for module in (agent, decisions):
        patch.setattr(module, "follow", any_kind)


# Where it shows ---------------------------------------------------------------------------


def anything(choose: random.Random) -> Iterator[Operation]:
    while True:
        yield from program_operations(choose, 60)


def around_choices(choose: random.Random) -> Iterator[Operation]:
    """A write that follows from several decisions, and what it rests on."""
    asks = [("decide", f"x{n}", f"q{n}", "plain", ()) for n in range(2)]
    ship = ("act", "x2", "ship", ("pass", "x1"), "wait")
    statements = (*asks, ("if", "x0", (ship,)))
    program = Program("triage", "one", own=False, stubborn=True, statements=statements)
    while True:
        process, edit = choose.randrange(2), ("rule:ship", "on", choose.randrange(2))
        yield choose.choice([("program", process, program), ("edit", process, *edit)])


def around_arguments(choose: random.Random) -> Iterator[Operation]:
    """What a write rests on is known only when it is called."""
    decide = ("decide", "x0", "q0", "plain", ())
    pay = ("act", "x1", "pay", ("pass", "x0"), "wait")
    program = Program("triage", "one", own=False, stubborn=True, statements=(decide, pay))
    while True:
        process, uri = choose.randrange(2), choose.choice(("rule:a", "rule:b"))
        edit = (uri, "on", choose.randrange(2))
        run = ("program", process, program, ((3 + choose.randrange(3), edit),))
        yield choose.choice([run, ("edit", process, *edit)])


def around_what_is_passed_on(choose: random.Random) -> Iterator[Operation]:
    """A program looks at nothing: it hands on what it is told."""
    decide = ("decide", "x0", "q0", "plain", ())
    ship = ("act", "x1", "ship", ("pass", "x0"), "wait")
    program = Program("triage", "one", own=False, stubborn=True, statements=(decide, ship))
    while True:
        process, edit = choose.randrange(2), ("rule:ship", "on", choose.randrange(2))
        yield choose.choice([("program", process, program), ("edit", process, *edit)])


def around_inherited_guards(choose: random.Random) -> Iterator[Operation]:
    """A decision that is asked again says otherwise; what it chooses now rests on nothing."""
    ship = ("act", "x1", "ship", ("open", "x0"), "wait")
    page = ("act", "x2", "page", ("pass", "x0"), "wait")
    programs = [
        Program("triage", question, own=False, stubborn=True, statements=(ask, ifs, page))
        for question in ("q0", "q1", "q2", "q3")
        for ask in [("decide", "x0", question, "plain", ())]
        for ifs in [("if", "x0", (ship,))]
    ]
    while True:
        process, edit = choose.randrange(2), ("rule:ship", "on", choose.randrange(2))
        at = ((3 + choose.randrange(3), edit),) if choose.random() < 0.5 else ()
        run = ("program", process, choose.choice(programs), at)
        yield choose.choice([run, run, ("edit", process, *edit)])


def around_a_name(choose: random.Random) -> Iterator[Operation]:
    """An agent and a program of one name and task."""
    look = ("act", "x0", "look", ("text", "a"), "wait")
    program = Program(AGENT, "one", own=False, stubborn=False, statements=(look,))
    while True:
        process = choose.randrange(2)
        yield choose.choice([("agent", process, "one"), ("program", process, program)])


def around_an_added_requirement(choose: random.Random) -> Iterator[Operation]:
    """The code is another one, and so is what a write requires by it."""
    ship = ("act", "x1", "ship", ("pass", "x0"), "wait")
    decide = ("decide", "x0", "q0", "plain", ())
    program = Program("triage", "one", own=False, stubborn=True, statements=(decide, ship))
    while True:
        process = choose.randrange(2)
        edit = ("edit", process, "rule:audit", "on", choose.randrange(2))
        reopen = ("reopen", process, choose.choice("12"))
        yield choose.choice([("program", process, program), edit, reopen])


BROKEN: dict[Break, Callable[[random.Random], Iterator[Operation]]] = {
    guard_only_the_last_decision: around_choices,
    do_not_notice_opening: around_choices,
    do_not_notice_what_is_passed_on: around_what_is_passed_on,
    act_on_what_was_not_known: around_arguments,
    check_only_the_write: around_inherited_guards,
    publish_an_effect_without_a_step: anything,
    let_added_requirements_be: around_an_added_requirement,
    follow_any_kind: around_a_name,
}


async def found_at(url: str, choose: Callable[[random.Random], Iterator[Operation]]) -> int | None:
    """How many operations until something is not as the judge says; None: there is nothing."""
    return await done_until_found(
        lambda: ProgramHistory([ProgramWorld(url, f"test-{uuid.uuid4().hex[:12]}")]),
        choose(random.Random(7)),
        LIMIT["sqlite" if url.startswith("sqlite") else "neo4j"],
    )


@pytest.mark.parametrize("broken", BROKEN, ids=lambda it: it.__name__)
async def test_what_is_broken_is_found(
    broken: Break, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    found = await found_at(url, BROKEN[broken])
    print(f"found by operation {found}")  # noqa: T201  (pytest captures it)
    assert found is not None


@pytest.mark.parametrize("choose", dict.fromkeys(BROKEN.values()), ids=lambda it: it.__name__)
async def test_what_is_not_broken_is_not_found(
    choose: Callable[[random.Random], Iterator[Operation]],
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LIMIT, "sqlite", 120)
    monkeypatch.setitem(LIMIT, "neo4j", 60)
    assert await found_at(url, choose) is None
