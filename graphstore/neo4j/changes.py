"""A change of one resource: what is read before it, and what is computed from that.

The fingerprints are computed without holding a lock, so that a large document keeps nobody
waiting; the statement that writes them takes the lock and applies only if nothing moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..model import ChangeEvent, ChangeKind, FacetChange, FacetRef, Precondition, new_id
from .mapping import value_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..document import Document

__all__ = ["Before", "Planned", "holds", "renewed", "until_parameters"]


@dataclass(frozen=True, slots=True)
class Before:
    """A resource as a change finds it. ``held``: fingerprints by the keys of facets.

    ``expired``: it was present, and an event says that it may no longer be believed.
    """

    now: int
    current: int
    until: int | None
    expired: bool
    withdrawn: bool
    fingerprint: str | None
    facets: Mapping[str, FacetRef]
    held: Mapping[str, str]

    @classmethod
    def of(cls, resource: str, row: Sequence[Any]) -> Before | None:
        """From the row of `before_change`; None while the current version is not visible yet."""
        now, current, until, expired, n, withdrawn, fingerprint, facets, held = row
        if current and (n is None or withdrawn is None):
            return None
        refs = {key: FacetRef(resource, selector) for key, selector in facets}
        return cls(now, current, until, expired, bool(withdrawn), fingerprint, refs, dict(held))

    def equals(self, document: Document | None) -> bool:
        """Whether it is what ``document`` says already."""
        if document is None:
            return self.withdrawn or not self.current
        return bool(self.current) and self.fingerprint == document.whole

    @property
    def uncomputed(self) -> list[FacetRef]:
        """Facets that the current version, which can be read, does not hold yet."""
        if not self.current or self.withdrawn:
            return []
        return [facet for key, facet in self.facets.items() if key not in self.held]


class Planned:
    """The change of one resource from ``before`` to ``document``."""

    def __init__(
        self, namespace: str, resource: str, before: Before, document: Document | None, source: str
    ) -> None:
        self.namespace = namespace
        self.resource = resource
        self.before = before
        self.document = document
        self.source = source
        self.id = new_id(before.now)
        self._after: dict[str | None, str] = {}
        if document is not None:
            selectors = [facet.selector for facet in before.facets.values()]
            self._after = {selector: document.fingerprint(selector) for selector in selectors}

    def parameters(self) -> dict[str, Any]:
        """The parameters of `change`, apart from ``until``."""
        return {
            "namespace": self.namespace,
            "resource": self.resource,
            "kind": self.resource.partition(":")[0],
            "current": self.before.current,
            "expired": self.before.expired,
            "facets": len(self.before.facets),
            "event": self.id,
            "change": self._kind.value,
            "source": self.source,
            "version": self._version(),
            "values": [] if self.document is None else [value_row(self.document.payload)],
            "changed": [[it.facet, it.before, it.after] for it in self.changed],
            "holds": holds(self.namespace, self.resource, self._after),
        }

    def event(self, at: int) -> ChangeEvent:
        """The event that the statement has written."""
        return ChangeEvent(
            id=self.id,
            resource=self.resource,
            kind=self._kind,
            from_version=self.before.current,
            to_version=self.before.current + 1,
            source=self.source,
            at=at,
            changed=tuple(self.changed),
        )

    @property
    def _kind(self) -> ChangeKind:
        return ChangeKind.WITHDRAWN if self.document is None else ChangeKind.CHANGED

    @property
    def changed(self) -> list[FacetChange]:
        """The facets whose fingerprint differs, by key. An expired version had none."""
        held = {} if self.before.expired else self.before.held
        return [
            FacetChange(
                facet=key,
                resource=self.resource,
                selector=facet.selector,
                before=held.get(key),
                after=self._after.get(facet.selector),
            )
            for key, facet in sorted(self.before.facets.items())
            if held.get(key) != self._after.get(facet.selector)
        ]

    def _version(self) -> dict[str, Any]:
        if self.document is None:
            return {"withdrawn": True, "source": self.source}
        return {
            "withdrawn": False,
            "source": self.source,
            "document": self.document.payload.digest,
            "fingerprint": self.document.whole,
        }


def holds(namespace: str, resource: str, fingerprints: Mapping[str | None, str]) -> list[list[Any]]:
    """Rows ``[precondition, facet, selector, fingerprint]``, in the order to lock them in."""
    found = [
        Precondition.of(namespace, FacetRef(resource, selector), at)
        for selector, at in fingerprints.items()
    ]
    found.sort(key=lambda it: it.id)
    return [[it.id, it.facet, it.selector, it.fingerprint] for it in found]


def renewed(resource: str, before: Before, event: str, source: str, at: int) -> ChangeEvent:
    """The event by which an expired version is to be believed again."""
    return ChangeEvent(
        id=event,
        resource=resource,
        kind=ChangeKind.RENEWED,
        from_version=before.current,
        to_version=before.current,
        source=source,
        at=at,
        changed=tuple(
            FacetChange(
                facet=key,
                resource=resource,
                selector=before.facets[key].selector,
                before=None,
                after=fingerprint,
            )
            for key, fingerprint in sorted(before.held.items())
            if key in before.facets  # one may have been added between the two
        ),
    )


def until_parameters(until: datetime | timedelta | None) -> dict[str, int | None]:
    """``until`` as a moment, ``lasts`` as a time from now on; in milliseconds."""
    match until:
        case timedelta():
            return {"until": None, "lasts": round(until.total_seconds() * 1000)}
        case datetime():
            return {"until": round(until.timestamp() * 1000), "lasts": None}
        case None:
            return {"until": None, "lasts": None}
