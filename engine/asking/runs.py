"""The runs that are kept, newest first: those of an agent, a task, a mode, a state, with labels."""

from __future__ import annotations

import difflib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar, overload

from typing_extensions import override

from ...graphstore.model import Execution, ExecutionState, Mode, Trace
from ...graphstore.roles.history import Executions, Place
from ...graphstore.store import GraphStore
from ..errors import ConfigurationError, ExecutionUnknown, TaskUnknown
from ..outcome.html import page, table
from ..sessions.process import is_dead
from .as_json import iso

__all__ = [
    "Runs",
    "Sought",
    "as_of_now",
    "execution_as_json",
    "killed_processes",
    "one_of",
    "place_of",
    "recorded_mode",
    "runs_of",
    "several",
    "whole_id",
    "whole_key",
]

_Kind = TypeVar("_Kind", bound=StrEnum)

_MOST_READ = 10_000  # executions for one answer
_PAGE = 1_000
_NAMED = 10  # that are named where another one was asked for

#: Few of many: to go through them is less than to go through an agent's.
_RARE = {
    ExecutionState.RUNNING,
    ExecutionState.KILLED,
    ExecutionState.FAILED,
    ExecutionState.UNAPPROVED,
    ExecutionState.REJECTED,
}


@dataclass(frozen=True, slots=True)
class Sought:
    """Which runs are asked for; what is None, or empty, does not matter.

    ``task``: its key. ``since``: in milliseconds since 1970. ``before``: only those that are older
    than this one.
    """

    agent: str | None = None
    task: str | None = None
    mode: Mode | None = None
    state: ExecutionState | None = None
    labels: Mapping[str, str] | None = None
    since: int | None = None
    before: Place | None = None

    @property
    def listed(self) -> Executions:
        """Which executions the store lists for this search: those that one property names."""
        listed = Executions(ended=False, since=self.since or 0)
        if self.before is not None:
            listed = listed._replace(before=self.before)
        if self.task is not None:
            return listed._replace(by="task", value=self.task)
        if self.state in _RARE or (self.state is not None and self.agent is None):
            kept = ExecutionState.RUNNING if self.state is ExecutionState.KILLED else self.state
            return listed._replace(by="state", value=kept.value)
        if self.agent is not None:
            return listed._replace(by="agent", value=self.agent)
        if self.mode is not None:
            return listed._replace(by="mode", value=self.mode.value)
        return listed

    def is_met_by(self, execution: Execution) -> bool:
        """Whether a run is one of those."""
        return (
            self.agent in (None, execution.agent)
            and self.task in (None, execution.task)
            and self.mode in (None, execution.mode)
            and self.state in (None, execution.state)
            and (self.labels or {}).items() <= execution.labels.items()
        )


@dataclass(frozen=True, slots=True)
class Runs(Sequence[Execution]):
    """Runs, newest first; it is a sequence of them.

    Attributes:
        executions: The runs, as they are stored.
        older: The id of the run from which to go on (``before=``), to be told of older ones; None
            if there are none.
        hint: What is to be known of the answer: that something asked for does not exist, or that
            not all was looked at. None if there is nothing.
        replayed: How many steps plain replays have replayed, by their ids: of their own they have
            none. One whose trace is gone is left out.
    """

    executions: tuple[Execution, ...]
    older: str | None = None
    hint: str | None = None
    replayed: Mapping[str, int] = field(default_factory=dict)

    @override
    def __len__(self) -> int:
        return len(self.executions)

    @overload
    def __getitem__(self, index: int) -> Execution: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Execution]: ...

    @override
    def __getitem__(self, index: int | slice) -> Execution | Sequence[Execution]:
        return self.executions[index]

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            What ``execgraph runs --json`` prints.
        """
        return {
            "runs": [execution_as_json(it) for it in self.executions],
            "older": self.older,
            "hint": self.hint,
        }

    def told(self, run: Execution) -> tuple[str, str]:
        """The state and the number of steps of one of the runs, for people: of a plain replay the
        steps that it replayed, and no state, since it is never published."""
        if not run.is_plain_replay:
            return run.state.value, f"{run.steps:,}"
        steps = self.replayed.get(run.id)
        return "", "" if steps is None else f"{steps:,}"

    def _repr_html_(self) -> str:
        head = ("started", "run", "agent", "mode", "state", "steps", "ms", "tokens", "saved")
        rows = [
            (
                *(iso(it.started_at), it.id, it.agent, it.mode, *self.told(it)),
                *(f"{it.duration_ms:,.0f}", f"{it.usage.total:,}", f"{it.saved_tokens:,}"),
            )
            for it in self.executions
        ]
        more = () if self.older is None else (f"older ones: before={self.older!r}",)
        hints = () if self.hint is None else (self.hint,)
        return page("Runs", table(head, rows, numbers=4), *more, *hints)


def execution_as_json(execution: Execution) -> dict[str, Any]:
    """What is told of a run by itself; of one that has only begun, what is not known is None."""
    return {
        "execution": execution.id,
        "task": execution.task or None,
        "agent": execution.agent or None,
        "mode": execution.mode.value,
        "state": execution.state.value,
        "started_at": iso(execution.started_at),
        "duration_ms": execution.duration_ms,
        "steps": execution.steps,
        "tokens": execution.usage.total,
        "saved_tokens": execution.saved_tokens,
        "cost": execution.cost,
        "asked": execution.asked,
        "served": execution.served,
        "replayed": execution.replayed,
        "labels": dict(execution.labels),
        "reason": execution.reason,
        "miss": list(execution.miss),
    }


async def runs_of(store: GraphStore, sought: Sought, limit: int) -> Runs:
    """The newest ``limit`` runs that are sought. Of those that no index finds by themselves, some
    thousands are looked through. Raises StoreError."""
    found = await _runs_of(store, sought, limit)
    traces = {it.id: it.replayed for it in found if it.is_plain_replay and it.replayed}
    lengths = await store.lengths(set(traces.values())) if traces else {}
    replayed = {run: lengths[trace] for run, trace in traces.items() if trace in lengths}
    return replace(found, replayed=replayed)


async def _runs_of(store: GraphStore, sought: Sought, limit: int) -> Runs:
    now = time.time_ns() // 1_000_000
    listed, found, labels, looked_at = sought.listed, list[Execution](), set[str](), 0
    size, left = min(limit + 1, _PAGE), max(limit + 1, _MOST_READ)
    while len(found) <= limit and left > 0:
        some = await store.executions(listed, limit=min(size, left))
        some = [it.at(now, is_dead=is_dead) for it in some]
        found += filter(sought.is_met_by, some)
        labels |= {name for it in some for name in it.labels}
        looked_at += len(some)
        if len(some) < min(size, left) and len(found) <= limit:
            hint = None if found else await _missing(store, sought, labels if looked_at else None)
            return Runs(tuple(found), None, hint)
        listed = listed._replace(before=Place.of(some[-1]))
        left -= len(some)
        size = min(2 * size, _PAGE)
    if len(found) > limit:
        return Runs(tuple(found[:limit]), found[limit - 1].id)
    hint = f"the newest {_MOST_READ:,} runs that may be meant were looked at; there are older ones"
    return Runs(tuple(found), listed.before.id, hint)


async def _missing(store: GraphStore, sought: Sought, labels: set[str] | None) -> str | None:
    """What of the sought does not exist at all; None if all of it does. ``labels``: those of the
    runs that were looked at; None: there were none."""
    if sought.agent is not None and not await store.executions(
        Executions("agent", sought.agent, ended=False), limit=1
    ):
        known = await store.agents(limit=_MOST_READ)
        if known:
            return f"there is no run of {sought.agent!r}; {_named('agents', sought.agent, known)}"
    for name in sought.labels or {}:
        if labels is not None and name not in labels:
            others = _named("labels", name, sorted(labels)) if labels else "none has any"
            return f"no run that may be meant has a label {name!r}; {others}"
    return None


def _named(what: str, name: str, known: Sequence[str]) -> str:
    """Tell which known names are like ``name``, or else the first ones."""
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return f"{what} with like names are {', '.join(map(repr, near))}"
    more = ", ..." if len(known) > _NAMED else ""
    return f"{what} are {', '.join(map(repr, known[:_NAMED]))}{more}"


def as_of_now(run: Trace) -> Trace:
    """A run as it is now: killed, if its process is known to be dead, or was not heard of."""
    now = time.time_ns() // 1_000_000
    return run.model_copy(update={"execution": run.execution.at(now, is_dead=is_dead)})


async def killed_processes(store: GraphStore) -> set[str]:
    """The processes of runs that have not ended which are known to be dead. Raises StoreError."""
    running = Executions("state", ExecutionState.RUNNING.value, ended=False)
    some = await store.executions(running, limit=_MOST_READ)
    return {name for name in {it.process for it in some} if name is not None and is_dead(name)}


async def place_of(store: GraphStore, execution: str) -> Place:
    """Where a run stands among all. Raises ExecutionUnknown."""
    if (found := await store.execution(execution)) is None:
        raise ExecutionUnknown(execution, store)
    return Place.of(found.execution)


# What is given ----------------------------------------------------------------------------


def one_of(kinds: type[_Kind], given: str | None, what: str) -> _Kind | None:
    """The mode or state that is named. Raises ConfigurationError if there is none."""
    if given is None:
        return None
    try:
        return kinds(given)
    except ValueError:
        known = ", ".join(repr(it.value) for it in kinds)
        raise ConfigurationError(f"{what}={given!r} is unknown; it is one of {known}") from None


def recorded_mode(given: str | None, what: str = "mode") -> Mode | None:
    """The mode that is named, if runs are recorded in it. Raises ConfigurationError."""
    mode = one_of(Mode, given, what)
    if mode is Mode.RETURNED:
        raise ConfigurationError(
            f"{what}='returned' finds nothing: to give a finished run back under its run id is not"
            " recorded as a run. Ask for the run itself, whose id Result.execution_id tells; its"
            f" mode is one of {', '.join(repr(it.value) for it in Mode if it is not mode)}"
        )
    return mode


async def whole_key(store: GraphStore, beginning: str) -> str:
    """The key of the task that begins so. Raises TaskUnknown, and ConfigurationError if several
    do."""
    if await store.task(beginning) is not None:
        return beginning
    keys = await store.task_keys(after=beginning, limit=_NAMED)
    alike = [it for it in keys if it.startswith(beginning)]
    if not alike:
        raise TaskUnknown(beginning, store)
    if len(alike) > 1:
        raise ConfigurationError(several(beginning, alike))
    return alike[0]


async def whole_id(
    listed: Callable[..., Awaitable[list[str]]], beginning: str, *, after: str = ""
) -> str:
    """The id of an effect or an approval that begins so; what is given itself if none does.
    ``after``: how all of them begin, which names none. Raises ConfigurationError if several do."""
    if not beginning.startswith(after) or beginning == after:
        return beginning
    alike = await listed(beginning, limit=_NAMED)
    if beginning in alike or not alike:
        return beginning
    if len(alike) > 1:
        raise ConfigurationError(several(beginning, alike))
    return alike[0]


def several(beginning: str, known: Sequence[str]) -> str:
    """Tell that the beginning of an id or a key names several."""
    return f"{beginning!r} is the beginning of several: {', '.join(known)}; give more of it"
