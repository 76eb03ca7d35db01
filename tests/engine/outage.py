"""Stores that really go away, and come back when they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from execgraph.graphstore.store import GraphStore

SHORT = 0.15  # seconds a call is repeated while the store is away


class Outlet(Protocol):
    """``url``: of the store as it can go away; ``direct``: of the same one as others see it."""

    url: str
    direct: str

    async def go(self) -> None: ...
    async def come(self) -> None: ...


class Held:
    """An SQLite file whose write lock somebody else holds. It can still be read."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = self.direct = url
        self._monkeypatch = monkeypatch
        self._holder: sqlite3.Connection | None = None

    async def go(self) -> None:
        if self._holder is not None:
            return
        self._monkeypatch.setattr("execgraph.graphstore.store.RETRY_SECONDS", SHORT)
        self._holder = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)
        while True:
            with contextlib.suppress(sqlite3.OperationalError):
                self._holder.execute("BEGIN IMMEDIATE")
                return
            await asyncio.sleep(0.01)

    async def come(self) -> None:
        if self._holder is not None:
            self._holder.close()
        self._holder = None


def repeat_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have calls of a Neo4j that is away repeated for so long."""
    for place in ("client", "connection"):
        monkeypatch.setattr(f"execgraph.graphstore.neo4j.{place}.RETRY_SECONDS", seconds)


class Cut:
    """A Neo4j behind a network that can be cut: nothing listens then, and nothing gets through."""

    def __init__(self, direct: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.direct = direct
        self.url = ""
        self._monkeypatch = monkeypatch
        self._there = urlsplit(direct)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._pipes: set[asyncio.Task[None]] = set()

    async def come(self) -> None:
        if self._server is not None:
            return
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"bolt://127.0.0.1:{self._port}"

    async def go(self) -> None:
        repeat_for(self._monkeypatch, SHORT)
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._pipes)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        there, host, port = None, self._there.hostname, self._there.port or 7687
        try:
            far, there = await asyncio.open_connection(host, port)
            self._open.add(there)
            pipes = [
                asyncio.ensure_future(_pipe(reader, there)),
                asyncio.ensure_future(_pipe(far, writer)),
            ]
            self._pipes.update(pipes)
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (writer, there):
                if end is not None:
                    end.transport.abort()
                    self._open.discard(end)
            await asyncio.gather(*pipes)
            self._pipes.difference_update(pipes)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


#: What a run asks of its store.
CALLS = (
    "still",
    "lookup",
    "unfinished",
    "read_facts",
    "document",
    "hold",
    "values",
    "intend",
    "unbroken",
    "write",
    "unpublish",
    "publish",
)


class Calls:
    """The store calls of runs, in order; ``before`` happens before the one of that number."""

    def __init__(self, store: GraphStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.at: int | None = None
        self.before: Callable[[], Awaitable[Any]] | None = None
        for name in CALLS:
            monkeypatch.setattr(store, name, self._watched(name, getattr(store, name)))

    def _watched(self, name: str, call: Callable[..., Awaitable[Any]]) -> Any:
        async def watched(*args: Any, **kwargs: Any) -> Any:
            number = len(self.made)
            self.made.append(name)
            if number == self.at and self.before is not None:
                await self.before()
            return await call(*args, **kwargs)

        return watched

    def reset(self, at: int | None, before: Callable[[], Awaitable[Any]]) -> None:
        self.made.clear()
        self.at, self.before = at, before
