"""Middleware for the Anthropic SDK: model calls inside a run are decisions of that run.

Imported only where ``anthropic`` is loaded anyway.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple, cast

import httpx2
from anthropic import Anthropic, APIResponse, AsyncAPIResponse
from anthropic import Middleware as SdkMiddleware
from typing_extensions import override

from ...engine.errors import AgentError
from ...engine.program import ProgramRun, current_run, open_runs
from ...engine.replay.decisions import NotHeld, at_once
from ...graphstore.canonical import Json, encode
from .client import being_asked
from .dialect import MessagesDialect
from .errands import Errands, in_loop, running_loop
from .events import as_message, request_id_of
from .passing import IN_A_THREAD, AsyncCounted, Counted, Passing, passed
from .sending import all_of, as_sent, body_of, with_body
from .streaming import (
    AsyncPassing,
    AsyncServed,
    NotAnAnswer,
    Streaming,
    SyncPassing,
    SyncServed,
    answered,
    received,
)

__all__ = ["Middleware"]

_MESSAGES = "/v1/messages"
_OK, _NOT_FOUND = 200, 404
_LONG = 3600.0  # seconds between two events of a stream


class Middleware(SdkMiddleware):
    """See ``Engine.middleware``."""

    def __init__(self, *, outside: Literal["pass", "raise"] = "pass", pace: float = 0.0) -> None:
        if outside not in ("pass", "raise"):
            raise AgentError(f"outside={outside!r} is unknown; use 'pass' or 'raise'")
        if not 0 <= pace < _LONG:
            raise AgentError(f"pace={pace!r} is no pause between events; give seconds, 0 for none")
        self._outside = outside
        self._pace = pace
        self._warned: set[str] = set()

    @override
    async def handle_async(self, request: Any, call_next: Any) -> AsyncAPIResponse[Any]:
        run = self._run_of(request)
        if run is None:
            passing = self._passing(request)
            response = await call_next(request if passing is None else passing.hidden(request))
            if passing is not None:
                await passing.aread(response)
            return cast("AsyncAPIResponse[Any]", response)
        here = asyncio.get_running_loop()  # a thread of the program may have one of its own

        async def send(body: Any) -> Any:
            return await call_next(with_body(request, body))

        call = _Call(
            _sent(request, call_next),
            send=lambda body: in_loop(here, send(body)),
            read=lambda response: in_loop(here, response.http_response.aread()),
        )
        answer = self._answer(run, request, call, _ASYNC)
        return cast("AsyncAPIResponse[Any]", await in_loop(run.loop, answer))

    @override
    def handle(self, request: Any, call_next: Any) -> APIResponse[Any]:
        run = self._run_of(request)
        if run is None:
            passing = self._passing(request)
            response = call_next(request if passing is None else passing.hidden(request))
            if passing is not None:
                passing.read(response)
            return cast("APIResponse[Any]", response)
        if running_loop() is run.loop:
            raise AgentError(
                "a synchronous client would block the event loop of its own run; use"
                " AsyncAnthropic inside 'async with engine.run(...)'"
            )
        here = Errands(run.loop)
        call = _Call(
            _sent(request, call_next),
            send=lambda body: here.do(lambda: call_next(with_body(request, body))),
            read=lambda response: here.do(response.http_response.read),
        )
        answer = self._answer(run, request, call, _SYNC)
        return cast("APIResponse[Any]", here.until(answer))

    async def _answer(self, run: ProgramRun, request: Any, call: _Call, kinds: _Kinds) -> Any:
        """The SDK's response to a call inside ``run``, in whose event loop this is."""
        streams = _streams(request)
        try:
            if streams and not run.running.standins:
                streaming = Streaming(run, call.sent)
                response, reply = await streaming.begin(lambda: call.send(None))
                if response is not None:
                    streaming.watch(response, kinds.passing)
            else:
                response, reply = await _decided(run, call, kinds)
        except NotAnAnswer as failed:
            return failed.response
        except NotHeld:
            return _not_held(kinds.response, request)
        if response is not None:
            return response
        if streams:
            return _streamed(kinds.response, request, kinds.served(reply, self._pace), reply)
        return _response(kinds.response, request, reply)

    def _run_of(self, request: Any) -> ProgramRun | None:
        """The run whose decision this call is; None if it is to pass."""
        if being_asked() or request.method.lower() != "post" or request.url != _MESSAGES:
            return None
        run = current_run()
        if run is None:
            if self._outside == "raise":
                raise AgentError(
                    "a model call outside any run; make it inside 'async with engine.run(...)',"
                    " or allow it by engine.middleware(outside='pass')"
                )
            return None
        return run

    def _passing(self, request: Any) -> Passing | None:
        """A call that is no decision of a run; None if no run can have made it, or if a run itself
        makes it."""
        kind = None if being_asked() else passed(request)
        if kind is None:
            return None
        run = current_run()
        runs: tuple[ProgramRun, ...] = () if run is None else (run,)
        if run is None and running_loop() is None:
            # A thread that the program started itself has no context, so it does not say whose.
            runs = open_runs()
            kind = kind._replace(what=IN_A_THREAD.what, instead=IN_A_THREAD.instead, is_batch=False)
        if not runs:
            return None
        passing = Passing(runs, kind, request)
        if kind.what not in self._warned:
            self._warned.add(kind.what)
            passing.warn()
        return passing


def _streams(request: Any) -> bool:
    return bool(request.stream or (request.json or {}).get("stream"))


def _sent(request: Any, call_next: Any) -> dict[str, Any]:
    """What of a call can change its answer: the body, the query, the beta header."""
    client = _client_of(call_next)
    return as_sent(
        all_of(request),
        headers={**getattr(client, "default_headers", {}), **request.headers},
        query={**getattr(client, "default_query", {}), **request.query_params},
        base_url=getattr(client, "base_url", ""),
    )


def _client_of(call_next: Any) -> Any:
    """The client that makes the call, for who is asked and what it adds to each call.

    The SDK shows it to no middleware, so it is looked for where the chain of handlers ends: in
    what they close over.
    """
    seen = [call_next]
    for handler in seen:
        for cell in getattr(handler, "__closure__", None) or ():
            if hasattr(cell.cell_contents, "default_headers"):  # of any of the SDK's platforms
                return cell.cell_contents
            if inspect.isfunction(cell.cell_contents):
                seen.append(cell.cell_contents)
    return None


class _Kinds(NamedTuple):
    """What a client's responses and streams are made of."""

    response: Any
    passing: Any
    served: Any
    counted: Any


_ASYNC = _Kinds(AsyncAPIResponse, AsyncPassing, AsyncServed, AsyncCounted)
_SYNC = _Kinds(APIResponse, SyncPassing, SyncServed, Counted)


class _Call(NamedTuple):
    """A call, as it is made in the event loop of its run. ``sent``: what can change its answer.
    ``send`` sends the request, with another body if one is given."""

    sent: dict[str, Any]
    send: Callable[[Mapping[str, Any] | None], Awaitable[Any]]
    read: Callable[[Any], Awaitable[bytes]]


async def _decided(run: ProgramRun, call: _Call, kinds: _Kinds) -> tuple[Any, Any]:
    """The SDK's response, or the reply if nobody was asked, or was asked with stand-ins. Raises
    NotAnAnswer and NotHeld."""
    responses: list[Any] = []
    changed = bool(run.running.standins)

    async def ask(request: Any) -> bytes:
        body = body_of(request) if changed else None
        responses.append(response := await answered(call.sent, call.send(body)))
        return await received(call.sent, response, call.read, kinds.counted)

    reply = await run.ask(call.sent, at_once(ask), MessagesDialect())
    return (responses[0] if responses and not changed else None), reply.value


def _response(kind: Any, request: Any, reply: Any) -> Any:
    """A recorded reply as the SDK would have got it."""
    content = encode(as_message(reply))
    id_ = request_id_of(reply)
    return _read(kind, request, "application/json", request_id=id_, content=content)


def _streamed(kind: Any, request: Any, stream: Any, reply: Any) -> Any:
    """A recorded reply as a stream that the SDK would have got."""
    id_ = request_id_of(reply)
    return _read(kind, request, "text/event-stream; charset=utf-8", request_id=id_, stream=stream)


def _not_held(kind: Any, request: Any) -> Any:
    """The service's refusal to go on in a thread that it does not hold. The SDK then says all of
    it again, in a new one."""
    message = "the thread is that of a recording; say again what was said before"
    details = {"error_code": "thread_not_found"}
    error: Json = {"type": "not_found_error", "message": message, "details": details}
    body = encode({"type": "error", "error": error})
    return _read(kind, request, "application/json", status=_NOT_FOUND, content=body)


def _read(
    kind: Any,
    request: Any,
    content_type: str,
    *,
    status: int = _OK,
    request_id: str | None = None,
    **body: Any,
) -> Any:
    raw = httpx2.Response(
        status,
        headers={
            "content-type": content_type,
            **({"request-id": request_id} if request_id else {}),
        },
        request=httpx2.Request(request.method, f"https://replay.invalid{request.url}"),
        **body,
    )
    raw.elapsed = timedelta()
    return kind(
        raw=raw,
        cast_to=request.cast_to,
        client=_reader(),
        stream="stream" in body,
        stream_cls=request.stream_cls,
        options=request.options,
    )


@functools.cache
def _reader() -> Anthropic:
    """A client that never sends anything: the SDK's responses are read by one."""
    return Anthropic(api_key="unused", base_url="https://replay.invalid")
