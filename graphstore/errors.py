"""What can go wrong, as one tree. Every message says what was given and what to do.

ExecgraphError
├── ConfigurationError          the program is wrong (engine.errors has more of them)
│   ├── UnknownStore            no back end answers to this store URL
│   └── SelectorError           a selector is not RFC 9535 JSONPath
├── NotJson                     a value cannot be written as JSON
├── CypherRefused               a Cypher query does not parse, or would do more than read
├── CypherTimeout               a Cypher query took longer than it may
├── CypherFailed                a Cypher query met what it cannot compute, or took all memory
└── StoreError                  the store cannot do what was asked
    ├── StoreUnavailable        it cannot be reached, or went away; try again later
    │   └── StoreReplaced       it is another one than the work was begun with
    ├── StoreNotOpen            it is used before `open`, or after `close`
    ├── StoreAccessDenied       it refuses these credentials, or this folder
    ├── SchemaTooNew            it was written by a newer execgraph
    ├── StoreDamaged            its file is damaged, or is no store at all
    ├── VersionMoved            a resource is no longer at the version that was noted
    ├── WishLost                another run holds the wish that an effect was to begin for
    └── PayloadCorrupted        a stored payload does not have its digest
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConfigurationError",
    "CypherFailed",
    "CypherRefused",
    "CypherTimeout",
    "ExecgraphError",
    "NotJson",
    "PayloadCorrupted",
    "SchemaTooNew",
    "SelectorError",
    "StoreAccessDenied",
    "StoreDamaged",
    "StoreError",
    "StoreNotOpen",
    "StoreReplaced",
    "StoreUnavailable",
    "UnknownStore",
    "VersionMoved",
    "WishLost",
]


class ExecgraphError(Exception):
    """The root: ``except ExecgraphError`` catches all that execgraph raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # As it is: a subclass may take more than its message, and pools of processes pickle.
        return _as_it_was, (type(self), self.args, self.__dict__)


def _as_it_was(
    kind: type[ExecgraphError], args: tuple[Any, ...], state: dict[str, Any]
) -> ExecgraphError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(ExecgraphError):
    """The program that uses execgraph asks for something that cannot work."""


class UnknownStore(ConfigurationError):
    """No back end answers to this store URL."""


class SelectorError(ConfigurationError):
    """A selector is not RFC 9535 JSONPath."""


class NotJson(ExecgraphError):
    """A value cannot be written as JSON, so it can neither be recorded nor compared."""


class CypherRefused(ExecgraphError):
    """A Cypher query was not run: it does not parse, or would do more than read."""


class CypherTimeout(ExecgraphError):
    """A Cypher query was stopped, because it took longer than its time limit."""


class CypherFailed(ExecgraphError):
    """A Cypher query that only reads failed while it ran.

    It met what it cannot compute, or took more memory than it may.
    """


class StoreError(ExecgraphError):
    """The store cannot do what was asked; nothing was half-written."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, or went away in the middle; the call may be repeated.

    ``Engine(on_store_error=...)`` says what becomes of runs meanwhile.
    """


class StoreReplaced(StoreUnavailable):
    """Another store is at this address now: what was read of the one before says nothing of it.

    The work that was begun with that one ends; begun anew, it goes by this one.
    """


class StoreNotOpen(StoreError):
    """The store is used before ``open`` or after ``close``: the program is wrong, and to try again
    later does not help."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the store {url} is not open: `await store.open()` first")


class StoreAccessDenied(StoreError):
    """The store, or the folder it lives in, refuses this user."""


class SchemaTooNew(StoreError):
    """The store was written by a newer execgraph, whose records this one could misread."""


class StoreDamaged(StoreError):
    """What the store is kept in is damaged as a whole, or is no store at all."""


class VersionMoved(StoreError):
    """A resource was changed since its version was noted; read it again."""


class WishLost(StoreError):
    """Another run holds the wish by now for which an effect was to begin, or nobody does."""


class PayloadCorrupted(StoreError):
    """Stored payloads do not have their digests; ``digests`` names them."""

    def __init__(self, digests: tuple[str, ...]) -> None:
        self.digests = digests
        super().__init__(
            f"{len(digests)} stored payload(s) are damaged or missing: {', '.join(digests[:3])}"
            f"{' ...' if len(digests) > 3 else ''}. What rests on them is not replayed; the next"
            " live run records it anew. Check the disk, and who else writes to the store."
        )
