"""Sets up what the acts are played on: a world, a model, a store, an agent, and counters."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ... import Engine
from ...engine.errors import ConfigurationError
from ...engine.outcome.events import ResourceChanged
from ...graphstore.model import ChangeEvent
from ...graphstore.urls import redacted
from ...invalidation.files.file_source import FileSource
from ..messages_api import MessagesServer
from .agent import deployment_agent
from .brain import answer
from .world import World

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from ...engine.agent import Agent

__all__ = ["Settings", "Stage", "set_up"]

_KEY = "ANTHROPIC_API_KEY"
_DEBOUNCE = timedelta(milliseconds=50)
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Settings:
    """The options of the demo. ``store`` None: a file in the demo's own folder."""

    store: str | None = None
    runs: int = 100
    latency: float = 0.45  # seconds a model call of the local server takes
    model: str = "claude-sonnet-5"
    live: bool = False


@dataclass
class Stage:
    """What the acts are played on. ``billed_tokens`` gives None where only the service knows.
    ``url``: the store's, with what gives access to it; ``store``: as it may be shown.

    ``max_age``: how long a fact is believed once nobody looks at its file any more.
    """

    world: World
    engine: Engine
    agent: Agent
    url: str = field(repr=False)
    store: str
    live: bool
    requests: Callable[[], int]
    billed_tokens: Callable[[], int | None]
    max_age: timedelta = timedelta(seconds=3)
    _watching: AsyncExitStack = field(default_factory=AsyncExitStack)
    _events: asyncio.Queue[ChangeEvent] = field(default_factory=asyncio.Queue)

    async def watch(self) -> None:
        """Begin to watch the configuration's files."""
        sources = [self._source(kind) for kind in ("acl", "rule", "schema", "target")]
        await self._watching.enter_async_context(self.engine.watch(sources))

    async def stop_watching(self) -> None:
        """Stop watching the configuration's files."""
        await self._watching.aclose()

    async def changes_of(self, uris: frozenset[str]) -> list[ChangeEvent]:
        """Wait for the next change of each of these resources, until all are in force.

        Raises TimeoutError if the watcher does not notice.
        """
        events: dict[str, ChangeEvent] = {}
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while events.keys() < uris:
                event = await self._events.get()
                events |= {event.resource: event} if event.resource in uris else {}
        return sorted(events.values(), key=lambda event: event.at)

    def listen(self) -> None:
        """Keep all changes from now on, for ``changes_of``."""
        self.engine.subscribe(self._note)

    def _note(self, event: object) -> None:
        if isinstance(event, ResourceChanged):
            self._events.put_nowait(event.event)

    def _source(self, kind: str) -> FileSource:
        return FileSource(
            f"{kind}/**/*.json",
            resource=f"{kind}:{{path}}",
            root=self.world.config,
            interval=self.max_age / 3,
            max_age=self.max_age,
            debounce=_DEBOUNCE,
        )


@asynccontextmanager
async def set_up(settings: Settings) -> AsyncIterator[Stage]:
    """Set up what the acts need; afterwards nothing of it is left but a store that was given.

    Raises ConfigurationError if the real service is wanted and there is no key for it, or if the
    environment forbids recording or replaying, which is what there is to see.
    """
    if mode := os.environ.get("EXECGRAPH_MODE"):
        raise ConfigurationError(
            f"EXECGRAPH_MODE={mode} keeps the demo from recording or replaying; unset it"
        )
    if settings.live and not os.environ.get(_KEY):
        raise ConfigurationError(
            f"--live asks the real service and needs {_KEY} in the environment; set it, or leave"
            " --live out to ask a local server that speaks the same API"
        )
    if settings.store is not None:
        Engine(settings.store)  # a wrong URL is refused before anything is started
    async with AsyncExitStack() as stack:
        world = stack.enter_context(World())
        client, requests, billed = await _model(settings, stack)
        store = settings.store or f"sqlite:///{world.root}/graph.db"
        engine = Engine(store, namespace=f"demo-{uuid.uuid4().hex[:8]}")
        await stack.enter_async_context(engine)
        agent = deployment_agent(engine, client, world, settings.model)
        stage = Stage(world, engine, agent, store, redacted(store), settings.live, requests, billed)
        stack.push_async_callback(stage.stop_watching)
        await stage.watch()
        stage.listen()
        yield stage


async def _model(
    settings: Settings, stack: AsyncExitStack
) -> tuple[AsyncAnthropic, Callable[[], int], Callable[[], int | None]]:
    """A client, and who counts its requests: the local server, or the transport to the real one."""
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

    if settings.live:
        sent: list[str] = []

        async def note(request: Any) -> None:
            sent.append(str(request.url))

        http = DefaultAsyncHttpxClient(event_hooks={"request": [note]})
        client = AsyncAnthropic(http_client=http)
        await stack.enter_async_context(client)
        return client, lambda: len(sent), lambda: None

    server = stack.enter_context(MessagesServer(answer, latency=settings.latency))
    # The local server is reached directly, whatever proxies the environment names.
    http = DefaultAsyncHttpxClient(trust_env=False)
    client = AsyncAnthropic(base_url=server.url, api_key="local", http_client=http)
    await stack.enter_async_context(client)
    return client, lambda: server.requests, lambda: server.counts.tokens
