"""A program's decisions are guarded by what followed from them, in every interleaving; and each
part of that rule is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from . import deciding
from .checker import Isolation, System, explore
from .deciding import Choice
from .test_names import FILES, names_in

Build = Callable[..., System]

SYSTEMS: list[Build] = [
    deciding.noting_and_asking,
    deciding.asking_without_a_note,
    deciding.hiding_an_effect,
    deciding.serving,
]

#: Each part of the rule, and a system that goes wrong without it.
MUTATIONS: list[tuple[str, Build]] = [
    ("guards_what_was_opened", deciding.noting_and_asking),
    ("refuses_what_was_not_known", deciding.asking_without_a_note),
    ("allows_for_late_versions", deciding.asking_without_a_note),
    ("compares_with_what_was_noted", deciding.noting_and_asking),
    ("publishes_no_hidden_effect", deciding.hiding_an_effect),
    ("checks_what_chose", deciding.serving),
]


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("build", SYSTEMS, ids=lambda build: build.__name__)
def test_no_effect_follows_from_what_was_decided_under_something_else(
    build: Build, isolation: Isolation
) -> None:
    report = explore(build(Choice(), isolation=isolation))
    assert report.violation is None, str(report.violation)
    assert report.answers, "some effect was begun"


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize(("rule", "build"), MUTATIONS, ids=[rule for rule, _ in MUTATIONS])
def test_each_part_of_the_rule_is_needed(rule: str, build: Build, isolation: Isolation) -> None:
    report = explore(build(replace(Choice(), **{rule: False}), isolation=isolation))
    assert report.violation is not None, f"nothing goes wrong without the rule {rule}"


def test_every_part_of_the_rule_is_broken_by_a_test() -> None:
    assert [rule for rule, _ in MUTATIONS] == [rule.name for rule in fields(Choice)]


def test_the_statements_are_those_of_production() -> None:
    steps = Isolation.SERIALIZABLE
    run = set().union(*(explore(build(Choice(), isolation=steps)).statements for build in SYSTEMS))
    files = (path.name for path in FILES.glob("*.cypher"))
    assert run - {"clock", "model"} <= names_in(*files), "time and the model are no statements"
