"""Answers as notebooks show them: plain tables, with nothing that is loaded from elsewhere.

All that is shown is text of others, and none of it becomes markup. Colours are those of the
notebook, light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Html", "page", "shortened", "table"]

_LONGEST = 300  # characters of a cell
_CELL = "padding:2px 8px;vertical-align:top;text-align:{};white-space:pre-wrap"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def page(title: object, *parts: object) -> Html:
    """A title, and below it each part, a paragraph if it is no markup."""
    body = "".join(it if isinstance(it, Html) else f"<p>{_text(it)}</p>" for it in parts)
    return Html(f"<div><p><strong>{_text(title)}</strong></p>{body}</div>")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: int = 0) -> Html:
    """A table; the last ``numbers`` columns are numbers."""
    sides = ["left"] * (len(head) - numbers) + ["right"] * numbers
    lines = [_row("th", head, sides), *(_row("td", row, sides) for row in rows)]
    return Html(f"<table>{''.join(lines)}</table>")


def _row(tag: str, cells: Sequence[object], sides: Sequence[str]) -> str:
    shown = (
        f'<{tag} style="{_CELL.format(side)}">{_text(cell)}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(shown)}</tr>"


def _text(value: object) -> str:
    return escape(shortened("" if value is None else str(value), _LONGEST))


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and how much more there is."""
    if len(text) <= most:
        return text
    return f"{text[:most]}... ({len(text) - most:,} more characters)"
