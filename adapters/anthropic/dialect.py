"""How the Messages API is read.

Left out of the canonical form are cache-control hints and what the service makes up on every
call: message ids, usage, thinking signatures; ``tool_use`` ids are named by first appearance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from ...engine.client import Call, Dialect, Names
from ...graphstore.canonical import Json
from ...graphstore.model import Usage

__all__ = ["MessagesDialect", "as_sent", "body_of"]

_BETA = "anthropic-beta"
_QUERY = "query"

_HINTS = frozenset({"cache_control"})
_MADE_UP = frozenset({"signature"})
_IDS = frozenset({"id", "tool_use_id"})
_BLOCKS_WITH_IDS = frozenset(
    {"tool_use", "tool_result", "server_tool_use", "mcp_tool_use", "mcp_tool_result"}
)
# What a reply says beside what it cost and what it is called.
_REPLY = ("type", "role", "content", "stop_reason", "stop_sequence")
_COMPLETE = frozenset({"end_turn", "tool_use", "stop_sequence"})


class MessagesDialect(Dialect):
    """Requests and replies of ``messages.create``."""

    name = "anthropic.messages"

    @override
    def model(self, request: Mapping[str, Json]) -> str:
        return str(request.get("model", "unknown"))

    @override
    def split(self, request: Mapping[str, Json]) -> tuple[Json, list[Json]]:
        head = {key: value for key, value in request.items() if key != "messages"}
        return head, list(request.get("messages", ()))

    @override
    def canonical_head(self, head: Json) -> Json:
        return {
            # How the bytes travel changes no answer.
            key: _without_hints(value)
            for key, value in head.items()
            if key not in _HINTS and key != "stream"
        }

    @override
    def canonical_message(self, message: Json, names: Names) -> Json:
        return {**message, "content": _canonical_content(message.get("content"), names)}

    @override
    def canonical_reply(self, reply: Json, names: Names) -> Json:
        kept = {key: reply[key] for key in _REPLY if key in reply}
        return {**kept, "content": _canonical_content(reply.get("content"), names)}

    @override
    def calls(self, reply: Json) -> tuple[Call, ...]:
        return tuple(
            Call(block["id"], block["name"], block["input"])
            for block in reply.get("content", ())
            if block.get("type") == "tool_use"
        )

    @override
    def offered(self, request: Mapping[str, Json]) -> tuple[str, ...]:
        return tuple(tool["name"] for tool in request.get("tools", ()) if "name" in tool)

    @override
    def usage(self, reply: Json) -> Usage:
        billed = reply.get("usage") or {}
        return Usage(**{name: billed.get(name) or 0 for name in Usage.model_fields})

    @override
    def complete(self, reply: Json) -> bool:
        return reply.get("stop_reason") in _COMPLETE


def as_sent(
    body: Mapping[str, Json], *, headers: Mapping[str, Any], query: Mapping[str, Any]
) -> dict[str, Json]:
    """A request as it is recorded: the body, and beside it what else can change an answer."""
    betas = [value for key, value in headers.items() if key.lower() == _BETA]
    return {
        **body,
        **({_BETA: betas[-1]} if betas and isinstance(betas[-1], str) else {}),
        **({_QUERY: dict(query)} if query else {}),
    }


def body_of(request: Mapping[str, Json]) -> dict[str, Json]:
    """The body of a request that ``as_sent`` made."""
    return {key: value for key, value in request.items() if key not in (_BETA, _QUERY)}


def _without_hints(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_hints(item) for key, item in value.items() if key not in _HINTS}
    if isinstance(value, list | tuple):
        return [_without_hints(item) for item in value]
    return value


def _canonical_content(content: Json, names: Names) -> Json:
    """Content blocks; a plain string is the block the API makes of it."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_canonical_block(block, names) for block in content or ()]


def _canonical_block(block: Json, names: Names) -> Json:
    kind = block.get("type")
    kept = {}
    for key, value in block.items():
        if key in _HINTS or key in _MADE_UP:
            continue
        if key in _IDS and kind in _BLOCKS_WITH_IDS:
            kept[key] = names[value]
        elif key == "content" and kind == "tool_result":
            kept[key] = _canonical_content(value, names)
        else:
            # A tool's own arguments are data, in which "cache_control" is no hint.
            kept[key] = value if key == "input" else _without_hints(value)
    return kept
