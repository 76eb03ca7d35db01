"""A planned change of one resource: what was read before it, and what is computed from that.

The fingerprints are computed without holding a lock, so that a large document keeps nobody
waiting; the statement that writes them takes the lock and applies only if nothing moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..facts import differing
from ..model import ChangeEvent, ChangeKind, FacetRef, Precondition, new_id
from .mapping import gate_of, there, value_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..document import Document

__all__ = ["PlannedChange", "StateBefore", "holds", "renewed", "until_parameters"]


@dataclass(frozen=True, slots=True)
class StateBefore:
    """The state of a resource before a change. ``held``: fingerprints by the keys of facets.

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
    def of(cls, resource: str, row: Sequence[Any]) -> StateBefore | None:
        """Read the row of `before_change`; None while the current version is not visible yet."""
        now, current, until, expired, n, withdrawn, fingerprint, facets, held = row
        if current and (n is None or withdrawn is None):
            return None
        refs = {key: FacetRef(resource, selector) for key, selector in there(facets, 0)}
        holding = dict(there(held))
        return cls(now, current, until, expired, bool(withdrawn), fingerprint, refs, holding)

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


class PlannedChange:
    """The change of one resource from ``before`` to ``document``."""

    def __init__(
        self,
        namespace: str,
        resource: str,
        before: StateBefore,
        document: Document | None,
        source: str,
    ) -> None:
        self.namespace = namespace
        self.resource = resource
        self.before = before
        self.document = document
        self.source = source
        self.id = new_id(before.now)
        self._after: dict[str, str] = {}
        if document is not None:
            self._after = {
                key: document.held(facet.selector) for key, facet in before.facets.items()
            }
        # An expired version held nothing.
        self.changed = differing(before.facets, {} if before.expired else before.held, self._after)

    def parameters(self) -> dict[str, Any]:
        """The parameters of `change`, apart from ``until``."""
        return {
            "namespace": self.namespace,
            "resource": self.resource,
            "kind": self.resource.partition(":")[0],
            "current": self.before.current,
            "expired": self.before.expired,
            "facets": sorted(self.before.facets),
            "gate": gate_of(self.resource),
            "event": self.id,
            "change": self._kind.value,
            "source": self.source,
            "version": self._version(),
            "values": [] if self.document is None else [value_row(self.document.payload)],
            "changed": [[it.facet, it.before, it.after] for it in self.changed],
            "holds": holds(
                self.namespace,
                self.resource,
                {self.before.facets[key].selector: at for key, at in self._after.items()},
            ),
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
            changed=self.changed,
        )

    def done(self) -> StateBefore:
        """The resource as the next change will find it, if nobody else touches it."""
        return replace(
            self.before,
            current=self.before.current + 1,
            expired=False,
            withdrawn=self.document is None,
            fingerprint=None if self.document is None else self.document.whole,
            held=self._after,
        )

    @property
    def _kind(self) -> ChangeKind:
        return ChangeKind.WITHDRAWN if self.document is None else ChangeKind.CHANGED

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
    changes = [
        Precondition.of(namespace, FacetRef(resource, selector), at)
        for selector, at in fingerprints.items()
    ]
    changes.sort(key=lambda it: it.id)
    return [[it.id, it.facet, it.selector, it.fingerprint] for it in changes]


def renewed(resource: str, before: StateBefore, event: str, source: str, at: int) -> ChangeEvent:
    """The event by which an expired version is to be believed again."""
    return ChangeEvent(
        id=event,
        resource=resource,
        kind=ChangeKind.RENEWED,
        from_version=before.current,
        to_version=before.current,
        source=source,
        at=at,
        changed=differing(before.facets, {}, before.held),
    )


def until_parameters(until: datetime | timedelta | None) -> dict[str, int | None]:
    """``until`` as a moment, ``lasts`` as a time from now on; in milliseconds. The statements take
    a moment that has passed for now."""
    match until:
        case timedelta():
            return {"until": None, "lasts": max(0, round(until.total_seconds() * 1000))}
        case datetime():
            return {"until": round(until.timestamp() * 1000), "lasts": None}
        case None:
            return {"until": None, "lasts": None}
