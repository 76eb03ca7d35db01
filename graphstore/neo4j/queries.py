"""The named queries of the ``.cypher`` files beside this module."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from ..statements import sections

__all__ = ["constraint_names", "is_of_schema", "queries", "query", "schema_statements", "writes"]

_FILES = ("facts", "traces", "reading", "marks", "retention")

#: What a statement that writes begins with: it does nothing in any other store that may have
#: come to be at the same address. Without that store's constraints it would make duplicates.
_HERE = """MATCH (here:ExecgraphSchema {id: 'execgraph', store: $store})
WITH true AS here
"""
_WRITES = re.compile(r"^\s*(CREATE|MERGE|SET|REMOVE|DELETE|DETACH DELETE|FOREACH)\b", re.MULTILINE)
_CONSTRAINT = re.compile(r"CREATE CONSTRAINT (\w+)")
_MADE = re.compile(r"CREATE (?:CONSTRAINT|INDEX) execgraph_(\w+)")

#: What makes the schema, and what brings an older one up to date.
_SCHEMA = ("create_", "drop_", "upgrade_")


def query(name: str) -> str:
    """The statement with this name, without its comments."""
    return queries()[name]


@cache
def queries() -> dict[str, str]:
    """All statements by name."""
    queries = dict(_of_schema())
    for file in _FILES:
        queries |= {name: _here(text) for name, text in _sections(file).items()}
    return queries


def _sections(file: str) -> dict[str, str]:
    return sections(Path(__file__).with_name(f"{file}.cypher"))


@cache
def _of_schema() -> dict[str, str]:
    sections = _sections("schema")
    made = sections.pop("create").splitlines()
    return {f"create_{_MADE.findall(line)[0]}": line for line in made} | sections


def _here(text: str) -> str:
    return _HERE + text if _WRITES.search(text) else text


def is_of_schema(name: str) -> bool:
    """Whether the statement finds or makes the schema, so that it needs none."""
    return name in _of_schema()


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
