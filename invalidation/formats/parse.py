"""What a file says, as a document: JSON, YAML, TOML, Markdown, or plain text."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Literal, get_args

from ...graphstore.canonical import Json
from ...graphstore.document import Document
from ...graphstore.errors import NotJson
from ..source import Unreadable
from .markdown import sections

if TYPE_CHECKING:
    pass

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


def _json(text: str) -> Any:
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
    members = dict(pairs)
    if len(members) < len(pairs):
        names = Counter(name for name, _ in pairs)
        twice = next(name for name, times in names.items() if times > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return members


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no number in JSON")


# YAML --------------------------------------------------------------------------------------


def _yaml(text: str) -> Json:
    from .yaml_reader import documents

    items = [item for item in documents(text) if item is not None]
    return items[0] if len(items) == 1 else items or None


# TOML --------------------------------------------------------------------------------------


def _toml(text: str) -> Any:
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


def _without_times(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_times(item) for key, item in value.items()}
        case list():
            return [_without_times(item) for item in value]
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return value


_PARSERS: dict[Format, Callable[[str], Json]] = {
    "json": _json,
    "yaml": _yaml,
    "toml": _toml,
    "text": str,
    "markdown": sections,
}
