"""Ways to break a store on purpose, each of which must be found. Used in children only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from execgraph.graphstore.model import SideEffect
from execgraph.graphstore.sqlite import changes, marks, recording
from execgraph.graphstore.sqlite.store import SqliteStore

__all__ = ["BREAK"]


def _no_transactions() -> None:
    @contextmanager
    def one_by_one(_: Any) -> Iterator[None]:
        yield

    for module in (changes, marks, recording):
        for name in ("writing", "taking_away"):
            if name in vars(module):
                vars(module)[name] = one_by_one


def _no_intents() -> None:
    async def begun(
        _: SqliteStore, effect: SideEffect, *_expected: object, **_wish: object
    ) -> SideEffect:
        return effect

    vars_of: Any = SqliteStore
    vars_of.intend = begun


def _no_marks() -> None:
    vars(marks)["_mark"] = lambda *_: (0, 0, 0)


def _not_on_disk() -> None:
    for module in (changes, recording):
        vars(module)["taking_away"] = vars(module)["writing"]


#: By what is wrong then.
BREAK = {
    "no transactions": _no_transactions,
    "no intents": _no_intents,
    "no marks": _no_marks,
    "not on disk": _not_on_disk,
}
