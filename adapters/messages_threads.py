"""Message threads of the local Messages API: conversations that the server holds between turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .messages_wire import Body, Refused

__all__ = ["Threads"]

_HELD = ("system", "tools")  # what a thread keeps, and a continuation must not repeat


class Threads:
    """The conversations held, each under the id of its last reply."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, Any]] = {}
        self._continued: set[str] = set()

    def whole(self, body: Body) -> dict[str, Any]:
        """``body`` with all that was said before it. Raises Refused if that is not held."""
        match body.get("thread"):
            case {"type": "continue", "previous_message_id": str(previous)}:
                return self._continuing(body, previous)
            case None | {"type": "create"}:
                return {key: value for key, value in body.items() if key != "thread"}
        raise Refused(400, "thread: either {'type': 'create'} or a continuation")

    def hold(self, body: Body, whole: Body, reply: Mapping[str, Any]) -> None:
        """Keep the conversation, if ``body`` asks for it."""
        if body.get("thread") is None:
            return
        message = {"role": "assistant", "content": reply["content"]}
        self._held[reply["id"]] = {
            "messages": [*whole["messages"], message],
            **{key: whole[key] for key in _HELD if key in whole},
        }
        self._continued.add(body["thread"].get("previous_message_id", ""))

    def forget(self) -> None:
        """Hold none of them any more, as the service does after a while."""
        self._held.clear()

    def _continuing(self, body: Body, previous: str) -> dict[str, Any]:
        if (held := self._held.get(previous)) is None:
            raise _no_thread(404, "thread_not_found", f"no thread is held under {previous}")
        if previous in self._continued:
            raise _no_thread(409, "thread_already_continued", f"{previous} was continued already")
        if repeated := [key for key in _HELD if key in body]:
            raise Refused(400, f"{repeated[0]}: not permitted when a thread is continued")
        rest = {key: value for key, value in body.items() if key != "thread"}
        return {**held, **rest, "messages": [*held["messages"], *body.get("messages", ())]}


def _no_thread(status: int, code: str, message: str) -> Refused:
    return Refused(status, message, {"error_code": code})
