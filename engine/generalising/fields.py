"""Fields of inputs and outputs that differ from run to run, and which of them could be marked.

That a field may be marked is first of all about how its values look: what is counted, measured or
chosen from a few is there to be reasoned about.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from ...graphstore.canonical import encode
from ..keys.standins import is_standin
from ..outcome.differences import inside

__all__ = [
    "LEAST_VALUES",
    "Field",
    "Mark",
    "Scalar",
    "differs",
    "fields_of",
    "is_marked",
    "mark_for",
]

#: How a value is kept from a model.
Mark = Literal["opaque", "unseen"]
Scalar = str | int | float | bool | None

LEAST_VALUES = 3  # of a field, before anything is said of it
_OTHERS = 2 / 3  # of its values are to differ: what repeats was chosen from a few
_MOST_PLACES = 2_000  # of a document
_SHORTEST, _LONGEST = 4, 200  # characters of a text that names something
_LEAST_NUMBER = 100_000  # a shorter number is a quantity
_QUANTITY = re.compile(r"[-+]?\d+([.,]\d+)?\s*[^\W\d_%]{0,3}%?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ][\d:.,]+(Z|[+-]\d\d:?\d\d)?)?")


class Field(NamedTuple):
    """A field. ``tool``: of whose outputs; empty: of the task's inputs. ``selector``: its places,
    in lists at any index."""

    tool: str
    selector: str


def fields_of(tool: str, document: Any) -> dict[Field, tuple[Scalar, ...]]:
    """The values in a document, by field."""
    found: dict[Field, list[Scalar]] = defaultdict(list)
    for number, (selector, value) in enumerate(_places("$", document)):
        if number == _MOST_PLACES:
            return {}  # no document of fields
        if selector != "$":
            found[Field(tool, selector)].append(value)
    return {field: tuple(values) for field, values in found.items()}


def _places(selector: str, document: Any) -> Iterator[tuple[str, Scalar]]:
    match document:
        case dict():
            for key, item in document.items():
                yield from _places(inside(selector, key), item)
        case list():
            for item in document:
                yield from _places(f"{selector}[*]", item)
        case _:
            yield selector, document


def differs(recordings: Iterable[Sequence[Sequence[Scalar]]]) -> bool:
    """Whether a field is another one nearly each time. Of each place: its values in each recording
    of that place."""
    places = [list(map(_exact, it)) for it in recordings if len(it) > 1]
    many = sum(map(len, places))
    distinct = sum(len(set(it)) for it in places)
    return distinct >= LEAST_VALUES and distinct >= many * _OTHERS


def _exact(values: Sequence[Scalar]) -> bytes:
    return encode(list(values))


def mark_for(values: Iterable[Scalar], said: Iterable[str], *, is_input: bool) -> Mark | None:
    """The mark that fits values of a field, by how they look; None: they are better left.

    ``said``: what models said in the runs that were shown them. What they never mentioned need not
    be shown, but for inputs, which are what the task is.
    """
    values = list(values)
    if all(it is None or _names(it) for it in values):
        return "opaque" if is_input or _is_mentioned(values, said) else "unseen"
    measured = all(it is None or _names(it) or _is_number(it) for it in values)
    return "unseen" if measured and not is_input and not _is_mentioned(values, said) else None


def _names(value: Scalar) -> bool:
    """Whether a value looks as if it named something: an id, a version, a moment."""
    match value:
        case bool() | float():
            return False
        case int():
            return abs(value) >= _LEAST_NUMBER
        case str():
            return bool(_MOMENT.fullmatch(value)) or _is_name(value)
    return False


def _is_name(text: str) -> bool:
    is_long = text.isdecimal() and len(text) >= _SHORTEST and not text.startswith("0.")
    return (
        _SHORTEST <= len(text) <= _LONGEST
        and any(map(str.isdecimal, text))
        and not any(map(str.isspace, text))
        and (is_long or not _QUANTITY.fullmatch(text))
    )


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_mentioned(values: Iterable[Scalar], said: Iterable[str]) -> bool:
    """Whether one of the values stands in what was said, as a word of its own."""
    words = {str(it) for it in values if it is not None}
    if not words:
        return False
    pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, sorted(words)))})(?!\w)")
    return any(pattern.search(text) for text in said)


def is_marked(values: Iterable[Scalar]) -> bool:
    """Whether a field is marked already: stand-ins were shown for its values."""
    return all(map(is_standin, values))
