"""An engine as it is open in one event loop of one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ...graphstore.errors import StoreReplaced, StoreUnavailable
from ...graphstore.store import GraphStore, RunStore
from ...invalidation.walker import Walker
from ...invalidation.watching.watcher import Watcher
from ..model.client import ChatClient, chat_client
from ..outcome.events import Events
from .at_work import AtWork
from .collector import Collector
from .confirming import Confirming
from .journal import Journal
from .memory import Memory
from .outage import Outage
from .pace import Pace
from .reads import Reads
from .replay_writer import ReplayWriter
from .single_flight import SingleFlight

__all__ = ["Session"]

_log = logging.getLogger("execgraph")

_REFRESH_SECONDS = 10.0  # what a run waits for a source whose facts have expired


@dataclass(frozen=True)
class Session:
    """What every run needs: where the graph is kept, and what this process remembers."""

    store: GraphStore
    replay_writer: ReplayWriter
    walker: Walker
    collector: Collector
    memory: Memory
    single_flight: SingleFlight
    journal: Journal
    at_work: AtWork
    may_serve: bool  # False: EXECGRAPH_MODE is record or off
    must_serve: bool  # EXECGRAPH_MODE is replay
    in_shadow: bool = False  # EXECGRAPH_MODE is shadow
    shadow: float = 0.0  # the share of runs that are shadow runs, if nothing else is declared
    outage: Outage | None = None  # None: a store that is away is raised
    events: Events = field(default_factory=Events)
    pace: Pace = field(default_factory=Pace)
    reads: Reads = field(default_factory=Reads)
    confirming: Confirming = field(default_factory=Confirming)
    watchers: list[Watcher] = field(default_factory=list)  # those entered here
    _clients: dict[int, tuple[object, ChatClient]] = field(default_factory=dict)

    def client(self, given: object) -> ChatClient:
        """The chat client, in this event loop, for the SDK client ``given`` (None: the default)."""
        if (known := self._clients.get(id(given))) is None:
            known = self._clients[id(given)] = (given, chat_client(given))
        return known[1]

    async def refresh(self, uris: Collection[str]) -> bool:
        """Read resources again from the sources that are watched here; whether any of them is.

        A source that does not answer in time leaves them as they are: expired.
        """
        found: list[bool] = []

        async def read() -> None:
            found.extend([await watcher.refresh(uris) for watcher in tuple(self.watchers)])

        try:
            async with asyncio.timeout(_REFRESH_SECONDS):
                await self._unless_away(read)
        except TimeoutError:
            _log.warning("%s could not be read again in time", ", ".join(sorted(uris)))
            return False
        return any(found)

    @asynccontextmanager
    async def watching(self, watcher: Watcher) -> AsyncIterator[None]:
        """While this is entered ``watcher`` looks. It has scanned once before any run rests on
        it: now, or before runs use a store again that is away."""
        self.watchers.append(watcher)
        try:
            await self._unless_away(watcher.scan)
            watcher.begin()
            yield
        finally:
            self.watchers.remove(watcher)
            await watcher.end()

    def lent(self) -> RunStore:
        """The store for one run. Raises StoreError if nothing is to be done without it."""
        return self.store.pinned() if self.outage is None else self.outage.lend()

    def went_away(self, error: StoreUnavailable) -> None:
        """Note that a run could not be recorded: later ones go on without the store, if they
        may."""
        if self.outage is not None and not isinstance(error, StoreReplaced):
            self.outage.began(error)

    async def _unless_away(self, work: Callable[[], Awaitable[None]]) -> None:
        if self.outage is None:
            await work()
        else:
            await self.outage.unless_away(work)

    async def _back(self) -> None:
        """What a store must be told before runs rest on it again: what has changed meanwhile."""
        scanned: list[Watcher] = []
        while waiting := [it for it in self.watchers if it not in scanned]:
            scanned.append(waiting[0])
            await waiting[0].scan()
        self.walker.kick()

    async def open(self) -> None:
        """Open the store. Raises StoreError."""
        if self.outage is None:
            await self.store.open()
        else:
            await self.outage.open(self._back)

    async def close(self) -> None:
        """Let go of the store, and of connections to models."""
        await self.events.ended()
        if self.outage is not None:
            await self.outage.close()
        await self.single_flight.close()
        await self.at_work.close()
        await self.collector.close()
        await self.walker.close()
        for _, client in self._clients.values():
            await client.close()
        await self.store.close()
