"""Collections: which statement of retention.cypher is next, and what a dry run would come to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ..retention import OVERSIZE, UNUSED, Collected, Retention, beyond
from .mapping import GATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .client import Client

__all__ = ["Collections", "DryRun"]


_PAGE = 500  # tasks or resources that are looked at in one statement
_LOOKED_AT = 10_000  # steps or executions whose payloads are looked at in one statement
_STEPS_A_SUSPECT = 1_000  # that are looked at: with fewer suspects, a look is put off
_STEPS = 5_000  # that are deleted in one transaction, unless one execution has more
_SIZED = 20  # traces whose payloads are added up in one statement
_ALL = 2**31 - 1
#: The phases of a look at payloads, in order: what names them, and the statement that reads it.
_LOOKS = {
    "steps": "look_at_steps",
    "executions": "look_at_executions",
    "tasks": "look_at_tasks",
    "versions": "look_at_versions",
}
_DELETE = "delete"
_PHASES = (*_LOOKS, _DELETE)
_NOTHING = Collected()


@dataclass
class _Place:
    """Where a collection has come to. ``tight``: as if no history were to be kept."""

    stage: int = 0
    cursor: str = ""
    tight: bool = False

    def next_stage(self) -> None:
        self.stage, self.cursor = self.stage + 1, ""


@dataclass
class Collections:
    """The collections that this process has begun, each with the place that it has come to.

    What is kept here only saves looking again: a collection has ended when one call has looked at
    everything and found nothing to do.
    """

    client: Client
    _places: dict[tuple[str, Retention], _Place] = field(default_factory=dict)

    async def go_on(self, namespace: str, retention: Retention, batch: int) -> Collected:
        """One batch."""
        known = self._places.pop((namespace, retention), None)
        places = [_Place()] if known is None else [known, _Place()]
        for place in places:
            collection = _Collection(self.client, namespace, retention, batch, place)
            if (found := await collection.run()) is not None:
                self._places[namespace, retention] = place
                return replace(found, more=True)
        return _NOTHING


class _Statements:
    """Runs statements on one namespace, with the limits of a retention in milliseconds."""

    def __init__(self, client: Client, namespace: str, retention: Retention) -> None:
        self.client = client
        self.namespace = namespace
        self.retention = retention

    async def rows(self, name: str, **parameters: Any) -> list[list[Any]]:
        return await self.client.run(name, {"namespace": self.namespace, **parameters})

    async def limited(self, name: str, *, tight: bool, **parameters: Any) -> list[list[Any]]:
        it = self.retention
        return await self.rows(
            name,
            traces=it.traces,
            history=0 if tight else it.history,
            versions=0 if tight else it.versions,
            max_age=_milliseconds(it.max_age),
            history_age=_milliseconds(it.history_age),
            grace=_milliseconds(it.grace),
            reason_beyond=beyond(it.traces),
            unused=UNUSED,
            oversize=OVERSIZE,
            page=_PAGE,
            **parameters,
        )

    async def excess(self) -> int:
        """By how many bytes the payloads are too large."""
        if self.retention.max_bytes is None:
            return 0
        stored = (await self.rows("stored_bytes"))[0][0]
        return max(0, int(stored) - self.retention.max_bytes)

    async def oversized(self, excess: int, most: int) -> list[str]:
        """The traces used longest ago that name so much; none while some of them wait already."""
        rows = await self.rows("traces_by_use", oversize=OVERSIZE, batch=most)
        if not rows or rows[0][1]:
            return []
        traces = [row[0] for row in rows]
        chosen: list[str] = []
        seen: set[str] = set()
        for start in range(0, len(traces), _SIZED):
            some = traces[start : start + _SIZED]
            sizes: dict[str, list[tuple[str, int]]] = defaultdict(list)
            for trace, digest, size in await self.rows("payloads_of", executions=some):
                sizes[trace].append((digest, size))
            for trace in some:
                if excess <= 0:
                    return chosen
                excess -= sum(size for digest, size in sizes[trace] if digest not in seen)
                seen.update(digest for digest, _ in sizes[trace])
                chosen.append(trace)
        return chosen


class _Collection(_Statements):
    """One call: looks on from a place, until something has been done or all has been seen."""

    def __init__(
        self, client: Client, namespace: str, retention: Retention, batch: int, place: _Place
    ) -> None:
        super().__init__(client, namespace, retention)
        self.batch = batch
        self.place = place
        self._stages = (
            self._executions,
            self._killed,
            self._versions,
            self._preconditions,
            self._payloads,
            self._size,
        )

    async def run(self) -> Collected | None:
        """What was done; None: from the place on there is nothing to do."""
        while self.place.stage < len(self._stages):
            if (found := await self._stages[self.place.stage]()) is not None:
                return found
        return None

    async def _executions(self) -> Collected | None:
        place = self.place
        rows = await self.limited(
            "doomed_executions", tight=place.tight, cursor=place.cursor, batch=self.batch
        )
        expelled = [it for _, unpublish, _ in rows for it in unpublish][: self.batch]
        if expelled:
            done = await self.rows("expel", traces=sorted(expelled))
            return Collected(unpublished=done[0][0])
        if doomed := self._of_a_batch(rows):
            done = await self.rows(
                "delete_executions",
                tasks=sorted({task for task, _ in doomed}),
                executions=sorted(execution for _, execution in doomed),
            )
            deleted, replays, effects, tasks = done[0]
            if deleted:
                return Collected(
                    executions=deleted - replays, replays=replays, effects=effects, tasks=tasks
                )
        self._past(rows)
        return None

    async def _killed(self) -> Collected | None:
        rows = await self.limited("doomed_killed", tight=self.place.tight, batch=self.batch)
        if rows:
            executions = sorted(execution for (execution,) in rows)
            done = await self.rows("delete_executions", tasks=[], executions=executions)
            if deleted := done[0][0]:
                return Collected(executions=deleted)
        self.place.next_stage()
        return None

    def _of_a_batch(self, rows: Sequence[Sequence[Any]]) -> list[tuple[str, str]]:
        """As many executions, with their tasks, as one transaction takes."""
        found: list[tuple[str, str]] = []
        steps = 0
        for task, _, gone in rows:
            for execution, size, _ in gone:
                steps += size or 0
                if len(found) == self.batch or (found and steps > _STEPS):
                    return found
                found.append((task, execution))
        return found

    async def _versions(self) -> Collected | None:
        place = self.place
        rows = await self.limited(
            "doomed_versions", tight=place.tight, cursor=place.cursor, batch=self.batch
        )
        doomed, left = [], self.batch
        for resource, gone, events in rows:
            numbers = [n for n, _ in gone[:left]]
            told = events[: left - len(numbers)]
            left -= len(numbers) + len(told)
            if numbers or told:
                doomed.append([resource, numbers, told])
        if doomed:
            versions, events = (await self.rows("delete_versions", resources=doomed))[0]
            if versions or events:
                return Collected(versions=versions, events=events)
        self._past(rows)
        return None

    async def _preconditions(self) -> Collected | None:
        rows = await self.rows("idle_preconditions", batch=self.batch)
        if not rows:
            self.place.next_stage()
            return None
        done = await self.rows(
            "delete_preconditions",
            resources=sorted({resource for _, resource in rows}),
            preconditions=sorted(id_ for id_, _ in rows),
        )
        preconditions, facets = done[0]
        return Collected(preconditions=preconditions, facets=facets)

    async def _payloads(self) -> Collected | None:
        rows = await self.rows("look_state", steps_a_suspect=_STEPS_A_SUSPECT)
        phase, cursor, scanned, suspects = rows[0]
        if phase in _LOOKS:
            return await self._look(phase, cursor, scanned)
        if phase is not None:
            return await self._delete(scanned)
        if suspects:
            await self.rows("begin_look", gates=GATES, phase=_PHASES[0])
        else:
            self.place.next_stage()
        return None

    async def _look(self, phase: str, cursor: str, scanned: int) -> Collected | None:
        """Clear what the next page names."""
        page = _PAGE if phase == "versions" else _LOOKED_AT
        rows = await self.rows(_LOOKS[phase], cursor=cursor, scanned=scanned, page=page)
        last, size, met = rows[0]
        ended = size < page
        await self.rows(
            "cleared",
            phase=phase,
            cursor=cursor,
            scanned=scanned,
            met=sorted(met),
            next=_PHASES[_PHASES.index(phase) + 1] if ended else phase,
            last="" if ended else last,
            steps=size if phase == "steps" else 0,
        )
        return None if ended else _NOTHING

    async def _delete(self, scanned: int) -> Collected | None:
        """Delete what nobody was found to name, and end the look when nothing is left."""
        found = await self.rows("suspects", scanned=scanned, batch=self.batch)
        digests = sorted(digest for (digest,) in found)
        rows = await self.rows("delete_values", phase=_DELETE, scanned=scanned, digests=digests)
        deleted, size = rows[0] if rows else (0, 0)
        return Collected(values=deleted, bytes=size) if deleted else None

    async def _size(self) -> Collected | None:
        if not (excess := await self.excess()):
            self.place.next_stage()
        elif not self.place.tight:
            self.place.stage, self.place.tight = 0, True
        elif traces := await self.oversized(excess, self.batch):
            done = await self.rows("expel", traces=[[it, OVERSIZE] for it in sorted(traces)])
            return Collected(unpublished=done[0][0])
        else:
            self.place.next_stage()
        return None

    def _past(self, rows: Sequence[Sequence[Any]]) -> None:
        """Go on behind this page."""
        if len(rows) < _PAGE:
            self.place.next_stage()
        else:
            self.place.cursor = rows[-1][0]


# Dry run ----------------------------------------------------------------------------------


class _Run(NamedTuple):
    """An execution as `all_executions` lists it. ``blocked``: an effect in doubt, an open walk."""

    id: str
    state: str
    started_at: int
    ended: float
    used: float
    reason: str | None
    mode: str
    replayed: str | None
    blocked: bool
    effects: int


@dataclass
class _Doomed:
    """What would go. ``kept``: traces that tasks keep which lose something."""

    unpublished: int = 0
    runs: list[_Run] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    versions: list[list[Any]] = field(default_factory=list)
    events: int = 0


class DryRun(_Statements):
    """What a collection would take away, by the same rules, from what there is now."""

    async def run(self) -> Collected:
        """All of it; with ``max_bytes`` an estimate."""
        found = await self._told(tight=False)
        if excess := await self.excess():
            found = await self._told(tight=True)
            if (more := excess - found.bytes) > 0:
                too_many = await self.oversized(more, _ALL)
                found = replace(found, unpublished=found.unpublished + len(too_many))
        return replace(found, more=found != _NOTHING)

    async def _told(self, *, tight: bool) -> Collected:
        doomed = _Doomed()
        await self._add_executions(doomed, tight=tight)
        await self._add_versions(doomed, tight=tight)
        gone = [it.id for it in doomed.runs]
        idle = await self.rows("would_be_idle", executions=gone, versions=doomed.versions)
        preconditions, facets = idle[0] if idle else (0, 0)
        payloads = await self.rows(
            "would_be_suspected",
            executions=[*gone, *doomed.kept],
            kept=doomed.kept,
            tasks=doomed.tasks,
            versions=doomed.versions,
        )
        replays = sum(it.mode == "replay" for it in doomed.runs)
        killed = len(await self.limited("doomed_killed", tight=tight, batch=_ALL))
        return Collected(
            unpublished=doomed.unpublished,
            executions=len(doomed.runs) - replays + killed,
            replays=replays,
            effects=sum(it.effects for it in doomed.runs),
            versions=len(doomed.versions),
            events=doomed.events,
            preconditions=preconditions,
            facets=facets,
            tasks=len(doomed.tasks),
            values=payloads[0][0],
            bytes=payloads[0][1],
        )

    async def _add_executions(self, doomed: _Doomed, *, tight: bool) -> None:
        history = 0 if tight else self.retention.history
        cursor = ""
        while rows := await self.rows("all_executions", cursor=cursor, page=_PAGE):
            cursor = rows[-1][0]
            for task, now, executions in rows:
                runs = sorted((_Run._make(it) for it in executions), key=_newest, reverse=True)
                self._add_task(doomed, task, runs, history, now)

    def _add_task(
        self, doomed: _Doomed, task: str, runs: Sequence[_Run], history: int, now: int
    ) -> None:
        traces = [it for it in runs if it.state == "published"]
        why = dict(self._to_unpublish(traces, runs, now))
        kept = [it.id for it in traces if it.id not in why]
        lately = {next((x.id for x in runs if x.replayed == it), None) for it in kept}
        others = [
            it._replace(ended=now, reason=why[it.id]) if it.id in why else it
            for it in runs
            if it.state in {"unpublished", "failed"} or it.id in why
        ]
        gone = [
            it
            for place, it in enumerate(others)
            if not it.blocked
            and it.id not in lately
            and now - it.ended >= _milliseconds(self.retention.grace)
            and (
                place >= history
                or now - it.ended >= _milliseconds(self.retention.history_age)
                or it.reason in {UNUSED, OVERSIZE}
            )
        ]
        doomed.unpublished += len(why)
        doomed.runs += gone
        if len(gone) == len(runs):
            doomed.tasks.append(task)
        elif gone:
            doomed.kept += kept

    def _to_unpublish(
        self, traces: Sequence[_Run], runs: Sequence[_Run], now: int
    ) -> Iterator[tuple[str, str]]:
        """Traces, newest first, that are too many or unused, and which of it."""
        most, max_age = self.retention.traces, self.retention.max_age
        yield from ((it.id, beyond(most)) for it in traces[most:])
        if max_age is not None:
            for it in traces[:most]:
                newest = next((x.used for x in runs if x.replayed == it.id), it.used)
                if now - max(newest, it.used) >= _milliseconds(max_age):
                    yield it.id, UNUSED

    async def _add_versions(self, doomed: _Doomed, *, tight: bool) -> None:
        cursor = ""
        while rows := await self.limited("doomed_versions", tight=tight, cursor=cursor, batch=_ALL):
            cursor = rows[-1][0]
            for resource, gone, events in rows:
                doomed.versions += [[resource, n] for n, _ in gone]
                doomed.events += len(events) + sum(told for _, told in gone)


_newest = attrgetter("started_at", "id")


def _milliseconds(duration: timedelta | None) -> int:
    """``duration``; None: longer than anything."""
    return 2**53 if duration is None else round(duration.total_seconds() * 1000)
