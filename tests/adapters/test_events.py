"""Events of streams as a hostile proxy, or a newer API, sends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from execgraph.adapters.anthropic.events import EventReader, StreamedMessage, as_streamed
from execgraph.adapters.messages_wire import as_events, message

ASKED = {"model": "m", "messages": []}
REPLY = message(ASKED, [{"type": "text", "text": "Hi. " * 20}], None)
EVENTS = list(as_events(REPLY))


def event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def read(*pieces: bytes) -> StreamedMessage:
    reader, streamed = EventReader({}), StreamedMessage()
    for piece in pieces:
        streamed.take(reader.feed(piece))
    return streamed


def in_pieces(size: int) -> Iterator[bytes]:
    whole = b"".join(EVENTS)
    return (whole[start : start + size] for start in range(0, len(whole), size))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_read_in_whatever_pieces_it_comes(size: int) -> None:
    streamed = read(*in_pieces(size))
    assert streamed.ended
    assert streamed.message["content"] == REPLY["content"]


@pytest.mark.parametrize("more", [b"data: [DONE]\n\n", event("ping"), event("message_stop")])
def test_what_follows_the_last_event_is_no_part_of_the_message(more: bytes) -> None:
    assert read(b"".join(EVENTS) + more).message["content"] == REPLY["content"]


@pytest.mark.parametrize("delta", ["a text", {"type": "text_delta", "text": ["a"]}])
def test_an_event_that_is_not_known_is_served_as_it_came(delta: Any) -> None:
    novel = event("novel_thing", delta=delta)
    streamed = read(*EVENTS[:2], novel, *EVENTS[2:])
    assert list(as_streamed(streamed.message)) == [*EVENTS[:2], novel, *EVENTS[2:]]


def test_an_event_may_be_told_in_several_lines() -> None:
    lines = [it.replace(b'"type"', b'\r\ndata: "type"', 1) for it in EVENTS]
    assert read(*lines).message["content"] == REPLY["content"]


@pytest.mark.parametrize("part", ["} nonsense", 5, None])
def test_of_a_call_that_was_cut_nothing_is_told_if_nothing_can_be_read(part: Any) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": part}
    streamed = read(
        EVENTS[0],
        event("content_block_start", index=0, content_block=call),
        event("content_block_delta", index=0, delta=delta),
    )
    assert not streamed.ended
    assert streamed.message["content"] == [call]
    assert streamed.message["stop_reason"] is None
