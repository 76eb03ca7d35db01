"""Where two JSON documents differ: what a person is shown of why an output was another one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

__all__ = ["Difference", "differences"]

_MOST = 8  # of two documents
_LONGEST = 60  # characters of a value
_BEFORE = 15  # characters that are shown before the first that differs
_SECRET = re.compile(
    r"token|secret|passw|authori[sz]ation|api.?key|credential|cookie", re.IGNORECASE
)
_NAME = re.compile(r"[A-Za-z_]\w*")


class Difference(NamedTuple):
    """One place at which two documents differ.

    Attributes:
        path: The place, as a selector.
        before: What stood there, shortened; None: nothing did. Of a field that is named as a secret
            it is "hidden".
        after: What stands there now, likewise.
    """

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.path}: {self.before or 'nothing'} -> {self.after or 'nothing'}"


def differences(before: Any, after: Any) -> tuple[Difference, ...]:
    """The first places at which two documents differ, in the order of the earlier one."""
    return tuple(islice(_differences("$", before, after), _MOST))


def _differences(path: str, before: Any, after: Any) -> Iterator[Difference]:
    match before, after:
        case Mapping(), Mapping():
            for key in dict.fromkeys((*before, *after)):
                yield from _of_field(_inside(path, key), key, before, after)
        case ((list() | tuple()), (list() | tuple())):
            if len(before) != len(after):
                yield Difference(path, _items(before), _items(after))
            for place, pair in enumerate(zip(before, after, strict=False)):
                yield from _differences(f"{path}[{place}]", *pair)
        case str(), str() if before != after:
            start = _first_difference(before, after)
            yield Difference(path, _shortened(before, start), _shortened(after, start))
        case _ if type(before) is not type(after) or before != after:
            yield Difference(path, _shortened(before), _shortened(after))


def _of_field(
    path: str, key: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Difference]:
    if key in before and key in after:
        if not _SECRET.search(key):
            yield from _differences(path, before[key], after[key])
        elif before[key] != after[key]:
            yield Difference(path, "hidden", "hidden")
        return
    values = (
        None if key not in side else "hidden" if _SECRET.search(key) else _shortened(side[key])
        for side in (before, after)
    )
    yield Difference(path, *values)


def _inside(path: str, key: str) -> str:
    return f"{path}.{key}" if _NAME.fullmatch(key) else f"{path}[{json.dumps(key)}]"


def _items(values: Sequence[Any]) -> str:
    return f"{len(values)} items"


def _first_difference(before: str, after: str) -> int:
    pairs = zip(before, after, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), 0)


def _shortened(value: Any, place: int = 0) -> str:
    """A value in few characters; of a long text those around ``place``."""
    match value:
        case Mapping():
            return "an object"
        case list() | tuple():
            return _items(value)
    if isinstance(value, str) and len(value) > _LONGEST and place > _BEFORE:
        value = f"...{value[place - _BEFORE :]}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
