"""Statements by name, from the ``.sql`` files beside this module."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from .. import statements

__all__ = ["QUERIES", "sections", "still"]


def sections(file: str) -> dict[str, str]:
    """The sections of a file beside this one, by name or version."""
    return statements.sections(Path(__file__).with_name(file))


#: Every statement of queries.sql.
QUERIES = sections("queries.sql")


@lru_cache(maxsize=256)
def still(resources: int) -> str:
    """The statement that decides whether a trace and this many resources are as accepted.

    The text depends on the number alone, so that the connection keeps it prepared.
    """
    return "\n".join([QUERIES["still"], *[QUERIES["still_current"]] * resources])
