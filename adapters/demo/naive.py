"""What many build first: a cache of what was done, keyed by the text of the request.

It is as fast, and costs as little. It knows nothing of what its entries rest on.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence

from .world import Call, World

__all__ = ["NaiveCache"]


class NaiveCache:
    """Does again what was done for the same text before."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._entries: dict[str, tuple[tuple[Call, ...], str]] = {}

    def keep(self, task: Mapping[str, str], calls: Sequence[Call], output: str) -> None:
        """Remember what was done for this task, and the answer."""
        self._entries[json.dumps(task)] = (tuple(calls), output)

    def execute(self, task: Mapping[str, str]) -> str:
        """Do it again. Raises KeyError for a task that is not remembered."""
        calls, output = self._entries[json.dumps(task)]
        for tool, arguments in calls:
            key = {"key": uuid.uuid4().hex} if tool in ("build", "deploy") else {}
            getattr(self._world, tool)(**arguments, **key)
        return output
