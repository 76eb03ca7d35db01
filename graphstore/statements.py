"""The statements that stores run, by name, from files beside the code that runs them.

A file is a list of sections: a line ``-- name: <name>``, or ``// name: <name>``, and one
statement. In it ``{{step: s.*}}`` stands for ``s.position, s.kind, ...``: for each of the
``FIELDS`` with that name once what comes after the colon, with the field in the star's place.
"""

from __future__ import annotations

import re
from pathlib import Path

from .records import FIELDS

__all__ = ["sections"]

_HEADING = re.compile(r"^(?:--|//) (?:name|version): (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^(?:--|//).*\n?", re.MULTILINE)
_EACH = re.compile(r"\{\{(\w+): (.+?)\}\}")


def sections(file: Path) -> dict[str, str]:
    """The sections of a file by name, without the lines that are comments."""
    _, *parts = _HEADING.split(file.read_text(encoding="utf-8"))
    return {name: _written_out(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _written_out(text: str) -> str:
    return _EACH.sub(_each, _COMMENT.sub("", text)).strip()


def _each(match: re.Match[str]) -> str:
    fields, pattern = match.groups()
    return ", ".join(pattern.replace("*", field) for field in FIELDS[fields])
