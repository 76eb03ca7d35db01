"""What a file says, as a document: JSON, YAML, TOML, Markdown, or plain text."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..graphstore.canonical import Json
from ..graphstore.document import Document
from ..graphstore.errors import NotJson
from .source import Unreadable

if TYPE_CHECKING:
    from markdown_it.token import Token

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
_DOTTED = rb"""(?:[A-Za-z0-9_'"-]+[ \t]*\.[ \t]*){200}"""
_NUMBERED = re.compile(r"-|.* \(\d+\)")
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
    try:
        Document.of(document)
    except NotJson as error:
        raise Unreadable(f"cannot be kept as JSON: {error}") from None
    return document


# JSON --------------------------------------------------------------------------------------


def _json(text: str) -> Json:
    try:
        return json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except ValueError as error:
        raise Unreadable(f"is not JSON: {error}") from None


def _without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(name for name, _ in pairs)
        twice = next(name for name, times in names.items() if times > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return found


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no number in JSON")


# YAML --------------------------------------------------------------------------------------


def _yaml(text: str) -> Json:
    from .yaml_reader import documents

    found = [item for item in documents(text) if item is not None]
    return found[0] if len(found) == 1 else found or None


# TOML --------------------------------------------------------------------------------------


def _toml(text: str) -> Json:
    import tomllib

    import re2

    # tomllib takes time quadratic in the parts of a dotted key, which none has so many of.
    if re2.search(_DOTTED, text.encode()):
        raise Unreadable("is nested too deeply: a key has more than 200 parts")
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
    ``""`` of the whole. A heading that its section has already becomes ``Refunds (2)``. Under
    ``"#"`` is the heading as it was written, if its title does not tell where a link in it leads,
    or if it has itself such a number.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    root = _Section({})
    stack = [(0, root)]
    start = 0
    for heading in _headings(text):
        _put_text(stack[-1][1].content, lines[start : heading.first])
        start = heading.after
        while stack[-1][0] >= heading.level:
            stack.pop()
        stack.append((heading.level, stack[-1][1].below(heading)))
    _put_text(stack[-1][1].content, lines[start:])
    return root.content


@dataclass(frozen=True, slots=True)
class _Heading:
    """One that opens a section. ``written``: what its title does not say of it, or nothing."""

    level: int
    title: str
    written: str
    first: int  # line
    after: int


@dataclass(slots=True)
class _Section:
    content: dict[str, Any]
    numbers: Counter[str] = field(default_factory=Counter)

    def below(self, heading: _Heading) -> _Section:
        """A section of this one, under the heading's title, or that with a number."""
        name = heading.title
        while name in self.content:
            self.numbers[heading.title] += 1
            name = f"{heading.title} ({self.numbers[heading.title] + 1})"
        section = _Section({"#": heading.written} if heading.written else {})
        self.content[name] = section.content
        return section


def _headings(text: str) -> Iterator[_Heading]:
    """The headings that open a section."""
    from markdown_it import MarkdownIt

    front = _FRONT_MATTER.match(text)
    skipped = front.group().count("\n") if front else 0
    tokens = MarkdownIt("commonmark").parse(text[front.end() :] if front else text)
    for opening, inline in pairwise(tokens):
        # One inside a quotation or a list heads no section of the whole.
        if opening.type == "heading_open" and opening.level == 0 and opening.map is not None:
            title = " ".join("".join(_plain(inline.children or ())).split())
            first, after = (line + skipped for line in opening.map)
            written = inline.content if _says_more(title, inline.children or ()) else ""
            yield _Heading(int(opening.tag[1:]), title or "-", written, first, after)


def _says_more(title: str, tokens: Iterable[Token]) -> bool:
    """Whether a heading says what its title does not: where a link leads, or that what looks like
    a number of ours is its own."""
    return bool(_NUMBERED.fullmatch(title)) or any(token.attrs for token in tokens)


def _plain(tokens: Iterable[Token]) -> Iterator[str]:
    for token in tokens:
        yield " " if token.type in ("softbreak", "hardbreak") else token.content


def _put_text(section: dict[str, Any], lines: list[str]) -> None:
    if text := "\n".join(lines).strip():
        section[""] = text


_PARSERS: dict[Format, Callable[[str], Json]] = {
    "json": _json,
    "yaml": _yaml,
    "toml": _toml,
    "text": str,
    "markdown": sections,
}
