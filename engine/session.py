"""An engine as it is open in one event loop of one process."""

from __future__ import annotations

from dataclasses import dataclass

from ..graphstore.store import GraphStore
from .journal import Journal
from .lookup import Memory

__all__ = ["Session"]


@dataclass(frozen=True)
class Session:
    """What every run needs: where the graph is kept, and what this process remembers."""

    store: GraphStore
    namespace: str
    journal: Journal
    memory: Memory
    may_serve: bool  # False: EXECGRAPH_MODE is record or off
    must_serve: bool  # EXECGRAPH_MODE is replay
