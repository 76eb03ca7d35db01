"""Files as a source: real files, and the operating system's own hints."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from execgraph import ConfigurationError
from execgraph.invalidation.files import hints as hints_module
from execgraph.invalidation.files import reading as reading_module
from execgraph.invalidation.files.claims import Claims
from execgraph.invalidation.files.file_source import FileSource
from execgraph.invalidation.files.observation import Observation, PathEvent, _readers
from execgraph.invalidation.files.places import Places
from execgraph.invalidation.files.reading import FileReader
from execgraph.invalidation.source import Source, Unreadable

QUICK = timedelta(milliseconds=50)
PATIENCE = 10.0
AGED = 2.1  # seconds after which a file's times are to be trusted

no_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)


def source(root: Path, *globs: str, resource: str = "acl:{path.stem}", **more: Any) -> FileSource:
    return FileSource(
        *(globs or ("*.yaml",)), resource=resource, root=root, **{"debounce": QUICK, **more}
    )


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def replace(path: Path, text: str) -> None:
    """As careful writers do it."""
    put(path.with_name(f".{path.name}.tmp"), text).replace(path)


@contextlib.asynccontextmanager
async def listening(to: FileSource) -> AsyncIterator[Callable[[str | None], Awaitable[None]]]:
    """What waits until a hint is given; hints before it do not count. It has scanned before."""
    await to.resources()
    heard: asyncio.Queue[str | None] = asyncio.Queue()

    async def listen() -> None:
        async with contextlib.aclosing(to.changes()) as hints:
            async for hint in hints:
                heard.put_nowait(hint)

    async def until(wanted: str | None) -> None:
        async with asyncio.timeout(PATIENCE):
            while await heard.get() != wanted:
                pass

    task = asyncio.create_task(listen())
    try:
        await until(None)  # it listens now
        yield until
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def names_of_threads() -> list[str]:
    return sorted(
        type(thread).__name__
        for thread in threading.enumerate()
        if type(thread).__module__.startswith("watchdog")
    )


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert names_of_threads() == []


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all files whose content is read."""
    read: list[str] = []
    whole = FileReader._bytes

    def count(self: FileReader, path: str) -> tuple[bytes, os.stat_result]:
        read.append(path)
        return whole(self, path)

    monkeypatch.setattr(FileReader, "_bytes", count)
    return read


def test_it_is_a_source(tmp_path: Path) -> None:
    assert isinstance(source(tmp_path), Source)


# What is there ------------------------------------------------------------------------------


async def test_each_file_is_a_resource(tmp_path: Path) -> None:
    put(tmp_path / "deploy.yaml", "who: [ada]")
    put(tmp_path / "read.yaml", "who: [bob]")
    put(tmp_path / "notes.txt", "no")
    it = source(tmp_path)
    assert set(await it.resources()) == {"acl:deploy", "acl:read"}
    assert await it.read("acl:deploy") == {"who": ["ada"]}


async def test_it_may_be_read_before_it_was_listed(tmp_path: Path) -> None:
    put(tmp_path / "deploy.yaml", "who: [ada]")
    assert await source(tmp_path).read("acl:deploy") == {"who": ["ada"]}


async def test_asking_for_many_that_are_gone_looks_for_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "deploy.yaml", "who: [ada]")
    it = source(tmp_path)
    await it.resources()
    monkeypatch.setattr(Claims, "scan", None)
    assert [await it.read(f"acl:{number}") for number in range(100)] == [None] * 100


async def test_what_is_not_there_reads_as_none(tmp_path: Path) -> None:
    path = put(tmp_path / "deploy.yaml", "who: [ada]")
    it = source(tmp_path)
    await it.resources()
    path.unlink()
    assert await it.read("acl:deploy") is None
    assert await it.read("acl:other") is None
    assert await it.resources() == {}


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.yaml", {"a"}),
        ("**/*.yaml", {"a", "x/b", "x/y/c"}),
        ("x/**/*.yaml", {"b", "y/c"}),
        ("*/*.yaml", {"x/b"}),
        ("*/y/*", {"x/y/c"}),
        ("**/y/**/c.yaml", {"x/y/c"}),
        ("[ab].yaml", {"a"}),
        ("?.yaml", {"a"}),
        ("x/b.yaml", {"b"}),
        (".hidden/*.yaml", {"d"}),
        ("**/.*.yaml", {".e"}),
        ("./x/../*.yaml", {"a"}),
        ("missing/*.yaml", set()),
        ("a.yaml/*", set()),
    ],
)
async def test_globs(tmp_path: Path, glob: str, found: set[str]) -> None:
    for name in ("a.yaml", "x/b.yaml", "x/y/c.yaml", ".hidden/d.yaml", ".e.yaml"):
        put(tmp_path / name, "1")
    for name in ("a.yaml~", "x/.b.yaml.swp", "#a.yaml#"):
        put(tmp_path / name, "1")
    it = source(tmp_path, glob, resource="acl:{path}")
    assert set(await it.resources()) == {f"acl:{name}" for name in found}


async def test_an_absolute_glob_needs_no_root(tmp_path: Path) -> None:
    put(tmp_path / "a.yaml", "1")
    it = FileSource(f"{tmp_path}/*.yaml", resource="acl:{path.stem}")
    assert set(await it.resources()) == {"acl:a"}


async def test_the_working_folder_is_that_of_the_declaration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "here/a.yaml", "1")
    monkeypatch.chdir(tmp_path / "here")
    it = FileSource("*.yaml", resource="acl:{path.stem}")
    below = FileSource("*.yaml", resource="acl:{path.stem}", root="../here")
    monkeypatch.chdir(tmp_path)
    assert set(await it.resources()) == set(await below.resources()) == {"acl:a"}
    assert it.name == below.name == f"files *.yaml in {tmp_path}/here as acl:{{path.stem}}"


def test_an_absolute_glob_is_the_same_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        names.add(FileSource(f"{tmp_path}/*.yaml", resource="acl:{path.stem}").name)
    assert names == {f"files {tmp_path}/*.yaml as acl:{{path.stem}}"}


def test_a_relative_glob_in_a_folder_that_was_deleted_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert FileSource("/etc/acl/*.yaml", resource="acl:{path.stem}").name
    with pytest.raises(ConfigurationError, match="working folder, which was deleted"):
        FileSource("acl/*.yaml", resource="acl:{path.stem}")


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("acl:{path.stem}", "acl:deploy"),
        ("acl:{path.name}", "acl:deploy.v1.yaml"),
        ("acl:{path.parent.name}/{path.stem}", "acl:prod/deploy.v1"),
        ("acl:{path}", "acl:eu/prod/deploy.v1"),
        ("rule:freeze", "rule:freeze"),
        ("{path.parent.name}:x", "prod:x"),
    ],
)
async def test_templates(tmp_path: Path, template: str, uri: str) -> None:
    put(tmp_path / "acl/eu/prod/deploy.v1.yaml", "1")
    uri = uri if uri != "acl:deploy" else "acl:deploy.v1"
    assert set(await source(tmp_path, "acl/**/*.yaml", resource=template).resources()) == {uri}


async def test_a_file_whose_resource_has_no_valid_name_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "Prod/a.yaml", "1")
    put(tmp_path / "test/a.yaml", "1")
    it = source(tmp_path, "*/*.yaml", resource="{path.parent.name}:{path.stem}")
    for _ in range(2):
        assert set(await it.resources()) == {"test:a"}
    assert [record.message.count("Prod:a") for record in caplog.records] == [1]


async def test_several_globs_and_a_file_that_two_of_them_match(tmp_path: Path) -> None:
    put(tmp_path / "a.yaml", "1")
    put(tmp_path / "b.json", "2")
    it = source(tmp_path, "*.yaml", "a.*", "*.json")
    assert set(await it.resources()) == {"acl:a", "acl:b"}
    assert await it.read("acl:a") == 1


async def test_a_glob_that_matches_nothing_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = source(tmp_path, "acl/*.yaml")
    for _ in range(3):
        assert await it.resources() == {}
    [record] = caplog.records
    assert f"no file matches {tmp_path}/acl/*.yaml" in record.message
    put(tmp_path / "acl/a.yaml", "1")
    assert set(await it.resources()) == {"acl:a"}
    shutil.rmtree(tmp_path / "acl")
    await it.resources()
    assert len(caplog.records) == 2


async def test_a_glob_that_is_a_directory_is_told_as_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "acl").mkdir()
    await source(tmp_path, "acl").resources()
    assert f"{tmp_path}/acl is a directory" in caplog.text


@pytest.mark.parametrize(
    ("globs", "settings", "said"),
    [
        ((), {}, "needs a glob"),
        (("",), {}, "is no glob"),
        (("acl/",), {}, "names directories"),
        (("acl/**",), {}, "names directories"),
        (("a**/b",), {}, "must stand alone"),
        (("*/../b",), {}, "'..' after a wildcard"),
        (("*",), {"resource": "acl:{path.steam}"}, "{path.stem}"),
        (("*",), {"resource": "acl:{}"}, "{path.stem}"),
        (("*",), {"resource": "acl:{path.stem"}, "brace"),
        (("*",), {"resource": "{path.stem}"}, "kind:name"),
        (("*",), {"resource": None}, "is no text"),
        (("*",), {"format": "xml"}, "json, yaml, toml, text, markdown"),
        (("*",), {"interval": 30}, "timedelta"),
        (("*",), {"interval": timedelta(0)}, "must be positive"),
        (("*",), {"debounce": timedelta(seconds=-1)}, "must be positive"),
        (("*",), {"max_age": timedelta(seconds=30)}, "not longer than interval"),
    ],
)
def test_wrong_settings_are_told_at_once(
    globs: tuple[str, ...], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        FileSource(*globs, **{"resource": "acl:{path.stem}", **settings})
    assert said in str(error.value)


def test_facts_live_for_three_intervals_unless_told_otherwise() -> None:
    minute = timedelta(minutes=1)
    assert FileSource("*", resource="a:{path}", interval=minute).max_age == 3 * minute
    it = FileSource("*", resource="a:{path}", interval=minute, max_age=2 * minute)
    assert it.max_age == 2 * minute
    assert it.interval == minute


def test_sources_that_make_other_resources_of_the_same_files_have_other_names() -> None:
    names = {FileSource("*", resource=it).name for it in ("acl:{path}", "rule:{path}")}
    assert len(names) == 2


# Links --------------------------------------------------------------------------------------


async def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    put(tmp_path / "a/one.yaml", "1")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "a/self").symlink_to(".")
    (tmp_path / "b").symlink_to("a")
    it = source(tmp_path, "**/*.yaml", resource="acl:{path}")
    assert set(await it.resources()) == {"acl:a/one", "acl:b/one"}


async def test_directories_that_all_link_to_each_other_end(tmp_path: Path) -> None:
    names = [f"d{number}" for number in range(12)]
    for name in names:
        put(tmp_path / name / "one.yaml", "1")
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    it = source(tmp_path, "**/*.yaml", resource="acl:{path}")
    found = await it.resources()
    assert {f"acl:{name}/one" for name in names} <= set(found)
    assert len(found) < 1000


async def test_a_file_reached_twice_through_links_is_one(tmp_path: Path) -> None:
    put(tmp_path / "a/one.yaml", "1")
    (tmp_path / "b").symlink_to("a")
    it = source(tmp_path, "**/*.yaml")
    assert set(await it.resources()) == {"acl:one"}
    assert await it.read("acl:one") == 1


async def test_a_link_that_leads_nowhere_is_not_there_and_one_to_itself_cannot_be_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.yaml").symlink_to("nowhere.yaml")
    (tmp_path / "b.yaml").symlink_to("b.yaml")
    it = source(tmp_path)
    assert await it.resources() == {"acl:b": None}
    with pytest.raises(OSError, match=r"b\.yaml"):
        await it.read("acl:b")


async def test_two_files_that_claim_one_resource_are_unreadable_until_one_gives_way(
    tmp_path: Path,
) -> None:
    put(tmp_path / "a.yaml", "1")
    other = put(tmp_path / "a.json", "1")
    it = source(tmp_path, "*")
    assert set(await it.resources()) == {"acl:a"}
    with pytest.raises(Unreadable, match=r"a\.json and by .*a\.yaml"):
        await it.read("acl:a")
    other.unlink()
    assert await it.read("acl:a") == 1


# Directories --------------------------------------------------------------------------------


async def test_a_directory_that_is_gone_has_no_resources_and_may_return(tmp_path: Path) -> None:
    put(tmp_path / "acl/a.yaml", "1")
    it = source(tmp_path, "acl/*.yaml")
    assert set(await it.resources()) == {"acl:a"}
    shutil.rmtree(tmp_path / "acl")
    assert await it.resources() == {}
    put(tmp_path / "acl/a.yaml", "2")
    assert set(await it.resources()) == {"acl:a"}
    assert await it.read("acl:a") == 2


@no_root
async def test_a_directory_that_cannot_be_read_is_neither_there_nor_gone(tmp_path: Path) -> None:
    put(tmp_path / "acl/a.yaml", "1")
    it = source(tmp_path, "acl/*.yaml")
    await it.resources()
    for mode in (0o000, stat.S_IRUSR):  # not even listed; names without what they are
        (tmp_path / "acl").chmod(mode)
        try:
            with pytest.raises(PermissionError):
                await it.resources()
        finally:
            (tmp_path / "acl").chmod(0o700)
    assert set(await it.resources()) == {"acl:a"}


@no_root
async def test_a_directory_below_that_never_could_be_read_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "a.yaml", "1")
    lost = put(tmp_path / "lost/b.yaml", "1").parent
    lost.chmod(0o000)
    it = source(tmp_path, "**/*.yaml")
    try:
        for _ in range(2):
            assert set(await it.resources()) == {"acl:a"}
    finally:
        lost.chmod(0o700)
    assert [f"{lost} cannot be read" in record.message for record in caplog.records] == [True]
    assert set(await it.resources()) == {"acl:a", "acl:b"}
    lost.chmod(0o000)
    try:
        with pytest.raises(PermissionError):
            await it.resources()
    finally:
        lost.chmod(0o700)


@no_root
async def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    put(tmp_path / "a.yaml", "1").chmod(0o000)
    it = source(tmp_path)
    assert set(await it.resources()) == {"acl:a"}
    with pytest.raises(PermissionError):
        await it.read("acl:a")


# Stamps -------------------------------------------------------------------------------------


async def test_ten_thousand_files_are_looked_at_without_reading_any(
    tmp_path: Path, counted: list[str]
) -> None:
    for number in range(100):
        (tmp_path / f"d{number}").mkdir()
        for inner in range(100):
            (tmp_path / f"d{number}/{inner}.json").write_bytes(b"{}")
    await asyncio.sleep(AGED)
    it = source(tmp_path, "**/*.json", resource="acl:{path}")
    first = dict(await it.resources())
    again = dict(await it.resources())
    assert len(first) == 10_000
    assert None not in first.values()
    assert first == again
    assert counted == []
    replace(tmp_path / "d7/7.json", "[]")
    changed = dict(await it.resources())
    assert {uri for uri in changed if changed[uri] != again[uri]} == {"acl:d7/7"}


async def test_a_stamp_is_not_trusted_while_a_change_might_not_show(tmp_path: Path) -> None:
    path = put(tmp_path / "a.yaml", "1")
    it = source(tmp_path)
    assert await it.resources() == {"acl:a": None}
    await asyncio.sleep(AGED)
    settled = (await it.resources())["acl:a"]
    assert settled is not None
    was = path.stat()
    path.write_text("2", encoding="utf-8")  # the same size,
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))  # and the same time, as tar sets it
    await asyncio.sleep(AGED)
    assert (await it.resources())["acl:a"] != settled


async def test_a_claim_of_another_file_changes_the_stamp(tmp_path: Path) -> None:
    put(tmp_path / "a.yaml", "1")
    it = source(tmp_path, "*")
    await asyncio.sleep(AGED)
    alone = await it.resources()
    put(tmp_path / "a.json", "1")
    await asyncio.sleep(AGED)
    assert alone != await it.resources()
    assert (await it.resources()) == (await it.resources())


# Being written ------------------------------------------------------------------------------


async def test_a_half_written_file_is_waited_for(
    tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "_FRESH_SECONDS", PATIENCE)
    path = put(tmp_path / "a.json", '{"who": ')
    it = source(tmp_path, "*.json", debounce=timedelta(seconds=1))
    reading = asyncio.create_task(it.read("acl:a"))
    while not counted:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    put(path, '{"who": "ada"}')
    assert await reading == {"who": "ada"}


async def test_one_that_stays_half_written_is_unreadable(
    tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "_FRESH_SECONDS", PATIENCE)
    put(tmp_path / "a.json", '{"who": ')
    with pytest.raises(Unreadable, match=r"a\.json is not JSON"):
        await source(tmp_path, "*.json").read("acl:a")
    assert len(counted) == 2


async def test_one_that_was_broken_long_ago_is_not_waited_for(
    tmp_path: Path, counted: list[str]
) -> None:
    path = put(tmp_path / "a.json", '{"who": ')
    os.utime(path, (0, 0))
    with pytest.raises(Unreadable):
        await source(tmp_path, "*.json").read("acl:a")
    assert len(counted) == 1


async def test_a_file_that_grows_while_it_is_read_is_unreadable_until_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    path = put(tmp_path / "log.txt", "begin\n")
    fstat = os.fstat
    grows = True

    def growing(descriptor: int) -> os.stat_result:
        found = fstat(descriptor)
        if grows:
            with path.open("a", encoding="utf-8") as file:
                file.write("more\n")
        return found

    monkeypatch.setattr(os, "fstat", growing)
    it = source(tmp_path, "*.txt")
    with pytest.raises(Unreadable, match=r"log\.txt keeps changing"):
        await it.read("acl:log")
    assert len(counted) == 5
    grows = False
    assert await it.read("acl:log") == path.read_text(encoding="utf-8")


async def test_a_file_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "a.yaml", "old")
    fstat = os.fstat
    calls = []

    def once(descriptor: int) -> os.stat_result:
        calls.append(descriptor)
        if len(calls) == 2:
            replace(path, "new")
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", once)
    assert await source(tmp_path).read("acl:a") == "new"


async def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    put(tmp_path / "a.yaml", "x" * 1001)
    with pytest.raises(Unreadable, match=r"1,001 bytes, and at most 1,000"):
        await source(tmp_path, max_bytes=1000).read("acl:a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
async def test_what_is_no_regular_file_is_no_resource(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    path = put(tmp_path / "a.yaml", "1")
    it = source(tmp_path)
    assert set(await it.resources()) == {"acl:a"}
    path.unlink()
    os.mkfifo(path)
    assert await it.read("acl:a") is None


# Hints --------------------------------------------------------------------------------------


async def test_what_happens_to_a_file_is_hinted(tmp_path: Path) -> None:
    path = put(tmp_path / "a.yaml", "1")
    async with listening(source(tmp_path)) as until:
        replace(path, "2")
        await until("acl:a")
        path.write_text("3", encoding="utf-8")
        await until("acl:a")
        put(tmp_path / "b.yaml", "1")
        await until("acl:b")
        path.rename(tmp_path / "c.yaml")
        await until("acl:a")
        await until("acl:c")
        (tmp_path / "b.yaml").unlink()
        await until("acl:b")


async def test_polling_finds_the_same(tmp_path: Path) -> None:
    path = put(tmp_path / "a.yaml", "1")
    async with listening(source(tmp_path, polling=True)) as until:
        assert names_of_threads() == []
        replace(path, "2")
        await until("acl:a")
        put(tmp_path / "b.yaml", "1")
        await until("acl:b")
        path.unlink()
        await until("acl:a")


async def test_a_burst_of_writes_is_one_hint(tmp_path: Path) -> None:
    path = put(tmp_path / "a.yaml", "1")
    it = source(tmp_path, debounce=timedelta(seconds=1))
    await it.resources()
    heard: list[str | None] = []
    hints = it.changes()
    assert await anext(hints) is None

    async def write() -> None:
        for number in range(20):
            replace(path, str(number))
            await asyncio.sleep(0.02)

    writing = asyncio.create_task(write())
    heard.append(await anext(hints))
    assert writing.done()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            heard.append(await anext(hints))
    await hints.aclose()
    assert heard == ["acl:a"]
    assert await it.read("acl:a") == 19


async def test_writes_that_do_not_end_are_told_all_the_same(tmp_path: Path) -> None:
    path = put(tmp_path / "a.yaml", "1")
    async with listening(source(tmp_path, debounce=timedelta(milliseconds=100))) as until:
        ended = time.monotonic() + 3

        async def write() -> None:
            while time.monotonic() < ended:
                replace(path, "2")
                await asyncio.sleep(0.01)

        writing = asyncio.create_task(write())
        await until("acl:a")
        assert not writing.done()
        await writing


async def test_reading_and_editors_scratch_files_are_no_hints(tmp_path: Path) -> None:
    path = put(tmp_path / "a.yaml", "1")
    it = source(tmp_path)
    await it.resources()
    hints = it.changes()
    assert await anext(hints) is None
    waiting = asyncio.ensure_future(anext(hints))
    for name in (".a.yaml.swp", "a.yaml~", "other.txt"):
        put(tmp_path / name, "scratch")
    assert path.read_text(encoding="utf-8") == "1"
    done, _ = await asyncio.wait([waiting], timeout=1)
    assert not done
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_config_map_swap_is_found(tmp_path: Path) -> None:
    """The layout that Kubernetes mounts: what is visible are links into ..data/."""
    mounted = tmp_path / "mounted"
    put(mounted / "..2026_1/a.yaml", "old")
    (mounted / "..data").symlink_to("..2026_1")
    (mounted / "a.yaml").symlink_to("..data/a.yaml")
    it = source(tmp_path, "mounted/*.yaml")
    await asyncio.sleep(AGED)
    before = await it.resources()
    assert set(before) == {"acl:a"}
    assert await it.read("acl:a") == "old"
    async with listening(it) as until:
        put(mounted / "..2026_2/a.yaml", "new")
        await until(None)  # the directory
        (mounted / "..data_tmp").symlink_to("..2026_2")
        (mounted / "..data_tmp").replace(mounted / "..data")
        await until(None)
        shutil.rmtree(mounted / "..2026_1")
        assert (await it.resources()) != before
        assert await it.read("acl:a") == "new"


async def test_a_directory_that_appears_goes_and_returns_is_hinted(tmp_path: Path) -> None:
    it = source(tmp_path, "deep/below/acl/*.yaml")
    folder = tmp_path / "deep/below/acl"
    async with listening(it) as until:
        folder.mkdir(parents=True)
        await until(None)
        for _ in range(2):
            put(folder / "a.yaml", "1")
            await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                while not await it.resources():
                    await until(None)
            shutil.rmtree(folder)
            await until(None)
            assert await it.resources() == {}
            folder.mkdir()
            await until(None)
        await asyncio.sleep(0.5)  # watched again by now
        put(folder / "b.yaml", "1")
        await until("acl:b")


async def test_a_directory_that_is_a_link_is_followed_to_where_it_leads(tmp_path: Path) -> None:
    put(tmp_path / "releases/1/a.yaml", "old")
    put(tmp_path / "releases/2/a.yaml", "new")
    (tmp_path / "current").symlink_to("releases/1")
    it = source(tmp_path, "current/*.yaml")
    async with listening(it) as until:
        put(tmp_path / "releases/1/a.yaml", "old still")
        await until("acl:a")
        assert await it.read("acl:a") == "old still"
        (tmp_path / "next").symlink_to("releases/2")
        (tmp_path / "next").replace(tmp_path / "current")
        await until(None)
        assert await it.read("acl:a") == "new"
        await asyncio.sleep(0.5)
        put(tmp_path / "releases/2/a.yaml", "newer")
        await until("acl:a")


async def test_files_below_a_link_are_hinted(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/a.yaml", "1")
    (tmp_path / "acl").mkdir()
    (tmp_path / "acl/team").symlink_to(tmp_path / "elsewhere")
    it = source(tmp_path, "acl/**/*.yaml", resource="acl:{path}")
    async with listening(it) as until:
        put(tmp_path / "elsewhere/a.yaml", "2")
        await until("acl:team/a")


async def test_files_in_a_new_directory_are_hinted(tmp_path: Path) -> None:
    it = source(tmp_path, "**/*.yaml", resource="acl:{path}")
    async with listening(it) as until:
        put(tmp_path / "new/a.yaml", "1")
        await until(None)
        assert set(await it.resources()) == {"acl:new/a"}
        (tmp_path / "new").rename(tmp_path / "renamed")
        await until(None)
        assert set(await it.resources()) == {"acl:renamed/a"}
        put(tmp_path / "renamed/a.yaml", "2")
        await until("acl:renamed/a")


async def test_a_storm_of_events_says_look_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "_BURST", 50)
    async with listening(source(tmp_path)) as until:
        for number in range(100):
            put(tmp_path / f"{number}.yaml", "1")
        await until(None)


@pytest.mark.parametrize("which", ["the observer", "its reader"])
async def test_threads_that_die_are_replaced(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hints_module, "_CHECK_SECONDS", 0.1)
    begun: list[Observation] = []
    start = Observation.start

    def remembered(self: Observation) -> None:
        begun.append(self)
        start(self)

    monkeypatch.setattr(Observation, "start", remembered)
    path = put(tmp_path / "a.yaml", "1")
    async with listening(source(tmp_path)) as until:
        observer = begun[0]._observer
        assert observer is not None
        threads: list[Any] = [observer] if which == "the observer" else _readers(observer)
        if not threads:
            pytest.skip("no such thread here")
        for thread in threads:
            thread.stop()
        await until(None)
        assert len(begun) == 2
        if which == "its reader":  # an observer that ends may take its emitters along first
            assert "stopped unexpectedly" in caplog.text
        replace(path, "2")
        await until("acl:a")


async def test_threads_that_were_told_to_stop_have_not_died(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = Places({}, {})
    observation = Observation(places)
    observation.start()
    observation.stop()
    assert observation.stale
    assert caplog.text == ""


async def test_who_listens_can_be_cancelled_in_the_moment_of_an_event(tmp_path: Path) -> None:
    observation = Observation(Places({}, {}))
    listening = asyncio.ensure_future(observation.burst(quiet=1, longest=1, patience=PATIENCE))
    await asyncio.sleep(0.01)
    observation._put(PathEvent((str(tmp_path),), of_directory=False))
    await asyncio.sleep(0)  # the event wakes it
    await asyncio.sleep(0)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening


async def test_when_no_more_can_be_watched_it_polls_and_says_which_limit_to_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from watchdog.observers import inotify_c

    def full(*_: object) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr(inotify_c, "inotify_add_watch", full)
    path = put(tmp_path / "a.yaml", "1")
    async with listening(source(tmp_path)) as until:
        assert "fs.inotify.max_user_watches" in caplog.text
        assert names_of_threads() == []
        replace(path, "2")
        await until("acl:a")


async def test_the_limit_is_noticed_when_only_directories_below_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """watchdog says nothing of those: the first watch succeeds, all others do not."""
    from watchdog.observers import inotify_c

    add = inotify_c.inotify_add_watch
    added: list[bytes] = []

    def nearly_full(descriptor: int, path: bytes, mask: int) -> int:
        if added:
            ctypes.set_errno(errno.ENOSPC)
            return -1
        added.append(path)
        return add(descriptor, path, mask)

    monkeypatch.setattr(inotify_c, "inotify_add_watch", nearly_full)
    put(tmp_path / "acl/a/a.yaml", "1")
    async with listening(source(tmp_path, "acl/**/*.yaml")):
        assert "fs.inotify.max_user_watches" in caplog.text


async def test_it_may_be_listened_to_again(tmp_path: Path) -> None:
    path = put(tmp_path / "a.yaml", "1")
    it = source(tmp_path)
    for text in ("2", "3"):
        async with listening(it) as until:
            replace(path, text)
            await until("acl:a")


async def test_closing_hints_ends_their_threads(tmp_path: Path) -> None:
    hints = source(tmp_path).changes()
    assert await anext(hints) is None
    assert names_of_threads() != []
    await hints.aclose()
    assert names_of_threads() == []
