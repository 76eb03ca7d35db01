"""The statements that stores run, by name, from files beside the code that runs them.

A file is a list of sections: a line ``-- name: <name>``, or ``// name: <name>``, and one
statement. In it ``{{step: s.*}}`` stands for ``s.position, s.kind, ...``: for each of the
``FIELDS`` with that name once what comes after the colon, with the field in the star's place.
A section with ``{{by}}`` in its name is one for each of ``BY``, which stands for it in its text.
"""

from __future__ import annotations

import re
from pathlib import Path

from .records import FIELDS
from .roles.history import BY

__all__ = ["sections"]

_HEADING = re.compile(r"^(?:--|//) (?:name|version): (\w+(?:\{\{by\}\})?)\n", re.MULTILINE)
_COMMENT = re.compile(r"^(?:--|//).*\n?", re.MULTILINE)
_BY = "{{by}}"
_EACH = re.compile(r"\{\{(\w+): (.+?)\}\}")


def sections(file: Path) -> dict[str, str]:
    """The sections of a file by name, without the lines that are comments."""
    _, *parts = _HEADING.split(file.read_text(encoding="utf-8"))
    return {
        name.replace(_BY, by): _written_out(text.replace(_BY, by))
        for name, text in zip(parts[::2], parts[1::2], strict=True)
        for by in (BY if _BY in name else ("",))
    }


def _written_out(text: str) -> str:
    return _EACH.sub(_each, _COMMENT.sub("", text)).strip()


def _each(match: re.Match[str]) -> str:
    fields, pattern = match.groups()
    return ", ".join(pattern.replace("*", field) for field in FIELDS[fields])
