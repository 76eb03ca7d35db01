"""What resources are and were: reading it, and saying what they are now."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from ..document import Document
from ..errors import PayloadCorrupted
from ..facts import Facts, Span
from ..model import ChangeEvent, FacetRef
from ..threads import in_thread

__all__ = ["FactChanging", "FactReading"]


class FactReading(Protocol):
    """Reads facts, and computes facets that nobody required before."""

    @abstractmethod
    async def read_facts(self, wanted: Mapping[str, frozenset[str | None]]) -> Facts:
        """The current facts of the resources (keys), with the fingerprints of the selectors.

        Each fact pairs a version's own n with what that version holds. Facts of different
        resources may be of different moments during the call.
        """

    @abstractmethod
    async def document(
        self, resource: str, version: int | None = None
    ) -> tuple[int, Document] | None:
        """The number and document of a version, by default of the current one; None if that is
        absent, withdrawn or deleted. Raises PayloadCorrupted."""

    @abstractmethod
    async def hold(
        self, resource: str, version: int, fingerprints: Mapping[str | None, str]
    ) -> None:
        """Add facets (by selector), and that this version of ``resource`` holds them so.

        The version may have been superseded meanwhile: the facets stay, so that whoever reads
        the newer version finds them missing there and adds them. Takes the resource's lock, so
        that a concurrent ``change`` either sees the new facets or comes first.
        """

    async def facts(self, wanted: Mapping[str, frozenset[str | None]]) -> Facts:
        """``read_facts``, after computing facets that nobody required before."""
        while missing := (facts := await self.read_facts(wanted)).missing(wanted):
            await self._compute(missing)
        return facts

    async def _compute(self, missing: Sequence[FacetRef]) -> None:
        for resource in {facet.resource for facet in missing}:
            if (current := await self.document(resource)) is None:
                continue
            version, document = current
            selectors = [facet.selector for facet in missing if facet.resource == resource]
            computed = await in_thread(partial(document.held_all, selectors))
            await self.hold(resource, version, computed)

    async def compute(self, facet: FacetRef, versions: Iterable[int]) -> None:
        """Have these versions hold a facet that nobody required while they were current. One
        that is withdrawn, deleted or damaged holds nothing."""
        for version in versions:
            with suppress(PayloadCorrupted):
                stored = await self.document(facet.resource, version)
                if stored is not None:
                    computed = await in_thread(partial(stored[1].held_all, [facet.selector]))
                    await self.hold(facet.resource, version, computed)

    @abstractmethod
    async def unbroken(self, spans: Sequence[Span]) -> list[bool]:
        """For each span: whether every version in it HOLDS the precondition."""

    @abstractmethod
    async def current_at(self, resources: Collection[str], at: int) -> dict[str, int]:
        """The number of the version of each resource that was current at ``at``, in milliseconds
        of the store's clock; one that was never observed is left out. Each version kept that was
        made later counts as later, and so do all after it. Where versions were collected in
        between, the number may be that of one of them, which holds nothing."""

    @abstractmethod
    async def changes(
        self,
        *,
        resource: str | None = None,
        since: int | None = None,
        limit: int | None = 100,
    ) -> list[ChangeEvent]:
        """The newest change events, newest first; none that is older than ``since``
        (milliseconds). Events may become visible out of order, seconds apart, on a store that
        many machines share."""


class FactChanging(Protocol):
    """Says what resources are now."""

    @abstractmethod
    async def change(
        self,
        resource: str,
        document: Document | None,
        *,
        until: datetime | timedelta | None = None,
        source: str = "push",
        noted: int | None = None,
    ) -> ChangeEvent | None:
        """Make ``document`` what ``resource`` is now (None: withdrawn).

        One transaction: lock the resource, read ``current`` = n; if the document is equal (by
        ``Document.whole``; or withdrawn again), set ``until`` alone and return None; else
        create version n + 1, HOLDS one precondition for each facet of the resource, set
        ``current`` and ``until``, write the ChangeEvent. ``until``: a moment, or a time from
        now on by the store's clock, now if that has passed; None: until replaced. Withdrawing
        what was never observed returns None and creates nothing.

        ``noted``: only if ``current`` is still this number (0: never observed); else raises
        VersionMoved, and nothing is written. An equal document of a resource whose expiry was
        recorded is an event too (``renewed``) if it is to be believed again.
        """

    @abstractmethod
    async def renew(
        self,
        noted: Mapping[str, int],
        *,
        until: datetime | timedelta | None,
        source: str = "push",
    ) -> frozenset[str]:
        """Believe these resources until then, those whose ``current`` is still the number noted.

        Returns which those were. One transaction, for many resources at once; as in ``change``
        with an equal document, one whose expiry was recorded gets an event (``renewed``).
        Withdrawn ones are left alone, and returned.
        """

    @abstractmethod
    async def expire(self) -> list[ChangeEvent]:
        """Record, once each, that resources are no longer to be believed: those whose ``until``
        has passed by the store's clock. Lookups need no such record; people and marks do."""

    @abstractmethod
    async def resources(self, source: str) -> dict[str, int]:
        """The resources that are present now, by the word of ``source``: uri -> ``current``."""

    @abstractmethod
    async def facets(self, resource: str) -> frozenset[str | None]:
        """The selectors of all facets of a resource that anybody ever required."""
