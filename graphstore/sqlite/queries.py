"""Statements by name, from the ``.sql`` files beside this module."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

__all__ = ["QUERIES", "sections", "still"]

_HEADING = re.compile(r"^-- (?:name|version): (\w+)\n", re.MULTILINE)


def sections(file: str) -> dict[str, str]:
    """The sections of a file, by the word after ``-- name:`` or ``-- version:``."""
    _, *parts = _HEADING.split(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


#: Every statement of queries.sql.
QUERIES = sections("queries.sql")


@lru_cache(maxsize=256)
def still(resources: int) -> str:
    """The statement that decides whether a trace and this many resources are as accepted.

    The text depends on the number alone, so that the connection keeps it prepared.
    """
    return "\n".join([QUERIES["still"], *[QUERIES["still_current"]] * resources])
