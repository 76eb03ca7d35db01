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
    """What a source has under a URI cannot be read as a document; the message says why."""


@runtime_checkable
class Source(Protocol):
    """Something that knows what some resources are.

    Implementations do no work before they are watched, and may be watched again afterwards.
    """

    @property
    def name(self) -> str:
        """Who it is: change events are signed with it."""

    @property
    def max_age(self) -> timedelta | None:
        """How long what was read may be believed; None: until it is replaced."""

    @property
    def interval(self) -> timedelta:
        """How long to wait between two scans, which find what no hint told of."""

    async def resources(self) -> Collection[str]:
        """The URIs of all resources there are now: what has gone from it is withdrawn.

        A mapping gives each one's Stamp. Raises OSError if it cannot be told; then nothing is
        withdrawn, and what is known expires in its time.
        """

    async def read(self, uri: str) -> Json | Gone | Document:
        """The document under ``uri``. None, or GONE: there is none any more; NULL: it is ``null``.

        Raises Unreadable for what is there and is no document, OSError for what cannot be read
        at the moment; both withdraw the resource.
        """

    def changes(self) -> AsyncIterator[str | None]:
        """Hints: URIs that may have changed; None: anything may have. Each is read again, so
        wrong, repeated and late ones are harmless, and lost ones are found by the next scan.

        The first one is None, given as soon as no later change goes unnoticed: what changed
        before is found by the scan that it asks for.
        """


def stamps(resources: Collection[str]) -> Mapping[str, Stamp]:
    """What ``Source.resources`` gave, as URIs with their stamps."""
    return resources if isinstance(resources, Mapping) else dict.fromkeys(resources)
