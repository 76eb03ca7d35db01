"""What a store says of resources at one moment.

A fact is (resource, version n, what version n holds). Versions are immutable, so a fact read
once stays true of its n for ever; only ``current`` moves, and only upwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from .errors import VersionMoved
from .model import FacetChange, FacetRef, Trace

__all__ = [
    "ABSENT",
    "EXPIRY",
    "Expected",
    "Fact",
    "FactState",
    "Facts",
    "Span",
    "check_noted",
    "differing",
    "expected_of",
    "wanted_by",
]

#: The source of the events by which a store records expiries.
EXPIRY = "expiry"


class FactState(StrEnum):
    """What is known of a resource.

    ``absent``: it was never observed. ``withdrawn``: it is deleted or unreadable since.
    """

    ABSENT = "absent"
    PRESENT = "present"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Fact:
    """One resource's current version, and the fingerprints asked for that it holds.

    ``fingerprints`` maps selectors; a selector that is missing of a present version is one whose
    facet the store has not computed there. ``until`` is in milliseconds of the store's clock;
    None: until replaced.
    """

    version: int
    state: FactState
    until: int | None = None
    fingerprints: Mapping[str | None, str] = field(default_factory=lambda: MappingProxyType({}))

    def believed(self, now: int) -> bool:
        """Whether the resource holds anything at all at the moment ``now``."""
        return self.state is FactState.PRESENT and (self.until is None or now < self.until)


#: What is known of a resource nobody ever observed.
ABSENT = Fact(version=0, state=FactState.ABSENT)


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts by resource, and the store's time at which they were read."""

    now: int
    by_resource: Mapping[str, Fact]

    def of(self, resource: str) -> Fact:
        return self.by_resource.get(resource, ABSENT)

    def expired(self) -> frozenset[str]:
        """The resources that are present, and no longer to be believed."""
        return frozenset(
            uri
            for uri, fact in self.by_resource.items()
            if fact.state is FactState.PRESENT and not fact.believed(self.now)
        )

    def renewed(self) -> Facts:
        """The facts, as if all that is present were still to be believed."""
        facts = {uri: replace(self.by_resource[uri], until=None) for uri in self.expired()}
        return Facts(self.now, {**self.by_resource, **facts})

    def missing(self, wanted: Mapping[str, frozenset[str | None]]) -> list[FacetRef]:
        """The facets of present resources that nobody has computed at their current version."""
        return [
            FacetRef(resource, selector)
            for resource, selectors in wanted.items()
            for selector in selectors
            if self.of(resource).state is FactState.PRESENT
            and selector not in self.of(resource).fingerprints
        ]


@dataclass(frozen=True, slots=True)
class Expected:
    """What ``current`` of a resource must still be; ``believed``: and be believed.

    ``holds``: ids of preconditions. A later version that holds all of them is as good, so that
    changes of other facets, however many, are in nobody's way.
    """

    resource: str
    version: int  # 0: still never observed
    believed: bool
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """The versions of a precondition's resource after ``after``, up to and with ``through``."""

    precondition: str
    resource: str
    after: int
    through: int


def differing(
    facets: Mapping[str, FacetRef], before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[FacetChange, ...]:
    """The facets whose fingerprint is another one than before, in the order of their keys.

    All three are by key; of a facet that is in neither of the others nothing was and is held.
    """
    return tuple(
        FacetChange(
            facet=key,
            resource=facet.resource,
            selector=facet.selector,
            before=before.get(key),
            after=after.get(key),
        )
        for key, facet in sorted(facets.items())
        if before.get(key) != after.get(key)
    )


def wanted_by(traces: Iterable[Trace]) -> dict[str, frozenset[str | None]]:
    """The facets that the traces rest on, as ``read_facts`` takes them."""
    wanted: dict[str, set[str | None]] = {}
    for trace in traces:
        for guard in trace.preconditions.values():
            wanted.setdefault(guard.resource, set()).add(guard.selector)
    return {resource: frozenset(selectors) for resource, selectors in wanted.items()}


def check_noted(resource: str, noted: int | None, current: int) -> None:
    """Raises VersionMoved unless ``current`` is the version that was noted, if one was."""
    if noted is not None and noted != current:
        raise VersionMoved(
            f"{resource} is at version {current}, and was noted at {noted}; read it again"
        )


def expected_of(resource: str, fact: Fact, now: int) -> Expected:
    """The expectation that ``fact``, read at ``now``, still stands."""
    return Expected(resource, fact.version, fact.believed(now))
