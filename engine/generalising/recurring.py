"""Fields that are others on every run, among a few recordings of what a run has missed.

What they would save in all runs, and what speaks against a mark, ``proposals`` finds out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ...graphstore.canonical import Json, encode
from ..outcome.cause import Recurring
from .fields import LEAST_VALUES, Field, Scalar, fields_of, mark_for

__all__ = ["Compared", "recurring_inputs"]

_Fields = Mapping[Field, tuple[Scalar, ...]]


def recurring_inputs(
    now: Json, nearest: Json, recorded: Iterable[Json], but: Collection[str]
) -> Recurring | None:
    """The fields of a new task that are others in each recorded one. ``but``: the selectors of
    those that are not to be marked."""
    compared = Compared("", now, nearest, recorded)
    return compared.marked([it for it in compared.recurring if it.selector not in but], ())


class Compared:
    """A document, and those that are recorded in its place. ``tool``: whose output it is, empty for
    the inputs of a task; ``nearest``: the one that it is told apart from."""

    def __init__(self, tool: str, now: Json, nearest: Json, recorded: Iterable[Json]) -> None:
        self._tool = tool
        self._now, self._nearest = fields_of(tool, now), fields_of(tool, nearest)
        self._all: list[_Fields] = [self._now, *(fields_of(tool, it) for it in recorded)]

    @property
    def recurring(self) -> list[Field]:
        """The fields that are others in each of the documents that have them."""
        return [it for it in self._now if self._is_another_each_time(it)]

    def _is_another_each_time(self, field: Field) -> bool:
        values = [encode(list(it[field])) for it in self._all if field in it]
        return len(values) == len(set(values)) >= LEAST_VALUES

    def marked(self, fields: Iterable[Field], said: Sequence[str]) -> Recurring | None:
        """Those of the fields that could be marked, by how their values look, and by what was
        ``said``."""
        marks = {}
        for field in fields:
            values = [value for it in self._all for value in it.get(field, ())]
            mark = mark_for(values, said, is_input=not self._tool)
            if mark is not None:
                marks[field] = mark
        if not marks:
            return None
        runs = min(sum(field in it for it in self._all) for field in marks)
        opaque, unseen = (
            tuple(field.selector for field in marks if marks[field] == mark)
            for mark in ("opaque", "unseen")
        )
        return Recurring(opaque, unseen, runs, alone=self._differing() <= marks.keys())

    def _differing(self) -> set[Field]:
        every = self._now.keys() | self._nearest.keys()
        return {it for it in every if self._now.get(it) != self._nearest.get(it)}
