"""No interleaving of collectors and runs deletes a payload that a trace names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial

import pytest

from .checker import Isolation, System, explore
from .payloads import PayloadRules, naming, naming_twice
from .test_names import names_in

Build = Callable[[PayloadRules, Isolation], System]

SYSTEMS: dict[str, Build] = {
    "bringing it": partial(naming, carries=True),
    "naming it": partial(naming, carries=False),
    "naming it twice": naming_twice,
}
#: Each rule, and a system that goes wrong without it.
MUTATIONS = {
    "passes_gates": "naming it",
    "clears": "naming it twice",
    "asks_again": "naming it",
    "counts_looks": "naming it twice",
}


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("name", SYSTEMS)
def test_no_interleaving_deletes_what_a_trace_names(name: str, isolation: Isolation) -> None:
    report = explore(SYSTEMS[name](PayloadRules(), isolation))
    assert report.violation is None, str(report.violation)


@pytest.mark.parametrize(("rule", "name"), MUTATIONS.items())
def test_each_rule_of_payloads_is_needed(rule: str, name: str) -> None:
    broken = replace(PayloadRules(), **{rule: False})
    report = explore(SYSTEMS[name](broken, Isolation.READ_COMMITTED))
    assert report.violation is not None, f"nothing goes wrong without the rule {rule}"


def test_every_rule_of_payloads_is_broken_by_a_test() -> None:
    assert MUTATIONS.keys() == {rule.name for rule in fields(PayloadRules)}


def test_the_statements_about_payloads_are_those_of_the_store() -> None:
    report = explore(SYSTEMS["naming it"](PayloadRules(), Isolation.READ_COMMITTED))
    assert report.statements <= names_in("traces.cypher", "retention.cypher")
