"""A whole store, and what each method of every store may be relied on to do.

``GraphStore`` is all roles of ``roles/``, each of which says what its methods promise. Who needs
a part of a store names the roles, as ``RunStore`` does for a run.

Rules for all methods:

- A store is bound to one namespace, and its methods see nothing of any other; ``of`` gives another
  namespace of the same opened store. ``examine`` and ``namespaces`` are about the whole store, and
  ``cypher`` sees all of it.
- Writing methods are atomic: all of it or, after an error or a crash, nothing. They retry what
  the back end calls transient (a lock, a deadlock, a leader change) within ``RETRY_SECONDS``
  and are therefore idempotent unless their docstring says otherwise.
- A missing key is not an error: it is absent from the answer.
- Trouble is raised as a StoreError of ``errors``, never as the back end's own exception, and
  names neither passwords nor payloads.

A store belongs to one event loop of one process; ``execgraph.engine`` opens another elsewhere.
"""

from __future__ import annotations

import logging
from abc import ABC
from typing import Protocol

from .errors import PayloadCorrupted
from .facts import wanted_by
from .roles.approvals import Approving
from .roles.collecting import Collecting
from .roles.examining import Examining
from .roles.facts import FactChanging, FactReading
from .roles.history import History
from .roles.journals import JournalWriting
from .roles.leases import Leases
from .roles.lookups import Lookups
from .roles.marks import Marks
from .roles.presence import Opening, Presence
from .roles.querying import Querying
from .roles.recording import ReplayRecording, RunRecording
from .roles.verdicts import Verdicts
from .roles.wishes import Wishes, WishRenewing

__all__ = ["RETRY_SECONDS", "GraphStore", "RunStore"]

_log = logging.getLogger(__name__)

#: How long a store repeats what failed for a passing reason before it raises StoreUnavailable.
RETRY_SECONDS = 30.0


class RunStore(Presence, FactReading, Lookups, Leases, Wishes, RunRecording, Approving, Protocol):
    """What a run needs of its store."""

    #: Whether it has gone, and does not come back for the run that it was lent to.
    away: bool = False


class GraphStore(
    RunStore,
    Opening,
    FactChanging,
    Marks,
    ReplayRecording,
    Verdicts,
    JournalWriting,
    WishRenewing,
    Collecting,
    History,
    Examining,
    Querying,
    ABC,
):
    """Where the graph of one namespace is kept. See the rules at the top of this module."""

    async def _compute_guards(self, execution: str) -> None:
        """Have all facets that an execution rests on computed; a damaged document gives none."""
        if (trace := await self.execution(execution)) is None:
            return
        try:
            await self.facts(wanted_by([trace]))
        except PayloadCorrupted as error:
            _log.warning("facets cannot be computed, so what rests on them is invalid: %s", error)
