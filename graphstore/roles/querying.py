"""Answering questions that people write."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from ..cypher import Progress, Table

__all__ = ["Querying"]


class Querying(Protocol):
    """Answers Cypher."""

    @abstractmethod
    async def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any],
        *,
        time_limit: timedelta,
        limit: int,
        progress: Progress | None = None,
    ) -> Table:
        """Answer a reading Cypher query; ``$namespace`` is bound. At most ``limit`` rows.

        All namespaces are seen; what there is to ask for is in ``graphstore.cypher``. Raises
        CypherRefused before anything runs if the query could write, does not parse, or calls a
        procedure that does more than read; CypherTimeout after ``time_limit``; CypherFailed.
        ``progress`` is told how much of the graph is loaded, where it is loaded first; that
        takes none of the query's time.
        """
