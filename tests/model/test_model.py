"""The protocol is sound in every interleaving; and each rule that it rests on is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from . import properties, systems
from .checker import Answer, Begin, Commit, Isolation, Process, Read, Report, System, explore
from .protocol import Rules, Search, intend, lookup

Build = Callable[..., System]

SOUND = Rules()

#: A lookup whose trace is remembered and asked for again.
LOOKS_TWICE: tuple[Any, ...] = (lookup, Search(tries=1, remembers=True))
INTENDS: tuple[Any, ...] = (intend, ("r", "s"))


def with_reader(build: Callable[..., System], *arguments: Any, name: str) -> Build:
    """A system of which the reader is to be told."""

    def built(rules: Rules, **more: Any) -> System:
        return build(rules, *arguments, **more)

    built.__name__ = f"{build.__name__}_{name}"
    return built


SYSTEMS: list[Build] = [
    systems.looking_up,
    systems.changing_other_facets,
    systems.withdrawing,
    systems.remembering,
    systems.publishing,
    systems.collecting,
    systems.publishing_twice,
    systems.rejecting,
    systems.approving,
    systems.adding_late,
    systems.changing_at_once,
    systems.recording,
    systems.recording_late,
    systems.beginning,
    systems.beginning_with_other_facets,
    systems.marking,
    with_reader(systems.expiring, *LOOKS_TWICE, name="looks_twice"),
    with_reader(systems.expiring, *INTENDS, name="intends"),
    with_reader(systems.renewing, "r", *LOOKS_TWICE, name="looks_twice"),
    with_reader(systems.renewing, "s", lookup, name="looks"),
    with_reader(systems.renewing, "s", *INTENDS, name="intends"),
]

#: Each rule, and a system that goes wrong without it, on a read-committed server.
MUTATIONS: list[tuple[str, Build]] = [
    ("reads_twice", systems.looking_up),
    ("pairs_by_own_number", systems.looking_up),
    ("current_version_only", systems.looking_up),
    ("decides_by_facts", systems.marking),
    ("unpublishes_first", systems.collecting),
    ("decides_once", systems.publishing_twice),
    ("holds_under_lock", systems.adding_late),
    ("asks_still", systems.remembering),
    ("changes_under_lock", systems.changing_at_once),
    ("checks_current", systems.changing_at_once),
    ("compares_every_version", systems.recording),
    ("notes_before", systems.recording),
    ("intends_by_facts", systems.beginning),
    ("rejects_under_lock", systems.rejecting),
    ("unpublishes_under_lock", systems.approving),
]


def told(report: Report) -> Report:
    """The same; what ``pytest -s`` shows of it."""
    print(f"{report.states} states", report.violation or "")  # noqa: T201  (pytest captures it)
    return report


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("build", SYSTEMS, ids=lambda build: build.__name__)
def test_no_interleaving_breaks_a_property(build: Build, isolation: Isolation) -> None:
    report = told(explore(build(SOUND, isolation=isolation)))
    assert report.violation is None, str(report.violation)
    assert report.answers or build is systems.publishing_twice, "somebody got an answer"


@pytest.mark.parametrize(("rule", "build"), MUTATIONS, ids=[rule for rule, _ in MUTATIONS])
def test_each_rule_is_needed(rule: str, build: Build) -> None:
    report = told(explore(build(replace(SOUND, **{rule: False}))))
    assert report.violation is not None, f"nothing goes wrong without the rule {rule}"
    assert len(report.violation.steps) > 1, "and the way there is told"


def test_of_a_second_transaction_and_the_manifest_one_is_enough() -> None:
    """Both are kept: the manifest finds damage as well."""
    together = replace(SOUND, publishes_apart=False)
    unread = replace(SOUND, compares_manifest=False)
    assert explore(systems.publishing(together)).violation is None
    assert explore(systems.publishing(unread)).violation is None
    wrong = told(explore(systems.publishing(replace(together, compares_manifest=False)))).violation
    assert wrong is not None
    assert "a trace was accepted of which only" in wrong.why


def test_each_version_since_the_first_read_must_hold_the_same() -> None:
    """It takes three changes of both: with all parts apart these are too many states for here."""
    isolation = Isolation.READ_COMMITTED
    assert told(explore(systems.flapping(SOUND, isolation=isolation))).violation is None
    skips = replace(SOUND, confirms_every_version=False)
    assert told(explore(systems.flapping(skips, isolation=isolation))).violation is not None


def test_every_rule_is_broken_by_a_test() -> None:
    elsewhere = {"publishes_apart", "compares_manifest", "confirms_every_version"}
    assert {rule for rule, _ in MUTATIONS} | elsewhere == {rule.name for rule in fields(Rules)}


def test_a_database_with_snapshots_needs_no_second_read() -> None:
    once = replace(SOUND, reads_twice=False)
    for build in (systems.looking_up, systems.withdrawing, systems.collecting):
        assert explore(build(once, isolation=Isolation.SERIALIZABLE)).violation is None


# What remains ------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", [LOOKS_TWICE, INTENDS], ids=["lookup and still", "intend"])
def test_an_expired_version_may_be_believed_while_its_successor_becomes_visible(
    reader: tuple[Any, ...],
) -> None:
    """`current` and `until` are two properties, and each becomes visible for itself."""
    report = told(explore(systems.replacing_expired(SOUND, *reader)))
    assert report.violation is not None
    assert "r.until = 9 becomes visible" in str(report.violation)
    assert "r.current = 2 becomes visible" not in str(report.violation), "that change has not ended"
    snapshots = systems.replacing_expired(SOUND, *reader, isolation=Isolation.SERIALIZABLE)
    assert explore(snapshots).violation is None


def test_what_an_effect_rests_on_may_not_have_been_so_all_at_once() -> None:
    """Each fact was so at some moment of the statement, which reads them one after another."""
    together = properties.allowed_together
    report = told(explore(systems.beginning_with_other_facets(SOUND, allowed=together)))
    assert report.violation is not None
    snapshots = systems.beginning_with_other_facets(
        SOUND, allowed=together, isolation=Isolation.SERIALIZABLE
    )
    assert explore(snapshots).violation is None


def test_a_fact_believed_again_during_still_counts_as_if_it_had_been_all_the_time() -> None:
    """Its document was found equal; another resource may change in the middle of the statement."""
    report = told(explore(systems.renewing(SOUND, "s", *LOOKS_TWICE)))
    assert report.violation is not None
    assert "renew: commits" in str(report.violation)
    snapshots = systems.renewing(SOUND, "s", *LOOKS_TWICE, isolation=Isolation.SERIALIZABLE)
    assert explore(snapshots).violation is None


# The checker -------------------------------------------------------------------------------


def reads_two() -> Any:
    first = yield Read("read", "x")
    second = yield Read("read", "y")
    yield Begin()
    yield Answer((first, second))


def writes_two() -> Any:
    yield Commit("write", (("x", 1), ("y", 1)))


def pairs(isolation: Isolation) -> frozenset[Any]:
    """What a reader of two places may see while both are written in one transaction."""
    system = System(
        store={"x": 0, "y": 0},
        processes=(
            Process("reader", reads_two),
            Process("writer", writes_two, writes=frozenset({"x", "y"})),
        ),
        moment=lambda store: None,
        allowed=lambda answer, seen, store: None,
        isolation=isolation,
    )
    return explore(system).answers


def test_the_parts_of_a_transaction_become_visible_in_any_order() -> None:
    assert pairs(Isolation.VISIBLE_IN_PARTS) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert pairs(Isolation.READ_COMMITTED) == {(0, 0), (0, 1), (1, 1)}
    assert pairs(Isolation.SERIALIZABLE) == {(0, 0), (1, 1)}
