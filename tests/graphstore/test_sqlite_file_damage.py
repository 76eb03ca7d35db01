"""What becomes of a store whose file was cut, flipped, or lost its log: an error that says what to
do, or an answer that is right. And the doctor finds it."""

from __future__ import annotations

import asyncio
import logging
import random
import resource as limits
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from execgraph.engine.asking.examine import examine
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import StoreDamaged, StoreError, StoreUnavailable
from execgraph.graphstore.facts import Facts
from execgraph.graphstore.finding import Level
from execgraph.graphstore.model import ApprovalState, Trace
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.tests.conformance.samples import (
    guard,
    published,
    sample_approval,
    sample_effect,
    sample_recording,
)

SPACE, RULE, OTHER = "team", "acl:rule", "acl:other"
NEWEST = "deploy-3"  # the only trace whose guards hold


def _standing(traces: Sequence[Trace], facts: Facts) -> str | None:
    """The newest trace of which all guards hold: what an engine would replay."""
    for trace in traces:
        if all(
            facts.of(it.resource).believed(facts.now)
            and facts.of(it.resource).fingerprints.get(it.selector) == it.fingerprint
            for it in trace.preconditions.values()
        ):
            return trace.id
    return None


async def _made(path: Path) -> None:
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    await store.change(OTHER, Document.of({"b": 1}))
    for rule in (1, 2, 3):
        await store.change(RULE, Document.of({"a": rule}))
        guards = [guard(SPACE, RULE, {"a": rule}, "$.a"), guard(SPACE, OTHER, {"b": 1})]
        recording = sample_recording(number=rule, says=f"way {rule}", guards=guards)
        await published(store, recording)
    await store.lookup("deploy", _standing)  # computes the facets
    await store.close()


async def _replayed(path: Path) -> str | None:
    store = SqliteStore(str(path), namespace=SPACE)
    try:
        await store.open()
        return (await store.lookup("deploy", _standing)).chosen
    finally:
        await store.close()


async def _errors(path: Path) -> list[str]:
    """What the doctor says is wrong."""
    store = SqliteStore(str(path), namespace=SPACE)
    try:
        await store.open()
        found = [it async for it in examine(store)]
    except StoreError as error:
        return [str(error)]
    finally:
        await store.close()
    return [it.about for it in found if it.level is Level.ERROR]


@pytest.fixture
async def whole(tmp_path: Path) -> bytes:
    """The bytes of a sound file."""
    path = tmp_path / "whole.db"
    await _made(path)
    assert await _replayed(path) == NEWEST
    assert await _errors(path) == []
    return path.read_bytes()


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
async def test_a_truncated_file_is_damaged_or_empty(
    whole: bytes, tmp_path: Path, kept: float
) -> None:
    path = tmp_path / "cut.db"
    path.write_bytes(whole[: int(len(whole) * kept)])
    if kept == 0:
        assert await _replayed(path) is None  # an empty file is a new store
        return
    try:
        answer = await _replayed(path)
    except StoreDamaged as error:
        said = str(error)
    else:
        assert answer == NEWEST or await _errors(path) != []
        return
    assert "backup" in said
    assert await _errors(path) != []


async def test_flipped_bits_never_make_a_replay_that_nobody_would_notice(
    whole: bytes, tmp_path: Path
) -> None:
    """SQLite keeps no checksums. Traces and payloads have digests of their own; a bit of a fact
    that is flipped just so is found by the doctor."""
    dice, path = random.Random(5), tmp_path / "flipped.db"
    noticed = 0
    for _ in range(120):
        at = dice.randrange(len(whole) * 8)
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            answer = await _replayed(path)
        except StoreDamaged:
            noticed += 1
            continue
        if answer not in {NEWEST, None}:
            assert await _errors(path) != [], f"bit {at}: {answer} and nobody knows"
    assert noticed, "no flip was noticed: are they applied?"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE resource SET current = 2 WHERE uri = 'acl:rule'",
        """UPDATE holds SET precondition = (
            SELECT min(precondition) FROM holds AS h WHERE h.facet = holds.facet
        ) WHERE n = 3""",
        """UPDATE version SET document = (
            SELECT document FROM version AS v WHERE v.resource = version.resource AND v.n = 2
        ) WHERE n = 3""",
        "DELETE FROM version WHERE n = 3",
        "UPDATE value SET data = x'00' WHERE digest IN (SELECT document FROM version)",
    ],
)
async def test_the_doctor_finds_a_fact_that_is_not_what_its_document_says(
    whole: bytes, tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "edited.db"
    path.write_bytes(whole)
    raw = sqlite3.connect(path)
    assert raw.execute(statement).rowcount >= 1
    raw.commit()
    raw.close()
    assert "facts" in await _errors(path)


_CHANGE_AND_DIE = """
import asyncio, os, signal, sys
from execgraph.graphstore.document import Document
from execgraph.graphstore.sqlite.store import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1], namespace="team")
    await store.open()
    for rule in (4, 5):
        await store.change("acl:rule", Document.of({"a": rule}))
    print("changed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def _die(path: Path, program: str = _CHANGE_AND_DIE) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode()


@pytest.mark.parametrize("cut", ["deleted", "emptied", "half", "a bit flipped"])
async def test_a_log_that_was_lost_makes_nothing_believed(
    tmp_path: Path, cut: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "graph.db"
    await _made(path)
    assert "changed" in await _die(path)
    log = tmp_path / "graph.db-wal"
    frames = log.read_bytes()
    if cut == "deleted":
        log.unlink()
    elif cut == "a bit flipped":
        log.write_bytes(frames[:100] + bytes([frames[100] ^ 1]) + frames[101:])
    else:
        log.write_bytes(frames[: len(frames) // 2] if cut == "half" else b"")
    with caplog.at_level(logging.WARNING):
        assert await _replayed(path) is None  # the rule was 5, whatever the file says
    assert "has lost changes that were acknowledged" in caplog.text
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    for uri, document in ((OTHER, {"b": 1}), (RULE, {"a": 3})):
        await store.change(uri, Document.of(document))
    await store.close()
    assert await _replayed(path) == NEWEST  # observed again


async def test_a_log_that_is_whole_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "graph.db"
    await _made(path)
    assert "changed" in await _die(path)
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    found = await store.document(RULE)
    await store.close()
    assert found is not None
    assert (found[0], found[1].content) == (5, {"a": 5})
    assert "lost" not in caplog.text


async def test_an_older_copy_put_in_its_place_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    await _made(path)
    backup = path.read_bytes()
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    await store.change(RULE, Document.of({"a": 4}))
    await store.close()
    path.write_bytes(backup)
    assert await _replayed(path) is None


async def test_an_approval_that_may_have_been_used_in_what_was_lost_is_closed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "graph.db"
    await _made(path)
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    await store.request(sample_approval(), timedelta(days=1))
    await store.answer("approval-1", ApprovalState.APPROVED)
    await store.close()
    backup = path.read_bytes()
    await store.open()
    effect = sample_effect("deploy-9").model_copy(update={"approval": "approval-1"})
    assert await store.intend(effect, []) is not None
    await store.change(RULE, Document.of({"a": 4}))
    await store.close()
    path.write_bytes(backup)
    await store.open()
    assert await store.intend(effect, []) is None
    found = await store.approval("approval-1")
    await store.close()
    assert found is not None
    assert found.state is ApprovalState.EXPIRED


async def test_a_new_store_in_the_place_of_a_deleted_one_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    await _made(path)
    path.unlink()
    await _made(path)
    assert await _replayed(path) == NEWEST


_FILL = """
import asyncio, resource, signal, sys
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import StoreError
from execgraph.graphstore.sqlite.store import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1], namespace="team")
    await store.open()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, most))
    done = 0
    try:
        for n in range(1000):
            await store.change("acl:large", Document.of({"n": n, "x": "%x" % n * 9000}))
            done = n + 1
    except StoreError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        found = await store.document("acl:large")
        print(type(error).__name__, error, "|", done, found[0])
        await store.change("acl:large", Document.of("there is room again"))
    await store.close()

asyncio.run(main())
"""


async def test_a_disk_that_takes_no_more_gives_an_error_and_keeps_what_was_acknowledged(
    tmp_path: Path,
) -> None:
    assert limits.RLIMIT_FSIZE is not None
    assert signal.SIGXFSZ
    path = tmp_path / "graph.db"
    said = await _die(path, _FILL)
    error, _, counts = said.strip().rpartition("|")
    done, version = counts.split()
    assert error.startswith((StoreUnavailable.__name__, StoreError.__name__))
    assert "disk" in error
    assert done == version
    assert int(done) > 0
    assert await _errors(path) == []


async def test_a_full_disk_in_a_commit_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    await _made(path)
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    assert store._write is not None
    (pages,) = store._write.execute("PRAGMA page_count").fetchone()
    store._write.execute(f"PRAGMA max_page_count = {pages}")  # as SQLite sees a full disk
    large = Document.of([random.Random(1).randbytes(60_000).hex()])
    with pytest.raises(StoreError, match=r"is full; nothing was written\. Free some"):
        await store.change(RULE, large)
    assert (await store.lookup("deploy", _standing)).chosen == NEWEST
    store._write.execute("PRAGMA max_page_count = 1000000")
    assert await store.change(RULE, large) is not None
    assert (await store.lookup("deploy", _standing)).chosen is None
    await store.close()


async def test_a_number_of_a_lost_version_is_never_given_again(tmp_path: Path) -> None:
    """A process that remembers it would take the new version for the one it knew."""
    path = tmp_path / "graph.db"
    await _made(path)
    backup = path.read_bytes()
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    await store.change(RULE, Document.of({"a": 3, "b": 1}))
    assert (await store.lookup("deploy", _standing)).chosen == NEWEST
    remembered = {RULE: 4, OTHER: 1}
    assert await store.still(NEWEST, remembered)
    await store.close()
    path.write_bytes(backup)
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    await store.change(OTHER, Document.of({"b": 1}))
    event = await store.change(RULE, Document.of({"a": 9}))
    assert event is not None
    assert event.to_version > 4
    assert not await store.still(NEWEST, remembered)
    assert (await store.lookup("deploy", _standing)).chosen is None
    assert await store.resources("push") == {
        RULE: event.to_version,
        OTHER: (await store.read_facts({OTHER: frozenset()})).of(OTHER).version,
    }
    await store.close()
    assert await _errors(path) == []


@pytest.mark.parametrize("said", ["x", "", "a 9" + 40 * "9", "a b c"])
async def test_a_witness_that_says_nothing_sensible_is_written_anew(
    tmp_path: Path, said: str
) -> None:
    path = tmp_path / "graph.db"
    await _made(path)
    (tmp_path / "graph.db-witness").write_text(said)
    assert await _replayed(path) == NEWEST


async def test_a_new_file_beside_an_old_witness_has_lost_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "graph.db"
    await _made(path)
    path.unlink()
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    await store.write(sample_recording(guards=[guard(SPACE, RULE, {"a": 1})]))
    await store.close()
    store = SqliteStore(str(path), namespace=SPACE)
    await store.open()
    await store.close()
    assert "lost" not in caplog.text
