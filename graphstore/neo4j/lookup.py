"""A lookup's two steps, and what makes the second one confirm the first.

One statement of a read-committed server is no snapshot: the parts of a transaction may become
visible one by one, in any order. Versions only grow and are immutable; so if ``current`` of every
resource and every execution's state are, after step 1, what step 1 paired its facts with, then
all of them held together between the two. The same is true if ``current`` moved and each version
since then holds what that one held: another facet changed. An execution that was unpublished
meanwhile is left out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PayloadCorrupted
from ..facts import ABSENT, Fact, Facts, wanted_by
from ..records import trace_of
from ..roles.lookups import LOOKUP_TRIES, Choose, Lookup
from .mapping import fact_of, verified

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from ..model import FacetRef, Trace
    from .client import Client

    #: Computes facets that nobody required before.
    Complete = Callable[[Sequence[FacetRef]], Awaitable[None]]

__all__ = ["TraceLookup", "facts_of"]

_log = logging.getLogger(__name__)


@dataclass
class TraceLookup:
    """One lookup, and what it learned from its earlier tries."""

    client: Client
    task: str
    choose: Choose
    complete: Complete
    _suspects: frozenset[str] = frozenset()
    _asked_for: set[tuple[FacetRef, int]] = field(default_factory=set)

    async def run(self) -> Lookup:
        """Read and confirm until nothing moves in between, at most LOOKUP_TRIES times."""
        tries = 1
        while (lookup := await self._try(first_read := await self._settled())) is None:
            if tries == LOOKUP_TRIES:
                return Lookup((), Facts(first_read.facts.now, {}), None, {}, first_read.damaged)
            tries += 1
        return lookup

    async def _try(self, first_read: FirstRead) -> Lookup | None:
        """The answer; None if something moved since it was read."""
        while first_read.whole and first_read.traces:
            chosen = self.choose(first_read.traces, first_read.facts)
            lookup = await self._confirmed(first_read, chosen)
            if lookup is None or chosen is None:
                return lookup
            if first_read.trace(chosen).payloads <= set(lookup.values):
                return lookup
            first_read = first_read.without(chosen)
        answer = Lookup((), first_read.facts, None, {}, first_read.damaged)
        return answer if first_read.whole else None

    async def _settled(self) -> FirstRead:
        """Step 1, again where a publication was seen in part, or a facet was never computed."""
        while True:
            row = await self.client.row("lookup", {"task": self.task})
            assert row is not None
            first_read = _first_read(row, self.client.namespace)
            missing = {
                (facet, first_read.facts.of(facet.resource).version)
                for facet in first_read.missing()
            }
            if damaged := frozenset(first_read.damaged) - self._suspects:
                self._suspects |= damaged
            elif missing - self._asked_for:
                self._asked_for |= missing
                await self._compute([facet for facet, _ in missing])
            else:
                return first_read

    async def _compute(self, missing: Sequence[FacetRef]) -> None:
        try:
            await self.complete(missing)
        except PayloadCorrupted as error:
            _log.warning("facets cannot be computed, so what rests on them is invalid: %s", error)

    async def _confirmed(self, first_read: FirstRead, chosen: str | None) -> Lookup | None:
        """Step 2. None if something moved."""
        wanted = [] if chosen is None else sorted(first_read.trace(chosen).payloads)
        parameters = {
            "resources": [
                [uri, first_read.facts.of(uri).version, [[*it] for it in sorted(held.items())]]
                for uri, held in sorted(first_read.held.items())
            ],
            "executions": [trace.id for trace in first_read.traces],
            "digests": wanted,
        }
        row = await self.client.row("confirm", parameters)
        assert row is not None
        now, facts, published, payloads = row
        traces = tuple(trace for trace in first_read.traces if trace.id in published)
        if chosen is not None and chosen not in published:
            return None
        held = _held(first_read, now, {resource: rest for resource, *rest in facts})
        if held is None:
            return None
        return Lookup(traces, held, chosen, verified(payloads), first_read.damaged)


class FirstRead(NamedTuple):
    """What step 1 saw: traces newest first, and the facts of their resources."""

    traces: tuple[Trace, ...]
    facts: Facts
    damaged: tuple[str, ...]
    whole: bool  # False: a current version was not visible yet

    def trace(self, id_: str) -> Trace:
        return next(trace for trace in self.traces if trace.id == id_)

    def without(self, damaged: str) -> FirstRead:
        left = tuple(trace for trace in self.traces if trace.id != damaged)
        return self._replace(traces=left, damaged=(*self.damaged, damaged))

    @property
    def held(self) -> dict[str, dict[str, str | None]]:
        """For each resource, what was held of the facets that the traces rest on, by their keys."""
        held: dict[str, dict[str, str | None]] = {}
        for trace in self.traces:
            for guard in trace.preconditions.values():
                fingerprints = self.facts.of(guard.resource).fingerprints
                held.setdefault(guard.resource, {})[guard.facet] = fingerprints.get(guard.selector)
        return held

    def missing(self) -> list[FacetRef]:
        """The facets the traces rest on that were never computed at a current version."""
        return self.facts.missing(wanted_by(self.traces))


def facts_of(now: int, rows: Iterable[Sequence[Any]]) -> tuple[Facts, bool]:
    """Facts from rows ``[resource, current, until, n, withdrawn, held]``.

    The second is False if a current version was not visible yet; it counts as absent here.
    """
    by_resource: dict[str, Fact] = {}
    whole = True
    for resource, current, until, n, withdrawn, held in rows:
        if n is not None and withdrawn is not None:
            by_resource[resource] = fact_of(until, n, withdrawn, held)
        elif current:
            whole = False
    return Facts(now, by_resource), whole


def _first_read(row: Sequence[Any], namespace: str) -> FirstRead:
    now, rows, guards, facts = row
    traces, damaged = [], []
    for execution, steps in rows:
        if "id" not in execution:  # deleted while it was read, and so unpublished before
            continue
        trace = _intact(execution, steps, guards, namespace)
        if trace is None:
            damaged.append(execution["id"])
        else:
            traces.append(trace)
    traces.sort(key=lambda trace: (trace.execution.started_at, trace.id), reverse=True)
    by_resource, whole = facts_of(now, facts)
    return FirstRead(tuple(traces), by_resource, tuple(sorted(damaged)), whole)


def _intact(execution: Mapping[str, Any], steps: Any, guards: Any, namespace: str) -> Trace | None:
    try:
        trace = trace_of(execution, steps, guards)
    except (ValueError, TypeError):
        return None
    return trace if trace.intact(namespace) else None


def _held(first_read: FirstRead, now: int, moved: Mapping[str, Sequence[Any]]) -> Facts | None:
    """The facts of step 1 at the moment of step 2, if they are the same ones."""
    facts = {}
    for resource, held in first_read.held.items():
        before = first_read.facts.of(resource)
        current, until, holding = moved.get(resource, (0, None, 0))
        # A facet of which nothing was held is not counted either: then it moved.
        if current != before.version and holding != (current - before.version) * len(held):
            return None
        after = before if before is ABSENT else replace(before, until=until, version=current)
        if after.believed(now) != before.believed(first_read.facts.now):
            return None
        facts[resource] = after
    return Facts(now, {key: fact for key, fact in facts.items() if fact is not ABSENT})
