"""An engine as it is open in one event loop of one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, field

from ..graphstore.store import GraphStore
from ..invalidation.walker import Walker
from ..invalidation.watcher import Watcher
from .client import ChatClient, chat_client
from .events import Events
from .journal import Journal
from .lookup import Memory

__all__ = ["Session"]

_log = logging.getLogger("execgraph")

_REFRESH_SECONDS = 10.0  # what a run waits for a source whose facts have expired


@dataclass(frozen=True)
class Session:
    """What every run needs: where the graph is kept, and what this process remembers."""

    store: GraphStore
    namespace: str
    journal: Journal
    walker: Walker
    memory: Memory
    may_serve: bool  # False: EXECGRAPH_MODE is record or off
    must_serve: bool  # EXECGRAPH_MODE is replay
    events: Events = field(default_factory=Events)
    watchers: list[Watcher] = field(default_factory=list)  # those entered here
    _clients: dict[int, tuple[object, ChatClient]] = field(default_factory=dict)

    def client(self, given: object) -> ChatClient:
        """Who asks for the client ``given`` (None: the default one) in this event loop."""
        if (known := self._clients.get(id(given))) is None:
            known = self._clients[id(given)] = (given, chat_client(given))
        return known[1]

    async def refresh(self, uris: Collection[str]) -> bool:
        """Read resources again from the sources that are watched here; whether any of them is.

        A source that does not answer in time leaves them as they are: expired.
        """
        try:
            async with asyncio.timeout(_REFRESH_SECONDS):
                found = [await watcher.refresh(uris) for watcher in tuple(self.watchers)]
        except TimeoutError:
            _log.warning("%s could not be read again in time", ", ".join(sorted(uris)))
            return False
        return any(found)

    async def close(self) -> None:
        """Let go of the store, and of connections to models."""
        await self.events.ended()
        await self.walker.close()
        for _, client in self._clients.values():
            await client.close()
        await self.store.close()
