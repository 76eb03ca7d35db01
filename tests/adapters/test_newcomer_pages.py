"""What the pages for newcomers show is true of the code."""

from __future__ import annotations

import re
from pathlib import Path

import execgraph
from execgraph import MissKind
from execgraph.graphstore.model import Effect

from .examples import said_without_a_key

DOCS = Path(execgraph.__file__).parent / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def shown(text: str) -> list[str]:
    """What a page says that its example prints."""
    [output] = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return str(output).splitlines()


def without_numbers(lines: list[str]) -> list[str]:
    """Tokens depend on how pydantic words a schema, and digests with them."""
    return [re.sub(r"[1-9]\d* tokens|[0-9a-f]{40}", "...", line) for line in lines]


def test_the_quickstart_needs_no_key_and_prints_what_it_says(tmp_path: Path) -> None:
    text = page("quickstart.md")
    said = said_without_a_key(text, tmp_path).splitlines()
    assert without_numbers(said) == without_numbers(shown(text))
    again = said_without_a_key(text, tmp_path).splitlines()
    assert again[0] == "first: replay, 0 requests, 0 tokens"


def test_the_tools_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    text = page("tools.md")
    assert said_without_a_key(text, tmp_path).splitlines() == shown(text)


def test_every_effect_class_is_told() -> None:
    rows = re.findall(r'^\| `"(\w+)"`', page("tools.md"), re.MULTILINE)
    assert rows == [str(effect) for effect in Effect]


def test_the_causes_come_as_the_page_tells(tmp_path: Path) -> None:
    said = said_without_a_key(page("not-replayed.md"), tmp_path)
    causes = re.findall(r"^  (\w[\w ]+): ", said, re.MULTILINE)
    assert causes == [
        MissKind.NEW_TASK,
        MissKind.PRECONDITION_NEVER_OBSERVED,
        MissKind.PRECONDITION_CHANGED,
        MissKind.REQUEST_CHANGED,
    ]
    assert re.findall(r"^\w+", said, re.MULTILINE) == ["live", "live", "live", "replay", "live"]


def test_every_cause_has_an_entry_that_says_what_to_do() -> None:
    text = page("not-replayed.md")
    entries = re.findall(
        r"^### ([^\n]+) \(`(\w+)`\)\n(.*?)(?=^###|\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert [(kind, name) for kind, name, _ in entries] == [(it, it.name) for it in MissKind]
    assert [name for _, name, body in entries if "*Do:*" not in body] == []
