"""What goes wrong with a server, said by a small one that speaks just enough Bolt."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from execgraph.graphstore.errors import StoreAccessDenied, StoreError, StoreUnavailable
from execgraph.graphstore.neo4j import client
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.tests.conformance.samples import sample_effect

_RUN, _PULL, _LOGON = 0x10, 0x3F, 0x6A


def _text(text: str) -> bytes:
    return b"\xd0" + bytes([len(text)]) + text.encode()


def _message(tag: int, **fields: str) -> bytes:
    body = bytes([0xB1, tag, 0xA0 + len(fields)])
    body += b"".join(_text(key) + _text(value) for key, value in fields.items())
    return len(body).to_bytes(2, "big") + body + b"\0\0"


_SUCCESS = _message(0x70, server="Neo4j/5.26.0", connection_id="bolt-1")
_IGNORED = _message(0x7E)


def _failure(code: str) -> bytes:
    return _message(0x7F, code=code, message="the server's own words, with 'hunter2' in them")


class _Server:
    """Answers what a test wants (None: hangs up), and else that all is well."""

    def __init__(self, answers: Callable[[int], bytes | None]) -> None:
        self._answers = answers
        self.heard: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(20)
            writer.write(b"\0\0\4\5")
            while (answer := self._answer(await self._tag(reader))) is not None:
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    def _answer(self, tag: int) -> bytes | None:
        self.heard.append(tag)
        answer = self._answers(tag)
        return (_IGNORED if tag == _PULL else _SUCCESS) if answer == b"" else answer

    async def _tag(self, reader: asyncio.StreamReader) -> int:
        body = b""
        while size := int.from_bytes(await reader.readexactly(2), "big"):
            body += await reader.readexactly(size)
        return body[1]


@asynccontextmanager
async def _serving(
    answers: Callable[[int], bytes | None],
) -> AsyncIterator[tuple[Neo4jStore, _Server]]:
    fake = _Server(answers)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = Neo4jStore(f"bolt://ann:hunter2@127.0.0.1:{port}/graphs", namespace="space")
    try:
        yield store, fake
    finally:
        await store.close()
        server.close()


async def test_a_wrong_password_is_refused_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refusal = _failure("Neo.ClientError.Security.Unauthorized")
    async with _serving(lambda tag: refusal if tag == _LOGON else b"") as (store, _):
        with pytest.raises(StoreAccessDenied, match="give them in the URL") as caught:
            await store.open()
    assert "ann" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    ours = [it for it in caplog.records if it.name.startswith("execgraph")]
    assert not any("hunter2" in it.getMessage() for it in ours)


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("Neo.ClientError.Database.DatabaseNotFound", StoreError, "no such database"),
        ("Neo.ClientError.Statement.SyntaxError", StoreError, "Neo4j 5.23 or newer"),
        ("Neo.ClientError.Security.Forbidden", StoreAccessDenied, "create indexes"),
        (
            "Neo.ClientError.General.WriteOnReadOnlyAccessDatabase",
            StoreAccessDenied,
            "takes no writes; connect to a database",
        ),
        ("Neo.DatabaseError.General.UnknownError", StoreError, "UnknownError"),
    ],
)
async def test_what_a_server_refuses_is_named_by_its_code_and_not_in_its_words(
    code: Any, kind: Any, says: Any
) -> None:
    async with _serving(lambda tag: _failure(code) if tag == _RUN else b"") as (store, _):
        with pytest.raises(kind, match=says) as caught:
            await store.open()
    assert type(caught.value) is kind
    assert "hunter2" not in str(caught.value)


async def test_a_server_that_is_not_there_is_reported_at_once_and_says_how_to_start_one() -> None:
    unused = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = unused.sockets[0].getsockname()[1]
    unused.close()
    await unused.wait_closed()
    store = Neo4jStore(f"bolt://ann:hunter2@127.0.0.1:{port}", namespace="space")
    with pytest.raises(StoreUnavailable, match="scripts/neo4j start") as caught:
        await asyncio.wait_for(store.open(), 5)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


async def test_an_intent_whose_outcome_is_unknown_is_not_repeated() -> None:
    async with _serving(lambda tag: None if tag == _RUN else b"") as (store, server):
        store._client.connect()
        with pytest.raises(StoreUnavailable):
            await store.intend(sample_effect("run-1"), [])
    assert server.heard.count(_RUN) == 1


async def test_other_statements_are_repeated_when_the_connection_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.2)
    async with _serving(lambda tag: None if tag == _RUN else b"") as (store, server):
        store._client.connect()
        with pytest.raises(StoreUnavailable):
            await store.task("key")
    assert server.heard.count(_RUN) > 1


async def test_an_intent_that_was_rolled_back_is_repeated() -> None:
    runs = 0

    def answer(tag: int) -> bytes | None:
        nonlocal runs
        runs += tag == _RUN
        if tag != _RUN:
            return b""
        deadlock = _failure("Neo.TransientError.Transaction.DeadlockDetected")
        return deadlock if runs == 1 else _failure("Neo.DatabaseError.General.UnknownError")

    async with _serving(answer) as (store, _):
        store._client.connect()
        with pytest.raises(StoreError, match="UnknownError"):
            await store.intend(sample_effect("run-1"), [])
    assert runs == 2
