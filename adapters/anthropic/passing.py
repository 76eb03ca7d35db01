"""Counts the model calls that no run records, and the tokens that their replies report.

A call in a thread that does not know of the run, and a call of another endpoint, are no decisions
of a run. They are made at each replay all the same, so the run says so. It is no trace if what a
model said in them may have chosen what the run did.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
from typing_extensions import override

from ...engine.errors import AgentError
from ...engine.keys.standins import StandIns
from ...engine.model.prices import Bill
from ...engine.outcome.cause import Cause, MissKind
from ...engine.program import ProgramRun
from ...graphstore.canonical import Json
from ...graphstore.model import Usage
from .dialect import MessagesDialect, terms_of, usage_of
from .errands import running_loop
from .events import BrokenStream, EventReader
from .sending import all_of, with_body

__all__ = [
    "IN_A_THREAD",
    "AsyncCounted",
    "Counted",
    "Passed",
    "Passing",
    "ReportedUsage",
    "Timed",
    "passed",
]

_log = logging.getLogger("execgraph")

_OK = 200


class Passed(NamedTuple):
    """A kind of call that is not recorded.

    ``what``: its name, in warnings and causes. ``is_free``: it is billed nothing. ``tells``: its
    reply tells what it is billed. ``steers``: a model's word is in the reply, and may have chosen
    what the run did. ``instead``: what to do about it. ``is_batch``: it makes a batch.
    ``is_counted``: it is only counted what would be sent.
    """

    what: str
    is_free: bool = False
    tells: bool = True
    steers: bool = True
    instead: str = ""
    is_batch: bool = False
    is_counted: bool = False


IN_A_THREAD = Passed(
    "a call in a thread that does not know of the run",
    instead="Start such work with asyncio.to_thread, or with contextvars.copy_context().run.",
)
_MESSAGES, _BATCHES = "/v1/messages", "/v1/messages/batches"
_ASKING = (_MESSAGES, "/v1/complete")
_COUNTING = Passed(
    "a call of /v1/messages/count_tokens", is_free=True, steers=False, is_counted=True
)
_BATCH = Passed("a call of /v1/messages/batches", tells=False, steers=False, is_batch=True)
_RESULTS = Passed("the results of a message batch", is_free=True)


def passed(request: Any) -> Passed | None:
    """The kind of a call that is no decision; None if it asks no model, and gets no reply of one.

    Of a batch, asking for it is billed, and reading its results brings what a model said.
    """
    path, method = urlsplit(request.url).path, request.method.lower()
    if path.startswith(_BATCHES):
        if path.endswith("/results"):
            return _RESULTS
        return _BATCH if method == "post" and path == _BATCHES else None
    if method != "post" or not path.startswith(_ASKING):
        return None
    return _COUNTING if path == f"{_MESSAGES}/count_tokens" else Passed(f"a call of {path}")


def _hidden(body: Mapping[str, Any], standins: StandIns) -> Mapping[str, Any]:
    """A body with stand-ins: a request, or several of a batch."""
    if "requests" not in body:
        return MessagesDialect().with_standins(body, standins)
    asked = [
        {key: standins.hide(it) for key, it in one.items()}
        | {"params": _hidden(one.get("params", {}), standins)}
        for one in body["requests"]
    ]
    return {**body, "requests": asked}


class _Billed(NamedTuple):
    """What a reply is billed by: its model, its usage (None: not known), and its terms."""

    model: str
    usage: Usage | None
    terms: Mapping[str, str]


class Passing:
    """A call that is not recorded, made by one of the ``runs`` that are open."""

    def __init__(self, runs: tuple[ProgramRun, ...], kind: Passed, request: Any) -> None:
        self._runs = runs
        self._kind = kind
        self._model = str((request.json or {}).get("model", "unknown"))
        self._streams = bool(request.stream or (request.json or {}).get("stream"))
        self._cause = Cause(MissKind.UNRECORDED, kind.what)
        self._bills: list[Bill] = []
        for run in runs:
            run.running.account.ask()
            if kind.steers:
                run.running.account.do_not_publish(self._cause)

    def warn(self) -> None:
        """Log that the call is made at each replay, and what to use instead."""
        kind = self._kind
        names = ", ".join(dict.fromkeys(run.running.definition.name for run in self._runs))
        how = "made" if kind.is_free else "paid"
        _log.warning(
            "%s inside the run %s is %s at each replay. %s", kind.what, names, how, kind.instead
        )

    def hidden(self, request: Any) -> Any:
        """The request as it is sent. Raises AgentError for a batch that says marked values.

        What is counted may say any of them. What a model says of a batch is read later, perhaps
        where nobody knows what stood in for what.
        """
        if not (self._kind.is_counted or self._kind.is_batch):
            return request
        said: Mapping[str, Any] = all_of(request)
        body = said
        for run in self._runs:
            if standins := run.running.standins:
                body = _hidden(body, standins)
        if self._kind.is_batch and body != said:
            raise AgentError(
                "a batch in a run with marked values would send some of them, and its results"
                " could not be read back; make it outside of the run, or take the marks off"
            )
        return request if body == said else with_body(request, body)

    async def aread(self, response: Any) -> None:
        """Count the tokens of a response that an asynchronous client got."""
        raw = response.http_response
        if not self._tells_tokens(raw):
            return
        if self._streams:
            raw.stream = AsyncCounted(raw.stream, self._events(raw))
        else:
            self._pay(self._of(await raw.aread()))

    def read(self, response: Any) -> None:
        """Count the tokens of a response that a synchronous client got."""
        raw = response.http_response
        if not self._tells_tokens(raw):
            return
        if self._streams:
            raw.stream = Counted(raw.stream, self._events(raw))
        else:
            self._pay(self._of(raw.read()))

    def _tells_tokens(self, raw: httpx2.Response) -> bool:
        """Whether a response has a usage to be read; one that has none is paid for at once."""
        kind = self._kind
        if raw.status_code != _OK:
            return False
        if kind.is_free or not kind.tells:
            self._pay(_Billed(self._model, Usage() if kind.is_free else None, {}))
        return kind.tells and not kind.is_free

    def _events(self, raw: httpx2.Response) -> ReportedUsage:
        """The events of a stream: what it is billed is not known before they tell."""
        self._pay(_Billed(self._model, None, {}))
        return ReportedUsage(raw.headers, self._correct)

    def _of(self, body: bytes) -> _Billed:
        try:
            reply = json.loads(body)
        except ValueError:
            reply = None
        usage = reply.get("usage") if isinstance(reply, Mapping) else None
        return _billed(self._model, usage)

    def _pay(self, billed: _Billed) -> None:
        """A run cannot tell whether another one made the call: then what it cost is not known."""
        sure = len(self._runs) == 1
        for run in self._runs:
            usage = billed.usage if sure else None
            bill = Bill(billed.model, usage, self._cause, billed.terms)
            self._bills.append(bill)
            _in_loop(run, bill)

    def _correct(self, usage: Mapping[str, Json]) -> None:
        """Correct the bill of a stream by the usage that it has reported so far."""
        billed = _billed(self._model, usage)
        if len(self._bills) == 1 == len(self._runs):
            self._bills[0].usage, self._bills[0].terms = billed.usage, billed.terms


def _billed(model: str, usage: object) -> _Billed:
    if not isinstance(usage, Mapping):
        return _Billed(model, None, {})
    return _Billed(model, usage_of(usage), terms_of(usage))


def _in_loop(run: ProgramRun, bill: Bill) -> None:
    def pay() -> None:
        if run.is_open:
            run.running.pay(bill)

    if running_loop() is run.loop:
        pay()
    else:
        run.loop.call_soon_threadsafe(pay)


class ReportedUsage:
    """Reads the usage that a stream of events reports."""

    def __init__(
        self, headers: Mapping[str, str], report: Callable[[Mapping[str, Json]], None]
    ) -> None:
        self._reader: EventReader | None = None
        with suppress(BrokenStream):
            self._reader = EventReader(headers)
        self._report = report
        self._usage: dict[str, Json] = {}

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the stream."""
        if self._reader is None:
            return
        try:
            for event in self._reader.feed(data):
                self._read(event)
        except BrokenStream:
            self._reader = None

    def _read(self, event: Mapping[str, Any]) -> None:
        message = event.get("message")
        usage = message.get("usage") if isinstance(message, Mapping) else event.get("usage")
        if isinstance(usage, Mapping):
            self._usage |= {key: value for key, value in usage.items() if value is not None}
            self._report(self._usage)


class Timed:
    """A stream around another one, which the SDK asks how long the response took."""

    _stream: Any

    @property
    def elapsed(self) -> timedelta | None:
        """How long the response took, once it has been closed."""
        return getattr(self._stream, "elapsed", None)


class Counted(Timed, httpx2.SyncByteStream):
    """Passes a synchronous stream on as it is, and has its bytes read."""

    def __init__(self, stream: Any, events: ReportedUsage) -> None:
        self._stream = stream
        self._events = events

    @override
    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            self._events.feed(data)
            yield data

    @override
    def close(self) -> None:
        self._stream.close()


class AsyncCounted(Timed, httpx2.AsyncByteStream):
    """Passes an asynchronous stream on as it is, and has its bytes read."""

    def __init__(self, stream: Any, events: ReportedUsage) -> None:
        self._stream = stream
        self._events = events

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            self._events.feed(data)
            yield data

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()
