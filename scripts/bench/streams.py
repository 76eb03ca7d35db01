"""The first byte of a served stream, beside that of a served plain reply, through the middleware.

The reply is recorded as the stream that the real SDK got, and is served in a run of its own each
time. A short reply shows what serving costs, a long one whether that grows with what is streamed.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from anthropic import AsyncAnthropic

from execgraph import Engine
from execgraph.adapters.messages_api import Answer, Brain, MessagesServer, text

from .measure import Row, Setting, Side, ratio, side_by_side

__all__ = ["run"]

_SIZES = {"1 KB": 1_000, "100 KB": 100_000}
_STREAM, _PLAIN = "stream", "plain reply"
_GOAL = 1.5


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s."""
    rows = []
    for size, letters in _SIZES.items():
        setting.say.phase(f"a reply of {size}, served in turns as a stream and whole")
        with MessagesServer(_saying(letters)) as server, tempfile.TemporaryDirectory() as f:
            engine = Engine(f"sqlite:///{f}/graph.db")
            middleware = engine.middleware()
            client = AsyncAnthropic(base_url=server.url, api_key="local", middleware=[middleware])
            async with client, engine:
                p50s = await _in_turns(setting, engine, client)
            assert server.requests == 1, "a stream asked the model"
        rows.append(ratio(f"first byte of {size}", p50s, _STREAM, _PLAIN, _GOAL))
    return rows


def _saying(letters: int) -> Brain:
    return lambda _: Answer([text("words " * (letters // 6))])


async def _in_turns(setting: Setting, engine: Engine, client: AsyncAnthropic) -> Any:
    asked: Any = {
        "model": "claude-sonnet-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    }
    create = client.messages.with_raw_response.create
    async with AsyncExitStack() as left:
        runs = _runs(engine, left)

        async def stream() -> None:
            response = await create(**asked, stream=True)
            async for piece in response.http_response.aiter_raw():
                assert piece
                break

        async def plain() -> None:
            response = await create(**asked)
            assert await response.read()

        async def record() -> None:
            async with engine.run("program", "go"):
                response = await create(**asked, stream=True)
                await response.http_response.aread()

        async def enter() -> None:
            await anext(runs)

        await record()
        return await side_by_side(setting, Side(_STREAM, stream, enter), Side(_PLAIN, plain, enter))


async def _runs(engine: Engine, left: AsyncExitStack) -> AsyncIterator[None]:
    """A run after the other, each of which is left when the next one is entered."""
    for _ in itertools.count():
        await left.aclose()
        await left.enter_async_context(engine.run("program", "go"))
        yield
