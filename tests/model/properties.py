"""What must hold of the protocol, whatever happens in between.

A *moment* is what a store says at one time: of each resource its current version and whether that
may be believed, and whether the trace is published and whole. A call is right if there was a
moment during it at which all was so that it rests on.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from .protocol import (
    ALWAYS,
    LAST_VERSION,
    MANIFEST,
    WITHDRAWN,
    Accepted,
    Fact,
    Facts,
    Intended,
    Published,
    fingerprint,
)

__all__ = [
    "Moment",
    "allowed",
    "allowed_together",
    "committed",
    "ended",
    "ghost",
    "immutable",
    "moment",
    "written",
]

Store = Mapping[str, Any]
RESOURCES = ("r", "s")


class Moment(NamedTuple):
    """``facts``: of each resource, its current version, what that says, whether it is believed."""

    facts: tuple[tuple[int, str, bool], ...]
    published: bool

    def has(self, fact: Fact) -> bool:
        """Whether the facet is as the fact says. By its version alone if nothing is held."""
        version, document, believed = self.facts[RESOURCES.index(fact.resource)]
        same = version == fact.version if fact.holds is None else document[0] == fact.holds
        return same and believed == fact.believed


def moment(store: Store) -> Hashable:
    """What the store says now."""
    facts = []
    for r in RESOURCES:
        current = store[f"{r}.current"]
        document = store[f"{r}.{current}.is"]
        believed = document != WITHDRAWN and store["now"] < store[f"{r}.{current}.until"]
        facts.append((current, document, believed))
    return Moment(tuple(facts), store["e.state"] == "published" and _is_whole(store))


def _is_whole(store: Store) -> bool:
    steps = all(store[f"e.step.{it}"] for it in range(len(MANIFEST)))
    guards = tuple(store[f"e.guard.{it}"] for it in range(len(MANIFEST)))
    return steps and guards == MANIFEST


def allowed(answer: Any, seen: frozenset[Moment], store: Store) -> str | None:
    """Why a call must not have given this answer, given the moments while it ran."""
    match answer:
        case Accepted(facts, trace):
            return _accepted(facts, trace, seen, store)
        case Facts(fact):
            return _true(fact, store) or _at_one_moment((fact,), seen)
        case Intended(facts):
            return next(filter(None, (_at_one_moment((fact,), seen) for fact in facts)), None)
        case Published(fact):
            return _untorn(fact, seen, store)
    raise AssertionError(answer)


def allowed_together(answer: Any, seen: frozenset[Moment], store: Store) -> str | None:
    """More than is promised: that all an effect rests on was so at one and the same moment."""
    if isinstance(answer, Intended):
        return _at_one_moment(answer.facts, seen)
    return allowed(answer, seen, store)


def _accepted(
    facts: tuple[Fact, ...], trace: tuple[Any, ...] | None, seen: frozenset[Moment], store: Store
) -> str | None:
    """I4: a lookup's facts held together while the trace was published, and it was read whole."""
    if trace is not None and trace != MANIFEST:
        return f"a trace was accepted of which only {trace} was read"
    for fact in facts:
        if why := _true(fact, store):
            return why
    return _at_one_moment(facts, frozenset(it for it in seen if it.published)) or None


def _true(fact: Fact, store: Store) -> str | None:
    """A version holds what its document says; what it does not say is not held against it."""
    document = store[f"{fact.resource}.{fact.version}.is"]
    if fact.holds is not None and fact.holds != fingerprint(document):
        return f"version {fact.version} of {fact.resource} is {document}, not {fact.holds}"
    return None


def _at_one_moment(facts: tuple[Fact, ...], seen: frozenset[Moment]) -> str | None:
    if any(all(moment.has(fact) for fact in facts) for moment in seen):
        return None
    told = ", ".join(f"{it.resource} at version {it.version}" for it in facts)
    return f"there was no moment during the call with {told}"


def _untorn(fact: Fact, seen: frozenset[Moment], store: Store) -> str | None:
    """I6: what guards a step held from the note before it until it was done."""
    r = fact.resource
    for it in seen:
        _, document, _ = it.facts[RESOURCES.index(r)]
        if fingerprint(document) != fact.holds:
            return f"{r} was {document} during a step that was published as resting on {fact.holds}"
    return None


def written(store: Store, place: str, value: Any) -> str | None:
    """Why this part must not be written now."""
    if place.endswith(".current") and value <= store[place]:
        return f"{place} was {store[place]} already: a change was lost"
    if place == "e.state" and value == "published" and store["gone"]:
        return "a trace that was unpublished is back"
    if place == "e.state" and store["e.state"] == "rejected" and value != "rejected":
        return f"what was rejected is {value}"
    return None


def committed(parts: Mapping[str, Any]) -> Mapping[str, Hashable]:
    """What a version is, by the transaction that makes it, whatever is visible of it yet."""
    noted: dict[str, Hashable] = {}
    for r in RESOURCES:
        if (current := parts.get(f"{r}.current")) is not None:
            noted[f"{r}.{current}.is"] = parts[f"{r}.{current}"]
            noted[f"{r}.{current}.until"] = parts.get(f"{r}.until", ALWAYS)
        elif f"{r}.until" in parts:
            noted[f"{r}.renews"] = True
    return noted


def ghost(store: Store, place: str, value: Any) -> Mapping[str, Hashable]:
    """What is noted of a part for the properties' sake."""
    resource, _, name = place.partition(".")
    if name == "current":  # this version must hold the facet, if that was there before
        return {f"{resource}.{value}.owes": store[f"{resource}.facet"]}
    if name == "until" and store[f"{resource}.renews"]:
        return {f"{resource}.{store[f'{resource}.current']}.until": value}
    if place == "e.state" and store["e.state"] == "published":
        return {"gone": True}
    return {}


def ended(store: Store) -> str | None:
    """Why the store must not be left so: facets added late hold what they should, and no trace has
    an answer that was rejected."""
    if store["x.state"] == "rejected" and store["e.state"] == "published":
        return "a trace has the answer of a run that was rejected"
    for r in RESOURCES:
        for n in range(1, store["versions"] + 1):
            document, held = store[f"{r}.{n}"], store[f"{r}.{n}.holds"]
            if held is not None and held != fingerprint(document):
                return f"version {n} of {r} is {document} and holds {held}"
            if store[f"{r}.{n}.owes"] and document not in (None, WITHDRAWN) and held is None:
                return f"{r} had its facet before version {n} came, which does not hold it"
    return None


def immutable() -> frozenset[str]:
    """What is written once."""
    versions = [f"{r}.{n}" for r in RESOURCES for n in range(1, LAST_VERSION + 1)]
    return frozenset([*versions, *(f"{it}.holds" for it in versions)])
