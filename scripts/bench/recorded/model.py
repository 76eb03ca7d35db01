"""What the model says: the turn that the recorded agent said at this point."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from execgraph.adapters.messages_api import Answer, call, text

from .trajectories import Trajectory

__all__ = ["RecordedAgent"]


class RecordedAgent:
    """A brain for ``MessagesServer``. Which trajectory it is stands in the request's metadata;
    at which turn it is, follows from the conversation alone. It bills what was billed; where
    nobody wrote that down, the server estimates it."""

    def __init__(self, trajectories: Iterable[Trajectory]) -> None:
        self._trajectories = {trajectory.tid: trajectory for trajectory in trajectories}

    def __call__(self, body: dict[str, Any]) -> Answer:
        trajectory = self._trajectories[body["metadata"]["user_id"]]
        said = sum(message["role"] == "assistant" for message in body["messages"])
        turn = trajectory.turns[said]
        words = [text(turn.text)] if turn.text else []
        calls = [call(f"{trajectory.domain}_{it.tool}", it.arguments) for it in turn.calls]
        return Answer([*words, *calls], usage=turn.usage)
