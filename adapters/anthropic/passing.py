"""Counts the model calls that no run records, and the tokens that their replies report.

A call in a thread that does not know of the run, and a call of another endpoint, are no decisions
of a run. They are paid at each replay all the same, so the run says so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

import httpx2
from typing_extensions import override

from ...engine.model.prices import Bill
from ...engine.outcome.cause import Cause, MissKind
from ...engine.program import ProgramRun
from ...graphstore.canonical import Json
from ...graphstore.model import Usage
from .dialect import terms_of, usage_of
from .errands import running_loop
from .events import BrokenStream, EventReader

__all__ = ["IN_A_THREAD", "Passing", "Timed", "endpoint"]

_log = logging.getLogger("execgraph")

IN_A_THREAD = "a call in a thread that does not know of the run"
_COUNTS_TOKENS = "/v1/messages/count_tokens"
_INSTEAD = {
    IN_A_THREAD: "Start such work with asyncio.to_thread, or with contextvars.copy_context().run.",
}
_OK = 200


def endpoint(path: str) -> str:
    """The name of a call of another endpoint, in warnings and causes."""
    return f"a call of {path}"


class _Billed(NamedTuple):
    """What a reply is billed by: its model, its usage (None: not known), and its terms."""

    model: str
    usage: Usage | None
    terms: Mapping[str, str]


class Passing:
    """A call that is not recorded, made by one of the ``runs`` that are open."""

    def __init__(self, runs: tuple[ProgramRun, ...], what: str, request: Any) -> None:
        self._runs = runs
        self._model = str((request.json or {}).get("model", "unknown"))
        self._streams = bool(request.stream or (request.json or {}).get("stream"))
        self._free = what == endpoint(_COUNTS_TOKENS)
        self._cause = Cause(MissKind.UNRECORDED, what)
        self._bills: list[Bill] = []
        for run in runs:
            run.running.account.ask()
            if not self._free:  # which may have chosen what the run did
                run.running.account.do_not_publish(self._cause)

    def warn(self) -> None:
        """Log that the call is paid at each replay, and what to use instead."""
        what = self._cause.node
        names = ", ".join(dict.fromkeys(run.running.definition.name for run in self._runs))
        instead = _INSTEAD.get(what, "")
        _log.warning("%s inside the run %s is paid at each replay. %s", what, names, instead)

    async def aread(self, response: Any) -> None:
        """Count the tokens of a response that an asynchronous client got."""
        raw = response.http_response
        if raw.status_code == _OK and self._streams:
            self._pay(_Billed(self._model, None, {}))
            raw.stream = _AsyncCounted(raw.stream, _Events(raw.headers, self._correct))
        elif raw.status_code == _OK:
            self._pay(self._of(await raw.aread()))

    def read(self, response: Any) -> None:
        """Count the tokens of a response that a synchronous client got."""
        raw = response.http_response
        if raw.status_code == _OK and self._streams:
            self._pay(_Billed(self._model, None, {}))
            raw.stream = _Counted(raw.stream, _Events(raw.headers, self._correct))
        elif raw.status_code == _OK:
            self._pay(self._of(raw.read()))

    def _of(self, body: bytes) -> _Billed:
        if self._free:
            return _Billed(self._model, Usage(), {})
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


class _Events:
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


class _Counted(Timed, httpx2.SyncByteStream):
    """Passes a synchronous stream on as it is, and has its bytes read."""

    def __init__(self, stream: Any, events: _Events) -> None:
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


class _AsyncCounted(Timed, httpx2.AsyncByteStream):
    """Passes an asynchronous stream on as it is, and has its bytes read."""

    def __init__(self, stream: Any, events: _Events) -> None:
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
