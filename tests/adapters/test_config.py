"""execgraph.toml: what it may say, and what is said of mistakes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from execgraph import ConfigurationError
from execgraph.adapters.commands.common import duration
from execgraph.adapters.commands.config import read_config
from execgraph.graphstore.connect import connect

SOURCE = "[[source]]\nglob = 'acl/*.yaml'\nresource = 'acl:{path.stem}'\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "execgraph.toml"
    path.write_text(text, encoding="utf-8")
    return path


async def test_all_that_it_may_say(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        store = "neo4j://localhost:7687"
        namespace = "team-a"

        [[source]]
        glob = ["acl/*.yaml", "more/*.yml"]
        resource = "acl:{path.stem}"
        format = "yaml"
        interval = "5m"
        max_age = "1h"
        debounce = "100ms"
        polling = true
        max_bytes = 1000

        [[source]]
        glob = "rules.md"
        resource = "rule:all"
        interval = 2.5
        """,
    )
    config = read_config(path)
    assert (config.store, config.namespace) == ("neo4j://localhost:7687", "team-a")
    first, second = config.sources
    assert first.interval == timedelta(minutes=5)
    assert first.max_age == timedelta(hours=1)
    assert second.interval == timedelta(seconds=2.5)
    assert second.max_age == timedelta(seconds=7.5)
    assert "more/*.yml" in first.name


async def test_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project/acl").mkdir(parents=True)
    (tmp_path / "project/acl/a.yaml").write_text("1", encoding="utf-8")
    write(tmp_path / "project", f"store = 'sqlite:///graph.db'\n{SOURCE}")
    monkeypatch.chdir(tmp_path)
    config = read_config(Path("project/execgraph.toml"))
    monkeypatch.chdir("/")
    assert set(await config.sources[0].resources()) == {"acl:a"}
    assert config.store == f"sqlite:///{tmp_path}/project/graph.db"


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "100%41 sure"
    folder.mkdir()
    store = read_config(write(folder, f"store = 'sqlite:///graph.db'\n{SOURCE}")).store
    assert store is not None
    opened = connect(store, namespace="team-a").url
    assert opened == f"sqlite:///{tmp_path}/100%2541 sure/graph.db", "as it can be given again"
    assert connect(opened, namespace="team-a").url == opened


def test_copies_of_a_file_are_known_as_one(tmp_path: Path) -> None:
    def digest(name: str, text: str) -> str:
        (tmp_path / name).mkdir()
        return read_config(write(tmp_path / name, text)).digest

    absolute = SOURCE.replace("acl/", "/etc/acl/")
    assert digest("a", absolute) == digest("b", absolute) != digest("c", SOURCE)


def test_relative_globs_in_two_folders_name_other_files(tmp_path: Path) -> None:
    for name in ("billing", "search"):
        (tmp_path / name).mkdir()
    billing, search = (read_config(write(tmp_path / it, SOURCE)) for it in ("billing", "search"))
    assert billing.digest != search.digest, "one would stand by while nobody watches its files"


def test_a_store_may_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, f"store = 'neo4j://me:${{A_PASSWORD}}@host:7687'\n{SOURCE}")
    monkeypatch.setenv("A_PASSWORD", "s3cret")
    assert read_config(path).store == "neo4j://me:s3cret@host:7687"
    monkeypatch.delenv("A_PASSWORD")
    with pytest.raises(ConfigurationError, match="environment variable A_PASSWORD"):
        read_config(path)
    assert read_config(write(tmp_path, SOURCE)).store is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no source is named"),
        ("source = []", "at least 1 item"),
        ("source = 3", "write [[source]], in double brackets"),
        (SOURCE.replace("[[source]]", "[source]"), "write [[source]], in double brackets"),
        ("store = \n", "line 1"),
        (f"namespase = 'x'\n{SOURCE}", "unknown key 'namespase' at the top of the file; did you"),
        (f"namespase = 'x'\n{SOURCE}", "did you mean 'namespace'?"),
        (SOURCE.replace("[[source]]", "[[sources]]"), "did you mean 'source'?"),
        (f"{SOURCE}{SOURCE}intervall = 3", "unknown key 'intervall' in [[source]] number 2"),
        (f"{SOURCE}intervall = 3", "did you mean 'interval'?"),
        (f"{SOURCE}zzz = 3", "known are glob, resource, format"),
        ("[[source]]\nglob = 'x'", "[[source]] number 1 lacks the key 'resource'"),
        (f"{SOURCE}interval = 'soon'", "'interval' in [[source]] number 1 is no duration"),
        (f"{SOURCE}interval = true", "is no duration"),
        (f"{SOURCE}interval = -3", "is no duration"),
        (f"{SOURCE}interval = 0", "[[source]] number 1: interval=0:00:00"),
        (f"{SOURCE}polling = 'yes'", "'polling' in [[source]] number 1 should be a valid boolean"),
        (f"{SOURCE}format = 'xml'", "'json', 'yaml', 'toml', 'text' or 'markdown'"),
        (f"namespace = 3\n{SOURCE}", "'namespace' at the top of the file should be a valid string"),
        (f"namespace = ''\n{SOURCE}", "at least 1 character"),
        (SOURCE.replace("path.stem", "path.steam"), "{path.stem}"),
        (SOURCE.replace("'acl/*.yaml'", "[]"), "needs a glob"),
        (SOURCE.replace("'acl/*.yaml'", "[1]"), "'glob' in [[source]] number 1"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as error:
        read_config(path)
    assert said in str(error.value)
    assert str(error.value).startswith(str(path))


def test_a_file_that_is_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no .*execgraph\.toml"):
        read_config(tmp_path / "execgraph.toml")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_config(tmp_path)
    (tmp_path / "execgraph.toml").write_bytes(b"store = '\xff'")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_config(tmp_path / "execgraph.toml")


def test_what_is_suggested_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "execgraph.toml"
    for text in (None, "namespace = 'team-a'\n"):
        if text is not None:
            write(tmp_path, text)
        with pytest.raises(ConfigurationError) as error:
            read_config(path)
        suggested = str(error.value).partition(": source")[2]
        assert "\n" not in suggested
        write(tmp_path, f"{text or ''}source{suggested}\n")
        name = read_config(path).sources[0].name
        assert name == f"files config/acl/*.yaml in {tmp_path} as acl:{{path.stem}}"
        path.unlink()


def test_a_password_of_the_wrong_type_is_not_told(tmp_path: Path) -> None:
    path = write(tmp_path, f"store = ['neo4j://me:s3cret@host']\n{SOURCE}")
    with pytest.raises(ConfigurationError) as error:
        read_config(path)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(3, 3), (0.5, 0.5), ("3s", 3), ("200ms", 0.2), (" 1.5 m ", 90), ("1h", 3600), ("2d", 172800)],
)
def test_durations(text: object, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "3", "s", "1h30m", "-3s", -3, True, None, [3], float("nan"), float("inf"), f"{'9' * 20}d"],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        duration(text)
