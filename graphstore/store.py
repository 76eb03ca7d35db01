"""The interface every store implements, and what each may be relied on to do.

Rules for all methods:

- Every method takes the namespace first and sees nothing of any other.
- Writing methods are atomic: all of it or, after an error or a crash, nothing. They retry what
  the back end calls transient (a lock, a deadlock, a leader change) within ``RETRY_SECONDS``
  and are therefore idempotent unless their docstring says otherwise.
- A missing key is not an error: it is absent from the answer.
- Trouble is raised as a StoreError of ``errors``, never as the back end's own exception, and
  names neither passwords nor payloads.

A store belongs to one event loop of one process; ``execgraph.engine`` opens another elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .document import Document
from .facts import Expected, Fact, Facts, Span
from .model import (
    ChangeEvent,
    FacetRef,
    Recording,
    Replay,
    SideEffect,
    Task,
    Trace,
)

__all__ = [
    "LOOKUP_TRIES",
    "RETRY_SECONDS",
    "TRACES_PER_TASK",
    "Choose",
    "GraphStore",
    "Lookup",
    "Published",
    "expected_of",
]

#: How many published traces a task keeps; beyond, the oldest is unpublished.
TRACES_PER_TASK = 8
#: How long a store repeats what failed for a passing reason before it raises StoreUnavailable.
RETRY_SECONDS = 30.0
#: How often a lookup is repeated because a resource of the task's own traces moved meanwhile.
LOOKUP_TRIES = 5

#: A pure function from a task's traces (newest first) and the facts they rest on to the id of
#: the trace whose payloads are wanted, or None.
Choose = Callable[[Sequence[Trace], Facts], str | None]


@dataclass(frozen=True, slots=True)
class Lookup:
    """A task's published traces (newest first) with the facts of all their resources.

    There was a moment during the call at which all those facts held together and all those
    executions were published. ``damaged``: ids of published executions that did not read as
    their manifest says, or the chosen one's whose payloads do not have their digests; they are
    not among ``traces``.
    """

    traces: tuple[Trace, ...]
    facts: Facts
    chosen: str | None
    values: Mapping[str, bytes]  # the chosen trace's payloads by digest, each verified
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """``published`` False: an equal trace (``equal_to``) was there already."""

    published: bool
    equal_to: str | None = None
    unpublished: tuple[str, ...] = ()  # ids of the oldest traces, beyond TRACES_PER_TASK


class GraphStore(ABC):
    """Where the graph is kept. See the rules at the top of this module."""

    #: The address as it may be shown: without credentials.
    url: str

    # Opening ------------------------------------------------------------------------------

    @abstractmethod
    async def open(self) -> None:
        """Connect, and create or migrate the schema under a lock. Opening twice does nothing.

        Raises StoreUnavailable, StoreAccessDenied, SchemaTooNew.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of all connections. Closing a closed store does nothing."""

    # Facts --------------------------------------------------------------------------------

    @abstractmethod
    async def change(
        self,
        namespace: str,
        resource: str,
        document: Document | None,
        *,
        until: datetime | timedelta | None = None,
        source: str = "push",
    ) -> ChangeEvent | None:
        """Make ``document`` what ``resource`` is now (None: withdrawn).

        One transaction: lock the resource, read ``current`` = n; if the document is equal (by
        ``Document.whole``; or withdrawn again), set ``until`` alone and return None; else
        create version n + 1, HOLDS one precondition for each facet of the resource, set
        ``current`` and ``until``, write the ChangeEvent. ``until``: a moment, or a time from
        now on by the store's clock; None: until replaced. Withdrawing what was never observed
        returns None and creates nothing.
        """

    @abstractmethod
    async def read_facts(
        self, namespace: str, wanted: Mapping[str, frozenset[str | None]]
    ) -> Facts:
        """The current facts of the resources (keys), with the fingerprints of the selectors.

        Each fact pairs a version's own n with what that version holds. Facts of different
        resources may be of different moments during the call.
        """

    @abstractmethod
    async def document(self, namespace: str, resource: str) -> tuple[int, Document] | None:
        """The current version's number and document; None if absent or withdrawn."""

    @abstractmethod
    async def hold(
        self, namespace: str, resource: str, version: int, fingerprints: Mapping[str | None, str]
    ) -> None:
        """Add facets (by selector), and that this version of ``resource`` holds them so.

        The version may have been superseded meanwhile: the facets stay, so that whoever reads
        the newer version finds them missing there and adds them. Takes the resource's lock, so
        that a concurrent ``change`` either sees the new facets or comes first.
        """

    async def facts(self, namespace: str, wanted: Mapping[str, frozenset[str | None]]) -> Facts:
        """``read_facts``, after computing facets that nobody required before."""
        while missing := (found := await self.read_facts(namespace, wanted)).missing(wanted):
            await self._compute(namespace, missing)
        return found

    async def _compute(self, namespace: str, missing: Sequence[FacetRef]) -> None:
        for resource in {facet.resource for facet in missing}:
            if (current := await self.document(namespace, resource)) is None:
                continue
            version, document = current
            selectors = [facet.selector for facet in missing if facet.resource == resource]
            computed = {selector: document.fingerprint(selector) for selector in selectors}
            await self.hold(namespace, resource, version, computed)

    @abstractmethod
    async def unbroken(self, namespace: str, spans: Sequence[Span]) -> list[bool]:
        """For each span: whether every version in it HOLDS the precondition."""

    @abstractmethod
    async def changes(
        self, namespace: str, *, resource: str | None = None, limit: int = 100
    ) -> list[ChangeEvent]:
        """The newest change events, newest first."""

    # Lookup -------------------------------------------------------------------------------

    @abstractmethod
    async def lookup(self, namespace: str, task: str, choose: Choose) -> Lookup:
        """The published traces of the task with this key, and the payloads of the one chosen.

        SQLite: one read transaction. Neo4j: two steps (docs/algorithm.md, 5), repeated while a
        resource of the traces moves in between, at most ``LOOKUP_TRIES`` times, after which
        the answer has no traces. Traces whose facets are missing at a current version are
        completed as ``facts`` does and looked up again. ``choose`` is pure and may be called
        more than once.
        """

    @abstractmethod
    async def still(self, namespace: str, execution: str, accepted: Mapping[str, int]) -> bool:
        """Whether ``execution`` is published and every resource's ``current`` is the version in
        ``accepted`` and to be believed now. One statement, one round trip."""

    @abstractmethod
    async def values(self, namespace: str, digests: Collection[str]) -> dict[str, bytes]:
        """Payloads by digest. Raises PayloadCorrupted for any that is missing or damaged."""

    # Recording ----------------------------------------------------------------------------

    @abstractmethod
    async def intend(
        self, namespace: str, effect: SideEffect, expected: Sequence[Expected]
    ) -> bool:
        """Check facts and begin an effect, in one statement that is waited for.

        If every resource is as expected (its ``current`` the version; ``believed``: and to be
        believed at this moment; version 0: still never observed) the SideEffect is written as
        intended, performed by its execution (created in state running if it is not there yet),
        and True is returned; else nothing is written and False is returned. Not idempotent:
        must not be repeated by a caller who did not get an answer.
        """

    @abstractmethod
    async def write(self, namespace: str, recording: Recording) -> dict[str, int]:
        """Store a finished run with its steps, guards, edges, payloads and effects.

        The execution's state is stored as given, but never as published. Returns ``current`` of
        every resource that guards a step (0: never observed), read after the write began.
        Repeating it with the same execution id changes nothing.
        """

    @abstractmethod
    async def publish(
        self, namespace: str, execution: str, *, steps: int, manifest: str, signature: str
    ) -> Published:
        """Make the first ``steps`` steps of a written execution a trace, in a transaction of
        its own.

        If a published execution of the same task has this signature, it becomes ``unpublished``
        instead, with the reason. If the task has more than TRACES_PER_TASK then, the oldest are
        unpublished. Repeating it changes nothing.
        """

    @abstractmethod
    async def unpublish(self, namespace: str, execution: str, reason: str) -> None:
        """No lookup that begins after this accepts the trace. Unknown ids are ignored."""

    @abstractmethod
    async def write_replays(self, namespace: str, replays: Sequence[Replay]) -> None:
        """Store replays: their executions, REPLAYED, and their effects as done, with CAUSED
        edges to the steps they name. Repeating it changes nothing."""

    # Reading ------------------------------------------------------------------------------

    @abstractmethod
    async def effects(self, namespace: str, execution: str) -> list[SideEffect]:
        """The effects this execution performed, in the order they were begun."""

    @abstractmethod
    async def execution(self, namespace: str, execution: str) -> Trace | None:
        """One execution with *all* its recorded steps, whatever its state; None if unknown."""

    @abstractmethod
    async def task(self, namespace: str, key: str) -> Task | None:
        """The task with this key; None if unknown."""


def expected_of(resource: str, fact: Fact, now: int) -> Expected:
    """The expectation that ``fact``, read at ``now``, still stands."""
    return Expected(resource, fact.version, fact.believed(now))
