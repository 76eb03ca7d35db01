"""The checker itself: it must find what it is there for."""

from __future__ import annotations

import pytest

from .history import Answer, Belief, Change, Timeline

CHANGES = [
    Change("a", 1, "x", 0.0, 1.0),
    Change("a", 2, "y", 5.0, 6.0),
    Change("a", 3, "x", 9.0, 10.0),
    Change("b", 1, "p", 0.0, 1.0),
    Change("b", 2, "q", 7.0, 8.0),
]


def answer(start: float, end: float, *, joint: bool = True, **values: str) -> Answer:
    return Answer("pair", "run-1", start, end, values, joint)


@pytest.mark.parametrize(
    ("it", "found"),
    [
        (answer(2, 3, a="x", b="p"), None),
        (answer(5.5, 5.6, a="x"), None),  # its end may not have been committed yet
        (answer(5.5, 5.6, a="y"), None),
        (answer(6.5, 7, a="x"), "at no moment"),
        (answer(2, 3, a="y"), "at no moment"),
        (answer(2, 3, a="unheard of"), "at no moment"),
        (answer(11, 12, a="x", b="q"), None),
        (answer(2, 12, a="x", b="q"), None),
        (answer(6.5, 8.5, a="y", b="q"), None),
        (answer(2, 8.5, a="x", b="q"), "no one moment"),
        (answer(2, 8.5, joint=False, a="x", b="q"), None),
    ],
)
def test_an_answer_is_stale_iff_no_moment_of_its_call_had_its_facts(
    it: Answer, found: str | None
) -> None:
    said = Timeline(CHANGES).stale(it)
    assert said == found if found is None else found in (said or "")


def test_a_lost_or_doubled_version_is_found() -> None:
    assert Timeline(CHANGES).lost() == []
    assert Timeline(CHANGES[1:]).lost() == ["a: [2, 3]"]
    assert Timeline([*CHANGES, CHANGES[0]]).lost() == ["a: [1, 1, 2, 3]"]


def test_an_answer_that_was_replayed_when_its_fact_had_expired_is_found() -> None:
    beliefs = [Belief("a", "x", 0.0, 3.0), Belief("a", "y", 5.0, 8.0), Belief("a", "y", 8.5, 8.9)]
    timeline = Timeline(CHANGES, beliefs)
    for start, value, right in ((2, "x", True), (3.5, "x", False), (8.2, "y", False)):
        it = answer(start, start + 0.1, a=value)
        assert (timeline.stale(it) is None) == right
        assert timeline.stale(it._replace(joint=False)) is None
    assert timeline.stale(answer(8.2, 8.6, a="y")) is None
