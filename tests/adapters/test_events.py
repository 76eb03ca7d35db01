"""Events of streams as a hostile proxy, or a newer API, sends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from execgraph.adapters.anthropic.events import (
    BrokenStream,
    EventReader,
    StreamedMessage,
    as_message,
    as_streamed,
)
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


CALL = {"type": "tool_use", "name": "delete", "input": {"path": "/tmp/a/long/path/of/some/file"}}
SAID = message(
    ASKED,
    [{"type": "thinking", "thinking": "Hm. " * 9}, {"type": "text", "text": "So."}, CALL],
    None,
)
LONG = [it for it in as_events(SAID) if b"event: ping" not in it]


def ended(*pieces: bytes) -> Any:
    """The message that was streamed; None if it is known to be none."""
    try:
        streamed = read(*pieces)
    except BrokenStream:
        return None
    return as_message(streamed.message) if streamed.ended else None


def test_the_whole_stream_is_the_message() -> None:
    assert ended(*LONG) == SAID


@pytest.mark.parametrize("number", range(len(LONG)))
def test_a_stream_that_breaks_at_an_event_has_not_ended(number: int) -> None:
    assert ended(*LONG[:number]) is None


def is_part(event: bytes) -> bool:
    """Whether an event is one of several that add to a text: nobody can tell that one is lost, or
    comes twice, unless what they come to is no JSON any more."""
    return b"text_delta" in event or b"thinking_delta" in event or b"signature_delta" in event


def calls(reply: Any) -> list[Any]:
    return [it["input"] for it in reply["content"] if it["type"] == "tool_use"]


@pytest.mark.parametrize("number", [it for it, event in enumerate(LONG) if not is_part(event)])
@pytest.mark.parametrize("what", ["lost", "twice", "later"])
def test_events_that_are_lost_or_doubled_or_out_of_order_give_no_other_call(
    number: int, what: str
) -> None:
    one, more = LONG[number], LONG[number + 1 :]
    moved = {"lost": more, "twice": [one, one, *more], "later": [*more[:1], one, *more[1:]]}[what]
    reply = ended(*LONG[:number], *moved)
    assert reply is None or calls(reply) == calls(SAID)
    assert reply is None or reply["stop_reason"] in (None, "tool_use")


def test_a_call_whose_arguments_were_cut_is_whole_only_if_the_reply_says_so() -> None:
    start = event("message_start", message={**SAID, "content": []})
    call = event(
        "content_block_start", index=0, content_block={**CALL, "id": "toolu_1", "input": {}}
    )
    part = event(
        "content_block_delta",
        index=0,
        delta={"type": "input_json_delta", "partial_json": '{"path": "/"'},
    )
    stop, end = event("content_block_stop", index=0), event("message_stop")

    def by(reason: str) -> bytes:
        return event("message_delta", delta={"stop_reason": reason}, usage={})

    assert ended(start, call, part, stop, by("tool_use"), end) is None
    cut = ended(start, call, part, stop, by("max_tokens"), end)
    assert calls(cut) == [{"path": "/"}]
    assert cut["stop_reason"] == "max_tokens"
