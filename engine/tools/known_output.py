"""A recorded output, and by what a tool's next one is known to be equal without being written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

from ...graphstore.selecting import Path
from ..keys.standins import StandIns
from ..keys.values import exact
from .marks import Marked

__all__ = ["KnownOutput"]

#: What JSON has as it is.
_WRITTEN_ALIKE = frozenset({str, int})


@dataclass(slots=True)
class KnownOutput:
    """The recorded text of an output (``data``), and what is noted in this process of a value that
    was written as it: its exact form, with null in the places that are marked, and where and as
    what the opaque ones among them were shown."""

    data: bytes
    _exact: bytes | str | None = None
    _opaque: tuple[Path, ...] = ()
    _unseen: tuple[Path, ...] = ()
    _shown: tuple[tuple[str, Any], ...] = ()

    def is_of(self, value: Any) -> bool:
        """Whether a value without marks is known to be written as this."""
        return self._exact is not None and self._exact == exact(value)

    def note(self, value: Any) -> None:
        """A value without marks is written as this, and always so."""
        self._exact = exact(value)

    def marked_values(self, value: Any, marked: Marked | None) -> Sequence[Any] | None:
        """What stands in the marked places of a value that is the noted one in all others; None if
        it is not, or none is noted. ``marked``: its marks, if others may be in other places."""
        if self._exact is None:
            return None
        if marked and (marked.opaque, marked.unseen) != (self._opaque, self._unseen):
            return None
        taken: list[Any] = []
        rest = _taken_out(value, (*self._opaque, *self._unseen), taken)
        return taken if self._exact == exact(rest) else None

    def shows(self, values: Iterable[Any], standins: StandIns) -> bool:
        """Whether a model is shown this text for values in the marked places. They are shown then,
        as ``render`` would."""
        pairs = zip(values, self._shown, strict=False)  # what is opaque comes before what is unseen
        return all(
            type(value) in _WRITTEN_ALIKE and standins.shown(value, place) == standin
            for value, (place, standin) in pairs
        )

    def note_marked(self, value: Any, marked: Marked, place: str, standins: StandIns) -> None:
        """A plain value, or what was written of another one, is shown as this. ``marked`` and
        ``place``: as it was rendered."""
        self._exact = exact(_taken_out(value, marked.places, []))
        self._opaque, self._unseen = marked.opaque, marked.unseen
        json: Any = marked.json  # which has a text of a moment, say
        self._shown = tuple(
            (where, standins.shown(reduce(getitem, path, json), where))
            for path in marked.opaque
            for where in (f"{place} {path}",)
        )


class _Nowhere:
    """Stands for a value that lacks one of the places; it is no plain value."""


def _taken_out(value: Any, places: Iterable[Path], taken: list[Any]) -> Any:
    """A plain ``value`` with null at ``places``; what stood there is added to ``taken``."""
    try:
        for path in places:
            value = _with_null(value, path, taken)
    except LookupError:
        return _Nowhere()
    return value


def _with_null(value: Any, path: Path, taken: list[Any]) -> Any:
    key, kind = path[0], type(value)
    if not (kind is dict or (kind is list and type(key) is int)):
        raise LookupError
    inner, copied = value[key], value.copy()
    if len(path) > 1:
        copied[key] = _with_null(inner, path[1:], taken)
    else:
        taken.append(inner)
        copied[key] = None
    return copied
