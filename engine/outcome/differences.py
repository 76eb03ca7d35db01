"""Where two JSON documents differ: what a person is shown of why something was another one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, takewhile, zip_longest
from typing import Any, NamedTuple

from .hiding import HIDDEN, is_secret, without_secrets

__all__ = [
    "Difference",
    "TaskContent",
    "differences",
    "distance",
    "inside",
    "place_of",
    "request_differences",
    "shown",
    "task_differences",
]

_MOST = 8  # of two documents
_COUNTED = 200  # places, of how far apart two documents are
_LONGEST = 60  # characters of a value
_BEFORE = 15  # characters that are shown before the first that differs
_NAME = re.compile(r"[A-Za-z_]\w*")
_NOTHING = object()
_NUMBER = re.compile(r"-?\d[\d.eE+-]*")


class Difference(NamedTuple):
    """One place at which two documents differ.

    Attributes:
        path: The place, as a selector; of a tool that is offered, ``$.tools[name]``.
        before: What stood there, shortened; None: nothing did. Of a field that is named as a secret
            it is "hidden".
        after: What stands there now, likewise.
        of: The document, if it is not the one that is spoken of: ``context`` of a task.
        note: What else is to be known of this place; empty if there is nothing.
    """

    path: str
    before: str | None
    after: str | None
    of: str = ""
    note: str = ""

    @property
    def place(self) -> str:
        """The path, and before it the document if it is another one."""
        return f"{self.of} {self.path}" if self.of else self.path

    @property
    def may_be_opaque(self) -> bool:
        """Whether something can stand in for the values: texts, numbers and null."""
        return not self.note and all(_is_plain(side) for side in (self.before, self.after))

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.place}: {self.before or 'nothing'} -> {self.after or 'nothing'}{note}"


def _is_plain(text: str | None) -> bool:
    if text is None:
        return False
    return text in ("null", HIDDEN) or text.startswith('"') or bool(_NUMBER.fullmatch(text))


def differences(before: Any, after: Any, *, most: int | None = _MOST) -> tuple[Difference, ...]:
    """The first places at which two documents differ, in the order of the earlier one."""
    return _first(_differences("$", before, after), most)


def _first(found: Iterator[Difference], most: int | None) -> tuple[Difference, ...]:
    try:
        return tuple(islice(found, most))
    except RecursionError:  # nested so deeply that nobody could read it either
        return ()


def _differences(path: str, before: Any, after: Any) -> Iterator[Difference]:
    match before, after:
        case Mapping(), Mapping():
            for key in dict.fromkeys((*before, *after)):
                yield from _of_field(inside(path, key), key, before, after)
        case ((list() | tuple()), (list() | tuple())):
            if len(before) != len(after):
                yield Difference(path, _items(before), _items(after))
            for place, pair in enumerate(zip(before, after, strict=False)):
                yield from _differences(f"{path}[{place}]", *pair)
        case str(), str() if before != after:
            yield Difference(path, *_texts(before, after))
        case _ if not _same(before, after):
            yield Difference(path, shown(before), shown(after))


def _texts(before: str, after: str) -> tuple[str, str]:
    """Two texts, each around the first character that differs; either may be JSON with secrets."""
    told, tells = without_secrets(before), without_secrets(after)
    if told == tells:
        return HIDDEN, HIDDEN
    start = _common(told, tells)
    return shown(told, start), shown(tells, start)


def _same(before: Any, after: Any) -> bool:
    """Whether two values count as equal: 1 and 1.0 do, 1 and true do not."""
    return bool(before == after) and isinstance(before, bool) == isinstance(after, bool)


def _of_field(
    path: str, key: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Difference]:
    if key in before and key in after:
        if not is_secret(key, before[key], after[key]):
            yield from _differences(path, before[key], after[key])
        elif before[key] != after[key]:
            yield Difference(path, HIDDEN, HIDDEN)
        return
    old, new = (
        None if key not in side else HIDDEN if is_secret(key, side[key]) else shown(side[key])
        for side in (before, after)
    )
    yield Difference(path, old, new)


def place_of(path: Sequence[int | str]) -> str:
    """A path as ``differences`` tells it."""
    place = "$"
    for part in path:
        place = f"{place}[{part}]" if isinstance(part, int) else inside(place, part)
    return place


def inside(path: str, key: str) -> str:
    """The selector of what stands under ``key`` in an object at ``path``."""
    return f"{path}.{key}" if _NAME.fullmatch(key) else f"{path}[{json.dumps(key)}]"


# How far apart ----------------------------------------------------------------------------


def distance(before: Any, after: Any) -> float:
    """How far apart two documents are: each place counts 1 at most, a text that is alike less."""
    try:
        return sum(islice(_distances(before, after), _COUNTED))
    except RecursionError:
        return _COUNTED


def _distances(before: Any, after: Any) -> Iterator[float]:
    match before, after:
        case Mapping(), Mapping():
            for key in dict.fromkeys((*before, *after)):
                if key in before and key in after:
                    yield from _distances(before[key], after[key])
                else:
                    yield 1
        case ((list() | tuple()), (list() | tuple())):
            yield from (1 for _ in range(abs(len(before) - len(after))))
            for one, other in zip(before, after, strict=False):
                yield from _distances(one, other)
        case str(), str() if before != after:
            yield _unlikeness(before, after)
        case _ if not _same(before, after):
            yield 1
            yield from (1 for side in (before, after) for _ in _parts(side))


def _parts(value: Any) -> Sequence[Any] | Mapping[str, Any]:
    """What an object or a list holds, where something of another kind stands in its place."""
    return value if isinstance(value, Mapping | list | tuple) else ()


def _unlikeness(before: str, after: str) -> float:
    """How much of the longer text is neither a common beginning nor a common end."""
    shorter, longer = sorted((len(before), len(after)))
    start = _common(before, after)
    end = min(_common(before[::-1], after[::-1]), shorter - start)
    return 1 - (start + end) / (longer + 1)


def _common(before: str, after: str) -> int:
    """How many characters two texts begin with that are the same. Texts may be long."""
    low, high = 0, min(len(before), len(after))
    while low < high:
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


# Tasks, requests --------------------------------------------------------------------------


class TaskContent(NamedTuple):
    """What a task says: its inputs, and its context (None if it has none)."""

    inputs: Any
    context: Any = None


def task_differences(
    before: TaskContent, after: TaskContent, *, most: int | None = _MOST
) -> tuple[Difference, ...]:
    """The first places at which two tasks differ; those of their context say so."""
    of_context = (
        it._replace(
            of="context",
            before=None if before.context is None and it.path == "$" else it.before,
            after=None if after.context is None and it.path == "$" else it.after,
        )
        for it in _differences("$", before.context, after.context)
    )
    return _first(chain(_differences("$", before.inputs, after.inputs), of_context), most)


def request_differences(
    before: Any, after: Any, *, most: int | None = _MOST
) -> tuple[Difference, ...]:
    """The first places at which two requests differ; tools are told by their names."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return differences(before, after, most=most)
    others = _differences("$", _rest_of(before), _rest_of(after))
    of_tools = _of_tools(before.get("tools"), after.get("tools"))
    of_messages = _of_messages(before.get("messages"), after.get("messages"))
    return _first(chain(others, of_tools, of_messages), most)


def _rest_of(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: item for key, item in request.items() if key not in ("messages", "tools")}


def _of_tools(before: Any, after: Any) -> Iterator[Difference]:
    old, new = _by_name(before), _by_name(after)
    if old is None or new is None:
        yield from _differences("$.tools", before, after)
        return
    for name in dict.fromkeys((*old, *new)):
        path = f"$.tools[{name}]"
        if name in old and name in new:
            yield from _differences(path, old[name], new[name])
        else:
            was, is_ = ("offered" if name in side else None for side in (old, new))
            yield Difference(path, was, is_)
    both = old.keys() & new.keys()
    first, then = (", ".join(name for name in side if name in both) for side in (old, new))
    if first != then:
        yield Difference("$.tools", shown(first), shown(then), note="their order")


def _by_name(tools: Any) -> Mapping[str, Any] | None:
    """Tools by their names; None for what is no list of tools that differ in their names."""
    if tools is None:
        return {}
    if not isinstance(tools, list):
        return None
    named = {name: tool for tool in tools if (name := _name_of(tool))}
    return named if len(named) == len(tools) else None


def _of_messages(before: Any, after: Any) -> Iterator[Difference]:
    """Messages are told apart where they are not the same at the beginning and at the end."""
    if not (isinstance(before, list) and isinstance(after, list)):
        yield from _differences("$.messages", before, after)
        return
    start = _alike(before, after)
    shorter = min(len(before), len(after)) - start
    end = min(_alike(before[::-1], after[::-1]), shorter)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    for place, (one, other) in enumerate(zip_longest(old, new, fillvalue=_NOTHING), start):
        path = f"$.messages[{place}]"
        if one is _NOTHING or other is _NOTHING:
            yield Difference(path, _said(one), _said(other))
        else:
            yield from _differences(path, one, other)


def _alike(before: Sequence[Any], after: Sequence[Any]) -> int:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
    return sum(1 for _ in pairs)


def _said(message: Any) -> str | None:
    """What a message says, in few characters; None if there is none."""
    if message is _NOTHING:
        return None
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        content = content[0].get("text", content[0].get("type"))
    if not isinstance(content, str):
        return shown(message)
    return shown(f"{message.get('role')}: {content}")


def _name_of(tool: Any) -> str | None:
    if not isinstance(tool, Mapping):
        return None
    inner = tool.get("function")
    name = tool.get("name") or (inner.get("name") if isinstance(inner, Mapping) else None)
    return name if isinstance(name, str) else None


# Values -----------------------------------------------------------------------------------


def _items(values: Sequence[Any]) -> str:
    return "1 item" if len(values) == 1 else f"{len(values)} items"


def shown(value: Any, place: int = 0) -> str:
    """A value as JSON in few characters; of a long text those around ``place``."""
    match value:
        case Mapping():
            return "an object"
        case list() | tuple():
            return _items(value)
    if isinstance(value, str):
        value = without_secrets(value)
        if len(value) > _LONGEST and place > _BEFORE:
            value = f"...{value[place - _BEFORE :]}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
