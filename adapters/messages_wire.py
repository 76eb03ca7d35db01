"""What the Messages API says on the wire: ids, usage, stream events, and what it refuses.

Pure functions over decoded JSON; `messages_api` has the server that uses them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = [
    "ERROR_TYPES",
    "Body",
    "Refused",
    "as_events",
    "check_conversation",
    "error_event",
    "estimate_tokens",
    "message",
    "new_id",
]

Body = Mapping[str, Any]
_Block = dict[str, Any]

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
#: Rule of thumb of the service's own documentation for English text.
_CHARACTERS_PER_TOKEN = 4
_DELTA_CHARACTERS = 24


class Refused(Exception):
    """The service answers with `status` and this message, and `details` for programs."""

    def __init__(self, status: int, reason: str, details: Mapping[str, Any] | None = None) -> None:
        self.status = status
        self.details = details
        super().__init__(reason)


def estimate_tokens(body: Body) -> int:
    """The input tokens of a request: its system prompt, tools and messages, by their length."""
    parts = ("system", "tools", "messages")
    return sum(_tokens_of(body[part]) for part in parts if part in body)


def _tokens_of(value: object) -> int:
    characters = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return -(-characters // _CHARACTERS_PER_TOKEN)


def message(
    body: Body,
    content: Sequence[Mapping[str, Any]],
    stop_reason: str | None,
    usage: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The service's answer to `body`: `content` with fresh ids and signatures, and the usage:
    tokens of input and output, estimated if None."""
    blocks = _fresh_blocks(content)
    calls_a_tool = any(block["type"] == "tool_use" for block in blocks)
    return {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks,
        "stop_reason": stop_reason or ("tool_use" if calls_a_tool else "end_turn"),
        "stop_sequence": None,
        "usage": _usage(*(usage or (estimate_tokens(body), _tokens_of(blocks)))),
    }


def _usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }


def new_id(prefix: str) -> str:
    """An id as the service makes them up."""
    return f"{prefix}_01{secrets.token_hex(11)}"


_PREFIXES = {"tool_use": "toolu", "server_tool_use": "srvtoolu", "mcp_tool_use": "mcptoolu"}


def _fresh_blocks(content: Sequence[Mapping[str, Any]]) -> list[_Block]:
    """``content`` with ids and signatures made up; results of the service's own tools name the
    call before them."""
    blocks: list[_Block] = []
    last = ""
    for block in content:
        fresh = dict(block)
        if (prefix := _PREFIXES.get(block["type"])) is not None:
            last = fresh["id"] = new_id(prefix)
        elif block["type"].endswith("_tool_result"):
            fresh["tool_use_id"] = last
        elif block["type"] == "thinking":
            fresh["signature"] = secrets.token_urlsafe(48)
        blocks.append(fresh)
    return blocks


def check_conversation(messages: Sequence[object]) -> None:
    """Each tool call is answered in the next message, and nothing else is. Raises Refused."""
    called: set[str] = set()
    for index, item in enumerate(messages):
        blocks = _blocks(item)
        if index < len(messages) - 1 and not _content(item):
            raise Refused(400, f"messages.{index}: all messages must have non-empty content")
        answered = {b.get("tool_use_id", "") for b in blocks if b.get("type") == "tool_result"}
        if missing := called - answered:
            raise Refused(
                400,
                f"messages.{index}: `tool_use` ids were found without `tool_result` blocks"
                f" immediately after: {', '.join(sorted(missing))}",
            )
        if unknown := answered - called:
            raise Refused(
                400,
                f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks:"
                f" {', '.join(sorted(unknown))}",
            )
        called = {b.get("id", "") for b in blocks if b.get("type") == "tool_use"}
    if called:
        raise Refused(400, "messages: the last `tool_use` has no `tool_result`")


def _content(message: object) -> Any:
    if not isinstance(message, dict):
        raise Refused(400, "messages: each message is an object")
    return message.get("content")


def _blocks(message: object) -> list[Mapping[str, Any]]:
    content = _content(message)
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def as_events(whole: Mapping[str, Any]) -> Iterator[bytes]:
    """`whole`, a message, as the server-sent events of a stream."""
    usage = whole["usage"]
    opening = {
        **whole,
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": 1},
    }
    yield _event("message_start", message=opening)
    yield _event("ping")
    for index, block in enumerate(whole["content"]):
        yield _event("content_block_start", index=index, content_block=_opening(block))
        for delta in _deltas(block):
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=ending, usage={"output_tokens": usage["output_tokens"]})
    yield _event("message_stop")


def error_event(kind: str) -> bytes:
    """What a stream says last when the service fails in its middle."""
    return _event("error", error={"type": kind, "message": "an injected failure"})


def _event(kind: str, **data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def _opening(block: Mapping[str, Any]) -> _Block:
    match block["type"]:
        case "text":
            return {**block, "text": ""}
        case "thinking":
            return {**block, "thinking": "", "signature": ""}
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            return {**block, "input": {}}
        case _:
            return dict(block)


def _deltas(block: Mapping[str, Any]) -> Iterator[_Block]:
    match block["type"]:
        case "text":
            for part in _parts(block["text"]):
                yield {"type": "text_delta", "text": part}
        case "thinking":
            for part in _parts(block["thinking"]):
                yield {"type": "thinking_delta", "thinking": part}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            for part in _parts(json.dumps(block["input"])):
                yield {"type": "input_json_delta", "partial_json": part}
        case _:
            return


def _parts(whole: str) -> Iterator[str]:
    for start in range(0, len(whole), _DELTA_CHARACTERS):
        yield whole[start : start + _DELTA_CHARACTERS]
