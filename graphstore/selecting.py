"""Applying a selector to a document: what it matches, and what it could not select from.

A selector is written for documents of a certain shape. Where it meets another one (``$.deny[*]``
and a text, ``[?@.user == 'bob']`` and a list of users) RFC 9535 says that it matches nothing,
which must not count as "nobody is denied". So beside its matches a selection has its
``strangers``: all that stood where the selector cannot look into such, or compares it with another
type. Of ``..`` there are none, since it looks everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jsonpath import filter as filters
from jsonpath import selectors as parts
from jsonpath.segments import JSONPathRecursiveDescentSegment, JSONPathSegment

from .canonical import canonical, digest
from .selectors import Query, operands, pattern_of

__all__ = ["Path", "Selection", "TooCostly", "select"]

Path = tuple[int | str, ...]
_Node = tuple[Path, Any]
_T = TypeVar("_T")

_STEPS = 2_000_000
_CHARACTERS = 50  # that a regular expression reads in the time of a step
_NOTHING = object()  # what a query has that selects no value
_SELECTS_FROM: Mapping[type[parts.JSONPathSelector], tuple[str, ...]] = {
    parts.NameSelector: ("object",),
    parts.IndexSelector: ("array",),
    parts.SliceSelector: ("array",),
    parts.WildcardSelector: ("array", "object"),
    parts.Filter: ("array", "object"),
}


class TooCostly(Exception):
    """Applying the selector takes more steps than are given to one."""


@dataclass(frozen=True)
class Selection:
    """What a selector makes of a document.

    ``stopped``: if it matches nothing, the segment that did not match, and the types of what
    stood before it.
    """

    paths: list[Path]
    strangers: list[str]
    stopped: list[int | str]


def select(query: Query, content: Any) -> Selection:
    """Apply ``query`` to ``content``. Raises TooCostly; how soon depends on these two alone."""
    search = _Search(content, _STEPS)
    nodes: list[_Node] = [((), content)]
    stopped: list[int | str] = []
    for number, segment in enumerate(query.segments):
        before, nodes = nodes, search.segment(segment, nodes)
        if not nodes:
            stopped = [number, *sorted({_type(value) for _, value in before})]
            break
    return Selection([path for path, _ in nodes], sorted(search.strangers), stopped)


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


@dataclass
class _Search:
    """One application of a selector to ``root``."""

    root: Any
    _steps: int  # that are left
    strangers: set[str] = field(default_factory=set)
    _everywhere: int = 0  # how many ``..`` this is in
    _absolute: dict[int, list[_Node]] = field(default_factory=dict)

    # Queries ------------------------------------------------------------------------------

    def query(self, query: Query, start: Any) -> list[_Node]:
        nodes: list[_Node] = [((), start)]
        for segment in query.segments:
            nodes = self.segment(segment, nodes)
        return nodes

    def segment(self, segment: JSONPathSegment, nodes: list[_Node]) -> list[_Node]:
        deep = isinstance(segment, JSONPathRecursiveDescentSegment)
        self._everywhere += deep
        if deep:
            nodes = [below for node in nodes for below in self._descendants(node)]
        found = [
            child
            for node in nodes
            for selector in segment.selectors
            for child in self._counted(self._children(selector, node))
        ]
        self._everywhere -= deep
        return found

    def _descendants(self, start: _Node) -> Iterator[_Node]:
        """The node and all containers below it."""
        waiting = [start]
        while waiting:
            node = waiting.pop()
            yield node
            below = self._counted(_items(node))
            waiting += [child for child in below if isinstance(child[1], dict | list)]

    def _counted(self, items: Iterator[_T]) -> Iterator[_T]:
        self._spend(1)
        for item in items:
            self._spend(1)
            yield item

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise TooCostly

    # Selectors ----------------------------------------------------------------------------

    def _children(self, selector: parts.JSONPathSelector, node: _Node) -> Iterator[_Node]:
        path, value = node
        if _type(value) not in _SELECTS_FROM[type(selector)]:
            self._note(value, str(selector.token.index))
            return iter(())
        match selector:
            case parts.NameSelector(name=name):
                return iter([((*path, name), value[name])] if name in value else [])
            case parts.IndexSelector(index=index):
                there = -len(value) <= index < len(value)
                return iter([((*path, index % len(value)), value[index])] if there else [])
            case parts.SliceSelector(slice=wanted):
                among = range(len(value))[wanted] if wanted.step != 0 else ()
                return (((*path, index), value[index]) for index in among)
            case parts.Filter(expression=expression):
                items = self._counted(_items(node))
                return (it for it in items if self._holds(expression.expression, it[1]))
        return _items(node)

    def _note(self, stranger: Any, where: str) -> None:
        if not self._everywhere:
            written = canonical(stranger)
            self._spend(len(written) // _CHARACTERS)
            self.strangers.add(f"{where}:{digest(written)}")

    # Filters ------------------------------------------------------------------------------

    def _holds(self, expression: filters.BaseExpression, current: Any) -> bool:
        match expression:
            case filters.InfixExpression(operator="&&"):
                return all(self._holds(it, current) for it in operands(expression))
            case filters.InfixExpression(operator="||"):
                return any(self._holds(it, current) for it in operands(expression))
            case filters.InfixExpression(left=left, operator=operator, right=right):
                return self._compares(
                    self._value(left, current), operator, self._value(right, current)
                )
            case filters.PrefixExpression(right=right):
                return not self._holds(right, current)
            case filters.FilterQuery():
                return bool(self._nodes(expression, current))
            case filters.FunctionExtension(name=name, args=args):
                text, pattern = (self._value(it, current) for it in args)
                return self._matches(name, text, pattern)
        raise AssertionError(f"{expression} is no test")

    def _nodes(self, query: filters.FilterQuery, current: Any) -> list[_Node]:
        if isinstance(query, filters.RelativeFilterQuery):
            return self.query(query.path, current)
        if id(query) not in self._absolute:
            self._absolute[id(query)] = self.query(query.path, self.root)
        return self._absolute[id(query)]

    def _value(self, expression: filters.BaseExpression, current: Any) -> Any:
        match expression:
            case filters.Nil():
                return None
            case filters.FilterExpressionLiteral(value=value):
                return value
            case filters.FilterQuery():
                return _only(self._nodes(expression, current))
            case filters.FunctionExtension(name="length", args=[of]):
                return self._length(self._value(of, current))
            case filters.FunctionExtension(name="count", args=[filters.FilterQuery() as of]):
                return len(self._nodes(of, current))
            case filters.FunctionExtension(name="value", args=[filters.FilterQuery() as of]):
                return _only(self._nodes(of, current))
        raise AssertionError(f"{expression} is no value")

    def _length(self, value: Any) -> Any:
        if isinstance(value, str | list | dict):
            return len(value)
        if value is not _NOTHING:
            self._note(value, "length")
        return _NOTHING

    def _matches(self, name: str, text: Any, pattern: Any) -> bool:
        for value in (text, pattern):
            if value is not _NOTHING and not isinstance(value, str):
                self._note(value, name)
        if not isinstance(text, str) or not isinstance(pattern, str):
            return False
        self._spend(len(text) // _CHARACTERS)
        if (compiled := pattern_of(pattern)) is None:
            self._note(pattern, name)
            return False
        # A half of a pair, which UTF-8 cannot write, is some character.
        readable = text.encode(errors="replace").decode()
        find = compiled.fullmatch if name == "match" else compiled.search
        return find(readable) is not None

    def _compares(self, left: Any, operator: str, right: Any) -> bool:
        if left is not _NOTHING and right is not _NOTHING and _type(left) != _type(right):
            # Scalars of two types are not equal, whatever they are; a list may hold what was meant.
            by_type = operator in ("==", "!=")
            for value in (left, right):
                is_scalar = not isinstance(value, list | dict)
                self._note(_type(value) if by_type and is_scalar else value, operator)
        match operator:
            case "==":
                return self._equal(left, right)
            case "!=":
                return not self._equal(left, right)
            case "<":
                return _less(left, right)
            case ">":
                return _less(right, left)
            case "<=":
                return _less(left, right) or self._equal(left, right)
        return _less(right, left) or self._equal(left, right)

    def _equal(self, one: Any, two: Any) -> bool:
        """Exact for all numbers; True is no 1, at any depth."""
        self._spend(1)
        if one is _NOTHING or two is _NOTHING:
            return one is two
        if _type(one) != _type(two):
            return False
        if isinstance(one, list):
            return len(one) == len(two) and all(map(self._equal, one, two))
        if isinstance(one, dict):
            return one.keys() == two.keys() and all(self._equal(one[it], two[it]) for it in one)
        return bool(one == two)


def _items(node: _Node) -> Iterator[_Node]:
    path, value = node
    if isinstance(value, dict):
        for name in value:
            yield (*path, name), value[name]
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield (*path, index), item


def _only(nodes: list[_Node]) -> Any:
    return nodes[0][1] if len(nodes) == 1 else _NOTHING


def _less(one: Any, two: Any) -> bool:
    if one is _NOTHING or two is _NOTHING or _type(one) != _type(two):
        return False
    return bool(one < two) if _type(one) in ("number", "string") else False
