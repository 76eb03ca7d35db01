"""What a resource is, and the fingerprints of its parts.

A facet is the part of a resource that somebody rests on, named by a selector (RFC 9535
JSONPath; none means the whole). Its fingerprint is that of the *projection*: the document with
everything removed that the selector does not match. Members keep their names, array elements
their order but not their index, so that an unrelated element put before a selected one changes
nothing, while two values that swap their names do. A selector that matches nothing in a
readable document has a fingerprint too, which no projection has.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from .canonical import Json, canonical, decode, digest, encode, fingerprint
from .errors import NotJson, SelectorError
from .model import Value

if TYPE_CHECKING:
    from jsonpath import JSONPath

__all__ = ["Document", "check_selector"]

_LEVELS = 100
_NOTHING = digest(b"a selector that matches nothing")


class Document:
    """One resource's content: its exact payload, and fingerprints by selector."""

    def __init__(self, payload: Value) -> None:
        self.payload = payload

    @classmethod
    def of(cls, content: Json) -> Document:
        """The document with this content.

        Raises NotJson if it cannot be written as JSON, or is nested more than 100 levels deep:
        whether a deeper one could be read would depend on who calls.
        """
        _refuse_unreadable(content, levels=_LEVELS)
        return cls(Value.of(encode(content)))

    @cached_property
    def content(self) -> Json:
        """The content as JSON knows it: every key a string."""
        return decode(self.payload.data)

    @cached_property
    def whole(self) -> str:
        """The fingerprint of all of it: two documents are equal iff these are."""
        return fingerprint(self.content)

    def fingerprint(self, selector: str | None) -> str:
        """The fingerprint of the part that ``selector`` names. Raises SelectorError."""
        if selector is None:
            return self.whole
        matches = [match.parts for match in _compiled(selector).finditer(self.content)]
        if not matches:
            return _NOTHING
        return digest(b"projection:" + canonical(_projection(self.content, matches)))


def check_selector(selector: str | None) -> None:
    """Raises SelectorError unless ``selector`` is RFC 9535 JSONPath (or None, the whole)."""
    if selector is not None:
        _compiled(selector)


@lru_cache(maxsize=4096)
def _compiled(selector: str) -> JSONPath:
    import jsonpath

    class Environment(jsonpath.JSONPathEnvironment):
        max_recursion_depth = _LEVELS + 1  # of `$..name`: a scalar is a level too

    try:
        path = Environment(strict=True).compile(selector)
    except jsonpath.JSONPathError as error:
        raise SelectorError(
            f"the selector {selector!r} is not RFC 9535 JSONPath: {error.args[0]}."
            " Write for example '$.columns.id' or \"$.rules[?@.name == 'freeze']\"."
        ) from None
    if not isinstance(path, jsonpath.JSONPath):
        raise SelectorError(
            f"the selector {selector!r} joins several JSONPaths; state a requirement for each."
        )
    return path


_Part = int | str


def _projection(content: Json, paths: Iterable[tuple[_Part, ...]]) -> Json:
    """``content`` with only what lies on one of ``paths``; a path that ends keeps all below."""
    below: dict[_Part, list[tuple[_Part, ...]]] = {}
    for path in paths:
        if not path:
            return content
        below.setdefault(path[0], []).append(path[1:])
    if isinstance(content, list):
        indexes = sorted(part for part in below if isinstance(part, int))
        return [_projection(content[index], below[index]) for index in indexes]
    return {part: _projection(content[part], below[part]) for part in below}


def _refuse_unreadable(content: Json, levels: int) -> None:
    """Raises NotJson for keys that become one in JSON, and for too many levels."""
    if not isinstance(content, dict | list | tuple):
        return
    if levels == 0:
        raise NotJson(
            f"the document refers to itself, or is nested more than {_LEVELS} levels deep; give"
            " the parts that matter as resources of their own"
        )
    if isinstance(content, dict):
        _refuse_colliding_keys(content)
    for item in content.values() if isinstance(content, dict) else content:
        _refuse_unreadable(item, levels - 1)


def _refuse_colliding_keys(content: dict[object, Json]) -> None:
    strings = {key for key in content if isinstance(key, str)}
    for key in content:
        if isinstance(key, str):
            continue
        name = decode(encode({key: 0})).popitem()[0]
        if name in strings:
            raise NotJson(
                f"the keys {key!r} and {name!r} of one object are the same key in JSON;"
                " rename one of them"
            )
        strings.add(name)
