"""Stand-ins: what a model is shown in place of values that differ on every run.

A stand-in is made from the task and the place where its value first appeared, never from the
value; so what a model is shown is the same on every run, and so is what it says. It is of the kind
of its value (a number, a UUID, a moment, any other text) and long enough that no model says it by
accident. What is read back is only ever a stand-in that was shown, whole. What looks like one and
was not shown has been mangled, and is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ...graphstore.canonical import Json, hash_of
from ...graphstore.selecting import Path

__all__ = ["MangledStandIn", "NoStandIn", "StandIns"]


class NoStandIn(ValueError):
    """Raised for a marked object, list or truth value: nothing can stand in for it."""


class MangledStandIn(ValueError):
    """Raised for something like a stand-in that a model was never shown."""


class _Kind(NamedTuple):
    """How values of one kind look, what stands in for them, and what looks like such.

    ``whole``: what a stand-in of the kind looks like in a text; ``before`` and ``after``: where it
    is no part of more.
    """

    pattern: str
    make: Callable[[str], str]
    before: str
    whole: str
    after: str
    mangled: str


def _digits(seed: str, many: int) -> str:
    return str(int(seed, 16) % 10**many).rjust(many, "0")


def _moment(seed: str) -> str:
    day = f"7093-{int(seed[:8], 16) % 12 + 1:02}-{int(seed[8:16], 16) % 28 + 1:02}"
    second = int(seed[16:24], 16) % 86_400
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f"{day}T{clock}.{_digits(seed[24:], 5)}1Z"


def _uuid(seed: str) -> str:
    return f"0e9a{seed[:4]}-{seed[4:8]}-8{seed[8:11]}-a{seed[11:14]}-{seed[14:26]}"


def _token(seed: str) -> str:
    return f"opq_{seed[:24]}"


_NO_LETTER = "(?![0-9A-Za-z])"
_NUMBER = _Kind(
    r"0|-?[1-9]\d*",
    lambda seed: f"7093{_digits(seed, 12)}",
    r"(?<![\d.])",
    r"7093\d{12}",
    r"(?!\d)",
    # As it is, or grouped as people write numbers.
    r"(?<!\d)7093\d{9,14}(?!\d)|(?<!\d)7[,.'_\s]093(?:[,.'_\s]\d{3}){3,4}(?!\d)",
)
_FRACTION = _Kind(
    "",
    lambda seed: f"7093{_digits(seed, 7)}.{_digits(seed[16:], 3)}1",
    r"(?<![\d.])",
    r"7093\d{7}\.\d{3}1",
    r"(?!\d)",
    r"(?<![\d.])7093\d{5,8}\.\d+",
)
_MOMENT = _Kind(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?",
    _moment,
    r"(?<!\d)",
    r"7093-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{5}1Z",
    _NO_LETTER,
    r"7093-\d\d-\d\d(T[\d:.]*Z?)?",
)
_UUID = _Kind(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    _uuid,
    r"(?<![0-9a-f])",
    r"0e9a[0-9a-f]{4}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}",
    _NO_LETTER,
    r"(?i:(?<![0-9a-f])0e9a[0-9a-f]{4}-[0-9a-f-]{10,40})",
)
_TOKEN = _Kind(
    "",
    _token,
    r"(?<![A-Za-z])",
    r"opq_[0-9a-f]{24}",
    _NO_LETTER,
    r"(?i:(?<![a-z])opq[_-][0-9a-z]{3,})",
)
_KINDS_OF_TEXT = (_MOMENT, _UUID)
_KINDS = (*_KINDS_OF_TEXT, _TOKEN, _FRACTION, _NUMBER)
_WHOLE = re.compile("|".join(f"{it.before}{it.whole}{it.after}" for it in _KINDS))
_ANYWHERE = re.compile(f"(?=({'|'.join(it.whole for it in _KINDS)}))")  # as a part of more, too

_TOLD_APART = 6  # characters that a value has at least which is known in any text
_FENCE = re.compile(r"(^```[^\n]*\n)(.*?)(^```$)", re.DOTALL | re.MULTILINE)
_INSIDE = 2  # of the four parts in which a fence divides a text
#: How programs write JSON into a text.
_WAYS_TO_WRITE: tuple[Callable[[Any], str], ...] = (
    lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    json.dumps,
    lambda value: json.dumps(value, ensure_ascii=False),
    lambda value: json.dumps(value, indent=2),
    lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    str,
)
_LITERAL = re.compile(r'("(?:[^"\\]|\\.)*")', re.DOTALL)


class _Pair(NamedTuple):
    """A value, and what is shown in its place."""

    value: Any
    standin: Any


class StandIns:
    """The stand-ins of one run of ``task`` (its key). What was shown once stays so."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._by_value: dict[tuple[type, Any], _Pair] = {}
        self._by_text: dict[str, _Pair] = {}
        self._marked: list[tuple[Json, Json]] = []
        self._told: dict[str, str] = {}  # those of them that were written, by how programs do it
        self._mangled: set[str] = set()  # what looks like those shown, as patterns

    def __bool__(self) -> bool:
        return bool(self._by_text or self._marked or self._told)

    def substitute(self, document: Any, paths: Iterable[Path], place: str) -> Any:
        """``document`` with stand-ins for the values at ``paths``. ``place``: where the document
        comes from, the same on every run. Raises NoStandIn."""
        shown = [_containers_copied(document)]
        for path in paths:
            *way, last = (0, *path)
            inner: Any = shown
            for key in way:
                inner = inner[key]
            inner[last] = self._standin(inner[last], f"{place} {path}")
        return shown[0]

    def real(self, reply: Any) -> Any:
        """A model's reply, with each stand-in's value in its place. Raises MangledStandIn."""
        if not self._by_text or reply is None or isinstance(reply, bool):
            return reply
        match reply:
            case str():
                return self._real_text(reply)
            case Mapping():
                return self._real_object(reply)
            case list() | tuple():
                return [self.real(item) for item in reply]
        return self._real_number(reply)

    def remember(self, document: Json, text: Json) -> None:
        """Keep a marked document and its shown form, so that ``hide`` finds it when a program sends
        it whole."""
        self._marked.append((document, text))

    def hide(self, value: Any, *, shortest: int = _TOLD_APART) -> Any:
        """Replace marked values in what a program sends by their stand-ins: documents that are sent
        whole, what is such a value and has so many characters, and what ``hidden`` finds."""
        if not self:
            return value
        match value:
            case str() | int() | float() if (type(value), value) in self._by_value:
                if len(_text(value)) >= shortest:
                    return self._by_value[type(value), value].standin
            case str():
                return self._document_in(value) or self.hidden(value)
            case dict():
                return {key: self.hide(item, shortest=shortest) for key, item in value.items()}
            case list():
                return [self.hide(item, shortest=shortest) for item in value]
        return value

    def is_in(self, value: Any) -> bool:
        """Whether a text in ``value`` holds a stand-in, or what looks like one."""
        match value:
            case str():
                try:
                    return bool(self._by_text) and self._real_text(value) != value
                except MangledStandIn:
                    return True
            case Mapping():
                return any(map(self.is_in, value.values()))
            case list() | tuple():
                return any(map(self.is_in, value))
        return False

    def _document_in(self, text: str) -> str | None:
        """The shown form of ``text``, if that is a marked document as programs write one."""
        while self._marked:  # each is written once, and only for who asks
            document, marked = self._marked.pop(0)
            for write in _WAYS_TO_WRITE:
                self._told.setdefault(write(document), write(marked))
        return self._told.get(text)

    def hidden(self, text: str) -> str:
        """Replace each marked value of six or more characters that stands as a word of its own in
        ``text``, of which nobody knows where values stand in it."""
        plain = (it for it in self._by_text.values() if len(_text(it.value)) >= _TOLD_APART)
        for pair in sorted(plain, key=lambda pair: len(_text(pair.value)), reverse=True):
            for value, standin in zip(
                _spellings(pair.value), _spellings(pair.standin), strict=True
            ):
                if value in text:
                    text = _apart(value).sub(standin.replace("\\", r"\\"), text)
        return text

    # Showing ------------------------------------------------------------------------------

    def _standin(self, value: Any, place: str) -> Any:
        if value is None:
            return None
        if isinstance(value, bool | Mapping | list | tuple):
            what = "a truth value" if isinstance(value, bool) else "an object or a list"
            raise NoStandIn(f"{place} is marked as opaque and is {what}; mark the values in it")
        known = self._by_value.get((type(value), value))
        if known is None:
            known = self._add(value, place)
        return known.standin

    def _add(self, value: Any, place: str) -> _Pair:
        kind = _kind_of(value)
        attempt = 0
        while (text := kind.make(hash_of("stand-in", self._task, place, attempt))) in self._by_text:
            attempt += 1
        standin = text if isinstance(value, str) else type(value)(text)
        self._by_value[type(value), value] = self._by_text[text] = pair = _Pair(value, standin)
        self._mangled.add(kind.mangled)
        return pair

    # Reading back -------------------------------------------------------------------------

    def _real_object(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        real = {self._real_text(key): self.real(item) for key, item in reply.items()}
        if len(real) < len(reply):
            raise MangledStandIn("two fields of an object stand for the same value")
        return real

    def _real_number(self, reply: float) -> Any:
        pair = self._by_text.get(_text(reply))
        if pair is None:
            self._check(_text(reply))
            return reply
        return pair.value

    def _real_text(self, reply: str) -> str:
        found = [self._by_text[it[0]] for it in _WHOLE.finditer(reply) if it[0] in self._by_text]
        self._check(_WHOLE.sub(lambda it: " " if it[0] in self._by_text else it[0], reply))
        if all(_is_plain(it.value) for it in found):
            return self._put_in(reply)
        if _is_json(reply):
            return self._in_json(reply)
        return self._outside_of_fences(reply)

    def _check(self, rest: str) -> None:
        inside = (it[1] for it in _ANYWHERE.finditer(rest))
        found = next((it for it in inside if it in self._by_text), None)
        alike = (it[0] for pattern in self._mangled for it in re.finditer(pattern, rest))
        if found := found or next(alike, None):
            raise MangledStandIn(
                f"{found!r} is none of the values that were shown, as it stands there; say each as"
                " it was shown, whole and unchanged"
            )

    def _put_in(self, reply: str) -> str:
        def real(found: re.Match[str]) -> str:
            pair = self._by_text.get(found[0])
            return found[0] if pair is None else _text(pair.value)

        return _WHOLE.sub(real, reply)

    def _in_json(self, reply: str) -> str:
        """Put values into a text that is JSON, each escaped as deep as it stands in."""
        parts = _LITERAL.split(reply)
        parts[::2] = map(self._put_in, parts[::2])
        for number in range(1, len(parts), 2):
            text = json.loads(parts[number])
            if (real := self._real_text(text)) != text:
                parts[number] = json.dumps(real, ensure_ascii=False)
        return "".join(parts)

    def _outside_of_fences(self, reply: str) -> str:
        parts = _FENCE.split(reply)  # what is outside, and the three parts of each fence
        for number, part in enumerate(parts):
            in_json = number % 4 == _INSIDE and _is_json(part)
            parts[number] = self._in_json(part) if in_json else self._put_in(part)
        return "".join(parts)


def _containers_copied(document: Any) -> Any:
    match document:
        case Mapping():
            return {key: _containers_copied(item) for key, item in document.items()}
        case list() | tuple():
            return [_containers_copied(item) for item in document]
    return document


def _kind_of(value: Any) -> _Kind:
    match value:
        case int():
            return _NUMBER
        case float():
            return _FRACTION
    kinds = (kind for kind in _KINDS_OF_TEXT if re.fullmatch(kind.pattern, value))
    return next(kinds, _TOKEN)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _apart(value: str) -> re.Pattern[str]:
    """A pattern that finds a value where it is no part of a longer word."""
    return re.compile(rf"(?<!\w){re.escape(value)}(?!\w)")


def _spellings(value: Any) -> Iterator[str]:
    """A value as a text has it, and as JSON has it."""
    yield _text(value)
    yield json.dumps(_text(value), ensure_ascii=False)[1:-1]


def _is_plain(value: Any) -> bool:
    """Whether a value is the same text in JSON, however often it is escaped."""
    return json.dumps(_text(value), ensure_ascii=False)[1:-1] == _text(value)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
