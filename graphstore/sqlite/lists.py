"""Lists of numbers in JSON, added place by place, as functions of SQL."""

from __future__ import annotations

import json
import sqlite3
from itertools import zip_longest
from typing import Any

__all__ = ["add_functions"]


def add_functions(connection: sqlite3.Connection) -> None:
    """Have statements call ``added_lists(one, other)`` and the aggregate ``summed_lists(list)``."""
    connection.create_function("added_lists", 2, _added, deterministic=True)
    connection.create_aggregate("summed_lists", 1, _Sum)  # type: ignore[arg-type]  # gives text


def _added(one: str, other: str) -> str:
    both = zip_longest(json.loads(one), json.loads(other), fillvalue=0)
    return json.dumps([mine + theirs for mine, theirs in both])


class _Sum:
    def __init__(self) -> None:
        self._sum = "[]"

    def step(self, numbers: Any, /) -> None:
        self._sum = _added(self._sum, numbers)

    def finalize(self) -> str:
        return self._sum
