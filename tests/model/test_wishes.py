"""No interleaving of runs of one run id does a step twice; and each rule is needed for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from .checker import Isolation, System, explore
from .wishes import Began, Lost, WishRules, calling_again, calling_at_once

Build = Callable[..., System]

SYSTEMS: list[Build] = [calling_again, calling_at_once]

#: Each rule, and a system that goes wrong without it.
MUTATIONS: list[tuple[str, Build]] = [
    ("claims_under_lock", calling_at_once),
    ("takes_over_under_lock", calling_again),
    ("reads_attempts", calling_again),
    ("looks_at_wish", calling_again),
    ("locks_wish", calling_again),
    ("ends_what_it_holds", calling_again),
]


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("build", SYSTEMS, ids=lambda build: build.__name__)
def test_no_step_is_done_twice(build: Build, isolation: Isolation) -> None:
    report = explore(build(WishRules(), isolation=isolation))
    print(f"{report.states} states")  # noqa: T201  (pytest captures it)
    assert report.violation is None, str(report.violation)
    runs = [it.name for it in build(WishRules()).processes]
    assert report.answers >= {Began(run) for run in runs}, "each is let begin in some interleaving"
    assert Lost("first") in report.answers, "and not in another one"


@pytest.mark.parametrize(("rule", "build"), MUTATIONS, ids=[rule for rule, _ in MUTATIONS])
def test_each_rule_is_needed(rule: str, build: Build) -> None:
    report = explore(build(replace(WishRules(), **{rule: False})))
    assert report.violation is not None, f"nothing goes wrong without the rule {rule}"
    print(report.violation)  # noqa: T201  (pytest captures it)


def test_every_rule_is_broken_by_a_test() -> None:
    assert [rule for rule, _ in MUTATIONS] == [rule.name for rule in fields(WishRules)]
