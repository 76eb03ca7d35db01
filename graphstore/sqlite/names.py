"""From domain keys to the small integers that rows name each other by, inside a transaction."""

from __future__ import annotations

import sqlite3
from typing import Any

from ..errors import StoreError
from ..model import FacetRef, Precondition
from .queries import QUERIES

__all__ = ["Names", "find"]


def find(connection: sqlite3.Connection, query: str, **parameters: Any) -> int | None:
    """The first column of the first row, if there is one."""
    row = connection.execute(QUERIES[query], parameters).fetchone()
    return None if row is None else row[0]


class Names:
    """Finds rows of one namespace by key, and makes those that are missing.

    Made for one write transaction: what it remembers is undone with it.
    """

    def __init__(self, connection: sqlite3.Connection, namespace: str) -> None:
        self.connection = connection
        self.namespace = namespace
        self.ns = self._namespace_rid()

    def _namespace_rid(self) -> int:
        known = find(self.connection, "namespace", name=self.namespace)
        return self.add("add_namespace", name=self.namespace) if known is None else known

    def row(self, query: str, **parameters: Any) -> tuple[Any, ...] | None:
        """The first row, if there is one."""
        row: tuple[Any, ...] | None
        row = self.connection.execute(QUERIES[query], parameters).fetchone()
        return row

    def run(self, query: str, **parameters: Any) -> None:
        """A statement whose rows nobody wants."""
        self.connection.execute(QUERIES[query], parameters)

    def add(self, query: str, **parameters: Any) -> int:
        """The rid of the row that the statement inserted."""
        rid = self.connection.execute(QUERIES[query], parameters).lastrowid
        assert rid is not None
        return rid

    def resource(self, uri: str) -> int:
        """The resource, which was perhaps never observed."""
        known = find(self.connection, "resource", ns=self.ns, uri=uri)
        return self.add("add_resource", ns=self.ns, uri=uri) if known is None else known

    def facet(self, ref: FacetRef) -> int:
        """The facet, made with its resource if need be."""
        key = ref.key(self.namespace)
        if (known := find(self.connection, "facet", ns=self.ns, key=key)) is not None:
            return known
        resource = self.resource(ref.resource)
        return self.add("add_facet", ns=self.ns, key=key, resource=resource, selector=ref.selector)

    def precondition(self, ref: FacetRef, fingerprint: str, facet: int | None = None) -> int:
        """The precondition "this facet at this fingerprint", made with its facet if need be."""
        precondition = Precondition.of(self.namespace, ref, fingerprint)
        if (
            known := find(self.connection, "precondition", ns=self.ns, id=precondition.id)
        ) is not None:
            return known
        return self.add(
            "add_precondition",
            ns=self.ns,
            id=precondition.id,
            facet=self.facet(ref) if facet is None else facet,
            fingerprint=fingerprint,
        )

    def known_precondition(self, key: str) -> int:
        """The precondition with this id. Raises StoreError if nobody stated it."""
        known = find(self.connection, "precondition", ns=self.ns, id=key)
        if known is None:
            raise StoreError(
                f"a step is guarded by {key}, which is not among the recording's preconditions"
                " and not in the store; nothing was written"
            )
        return known
