"""Streams of Bedrock come in binary frames: they are recorded as they pass, and served again."""

from __future__ import annotations

import base64
import json
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from execgraph import RunFailed
from execgraph.adapters.messages_wire import as_events, message

from .conftest import World, misses
from .test_platforms import AWS, MODEL, Platform, serving

SAID = "A text that comes in several pieces, since it is long."
ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}


_TEXT = 7  # a kind of header


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """A message of ``application/vnd.amazon.eventstream``."""
    named = b"".join(
        struct.pack(">B", len(name))
        + name.encode()
        + struct.pack(">BH", 7, len(value))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 12 + len(named) + len(payload) + 4, len(named))
    checked = prelude + struct.pack(">I", zlib.crc32(prelude)) + named + payload
    return checked + struct.pack(">I", zlib.crc32(checked))


def chunk(event: bytes) -> bytes:
    """What the Messages API streams, as Bedrock does."""
    data = next(line for line in event.split(b"\n") if line.startswith(b"data: "))[6:]
    payload = json.dumps({"bytes": base64.b64encode(data).decode(), "p": "padding"})
    headers = {
        ":event-type": "chunk",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    return frame(headers, payload.encode())


FAILURE = frame(
    {
        ":exception-type": "throttlingException",
        ":content-type": "application/json",
        ":message-type": "exception",
    },
    b'{"message":"Too many requests"}',
)


class Bedrock(Platform):
    """Bedrock, which streams in frames, cut into pieces of any size."""

    cut_after: int | None = None  # frames; then it fails
    broken: bytes = FAILURE
    piece: int = 7

    async def answer(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        body = json.loads(await request.body())
        reply = message(
            {"model": MODEL, "messages": body["messages"]}, [{"type": "text", "text": SAID}], None
        )
        frames = [chunk(event) for event in as_events(reply)]
        if self.cut_after is not None:
            frames[self.cut_after :], self.cut_after = [self.broken], None
        return StreamingResponse(
            self._pieces(b"".join(frames)), media_type="application/vnd.amazon.eventstream"
        )

    async def _pieces(self, data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), self.piece):
            yield data[start : start + self.piece]


@pytest.fixture
def bedrock() -> Iterator[Bedrock]:
    with serving(Bedrock()) as service:
        yield service


def client(bedrock: Bedrock, **more: Any) -> Any:
    return anthropic.AsyncAnthropicBedrock(base_url=bedrock.url, **AWS, **more)


@pytest.mark.parametrize("piece", [1, 7, 100_000])
async def test_a_stream_of_bedrock_is_served_event_by_event(
    world: World, bedrock: Bedrock, piece: int
) -> None:
    bedrock.piece = piece
    engine = world.engine()
    seen = []
    async with engine, client(bedrock, middleware=[engine.middleware()]) as made:
        run = engine.run("program", "go")
        for _ in range(2):
            async with (run := engine.run("program", "go")):
                stream = await made.messages.create(**ASKED, stream=True)
                seen.append([event async for event in stream])
        assert run.result.identical
    assert len(bedrock.paths) == 1
    assert seen[0] == seen[1]
    assert "".join(it.delta.text for it in seen[0] if it.type == "content_block_delta") == SAID


async def test_an_agent_reads_the_frames_of_bedrock(world: World, bedrock: Bedrock) -> None:
    engine = world.engine()
    async with engine, client(bedrock) as made:
        agent = engine.agent("platform", model=MODEL, client=made, tools=[])
        first, again = await agent.execute("go"), await agent.execute("go")
    assert first.output == again.output == SAID
    assert first.tokens > 0
    assert again.identical
    assert len(bedrock.paths) == 1


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("how", ["failure", "checksum"])
async def test_a_stream_of_bedrock_that_fails_is_asked_for_again_and_never_served(
    world: World, bedrock: Bedrock, after: int, how: str
) -> None:
    bedrock.cut_after = after
    bedrock.broken = FAILURE if how == "failure" else FAILURE[:-1] + b"!"
    engine = world.engine()
    async with engine, client(bedrock) as made:
        agent = engine.agent("platform", model=MODEL, client=made, tools=[])
        result = await agent.execute("go")
        assert (result.output, len(result.attempts)) == (SAID, 1)
        assert (await agent.execute("go")).identical
    assert len(bedrock.paths) == 2


async def test_a_program_is_told_of_a_failure_in_the_middle_and_nothing_is_published(
    world: World, bedrock: Bedrock
) -> None:
    bedrock.cut_after = 3
    engine = world.engine()
    async with (
        engine,
        client(bedrock, middleware=[engine.middleware()]) as made,
        engine.run("program", "go") as run,
    ):
        with pytest.raises(anthropic.APIError):
            async for _ in await made.messages.create(**ASKED, stream=True):
                pass
    assert not run.result.recorded
    assert "incomplete answer" in misses(run.result)


async def test_frames_that_cannot_be_read_here_are_not_paid_for_again(
    world: World, bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.eventstream", None)
    engine = world.engine()
    async with engine, client(bedrock) as made:
        agent = engine.agent("platform", model=MODEL, client=made, tools=[])
        with pytest.raises(RunFailed, match=r"install anthropic\[bedrock\]"):
            await agent.execute("go")
    assert len(bedrock.paths) == 1
