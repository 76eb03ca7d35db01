"""The watcher: reads sources, and tells the store what has changed. Events are hints (I7).

An event says "look again", and nothing else. Each look notes ``current`` by the store's clock,
reads the source, and commits only if ``current`` is still what was noted; so a slow read never
overwrites a newer fact, and duplicate, late or reordered hints are harmless. Lost ones are found
by a scan. What a scan finds as it was is believed for another while; what nobody scans any more
expires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any

from ...graphstore.errors import ConfigurationError, StoreError
from ...graphstore.store import GraphStore
from ..source import Source
from .hints import RETRY_SECONDS, Hints, listen
from .looks import Looks
from .watched_source import Listed, OnChange, WatchedSource

__all__ = ["Watcher"]

_ALL = ""  # what a scan looks at: no resource is named so


class Watcher:
    """Keeps the facts of some sources true while it is entered: ``async with watcher: ...``.

    It has scanned every source once before it is entered. ``on_change`` is called for each
    change that it makes, ``on_scan`` after each scan of a source. Of several watchers of the same
    sources each does all the work; what one has committed the others find equal.
    """

    def __init__(
        self,
        store: GraphStore,
        sources: Sequence[Source],
        *,
        on_change: OnChange | None = None,
        on_scan: Callable[[], None] | None = None,
    ) -> None:
        self._watched = [
            WatchedSource(source, store, self._claimants, on_change) for source in _checked(sources)
        ]
        self._on_scan = on_scan
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Watcher:
        await self.scan()
        self.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.end()

    def begin(self) -> None:
        """Look from now on, without having scanned."""
        for watched in self._watched:
            hints = Hints()
            self._tasks += [
                asyncio.ensure_future(listen(watched.source, hints)),
                asyncio.ensure_future(self._work(watched, hints)),
            ]

    async def end(self) -> None:
        """Look no more."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watched in self._watched:
            with suppress(StoreError):  # then others find out in time
                await watched.end()

    @property
    def resources(self) -> frozenset[str]:
        """What the sources had when they were last listed."""
        return frozenset(uri for watched in self._watched for uri in watched.claimed)

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Resources that are withdrawn because they cannot be read, and why."""
        return {uri: why for watched in self._watched for uri, why in watched.unreadable.items()}

    @property
    def sources(self) -> Sequence[WatchedSource]:
        """The sources as they are watched, in the order given."""
        return tuple(self._watched)

    @property
    def scanned_at(self) -> datetime | None:
        """When the source that was scanned longest ago was scanned; None: one never was."""
        times = [it.scanned_at for it in self._watched]
        known = [time for time in times if time is not None]
        return min(known, default=None) if len(known) == len(times) else None

    async def scan(self) -> None:
        """Scan all sources once. Raises StoreError; what a source cannot tell is logged."""
        # All, before any is looked at: two may claim one resource.
        listings = [await watched.listed() for watched in self._watched]
        for watched, listed in zip(self._watched, listings, strict=True):
            await self._scan(watched, listed)

    async def refresh(self, uris: Collection[str]) -> bool:
        """Read those resources again that these sources have; whether they have any."""
        mine = [
            (watched, uri) for watched in self._watched for uri in watched.claimed if uri in uris
        ]
        for watched, uri in mine:
            await watched.look(uri)
        return bool(mine)

    async def _scan(self, watched: WatchedSource, listed: Listed | None) -> None:
        await watched.scan(listed)
        if self._on_scan is not None:
            self._on_scan()

    async def _work(self, watched: WatchedSource, hints: Hints) -> None:
        """Look at what is hinted at, and scan once in an interval; for ever.

        Each resource is looked at by itself, so that one whose reading takes long delays no other.
        """
        interval = watched.source.interval.total_seconds()
        looks = Looks(watched.source.name, hints, min(RETRY_SECONDS, interval))

        async def scan() -> None:
            await self._scan(watched, await watched.listed())

        async def look_at(uris: Collection[str]) -> None:
            await watched.listed()  # a new one may be another source's already
            for uri in uris:
                looks.begin(uri, partial(watched.look, uri))

        try:
            while True:
                hinted = await hints.within(interval)
                if hinted is None:
                    looks.begin(_ALL, scan)
                    continue
                for uri in sorted(hinted & watched.claimed):
                    looks.begin(uri, partial(watched.look, uri))
                if new := sorted(hinted - watched.claimed):
                    looks.begin((_ALL, *new), partial(look_at, new))
        finally:
            await looks.end()

    def _claimants(self, uri: str) -> list[str]:
        return [it.source.name for it in self._watched if uri in it.claimed]


def _checked(sources: Any) -> Sequence[Source]:
    """Check the sources. Raises ConfigurationError for what is no list of them."""
    example = "watch([FileSource('config/acl/*.yaml', resource='acl:{path.stem}')])"
    if isinstance(sources, str) or not isinstance(sources, Iterable):
        raise ConfigurationError(f"{sources!r} is no list of sources; write for example {example}")
    checked = tuple(sources)
    for source in checked:
        if not isinstance(source, Source):
            raise ConfigurationError(f"{source!r} is no source; write for example {example}")
    return checked
