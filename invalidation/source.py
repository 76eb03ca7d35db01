"""Where facts come from: the protocol of a source."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Hashable, Mapping
from datetime import timedelta
from typing import Protocol, runtime_checkable

from ..graphstore.canonical import Json
from ..graphstore.document import Document, Gone
from ..graphstore.errors import ExecgraphError

__all__ = ["Source", "Stamp", "Unreadable", "stamps"]

#: What tells cheaply whether a resource need be read again: equal stamps, equal content. None:
#: it must be read.
Stamp = Hashable | None


class Unreadable(ExecgraphError):
    """A source raises it for what is there and is no document; the message says why."""


@runtime_checkable
class Source(Protocol):
    """Something that knows what some resources are. Write a class with these members for your own.

    A source does no work before it is watched, and may be watched again afterwards.
    """

    @property
    def name(self) -> str:
        """The name of the source; change events are signed with it."""

    @property
    def max_age(self) -> timedelta | None:
        """How long what was read may be believed; None: until it is replaced."""

    @property
    def interval(self) -> timedelta:
        """The time between two scans, which find what no hint told of."""

    async def resources(self) -> Collection[str]:
        """List all resources that there are now. What is no longer listed is withdrawn.

        Returns:
            Their URIs. A mapping gives with each URI a stamp: the resource is read again only when
            its stamp differs (None: always).

        Raises:
            OSError: It cannot be told. Nothing is withdrawn, and what is known expires in its time.
        """

    async def read(self, uri: str) -> Json | Gone | Document:
        """Read one resource.

        Args:
            uri: One of the URIs that ``resources`` or ``changes`` gave.

        Returns:
            The document as JSON. None or ``GONE`` says that there is none any more; for a document
            that is ``null`` give ``NULL``. Both are in ``execgraph.graphstore.document``.

        Raises:
            Unreadable: What is there is no document. The resource is withdrawn.
            OSError: It cannot be read at the moment. The resource is withdrawn.
        """

    def changes(self) -> AsyncIterator[str | None]:
        """Tell what may have changed. Wrong, repeated and late hints are harmless.

        The first hint is None, given as soon as no later change goes unnoticed: what changed before
        is found by the scan that it asks for. A lost hint is made up for by the next scan.

        Returns:
            URIs that may have changed, each of which is read again; None: anything may have.
        """


def stamps(resources: Collection[str]) -> Mapping[str, Stamp]:
    """What ``Source.resources`` gave, as URIs with their stamps."""
    return resources if isinstance(resources, Mapping) else dict.fromkeys(resources)
