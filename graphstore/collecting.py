"""Collections over what a store lists, in bounded pages; and what one would come to.

The rules are pure and stand in ``graphstore.retention``. A store lists, and deletes what it is
told by key after looking once more under its lock: it knows what belongs to what, and how payloads
are found that nothing names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .retention import (
    EXPELLED,
    OVERSIZE,
    Collected,
    Expiry,
    ResourceHistory,
    Retention,
    Rules,
    Run,
    TaskHistory,
    Trace,
    Version,
    least_used,
)

__all__ = ["Collections", "Contents", "Deletions"]

_PAGE = 500  # rows, unless a batch is smaller
_TASKS = 25  # whose traces and histories are listed at once
_STEPS = 4  # a batch of executions has at most this many times as many steps
_SIZED = 20  # traces whose payloads are added up at once
_ALL = 2**31 - 1
_NOTHING = Collected()

#: Tasks by key, each with its traces.
_Page = Sequence[tuple[str, Sequence[Trace]]]


@dataclass
class Deletions:
    """What a batch is to delete: executions and approvals by id, versions and events each with its
    resource.

    It is full with ``most`` of these, or with many steps; None: never.
    """

    most: int | None = None
    executions: list[str] = field(default_factory=list)
    versions: list[tuple[str, int]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    approvals: list[str] = field(default_factory=list)
    steps: int = 0

    def __len__(self) -> int:
        by_id = len(self.executions) + len(self.approvals)
        return by_id + len(self.versions) + len(self.events)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken."""
        most = self.most
        return most is not None and (len(self) >= most or self.steps >= _STEPS * most)

    def add(
        self,
        runs: Iterable[Run] = (),
        versions: Iterable[tuple[str, int]] = (),
        events: Iterable[tuple[str, str]] = (),
        approvals: Iterable[str] = (),
    ) -> None:
        """Take as many of these as there is room for."""
        for run in runs:
            if not self.is_full:
                self.executions.append(run.id)
                self.steps += run.steps
        self.versions += [it for it in versions if not self.is_full]
        self.events += [it for it in events if not self.is_full]
        self.approvals += [it for it in approvals if not self.is_full]


class Contents(Protocol):
    """What a store holds in one namespace, as a collection lists and deletes it."""

    async def now(self) -> int:
        """The store's time, in milliseconds since 1970."""

    async def rows(self, listing: str, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """A page of what there is.

        Each store has a statement for each of these, with the fields of the classes of
        ``graphstore.retention`` as its columns:

        - ``traces(after, most)``: tasks, by key, each with the fields of its traces, newest first;
          without any, with None.
        - ``histories(tasks, going, kept, reasons)``: of these tasks, if ``kept`` runs are kept.
          ``going``: traces that count as unpublished. ``reasons``: why traces are expelled.
        - ``runs(task, going, started_at, id, until, most)``: those of a history after that start
          and id that started until then, in this order.
        - ``killed(until, most)``: runs that began no effect, have not ended, and were last heard of
          until then.
        - ``unanswered(until, most)``: approvals that nobody answered before they expired until
          then.
        - ``pasts(after, most)``: resources by URI.
        - ``versions(resource, after, most)``: by number.
        - ``expiries(resource, skip, most)``: of the current version, newest first.
        - ``stored_bytes(enough)``: what all payloads take; or 0, if that is surely not more.
        - ``sizes(executions)``: execution, digest and size of the payloads that their steps name.
        """

    async def unpublish(self, why: Mapping[str, str]) -> int:
        """Unpublish those that are still published, each for its reason; how many were."""

    async def delete(self, deletions: Deletions) -> Collected:
        """Delete what may still be deleted of it, and what belongs to that: an execution that has
        ended or was killed, a version that is not current, without an effect in doubt or an open
        walk, an approval that is pending. Executions are folded into the totals of their days."""

    async def delete_rest(self, most: int, /) -> Collected | None:
        """Delete some of what nothing needs any more, or go on looking for it. None: nothing was
        left by what has been deleted."""

    async def foreseen(self, deletions: Deletions) -> Collected:
        """What deleting all of this would come to, what follows from it included."""


async def _traces(contents: Contents, after: str) -> _Page:
    by_task: dict[str, list[Trace]] = {}
    for task, *trace in await contents.rows("traces", after=after, most=_TASKS):
        by_task.setdefault(task, []).extend([Trace._make(trace)] if trace[0] is not None else [])
    return list(by_task.items())


class Collections:
    """The collections that this process has begun in one namespace of a store.

    What is kept of them only saves looking again: a collection has ended when one call has looked
    at everything and found nothing to do.
    """

    def __init__(self, contents: Callable[[], Contents]) -> None:
        self._contents = contents
        self._begun: dict[Retention, _Collection] = {}

    async def collect(self, retention: Retention, batch: int) -> Collected:
        """As ``GraphStore.collect``."""
        if batch < 1:
            raise ValueError(f"a batch of {batch} is none; delete 1 or more at a time")
        begun = self._begun.pop(retention, None)
        anew = _Collection(self._contents(), retention)
        for collection in [anew] if begun is None else [begun, anew]:
            if (collected := await collection.batch(batch)) is not None:
                self._begun[retention] = collection
                return replace(collected, more=True)
        return _NOTHING

    async def collectable(self, retention: Retention) -> Collected:
        """As ``GraphStore.collectable``."""
        contents = self._contents()
        foreseen = await _foreseen(contents, retention)
        if excess := await _excess(contents, retention, foreseen.bytes):
            retention = _squeezed(retention)
            foreseen = await _foreseen(contents, retention)
        if excess and (excess := await _excess(contents, retention, foreseen.bytes)):
            foreseen = await _foreseen(contents, retention, excess)
        return replace(foreseen, more=foreseen != _NOTHING)


@dataclass
class _Finder:
    """Adds to what goes, from pages of what there is. ``waits``: a trace that was unpublished for
    the size of payloads does."""

    contents: Contents
    rules: Rules
    waits: bool = False

    async def add_runs(self, deletions: Deletions, page: _Page, why: Mapping[str, str]) -> None:
        """Runs of these tasks that go, ``why`` having been unpublished."""
        kept = {task: self.rules.kept_uses(traces, why) for task, traces in page}
        expelled = {
            task for task, traces in page if any(why.get(it.id) in EXPELLED for it in traces)
        }
        of = {"kept": self.rules.retention.history, "reasons": list(EXPELLED)}
        rows = await self.contents.rows("histories", tasks=list(kept), going=list(why), **of)
        for listed in map(TaskHistory._make, rows):
            history = listed._replace(expelled=listed.expelled or listed.task in expelled)
            await self._add_history(deletions, history, kept[listed.task], why)

    async def _add_history(
        self,
        deletions: Deletions,
        history: TaskHistory,
        kept: Collection[str],
        why: Mapping[str, str],
    ) -> None:
        until = self.rules.started_until(history)
        of: dict[str, Any] = {"task": history.task, "going": list(why), "until": until}
        start, last = until if history.oldest is None else history.oldest, ""
        while start <= until and not deletions.is_full:
            rows = await self.contents.rows("runs", started_at=start, id=last, most=_PAGE, **of)
            runs = [self.rules.unpublished(it, why.get(it.id)) for it in map(Run._make, rows)]
            deletions.add(self.rules.runs_to_delete(history, runs, kept))
            self.waits |= any(self.rules.waits(it) for it in runs)
            start, last = (runs[-1].started_at, runs[-1].id) if runs else (until + 1, "")

    async def add_killed(self, deletions: Deletions) -> None:
        """Some runs that were killed and go."""
        of = {"until": self.rules.killed_until(), "most": deletions.most or _ALL}
        rows = await self.contents.rows("killed", **of)
        deletions.add(self.rules.killed_to_delete(map(Run._make, rows)))

    async def add_unanswered(self, deletions: Deletions) -> None:
        """Some approvals that nobody answered in time."""
        of = {"until": self.rules.unanswered_until(), "most": deletions.most or _ALL}
        deletions.add(approvals=(id_ for (id_,) in await self.contents.rows("unanswered", **of)))

    async def add_past(self, deletions: Deletions, past: ResourceHistory) -> None:
        """Versions of a resource that go, and expiries of its current one."""
        of = {"resource": past.resource, "most": _PAGE}
        after = 0 if self.rules.has_versions_to_delete(past) else past.current
        while after < past.current and not deletions.is_full:
            rows = await self.contents.rows("versions", after=after, **of)
            gone = self.rules.versions_to_delete(past, map(Version._make, rows))
            deletions.add(versions=((past.resource, it.n) for it in gone))
            after = rows[-1][0] if rows else past.current
        place = 0 if self.rules.has_expiries_to_delete(past) else past.expiries
        while place < past.expiries and not deletions.is_full:
            rows = await self.contents.rows("expiries", skip=place, **of)
            late = self.rules.expiries_to_delete(place, map(Expiry._make, rows))
            deletions.add(events=((past.resource, it.id) for it in late))
            place = place + len(rows) if rows else past.expiries


class _Collection:
    """One collection. What it has looked through in vain it does not look at again."""

    def __init__(self, contents: Contents, retention: Retention) -> None:
        self._contents = contents
        self._retention = retention
        self._finder = _Finder(contents, Rules(retention, 0))
        self._stages = (
            self._executions,
            self._killed,
            self._unanswered,
            self._resources,
            contents.delete_rest,
            self._size,
        )
        self._stage = 0
        self._after = ""

    async def batch(self, most: int) -> Collected | None:
        """What was done; None: there is nothing left to do.

        What a batch has unpublished is beyond the history for the next, by whose time it has
        ended; before what is too old makes room in it.
        """
        now = await self._contents.now()
        self._finder.rules = replace(self._finder.rules, now=now)
        while self._stage < len(self._stages):
            if (collected := await self._stages[self._stage](most)) is not None:
                return collected
            self._stage, self._after = self._stage + 1, ""
        return None

    async def _executions(self, most: int) -> Collected | None:
        deletions = Deletions(most)
        while page := await _traces(self._contents, self._after):
            why = self._finder.rules.to_unpublish_of(page)
            if why and (done := await self._contents.unpublish(dict([*why.items()][:most]))):
                return Collected(unpublished=done)
            await self._finder.add_runs(deletions, page, {})
            if deletions.is_full:
                return await self._deleted(deletions)
            self._after = page[-1][0]
        return await self._deleted(deletions)

    async def _killed(self, most: int) -> Collected | None:
        deletions = Deletions(most)
        await self._finder.add_killed(deletions)
        return await self._deleted(deletions)

    async def _unanswered(self, most: int) -> Collected | None:
        deletions = Deletions(most)
        await self._finder.add_unanswered(deletions)
        return await self._deleted(deletions)

    async def _resources(self, most: int) -> Collected | None:
        deletions = Deletions(most)
        while rows := await self._contents.rows("pasts", after=self._after, most=_TASKS):
            for past in map(ResourceHistory._make, rows):
                await self._finder.add_past(deletions, past)
            if deletions.is_full:
                return await self._deleted(deletions)
            self._after = rows[-1][0]
        return await self._deleted(deletions)

    async def _deleted(self, deletions: Deletions) -> Collected | None:
        """What it came to; None: nothing is to go.

        What others hold by now or have deleted is not listed again, so that this comes to an end.
        """
        return await self._contents.delete(deletions) if deletions else None

    async def _size(self, most: int) -> Collected | None:
        if not (excess := await _excess(self._contents, self._retention)):
            return None
        keep = _squeezed(self._retention)
        if self._finder.rules.retention != keep:  # first without a history
            self._finder.rules = replace(self._finder.rules, retention=keep)
            self._stage = -1
        elif not self._finder.waits:
            self._finder.waits = True
            traces = await _least_used(self._contents, {}, excess, most)
            if done := await self._contents.unpublish(dict.fromkeys(traces, OVERSIZE)):
                return Collected(unpublished=done)
        return None


# What would go --------------------------------------------------------------------------------


async def _foreseen(contents: Contents, retention: Retention, excess: int = 0) -> Collected:
    """What a collection would come to; ``excess``: bytes that traces are to name which go too."""
    finder = _Finder(contents, Rules(retention, await contents.now()))
    why: dict[str, str] = {}
    async for page in _pages_of_traces(contents):
        why |= finder.rules.to_unpublish_of(page)
    if excess:
        why |= dict.fromkeys(await _least_used(contents, why, excess, None), OVERSIZE)
    deletions = Deletions()
    async for page in _pages_of_traces(contents):
        mine = {
            trace.id: why[trace.id] for _, traces in page for trace in traces if trace.id in why
        }
        await finder.add_runs(deletions, page, mine)
    await finder.add_killed(deletions)
    await finder.add_unanswered(deletions)
    after = ""
    while rows := await contents.rows("pasts", after=after, most=_TASKS):
        for past in map(ResourceHistory._make, rows):
            await finder.add_past(deletions, past)
        after = rows[-1][0]
    return replace(await contents.foreseen(deletions), unpublished=len(why))


async def _pages_of_traces(contents: Contents) -> AsyncIterator[_Page]:
    after = ""
    while page := await _traces(contents, after):
        yield page
        after = page[-1][0]


async def _least_used(
    contents: Contents, gone: Collection[str], excess: int, most: int | None
) -> list[str]:
    """Traces that are not gone yet, those used longest ago first, as many as name the excess."""
    left: list[tuple[int, str]] = []
    async for page in _pages_of_traces(contents):
        left += [
            (trace.used, trace.id) for _, traces in page for trace in traces if trace.id not in gone
        ]
        left = sorted(left)[:most]
    chosen: list[str] = []
    named: set[str] = set()
    for start in range(0, len(left), _SIZED):
        some = [trace for _, trace in left[start : start + _SIZED]]
        sizes: dict[str, dict[str, int]] = defaultdict(dict)
        for trace, digest, size in await contents.rows("sizes", executions=some):
            sizes[trace][digest] = size
        more, excess = least_used(some, sizes, named, excess)
        chosen += more
        if excess <= 0:
            break
    return chosen


async def _excess(contents: Contents, retention: Retention, spared: int = 0) -> int:
    """By how many bytes the payloads are too large when so many are deleted."""
    if (most := retention.max_bytes) is None:
        return 0
    [[stored]] = await contents.rows("stored_bytes", enough=most)
    return max(0, int(stored) - spared - most)


def _squeezed(retention: Retention) -> Retention:
    """What is kept while payloads take too much: no history."""
    return replace(retention, history=0, versions=0)
