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
from functools import lru_cache, partial
from threading import Lock
from typing import Any, NamedTuple

from ...graphstore.canonical import Json, fingerprint, hash_of
from ...graphstore.selecting import Path

__all__ = ["MangledStandIn", "NoStandIn", "StandIns", "is_standin", "may_hold_one"]


class NoStandIn(ValueError):
    """Raised for a marked object, list or truth value: nothing can stand in for it."""


class MangledStandIn(ValueError):
    """Raised for something like a stand-in that a model was never shown."""


class _Kind(NamedTuple):
    """What stands in for values of one kind, and what looks like such.

    ``whole``: what a stand-in of the kind looks like in a text; ``before`` and ``after``: where it
    is no part of more.
    """

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
    lambda seed: f"7093{_digits(seed, 12)}",
    r"(?<![\d.])",
    r"7093\d{12}",
    r"(?!\d)",
    # As it is, grouped as people write numbers, or as a power of ten.
    r"(?<!\d)7093\d{9,14}(?!\d)|(?<!\d)7[,.'_\s]093(?:[,.'_\s]\d{3}){3,4}(?!\d)"
    r"|(?<!\d)7093(?:[-,.'_\s]\d{4}){3}(?!\d)|(?<!\d)7\.093\d*[eE]\+?15(?!\d)",
)
_FRACTION = _Kind(
    lambda seed: f"7093{_digits(seed, 7)}.{_digits(seed[16:], 3)}1",
    r"(?<![\d.])",
    r"7093\d{7}\.\d{3}1",
    r"(?!\d)",
    # The same, and without what comes after the point.
    r"(?<![\d.])7093\d{5,8}\.\d+|(?<![\d.])7093\d{7}(?!\d)"
    r"|(?<![\d.])70[,.'_\s]93\d(?:[,.'_\s]\d{3}){2}(?!\d)|(?<!\d)7\.093\d*[eE]\+?10(?!\d)",
)
_MOMENT = _Kind(
    _moment,
    r"(?<!\d)",
    r"7093-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{5}1Z",
    _NO_LETTER,
    r"7093-\d\d-\d\d(T[\d:.]*Z?)?|(?<!\d)7093[/.]\d\d?[/.]\d\d?(?!\d)"
    r"|(?<!\d)\d\d?[-/.]\d\d?[-/.]7093(?!\d)|(?<!\d)7093\d{4}T\d{4}",
)
_UUID = _Kind(
    _uuid,
    r"(?<![0-9a-f])",
    r"0e9a[0-9a-f]{4}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}",
    _NO_LETTER,
    # Cut, in capitals, or with something else between its parts, or nothing.
    r"(?i:(?<![0-9a-f])0e9a[0-9a-f]{4}(?:-[0-9a-f-]{10,40}"
    r"|[^0-9a-z]{0,3}[0-9a-f]{4}[^0-9a-z]{0,3}8[0-9a-f]{3}[^0-9a-z]{0,3}a[0-9a-f]{3}"
    r"[^0-9a-z]{0,3}[0-9a-f]{6}))",
)
_TOKEN = _Kind(
    _token,
    r"(?<![A-Za-z])",
    r"opq_[0-9a-f]{24}",
    _NO_LETTER,
    # Cut, continued, in capitals, or with something else for its underscore, or nothing.
    r"(?i:(?<![a-z])opq(?:[\\]{0,4}[_-][0-9a-z]{3,}|[^0-9a-z]{0,4}[0-9a-f]{16,}))",
)
_KINDS = (_MOMENT, _UUID, _TOKEN, _FRACTION, _NUMBER)
_IS_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?"
).fullmatch
_IS_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
#: After what JSON has in a text for a character: its letter is no part of what follows.
_ESCAPED = r"(?<=\\[bfnrt])|(?<=\\u[\da-fA-F]{4})"
_WHOLE = re.compile("|".join(f"(?:{it.before}|{_ESCAPED}){it.whole}{it.after}" for it in _KINDS))
_ANYWHERE = re.compile(f"(?=({'|'.join(it.whole for it in _KINDS)}))")  # as a part of more, too

#: Is in whatever is a stand-in, or looks like one.
_TRACE = re.compile("093|70[^0-9A-Za-z]{1,3}93|0e9a|opq", re.IGNORECASE)
_TRACE_WRITTEN = re.compile(_TRACE.pattern.encode(), re.IGNORECASE)

_TOLD_APART = 6  # characters that a value has at least which is known in any text
#: A word is of Latin letters and digits, or of letters of other scripts: many of these put nothing
#: between words, and none goes on with a word of the other kind.
_LATIN = r"[\da-zA-Z_ªµºÀ-ÖØ-öø-ʯ\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]"
_FOREIGN = rf"(?:(?!{_LATIN})\w)"
_WORD = re.compile(f"{_LATIN}+|{_FOREIGN}+")
_IS_FOREIGN = re.compile(_FOREIGN).match
_IS_ESCAPED = re.compile(r"\\(?:u[\da-fA-F]{4}|[bfnrt])(?=\w)").match
_AFTER_ESCAPE = re.compile(_ESCAPED).match
_FENCE = re.compile(r"^[ \t]*```[^\n]*$", re.MULTILINE)
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


class _Spelled(NamedTuple):
    """What stands in for one spelling of a value of so ``many`` characters. ``depth``: in how many
    JSON texts, one in the other, it is spelled so."""

    standin: str
    many: int
    depth: int


def is_standin(value: Any) -> bool:
    """Whether a value looks like a stand-in, of whatever run."""
    return not isinstance(value, bool) and _WHOLE.fullmatch(_text(value)) is not None


class StandIns:
    """The stand-ins of one run of ``task`` (its key). What was shown once stays so."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._by_value: dict[tuple[type, str], _Pair] = {}
        self._by_text: dict[str, _Pair] = {}
        self._marked: list[tuple[Json, Json]] = []
        self._writing = Lock()
        self._told: dict[str, str] = {}  # those of them that were written, by how programs do it
        self._spelled: dict[str, _Spelled] = {}
        #: By first words, what values look like: the characters before it, and all of them.
        self._shapes: dict[str, list[tuple[int, int]]] = {}
        self._wordless: list[str] = []
        self._said: dict[str, Json] = {}
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
            inner[last] = self.shown(inner[last], f"{place} {path}")
        return shown[0]

    def shown(self, value: Any, place: str) -> Any:
        """What a model is shown for a marked value from now on, if it stands at ``place`` first.
        Raises NoStandIn."""
        if value is None:
            return None
        if isinstance(value, bool | Mapping | list | tuple):
            what = "a truth value" if isinstance(value, bool) else "an object or a list"
            raise NoStandIn(f"{place} is marked as opaque and is {what}; mark the values in it")
        known = self._by_value.get(_exactly(value))
        if known is None:
            known = self._add(value, place)
        return known.standin

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

    def remember_said(self, real: Iterable[Json], said: Iterable[Json]) -> None:
        """Keep what a model said, part by part, and what a program got of it."""
        for got, shown in zip(real, said, strict=True):
            if got != shown:
                self._said.setdefault(fingerprint(got), shown)

    def said(self, real: Json) -> Json:
        """What a model said, of which a program got ``real``; None if it said just that."""
        return self._said.get(fingerprint(real)) if self._said else None

    def hide(
        self, value: Any, *, shortest: int = _TOLD_APART, shortest_word: int = _TOLD_APART
    ) -> Any:
        """Replace marked values in what a program sends by their stand-ins: documents that are sent
        whole, what is such a value and has so many characters, and what ``hidden`` finds."""
        if not self:
            return value
        inner = partial(self.hide, shortest=shortest, shortest_word=shortest_word)
        match value:
            case str() | int() | float() if pair := self._by_value.get(_exactly(value)):
                if len(_text(value)) >= shortest:
                    return pair.standin
            case str():
                return self._document_in(value) or self.hidden(value, shortest=shortest_word)
            case dict():
                return {key: inner(item) for key, item in value.items()}
            case list():
                return [inner(item) for item in value]
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
        with self._writing:
            while self._marked:  # each is written once, and only for who asks
                document, marked = self._marked.pop(0)
                for write in _WAYS_TO_WRITE:
                    self._told.setdefault(write(document), write(marked))
        return self._told.get(text)

    def hidden(self, text: str, *, shortest: int = _TOLD_APART) -> str:
        """Replace each marked value of so many characters that stands as a word of its own in
        ``text``, of which nobody knows where values stand in it."""
        parts, done = [], 0
        for at, word in _words(text):
            for before, length in self._shapes.get(word, ()):
                start, end = at - before, at - before + length
                found = self._spelled.get(text[start:end]) if start >= done else None
                if found and found.many >= shortest and _is_apart(text, start, end):
                    parts += [text[done:start], found.standin]
                    done = end
                    break
        text = "".join((*parts, text[done:]))
        for wordless in self._wordless:
            known = self._spelled[wordless]
            if known.many >= shortest and wordless in text:
                text = _apart(wordless).sub(known.standin, text)
        return text

    def still_in(self, texts: Iterable[str]) -> set[Any]:
        """The values that stand as words of their own in ``texts``, where no stand-in was put."""
        whole = "\n".join(texts)
        return {
            pair.value
            for pair in self._by_text.values()
            if any(it in whole and _apart(it).search(whole) for it, _ in _spellings(pair.value))
        }

    # Showing ------------------------------------------------------------------------------

    def _add(self, value: Any, place: str) -> _Pair:
        kind = _kind_of(value)
        attempt = 0
        while (text := _made(kind.make, self._task, place, attempt)) in self._by_text:
            attempt += 1
        standin = text if isinstance(value, str) else type(value)(text)
        self._by_value[_exactly(value)] = self._by_text[text] = pair = _Pair(value, standin)
        self._mangled.add(kind.mangled)
        for spelling, depth in _spellings(value):
            self._spell(spelling, _Spelled(text, len(_text(value)), depth))
        return pair

    def _spell(self, spelling: str, known: _Spelled) -> None:
        """Note how a value is spelled in a text. It is found by its first word."""
        before = self._spelled.get(spelling)
        if before is None or known.depth < before.depth:  # else it is that value as it is
            self._spelled[spelling] = known
        if before is not None:
            return
        if (word := _WORD.search(spelling)) is None:
            self._wordless = sorted((*self._wordless, spelling), key=len, reverse=True)
            return
        shapes = self._shapes.get(word[0], [])
        if (shape := (word.start(), len(spelling))) not in shapes:
            # Another list: a thread that counts tokens may be at the one that is known.
            longest_first = sorted((*shapes, shape), key=lambda it: it[1], reverse=True)
            self._shapes[word[0]] = longest_first

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
        if (whole := self._by_text.get(reply)) is not None:
            return _text(whole.value)
        if _TRACE.search(reply) is None:
            return reply
        found = [self._by_text[it[0]] for it in _WHOLE.finditer(reply) if it[0] in self._by_text]
        self._check(_WHOLE.sub(lambda it: " " if it[0] in self._by_text else it[0], reply))
        if all(_is_plain(it.value) for it in found):
            return self._put_in(reply)
        if _is_json(reply):
            return self._in_json(reply)
        return self._outside_of_fences(reply)

    def _check(self, rest: str) -> None:
        if _TRACE.search(rest) is None:
            return
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
        return "".join(
            self._in_json(part) if is_inside and _is_json(part) else self._put_in(part)
            for part, is_inside in _by_fences(reply)
        )


@lru_cache(4096)
def _made(make: Callable[[str], str], task: str, place: str, attempt: int) -> str:
    """The stand-in of a place, which is the same on every run of the task."""
    return make(hash_of("stand-in", task, place, attempt))


def _containers_copied(document: Any) -> Any:
    match document:
        case Mapping():
            return {key: _containers_copied(item) for key, item in document.items()}
        case list() | tuple():
            return [_containers_copied(item) for item in document]
    return document


def _kind_of(value: str | float) -> _Kind:
    if not isinstance(value, str):
        return _NUMBER if isinstance(value, int) else _FRACTION
    return _MOMENT if _IS_MOMENT(value) else _UUID if _IS_UUID(value) else _TOKEN


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _exactly(value: Any) -> tuple[type, str]:
    """What tells values apart, 0.0 and -0.0 too."""
    return type(value), _text(value)


def _words(text: str) -> Iterator[tuple[int, str]]:
    """The words of a text, and where they are. One after an escaped character is given with the
    letter of that, and without."""
    for word in _WORD.finditer(text):
        yield word.start(), word[0]
        escaped = _IS_ESCAPED(text, word.start() - 1) if word.start() else None
        if escaped is not None:
            yield escaped.end(), text[escaped.end() : word.end()]


def _goes_on(edge: str) -> str:
    """A pattern of what would make a longer word of one with this ``edge``."""
    return _FOREIGN if _IS_FOREIGN(edge) else _LATIN


def _apart(value: str) -> re.Pattern[str]:
    """A pattern that finds a value where it is no part of a longer word."""
    before, after = _goes_on(value[:1]), _goes_on(value[-1:])
    return re.compile(rf"(?:(?<!{before})|{_ESCAPED}){re.escape(value)}(?!{after})")


def _is_apart(text: str, start: int, end: int) -> bool:
    """Whether what stands there is no part of a longer word, or of an escaped character."""
    if text[start] in '"\\' and text[start - 1 : start] == "\\":
        return False
    if re.match(_goes_on(text[end - 1 : end]), text[end : end + 1]):
        return False
    if re.match(_goes_on(text[start : start + 1]), text[start - 1 : start]):
        return _AFTER_ESCAPE(text, start) is not None
    return True


def _spellings(value: Any) -> Iterator[tuple[str, int]]:
    """A value as a text has it, and as JSON has it, and JSON inside JSON; each with the depth."""
    yield (text := _text(value)), 0
    if _is_plain(value) and text.isascii():
        return
    for inner in (_in_quotes(text), _in_quotes(text, ensure_ascii=True)):
        yield inner, 1
        yield _in_quotes(inner), 2
        yield _in_quotes(inner, ensure_ascii=True), 2


def _in_quotes(text: str, *, ensure_ascii: bool = False) -> str:
    """A text as JSON has it between its quotes."""
    return json.dumps(text, ensure_ascii=ensure_ascii)[1:-1]


def may_hold_one(written: bytes) -> bool:
    """Whether there may be a stand-in, or what looks like one, in JSON as ``encode`` writes it."""
    return _TRACE_WRITTEN.search(written) is not None


def _is_plain(value: Any) -> bool:
    """Whether a value is the same text in JSON, however often it is escaped."""
    return _in_quotes(_text(value)) == _text(value)


def _by_fences(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a text, and whether each stands inside a code fence."""
    start, opened = 0, None
    for line in _FENCE.finditer(text):
        if opened is None:
            opened = line.end()
        elif line[0].strip() == "```":
            yield text[start:opened], False
            yield text[opened : line.start()], True
            start, opened = line.start(), None
    yield text[start:], False


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list | str)
    except (ValueError, RecursionError):
        return False
