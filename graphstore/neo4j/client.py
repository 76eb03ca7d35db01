"""How a statement is run on the server, for one namespace."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import StoreError, StoreUnavailable
from ..pin import Pin
from ..store import RETRY_SECONDS
from .identity import Identity
from .mapping import there
from .queries import given, is_of_schema, query, writes
from .schema import ensure_schema
from .trouble import (
    ChangedMeanwhile,
    Transient,
    is_lost,
    is_race,
    may_be_repeated,
    pauses,
    raised,
    retryable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from neo4j import AsyncResult

    from .connection import Connection

__all__ = ["Client"]

_Taken = TypeVar("_Taken")

_WARM = 4  # connections that are opened before they are needed
_FEWEST_TRIES = 50  # before a slow server is taken for a resource that changes too fast
_MOST_RACES = 5  # a key that is still taken then is no race


class Client:
    """Runs named statements on one database, each in a transaction and a session of its own.

    All of them go to the database's leader: a follower may lag behind, and a fact that is read
    late is a stale fact.
    """

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.namespace = namespace
        self.identity = Identity()
        self._connection = connection
        self._url = connection.url
        self._pin: Pin | None = None

    async def open(self) -> None:
        """Connect, and be sure of the store. What is open stays so. Raises StoreError."""
        if self._connection.opened:
            return
        try:
            self.connect()
            await self.recognise()
            await self._warm_up()
        except BaseException:
            await self.close()
            raise
        self._connection.opened = True

    def connect(self) -> None:
        """Make the driver; the first statement connects. Raises StoreError."""
        self._connection.connect()

    async def _warm_up(self) -> None:
        """Open some connections at once, unless the driver was given.

        The driver leaves Nagle's algorithm on while it greets the server, which makes a new
        connection cost 40 ms more than it need. No run is to wait for that.
        """
        if self._connection.is_own:
            greetings = (self._attempt("RETURN 1", {}) for _ in range(_WARM))
            await asyncio.gather(*greetings, return_exceptions=True)

    async def close(self) -> None:
        """Close the driver, unless it was given."""
        await self._connection.close()

    def of(self, namespace: str) -> Client:
        """This client, for another namespace."""
        other = copy(self)
        other.namespace = namespace
        return other

    def pinned(self) -> Client:
        """This client for one piece of work, which is done on one store or ends."""
        pinned = copy(self)
        pinned._pin = Pin()  # noqa: SLF001  (it is one of these)
        return pinned

    async def recognise(self) -> None:
        """Look which store this is, and make its schema if need be. Raises StoreError."""
        await self.identity.look(self._url, lambda: ensure_schema(self, self._url))

    async def here(self) -> None:
        """Be sure of the store after a connection was lost. Raises StoreReplaced."""
        if self.identity.doubtful:
            await self.recognise()
        if self._pin is not None:
            self._pin.hold(self.identity.store, self._url)

    async def _is_still(self, store: str | None) -> bool:
        """Whether a statement that wrote nothing found that store, and nothing to write there."""
        row = await self.row("version", {}, Transient.ROLLED_BACK)
        if row is not None and row[1] is not None and row[1] == store:
            return True
        await self.recognise()
        return self.identity.store == store

    async def run(
        self,
        name: str,
        parameters: Mapping[str, Any],
        transient: Transient = Transient.UNKNOWN_OUTCOME,
    ) -> list[list[Any]]:
        """The rows of the statement ``name``: one round trip, unless it must be tried again.

        Of its parameters, the namespace and the store are given here.
        """
        races, waits = 0, pauses(RETRY_SECONDS)
        while True:
            try:
                if (rows := await self._once(name, parameters)) is not None:
                    return rows
                continue
            except StoreError as error:
                wait = next(waits, None) if may_be_repeated(error, transient) else None
                if wait is None:
                    raise
            except Exception as error:
                if is_lost(error):
                    self.identity.lost()
                races += is_race(error)
                wait = next(waits, None) if retryable(error, transient) else None
                if wait is None or races > _MOST_RACES:
                    raise raised(error, self._url) from error
            await asyncio.sleep(wait)

    async def _once(self, name: str, parameters: Mapping[str, Any]) -> list[list[Any]] | None:
        """The rows of a statement; None if it was to write to a store that is no longer there."""
        if not is_of_schema(name):
            await self.here()
        store = self.identity.store
        bound = {"namespace": self.namespace, **parameters, "store": store}
        rows = await self._attempt(query(name), given(name, bound))
        if rows or not writes(name) or await self._is_still(store):
            return rows
        return None

    async def row(
        self,
        name: str,
        parameters: Mapping[str, Any],
        transient: Transient = Transient.UNKNOWN_OUTCOME,
    ) -> list[Any] | None:
        """The first row of the statement ``name``; None if it gives none."""
        rows = await self.run(name, parameters, transient)
        return rows[0] if rows else None

    async def there(
        self, name: str, parameters: Mapping[str, Any], *each_has: int
    ) -> list[list[Any]]:
        """The rows of the statement ``name`` that are of nodes which are there (mapping.there)."""
        return there(await self.run(name, parameters), *each_has)

    async def settled(self, what: str, attempt: Callable[[], Awaitable[_Taken]]) -> _Taken:
        """What ``attempt`` gives once nothing has changed meanwhile."""
        waits, tries = pauses(RETRY_SECONDS, longest=0.1), 0
        while (wait := next(waits, None)) is not None or tries < _FEWEST_TRIES:
            with suppress(ChangedMeanwhile):
                return await attempt()
            tries += 1
            await asyncio.sleep(wait or 0)
        raise StoreUnavailable(
            f"{self._url}: {what} kept changing for {RETRY_SECONDS:.0f} seconds; try again"
        )

    async def read(
        self,
        text: str,
        parameters: Mapping[str, Any],
        seconds: float,
        take: Callable[[AsyncResult], Awaitable[_Taken]],
    ) -> _Taken:
        """What ``take`` takes of the result of a statement that only reads, once and within
        this time. Raises the driver's own exceptions."""
        from neo4j import READ_ACCESS, Query

        async with self._connection.session(default_access_mode=READ_ACCESS) as session:
            statement = Query(text, timeout=seconds)
            return await take(await session.run(statement, dict(parameters)))

    async def _attempt(self, text: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        async with self._connection.session() as session:
            result = await session.run(text, dict(parameters))
            return await result.values()
