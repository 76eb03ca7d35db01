"""The named queries of the ``.cypher`` files beside this module."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..statements import sections

__all__ = [
    "given",
    "is_of_schema",
    "made_names",
    "queries",
    "query",
    "schema_statements",
    "writes",
]

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILES = ("facts", "traces", "journal", "reading", "marks", "retention", "approvals")

#: What a statement that writes begins with: it does nothing in any other store that may have
#: come to be at the same address. Without that store's constraints it would make duplicates.
_HERE = """MATCH (here:ExecgraphSchema {id: 'execgraph', store: $given.store})
WITH true AS here
"""
_WRITES = re.compile(r"^\s*(CREATE|MERGE|SET|REMOVE|DELETE|DETACH DELETE|FOREACH)\b", re.MULTILINE)
_PARAMETER = re.compile(r"\$(\w+)")
_GIVEN = re.compile(r"\$given\.(\w+)")
_MADE = re.compile(r"CREATE (?:CONSTRAINT|INDEX) execgraph_(\w+)")

#: What makes the schema, and what brings an older one up to date.
_SCHEMA = ("create_", "drop_", "upgrade_")


def query(name: str) -> str:
    """The statement with this name, without its comments."""
    return queries()[name]


def given(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of this statement, as it takes them: as one map.

    Of parameters by themselves the server's planner looks at how many a list has, how long a text
    is and whether it is null, and plans a statement anew for each: up to half a second each time.
    """
    missing = _parameters_of(query(name)) - parameters.keys()
    assert not missing, f"the statement {name} is not given {missing}"
    return {"given": parameters}


@cache
def _parameters_of(statement: str) -> frozenset[str]:
    return frozenset(_GIVEN.findall(statement))


@cache
def queries() -> dict[str, str]:
    """All statements by name."""
    queries = dict(_of_schema())
    for file in _FILES:
        queries |= {name: _here(text) for name, text in _sections(file).items()}
    return queries


def _sections(file: str) -> dict[str, str]:
    found = sections(Path(__file__).with_name(f"{file}.cypher"))
    return {name: _PARAMETER.sub(r"$given.\1", text) for name, text in found.items()}


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
def made_names() -> frozenset[str]:
    """The constraints and indexes that a store needs."""
    statements = (query(name) for name in schema_statements())
    return frozenset(f"execgraph_{name}" for text in statements for name in _MADE.findall(text))


def schema_statements() -> list[str]:
    """The names of the statements that make the schema, in the order to run them."""
    return [name for name in queries() if name.startswith(_SCHEMA)]
