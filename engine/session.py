"""An engine as it is open in one event loop of one process."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..graphstore.store import GraphStore
from .client import ChatClient, chat_client
from .journal import Journal
from .lookup import Memory

__all__ = ["Session"]


@dataclass(frozen=True)
class Session:
    """What every run needs: where the graph is kept, and what this process remembers."""

    store: GraphStore
    namespace: str
    journal: Journal
    memory: Memory
    may_serve: bool  # False: EXECGRAPH_MODE is record or off
    must_serve: bool  # EXECGRAPH_MODE is replay
    _clients: dict[int, tuple[object, ChatClient]] = field(default_factory=dict)

    def client(self, given: object) -> ChatClient:
        """Who asks for the client ``given`` (None: the default one) in this event loop."""
        if (known := self._clients.get(id(given))) is None:
            known = self._clients[id(given)] = (given, chat_client(given))
        return known[1]

    async def close(self) -> None:
        """Let go of the store, and of connections to models."""
        for _, client in self._clients.values():
            await client.close()
        await self.store.close()
