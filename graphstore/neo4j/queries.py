"""The named queries of the ``.cypher`` files beside this module.

A file is a list of sections; each begins with a line ``// name: <name>`` and holds one statement.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["constraint_names", "is_of_schema", "queries", "query", "schema_statements", "writes"]

_FILES = (
    "schema.cypher",
    "facts.cypher",
    "traces.cypher",
    "reading.cypher",
    "marks.cypher",
    "retention.cypher",
)
_SECTION = re.compile(r"^// name: (\w+)\n", re.MULTILINE)


#: What a statement that writes begins with: it does nothing in any other store that may have
#: come to be at the same address. Without that store's constraints it would make duplicates.
_HERE = """MATCH (here:ExecgraphSchema {id: 'execgraph', store: $store})
WITH true AS here
"""
_WRITES = re.compile(r"^\s*(CREATE|MERGE|SET|REMOVE|DELETE|DETACH DELETE|FOREACH)\b", re.MULTILINE)
_CONSTRAINT = re.compile(r"CREATE CONSTRAINT (\w+)")

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
        sections = _sections((files(__package__) / file).read_text(encoding="utf-8"))
        if file != "schema.cypher":
            sections = {name: _here(text) for name, text in sections.items()}
        found |= sections
    return found


def _here(text: str) -> str:
    return _HERE + text if _WRITES.search(text) else text


@cache
def is_of_schema(name: str) -> bool:
    """Whether the statement finds or makes the schema, so that it needs none."""
    return name in _sections((files(__package__) / "schema.cypher").read_text(encoding="utf-8"))


@cache
def writes(name: str) -> bool:
    """Whether the statement with this name writes to one store alone, ``$store``."""
    return query(name).startswith(_HERE)


@cache
def constraint_names() -> frozenset[str]:
    """The constraints that a store needs."""
    statements = (query(name) for name in schema_statements())
    return frozenset(name for text in statements for name in _CONSTRAINT.findall(text))


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
