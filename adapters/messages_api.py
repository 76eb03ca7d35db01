"""A local server that speaks the Anthropic Messages API: real HTTP, no net, no key, no cost.

    def brain(body):                        # the only scripted part: a function of what it is sent
        if "Oslo" in json.dumps(body["messages"]):
            return Answer([text("Rain.")])
        return Answer([text("Let me look."), call("weather", {"city": "Oslo"})])

    with MessagesServer(brain, latency=0.4) as server:
        client = Anthropic(base_url=server.url, api_key="local")
        ...
        server.requests                     # as they arrived, failed attempts included

It answers ``POST /v1/messages`` as JSON and as a stream of server-sent events, holds message
threads, and answers ``POST /v1/messages/count_tokens``. Like the service it makes up new message,
request and ``tool_use`` ids and thinking signatures on every call, and refuses a conversation whose
tool calls and tool results do not match. Tokens are estimated from the lengths of the texts, so
that equal conversations cost the same; an answer may say how many they are. It runs in a thread of
its own: use it from sync and async programs. It needs the extra ``server``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from . import messages_wire as wire
from .extras import require_server
from .messages_threads import Threads
from .messages_wire import Body, Refused, estimate_tokens, new_id

if TYPE_CHECKING:
    from types import TracebackType

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = [
    "Answer",
    "Body",
    "Brain",
    "Counts",
    "MessagesServer",
    "call",
    "estimate_tokens",
    "text",
]

_Block = dict[str, Any]

_STOP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says: content blocks as the API has them.

    Ids and signatures are made up by the server, whatever the blocks say. Without a
    ``stop_reason`` it is ``tool_use`` if a tool is called, else ``end_turn``; any other can be
    given, as a reply that was cut or paused has it. ``usage``: the tokens of input and output to
    be billed; None: estimated.
    """

    content: Sequence[Mapping[str, Any]]
    stop_reason: str | None = None
    usage: tuple[int, int] | None = None


Brain = Callable[[dict[str, Any]], Answer]


def text(words: str) -> _Block:
    """A content block that says `words`."""
    return {"type": "text", "text": words}


def call(tool: str, arguments: Mapping[str, Any]) -> _Block:
    """A content block that calls `tool`."""
    return {"type": "tool_use", "name": tool, "input": dict(arguments)}


@dataclass(frozen=True, slots=True)
class Counts:
    """What the server has seen so far.

    ``requests`` are calls of ``/v1/messages`` as they arrived; ``failed`` those of them that were
    answered with an error. Tokens are those of answered calls, as their usage says.
    """

    requests: int = 0
    failed: int = 0
    token_counts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def since(self, earlier: Counts) -> Counts:
        """What came after `earlier`."""
        return Counts(
            self.requests - earlier.requests,
            self.failed - earlier.failed,
            self.token_counts - earlier.token_counts,
            self.input_tokens - earlier.input_tokens,
            self.output_tokens - earlier.output_tokens,
        )


class _Failure(NamedTuple):
    status: int
    message: str
    retry_after: float | None


class _Cut(NamedTuple):
    events: int
    error: str | None


@dataclass(slots=True)
class _Running:
    server: uvicorn.Server
    thread: threading.Thread
    socket: socket.socket


@dataclass(eq=False)
class MessagesServer:
    """The server, as a context manager.

    `brain` is called with the decoded body, one call at a time, on the server's thread. If it
    raises, the client gets a 500 that names the exception and is not retried. `latency`, in
    seconds, passes before an answer begins; it may be set while the server runs. `port` 0 is any
    free one: recordings are found again at the same address only. With `keep_bodies` the decoded
    bodies of all ``/v1/messages`` calls are kept in `bodies`.
    """

    brain: Brain
    latency: float = 0.0
    keep_bodies: bool = False
    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    threads: Threads = field(default_factory=Threads, init=False, repr=False)
    _counts: Counts = field(default_factory=Counts, init=False, repr=False)
    _failures: list[_Failure] = field(default_factory=list, init=False, repr=False)
    _cuts: list[_Cut] = field(default_factory=list, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _running: _Running | None = field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        """What the client takes as ``base_url``. Raises RuntimeError when not running."""
        if self._running is None:
            raise RuntimeError("the server is not running: use it as `with MessagesServer(...)`")
        return f"http://127.0.0.1:{self._running.socket.getsockname()[1]}"

    @property
    def counts(self) -> Counts:
        """All counters at one moment."""
        with self._lock:
            return self._counts

    @property
    def requests(self) -> int:
        """How many calls of ``/v1/messages`` arrived, failed attempts included."""
        return self.counts.requests

    def fail(
        self,
        status: int = 529,
        *,
        times: int = 1,
        retry_after: float | None = 0.01,
        message: str = "an injected failure",
    ) -> None:
        """Answer the next `times` calls of ``/v1/messages`` with `status`.

        `retry_after` is sent as the header, in seconds; None sends none.
        """
        with self._lock:
            self._failures += [_Failure(status, message, retry_after)] * times

    def cut(self, events: int, *, times: int = 1, error: str | None = None) -> None:
        """Break the next `times` streams off after so many events: the connection is dropped, or,
        with an `error` such as ``overloaded_error``, an event tells of that."""
        with self._lock:
            self._cuts += [_Cut(events, error)] * times

    def __enter__(self) -> Self:
        if self._running is not None:
            raise RuntimeError("the server is running already")
        require_server("the local model")
        import uvicorn

        # Without IPPROTO_TCP asyncio leaves TCP_NODELAY off: 48 ms a call instead of 4.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            _listen(listener, self.port)
            config = uvicorn.Config(
                self._application(),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                timeout_graceful_shutdown=_STOP_SECONDS,
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(
                target=server.run,
                kwargs={"sockets": [listener]},
                name="messages-api",
                daemon=True,
            )
            thread.start()
            _wait_until_started(server, thread)
        except BaseException:
            listener.close()
            raise
        self._running = _Running(server, thread, listener)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.server.should_exit = True
            running.thread.join()
            running.socket.close()

    def _application(self) -> Starlette:
        from starlette.applications import Starlette
        from starlette.routing import Route

        async def unknown(request: Request, _error: Exception) -> Response:
            return _error_response(404, f"{request.method} {request.url.path}")

        return Starlette(
            routes=[
                Route("/v1/messages", self._messages, methods=["POST"]),
                Route("/v1/messages/count_tokens", self._count_tokens, methods=["POST"]),
            ],
            exception_handlers={404: unknown, 405: unknown},
        )

    def _count(self, **more: int) -> None:
        with self._lock:
            now = self._counts
            self._counts = replace(now, **{k: getattr(now, k) + v for k, v in more.items()})

    async def _messages(self, request: Request) -> Response:
        from starlette.responses import JSONResponse, StreamingResponse

        self._count(requests=1)
        try:
            body = _checked(request, await request.body(), required=("model", "max_tokens"))
            if self.keep_bodies:
                with self._lock:
                    self.bodies.append(body)
            with self._lock:
                failure = self._failures.pop(0) if self._failures else None
            if failure is not None:
                self._count(failed=1)
                return _error_response(*failure)
            message = self._message(body)
        except Refused as refused:
            self._count(failed=1)
            return _refusal(refused)
        usage = message["usage"]
        self._count(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])
        await asyncio.sleep(self.latency)
        headers = {"request-id": new_id("req")}
        if body.get("stream"):
            with self._lock:
                cut = self._cuts.pop(0) if self._cuts else None
            return StreamingResponse(
                _as_stream(message, cut), media_type="text/event-stream", headers=headers
            )
        return JSONResponse(message, headers=headers)

    async def _count_tokens(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        self._count(token_counts=1)
        try:
            body = _checked(request, await request.body(), required=("model",))
        except Refused as refused:
            return _refusal(refused)
        headers = {"request-id": new_id("req")}
        return JSONResponse({"input_tokens": estimate_tokens(body)}, headers=headers)

    def _message(self, body: dict[str, Any]) -> dict[str, Any]:
        whole = self.threads.whole(body)
        if whole["messages"] is not body["messages"]:
            wire.check_conversation(whole["messages"])
        try:
            answer = self.brain(whole)
            message = wire.message(whole, answer.content, answer.stop_reason, answer.usage)
        except Exception as error:
            raise Refused(500, f"the brain failed: {error!r}") from error
        self.threads.hold(body, whole, message)
        return message


async def _as_stream(message: Mapping[str, Any], cut: _Cut | None) -> AsyncIterator[bytes]:
    for number, event in enumerate(wire.as_events(message)):
        if cut is not None and number == cut.events:
            if cut.error is None:
                raise ConnectionAbortedError("the stream is cut, as it was asked for")
            yield wire.error_event(cut.error)
            return
        yield event
        await asyncio.sleep(0)


def _listen(listener: socket.socket, port: int) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError as error:
        problem = f"127.0.0.1:{port} cannot be used ({error.strerror}); choose another port=, or 0"
        raise OSError(error.errno, f"{problem} for any free one") from error


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the local Messages API server did not start")
        time.sleep(0.002)


def _refusal(refused: Refused) -> Response:
    response = _error_response(refused.status, str(refused), details=refused.details)
    response.headers["x-should-retry"] = "false"
    return response


def _error_response(
    status: int,
    message: str,
    retry_after: float | None = None,
    details: Mapping[str, Any] | None = None,
) -> Response:
    from starlette.responses import JSONResponse

    request_id = new_id("req")
    kind = wire.ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    headers = {"request-id": request_id}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    error: dict[str, Any] = {"type": kind, "message": message}
    if details is not None:
        error["details"] = details
    body = {"type": "error", "error": error, "request_id": request_id}
    return JSONResponse(body, status, headers=headers)


def _checked(request: Request, data: bytes, *, required: Sequence[str]) -> dict[str, Any]:
    """The decoded body, or Refused as the service would."""
    if not {"x-api-key", "authorization"} & set(request.headers.keys()):
        raise Refused(401, "x-api-key header is required")
    try:
        body = json.loads(data)
    except ValueError as error:
        raise Refused(400, f"the request body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "the request body is not a JSON object")
    for name in (*required, "messages"):
        if name not in body:
            raise Refused(400, f"{name}: Field required")
    thread = body.get("thread")
    continues = isinstance(thread, dict) and thread.get("type") == "continue"
    if not isinstance(body["messages"], list) or not (body["messages"] or continues):
        raise Refused(400, "messages: at least one message is required")
    if not continues:
        wire.check_conversation(body["messages"])
    return body
