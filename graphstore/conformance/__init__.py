"""What every store must do, as checks that ship with the package and need no test framework.

Each check is an async function that raises AssertionError with the promise that was broken.
``CHECKS`` take an open store and the name of a namespace that nobody used before;
``SHARING_CHECKS`` take two open stores on the same data, and such a name::

    for check in CHECKS:
        await check(store, f"check-{uuid4()}")
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..store import GraphStore
from . import (
    changing,
    effects,
    expiring,
    facets,
    isolation,
    lookups,
    marking,
    opening,
    payloads,
    publishing,
    querying,
    reading,
    recordings,
    retaining,
    sharing,
)
from .samples import (
    guard,
    newest,
    none,
    published,
    sample_effect,
    sample_recording,
    sample_replay,
)

__all__ = [
    "CHECKS",
    "SHARING_CHECKS",
    "Check",
    "SharingCheck",
    "guard",
    "newest",
    "none",
    "published",
    "sample_effect",
    "sample_recording",
    "sample_replay",
]

Check = Callable[[GraphStore, str], Awaitable[None]]
SharingCheck = Callable[[GraphStore, GraphStore, str], Awaitable[None]]

CHECKS: tuple[Check, ...] = (
    *opening.CHECKS,
    *changing.CHECKS,
    *expiring.CHECKS,
    *facets.CHECKS,
    *lookups.CHECKS,
    *recordings.CHECKS,
    *publishing.CHECKS,
    *marking.CHECKS,
    *effects.CHECKS,
    *payloads.CHECKS,
    *isolation.CHECKS,
    *reading.CHECKS,
    *retaining.CHECKS,
    *querying.CHECKS,
)
SHARING_CHECKS: tuple[SharingCheck, ...] = (
    *sharing.SHARING_CHECKS,
    *retaining.SHARING_CHECKS,
    *querying.SHARING_CHECKS,
)
