"""The events of a streamed reply: the message they come to, and how it is streamed again.

Pure functions and state; nothing here reads or sends. What the API streams is documented at
https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from typing import Any

from ...graphstore.canonical import Json
from ..messages_wire import as_events

__all__ = [
    "BrokenStream",
    "EventReader",
    "StreamedMessage",
    "UnreadableStream",
    "as_message",
    "as_streamed",
    "request_id_of",
    "with_request_id",
]

#: Where a recorded reply keeps how it came: as which events, and under which id the service knows
#: the request. They are no fields of the API's.
EVENTS, REQUEST_ID = "execgraph_events", "execgraph_request_id"

_OF_AWS = "application/vnd.amazon.eventstream"
#: The texts that come in parts: where a delta of this kind has its part.
_PARTS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


#: Why a reply ends whose calls are whole.
_WHOLE = frozenset({"end_turn", "tool_use"})
_NOT_AS_IT_SHOULD_BE = (AttributeError, IndexError, KeyError, TypeError)


class BrokenStream(Exception):
    """Events that are no reply: the service failed in their middle, or they are out of order."""


class UnreadableStream(BrokenStream):
    """A stream that cannot be read here, however often it is asked for."""


class EventReader:
    """Reads events from the bytes of a stream, in whatever pieces they come.

    ``headers``: the response's; with ``unpacked`` its content encoding is undone already.
    """

    def __init__(self, headers: Mapping[str, str], *, unpacked: bool = False) -> None:
        packed = "identity" if unpacked else headers.get("content-encoding", "identity").lower()
        if packed not in ("identity", "gzip", "deflate"):
            raise UnreadableStream(f"the stream is packed as {packed!r}, which is not read here")
        self._unpack = None if packed == "identity" else zlib.decompressobj(wbits=47)
        of_aws = headers.get("content-type", "").startswith(_OF_AWS)
        self._texts = _texts_of_aws() if of_aws else _Lines()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The events that ``data`` completes. Raises BrokenStream if they cannot be read."""
        try:
            plain = data if self._unpack is None else self._unpack.decompress(data)
        except zlib.error as error:
            raise BrokenStream(f"the stream cannot be unpacked: {error}") from error
        yield from map(_event, self._texts.feed(plain))


class _Lines:
    """Server-sent events: what an event says is told in its name too."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that has not ended
        self._said: list[bytes] = []  # by the lines of an event that has not ended

    def feed(self, data: bytes) -> Iterator[bytes]:
        first, *lines = data.split(b"\n")
        self._rest.append(first)
        for line in lines:
            yield from self._line(b"".join(self._rest).rstrip(b"\r"))
            self._rest = [line]

    def _line(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._said.append(line.removeprefix(b"data:"))
        elif not line and self._said:
            said, self._said = b"\n".join(self._said), []
            yield said


class _FramesOfAws:
    """The events of Bedrock, each in a binary frame. ``frames``: botocore's reader of them;
    ``broken``: what it raises."""

    def __init__(self, frames: Any, broken: type[Exception]) -> None:
        self._frames = frames
        self._broken = broken

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._frames.add_data(data)
        try:
            for frame in self._frames:
                event = json.loads(frame.payload)
                if not isinstance(event, dict) or "bytes" not in event:
                    raise BrokenStream(f"the service failed in the middle: {event}")
                yield b64decode(event["bytes"])
        except (self._broken, ValueError) as error:
            raise BrokenStream(f"a frame cannot be read: {error}") from error


def _texts_of_aws() -> _FramesOfAws:
    try:
        from botocore.eventstream import EventStreamBuffer, ParserError
    except ImportError:
        raise UnreadableStream(
            "Bedrock streams are read by botocore: install anthropic[bedrock]"
        ) from None
    return _FramesOfAws(EventStreamBuffer(), ParserError)


def _event(text: bytes) -> dict[str, Any]:
    try:
        event = json.loads(text)
    except ValueError as error:
        raise BrokenStream(f"an event is no JSON: {error}") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise BrokenStream("an event has no type")
    return event


class StreamedMessage:
    """The message that a stream comes to, event by event.

    ``ended``: its last event has come. What has come until then is a message that was cut.
    """

    def __init__(self) -> None:
        self.ended = False
        self.begun = False
        self._message: dict[str, Any] = {}
        self._parts: dict[int, list[str]] = {}  # of the block that is open, by its index
        self._closed = 0  # so many blocks
        self._cut = False  # the arguments of a call are no whole JSON
        self._events: list[dict[str, Any]] = []

    def take(self, events: Iterable[dict[str, Any]]) -> None:
        """More events, up to the last one of the message. Raises BrokenStream."""
        for event in events:
            self.add(event)
            if self.ended:
                return

    def add(self, event: dict[str, Any]) -> None:
        """One more event. Raises BrokenStream if it cannot follow those before."""
        kind = event["type"]
        if kind == "error":
            raise BrokenStream(f"the service failed in the middle: {event.get('error')}")
        if self.ended or (kind not in ("message_start", "ping") and not self.begun):
            raise BrokenStream(f"{kind} is out of order")
        try:
            self._take(kind, event)
        except _NOT_AS_IT_SHOULD_BE as error:
            raise BrokenStream(f"{kind} is not as it should be: {error!r}") from error
        self._events.append(event)

    @property
    def message(self) -> dict[str, Any]:
        """The message so far, with the events that it came as. Of one that was cut no reason to
        stop is told, whatever was announced."""
        for index in list(self._parts):
            with suppress(BrokenStream, *_NOT_AS_IT_SHOULD_BE):  # what has come of it is no block
                self._close(index)
        cut = {} if self.ended else {"stop_reason": None}
        return {**self._message, **cut, EVENTS: list(_joined(self._events))}

    @property
    def billed(self) -> Mapping[str, Json]:
        """The usage told so far."""
        usage: Mapping[str, Json] = self._message.get("usage") or {}
        return usage

    def _take(self, kind: str, event: dict[str, Any]) -> None:
        match kind:
            case "message_start":
                self._begin(event["message"])
            case "content_block_start":
                self._open(event["index"], event["content_block"])
            case "content_block_delta":
                self._add(event["index"], event["delta"])
            case "content_block_stop":
                self._close(event["index"])
            case "message_delta":
                self._change(event)
            case "message_stop":
                self._end()
            case _:
                pass  # a ping; and what may be added to the API later and is no part of a message

    def _begin(self, message: dict[str, Any]) -> None:
        if self.begun:
            raise BrokenStream("the message begins twice")
        self._message = {**message, "content": [dict(it) for it in message["content"]]}
        self.begun = True

    def _open(self, index: int, block: dict[str, Any]) -> None:
        content = self._message["content"]
        if index != len(content):
            raise BrokenStream(f"block {index} begins, and {len(content)} blocks have come")
        content.append(dict(block))
        if block["type"] == "fallback":  # another model goes on with the reply
            self._message["model"] = block["to"]["model"]

    def _add(self, index: int, delta: dict[str, Any]) -> None:
        block, kind = self._message["content"][index], delta["type"]
        if index < self._closed:
            raise BrokenStream(f"block {index} goes on, and has ended")
        if kind in _PARTS:
            self._parts.setdefault(index, []).append(delta[_PARTS[kind]])
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        elif kind in ("signature_delta", "compaction_delta"):
            block.update({key: value for key, value in delta.items() if key != "type"})
        else:
            raise UnreadableStream(f"a change of kind {kind!r} is not known")

    def _close(self, index: int) -> None:
        block = self._message["content"][index]
        self._closed = max(self._closed, index + 1)
        if index not in self._parts:
            return
        text = "".join(self._parts.pop(index))
        if block["type"] in ("text", "thinking"):
            block[block["type"]] = block.get(block["type"], "") + text
        elif text:
            block["input"], is_whole = _arguments(text)
            self._cut = self._cut or not is_whole

    def _end(self) -> None:
        for index in list(self._parts):
            self._close(index)
        reason = self._message.get("stop_reason")
        if self._cut and reason in _WHOLE:
            raise BrokenStream(f"it ended by {reason}, and the arguments of a call did not")
        self.ended = True

    def _change(self, event: dict[str, Any]) -> None:
        changed = {
            key: value for key, value in event.items() if key not in ("type", "delta", "usage")
        }
        for key, value in {**changed, **event["delta"]}.items():
            if value is not None:
                self._message[key] = value
        billed = {key: it for key, it in (event.get("usage") or {}).items() if it is not None}
        self._message["usage"] = {**(self._message.get("usage") or {}), **billed}


def _arguments(text: str) -> tuple[Json, bool]:
    """The arguments of a call, and whether they are whole: of one that was cut, as much as came."""
    from jiter import from_json  # as the SDK does

    with suppress(ValueError):
        return from_json(text.encode()), True
    try:
        return from_json(text.encode(), partial_mode=True), False
    except ValueError as error:
        raise BrokenStream(f"the arguments of a call are no JSON: {error}") from error


def _joined(events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Events with those that add to one text told once, with their parts as a list."""
    for key, group in groupby(events, _adds_to):
        if key is None:
            yield from group
        else:
            index, kind, field = key
            parts = [event["delta"][field] for event in group]
            delta = {"type": kind, field: parts}
            yield {"type": "content_block_delta", "index": index, "delta": delta}


def _adds_to(event: dict[str, Any]) -> tuple[int, str, str] | None:
    if event["type"] != "content_block_delta" or event.keys() != {"type", "index", "delta"}:
        return None
    delta = event["delta"]
    field = _PARTS.get(delta["type"], "")
    if delta.keys() != {"type", field}:
        return None
    return event["index"], delta["type"], field


def _parted(events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events of which ``_joined`` made these."""
    for event in events:
        delta = event["delta"] if event["type"] == "content_block_delta" else {}
        field = _PARTS.get(delta.get("type", ""), "")
        if not isinstance(delta.get(field), list):
            yield event
            continue
        for part in delta[field]:
            yield {**event, "delta": {**delta, field: part}}


def as_streamed(reply: Mapping[str, Any]) -> Iterator[bytes]:
    """A recorded reply as server-sent events: as it came, or as the API would stream it."""
    if (events := reply.get(EVENTS)) is None:
        yield from as_events(as_message(reply))
        return
    for event in _parted(events):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def as_message(reply: Any) -> Any:
    """A recorded reply as a message of the API."""
    if not isinstance(reply, Mapping) or not reply.keys() & {EVENTS, REQUEST_ID}:
        return reply
    return {key: value for key, value in reply.items() if key not in (EVENTS, REQUEST_ID)}


def with_request_id(reply: Json, request_id: str | None) -> Json:
    """A reply as it is recorded, with the id under which the service knows the request."""
    if request_id is None or not isinstance(reply, Mapping):
        return reply
    return {**reply, REQUEST_ID: request_id}


def request_id_of(reply: Json) -> str | None:
    """The id of the request that a recorded reply answered; None if it was not recorded."""
    id_ = reply.get(REQUEST_ID) if isinstance(reply, Mapping) else None
    return id_ if isinstance(id_, str) else None
