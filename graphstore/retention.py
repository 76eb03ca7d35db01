"""What a store keeps, what goes by that, and what a collection took away.

A *collection* deletes whole executions, versions, events and payloads that nobody needs. ``Rules``
says which, as a pure function of what a store lists (``graphstore.collecting``). The rest follows
from what is there:

- A precondition is deleted with the last step that rests on it or the last version that holds it,
  whichever goes later. A facet is deleted with the last step that rests on it, and with it go its
  preconditions and what events say of it. Whoever requires it again has it computed again.
- A task is deleted with its last execution. What a deleted execution cost and saved is added to
  the totals of its day first.
- An approval is kept, like an effect that happens once, unless nobody has answered it in time.
- A payload is deleted when nothing that is kept names it. It is *suspected* first, in the
  transaction that deletes what named it; then all that is kept is looked at; a run that writes it
  or names it meanwhile clears it of suspicion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import NamedTuple

from .errors import ConfigurationError

__all__ = [
    "APPROVED_LATER",
    "COLLECT_BATCH",
    "EQUAL_TO",
    "EXPELLED",
    "LOST",
    "OVERSIZE",
    "TRACES_PER_TASK",
    "UNAPPROVED",
    "UNUSED",
    "Collected",
    "Expiry",
    "ResourceHistory",
    "Retention",
    "Rules",
    "Run",
    "TaskHistory",
    "Trace",
    "Version",
    "beyond",
    "beyond_unapproved",
    "least_used",
    "rejected_with",
]

#: How many published traces a task keeps, unless the engine is told otherwise.
TRACES_PER_TASK = 8
#: How many executions, versions or payloads one batch of a collection deletes.
COLLECT_BATCH = 500
#: Why a collection expelled a trace. Such a one is deleted whatever the history is to be.
UNUSED = "nobody replayed it for longer than retention.max_age"
OVERSIZE = "the payloads took more than retention.max_bytes"
EXPELLED = (UNUSED, OVERSIZE)


#: Why a run is not published.
LOST = "a payload that its steps name is gone"
EQUAL_TO = "it takes the same steps under the same guards as "  # and the id of that trace
UNAPPROVED = "it waits to be approved"
APPROVED_LATER = "its rejection was overruled, with the approval of "  # and the id of that run


def rejected_with(execution: str, reason: str) -> str:
    """Why a run is no trace that has the answer of another one, which was rejected."""
    return f"its answer was rejected, as that of {execution}: {reason}"


def beyond(traces: int) -> str:
    """Why a trace is unpublished that is not among so many newest ones of its task."""
    return f"the task keeps its {traces} newest traces"


def beyond_unapproved(runs: int) -> str:
    """Why a run beyond the newest ones of its task waits no more to be approved."""
    return f"the task keeps its {runs} newest runs that wait to be approved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What a store keeps. All rules: docs/retention.md.

    Attributes:
        traces: How many traces of one task.
        history: How many other executions of one task.
        versions: How many versions of one resource, beside the current one.
        max_age: How long a trace that nobody uses; None: for ever.
        history_age: How long other executions, versions and events.
        max_bytes: How many bytes of payloads in one namespace, as stored; None: no limit.
        grace: The longest time a run may take that still reads what is not published any more.

    Raises:
        ConfigurationError: A number is too small, or an age is negative.
    """

    traces: int = TRACES_PER_TASK
    history: int = 100
    versions: int = 100
    max_age: timedelta | None = None
    history_age: timedelta = timedelta(days=30)
    max_bytes: int | None = None
    grace: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        for name, least in (("traces", 1), ("history", 0), ("versions", 0), ("max_bytes", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(
                    f"retention: {name}={value} is too few; the least is {least}"
                )
        for name in ("max_age", "history_age", "grace"):
            age = getattr(self, name)
            if age is not None and age < timedelta(0):
                raise ConfigurationError(f"retention: {name}={age} lies in the future")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one batch of a collection, or a whole one, has deleted.

    Attributes:
        unpublished: How many traces may no longer be replayed; they are deleted later.
        executions: How many executions, without ``replays``.
        replays: How many replays, which are still counted in the totals of their day.
        effects: How many side effects, with their executions.
        versions: How many versions of resources.
        events: How many change events.
        preconditions: How many preconditions that nothing rests on.
        facets: How many facets that nothing rests on.
        tasks: How many tasks that have no execution left.
        approvals: How many approvals that nobody gave or denied in time.
        values: How many payloads.
        bytes: How many bytes these took, as stored.
        more: There is more to delete.
    """

    unpublished: int = 0
    executions: int = 0
    replays: int = 0
    effects: int = 0
    versions: int = 0
    events: int = 0
    preconditions: int = 0
    facets: int = 0
    tasks: int = 0
    approvals: int = 0
    values: int = 0
    bytes: int = 0
    more: bool = False

    def __add__(self, other: Collected) -> Collected:
        """Both together; whether there is more to do is what the later one says."""
        counts = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name != "more"
        }
        return Collected(**counts, more=other.more)


# What stores list: times are milliseconds since 1970 by the store's clock ---------------------


class Trace(NamedTuple):
    """A published trace.

    ``use``: the newest run that replayed it, if there is one. ``used``: when that ended, or the
    trace itself, if that is later.
    """

    id: str
    used: int
    use: str | None


class TaskHistory(NamedTuple):
    """The runs of a task that have ended and are not published, in order of their start.

    ``edge_start`` and ``edge``: start and id of the last one, counted from the newest, of as many
    as are kept; None: there are not so many. ``oldest``: when the first began. ``expelled``: one
    of them was unpublished for its age or its size.
    """

    task: str
    edge_start: int | None
    edge: str | None
    oldest: int | None
    expelled: bool


class Run(NamedTuple):
    """A run of a history, or one that was killed. ``ended``: when it did, or was unpublished, if
    that is later. ``held``: it has an effect in doubt or an open walk."""

    id: str
    started_at: int
    ended: int
    reason: str | None
    steps: int
    held: bool


class ResourceHistory(NamedTuple):
    """What a resource was. ``oldest`` and ``oldest_at``: number and time of its oldest version;
    None: it has none. ``expiries``: how many events say that its current version expired or was
    renewed, and ``oldest_expiry`` when the first of them was."""

    resource: str
    current: int
    oldest: int | None
    oldest_at: int | None
    expiries: int
    oldest_expiry: int | None


class Version(NamedTuple):
    """A version. ``held``: a walk of its change is open."""

    n: int
    at: int
    held: bool


class Expiry(NamedTuple):
    """An event that says that the current version expired or was renewed; ``held`` as above."""

    id: str
    at: int
    held: bool


# What goes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rules:
    """What goes by ``retention`` at the moment ``now``, in milliseconds. Pure."""

    retention: Retention
    now: int

    def to_unpublish(self, traces: Sequence[Trace]) -> dict[str, str]:
        """Which traces of one task, given newest first, are to be unpublished, and why.

        Those that are too many come first: the room that the others leave is not for them.

        Whoever is replaying one then has it to its end, since it is deleted ``grace`` later at
        the earliest, and no lookup that begins later accepts it.
        """
        keep = self.retention
        why = {it.id: beyond(keep.traces) for it in traces[keep.traces :]}
        if keep.max_age is not None:
            why |= {it.id: UNUSED for it in traces if it.used <= self._ago(keep.max_age)}
        return why

    def to_unpublish_of(self, tasks: Iterable[tuple[str, Sequence[Trace]]]) -> dict[str, str]:
        """Which traces of several tasks are to be unpublished, and why."""
        return {id_: why for _, traces in tasks for id_, why in self.to_unpublish(traces).items()}

    def unpublished(self, run: Run, why: str | None) -> Run:
        """The run as it is when it has been unpublished now, if there is a reason."""
        return run if why is None else run._replace(ended=self.now, reason=why)

    def kept_uses(self, traces: Iterable[Trace], gone: Collection[str]) -> set[str]:
        """The newest replays of traces that stay. They stay too, to say when those were used."""
        return {it.use for it in traces if it.use is not None and it.id not in gone}

    def started_until(self, history: TaskHistory) -> int:
        """No run of this history goes that started later."""
        keep = self.retention
        if history.expelled or (not keep.history and keep.max_bytes is not None):
            return self.now  # to find what waits
        if not keep.history:
            return self._old
        return min(self._old, max(history.edge_start or 0, self._long_ago))

    def runs_to_delete(
        self, history: TaskHistory, runs: Iterable[Run], kept_uses: Collection[str]
    ) -> list[Run]:
        """The runs that are too many, too old, or traces that went for good."""
        return [
            run
            for run in runs
            if run.id not in kept_uses and self._goes(run, self._is_beyond(history, run))
        ]

    def waits(self, run: Run) -> bool:
        """Whether this is a trace that will be deleted for its size when its grace ends."""
        return run.reason == OVERSIZE and not run.held and run.ended > self._old

    def killed_until(self) -> int:
        """No run goes as killed that was last heard of later."""
        return min(self._old, self._long_ago)

    def killed_to_delete(self, runs: Iterable[Run]) -> list[Run]:
        """The runs that began no effect, and did not end, of which nothing is awaited."""
        return [it for it in runs if it.ended <= self.killed_until() and not it.held]

    def unanswered_until(self) -> int:
        """The moment after which a request that expired unanswered is kept."""
        return self.killed_until()

    def has_versions_to_delete(self, past: ResourceHistory) -> bool:
        """Whether it may be so; a time in the future was given before the clock was set back."""
        if past.oldest is None:
            return False
        oldest = Version(past.oldest, past.oldest_at or 0, held=False)
        return oldest.at > self.now or self._goes_as_version(past, oldest)

    def versions_to_delete(
        self, past: ResourceHistory, versions: Iterable[Version]
    ) -> list[Version]:
        """The versions that are not current, and too many or too old."""
        return [it for it in versions if self._goes_as_version(past, it)]

    def has_expiries_to_delete(self, past: ResourceHistory) -> bool:
        """Whether it may be so. The newest event of a resource stays."""
        at = past.oldest_expiry
        if at is None or past.expiries < 2:
            return False
        return past.expiries > self.retention.versions or not self._long_ago < at <= self.now

    def expiries_to_delete(self, place: int, expiries: Iterable[Expiry]) -> list[Expiry]:
        """The expiries, of those given newest first from this place on, that are too many or too
        old."""
        return [
            expiry
            for place, expiry in enumerate(expiries, place)
            if place
            and not expiry.held
            and expiry.at <= self._old
            and (place >= self.retention.versions or expiry.at <= self._long_ago)
        ]

    def _goes(self, run: Run, is_beyond: bool) -> bool:  # noqa: FBT001
        if run.held or run.ended > self._old:
            return False
        too_many = is_beyond and run.reason != UNAPPROVED  # somebody is still to look at it
        return too_many or run.ended <= self._long_ago or run.reason in EXPELLED

    def _is_beyond(self, history: TaskHistory, run: Run) -> bool:
        if not self.retention.history:
            return True
        edge = history.edge_start, history.edge
        return None not in edge and (run.started_at, run.id) < edge

    def _goes_as_version(self, past: ResourceHistory, version: Version) -> bool:
        if version.held or version.n >= past.current or version.at > self._old:
            return False
        is_beyond = version.n < past.current - self.retention.versions
        return is_beyond or version.at <= self._long_ago

    @property
    def _old(self) -> int:
        return self._ago(self.retention.grace)

    @property
    def _long_ago(self) -> int:
        return self._ago(self.retention.history_age)

    def _ago(self, age: timedelta) -> int:
        return self.now - age // timedelta(milliseconds=1)


def least_used(
    traces: Iterable[str], sizes: Mapping[str, Mapping[str, int]], named: set[str], excess: int
) -> tuple[list[str], int]:
    """The first of these traces that name ``excess`` bytes, and how many are missing to that.

    ``sizes``: of each trace's payloads, by digest. ``named``: those already counted, to which
    those of the traces are added.
    """
    chosen = []
    for trace in traces:
        if excess <= 0:
            break
        chosen.append(trace)
        excess -= sum(size for digest, size in sizes[trace].items() if digest not in named)
        named |= sizes[trace].keys()
    return chosen, excess
