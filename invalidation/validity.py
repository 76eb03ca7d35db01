"""Validity: a function of facts, and not of marks (I1).

A guard holds iff the resource's current version HOLDS its precondition and is still to be
believed. No version, a withdrawn one or an expired one holds nothing: fail closed. This module
does no I/O; whoever asks brings the facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..graphstore.facts import Facts, FactState
from ..graphstore.model import NEVER, Precondition, Step

__all__ = ["Broken", "GuardState", "broken", "broken_guards"]


class GuardState(StrEnum):
    """Why a guard does not hold."""

    CHANGED = "precondition changed"
    EXPIRED = "precondition expired"
    NEVER_OBSERVED = "precondition never observed"
    WITHDRAWN = "precondition withdrawn"
    UNKNOWN_THEN = "precondition unknown when recorded"
    MISSING = "precondition missing in the store"


@dataclass(frozen=True, slots=True)
class Broken:
    """A guard that does not hold: what it asks for, and what is there instead."""

    state: GuardState
    guard: Precondition
    found: str | None  # the fingerprint now; None: nothing is held


def broken(guard: Precondition, facts: Facts) -> Broken | None:
    """Why ``guard`` does not hold at these facts; None if it does."""
    fact = facts.of(guard.resource)
    fingerprint = fact.fingerprints.get(guard.selector)
    if fact.believed(facts.now) and fingerprint == guard.fingerprint:
        return None
    return Broken(
        _why(guard, facts, fingerprint), guard, fingerprint if fact.believed(facts.now) else None
    )


def _why(guard: Precondition, facts: Facts, fingerprint: str | None) -> GuardState:
    fact = facts.of(guard.resource)
    match fact.state:
        case FactState.ABSENT:
            return GuardState.NEVER_OBSERVED
        case FactState.WITHDRAWN:
            return GuardState.WITHDRAWN
        case FactState.PRESENT:
            if not fact.believed(facts.now):
                return GuardState.EXPIRED
            if guard.fingerprint == NEVER:
                return GuardState.UNKNOWN_THEN
            return GuardState.MISSING if fingerprint is None else GuardState.CHANGED


def broken_guards(
    step: Step, preconditions: Mapping[str, Precondition], facts: Facts
) -> Iterable[Broken]:
    """The guards of ``step`` that do not hold at these facts."""
    for key in step.guards:
        if (found := broken(preconditions[key], facts)) is not None:
            yield found
