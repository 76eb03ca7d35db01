"""What a resource is, and the fingerprints of its parts.

A facet is the part of a resource that somebody rests on, named by a selector (RFC 9535
JSONPath; none means the whole). Its fingerprint is that of the *projection*: the document with
everything removed that the selector does not match. Members keep their names, array elements
their order but not their index, so that an unrelated element put before a selected one changes
nothing, while two values that swap their names do.

What a selector could not select from counts as well (``selecting``): what it met and cannot look
into, and, if it matches nothing, how far it came. So "nobody is denied" is
one thing, and a text, ``null`` or an error page in the place of the list of the denied another.
A selector that would take too long of a document rests on all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from .canonical import Json, canonical, check_members, decode, digest, encode, fingerprint
from .errors import NotJson, SelectorError
from .model import Value

if TYPE_CHECKING:
    from .selecting import Path, Selection

__all__ = ["GONE", "NULL", "Document", "Gone", "check_selector"]

_LEVELS = 100
_NOTHING = digest(b"a selector that matches nothing")  # whatever the document: before types counted


class Gone(Enum):
    """The sign that there is no document where one is expected: ``null`` is one."""

    GONE = "gone"


GONE: Final = Gone.GONE


class Document:
    """One resource's content: its exact payload, and fingerprints by selector."""

    def __init__(self, payload: Value) -> None:
        self.payload = payload
        self._held: dict[str | None, str] = {}

    @classmethod
    def of(cls, content: Json) -> Document:
        """The document with this content.

        Raises NotJson if it cannot be written as JSON, or is nested more than 100 levels deep:
        whether a deeper one could be read would depend on who calls.
        """
        _refuse_deep(content, _LEVELS)
        check_members(content)
        return cls(Value.of(encode(content)))

    @cached_property
    def content(self) -> Any:
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
        selection = self._selected(selector)
        if selection is None:
            return self._fallback
        if selection.paths and not selection.strangers:
            return self._projected(selection.paths)
        selected = [_projection(self.content, selection.paths)] if selection.paths else []
        return digest(b"selection:" + canonical([selected, selection.stopped, selection.strangers]))

    def part(self, selector: str | None) -> Json | Gone:
        """What ``selector`` names of the content, for people: GONE if it matches nothing. Where
        its fingerprint is that of the whole, it is the whole."""
        try:
            selection = None if selector is None else self._selected(selector)
        except SelectorError:
            selection = None
        if selection is None:
            return self.content  # type: ignore[no-any-return]
        return _projection(self.content, selection.paths) if selection.paths else GONE

    def _selected(self, selector: str) -> Selection | None:
        """What ``selector`` makes of the content; None: finding out would take too long."""
        from .selecting import TooCostly, select
        from .selectors import query_of

        try:
            return select(query_of(selector), self.content)
        except TooCostly:
            return None

    def _projected(self, paths: Sequence[Path]) -> str:
        return digest(b"projection:" + canonical(_projection(self.content, paths)))

    def held(self, selector: str | None) -> str:
        """As ``fingerprint``, of a facet in the store: one that an older version took for a
        selector, and this one does not, rests on the whole."""
        if selector not in self._held:
            try:
                self._held[selector] = self.fingerprint(selector)
            except SelectorError:
                self._held[selector] = self._fallback
        return self._held[selector]

    def held_all(self, selectors: Iterable[str | None]) -> dict[str | None, str]:
        """``held`` of each. Of a large document it takes its time: to be called in a thread."""
        return {selector: self.held(selector) for selector in selectors}

    def gives(self, selector: str | None, fingerprint: str) -> bool:
        """Whether a version of this document rightly holds ``fingerprint``; also one that was
        written before types counted."""
        if fingerprint == self.held(selector):
            return True
        with suppress(SelectorError):
            selection = None if selector is None else self._selected(selector)
            return selection is not None and fingerprint in (
                _NOTHING,
                self._projected(selection.paths),
            )
        return False

    @cached_property
    def _fallback(self) -> str:
        return digest(b"instead:" + self.whole.encode())


def check_selector(selector: str | None) -> None:
    """Raises SelectorError unless ``selector`` is RFC 9535 JSONPath (or None, the whole)."""
    if selector is not None:
        from .selectors import query_of

        query_of(selector)


def _projection(content: Any, paths: Iterable[Path]) -> Any:
    """``content`` with only what lies on one of ``paths``; a path that ends keeps all below."""
    below: dict[int | str, list[Path]] = {}
    for path in paths:
        if not path:
            return content
        below.setdefault(path[0], []).append(path[1:])
    if isinstance(content, list):
        indexes = sorted(part for part in below if isinstance(part, int))
        return [_projection(content[index], below[index]) for index in indexes]
    return {part: _projection(content[part], below[part]) for part in below}


def _refuse_deep(content: Any, levels: int) -> None:
    if not isinstance(content, dict | list | tuple):
        return
    if levels == 0:
        raise NotJson(
            f"the document refers to itself, or is nested more than {_LEVELS} levels deep; give"
            " the parts that matter as resources of their own"
        )
    for item in content.values() if isinstance(content, dict) else content:
        _refuse_deep(item, levels - 1)


#: The document that is ``null``, for a source: where one has nothing, it gives None.
NULL: Final = Document.of(None)
