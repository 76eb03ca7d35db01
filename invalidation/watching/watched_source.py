"""One source under watch: what the source has, what was committed of it, and looking again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ...graphstore.canonical import Json
from ...graphstore.document import GONE, Document
from ...graphstore.errors import StoreReplaced, VersionMoved
from ...graphstore.facts import Facts
from ...graphstore.model import ChangeEvent
from ...graphstore.store import GraphStore
from ...graphstore.threads import in_thread
from ..resources import check_uri
from ..source import Source, Stamp, stamps
from .disputes import Disputes, dispute_of, last_committed_by

__all__ = ["Claimants", "Listed", "OnChange", "WatchedSource"]

_log = logging.getLogger("execgraph")

_TRIES = 5  # how often a resource is read again because somebody else changed it meanwhile
_AT_ONCE = 32  # resources of a scan that are read at the same time
_LARGE = 64 * 1024  # bytes of a document

OnChange = Callable[[ChangeEvent], None]
#: The names of all watched sources that have a resource.
Claimants = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class _Content:
    """What was read: a document, or none, and then why if it is there and cannot be read."""

    document: Document | None
    why: str | None = None

    @property
    def is_gone(self) -> bool:
        """Whether there is nothing to be read."""
        return self.document is None and self.why is None


@dataclass(frozen=True, slots=True)
class Listed:
    """The resources that a source had. ``now``: the store's time before it was asked."""

    now: int
    stamps: Mapping[str, Stamp]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A resource as it was last committed, and the store's time before it was read."""

    version: int
    stamp: Stamp
    read_at: int
    sees: str | None = None  # the fingerprint of what was read, if it could be


class WatchedSource:
    """A source, and what the store has of it. ``claimed``: the resources that the source had when
    they were last listed. ``unreadable``: those that are withdrawn because they cannot be read,
    and why."""

    def __init__(
        self,
        source: Source,
        store: GraphStore,
        claimants: Claimants,
        on_change: OnChange | None,
    ) -> None:
        self.source = source
        self.claimed: frozenset[str] = frozenset()
        self.unreadable: dict[str, str] = {}
        self.scanned_at: datetime | None = None
        self._store = store
        self._claimants = claimants
        self._on_change = on_change
        self._seen: dict[str, _Seen] = {}
        self._disputes = Disputes(source.name, source.max_age or 3 * source.interval)
        self._where = ""  # the incarnation of the store that they were committed to

    async def listed(self) -> Listed | None:
        """List what the source has now; None, with a warning, if that fails. Raises StoreError."""
        await self._recognise()
        now = await self._store.now()
        try:
            now_there = stamps(await self.source.resources())
        except Exception as error:  # noqa: BLE001  (a source is foreign code)
            _log.warning("%s cannot be listed: %s", self.source.name, str(error) or repr(error))
            return None
        for uri in now_there.keys() - self.claimed:
            check_uri(uri)
        self.claimed = frozenset(now_there)
        return Listed(now, now_there)

    async def scan(self, listed: Listed | None) -> None:
        """Look at all that may have changed, and believe the rest for another while.

        Nothing is done if the source could not tell what it has: what is known expires in its
        time. Raises StoreError.
        """
        if listed is None:
            return
        if self.scanned_at is None:
            await self._remember()
        unmoved = await self._renew(listed)
        gone = self._seen.keys() - listed.stamps.keys()
        changed = {uri: stamp for uri, stamp in listed.stamps.items() if uri not in unmoved}
        await self.look_at(changed | dict.fromkeys(sorted(gone)))
        self.scanned_at = datetime.now(UTC)

    async def _recognise(self) -> None:
        """Forget what was committed if the store is another one by now."""
        here = await self._store.incarnation()
        if here != self._where:
            self._where, self.scanned_at = here, None
            self._seen.clear()

    async def _remember(self) -> None:
        """Recall what this source had before this process was there: it may have gone since."""
        known = await self._store.resources(self.source.name)
        self._seen.update({uri: _Seen(version, None, 0) for uri, version in known.items()})

    async def _renew(self, listed: Listed) -> frozenset[str]:
        """Renew the resources whose stamps are as they were; those that nobody else has changed."""
        same = {
            uri: seen.version
            for uri, stamp in listed.stamps.items()
            if stamp is not None
            and (seen := self._seen.get(uri)) is not None
            and seen.stamp == stamp
            and self._is_read(seen, listed.now)
            and len(self._claimants(uri)) == 1
        }
        return await self._store.renew(same, until=self._until(listed.now), source=self.source.name)

    def _is_read(self, seen: _Seen, now: int) -> bool:
        """Whether the resource was read within ``max_age``: a file that is written through shared
        memory may not show it, and what nobody reads is not to be believed for ever."""
        if self.source.max_age is None:
            return True
        return now - seen.read_at < self.source.max_age.total_seconds() * 1000

    async def look_at(self, uris: Mapping[str, Stamp]) -> None:
        """Look at these, some of them at the same time. Raises StoreError."""
        waiting = iter(uris.items())

        async def some() -> None:
            for uri, stamp in waiting:
                await self.look(uri, stamp)

        workers = (some() for _ in range(min(_AT_ONCE, len(uris))))
        for ended in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended

    async def look(self, uri: str, stamp: Stamp = None) -> None:
        """Read one resource, and commit what it is unless somebody else was faster.

        ``stamp`` is its stamp from before. Raises StoreError.
        """
        for _ in range(_TRIES):
            store = self._store.pinned()
            wanted = dict.fromkeys((uri, dispute_of(uri)), frozenset[str | None]())
            facts = await store.read_facts(wanted)
            content = await self._read(uri)
            if content.is_gone and not await self._is_mine(uri, facts.of(uri).version):
                # Gone from here, and there elsewhere.
                self._note(uri, content, _Seen(0, stamp, facts.now))
                return
            try:
                sees = None if content.document is None else content.document.whole
                if why := await self._disputed(store, uri, sees, facts):
                    content = _Content(None, why)
                version = await self._commit(store, uri, content, facts.of(uri).version, facts.now)
            except (VersionMoved, StoreReplaced):
                continue
            self._note(uri, content, _Seen(version, stamp, facts.now, sees))
            return
        _log.warning("%s keeps being changed by others; the next scan looks again", uri)

    async def _disputed(
        self, store: GraphStore, uri: str, sees: str | None, facts: Facts
    ) -> str | None:
        """Why a resource is to be withdrawn though it was read: other watchers see something else.
        None: they do not."""
        if sees is None:
            return None
        seen = self._seen.get(uri)
        moved = seen is not None and seen.version != facts.of(uri).version
        same = seen is not None and seen.sees == sees
        return await self._disputes.about(store, uri, sees, facts, contradicted=moved and same)

    async def end(self) -> None:
        """Say that the source is watched no more. Raises StoreError."""
        await self._disputes.leave(self._store)

    async def _is_mine(self, uri: str, version: int) -> bool:
        """Whether it is for this source to say that a resource is gone."""
        if self._claimants(uri) not in ([], [self.source.name]):
            return False
        if (seen := self._seen.get(uri)) is not None and seen.version == version:
            return True
        return await last_committed_by(self._store, uri) == self.source.name

    async def _commit(
        self, store: GraphStore, uri: str, content: _Content, noted: int, now: int
    ) -> int:
        """Commit what was read after ``now``; the version that is current then."""
        event = await store.change(
            uri,
            content.document,
            until=None if content.document is None else self._until(now),
            source=self.source.name,
            noted=noted,
        )
        if event is None:
            return noted
        if self._on_change is not None:
            self._on_change(event)
        return event.to_version

    def _note(self, uri: str, content: _Content, seen: _Seen) -> None:
        if content.is_gone:
            self._seen.pop(uri, None)
        else:
            # What cannot be read is read again at each scan, whatever its stamp.
            unread = content.document is None
            self._seen[uri] = replace(seen, stamp=None) if unread else seen
        if content.why is None:
            self.unreadable.pop(uri, None)
        elif self.unreadable.get(uri) != content.why:
            self.unreadable[uri] = content.why
            _log.warning("%s cannot be read and is withdrawn: %s", uri, content.why)

    async def _read(self, uri: str) -> _Content:
        if uri in self.claimed and len(claimants := self._claimants(uri)) > 1:
            names = " and ".join(sorted(claimants))
            return _Content(None, f"{names} claim it; give each resource to one source")
        try:
            content = await self.source.read(uri)
            if content is None or content is GONE:
                return _Content(None)
            return _Content(await self._document(uri, content))
        except Exception as error:  # noqa: BLE001  (a source is foreign code)
            return _Content(None, str(error) or repr(error))

    async def _document(self, uri: str, content: Json | Document) -> Document:
        """The document, and of a large one what the store will ask of it: its time is not taken
        from those who wait for the store."""
        if isinstance(content, Document):
            document = content
        else:
            document = await in_thread(lambda: Document.of(content))
        if len(document.payload.data) > _LARGE:
            selectors = await self._store.facets(uri)
            await in_thread(lambda: document.held_all({None, *selectors}))
        return document

    def _until(self, now: int) -> datetime | None:
        """How long what was read after ``now`` (the store's time) may be believed."""
        if self.source.max_age is None:
            return None
        return datetime.fromtimestamp(now / 1000, UTC) + self.source.max_age
