"""Collections over what a store lists, in bounded pages; and what one would come to.

The rules are pure and stand in ``graphstore.retention``. A store lists, and deletes what it is
told by key after looking once more under its lock: it knows what belongs to what, and how payloads
are found that nothing names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from .retention import (
    EXPELLED,
    OVERSIZE,
    Collected,
    Expiry,
    History,
    Past,
    Retention,
    Rules,
    Run,
    Trace,
    Version,
    least_used,
)

__all__ = ["Collections", "Contents", "Going"]

_PAGE = 500  # rows, unless a batch is smaller
_TASKS = 25  # whose traces and histories are listed at once
_STEPS = 4  # a batch of executions has at most this many times as many steps
_SIZED = 20  # traces whose payloads are added up at once
_ALL = 2**31 - 1
_NOTHING = Collected()

#: Tasks by key, each with its traces.
_Page = Sequence[tuple[str, Sequence[Trace]]]


@dataclass
class Going:
    """What goes: ids of executions and events, versions by resource and number."""

    executions: list[str] = field(default_factory=list)
    versions: list[tuple[str, int]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


class Contents(Protocol):
    """What a store holds in one namespace, as a collection lists and deletes it."""

    async def now(self) -> int:
        """The store's time, in milliseconds since 1970."""

    async def traces(self, after: str, most: int) -> Sequence[tuple[str, Sequence[Trace]]]:
        """The next tasks, by key, each with its traces, newest first."""

    async def histories(
        self, tasks: Collection[str], going: Collection[str], kept: int
    ) -> Sequence[History]:
        """The history of each of the tasks, of which ``kept`` runs are kept. ``going``: traces
        that are taken as unpublished."""

    async def runs(
        self, task: str, going: Collection[str], after: tuple[int, str], until: int, most: int
    ) -> Sequence[Run]:
        """The next runs of its history, by start and id, that started until then."""

    async def killed(self, until: int, most: int) -> Sequence[Run]:
        """Some runs that began no effect, have not ended, and were last heard of until then."""

    async def pasts(self, after: str, most: int) -> Sequence[Past]:
        """The next resources that were ever observed, by URI."""

    async def versions(self, resource: str, after: int, most: int) -> Sequence[Version]:
        """The next versions of a resource, by number."""

    async def expiries(self, resource: str, skip: int, most: int) -> Sequence[Expiry]:
        """The events of the current version that say it expired or was renewed, newest first,
        without so many of them."""

    async def unpublish(self, why: Mapping[str, str]) -> int:
        """Unpublish those that are still published, each for its reason; how many were."""

    async def delete(self, going: Going) -> Collected:
        """Delete what may still be deleted of it, and what belongs to that: an execution that has
        ended or was killed, a version that is not current, without an effect in doubt or an open
        walk. Executions are folded into the totals of their days."""

    async def delete_idle(self, most: int, /) -> Collected | None:
        """Delete some of what ``delete`` has left with nothing that needs it; None: there is
        nothing."""

    async def delete_payloads(self, most: int, /) -> Collected | None:
        """Go on with looking for payloads that nothing names, or delete some; None: none are
        suspected."""

    async def foreseen(self, going: Going) -> Collected:
        """What deleting all of this would come to, what follows from it included."""

    async def stored_bytes(self, enough: int) -> int:
        """What all payloads take; or any number up to ``enough``, if they take no more."""

    async def sizes(self, executions: Collection[str]) -> Mapping[str, Mapping[str, int]]:
        """What each payload takes that each of the executions names, by digest."""


class Collections:
    """The collections that this process has begun in a store.

    What is kept of them only saves looking again: a collection has ended when one call has looked
    at everything and found nothing to do.
    """

    def __init__(self, contents: Callable[[str], Contents]) -> None:
        self._contents = contents
        self._begun: dict[tuple[str, Retention], _Collection] = {}

    async def collect(self, namespace: str, retention: Retention, batch: int) -> Collected:
        """As ``GraphStore.collect``."""
        if batch < 1:
            raise ValueError(f"a batch of {batch} is none; delete 1 or more at a time")
        begun = self._begun.pop((namespace, retention), None)
        anew = _Collection(self._contents(namespace), retention)
        for collection in [anew] if begun is None else [begun, anew]:
            if (found := await collection.batch(batch)) is not None:
                self._begun[namespace, retention] = collection
                return replace(found, more=True)
        return _NOTHING

    async def collectable(self, namespace: str, retention: Retention) -> Collected:
        """As ``GraphStore.collectable``."""
        contents = self._contents(namespace)
        found = await _foreseen(contents, retention)
        if excess := await _excess(contents, retention, found.bytes):
            retention = _squeezed(retention)
            found = await _foreseen(contents, retention)
        if excess and (excess := await _excess(contents, retention, found.bytes)):
            found = await _foreseen(contents, retention, excess)
        return replace(found, more=found != _NOTHING)


@dataclass
class _Look:
    """One look at a store: what goes of the pages that it gives. ``waits``: so does a trace that
    was unpublished for the size of payloads."""

    contents: Contents
    rules: Rules
    waits: bool = False

    async def runs(self, page: _Page, why: Mapping[str, str], most: int | None = None) -> list[Run]:
        """About so many runs of these tasks that go, ``why`` having been unpublished."""
        kept = {task: self.rules.kept_uses(traces, why) for task, traces in page}
        found: list[Run] = []
        history = self.rules.retention.history
        expelled = {
            task for task, traces in page if any(why.get(it.id) in EXPELLED for it in traces)
        }
        for it in await self.contents.histories(list(kept), list(why), history):
            it = it._replace(expelled=it.expelled or it.task in expelled)  # noqa: PLW2901
            if most is None or len(found) < most:
                found += await self._runs_of(it, kept[it.task], why, most)
        return found

    async def _runs_of(
        self, history: History, kept: Collection[str], why: Mapping[str, str], most: int | None
    ) -> list[Run]:
        until = self.rules.started_until(history)
        found: list[Run] = []
        after = (until, "") if history.oldest is None else (history.oldest, "")
        while after[0] <= until and (most is None or len(found) < most):
            page = await self.contents.runs(history.task, list(why), after, until, most or _PAGE)
            runs = [self.rules.unpublished(it, why.get(it.id)) for it in page]
            found += self.rules.runs_to_delete(history, runs, kept)
            self.waits |= any(self.rules.waits(it) for it in runs)
            after = (page[-1].started_at, page[-1].id) if page else (until + 1, "")
        return found

    async def versions(self, past: Past, most: int | None = None) -> list[tuple[str, int]]:
        """About so many versions of this resource that go."""
        found: list[tuple[str, int]] = []
        after = 0 if self.rules.has_versions_to_delete(past) else past.current
        while after < past.current and (most is None or len(found) < most):
            page = await self.contents.versions(past.resource, after, most or _PAGE)
            found += [(past.resource, it.n) for it in self.rules.versions_to_delete(past, page)]
            after = page[-1].n if page else past.current
        return found

    async def expiries(self, past: Past, most: int | None = None) -> list[str]:
        """About so many events of its current version that go."""
        found: list[str] = []
        place = 0 if self.rules.has_expiries_to_delete(past) else past.expiries
        while place < past.expiries and (most is None or len(found) < most):
            page = await self.contents.expiries(past.resource, place, most or _PAGE)
            found += [it.id for it in self.rules.expiries_to_delete(place, page)]
            place = place + len(page) if page else past.expiries
        return found


class _Batch:
    """Runs that one transaction deletes: so many, and few steps, unless one run has more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._steps = 0
        self.is_full = False
        self.going = Going()

    def add(self, runs: Iterable[Run]) -> None:
        """Take as many of the runs as there is room for."""
        for run in runs:
            self._steps += run.steps
            many = len(self.going.executions)
            if many == self._most or (many and self._steps > _STEPS * self._most):
                self.is_full = True
                break
            self.going.executions.append(run.id)


class _Collection:
    """One collection. What it has looked through in vain it does not look at again."""

    def __init__(self, contents: Contents, retention: Retention) -> None:
        self._contents = contents
        self._retention = retention
        self._look = _Look(contents, Rules(retention, 0))
        self._stages = (
            self._executions,
            self._killed,
            self._resources,
            contents.delete_idle,
            contents.delete_payloads,
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
        self._look.rules = replace(self._look.rules, now=now)
        while self._stage < len(self._stages):
            if (found := await self._stages[self._stage](most)) is not None:
                return found
            self._stage, self._after = self._stage + 1, ""
        return None

    async def _executions(self, most: int) -> Collected | None:
        look, runs = self._look, _Batch(most)
        while page := await self._contents.traces(self._after, _TASKS):
            why = look.rules.to_unpublish_of(page)
            if why and (done := await self._contents.unpublish(dict(sorted(why.items())[:most]))):
                return Collected(unpublished=done)
            runs.add(await look.runs(page, {}, most))
            if runs.is_full and (found := await self._done(runs.going)) is not None:
                return found
            self._after = page[-1][0]
        return await self._done(runs.going)

    async def _killed(self, most: int) -> Collected | None:
        rules = self._look.rules
        runs = await self._contents.killed(rules.killed_until(), most)
        return await self._done(Going(executions=[it.id for it in rules.killed_to_delete(runs)]))

    async def _resources(self, most: int) -> Collected | None:
        look = self._look
        while page := await self._contents.pasts(self._after, min(most, _PAGE)):
            going = Going()
            for past in page:
                if (left := most - len(going.versions) - len(going.events)) > 0:
                    going.versions += (await look.versions(past, left))[:left]
                if (left := most - len(going.versions) - len(going.events)) > 0:
                    going.events += (await look.expiries(past, left))[:left]
            if (done := await self._done(going)) is not None:
                return done
            self._after = page[-1].resource
        return None

    async def _done(self, going: Going) -> Collected | None:
        """None: all of it was kept after all, so that it must not be tried again at once."""
        if going == Going():
            return None
        found = await self._contents.delete(going)
        return None if found == _NOTHING else found

    async def _size(self, most: int) -> Collected | None:
        if not (excess := await _excess(self._contents, self._retention)):
            return None
        keep = _squeezed(self._retention)
        if self._look.rules.retention != keep:  # first without a history
            self._look.rules = replace(self._look.rules, retention=keep)
            self._stage = -1
        elif not self._look.waits:
            self._look.waits = True
            traces = await _least_used(self._contents, {}, excess, most)
            if done := await self._contents.unpublish(dict.fromkeys(traces, OVERSIZE)):
                return Collected(unpublished=done)
        return None


# What would go --------------------------------------------------------------------------------


async def _foreseen(contents: Contents, retention: Retention, excess: int = 0) -> Collected:
    """What a collection would come to; ``excess``: bytes that traces are to name which go too."""
    look = _Look(contents, Rules(retention, await contents.now()))
    why: dict[str, str] = {}
    async for page in _pages_of_traces(contents):
        why |= look.rules.to_unpublish_of(page)
    if excess:
        why |= dict.fromkeys(await _least_used(contents, why, excess, None), OVERSIZE)
    going = Going()
    async for page in _pages_of_traces(contents):
        mine = {it.id: why[it.id] for _, traces in page for it in traces if it.id in why}
        going.executions += [it.id for it in await look.runs(page, mine)]
    killed = await contents.killed(look.rules.killed_until(), _ALL)
    going.executions += [it.id for it in look.rules.killed_to_delete(killed)]
    after = ""
    while resources := await contents.pasts(after, _PAGE):
        for past in resources:
            going.versions += await look.versions(past)
            going.events += await look.expiries(past)
        after = resources[-1].resource
    return replace(await contents.foreseen(going), unpublished=len(why))


async def _pages_of_traces(contents: Contents) -> AsyncIterator[_Page]:
    after = ""
    while page := await contents.traces(after, _PAGE):
        yield page
        after = page[-1][0]


async def _least_used(
    contents: Contents, gone: Collection[str], excess: int, most: int | None
) -> list[str]:
    """Traces that are not gone yet, those used longest ago first, as many as name the excess."""
    left: list[tuple[int, str]] = []
    async for page in _pages_of_traces(contents):
        left += [(it.used, it.id) for _, traces in page for it in traces if it.id not in gone]
        left = sorted(left)[:most]
    chosen: list[str] = []
    named: set[str] = set()
    for start in range(0, len(left), _SIZED):
        some = [trace for _, trace in left[start : start + _SIZED]]
        more, excess = least_used(some, await contents.sizes(some), named, excess)
        chosen += more
        if excess <= 0:
            break
    return chosen


async def _excess(contents: Contents, retention: Retention, spared: int = 0) -> int:
    """By how many bytes the payloads are too large when so many are deleted."""
    if (most := retention.max_bytes) is None:
        return 0
    return max(0, await contents.stored_bytes(most) - spared - most)


def _squeezed(retention: Retention) -> Retention:
    """What is kept while payloads take too much: no history."""
    return replace(retention, history=0, versions=0)
