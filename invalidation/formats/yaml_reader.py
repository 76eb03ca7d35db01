"""YAML as JSON knows it: the core schema of YAML 1.2, in a time that the size of a file bounds.

libyaml reads the text; what its events say is made a document here. So nothing is read by the rules
of YAML 1.1 (``no`` is text, ``=`` is too), and an alias is weighed before anybody walks what it
stands for: some bytes of aliases and merge keys can say more than a machine can hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml import events

from ...graphstore.canonical import Json
from ..source import Unreadable

__all__ = ["documents"]

_READER: Any = (
    getattr(yaml, "CSafeLoader", None) or yaml.SafeLoader
)  # the second takes 20 times as long

# What aliases and merge keys may say beside what is written.
_MOST_VALUES = 200_000
_MOST_CHARACTERS = 8_000_000
_LEVELS = 150  # a document may have 100, which whoever keeps it tells best

_TAG = "tag:yaml.org,2002:"
_MAPPINGS = {f"{_TAG}{name}" for name in ("map", "set")}
_SEQUENCES = {f"{_TAG}{name}" for name in ("seq", "omap", "pairs")}
_AS_WRITTEN = {"!"} | {f"{_TAG}{name}" for name in ("str", "timestamp", "binary")}
_TYPED = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float")}

_BEGINS_OTHER = {"", *"~nNtTfF.+-0123456789"}  # what is no text begins so
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# `0644` is 644 by YAML 1.2 and 420 for most others: it stays what is written.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


def documents(text: str) -> Iterator[Json]:
    """Each document in ``text``. Raises Unreadable."""
    try:
        stream = yaml.parse(text, Loader=_READER)
        for event in stream:
            if isinstance(event, events.DocumentStartEvent):
                yield _Composer(stream).document()
    except (yaml.YAMLError, ValueError) as error:
        raise Unreadable(f"is not YAML: {_in_short(error)}") from None


def _in_short(error: Exception) -> str:
    """What is wrong and where, in one line."""
    if "nesting depth" in str(error):
        return "it is nested too deeply"
    problem = getattr(error, "problem", None) or str(error).strip().partition("\n")[0]
    mark = getattr(error, "problem_mark", None)
    return problem if mark is None else f"{problem}, line {mark.line + 1}"


def _wrong(problem: str, event: Any) -> Unreadable:
    return Unreadable(f"is not YAML: {problem}, line {event.start_mark.line + 1}")


@dataclass(slots=True)
class _Node:
    """A value, and how much it is: values and characters, aliases followed."""

    value: Json
    values: int = 1
    characters: int = 0

    def add(self, other: _Node) -> None:
        self.values += other.values
        self.characters += other.characters


@dataclass
class _Composer:
    """One document, from the events of a stream."""

    stream: Iterator[Any]
    anchors: dict[str, _Node | None] = field(default_factory=dict)  # None: it is not complete
    extra: _Node = field(default_factory=lambda: _Node(None, 0))  # what aliases have added
    level: int = 0

    def document(self) -> Json:
        return self.node(next(self.stream)).value

    def node(self, event: Any) -> _Node:
        if isinstance(event, events.AliasEvent):
            return self.alias(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        node = self.compose(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any) -> _Node:
        if event.anchor not in self.anchors:
            raise _wrong("found an alias of nothing", event)
        if (target := self.anchors[event.anchor]) is None:
            raise _wrong("has aliases that refer to themselves", event)
        self.weigh(target)
        return target

    def weigh(self, repeated: _Node) -> None:
        self.extra.add(repeated)
        if self.extra.values > _MOST_VALUES or self.extra.characters > _MOST_CHARACTERS:
            raise Unreadable("holds too much: its aliases multiply what it says")

    def compose(self, event: Any) -> _Node:
        if isinstance(event, events.ScalarEvent):
            value = _scalar(event)
            return _Node(value, 1, len(event.value))
        self.level += 1
        if self.level > _LEVELS:
            raise Unreadable("is nested too deeply")
        is_list = isinstance(event, events.SequenceStartEvent)
        node = self.sequence(event) if is_list else self.mapping(event)
        self.level -= 1
        return node

    def sequence(self, start: Any) -> _Node:
        _check_tag(start, _SEQUENCES)
        items: list[Json] = []
        node = _Node(items)
        while not isinstance(event := next(self.stream), events.SequenceEndEvent):
            item = self.node(event)
            items.append(item.value)
            node.add(item)
        return node

    def mapping(self, start: Any) -> _Node:
        _check_tag(start, _MAPPINGS)
        own: dict[str, Json] = {}
        texts: set[str] = set()  # the keys that were text from the first
        merged: list[_Node] = []
        node = _Node(own)
        while not isinstance(event := next(self.stream), events.MappingEndEvent):
            if _is_merge(event):
                merged.append(self.node(next(self.stream)))
                continue
            value = self.node(event).value
            key = _key(value, event)
            if key in own:
                raise _wrong(_said_twice(key, value, texts), event)
            if isinstance(value, str):
                texts.add(key)
            item = self.node(next(self.stream))
            own[key] = item.value
            node.add(item)
            node.characters += len(key)
        if merged:
            self.merge(own, merged, node, start)
        return node

    def merge(self, own: dict[str, Json], merged: Iterable[_Node], result: _Node, at: Any) -> None:
        """Merge mappings into ``own``, whose members win; then those of earlier ones."""
        for node in merged:
            self.weigh(node)
            result.add(node)
            parts = node.value if isinstance(node.value, list) else [node.value]
            for part in parts:
                if not isinstance(part, dict):
                    raise _wrong("merges what is no mapping", at)
                for key, value in part.items():
                    own.setdefault(key, value)


def _is_merge(event: Any) -> bool:
    if not isinstance(event, events.ScalarEvent):
        return False
    return event.tag == f"{_TAG}merge" or bool(event.implicit[0] and event.value == "<<")


def _check_tag(event: Any, known: set[str]) -> None:
    if event.tag is not None and event.tag != "!" and event.tag not in known:
        raise _no_tag(event)


def _no_tag(event: Any) -> Unreadable:
    return _wrong(f"could not determine a constructor for the tag {event.tag!r}", event)


def _said_twice(key: str, value: Json, texts: set[str]) -> str:
    if isinstance(value, str) == (key in texts):
        return f'found duplicate key "{key}"'
    return f'the keys {key} and "{key}" are the same key in JSON'


def _key(value: Json, event: Any) -> str:
    """A key as JSON has it."""
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
    raise Unreadable(
        f"cannot be kept as JSON: a key is a list or an object, line {event.start_mark.line + 1}"
    )


def _scalar(event: Any) -> Any:
    if event.tag is None or event.tag == "!":
        plain = event.implicit[0] and event.tag is None
        return _resolved(event.value, event) if plain else event.value
    if event.tag in _AS_WRITTEN:
        return event.value
    if event.tag not in _TYPED:
        raise _no_tag(event)
    value = _resolved(event.value, event)
    if event.tag == f"{_TAG}float" and type(value) is int:
        return float(value)
    if _TYPES[event.tag] is not type(value):
        raise _wrong(f"what is tagged {event.tag} is none", event)
    return value


_TYPES = dict(zip(sorted(_TYPED), (bool, float, int, type(None)), strict=True))


def _resolved(text: str, event: Any) -> Json:
    """What a plain scalar is by the core schema."""
    if text[:1] not in _BEGINS_OTHER:
        return text
    if _NULL.fullmatch(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    return _number(text, event)


def _number(text: str, event: Any) -> Json:
    """A number, or the text that is none."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text) and not _LEADING_ZERO.fullmatch(text):
        return _float(text, event)
    if signed := _INFINITY.fullmatch(text):
        return -math.inf if signed[1] == "-" else math.inf
    return math.nan if _NAN.fullmatch(text) else text


def _float(text: str, event: Any) -> float:
    if math.isinf(value := float(text)):
        raise _wrong("a number is too large", event)
    return value
