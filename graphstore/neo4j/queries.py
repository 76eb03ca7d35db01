"""The named queries of the ``.cypher`` files beside this module.

A file is a list of sections; each begins with a line ``// name: <name>`` and holds one statement.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["queries", "query", "schema_statements"]

_FILES = (
    "schema.cypher",
    "facts.cypher",
    "traces.cypher",
    "reading.cypher",
    "marks.cypher",
    "retention.cypher",
)
_SECTION = re.compile(r"^// name: (\w+)\n", re.MULTILINE)


#: What makes the schema, and what brings an older one up to date.
_SCHEMA = ("create_", "drop_", "upgrade_")


def query(name: str) -> str:
    """The statement with this name, without its comments."""
    return queries()[name]


@cache
def queries() -> dict[str, str]:
    """All statements by name."""
    found: dict[str, str] = {}
    for file in _FILES:
        found |= _sections((files(__package__) / file).read_text(encoding="utf-8"))
    return found


def schema_statements() -> list[str]:
    """The names of the statements that make the schema, in the order to run them."""
    return [name for name in queries() if name.startswith(_SCHEMA)]


def _sections(text: str) -> dict[str, str]:
    _, *parts = _SECTION.split(text)
    return {
        name: _without_comments(body) for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("//")).strip()
