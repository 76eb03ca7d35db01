"""How the Messages API is read.

What a request is known by is what can change its answer: docs/keys.md has the list, field by
field. Left out are hints (``cache_control`` where the API takes one: on a request, a tool, a
content block), who pays, and what the service makes up on every call: message ids, usage,
thinking signatures; ids of calls are named by first appearance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from typing_extensions import override

from ...engine.model.client import Call, Dialect, Names
from ...graphstore.model import Usage
from .events import as_message

__all__ = ["CHANGES_NO_ANSWER", "MessagesDialect", "terms_of", "usage_of"]

BETA = "anthropic-beta"
QUERY = "query"
WHO = "base_url"

#: Fields of a request that no answer depends on: how it travels, who pays, and hints.
CHANGES_NO_ANSWER = frozenset(
    {
        "billing_policy",
        "cache_control",
        "diagnostics",
        "extra_headers",
        "extra_query",
        "fallback_credit_token",
        "metadata",
        "service_tier",
        "stream",
        "timeout",
        "user_profile_id",
        "workspace_id",
    }
)
_HINT = "cache_control"
_THOUGHT = frozenset({"thinking", "redacted_thinking"})
_BETAS = frozenset({"betas", "anthropic_beta"})  # in a body, where a platform takes them there
_IDS = frozenset({"id", "tool_use_id"})
_BLOCKS = frozenset({"content", "tool_changes", "tool_references"})
_TEXT_OR_BLOCKS = frozenset({"tool_result", "mcp_tool_result", "content"})  # a text is a block
_HOLD_BLOCKS = frozenset({"content", "source", "citations"})
#: What a block is known by to the API, and to who reads it; all else in it is data.
_NAMES_OF_BLOCKS = _IDS | {_HINT, "type", "name", "media_type", "caller", "signature"}
# What a reply says beside what it cost and what it is called.
_REPLY = ("type", "role", "content", "stop_reason", "stop_sequence")

_COMPLETE = frozenset({"end_turn", "tool_use", "stop_sequence"})
_CALLS = frozenset({"end_turn", "tool_use"})  # a stop sequence may cut a call
_PAUSED = frozenset({"pause_turn", "compaction"})
_REMEDIES = {
    "max_tokens": "raise max_tokens",
    "model_context_window_exceeded": "give the task less to read, or split it",
    "refusal": "ask for something else, or ask another model",
}


class MessagesDialect(Dialect):
    """Requests and replies of ``messages.create``."""

    name = "anthropic.messages"

    @override
    def model(self, request: Mapping[str, Any]) -> str:
        return str(request.get("model", "unknown"))

    @override
    def split(self, request: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        head = {key: value for key, value in request.items() if key != "messages"}
        return head, list(request.get("messages", ()))

    @override
    def canonical_head(self, head: Any) -> Any:
        kept = {
            key: value
            for key, value in head.items()
            if key not in CHANGES_NO_ANSWER and value is not None
        }
        for name in _BETAS & kept.keys():
            kept[name] = sorted(kept[name])
        if BETA in kept:
            kept[BETA] = ",".join(sorted({beta.strip() for beta in kept[BETA].split(",")}))
        if "system" in kept:
            kept["system"] = _canonical_system(kept["system"])
        if "tools" in kept:
            kept["tools"] = [_without_hint(tool) for tool in kept["tools"]]
        return kept

    @override
    def canonical_message(self, message: Any, names: Names) -> Any:
        present = {key: value for key, value in message.items() if value is not None}
        return {**present, "content": _canonical_content(message.get("content"), names)}

    @override
    def canonical_reply(self, reply: Any, names: Names) -> Any:
        kept = {key: reply[key] for key in _REPLY if key in reply}
        return {**kept, "content": _canonical_content(reply.get("content"), names)}

    @override
    def reply_id(self, reply: Any) -> str | None:
        return reply.get("id") if isinstance(reply, Mapping) else None

    @override
    def continues(self, request: Mapping[str, Any]) -> str | None:
        thread = request.get("thread")
        return thread.get("previous_message_id") if isinstance(thread, Mapping) else None

    @override
    def continuing(self, head: Any, name: str) -> Any:
        return {**head, "thread": {**head["thread"], "previous_message_id": name}}

    @override
    def hide(self, request: Mapping[str, Any], hide: Callable[[Any], Any]) -> Mapping[str, Any]:
        # A value may be called as a model, a tool, or a role is.
        return {
            key: part if part is None or key not in _HIDDEN else _HIDDEN[key](part, hide)
            for key, part in request.items()
        }

    @override
    def parts(self, reply: Any) -> list[Any]:
        return [_part(block) for block in reply.get("content", ())]

    @override
    def said_again(
        self, request: Mapping[str, Any], said: Callable[[Any], Any]
    ) -> Mapping[str, Any]:
        messages = [
            {**it, "content": _said_again(it.get("content"), said)}
            if it.get("role") == "assistant"
            else it
            for it in request.get("messages") or ()
        ]
        return {**request, "messages": messages} if messages else request

    @override
    def read_back(self, reply: Any, real: Callable[[Any], Any]) -> Any:
        # What was thought is signed as it is, and sent back so.
        content = [
            block if block.get("type") in _THOUGHT else real(block)
            for block in reply.get("content", ())
        ]
        ended_by = {key: real(reply[key]) for key in ("stop_sequence",) if key in reply}
        return {**reply, **ended_by, "content": content}

    @override
    def said(self, reply: Any) -> Any:
        return as_message(reply)

    @override
    def calls(self, reply: Any) -> tuple[Call, ...]:
        if reply.get("stop_reason") not in _CALLS:
            return ()
        return tuple(Call(it["id"], it["name"], it["input"]) for it in _of_type("tool_use", reply))

    @override
    def offered(self, request: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(tool["name"] for tool in request.get("tools", ()) if "name" in tool)

    @override
    def usage(self, reply: Any) -> Usage | None:
        billed = reply.get("usage")
        return usage_of(billed) if isinstance(billed, Mapping) else None

    @override
    def terms(self, reply: Any) -> Mapping[str, str]:
        billed = reply.get("usage")
        return terms_of(billed) if isinstance(billed, Mapping) else {}

    @override
    def complete(self, reply: Any) -> bool:
        return reply.get("stop_reason") in _COMPLETE

    @override
    def stop_reason(self, reply: Any) -> str | None:
        reason: str | None = reply.get("stop_reason")
        return reason

    @override
    def paused(self, reply: Any) -> bool:
        if reply.get("stop_reason") not in _PAUSED or not reply.get("content"):
            return False
        return not any(_of_type("tool_use", reply))

    @override
    def no_answer(self, reply: Any) -> str | None:
        reason, called = reply.get("stop_reason"), list(_of_type("tool_use", reply))
        if reason in _CALLS or (reason in _COMPLETE and not called):
            return None
        remedy = _REMEDIES.get(str(reason), "look into the reply, which is kept with the run")
        if called:
            tools = ", ".join(call["name"] for call in called)
            cut = f"the model's reply ended by {reason!r}, so its calls may be cut"
            return f"{cut}; none was carried out ({tools}); {remedy}"
        if reason == "refusal":
            return f"the model refused to go on{_explained(reply)}; {remedy}"
        if not any(block["text"] for block in _of_type("text", reply)):
            return f"the model's reply ended by {reason!r} and says nothing; {remedy}"
        return None


def _part(block: Any) -> Any:
    """What a block of a reply is known by when it is sent back. A program may drop the rest."""
    return {key: block[key] for key in ("id", "text", "input") if block.get(key) is not None}


def _said_again(content: Any, said: Callable[[Any], Any]) -> Any:
    match content:
        case str():
            return (said({"text": content}) or {"text": content})["text"]
        case list() | tuple():
            return [
                {**block, **(said(_part(block)) or {})} if isinstance(block, Mapping) else block
                for block in content
            ]
    return content


def _hidden_content(content: Any, hide: Callable[[Any], Any]) -> Any:
    """Content blocks with what is data in them hidden, and not what the API calls them by. What was
    thought was said without the values, and is signed as it is."""
    match content:
        case list() | tuple():
            return [_hidden_content(block, hide) for block in content]
        case Mapping() if content.get("type") in _THOUGHT:
            return content
        case Mapping():
            return {key: _hidden_part(key, part, hide) for key, part in content.items()}
    return hide(content)


def _hidden_part(key: str, part: Any, hide: Callable[[Any], Any]) -> Any:
    if key in _NAMES_OF_BLOCKS:
        return part
    return _hidden_content(part, hide) if key in _HOLD_BLOCKS else hide(part)


def _hidden_messages(messages: Any, hide: Callable[[Any], Any]) -> Any:
    return [{**it, "content": _hidden_content(it.get("content"), hide)} for it in messages]


def _hidden_each(holders: Any, hide: Callable[[Any], Any]) -> Any:
    return [_hidden_fields(it, hide) for it in holders]


def _hidden_fields(holder: Any, hide: Callable[[Any], Any]) -> Any:
    """A tool, a format, or the like, with what it says hidden. All else in it is for the API."""
    if not isinstance(holder, Mapping):
        return holder
    return {
        key: _HIDDEN_INSIDE[key](part, hide) if key in _HIDDEN_INSIDE else part
        for key, part in holder.items()
    }


def _hidden_schema(schema: Any, hide: Callable[[Any], Any]) -> Any:
    """A JSON schema with what it says of values hidden, and not its keywords and names."""
    match schema:
        case list() | tuple():
            return [_hidden_schema(it, hide) for it in schema]
        case Mapping():
            return {key: _hidden_keyword(key, part, hide) for key, part in schema.items()}
    return schema


def _hidden_keyword(key: str, part: Any, hide: Callable[[Any], Any]) -> Any:
    if key in _BY_NAME and isinstance(part, Mapping):
        return {name: _hidden_schema(schema, hide) for name, schema in part.items()}
    return hide(part) if key in _SAID_IN_A_SCHEMA else _hidden_schema(part, hide)


def _as_data(part: Any, hide: Callable[[Any], Any]) -> Any:
    return hide(part)


_SAID_IN_A_SCHEMA = frozenset(
    {"$comment", "const", "default", "description", "enum", "example"}
    | {"examples", "pattern", "title"}
)
_BY_NAME = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
#: Where something said may stand in a request, and in what holds it there.
_HIDDEN: Mapping[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "context_management": _hidden_fields,
    "messages": _hidden_messages,
    "metadata": _hidden_fields,
    "output_config": _hidden_fields,
    "output_format": _hidden_fields,
    "stop_sequences": _as_data,
    "system": _hidden_content,
    "tools": _hidden_each,
}
_HIDDEN_INSIDE: Mapping[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "description": _as_data,
    "edits": _hidden_each,
    "format": _hidden_fields,
    "input_examples": _as_data,
    "input_schema": _hidden_schema,
    "instructions": _as_data,
    "schema": _hidden_schema,
    "user_id": _as_data,
}


def usage_of(billed: Mapping[str, Any]) -> Usage:
    """The usage that a reply, or the events of a stream, tell of."""
    plain = {
        name: billed.get(name) or 0
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
        )
    }
    cached, served = billed.get("cache_creation") or {}, billed.get("server_tool_use") or {}
    return Usage(
        **plain,
        cache_creation_1h_input_tokens=cached.get("ephemeral_1h_input_tokens") or 0,
        web_search_requests=served.get("web_search_requests") or 0,
    )


def terms_of(billed: Mapping[str, Any]) -> dict[str, str]:
    """On what else the price depends. Where the table knows no such price, none is told."""
    tier, speed, place = (billed.get(it) for it in ("service_tier", "speed", "inference_geo"))
    return {
        **({"processing": "batch"} if tier == "batch" else {}),
        **({"service_tier": str(tier)} if tier not in (None, "standard", "batch") else {}),
        **({"speed": str(speed)} if speed not in (None, "standard") else {}),
        **({"inference_geo": str(place)} if place not in _NO_SURCHARGE else {}),
    }


_NO_SURCHARGE = (None, "", "global", "not_available")


def _explained(reply: Any) -> str:
    details = reply.get("stop_details") or {}
    refusal = ": ".join(details[key] for key in ("category", "explanation") if details.get(key))
    return f" ({refusal})" if refusal else ""


def _of_type(kind: str, reply: Any) -> Iterator[Any]:
    return (block for block in reply.get("content") or () if block.get("type") == kind)


def _without_hint(value: Any) -> Any:
    """A tool or a block without its hint. What is inside may be data, in which it is no hint."""
    if not isinstance(value, Mapping):
        return value
    return {key: item for key, item in value.items() if key != _HINT and item is not None}


def _canonical_system(system: Any) -> Any:
    """A prompt of one text is that text, whether it came as a block or not."""
    if isinstance(system, str):
        return system
    blocks = [_without_hint(block) for block in system]
    match blocks:
        case [{"type": "text", "text": text, **more}] if not more:
            return text
    return blocks


def _canonical_content(content: Any, names: Names) -> Any:
    """Content blocks; a plain string is the block the API makes of it."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_canonical_block(block, names) for block in _in_order(content or (), names)]


def _in_order(blocks: Iterable[Any], names: Names) -> Iterator[Any]:
    """Results that stand side by side in the order of their calls: they came as they ended."""
    for is_result, group in groupby(blocks, lambda block: block.get("type") == "tool_result"):
        results = list(group)
        if is_result:
            results.sort(key=lambda block: names.rank(block.get("tool_use_id", "")))
        yield from results


def _canonical_block(block: Any, names: Names) -> Any:
    if not isinstance(block, Mapping):
        return block
    kept = {key: _canonical_part(block, key, names) for key in _without_hint(block)}
    # The signature stands for the thinking, and is all there is of one that is not shown.
    if block.get("type") == "thinking" and block.get("thinking"):
        kept.pop("signature", None)
    return kept


def _canonical_part(block: Any, key: str, names: Names) -> Any:
    """What stands in ``block`` under ``key``. Nested blocks have hints too; all else is data."""
    kind, value = str(block.get("type")), block[key]
    if key in _IDS and kind.endswith(("tool_use", "tool_result")):
        return names[value]
    if isinstance(value, Mapping):
        return _canonical_inner(key, value, names)
    if key in _BLOCKS and (not isinstance(value, str) or kind in _TEXT_OR_BLOCKS):
        return _canonical_content(value, names)
    return value


def _canonical_inner(key: str, value: Mapping[str, Any], names: Names) -> Any:
    if key in ("content", "source"):
        return _canonical_block(value, names)
    if key == "caller" and "tool_id" in value:
        return {**value, "tool_id": names[value["tool_id"]]}
    if key == "tool" and "definition" in value:
        return {**value, "definition": _without_hint(value["definition"])}
    return value
