"""A process is killed while it works on a store. The next one finds that it did or did not happen,
and goes on from there. ``EXECGRAPH_CRASHES=all``: at every point there is, which takes long."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from execgraph.adapters.messages_api import MessagesServer
from execgraph.graphstore.neo4j import queries
from execgraph.graphstore.neo4j.store import Neo4jStore

from . import migrating
from .agents import LIVES, brain
from .dumps import sqlite_lines
from .scenarios import SCENARIOS
from .sweep import Crashes, Migrations, Zygote, crashes_of, swept, zygote

#: Points within calls, beside those after calls; None: all points.
WITHIN = None if os.environ.get("EXECGRAPH_CRASHES") == "all" else 2
#: After how many calls that changed the store a process is killed: the rest is left to `all`.
CALLS = {"sqlite": 10, "neo4j": 3}
#: Calls of a store after which less may be replayed than before.
TAKING_AWAY = {"change", "unpublish"}
FULL = 2  # as SQLite tells it


@pytest.fixture(scope="module")
def forks() -> Iterator[Zygote]:
    with zygote() as it:
        yield it


@pytest.fixture(scope="module")
def model() -> Iterator[MessagesServer]:
    with MessagesServer(brain) as it:
        yield it


@pytest.fixture
def url(url: str) -> str:
    """Of a Neo4j server; an SQLite file is made for each death."""
    return "sqlite:" if url.startswith("sqlite") else url


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_call_of_the_store_happened_or_did_not(
    forks: Zygote, url: str, tmp_path: Path, model: MessagesServer, name: str
) -> None:
    crashes = crashes_of(name, forks, url, tmp_path, model)
    report = await swept(crashes, WITHIN, calls=CALLS[url.partition(":")[0]])
    assert report.killed.total() > 0


@pytest.mark.parametrize("name", LIVES)
async def test_an_agent_goes_on_in_the_next_process(
    forks: Zygote, url: str, tmp_path: Path, model: MessagesServer, name: str
) -> None:
    crashes = crashes_of(name, forks, url, tmp_path, model)
    report = await swept(crashes, WITHIN, calls=4)
    assert report.killed["after"] >= 3


@pytest.mark.parametrize("version", migrating.OLD_VERSIONS)
async def test_a_file_is_of_one_version_or_of_another(
    forks: Zygote, tmp_path: Path, version: int
) -> None:
    report = await swept(Migrations(forks, version, tmp_path), WITHIN and 2 * WITHIN)
    assert report.killed["before statement"] > 0


@pytest.mark.neo4j
async def test_the_migration_of_a_graph_is_done_again(
    forks: Zygote, neo4j_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statements are harmless when repeated, and the version is written last."""

    def ask(mark: str, die_at: int | None) -> dict[str, object]:
        told = {"url": neo4j_uri, "namespace": "team", "private": mark}
        return forks.ask(act="opening", die_at=die_at, **told)

    async def migrated(die_at: int | None) -> tuple[object, dict[str, object]]:
        mark = f"X{uuid.uuid4().hex[:8]}"
        try:
            migrating.old_graph(neo4j_uri, mark)
            answer = ask(mark, die_at)
            private = migrating.private(mark)
            if die_at is not None:
                with monkeypatch.context() as patched:
                    patched.setattr(queries, "queries", lambda: private)
                    store = Neo4jStore(neo4j_uri, namespace="team")
                    await store.open()
                    await store.close()
            return _without(mark, migrating.schema(neo4j_uri, mark)), answer
        finally:
            migrating.drop(neo4j_uri, mark)

    expected, answer = await migrated(None)
    points = answer["points"]
    assert isinstance(points, list)
    for point in points if WITHIN is None else points[3 :: len(points) // 4]:
        found, died = await migrated(point[0])
        assert died["ended"] == -9
        assert found == expected, point


def _without(mark: str, schema: object) -> object:
    """Nor the id that each store has of its own."""
    told = str(schema).replace(mark, "").replace(mark.lower(), "")
    return re.sub(r"'store', '[0-9a-f-]+'", "'store'", told)


# Power --------------------------------------------------------------------------------------


async def test_what_a_power_cut_takes_it_takes_as_a_whole(forks: Zygote, tmp_path: Path) -> None:
    """The newest frames of the log are lost, wherever one begins or within one."""
    rng = random.Random(1)
    for name in ("recording", "changing", "walking", "collecting"):
        crashes = Crashes(forks, "sqlite:", name, tmp_path)
        reference = await crashes.reference()
        last = next(it for it in reversed(reference.points) if it[1:3] == ["before", "close"])
        url, calls = await crashes.died(last[0])
        path = Path(url.removeprefix("sqlite:///"))
        log = path.with_name(path.name + "-wal").read_bytes()
        frame = 24 + int.from_bytes(log[8:12], "big")
        lengths = range(32, len(log) + 1, frame)
        for length in lengths if WITHIN is None else rng.sample(lengths, 20):
            ended = sum(size <= length for _, size in calls)
            for torn in (0, frame // 2):
                lines = _after_losing(path, tmp_path, log[: length + torn])
                assert lines == reference.dumps[ended], f"{name}: {length} bytes of the log"


def _after_losing(path: Path, folder: Path, log: bytes) -> list[str]:
    copy = folder / "lost.db"
    copy.write_bytes(path.read_bytes())
    copy.with_name("lost.db-wal").write_bytes(log)
    copy.with_name("lost.db-shm").unlink(missing_ok=True)
    db = sqlite3.connect(copy)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return sqlite_lines(db)
    finally:
        db.close()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_takes_a_replay_away_is_on_the_disk_before_the_answer(
    forks: Zygote, tmp_path: Path, name: str
) -> None:
    """``synchronous=FULL`` when it is committed: SQLite waits for the disk then, and only then."""
    reference = await Crashes(forks, "sqlite:", name, tmp_path).reference()
    traces = [sum('"published"' in line for line in lines) for lines in reference.dumps]
    for calls, ended, synchronous in reference.commits:
        takes_away = calls[-1] in TAKING_AWAY or traces[ended + 1] < traces[ended]
        assert (synchronous == FULL) == takes_away, calls


# What finds nothing must be able to find something ---------------------------------------------


@pytest.mark.parametrize(
    ("broken", "name", "at", "said"),
    [
        (
            "no transactions",
            "changing",
            "before statement INSERT INTO change_event",
            "state 1 of those that may be",
        ),
        (
            "no transactions",
            "recording",
            "before statement INSERT INTO guard",
            "state 1 of those that may be",
        ),
        ("no intents", "first run", "before write", "an effect of which the store knows nothing"),
        ("no marks", "walking", "before close", "marks of"),
    ],
)
async def test_what_is_broken_on_purpose_is_found(
    forks: Zygote, tmp_path: Path, *, broken: str, name: str, at: str, said: str
) -> None:
    with MessagesServer(brain) as model:
        crashes = crashes_of(name, forks, "sqlite:", tmp_path, model)
        crashes.broken = broken
        reference = await crashes.reference()
        [*_, (point, *_)] = [it for it in reference.points if f"{it[1]} {it[2]}".startswith(at)]
        with pytest.raises(AssertionError, match=said):
            await crashes.kill(reference, point, go_on=False)


async def test_a_change_that_is_not_on_the_disk_is_found(forks: Zygote, tmp_path: Path) -> None:
    crashes = Crashes(forks, "sqlite:", "changing", tmp_path)
    crashes.broken = "not on disk"
    reference = await crashes.reference()
    assert FULL not in {synchronous for *_, synchronous in reference.commits}
