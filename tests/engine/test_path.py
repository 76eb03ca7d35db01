"""The path of a run: where its steps stand, and what goes with them when it goes back."""

from __future__ import annotations

from typing import Any

import pytest

from execgraph.engine.outcome.cause import Cause, MissKind
from execgraph.engine.outcome.result import Outcome
from execgraph.engine.run.occurrences import Occurrences
from execgraph.engine.run.path import Path
from execgraph.engine.steps.run_step import RunStep
from execgraph.graphstore.model import EffectState, SideEffect, Step, StepKind

CAUSE = Cause(MissKind.PRECONDITION_CHANGED, "rule:freeze")


def step(key: str, *, kind: StepKind = StepKind.DECISION, feeds: tuple[int, ...] = ()) -> Step:
    return Step(
        position=-1,
        kind=kind,
        name="m",
        key=key,
        occurrence=0,
        code_key="c",
        output=key,
        output_key=key,
        feeds=feeds,
    )


def asked(key: str, **more: Any) -> RunStep:
    return RunStep(step(key, **more), Outcome.ASKED, b"{}")


def written(key: str) -> RunStep:
    effect = SideEffect(
        id=key,
        execution="run",
        tool="ship",
        target="eu",
        idempotency_key="k",
        state=EffectState.DONE,
        begun_at=1,
    )
    done = RunStep(step(key, kind=StepKind.ACTION), Outcome.EXECUTED, b"1")
    done.effect = effect
    return done


@pytest.fixture
def path() -> Path:
    return Path(None)


def test_steps_get_their_places_in_the_order_in_which_they_end(path: Path) -> None:
    for key in "abc":
        path.take(asked(key))
    assert [(it.key, it.position) for it in path.steps] == [("a", 0), ("b", 1), ("c", 2)]


def test_the_next_step_follows_from_those_that_feed_no_other(path: Path) -> None:
    path.take(asked("a"))
    path.take(asked("b"))
    path.take(asked("c", feeds=(0,)))
    assert path.frontier == (1, 2)


def test_there_is_no_going_back_behind_an_effect(path: Path) -> None:
    assert path.history == 0
    for run_step in (asked("a"), written("b"), asked("c")):
        path.take(run_step)
    assert path.history == 2


def test_going_back_forgets_what_came_later_and_gives_it(path: Path) -> None:
    for key in "abc":
        path.take(asked(key))
    assert [it.step.key for it in path.go_back(1, CAUSE)] == ["b", "c"]
    assert [it.key for it in path.steps] == ["a"]
    assert path.last_decision == 0


def test_outputs_are_those_of_actions(path: Path) -> None:
    path.take(asked("a"))
    path.take(written("b"))
    assert path.outputs == {"b": b"1"}
    path.go_back(1, CAUSE)
    assert not path.outputs


def test_a_run_without_a_recorded_path_follows_none_and_leaves_none(path: Path) -> None:
    path.leave(CAUSE)
    assert (path.is_as_recorded, path.next, path.action(0, 0), path.left) == (False,) + (None,) * 3


def test_equal_steps_are_told_apart_by_how_many_came_before(path: Path) -> None:
    path.take(asked("a"))
    occurrences = Occurrences(path)
    assert [occurrences.next(key) for key in "aab"] == [1, 2, 0]


def test_who_asks_again_without_an_answer_asks_for_the_same_occurrence(path: Path) -> None:
    occurrences = Occurrences(path)
    first = occurrences.next("a")
    occurrences.give_back("a", first)
    assert (first, occurrences.next("a"), occurrences.next("a")) == (0, 0, 1)


def test_after_going_back_only_what_is_left_on_the_path_has_come_before(path: Path) -> None:
    occurrences = Occurrences(path)
    path.take(asked("a"))
    assert occurrences.next("a") == 1
    path.go_back(0, CAUSE)
    occurrences.start_over()
    assert occurrences.next("a") == 0
