"""Changing one resource: it is read, its change is planned, and applied if nothing moved.

What is planned is computed in `planned_change.py`, which asks no server.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ..errors import PayloadCorrupted
from ..facts import check_noted
from ..model import new_id
from .planned_change import PlannedChange, StateBefore, renewed
from .trouble import ChangedMeanwhile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ..document import Document
    from ..model import ChangeEvent, FacetRef
    from .client import Client

__all__ = ["Change", "ResourceCache", "read_before"]

_MOST_KNOWN = 1_000  # resources


class ResourceCache:
    """Resources as this process has left them, so that a change need not read them first.

    What is known here may be outdated: the statement that applies a change does so only if it is
    not. Nothing may be concluded from it otherwise, not even that a document is no change.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[tuple[str, str], StateBefore] = OrderedDict()
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def turn(self, namespace: str, resource: str) -> asyncio.Lock:
        """A lock, which keeps the changes of one process out of each other's way.

        They would be correct without."""
        return self._turns.setdefault((namespace, resource), asyncio.Lock())

    def take(
        self, namespace: str, resource: str, document: Document | None, noted: int | None
    ) -> StateBefore | None:
        """What to plan a change from, once; None if the resource must be read."""
        state = self._states.get((namespace, resource))
        if state is None or noted not in (None, state.current) or state.equals(document):
            return None
        del self._states[namespace, resource]
        return replace(state, now=time.time_ns() // 1_000_000)

    def forget(self, namespace: str, resource: str) -> None:
        """Drop a resource that has got other facets."""
        self._states.pop((namespace, resource), None)

    def clear(self) -> None:
        """Drop all: it is another store now."""
        self._states.clear()

    def put(self, planned: PlannedChange) -> None:
        """Remember what a change has made of its resource."""
        self._states[planned.namespace, planned.resource] = planned.done()
        if len(self._states) > _MOST_KNOWN:
            self._states.popitem(last=False)


@dataclass
class Change:
    """One change. ``lease``: until when the document is believed, as parameters;
    ``complete`` computes facets that nobody required before."""

    client: Client
    cache: ResourceCache
    complete: Callable[[Sequence[FacetRef]], Awaitable[None]]
    resource: str
    document: Document | None
    lease: Mapping[str, int | None]
    source: str
    noted: int | None
    _outdated: bool = False  # what was known: others change the resource too

    async def run(self) -> ChangeEvent | None:
        """The event; None if the document is equal. As ``FactChanging.change``."""
        where = self.client.namespace, self.resource
        async with self.cache.turn(*where):
            before = self.cache.take(*where, self.document, self.noted)
            if before is not None:
                with suppress(ChangedMeanwhile):
                    return await self._apply(before)
                self._outdated = True
            return await self.client.settled(self.resource, self._try)

    async def _try(self) -> ChangeEvent | None:
        before = await self._before()
        check_noted(self.resource, self.noted, before.current)
        return await (self._renew if before.equals(self.document) else self._apply)(before)

    async def _before(self) -> StateBefore:
        before = await read_before(self.client, self.resource)
        if before.uncomputed and not before.equals(self.document):
            try:
                await self.complete(before.uncomputed)
            except PayloadCorrupted:
                return before  # what those facets were before is lost
            before = await read_before(self.client, self.resource)
        return before

    async def _apply(self, before: StateBefore) -> ChangeEvent:
        planned = PlannedChange(
            self.client.namespace, self.resource, before, self.document, self.source
        )
        row = await self.client.row("change", {**planned.parameters(), **self.lease})
        if row is None:  # it moved; or an attempt whose answer was lost has done it
            row = await self.client.row("event", {"event": planned.id})
        if row is None:
            raise ChangedMeanwhile
        if not self._outdated:  # others that change it as often would find it outdated each time
            self.cache.put(planned)
        return planned.event(row[0])

    async def _renew(self, before: StateBefore) -> ChangeEvent | None:
        """Set ``until`` alone; the event if that brings it back."""
        unlimited = all(limit is None for limit in (before.until, *self.lease.values()))
        if unlimited or not before.current:
            return None
        event = new_id(before.now)
        noted = [[self.resource, before.current, event]]
        parameters = {"noted": noted, "source": self.source, **self.lease}
        row = await self.client.row("renew", parameters)
        if row is None:
            raise ChangedMeanwhile
        _, at = row
        return None if at is None else renewed(self.resource, before, event, self.source, at)


async def read_before(client: Client, resource: str) -> StateBefore:
    """The resource as it is."""
    return await client.settled(resource, partial(_read_before, client, resource))


async def _read_before(client: Client, resource: str) -> StateBefore:
    rows = await client.run("before_change", {"resource": resource})
    if (before := StateBefore.of(resource, rows[0])) is None:
        raise ChangedMeanwhile
    return before
