"""Markdown as a document: an object of its sections."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["sections"]

_NUMBERED = re.compile(r"-|.* \(\d+\)")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n---[ \t]*(?:\n|\Z)", re.DOTALL)


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
    """A heading that opens a section. ``written``: what its title does not say of it, or
    nothing."""

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
