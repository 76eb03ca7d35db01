"""What a store keeps, and what a collection took away.

A *collection* deletes whole executions, versions, events and payloads that nobody needs. The
rules, of one namespace:

- A trace beyond ``traces`` of its task (the newest stay) is *unpublished*, and so is one that was
  neither recorded nor replayed for ``max_age``. Whoever is replaying it then has it to its end,
  since it is deleted ``grace`` later at the earliest, and no lookup that begins later accepts it.
- Other executions that have ended (replays, unpublished and failed runs) are deleted when they
  are older than ``grace`` and beyond ``history`` of their task (the newest stay) or older than
  ``history_age``; at once after ``grace``, when it was for ``max_age`` or ``max_bytes`` that they
  were unpublished. What they cost and saved is added to the totals of their day first. An
  execution's age counts from its end, or from when it was unpublished if that is later.
- An execution that never ended, because its process was killed, is deleted when nothing was heard
  of it for ``history_age`` and it began no effect; it counts as killed in the totals of its day.
- Never deleted: an execution that has an effect in doubt (begun, and not known to have ended), or
  an open walk; and the newest replay of a published trace, because it says when that was last
  used.
- A version that is not current is deleted when it is older than ``grace`` and beyond ``versions``
  of its resource or older than ``history_age``, with the events that led to it, unless a walk of
  one is open. Expiries and renewals of the current version are deleted by the same rule, but for
  the newest event of the resource. The event that made the current version stays.
- A precondition is deleted with the last step that rests on it or the last version that holds it,
  whichever goes later. A facet is deleted with the last step that rests on it, and with it go its
  preconditions and what events say of it. Whoever requires it again has it computed again.
- A task is deleted with its last execution.
- A payload is deleted when nothing that is kept names it. It is *suspected* first, in the
  transaction that deletes what named it; then all that is kept is looked at; a run that writes it
  or names it meanwhile clears it of suspicion.
- If payloads still take more than ``max_bytes``, all of the above is done as if ``history`` and
  ``versions`` were 0. If they then still do, and no trace that was unpublished for this waits for
  its ``grace``, traces are unpublished, those used longest ago first, as many as name the excess.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta

from .errors import ConfigurationError

__all__ = [
    "COLLECT_BATCH",
    "EQUAL_TO",
    "LOST",
    "OVERSIZE",
    "TRACES_PER_TASK",
    "UNUSED",
    "Collected",
    "Retention",
    "beyond",
]

#: How many published traces a task keeps, unless the engine is told otherwise.
TRACES_PER_TASK = 8
#: How many executions, versions or payloads one batch of a collection deletes.
COLLECT_BATCH = 500
#: Why a collection unpublished a trace. Such a one is deleted whatever the history is to be.
UNUSED = "nobody replayed it for longer than retention.max_age"
OVERSIZE = "the payloads took more than retention.max_bytes"


#: Why a run is not published.
LOST = "a payload that its steps name is gone"
EQUAL_TO = "it takes the same steps under the same guards as "  # and the id of that trace


def beyond(traces: int) -> str:
    """Why a trace is unpublished that is not among so many newest ones of its task."""
    return f"the task keeps its {traces} newest traces"


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
    values: int = 0
    bytes: int = 0
    more: bool = False

    def __add__(self, other: Collected) -> Collected:
        """Both together; whether there is more to do is what the later one says."""
        counts = {
            it.name: getattr(self, it.name) + getattr(other, it.name)
            for it in fields(self)
            if it.name != "more"
        }
        return Collected(**counts, more=other.more)
