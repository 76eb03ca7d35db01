"""What keeps an SQLite file locked, or its log from being folded in, for long."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from pathlib import Path

from execgraph.graphstore.document import Document
from execgraph.tests.conformance.samples import newest, published, sample_recording

from .conftest import Place

STOPPED = 2.0  # seconds
BIG = 400_000  # characters that do not compress: about 100 pages of the log


def here(tmp_path: Path) -> Place:
    return Place(f"sqlite:///{tmp_path}/graph.db", "team")


async def test_a_writer_that_is_stopped_in_a_transaction_keeps_writers_waiting_and_no_reader(
    tmp_path: Path,
) -> None:
    place = here(tmp_path)
    async with place.store() as store, place.store() as other:
        await store.change("acl:a", Document.of(0))
        await published(store, sample_recording())
        async with place.beside("stand_still") as hung:
            os.kill(hung.pid, signal.SIGSTOP)
            writing = [
                asyncio.create_task(it.change("acl:a", Document.of(n)))
                for n, it in enumerate((store, other), 1)
            ]
            end = time.monotonic() + STOPPED
            for _ in range(5):
                assert (await store.lookup("deploy", newest)).chosen == "deploy-1"
            await asyncio.sleep(end - time.monotonic())
            assert not any(it.done() for it in writing)
            os.kill(hung.pid, signal.SIGCONT)
            hung.say("go on")
            assert (await hung.told())["errors"] == []
            events = [await it for it in writing]
        assert sorted(it.to_version for it in events if it is not None) == [2, 3]


async def test_a_reader_that_stays_in_a_transaction_makes_the_log_grow_and_no_writer_fail(
    tmp_path: Path,
) -> None:
    place, log = here(tmp_path), tmp_path / "graph.db-wal"

    def noise() -> Document:
        return Document.of("".join(uuid.uuid4().hex for _ in range(BIG // 32)))

    async with place.store() as store:
        await store.change("acl:a", noise())
        async with place.beside("read_long") as reader:
            for _ in range(25):
                await store.change("acl:a", noise())
            grown = log.stat().st_size
            assert grown > 25 * BIG // 3, "it could not be folded in"
            reader.say("enough")
            await reader.told()
        for _ in range(25):
            await store.change("acl:a", noise())
        assert log.stat().st_size < grown * 1.2, "from then on it is written over"
        found = await store.document("acl:a")
        assert found is not None
        assert found[0] == 51
    assert not log.exists() or log.stat().st_size == 0
