"""Calls that pass by the record: they are counted, with the tokens that they tell of.

A streamed reply, a call in a thread that does not know of the run, and a call of another endpoint
are no decisions of a run. They are paid at each replay all the same, so the run says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

import httpx2
from typing_extensions import override

from ...engine.model.prices import Bill
from ...engine.outcome.cause import Cause, MissKind
from ...engine.program import ProgramRun
from ...graphstore.canonical import Json
from ...graphstore.model import Usage
from .dialect import terms_of, usage_of

__all__ = ["IN_A_THREAD", "STREAMED", "Passing", "endpoint"]

_log = logging.getLogger("execgraph")

STREAMED = "a streamed reply"
IN_A_THREAD = "a call in a thread that does not know of the run"
_COUNTS_TOKENS = "/v1/messages/count_tokens"
_INSTEAD = {
    STREAMED: "Use messages.create without streaming to have it recorded.",
    IN_A_THREAD: "Start such work with asyncio.to_thread, or with contextvars.copy_context().run.",
}
_OK = 200


def endpoint(path: str) -> str:
    """What a call of another endpoint is told as."""
    return f"a call of {path}"


class _Told(NamedTuple):
    """What a reply tells of itself."""

    model: str
    usage: Usage | None
    terms: Mapping[str, str]


class Passing:
    """A call that passes while ``runs`` are open, one of which made it."""

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
        """Tell it to the people who run this."""
        what = self._cause.node
        names = ", ".join(dict.fromkeys(run.running.subject.name for run in self._runs))
        instead = _INSTEAD.get(what, "")
        _log.warning("%s inside the run %s is paid at each replay. %s", what, names, instead)

    async def aread(self, response: Any) -> None:
        """Count what an asynchronous client got."""
        raw = response.http_response
        if raw.status_code == _OK and self._streams:
            self._pay(_Told(self._model, None, {}))
            raw.stream = _AsyncCounted(raw.stream, _Events(raw.headers, self._tell))
        elif raw.status_code == _OK:
            self._pay(self._of(await raw.aread()))

    def read(self, response: Any) -> None:
        """Count what a synchronous client got."""
        raw = response.http_response
        if raw.status_code == _OK and self._streams:
            self._pay(_Told(self._model, None, {}))
            raw.stream = _Counted(raw.stream, _Events(raw.headers, self._tell))
        elif raw.status_code == _OK:
            self._pay(self._of(raw.read()))

    def _of(self, body: bytes) -> _Told:
        if self._free:
            return _Told(self._model, Usage(), {})
        try:
            reply = json.loads(body)
        except ValueError:
            reply = None
        billed = reply.get("usage") if isinstance(reply, Mapping) else None
        return _told(self._model, billed)

    def _pay(self, told: _Told) -> None:
        """A run cannot tell whether another one made the call: then what it cost is not known."""
        sure = len(self._runs) == 1
        for run in self._runs:
            usage = told.usage if sure else None
            bill = Bill(told.model, usage, self._cause, told.terms)
            self._bills.append(bill)
            _in_loop(run, bill)

    def _tell(self, billed: Mapping[str, Json]) -> None:
        """A stream has told more of what it costs."""
        told = _told(self._model, billed)
        if len(self._bills) == 1 == len(self._runs):
            self._bills[0].usage, self._bills[0].terms = told.usage, told.terms


def _told(model: str, billed: object) -> _Told:
    if not isinstance(billed, Mapping):
        return _Told(model, None, {})
    return _Told(model, usage_of(billed), terms_of(billed))


def _in_loop(run: ProgramRun, bill: Bill) -> None:
    def pay() -> None:
        if run.is_open:
            run.running.pay(bill)

    try:
        here = asyncio.get_running_loop() is run.loop
    except RuntimeError:
        here = False
    if here:
        pay()
    else:
        run.loop.call_soon_threadsafe(pay)


class _Events:
    """Reads from a stream of events what it is billed."""

    def __init__(self, headers: Mapping[str, str], tell: Any) -> None:
        packed = headers.get("content-encoding", "identity").lower()
        self._unpack = zlib.decompressobj(wbits=47) if packed in ("gzip", "deflate") else None
        self._readable = self._unpack is not None or packed == "identity"
        self._tell = tell
        self._rest = b""
        self._billed: dict[str, Json] = {}

    def feed(self, data: bytes) -> None:
        """Some more bytes have come."""
        if not self._readable:
            return
        try:
            plain = data if self._unpack is None else self._unpack.decompress(data)
        except zlib.error:
            self._readable = False
            return
        *lines, self._rest = (self._rest + plain).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and b'"usage"' in line:
                self._read(line.removeprefix(b"data:"))

    def _read(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return
        if not isinstance(event, Mapping):
            return
        message = event.get("message")
        told = message.get("usage") if isinstance(message, Mapping) else event.get("usage")
        if isinstance(told, Mapping):
            self._billed |= {key: value for key, value in told.items() if value is not None}
            self._tell(self._billed)


class _Counted(httpx2.SyncByteStream):
    """A stream as it is, seen by who counts."""

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


class _AsyncCounted(httpx2.AsyncByteStream):
    """The same for an asynchronous client."""

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
