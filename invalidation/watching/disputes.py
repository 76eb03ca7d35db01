"""Disputes: watchers see different documents under one resource, and it is withdrawn.

A source that has changed and one that is seen differently elsewhere look the same to the store:
a new version. The watcher tells them apart. What another watcher has committed, while nothing has
changed here, contradicts what is here; then nobody knows what is in force, and the resource is
withdrawn, rather than to be this and that in turn. Whoever contradicts notes in the store, as the
document of a resource ``dispute:...``, what it sees; and holds a lease while it goes on watching.
The dispute is over when all who watch still see the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol
from uuid import uuid4

from ...graphstore.canonical import Json
from ...graphstore.document import Document
from ...graphstore.facts import Facts, FactState
from ...graphstore.model import ChangeKind
from ...graphstore.roles.facts import FactChanging, FactReading
from ...graphstore.roles.leases import Leases

__all__ = ["Disputes", "dispute_of", "last_committed_by"]

_EVENTS = 20  # of a resource: few are expiries and renewals in a row
_PUSH = "push"  # who observes a resource is no watcher: the next look at the source overrides it


def dispute_of(uri: str) -> str:
    """The resource whose document says who sees what under ``uri``."""
    return f"dispute:{uri}"


async def last_committed_by(store: FactReading, uri: str) -> str | None:
    """The source that has made a resource what it is; None: that is long ago, or nobody has."""
    events = await store.changes(resource=uri, limit=_EVENTS)
    contents = (ChangeKind.CHANGED, ChangeKind.WITHDRAWN)
    return next((event.source for event in events if event.kind in contents), None)


class DisputedStore(FactReading, FactChanging, Leases, Protocol):
    """What a dispute needs of the store."""


@dataclass
class Disputes:
    """The disputes that one watched source takes part in. ``lasts``: how long others believe that
    it watches after each look; ``name``: what they know it as."""

    name: str
    lasts: timedelta
    _me: str = field(default_factory=lambda: uuid4().hex)
    _reasons: dict[str, str] = field(default_factory=dict)  # by URI, as they were worded first

    async def about(
        self, store: DisputedStore, uri: str, sees: str, facts: Facts, *, contradicted: bool
    ) -> str | None:
        """Why ``uri`` is to be withdrawn though it can be read; None: it is not disputed.

        ``sees``: the fingerprint of what was read. ``contradicted``: others have committed
        something since, and it is what was read before.
        """
        at = facts.of(dispute_of(uri))
        if contradicted:
            contradicted = await self._other_watcher(store, uri, sees) is not None
        if at.state is not FactState.PRESENT and not contradicted:
            self._reasons.pop(uri, None)
            return None
        return await self._settled(store, uri, sees, facts, contradicted=contradicted)

    async def _settled(
        self, store: DisputedStore, uri: str, sees: str, facts: Facts, *, contradicted: bool
    ) -> str | None:
        parties, since = await self._parties(store, uri)
        others = {key: party for key, party in parties.items() if key != self._me}
        alive = {key: one for key, one in others.items() if await self._watches(store, key)}
        alone = not others and (
            self._me in parties and facts.now < since + self.lasts / timedelta(milliseconds=1)
        )
        agreed = all(party["sees"] == sees for party in alive.values())
        if agreed and not alone and (self._me in parties or not contradicted):
            await self._note(store, uri, facts, None)
            self._reasons.pop(uri, None)
            return None
        names = [party["name"] for party in alive.values() if party["name"] != self.name]
        against = names or [await self._other_watcher(store, uri, sees) or self.name]
        mine: dict[str, Json] = {self._me: {"name": self.name, "sees": sees}}
        await store.lease(self._lease(self._me), self._me, self.lasts)
        document: Json = {"since": since or facts.now, "watchers": {**alive, **mine}}
        await self._note(store, uri, facts, Document.of(document))
        return self._reasons.setdefault(uri, _words(self.name, against))

    async def leave(self, store: DisputedStore) -> None:
        """Say that this source is watched no more, so that the others need not wait for it."""
        if self._reasons:
            await store.release(self._lease(self._me), self._me)
            self._reasons.clear()

    async def _other_watcher(self, store: DisputedStore, uri: str, sees: str) -> str | None:
        """The source that has committed something else than ``sees``; None: no source has."""
        current = await store.document(uri)
        if current is not None and current[1].whole == sees:
            return None
        by = await last_committed_by(store, uri)
        return None if by == _PUSH else by

    async def _parties(
        self, store: DisputedStore, uri: str
    ) -> tuple[dict[str, Mapping[str, Any]], int]:
        """What each watcher sees, by its key, as the dispute has it; since when there is one."""
        noted = await store.document(dispute_of(uri))
        if noted is None:
            return {}, 0
        content: Any = noted[1].content
        return dict(content["watchers"]), int(content["since"])

    async def _watches(self, store: DisputedStore, key: str) -> bool:
        """Whether the watcher with this key has looked within the time that it had said."""
        return not await store.lease(self._lease(key), self._me, timedelta(0))

    async def _note(
        self, store: DisputedStore, uri: str, facts: Facts, document: Document | None
    ) -> None:
        about = dispute_of(uri)
        noted = facts.of(about).version
        await store.change(about, document, source=self.name, noted=noted)

    def _lease(self, key: str) -> str:
        return f"watching:{key}"


def _words(name: str, against: list[str]) -> str:
    others = (
        " and ".join(sorted({other for other in against if other != name}))
        or "another watcher of it"
    )
    return (
        f"{name} and {others} see different documents there; make them agree, or give the resource"
        " to one source"
    )
