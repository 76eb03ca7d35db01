"""The interface every store implements, and what each may be relied on to do.

Rules for all methods:

- A store is bound to one namespace, and its methods see nothing of any other; ``of`` gives another
  namespace of the same opened store. ``examine`` and ``namespaces`` are about the whole store, and
  ``cypher`` sees all of it.
- Writing methods are atomic: all of it or, after an error or a crash, nothing. They retry what
  the back end calls transient (a lock, a deadlock, a leader change) within ``RETRY_SECONDS``
  and are therefore idempotent unless their docstring says otherwise.
- A missing key is not an error: it is absent from the answer.
- Trouble is raised as a StoreError of ``errors``, never as the back end's own exception, and
  names neither passwords nor payloads.

A store belongs to one event loop of one process; ``execgraph.engine`` opens another elsewhere.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from .document import Document
from .errors import PayloadCorrupted, VersionMoved
from .facts import Expected, Fact, Facts, Span
from .finding import Finding
from .model import (
    ChangeEvent,
    Execution,
    ExecutionState,
    FacetRef,
    Outline,
    Recording,
    Replay,
    SideEffect,
    Task,
    Trace,
    Usage,
    Walk,
)
from .retention import COLLECT_BATCH, TRACES_PER_TASK, Collected, Retention
from .threads import in_thread

__all__ = [
    "ENDED_WELL",
    "EXPIRY",
    "LOOKUP_TRIES",
    "RETRY_SECONDS",
    "TRACES_PER_TASK",
    "WALK_BATCH",
    "Choose",
    "GraphStore",
    "Lookup",
    "Missed",
    "Progress",
    "Published",
    "Table",
    "Tally",
    "Totals",
    "check_noted",
    "expected_of",
]

_log = logging.getLogger(__name__)

#: How long a store repeats what failed for a passing reason before it raises StoreUnavailable.
RETRY_SECONDS = 30.0
#: How often a lookup is repeated because a facet that the task's own traces rest on moved.
LOOKUP_TRIES = 5

#: The state of executions that gave an answer, published or not.
ENDED_WELL = "ended"
_WITHOUT_ANSWER = (ExecutionState.FAILED, ExecutionState.RUNNING, ExecutionState.KILLED)

#: The source of the events by which a store records expiries.
EXPIRY = "expiry"
#: How many executions one batch of a walk looks at.
WALK_BATCH = 500

#: Told how much has been done, of how much.
Progress = Callable[[int, int], None]

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
    """``published`` False: an equal trace (``equal_to``) was there already. ``moved``: a guard
    of its steps does not hold by now, so a walk was opened."""

    published: bool
    equal_to: str | None = None
    unpublished: tuple[str, ...] = ()  # ids of the oldest traces, beyond ``keep``
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to a Cypher query. Iterating gives each row as a dict by column.

    Attributes:
        columns: The columns' names, as the query returns them.
        rows: The rows, each with the JSON values of all columns in their order.
        truncated: There were more rows than the limit.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each row by column."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the executions of one agent came to that have one mode and state: ``ENDED_WELL``,
    failed, running or killed.

    ``cost`` and ``saved_cost`` are of those whose price is known, in US dollars; ``unpriced`` and
    ``saved_unpriced`` count the others.
    """

    agent: str
    mode: str
    state: str
    executions: int = 0
    usage: Usage = field(default_factory=Usage)
    asked: int = 0
    served: int = 0
    saved_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    saved_cost: float = 0.0
    saved_unpriced: int = 0

    @classmethod
    def of(cls, row: Sequence[Any]) -> Tally:
        """From the columns of the statement ``totals``: as above, usage spread out."""
        kinds = tuple(Usage.model_fields)
        usage = Usage(**dict(zip(kinds, row[4:], strict=False)))
        agent, mode, state, executions = row[:4]
        if state not in _WITHOUT_ANSWER:  # a trace may be unpublished at any time
            state = ENDED_WELL
        values = (agent, mode, state, executions, usage, *row[4 + len(kinds) :])
        return cls(**dict(zip((it.name for it in fields(cls)), values, strict=True)))

    def __add__(self, other: Tally) -> Tally:
        added = {
            it.name: getattr(self, it.name) + getattr(other, it.name)
            for it in fields(self)
            if it.name not in ("agent", "mode", "state")
        }
        return replace(self, **added)


class Missed(NamedTuple):
    """Calls that one kind of cause made necessary, and the tokens they took."""

    asked: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What executions came to; those included that failed, or have not ended."""

    tallies: tuple[Tally, ...] = ()
    misses: Mapping[str, Missed] = field(default_factory=dict)  # by kind of cause
    traces: int = 0  # published now

    @property
    def executions(self) -> dict[str, int]:
        """How many have ended well, by mode."""
        by_mode: Counter[str] = Counter()
        for it in self.tallies:
            if it.state == ENDED_WELL:
                by_mode[it.mode] += it.executions
        return dict(by_mode)

    @property
    def failed(self) -> int:
        return sum(it.executions for it in self.tallies if it.state == ExecutionState.FAILED)

    @property
    def tokens(self) -> int:
        return sum(it.usage.total for it in self.tallies)

    @property
    def saved_tokens(self) -> int:
        return sum(it.saved_tokens for it in self.tallies)

    @property
    def cost(self) -> float:
        """In US dollars, of those whose price is known."""
        return sum(it.cost for it in self.tallies)

    def rounded(self, digits: int = 6) -> Totals:
        """The same, whatever the order was in which its sums of dollars were made."""
        return replace(
            self,
            tallies=tuple(
                replace(it, cost=round(it.cost, digits), saved_cost=round(it.saved_cost, digits))
                for it in self.tallies
            ),
        )

    @classmethod
    def of(
        cls, groups: Iterable[Sequence[Any]], misses: Iterable[Sequence[Any]], traces: int
    ) -> Totals:
        """From rows of tallies, and rows ``[kind of cause, calls, tokens]``; of one agent, mode and
        state, or of one kind, there may be several."""
        tallies: dict[tuple[str, str, str], Tally] = {}
        for it in map(Tally.of, groups):
            key = (it.agent, it.mode, it.state)
            tallies[key] = tallies[key] + it if key in tallies else it
        by_kind: dict[str, Missed] = {}
        for kind, asked, tokens in misses:
            known = by_kind.get(kind, Missed(0, 0))
            by_kind[kind] = Missed(known.asked + (asked or 0), known.tokens + (tokens or 0))
        missed = {kind: it for kind, it in by_kind.items() if any(it)}
        return cls(tuple(tallies[key] for key in sorted(tallies)), missed, traces)


class GraphStore(ABC):
    """Where the graph of one namespace is kept. See the rules at the top of this module."""

    #: The address as it may be shown: without credentials.
    url: str
    namespace: str

    # Opening ------------------------------------------------------------------------------

    @abstractmethod
    async def open(self) -> None:
        """Connect, and create or migrate the schema under a lock. Opening twice does nothing.

        Raises StoreUnavailable, StoreAccessDenied, SchemaTooNew.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of all connections. Closing a closed store does nothing."""

    @abstractmethod
    def of(self, namespace: str) -> GraphStore:
        """Another namespace of this store. They share what is open: who opens or closes one of
        them opens or closes all."""

    def pinned(self) -> GraphStore:
        """This store for one piece of work, such as a run or a look at a source.

        Its first call decides with which store, of those that may follow each other at one
        address, that work is done; a call that would go to another one raises StoreReplaced. So
        nothing that was read from one authorises anything in the other, whatever their versions
        and ids are.
        """
        return self

    async def incarnation(self) -> str:
        """Which store there is at this address: another token, another store.

        What a process remembers under one token says nothing under another one. Two openings may
        have two tokens although the store is the same one. Raises StoreUnavailable.
        """
        return ""

    # Facts --------------------------------------------------------------------------------

    @abstractmethod
    async def change(
        self,
        resource: str,
        document: Document | None,
        *,
        until: datetime | timedelta | None = None,
        source: str = "push",
        noted: int | None = None,
    ) -> ChangeEvent | None:
        """Make ``document`` what ``resource`` is now (None: withdrawn).

        One transaction: lock the resource, read ``current`` = n; if the document is equal (by
        ``Document.whole``; or withdrawn again), set ``until`` alone and return None; else
        create version n + 1, HOLDS one precondition for each facet of the resource, set
        ``current`` and ``until``, write the ChangeEvent. ``until``: a moment, or a time from
        now on by the store's clock, now if that has passed; None: until replaced. Withdrawing
        what was never observed returns None and creates nothing.

        ``noted``: only if ``current`` is still this number (0: never observed); else raises
        VersionMoved, and nothing is written. An equal document of a resource whose expiry was
        recorded is an event too (``renewed``) if it is to be believed again.
        """

    @abstractmethod
    async def renew(
        self,
        noted: Mapping[str, int],
        *,
        until: datetime | timedelta | None,
        source: str = "push",
    ) -> frozenset[str]:
        """Believe these resources until then, those whose ``current`` is still the number noted.

        Returns which those were. One transaction, for many resources at once; as in ``change``
        with an equal document, one whose expiry was recorded gets an event (``renewed``).
        Withdrawn ones are left alone, and returned.
        """

    @abstractmethod
    async def expire(self) -> list[ChangeEvent]:
        """Record, once each, that resources are no longer to be believed: those whose ``until``
        has passed by the store's clock. Lookups need no such record; people and marks do."""

    @abstractmethod
    async def read_facts(self, wanted: Mapping[str, frozenset[str | None]]) -> Facts:
        """The current facts of the resources (keys), with the fingerprints of the selectors.

        Each fact pairs a version's own n with what that version holds. Facts of different
        resources may be of different moments during the call.
        """

    @abstractmethod
    async def document(
        self, resource: str, version: int | None = None
    ) -> tuple[int, Document] | None:
        """The number and document of a version, by default of the current one; None if that is
        absent, withdrawn or deleted. Raises PayloadCorrupted."""

    @abstractmethod
    async def hold(
        self, resource: str, version: int, fingerprints: Mapping[str | None, str]
    ) -> None:
        """Add facets (by selector), and that this version of ``resource`` holds them so.

        The version may have been superseded meanwhile: the facets stay, so that whoever reads
        the newer version finds them missing there and adds them. Takes the resource's lock, so
        that a concurrent ``change`` either sees the new facets or comes first.
        """

    async def facts(self, wanted: Mapping[str, frozenset[str | None]]) -> Facts:
        """``read_facts``, after computing facets that nobody required before."""
        while missing := (found := await self.read_facts(wanted)).missing(wanted):
            await self._compute(missing)
        return found

    async def _compute(self, missing: Sequence[FacetRef]) -> None:
        for resource in {facet.resource for facet in missing}:
            if (current := await self.document(resource)) is None:
                continue
            version, document = current
            selectors = [facet.selector for facet in missing if facet.resource == resource]
            computed = await in_thread(partial(document.held_all, selectors))
            await self.hold(resource, version, computed)

    async def compute(self, facet: FacetRef, versions: Iterable[int]) -> None:
        """Have these versions hold a facet that nobody required while they were current. One
        that is withdrawn, deleted or damaged holds nothing."""
        for version in versions:
            with suppress(PayloadCorrupted):
                found = await self.document(facet.resource, version)
                if found is not None:
                    computed = await in_thread(partial(found[1].held_all, [facet.selector]))
                    await self.hold(facet.resource, version, computed)

    async def _compute_guards(self, execution: str) -> None:
        """Have all facets that an execution rests on computed; a damaged document gives none."""
        if (trace := await self.execution(execution)) is None:
            return
        wanted = {
            resource: frozenset(
                guard.selector
                for guard in trace.preconditions.values()
                if guard.resource == resource
            )
            for resource in trace.resources
        }
        try:
            await self.facts(wanted)
        except PayloadCorrupted as error:
            _log.warning("facets cannot be computed, so what rests on them is invalid: %s", error)

    @abstractmethod
    async def unbroken(self, spans: Sequence[Span]) -> list[bool]:
        """For each span: whether every version in it HOLDS the precondition."""

    @abstractmethod
    async def current_at(self, resources: Collection[str], at: int) -> dict[str, int]:
        """The number of the version of each resource that was current at ``at``, in milliseconds
        of the store's clock; one that was never observed is left out. Each version kept that was
        made later counts as later, and so do all after it. Where versions were collected in
        between, the number may be that of one of them, which holds nothing."""

    @abstractmethod
    async def changes(
        self,
        *,
        resource: str | None = None,
        since: int | None = None,
        limit: int | None = 100,
    ) -> list[ChangeEvent]:
        """The newest change events, newest first; none that is older than ``since``
        (milliseconds). Events may become visible out of order, seconds apart, on a store that
        many machines share."""

    @abstractmethod
    async def resources(self, source: str) -> dict[str, int]:
        """The resources that are present now, by the word of ``source``: uri -> ``current``."""

    @abstractmethod
    async def facets(self, resource: str) -> frozenset[str | None]:
        """The selectors of all facets of a resource that anybody ever required."""

    # Leases -------------------------------------------------------------------------------

    @abstractmethod
    async def lease(self, name: str, owner: str, duration: timedelta) -> bool:
        """Hold the lease ``name`` for ``duration`` from now, by the store's clock.

        True if it was free, had run out, or is this owner's already (then it is extended). One
        that was given before the clock was set back is free.
        Losing it only ends exclusivity: what it protects must be right without.
        """

    @abstractmethod
    async def release(self, name: str, owner: str) -> None:
        """Give up a lease, if it is this owner's."""

    # Marks --------------------------------------------------------------------------------

    @abstractmethod
    async def walks(self, *, limit: int = 100) -> list[Walk]:
        """Walks that have not ended, oldest first. A change opens one; so does a publication
        whose guards do not all hold by then."""

    @abstractmethod
    async def walk(self, walk: str, *, batch: int = WALK_BATCH) -> Walk | None:
        """Go on with an open walk: one batch of executions.

        For each of them, in an order that ``cursor`` remembers, in one transaction: lock it, then
        read facts, then set the marks of all its steps that rest on a precondition of this walk,
        or follow from one that does. The cursor never gets ahead of the marks. A step is invalid
        iff some guard of it, or of a step that feeds it (however far up), does not hold;
        ``invalidated_by`` is then the least id of those guards. Marks are a view: they authorise
        nothing. Repeating a batch changes nothing.
        Returns the walk as it is then; None if it is unknown or has ended before.
        """

    @abstractmethod
    async def marks(self, execution: str) -> dict[int, str]:
        """The invalid steps of an execution: ``invalidated_by`` by position."""

    # Lookup -------------------------------------------------------------------------------

    @abstractmethod
    async def lookup(self, task: str, choose: Choose) -> Lookup:
        """The published traces of the task with this key, and the payloads of the one chosen.

        SQLite: one read transaction. Neo4j: two steps (docs/algorithm.md, 5), repeated while a
        facet that the traces rest on moves in between, at most ``LOOKUP_TRIES`` times, after which
        the answer has no traces. Traces whose facets are missing at a current version are
        completed as ``facts`` does and looked up again. ``choose`` is pure and may be called
        more than once.
        """

    @abstractmethod
    async def still(self, execution: str, accepted: Mapping[str, int]) -> bool:
        """Whether ``execution`` is published and every resource's ``current`` is the version in
        ``accepted`` and to be believed now. One statement, one round trip."""

    @abstractmethod
    async def values(self, digests: Collection[str]) -> dict[str, bytes]:
        """Payloads by digest. Raises PayloadCorrupted for any that is missing or damaged."""

    # Recording ----------------------------------------------------------------------------

    @abstractmethod
    async def intend(self, effect: SideEffect, expected: Sequence[Expected]) -> bool:
        """Check facts and begin an effect, in one statement that is waited for.

        If every resource is as expected (its ``current`` the version, or one that ``holds`` what
        is expected of it; ``believed``: and to be believed at this moment; version 0: still never
        observed) the SideEffect is written as
        intended, performed by its execution (created in state running if it is not there yet),
        and True is returned; else nothing is written and False is returned. Not idempotent:
        must not be repeated by a caller who did not get an answer.
        """

    @abstractmethod
    async def write(self, recording: Recording) -> dict[str, int]:
        """Store a finished run with its steps, guards, edges, payloads and effects.

        The execution's state is stored as given, but never as published. Returns ``current`` of
        every resource that guards a step (0: never observed), read after the write began.
        Payloads that its steps name are no longer suspected (``graphstore.retention``).
        Repeating it with the same execution id changes nothing.
        """

    @abstractmethod
    async def publish(
        self,
        execution: str,
        *,
        steps: int,
        manifest: str,
        signature: str,
        keep: int = TRACES_PER_TASK,
    ) -> Published:
        """Make the first ``steps`` steps of a written execution a trace, in a transaction of
        its own.

        If a published execution of the same task has this signature, or a payload that one of
        its steps names is gone (a collection took it while the run went on), it becomes
        ``unpublished`` instead, with the reason. If the task has more than ``keep`` traces then,
        the oldest are unpublished. Repeating it changes nothing.
        """

    @abstractmethod
    async def unpublish(self, execution: str, reason: str) -> None:
        """No lookup that begins after this accepts the trace. Unknown ids are ignored."""

    @abstractmethod
    async def write_replays(self, replays: Sequence[Replay]) -> None:
        """Store replays: their executions, REPLAYED, and their effects as done, with CAUSED
        edges to the steps they name. Repeating it changes nothing. A replay of a task that a
        collection has removed meanwhile is added to the totals of its day, and not kept: it alone
        may count twice if it is repeated."""

    @abstractmethod
    async def note_running(self, executions: Sequence[Execution]) -> None:
        """Keep what runs that have not ended have cost so far, so that it is known of one that is
        killed: agent, mode, time, usage, cost and calls. One that was written meanwhile is left
        alone; ``write`` and ``write_replays`` replace it. Repeating it changes nothing."""

    # Retention ----------------------------------------------------------------------------

    @abstractmethod
    async def collect(self, retention: Retention, *, batch: int = COLLECT_BATCH) -> Collected:
        """One batch of a collection, by the rules of ``graphstore.retention``, in one transaction.

        Repeat it until there is no ``more``. Who else collects, publishes, writes or replays at
        the same time is not in the way. What is folded into the totals of a day is deleted in
        the same transaction, so that nothing is counted twice or lost.
        """

    @abstractmethod
    async def collectable(self, retention: Retention) -> Collected:
        """What a collection would take away now, without doing it.

        Payloads are told as the most that it could be: those that nothing else than what is
        deleted is known to name. ``more``: whether there is anything to do.
        """

    # Reading ------------------------------------------------------------------------------

    @abstractmethod
    async def effects(self, execution: str) -> list[SideEffect]:
        """The effects this execution performed, in the order they were begun."""

    @abstractmethod
    async def execution(self, execution: str) -> Trace | None:
        """One execution with *all* its recorded steps, whatever its state; None if unknown."""

    @abstractmethod
    async def task(self, key: str) -> Task | None:
        """The task with this key; None if unknown."""

    @abstractmethod
    async def executions(self, *, agent: str | None = None, limit: int = 20) -> list[Execution]:
        """The newest executions that have ended, newest first; of one agent, if it is given."""

    @abstractmethod
    async def dependants(self, preconditions: Collection[str]) -> list[Outline]:
        """Of each task that has a published step resting on one of these preconditions: all its
        published traces in outline, newest first."""

    @abstractmethod
    async def totals(self, *, since: int | None = None) -> Totals:
        """What the executions that started at ``since`` (milliseconds) or later came to, those
        that have not ended included. Those that a collection has folded count if their day (UTC)
        ended after ``since``."""

    # Examining ----------------------------------------------------------------------------

    @abstractmethod
    async def examine(self) -> list[Finding]:
        """Whether the store as a whole is sound, and does what a program needs of it. What is
        wrong is a finding and not raised, but for a store that cannot be reached."""

    @abstractmethod
    async def task_keys(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """The keys of tasks, in order, those that come after ``after``."""

    @abstractmethod
    async def namespaces(self, *, limit: int = 20) -> list[str]:
        """The names of namespaces in which there is something, in order."""

    @abstractmethod
    async def uris(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """The uris of resources, in order, those that come after ``after``."""

    @abstractmethod
    async def doubts(self, *, limit: int = 100) -> list[SideEffect]:
        """Effects that were begun and are not known to have ended, oldest first."""

    @abstractmethod
    async def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any],
        *,
        time_limit: timedelta,
        limit: int,
        progress: Progress | None = None,
    ) -> Table:
        """Answer a reading Cypher query; ``$namespace`` is bound. At most ``limit`` rows.

        All namespaces are seen; what there is to ask for is in ``graphstore.cypher``. Raises
        CypherRefused before anything runs if the query could write, does not parse, or calls a
        procedure that does more than read; CypherTimeout after ``time_limit``; CypherFailed.
        ``progress`` is told how much of the graph is loaded, where it is loaded first; that
        takes none of the query's time.
        """


def check_noted(resource: str, noted: int | None, current: int) -> None:
    """Raises VersionMoved unless ``current`` is the version that was noted, if one was."""
    if noted is not None and noted != current:
        raise VersionMoved(
            f"{resource} is at version {current}, and was noted at {noted}; read it again"
        )


def expected_of(resource: str, fact: Fact, now: int) -> Expected:
    """The expectation that ``fact``, read at ``now``, still stands."""
    return Expected(resource, fact.version, fact.believed(now))
