"""Marks on values: a model may carry what is opaque, and does not see what is unseen.

They are found where a value is written as JSON: by its type, or by selectors.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from ...graphstore.canonical import Json
from ...graphstore.errors import SelectorError
from ...graphstore.selecting import Path, TooCostly, select
from ...graphstore.selectors import Query, names_in, query_of
from ..errors import ConfigurationError
from ..keys.standins import NoStandIn, StandIns

__all__ = [
    "Marked",
    "Marks",
    "Opaque",
    "Unseen",
    "has_place",
    "marked",
    "marks_taken_off",
    "names_marks",
    "takes_marks_off",
    "unmarked",
]

_T = TypeVar("_T")

_marking: contextvars.ContextVar[bool] = contextvars.ContextVar("execgraph_marking", default=False)

# Each is the only key of an object that holds a marked value, while one is written with marks.
_SIGN = "execgraph-mark-8d41f0"
_OPAQUE, _UNSEEN = f"\0{_SIGN} opaque", f"\0{_SIGN} unseen"
#: What is told of marks that are met where none is looked for.
_met: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar(
    "execgraph_marks_met", default=None
)
#: Gets a member for each type that takes marks off, while a value is written whose marks count.
_taken_off: contextvars.ContextVar[list[bool] | None] = contextvars.ContextVar(
    "execgraph_marks_taken_off", default=None
)

_NOTED = "execgraph_mark"  # in the metadata of a core schema
#: The kinds of serializers that may have what is inside written as that is declared.
_ASK_INSIDE = frozenset({"function-wrap", "include-exclude-sequence", "include-exclude-dict"})
#: What a core schema has under names of others, and what is no schema in it.
_BY_NAME, _NO_SCHEMAS = frozenset({"fields", "choices"}), frozenset({"metadata", "default"})


class _Mark:
    _key: str

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: Any = handler(source)
        write = _writer(cls._key)
        writer = core_schema.wrap_serializer_function_ser_schema(write, schema=schema)
        # Another serializer may take the place of this one; what is noted beside it stays.
        noted = {**schema.get("metadata", {}), _NOTED: write}
        return {**schema, "serialization": writer, "metadata": noted}


class Opaque(_Mark):
    """Marks a value that differs on every run: an id, a time, a token.

    ``id: Annotated[str, Opaque]``, in the inputs of a task or the output of a tool. A model is
    shown a stand-in of the same type, which it may pass on and not reason about: in what it says
    the value is put back. So a recording serves every value of it, and the model's provider is not
    sent the value from there. A text, a number, or null.
    """

    _key = _OPAQUE


class Unseen(_Mark):
    """Marks a value that no model is to see: how long something took, when it was looked up.

    ``took_ms: Annotated[float, Unseen]``, in the output of a tool or the inputs of a task. It is
    left out of what a model is shown and of every comparison; a program's own code gets it.
    """

    _key = _UNSEEN


def _writer(key: str) -> Callable[[Any, Callable[[Any], Any]], Any]:
    def write_marked(value: Any, write: Callable[[Any], Any]) -> Any:
        written = write(value)
        if _marking.get():
            return {key: written}
        if (met := _met.get()) is not None:
            met.append(key)
        return written

    return write_marked


def names_marks(schema: object) -> bool:
    """Whether a type, by its core schema, has marked values."""
    return "write_marked" in repr(schema)


def takes_marks_off(schema: object) -> bool:
    """Whether a type, by its core schema, has a serializer that writes what is marked without the
    mark: one that takes the place of the mark's own, or that does not ask how the inside of what it
    writes is written."""
    if not names_marks(schema):
        return False
    parts = list(_parts(schema))
    refs = {it["ref"]: it for it in parts if "ref" in it}
    return any(_takes_off(it, refs) for it in parts)


def _takes_off(schema: Mapping[str, Any], refs: Mapping[str, Any]) -> bool:
    writer = schema.get("serialization")
    if writer is None or names_marks(writer):  # it is the mark's own, or marks what it gives
        return False
    inside = {key: it for key, it in schema.items() if key != "serialization"}
    parts = [inside] if writer["type"] in _ASK_INSIDE else _parts(inside, refs)
    return any(_NOTED in it.get("metadata", {}) for it in parts)


def _parts(schema: Any, refs: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """The schemas in a core schema; with ``refs``, those that it names, too."""
    left, named = [schema], set()
    while left:
        part = left.pop()
        if isinstance(part, list | tuple):
            left += part
        if not isinstance(part, dict):
            continue
        yield part
        for key, inside in part.items():
            if key in _BY_NAME and isinstance(inside, dict):
                left += inside.values()
            elif key not in _NO_SCHEMAS:
                left.append(inside)
        name = part.get("schema_ref", "")
        if refs and name in refs and name not in named:
            named.add(name)
            left.append(refs[name])


def marks_taken_off() -> None:
    """Tell who writes a value that its type takes marks off."""
    if (taken_off := _taken_off.get()) is not None:
        taken_off.append(True)


@contextmanager
def _none_taken_off() -> Iterator[None]:
    taken_off: list[bool] = []
    token = _taken_off.set(taken_off)
    try:
        yield
    finally:
        _taken_off.reset(token)
    if taken_off:
        raise NoStandIn(
            "a serializer of its own takes the mark off a value; mark what that serializer returns"
            " ('-> Annotated[str, Opaque]'), or leave the mark out"
        )


@dataclass(frozen=True)
class Marked:
    """A value as JSON, and where in it marked values are."""

    json: Json
    opaque: tuple[Path, ...] = ()
    unseen: tuple[Path, ...] = ()

    @property
    def places(self) -> tuple[Path, ...]:
        """Where values are marked."""
        return self.opaque + self.unseen

    @property
    def seen(self) -> Json:
        """Its JSON without what is unseen, with the real values of what is opaque."""
        seen: Json = _without_all(self.json, self.unseen)
        return seen

    def render(self, standins: StandIns, place: str) -> Any:
        """The JSON that a model reads. ``place``: where it comes from, the same on every run.

        Raises NoStandIn.
        """
        if not self.unseen:
            return standins.substitute(self.json, self.opaque, place)
        if both := set(self.opaque) & set(self.unseen):
            raise NoStandIn(f"{place} {min(both, key=repr)} is marked as opaque and as unseen")
        if () in self.unseen:
            raise NoStandIn(f"{place} is unseen as a whole; mark the values in it")
        return _without_all(standins.substitute(self.json, self.opaque, place), self.unseen)


def marked(write: Callable[[], Json]) -> Marked:
    """Write a value, and collect where its marks are. Raises NoStandIn if some are taken off."""
    token = _marking.set(True)
    try:
        with _none_taken_off():
            tree = write()
    finally:
        _marking.reset(token)
    opaque: list[Path] = []
    unseen: list[Path] = []
    json = _read(tree, (), {_OPAQUE: opaque, _UNSEEN: unseen})
    return Marked(json, tuple(opaque), tuple(unseen))


def unmarked(write: Callable[[], _T]) -> _T:
    """Write a value whose type names no marks. Raises NoStandIn if it has some all the same: they
    would be shown as they are."""
    met: list[str] = []
    token = _met.set(met)
    try:
        with _none_taken_off():
            written = write()
    finally:
        _met.reset(token)
    if met:
        raise NoStandIn(
            "it holds marked values, and its declared type does not name them; declare the class"
            " that has the marks"
        )
    return written


def _read(tree: Json, path: Path, paths: Mapping[str, list[Path]]) -> Json:
    if isinstance(tree, list):
        return [_read(item, (*path, place), paths) for place, item in enumerate(tree)]
    if isinstance(tree, str) and _SIGN in tree:
        raise NoStandIn(
            "a serializer of its own puts a marked value into a text; mark that text too, or leave"
            " the mark out"
        )
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1 and (key := next(iter(tree))) in paths:
        paths[key].append(path)
        return _read(tree[key], path, paths)
    return {key: _read(item, (*path, key), paths) for key, item in tree.items()}


class Marks:
    """The marks that somebody has set by selectors. Raises ConfigurationError for what is none."""

    def __init__(self, owner: str, opaque: Iterable[str] = (), unseen: Iterable[str] = ()) -> None:
        self._owner = owner
        self._opaque = _queries(owner, "opaque", opaque)
        self._unseen = _queries(owner, "unseen", unseen)
        every = {**self._opaque, **self._unseen}
        self._names = {it: names_in(query) for it, query in every.items()}
        if both := self._opaque.keys() & self._unseen.keys():
            raise ConfigurationError(
                f"{owner}: {min(both)} is marked as opaque and as unseen; keep one of the two"
            )

    def __bool__(self) -> bool:
        return bool(self._opaque or self._unseen)

    @property
    def are_names(self) -> bool:
        """Whether each mark is found by the names of fields alone, whatever the values are."""
        return None not in self._names.values()

    def declaration(self) -> dict[str, Json]:
        """The selectors, as a key has them."""
        return {"opaque": sorted(self._opaque), "unseen": sorted(self._unseen)}

    def on(self, value: Marked) -> Marked:
        """Add the places that these selectors find to the marks of ``value``. Raises NoStandIn for
        one that takes too long."""
        opaque = (*value.opaque, *self._paths(self._opaque, value.json))
        unseen = (*value.unseen, *self._paths(self._unseen, value.json))
        return Marked(value.json, tuple(dict.fromkeys(opaque)), tuple(dict.fromkeys(unseen)))

    def _paths(self, queries: Mapping[str, Query], json: Json) -> Iterator[Path]:
        for selector, query in queries.items():
            if (names := self._names.get(selector)) is not None:
                yield from [names] if _is_there(json, names) else ()
                continue
            try:
                yield from select(query, json).paths
            except TooCostly as error:
                raise NoStandIn(f"{self._owner}: the mark {selector} is too costly") from error


def _is_there(json: Any, names: tuple[str, ...]) -> bool:
    for name in names:
        if not isinstance(json, dict) or name not in json:
            return False
        json = json[name]
    return True


def _queries(owner: str, what: str, selectors: Iterable[str]) -> dict[str, Query]:
    if isinstance(selectors, str):
        raise ConfigurationError(f"{owner} has {what}={selectors!r}; give a list: [{selectors!r}]")
    queries = {}
    for selector in selectors:
        try:
            queries[selector] = query = query_of(selector)
        except (SelectorError, TypeError) as error:
            raise ConfigurationError(f"{owner}: {what}={selector!r}: {error}") from None
        if not query.segments:
            raise ConfigurationError(
                f"{owner}: {what}={selector!r} marks the whole document; mark the values in it,"
                " as in '$.id'"
            )
    return queries


def has_place(json: Json, path: Path) -> bool:
    """Whether something stands at ``path``."""
    inner: Any = json
    for key in path:
        is_there = (
            0 <= key < len(inner)
            if isinstance(inner, list) and isinstance(key, int)
            else isinstance(inner, Mapping) and key in inner
        )
        if not is_there:
            return False
        inner = inner[key]
    return True


_GONE = object()


def _without_all(json: Any, paths: Iterable[Path]) -> Any:
    for path in sorted(paths, key=len, reverse=True):
        json = _without(json, path)
    return _closed_up(json)


def _without(json: Any, path: Path) -> Any:
    """``json`` with a hole at ``path``: places in a list stay what they are."""
    key, *rest = path
    if isinstance(json, Mapping) and key in json:
        return {**json, key: _without(json[key], tuple(rest)) if rest else _GONE}
    if isinstance(json, list) and isinstance(key, int):
        changed: list[Any] = list(json)
        changed[key] = _without(changed[key], tuple(rest)) if rest else _GONE
        return changed
    return json  # it is gone already, with what it stood in


def _closed_up(json: Any) -> Any:
    match json:
        case Mapping():
            return {key: _closed_up(item) for key, item in json.items() if item is not _GONE}
        case list():
            return [_closed_up(item) for item in json if item is not _GONE]
    return json
