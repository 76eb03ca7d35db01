"""The pages agree with each other and with the code: links lead somewhere, what is named exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import execgraph

from .test_structure import FOLDERS, ROOMS

ROOT = Path(execgraph.__file__).resolve().parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = ROOT / "docs" / "decisions"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Without blocks of code, whose lines may look like headings or links."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What ``#...`` may name of a page: its headings as GitHub writes them, and its own anchors."""
    text = prose(page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}
    return slugs | set(re.findall(r'<a id="([\w-]+)">', text))


def links(page: Path) -> list[tuple[str, str]]:
    """The relative links of a page: path and anchor, either of which may be empty."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8")))
    inside = [it for it in found if not re.match(r"\w+:", it)]
    return [(path, anchor) for path, _, anchor in (it.partition("#") for it in inside)]


@pytest.mark.parametrize("page", PAGES, ids=lambda it: it.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    def leads_nowhere(path: str, anchor: str) -> bool:
        target = page.parent / path if path else page
        return not target.exists() or bool(anchor and anchor not in anchors(target))

    assert [it for it in links(page) if leads_nowhere(*it)] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_that_is_named_is_there(page: str) -> None:
    named = re.findall(r"`([\w./-]+/[\w./-]*)`", text_of(page))
    assert named
    assert [it for it in named if not (ROOT / it).exists()] == []


def test_the_map_has_every_folder_and_every_room() -> None:
    rows = re.findall(r"^\| `([\w/]+)/` \|", text_of("docs/architecture.md"), re.MULTILINE)
    rooms = {f"{folder}/{room}" for folder in ROOMS for room in ROOMS[folder]}
    assert set(rows) == {*FOLDERS, *rooms}


@pytest.mark.parametrize("folder", ROOMS)
def test_the_rooms_stand_in_the_order_in_which_they_may_import(folder: str) -> None:
    text = text_of("docs/architecture.md")
    assert tuple(re.findall(rf"^\| `{folder}/(\w+)/` \|", text, re.MULTILINE)) == ROOMS[folder]


def test_the_page_for_language_models_names_every_page() -> None:
    named = {path for path, _ in links(ROOT / "llms.txt")}
    pages = {page.relative_to(ROOT).as_posix() for page in PAGES if page.parent != DECISIONS}
    assert named == {*pages, "docs/decisions/README.md"}


def test_every_public_name_is_in_the_reference_once() -> None:
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    named = [
        name
        for page in pages
        for name in re.findall(r"^::: execgraph\.(\w+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(named) == list(execgraph.__all__)


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = text_of("mkdocs.yml")
    named = re.findall(r"^ +- (?:\w+: )?(\S+\.md)$", site, re.MULTILINE)
    commands = "docs/reference/commands.md"  # made when the site is built
    assert sorted(named) == sorted([commands, *(it.relative_to(ROOT).as_posix() for it in PAGES)])


def test_each_word_of_the_glossary_has_one_meaning() -> None:
    words = re.findall(r'<a id="([\w-]+)">', text_of("docs/glossary.md"))
    assert len(words) > 20
    assert len(words) == len(set(words))


#: Words of the glossary that mean nothing else on any page.
PLAIN = (
    "canonical form",
    "change event",
    "code key",
    "decision",
    "execution",
    "facet",
    "fingerprint",
    "namespace",
    "precondition",
    "resource",
    "selector",
    "step key",
    "task key",
    "trace",
)
#: Pages that use the words. Decisions are short, and docs/beside.md has the words of other systems.
GUIDES = [
    page
    for page in PAGES
    if (page.name == "README.md" and page.parent == ROOT) or page.parent == ROOT / "docs"
    if page.name not in {"beside.md", "glossary.md"}
]


def sentences(page: Path) -> str:
    """The prose of a page, without code, headings, tables, and links to anything but words."""
    text = prose(page.read_text(encoding="utf-8"))
    text = re.sub(r"^(#| {4}|\|(?!.*glossary\.md)).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "", text)
    return re.sub(r"\[[^\]]*\]\((?![\w/]*glossary\.md#)[^)]*\)", "", text)


@pytest.mark.parametrize("page", GUIDES, ids=lambda it: it.relative_to(ROOT).as_posix())
def test_a_word_of_the_glossary_is_linked_where_a_page_uses_it_first(page: Path) -> None:
    text = sentences(page)
    first = {word: re.search(rf"(?<![#\w-]){word}s?\b", text, re.IGNORECASE) for word in PLAIN}
    unlinked = [
        word
        for word, found in first.items()
        if found
        and not re.match(rf"\]\([\w/]*glossary\.md#{word.replace(' ', '-')}\)", text[found.end() :])
    ]
    assert unlinked == []


@pytest.mark.parametrize("page", GUIDES, ids=lambda it: it.relative_to(ROOT).as_posix())
def test_a_page_links_a_word_once(page: Path) -> None:
    linked = re.findall(r"glossary\.md#([\w-]+)", sentences(page))
    assert sorted(linked) == sorted(set(linked))


def test_every_word_of_the_glossary_is_linked_from_somewhere() -> None:
    linked = {anchor for page in GUIDES for path, anchor in links(page) if "glossary.md" in path}
    words = set(re.findall(r'<a id="([\w-]+)">', text_of("docs/glossary.md")))
    assert words - linked == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda it: it.relative_to(ROOT).as_posix())
def test_no_line_of_a_page_is_too_wide(page: Path) -> None:
    lines = prose(page.read_text(encoding="utf-8")).splitlines()
    assert [it for it in lines if len(it) > 120 and not it.startswith(("|", "    "))] == []


def test_each_decision_is_in_the_index_with_its_date_and_status() -> None:
    index = text_of("docs/decisions/README.md")
    rows = re.findall(
        r"^\| (\d+) \| \[(.+)\]\((\S+)\) \| (\S+) \| (.+) \|$", index, flags=re.MULTILINE
    )
    told = [
        (f"# {number}. {title}", f"Date: {date}. Status: {status}.")
        for number, title, _, date, status in rows
    ]
    pages = sorted(DECISIONS.glob("0*.md"))
    assert [file for _, _, file, _, _ in rows] == [page.name for page in pages]
    lines = [page.read_text(encoding="utf-8").splitlines() for page in pages]
    assert told == [(it[0], it[2]) for it in lines]
