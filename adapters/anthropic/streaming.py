"""Decisions whose reply is streamed: what passes is recorded, and served as a stream again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from random import random
from typing import Any, TypeVar, cast

import httpx2
from anthropic import APIConnectionError
from typing_extensions import override

from ...engine.errors import AgentError
from ...engine.model.prices import Bill
from ...engine.outcome.attempts import Attempt, attempted
from ...engine.outcome.cause import Cause, MissKind
from ...engine.program import Handle, ProgramRun
from ...graphstore.canonical import Json, decode, encode
from .dialect import MessagesDialect, usage_of
from .errands import in_loop, running_loop
from .events import (
    BrokenStream,
    EventReader,
    StreamedMessage,
    UnreadableStream,
    as_message,
    as_streamed,
    with_request_id,
)
from .passing import ReportedUsage, Timed
from .sending import failed

__all__ = [
    "AsyncPassing",
    "AsyncServed",
    "NotAnAnswer",
    "Streaming",
    "SyncPassing",
    "SyncServed",
    "answered",
    "received",
    "telling",
    "whole",
]

_log = logging.getLogger("execgraph")
_T = TypeVar("_T")
_OK = 200
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds, as the SDK has them


class NotAnAnswer(Exception):
    """The service answered with an error, which the SDK is to handle: nothing is recorded."""

    def __init__(self, response: Any) -> None:
        self.response = response


async def answered(request: Mapping[str, Json], sent: Awaitable[_T]) -> _T:
    """The response to ``request``. Raises NotAnAnswer for an error, and what sending raises; both
    are attempts of the run that asks."""
    response: Any = await _answered(MessagesDialect().model(request), sent)
    if response.status_code != _OK:
        raise NotAnAnswer(response)
    return cast("_T", response)


async def telling(request: Any, call_next: Callable[[Any], Awaitable[_T]]) -> _T:
    """Middleware of the agents' client: tells of the attempts that the SDK repeats."""
    return await _answered(MessagesDialect().model(request.json or {}), call_next(request))


async def _answered(model: str, sent: Awaitable[_T]) -> _T:
    """Give the response, whatever it is, and tell of an attempt if it is no answer."""
    try:
        response: Any = await sent
    except APIConnectionError as error:
        attempted(Attempt(model, str(error) or type(error).__name__))
        raise
    if response.status_code != _OK:
        attempted(failed(model, response))
    return cast("_T", response)


class _NothingCame(Exception):
    """The stream ended before the message began."""


class Streaming:
    """One decision whose reply is streamed. It lasts from the request until the reply has ended, or
    was left by the program; what has come until then is what it came to. In the run's event
    loop."""

    def __init__(self, run: ProgramRun, request: Mapping[str, Json]) -> None:
        self._run = run
        self._request = request
        self.loop = run.loop
        self._head: asyncio.Future[Any] = run.loop.create_future()
        self._end: asyncio.Future[bytes] = run.loop.create_future()
        self._message = StreamedMessage()
        self._reader: EventReader | None = None
        self._request_id: str | None = None
        self._work: asyncio.Task[Handle] | None = None
        self._finishing: asyncio.Task[None] | None = None

    async def begin(self, send: Callable[[], Awaitable[Any]]) -> tuple[Any, Any]:
        """The SDK's response, whose stream is to be watched; or the reply that was served. Raises
        what asking raises: NotAnAnswer and NotHeld, too."""

        async def ask(_: Mapping[str, Json], begins: Callable[[], None]) -> bytes:
            response = await answered(self._request, send())
            begins()
            self._head.set_result(response)
            return await self._end

        self._work = asyncio.create_task(self._run.ask(self._request, ask, MessagesDialect()))
        try:
            await asyncio.wait((self._work, self._head), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self._work.cancel()
            raise
        if self._head.done():
            return self._head.result(), None
        return None, (await self._work).value

    def watch(self, response: Any, passing: Callable[[Any, Streaming], Any]) -> None:
        """See what passes of a response."""
        raw = response.http_response
        self._request_id = response.request_id
        with suppress(BrokenStream):
            self._reader = EventReader(raw.headers)
        raw.stream = passing(raw.stream, self)
        self._run.before_end(self.finish)

    def read(self, data: bytes) -> bool:
        """Read what passes. Whether the message ends with it, so that ``finish`` is to be called
        before the program goes on."""
        if self._reader is None or self._message.ended:
            return False
        try:
            self._message.take(self._reader.feed(data))
        except BrokenStream as broken:
            _log.warning("a streamed reply is not recorded: %s", broken)
            self._reader = None
        return self._message.ended

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be recorded."""
        return self._end.done()

    async def finish(self) -> None:
        """Record what has come; no more will. Who finishes after another one waits for that."""
        assert self._work is not None
        if self.finished:
            await asyncio.wait((self._work,))
            return
        message, self._message = self._message, StreamedMessage()  # nobody needs it any more
        self._reader = None
        if message.begun:
            self._end.set_result(encode(with_request_id(message.message, self._request_id)))
            await asyncio.shield(self._work)  # a program that is cancelled has paid for it, too
            return
        self._end.set_exception(_NothingCame())
        try:
            await asyncio.shield(self._work)
        except _NothingCame:
            self._leave()

    def finish_soon(self) -> None:
        """Record what has come without waiting, in the run's event loop; the run's end waits for
        it."""
        self._finishing = self.loop.create_task(self.finish())

    def _leave(self) -> None:
        """Note a reply that was paid, and of which nobody knows what it said."""
        model = MessagesDialect().model(self._request)
        cause = Cause(MissKind.UNRECORDED, "a streamed reply that could not be read")
        self._run.running.account.do_not_publish(cause)
        self._run.running.pay(Bill(model, None, cause, {}))


async def whole(
    request: Mapping[str, Json], send: Callable[[], Awaitable[Any]], retries: int
) -> bytes:
    """The whole reply of a stream, which is asked for again if it breaks off: the SDK repeats
    only what fails before the first event. Raises APIConnectionError when it broke so often, and
    AgentError for what cannot be read here, however often."""
    for again in count(1):
        raw = await send()
        message = StreamedMessage()
        try:
            return await _collected(raw.http_response, message)
        except (BrokenStream, httpx2.TransportError) as error:
            usage = usage_of(message.billed) if message.begun else None
            model = MessagesDialect().model(request)
            attempted(Attempt(model, f"the reply broke off: {error}", usage=usage))
            if isinstance(error, UnreadableStream):
                raise AgentError(f"the reply cannot be read: {error}") from error
            if again > retries:
                problem = f"the reply broke off, {again} times in a row: {error}"
                raise APIConnectionError(message=problem, request=raw.http_request) from error
            await asyncio.sleep(min(_FIRST_PAUSE * 2**again, _LONGEST_PAUSE) * random())  # noqa: S311
    raise AssertionError


async def received(
    request: Mapping[str, Json],
    response: Any,
    read: Callable[[Any], Awaitable[bytes]],
    counted: Callable[[Any, ReportedUsage], Any],
) -> bytes:
    """The message that a response comes to, as it is recorded, once all of it is read. Raises what
    reading raises, and APIConnectionError if a stream broke off; that is an attempt of the run."""
    raw, billed = response.http_response, dict[str, Json]()
    if _streamed(raw):
        raw.stream = counted(raw.stream, ReportedUsage(raw.headers, billed.update))
    try:
        return _recorded(response, await read(response))
    except (APIConnectionError, httpx2.TransportError) as error:
        usage = usage_of(billed) if billed else None
        is_told = isinstance(error, APIConnectionError)
        problem = str(error) if is_told else f"the reply broke off: {error}"
        attempted(Attempt(MessagesDialect().model(request), problem, usage=usage))
        raise


def _recorded(response: Any, body: bytes) -> bytes:
    """The message that a response comes to whose ``body`` was read, as it is recorded. Raises
    APIConnectionError if it is a stream that broke off."""
    return encode(with_request_id(decode(_message_of(response, body)), response.request_id))


def _message_of(response: Any, body: bytes) -> bytes:
    if not _streamed(response.http_response):
        return body
    message = StreamedMessage()
    try:
        message.take(EventReader(response.http_response.headers, unpacked=True).feed(body))
        return _ended(message)
    except BrokenStream as error:
        problem = f"the reply broke off: {error}"
        raise APIConnectionError(message=problem, request=response.http_request) from error


async def _collected(response: httpx2.Response, message: StreamedMessage) -> bytes:
    if not _streamed(response):  # by a service that does not
        return bytes(await response.aread())
    reader = EventReader(response.headers, unpacked=True)
    try:
        async for data in response.aiter_bytes():
            message.take(reader.feed(data))
            if message.ended:  # whatever a proxy adds to it
                break
    finally:
        await response.aclose()
    return _ended(message)


def _streamed(response: httpx2.Response) -> bool:
    return not response.headers.get("content-type", "").startswith("application/json")


def _ended(message: StreamedMessage) -> bytes:
    if not message.ended:
        raise BrokenStream("it ended before the message did")
    return encode(as_message(message.message))


class AsyncPassing(Timed, httpx2.AsyncByteStream):
    """A stream as it is, seen by who records it."""

    def __init__(self, stream: Any, streaming: Streaming) -> None:
        self._stream = stream
        self._streaming = streaming

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            if self._streaming.read(data):
                await self._finish()
            yield data
        await self._finish()

    @override
    async def aclose(self) -> None:
        try:
            await self._finish()
        finally:
            await self._stream.aclose()

    async def _finish(self) -> None:
        if not self._streaming.finished:
            await in_loop(self._streaming.loop, self._streaming.finish())


class SyncPassing(Timed, httpx2.SyncByteStream):
    """The same for a synchronous client, whose thread is not the event loop's."""

    def __init__(self, stream: Any, streaming: Streaming) -> None:
        self._stream = stream
        self._streaming = streaming

    @override
    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            if self._streaming.read(data):
                self._finish()
            yield data
        self._finish()

    @override
    def close(self) -> None:
        try:
            self._finish()
        finally:
            self._stream.close()

    def _finish(self) -> None:
        if self._streaming.finished:
            return
        if running_loop() is self._streaming.loop:  # it would wait for itself
            self._streaming.finish_soon()
            return
        finishing = self._streaming.finish()
        asyncio.run_coroutine_threadsafe(finishing, self._streaming.loop).result()


class AsyncServed(httpx2.AsyncByteStream):
    """A recorded reply, event by event; ``pace`` seconds before each."""

    def __init__(self, reply: Mapping[str, Json], pace: float) -> None:
        self._reply = reply
        self._pace = pace

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in as_streamed(self._reply):
            await asyncio.sleep(self._pace)
            yield event


class SyncServed(httpx2.SyncByteStream):
    """The same for a synchronous client."""

    def __init__(self, reply: Mapping[str, Json], pace: float) -> None:
        self._reply = reply
        self._pace = pace

    @override
    def __iter__(self) -> Iterator[bytes]:
        for event in as_streamed(self._reply):
            if self._pace:
                time.sleep(self._pace)
            yield event
