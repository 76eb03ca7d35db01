"""What a file says, as a document: JSON, YAML, TOML, Markdown, or plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..graphstore.canonical import Json
from ..graphstore.document import Document
from ..graphstore.errors import NotJson
from .source import Unreadable

if TYPE_CHECKING:
    from markdown_it.token import Token
    from ruamel.yaml import YAML

__all__ = ["FORMATS", "Format", "format_of", "parse"]

Format = Literal["json", "yaml", "toml", "text", "markdown"]
FORMATS: tuple[Format, ...] = get_args(Format)

_BY_SUFFIX: dict[str, Format] = {
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".md": "markdown",
    ".markdown": "markdown",
}
# More than a file holds, unless YAML aliases multiply what it says.
_MOST_VALUES = 8_000_000
_MOST_CHARACTERS = 128_000_000
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n---[ \t]*(?:\n|\Z)", re.DOTALL)


def format_of(suffix: str) -> Format:
    """The format that a file name's suffix stands for; text if none."""
    return _BY_SUFFIX.get(suffix.lower(), "text")


def parse(data: bytes, format: Format) -> Json:  # noqa: A002 - what it is called everywhere
    """The document that ``data`` says. Raises Unreadable, saying why it says none.

    YAML is 1.2 without tags of its own; several documents in a file become a list, empty ones
    do not count. Dates and times become text: of TOML in ISO form, of YAML as they are written.
    Markdown becomes an object of its sections (``sections``). What holds nothing (an empty
    file, ``null``) is unreadable, except as text.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 at byte {error.start}") from None
    document = _PARSERS[format](text)
    if document is None:
        raise Unreadable(f"holds nothing as {format.upper()}")
    _count(document)
    try:
        Document.of(document)
    except NotJson as error:
        raise Unreadable(f"cannot be kept as JSON: {error}") from None
    return document


def _count(document: Json) -> None:
    """Refuses what aliases blow up, or let refer to itself, before anybody walks all of it."""
    values = characters = 0
    below: list[Iterator[Any]] = [iter((document,))]
    while below:
        for item in below[-1]:
            values += 1
            if isinstance(item, str):
                characters += len(item)
            elif isinstance(item, dict | list):
                below.append(iter(item.values() if isinstance(item, dict) else item))
                break
        else:
            below.pop()
        if values > _MOST_VALUES or characters > _MOST_CHARACTERS:
            raise Unreadable("holds too much, or aliases that refer to themselves")


# JSON --------------------------------------------------------------------------------------


def _json(text: str) -> Json:
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except ValueError as error:
        raise Unreadable(f"is not JSON: {error}") from None


def _without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return found


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no number in JSON")


# YAML --------------------------------------------------------------------------------------


def _yaml(text: str) -> Json:
    from ruamel.yaml.error import YAMLError

    try:
        documents = [item for item in _yaml_reader().load_all(text) if item is not None]
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except (YAMLError, ValueError) as error:
        raise Unreadable(f"is not YAML: {_in_short(error)}") from None
    return documents[0] if len(documents) == 1 else documents or None


def _yaml_reader() -> YAML:
    """A reader of its own for each file: it keeps state, and files are read in several threads."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)  # the C parser reads YAML 1.1: `no` would be False
    yaml.Constructor = _yaml_constructor()
    return yaml


@cache
def _yaml_constructor() -> type:
    from ruamel.yaml.constructor import SafeConstructor

    class Constructor(SafeConstructor):
        """Constructs only what JSON knows."""

        def as_written(self, node: Any) -> str:
            return str(node.value)

    tag = "tag:yaml.org,2002:"
    Constructor.add_constructor(f"{tag}timestamp", Constructor.as_written)
    Constructor.add_constructor(f"{tag}binary", Constructor.as_written)
    Constructor.add_constructor(f"{tag}set", SafeConstructor.construct_yaml_map)
    return Constructor


def _in_short(error: Exception) -> str:
    """What is wrong and where, in one line."""
    problem = getattr(error, "problem", None) or str(error).strip().partition("\n")[0]
    problem = problem.partition(" with value ")[0]  # a document may hold what nobody should log
    mark = getattr(error, "problem_mark", None)
    return problem if mark is None else f"{problem}, line {mark.line + 1}"


# TOML --------------------------------------------------------------------------------------


def _toml(text: str) -> Json:
    import tomllib

    try:
        return _without_times(tomllib.loads(text))
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(f"is not TOML: {error}") from None


def _without_times(value: Any) -> Json:
    match value:
        case dict():
            return {key: _without_times(item) for key, item in value.items()}
        case list():
            return [_without_times(item) for item in value]
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return value


# Markdown ----------------------------------------------------------------------------------


def sections(text: str) -> dict[str, Any]:
    """Markdown as an object of its sections: ``{"Refunds": {"": "Within 30 days. ..."}}``.

    A section is named by its heading, without markup, and is an object: under ``""`` the text
    between its heading and the next one (left out if there is none), and each subsection by its
    heading. So ``$['Refunds']`` is a section with all below it, ``$['Refunds']['']`` its own text
    alone, and ``$..['Refunds']`` finds it at any level. What stands before the first heading is
    ``""`` of the whole. A heading that its section has already becomes ``Refunds (2)``.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    root: dict[str, Any] = {}
    stack = [(0, root)]
    start = 0
    for level, title, first, after in _headings(text):
        _put_text(stack[-1][1], lines[start:first])
        start = after
        while stack[-1][0] >= level:
            stack.pop()
        section: dict[str, Any] = {}
        stack[-1][1][_free(title, stack[-1][1])] = section
        stack.append((level, section))
    _put_text(stack[-1][1], lines[start:])
    return root


def _headings(text: str) -> Iterator[tuple[int, str, int, int]]:
    """Level, plain title, first line and the line after, of each heading that opens a section."""
    from markdown_it import MarkdownIt

    front = _FRONT_MATTER.match(text)
    skipped = front.group().count("\n") if front else 0
    tokens = MarkdownIt("commonmark").parse(text[front.end() :] if front else text)
    for opening, inline in pairwise(tokens):
        # One inside a quotation or a list heads no section of the whole.
        if opening.type == "heading_open" and opening.level == 0 and opening.map is not None:
            title = " ".join("".join(_plain(inline.children or ())).split())
            first, after = opening.map
            yield int(opening.tag[1:]), title or "-", first + skipped, after + skipped


def _plain(tokens: Iterable[Token]) -> Iterator[str]:
    for token in tokens:
        yield " " if token.type in ("softbreak", "hardbreak") else token.content


def _put_text(section: dict[str, Any], lines: list[str]) -> None:
    if text := "\n".join(lines).strip():
        section[""] = text


def _free(title: str, section: dict[str, Any]) -> str:
    number, name = 1, title
    while name in section:
        number += 1
        name = f"{title} ({number})"
    return name


_PARSERS: dict[Format, Callable[[str], Json]] = {
    "json": _json,
    "yaml": _yaml,
    "toml": _toml,
    "text": str,
    "markdown": sections,
}
