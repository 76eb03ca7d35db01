"""docs/watching.md says what is so: its files are read, its programs run."""

from __future__ import annotations

import asyncio
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import execgraph
from execgraph import Source
from execgraph.adapters.commands.config import read_config
from execgraph.adapters.commands.service import Service
from execgraph.graphstore.connect import connect
from execgraph.invalidation.files.template import PLACEHOLDERS
from execgraph.invalidation.formats import FORMATS, format_of, parse
from execgraph.invalidation.watching.watcher import Watcher

ROOT = Path(execgraph.__file__).resolve().parent
PAGE = (ROOT / "docs/watching.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_file_is_one_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECGRAPH_STORE", "neo4j://localhost:7687")
    [text] = blocks("toml")
    path = tmp_path / "execgraph.toml"
    path.write_text(text, encoding="utf-8")
    config = read_config(path)
    assert config.namespace == "team-a"
    first, second = config.sources
    assert (first.interval, first.max_age) == (timedelta(seconds=30), timedelta(seconds=90))
    assert second.name == (
        f"files config/rules.md, config/freeze.txt in {tmp_path} as rule:{{path.stem}}"
    )


def test_the_file_has_every_key_there_is() -> None:
    from execgraph.adapters.commands.config import _models

    [text] = blocks("toml")
    told = tomllib.loads(text)
    models = _models()
    assert set(told) == set(models["execgraph.toml"].model_fields)
    assert set(told["source"][0]) == set(models["[[source]]"].model_fields)


def test_every_placeholder_and_format_is_there() -> None:
    for name in PLACEHOLDERS:
        assert f"| `{{{name}}}` |" in PAGE
    rows = dict(re.findall(r"^\| `(\w+)` \| (\.[\w .]+|all others) \|", PAGE, re.MULTILINE))
    assert set(rows) == set(FORMATS)
    for name, suffixes in rows.items():
        for suffix in suffixes.split() if suffixes != "all others" else [".conf"]:
            assert format_of(suffix) == name


def test_the_markdown_is_what_it_says_it_is() -> None:
    [text] = blocks("markdown")
    said = re.search(r"^is `(\{.*?\}\}\})`", PAGE, re.DOTALL | re.MULTILINE)
    assert said is not None
    assert parse(text.encode(), "markdown") == eval(said[1].replace("\n", " "))


async def test_the_health_document_has_the_keys_that_are_told(tmp_path: Path) -> None:
    path = tmp_path / "execgraph.toml"
    path.write_text("[[source]]\nglob = 'x'\nresource = 'acl:x'", encoding="utf-8")
    service = Service(
        read_config(path), json_output=False, health=None, lease=timedelta(seconds=15)
    )
    _, document = await service.health()
    [told] = blocks("json")
    names = {first or second for first, second in re.findall(r'[{ ]"(\w+)": |, "(\w+)": ', told)}
    assert names == set(document)


async def test_the_programs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config/acl/prod").mkdir(parents=True)
    (tmp_path / "config/acl/prod/deploy.yaml").write_text("who: [ada]", encoding="utf-8")
    (tmp_path / "config/rules.md").write_text("# Refunds\nx", encoding="utf-8")
    first, second = blocks("python")
    space: dict[str, Any] = {}
    exec(first, space)
    await space["main"]()
    store = connect(f"sqlite:///{tmp_path}/graph.db", namespace="default")
    await store.open()
    for uri in ("acl:prod/deploy", "rule:all"):
        assert await store.document(uri) is not None

    class FlagService:
        def __init__(self) -> None:
            self.flags: dict[str, Any] = {"checkout": {"on": True}}
            self.changed: asyncio.Queue[str] = asyncio.Queue()

        async def revisions(self) -> list[tuple[str, str]]:
            return [(name, repr(flag)) for name, flag in self.flags.items()]

        async def flag(self, name: str) -> Any:
            return self.flags.get(name)

        async def next_change(self) -> str:
            return await self.changed.get()

    exec(second, space)
    service = FlagService()
    source = space["Flags"](service)
    assert isinstance(source, Source)
    hints: Any = source.changes()
    assert await anext(hints) is None, "what changed before is found by the scan it asks for"
    await hints.aclose()
    seen: asyncio.Queue[int] = asyncio.Queue()
    watcher = Watcher(
        store.of("flags"), [source], on_change=lambda event: seen.put_nowait(event.to_version)
    )
    async with watcher, asyncio.timeout(10):
        assert await seen.get() == 1
        service.flags["checkout"] = {"on": False}
        service.changed.put_nowait("checkout")
        assert await seen.get() == 2
    await store.close()
