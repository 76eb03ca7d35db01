"""Selectors: reading them, and refusing what is not RFC 9535 JSONPath.

python-jsonpath reads the text. What it would round (integers from 2**53 on) or leave to another
engine (regular expressions, which may take for ever there) is read here; ``selecting`` applies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

import jsonpath
import re2
from jsonpath import filter as filters
from jsonpath import selectors as parts
from jsonpath.parse import Parser
from jsonpath.segments import JSONPathChildSegment
from jsonpath.stream import TokenStream

from .errors import SelectorError

__all__ = ["Query", "names_in", "operands", "pattern_of", "query_of"]

Query = jsonpath.JSONPath

_DEEPEST = 30  # levels of a filter's expression; each is some frames of whoever evaluates it
_MOST = 100  # tests joined by `&&` or `||`: they are parsed one within the other
_LONGEST = 16_384  # characters
_SELECTORS = (
    parts.NameSelector,
    parts.IndexSelector,
    parts.SliceSelector,
    parts.WildcardSelector,
    parts.Filter,
)
_EXPRESSIONS = (
    filters.Nil,
    filters.BooleanLiteral,
    filters.StringLiteral,
    filters.IntegerLiteral,
    filters.FloatLiteral,
    filters.PrefixExpression,
    filters.InfixExpression,
    filters.RelativeFilterQuery,
    filters.RootFilterQuery,
    filters.FunctionExtension,
)

_OPERATORS = frozenset({"&&", "||", "==", "!=", "<", "<=", ">", ">="})


def names_in(query: Query) -> tuple[str, ...] | None:
    """The names that a query follows one after the other (``$.a.b``); None if it does more."""
    names = []
    for segment in query.segments:
        match segment.selectors:
            case (parts.NameSelector(name=name),) if isinstance(segment, JSONPathChildSegment):
                names.append(name)
            case _:
                return None
    return tuple(names)


@lru_cache(maxsize=4096)
def query_of(selector: str) -> Query:
    """The query that ``selector`` is. Raises SelectorError."""
    try:
        selector.encode()
        if len(selector) > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST:,} characters")  # noqa: TRY301
        path = _environment().compile(selector)
    except (jsonpath.JSONPathError, ValueError, ArithmeticError, RecursionError) as error:
        raise _refused(selector, _said(error)) from None
    if not isinstance(path, jsonpath.JSONPath):
        raise SelectorError(
            f"the selector {selector!r} joins several JSONPaths; state a requirement for each."
        )
    if (problem := next(_problems(path, 0), None)) is not None:
        raise _refused(selector, problem)
    return path


def _said(error: Exception) -> str:
    return error.args[0] if error.args and isinstance(error, jsonpath.JSONPathError) else str(error)


def _refused(selector: str, why: str) -> SelectorError:
    shown = selector if len(selector) <= 200 else f"{selector[:200]}..."
    return SelectorError(
        f"the selector {shown!r} is not RFC 9535 JSONPath: {why}."
        " Write for example '$.columns.id' or \"$.rules[?@.name == 'freeze']\"."
    )


@lru_cache(maxsize=1)
def _environment() -> jsonpath.JSONPathEnvironment:
    class Exact(Parser):
        """Reads integers as they are written."""

        def parse_integer_literal(self, stream: TokenStream) -> filters.BaseExpression:
            text = stream.current().value
            super().parse_integer_literal(stream)  # refuses what is none, or is beyond 1e308
            return filters.IntegerLiteral(value=int(Decimal(text)))

    class Environment(jsonpath.JSONPathEnvironment):
        parser_class = Exact

    return Environment(strict=True, filter_caching=False)


def _problems(path: Query, level: int) -> Iterator[str]:
    """What RFC 9535 does not know, or nobody should have to evaluate."""
    for segment in path.segments:
        for selector in segment.selectors:
            if not isinstance(selector, _SELECTORS):
                yield f"{selector} is no selector"
            elif isinstance(selector, parts.Filter):
                yield from _problems_in(selector.expression.expression, level + 1)


def _problems_in(expression: filters.BaseExpression, level: int) -> Iterator[str]:
    if level > _DEEPEST:
        yield f"it is nested more than {_DEEPEST} levels deep"
        return
    if not isinstance(expression, _EXPRESSIONS):
        yield f"{expression} is no expression"
    elif isinstance(expression, filters.FilterQuery):
        yield from _problems(expression.path, level)
    elif isinstance(expression, filters.InfixExpression):
        if expression.operator not in _OPERATORS:
            yield f"{expression.operator} is no comparison"
        if len(joined := operands(expression)) > _MOST:
            yield f"it joins more than {_MOST} tests"
            return
        for operand in joined:
            yield from _problems_in(operand, level + 1)
    elif isinstance(expression, filters.FunctionExtension):
        yield from _problem_of_pattern(expression)
    for child in _below(expression):
        yield from _problems_in(child, level + 1)


def _below(expression: filters.BaseExpression) -> list[filters.BaseExpression]:
    if isinstance(expression, filters.PrefixExpression):
        return [expression.right]
    return list(expression.args) if isinstance(expression, filters.FunctionExtension) else []


def operands(expression: filters.InfixExpression) -> list[filters.BaseExpression]:
    """Both sides; all that ``&&`` or ``||`` joins, however many there are."""
    expressions: list[filters.BaseExpression] = []
    waiting = [expression.right, expression.left]
    while waiting:
        side = waiting.pop()
        if (
            expression.logical
            and isinstance(side, filters.InfixExpression)
            and side.operator == expression.operator
        ):
            waiting += [side.right, side.left]
        else:
            expressions.append(side)
    return expressions


# Regular expressions ------------------------------------------------------------------------


def _problem_of_pattern(call: filters.FunctionExtension) -> Iterator[str]:
    if call.name not in ("match", "search"):
        return
    pattern = call.args[1]
    if isinstance(pattern, filters.StringLiteral) and pattern_of(pattern.value) is None:
        yield (
            f"{pattern.value!r} is no regular expression of RFC 9485, or too large a one"
            " (it knows no look-around and no back-references)"
        )


@lru_cache(maxsize=256)
def pattern_of(text: str) -> re2.Pattern | None:
    """An expression of RFC 9485, in an engine that takes time linear in what it reads; None: it
    is none."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile("".join(_translated(text)), options)
    except (re2.error, UnicodeEncodeError):
        return None


def _translated(text: str) -> Iterator[str]:
    """RFC 9485's dot is neither kind of line end."""
    in_class = escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "[":
            in_class = True
        elif character == "]":
            in_class = False
        elif character == "." and not in_class:
            yield "[^\\n\\r]"
            continue
        yield character
