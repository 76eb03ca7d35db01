"""What can go wrong, as one tree. Every message says what was given and what to do.

ExecgraphError
├── ConfigurationError          the program is wrong (engine.errors has more of them)
│   ├── UnknownStore            no back end answers to this store URL
│   └── SelectorError           a selector is not RFC 9535 JSONPath
├── NotJson                     a value cannot be written as JSON
└── StoreError                  the store cannot do what was asked
    ├── StoreUnavailable        it cannot be reached, or went away; try again later
    ├── StoreAccessDenied       it refuses these credentials, or this folder
    ├── SchemaTooNew            it was written by a newer execgraph
    ├── StoreDamaged            its file is damaged, or is no store at all
    └── PayloadCorrupted        a stored payload does not have its digest
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "ExecgraphError",
    "NotJson",
    "PayloadCorrupted",
    "SchemaTooNew",
    "SelectorError",
    "StoreAccessDenied",
    "StoreDamaged",
    "StoreError",
    "StoreUnavailable",
    "UnknownStore",
]


class ExecgraphError(Exception):
    """The root: ``except ExecgraphError`` catches all that this library raises on purpose."""


class ConfigurationError(ExecgraphError):
    """The program that uses execgraph states something that cannot work."""


class UnknownStore(ConfigurationError):
    """No back end answers to this store URL."""


class SelectorError(ConfigurationError):
    """A selector is not RFC 9535 JSONPath."""


class NotJson(ExecgraphError):
    """A value cannot be written as JSON, so it can neither be recorded nor compared."""


class StoreError(ExecgraphError):
    """The store cannot do what was asked; nothing was half-written."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, or went away in the middle; the call may be repeated."""


class StoreAccessDenied(StoreError):
    """The store, or the folder it lives in, refuses this user."""


class SchemaTooNew(StoreError):
    """The store was written by a newer execgraph, whose records this one could misread."""


class StoreDamaged(StoreError):
    """What the store is kept in is damaged as a whole, or is no store at all."""


class PayloadCorrupted(StoreError):
    """Stored payloads do not have their digests; ``digests`` names them."""

    def __init__(self, digests: tuple[str, ...]) -> None:
        self.digests = digests
        super().__init__(
            f"{len(digests)} stored payload(s) are damaged or missing: {', '.join(digests[:3])}"
            f"{' ...' if len(digests) > 3 else ''}. What rests on them is not replayed; the next"
            " live run records it anew. Check the disk, and who else writes to the store."
        )
