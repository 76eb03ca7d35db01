"""Between Neo4j's Cypher and that of the library which holds the view.

The library gives every node an identity, a title and a type that can be read as properties, and
takes `*` for at most ten hops. So properties of such names are kept under other ones: ``kept`` is
the table, used for what is loaded, for the query and for its parameters; ``plain`` is its inverse.
A name that a node does not have is null then, as it is on Neo4j. Hops are bounded by the number
of relationships, which no path can exceed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

from ..cypher import check_first_word, node, path, relationship, where
from ..errors import CypherRefused
from .clock import now_ms

__all__ = ["Rewritten", "kept", "named", "plain", "renamed", "rewritten"]

#: What the library answers for a node that stores no property of this name.
_SYNTHETIC = frozenset({"id", "label", "name", "node_type", "title", "type"})
#: What it adds to the map of a node's or relationship's properties.
_ADDED = frozenset({"id", "title", "type"})
_PREFIX = "execgraph_"
_KEPT = re.compile(rf"\b{_PREFIX}(?=(?:{'|'.join(sorted(_SYNTHETIC))})\b)")


# Values -----------------------------------------------------------------------------------


def kept(name: str) -> str:
    """The name under which the view keeps a property."""
    return _PREFIX + name if name in _SYNTHETIC else name


def named(text: str) -> str:
    """A text of the library with the names of the graph."""
    return _KEPT.sub("", text)


def renamed(value: Any) -> Any:
    """A parameter, with the names that the view keeps otherwise."""
    if isinstance(value, Mapping):
        return {kept(key): renamed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [renamed(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """What the library gives as a JSON value, with the names of the graph."""
    match value:
        case dict():
            return _plain_map(value)
        case list() | tuple():
            return [plain(item) for item in value]
        case date() | time():
            return value.isoformat()
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def _plain_map(value: Mapping[str, Any]) -> dict[str, Any]:
    match value:
        case {"id": _, "labels": labels, "properties": of, **more} if not more:
            return node(labels, plain(of))
        case {"id": _, "start": _, "end": _, "type": kind, "properties": of}:
            return relationship(kind, plain(of))
        case {"nodes": list(nodes), "relationships": list(crossed), **more} if not more:
            return path(plain(nodes), plain(crossed))
    return {named(name): plain(item) for name, item in value.items() if name not in _ADDED}


# Tokens -----------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""
      (?P<blank>\s+|//[^\n]*|/\*.*?\*/)
    | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<name>`(?:[^`]|``)*`)
    | (?P<parameter>\$(?:\w+|`(?:[^`]|``)*`))
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<word>[^\W\d]\w*)
    | (?P<endless>['"`]|/\*)
    | (?P<sign>\.\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_QUOTED = re.compile(r"`(?:[^`]|``)*`")


class _Token(NamedTuple):
    """A piece of a query, of a kind that ``_TOKEN`` names; blanks are none. ``at``: where it
    starts; ``inside``: the brackets around it, as numbers of tokens, outermost first."""

    kind: str
    text: str
    at: int
    inside: tuple[int, ...]

    @property
    def word(self) -> str:
        """In upper case, if it may be a keyword; else empty."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """What it names, if it names anything, without backticks; else empty."""
        return _unquoted(self.text) if self.kind in {"word", "name"} else ""


def _unquoted(text: str) -> str:
    return text[1:-1].replace("``", "`") if _QUOTED.fullmatch(text) else text


def _tokens(query: str) -> list[_Token]:
    """The query's tokens, and an empty one: what is before the first, and after the last."""
    tokens: list[_Token] = []
    brackets: list[int] = []
    for match in _TOKEN.finditer(query):
        kind, text = match.lastgroup or "", match.group()
        if kind == "blank":
            continue
        if text in {")", "]", "}"} and brackets:
            brackets.pop()
        tokens.append(_Token(kind, text, match.start(), tuple(brackets)))
        if text in {"(", "[", "{"}:
            brackets.append(len(tokens) - 1)
    return [*tokens, _Token("end", "", len(query), ())]


# What is refused --------------------------------------------------------------------------

#: Procedures that there are on Neo4j, too.
_PROCEDURES = frozenset({"db.labels", "db.relationshiptypes"})
_NO_PROCEDURE = (
    "the procedure {} is not to be had on SQLite, where queries run on a view of the graph;"
    " db.labels and db.relationshipTypes are"
)
_NULL = (
    "on SQLite a pattern's braces hold no property of {}, which is a relationship or bound by the"
    " same clause; compare it in WHERE"
)
#: Words after which `(` begins a pattern and no function's arguments.
_BEFORE_A_PATTERN = frozenset({"", "AND", "EXISTS", "MATCH", "NOT", "OR", "WHERE", "XOR"})


def _wrong(tokens: Sequence[_Token]) -> Iterator[tuple[_Token, str]]:
    """What the library would answer and Neo4j would not, or otherwise."""
    for at, (token, after) in enumerate(pairwise(tokens)):
        before = tokens[at - 1].text
        if token.kind == "endless":
            yield token, "what begins here has no end; close the string, the name or the comment"
        if token.text == ";" and after.text not in {";", ""}:
            yield after, "a second statement begins here; ask one at a time"
        if after.word == "CSV" and token.word in {"LOAD", "FORMAT"}:
            yield token, f"{token.word} CSV does not ask the graph for anything; leave it out"
        if token.word == "CALL" and before not in {".", ":", "|"}:
            yield from _wrong_procedure(tokens[at + 1 :])
        if after.text == "." and token.name and before != "." and _is_null(tokens, token):
            yield token, _NULL.format(token.name)


def _wrong_procedure(tokens: Sequence[_Token]) -> Iterator[tuple[_Token, str]]:
    parts = takewhile(lambda token: token.text != "(", tokens)
    name = "".join(token.name or token.text for token in parts)
    if tokens[0].name and tokens[1].text in {".", "("} and name.lower() not in _PROCEDURES:
        yield tokens[0], _NO_PROCEDURE.format(name)


def _is_null(tokens: Sequence[_Token], owner: _Token) -> bool:
    """Whether the library takes a property of ``owner`` for null: it does in the braces of a
    pattern, if that is a relationship, or is bound by the same clause."""
    brace = next((at for at in reversed(owner.inside) if _is_of_a_pattern(tokens, at)), None)
    if brace is None:
        return False
    subqueries = [at for at in tokens[brace].inside if tokens[at].text == "{"]
    matches = [at for at in range(brace) if tokens[at].word == "MATCH"]
    clause = max([0, *subqueries, *matches])
    relationships = {name.name for sign, name in pairwise(tokens) if sign.text == "["}
    return owner.name not in {token.name for token in tokens[:clause]} - relationships


def _is_of_a_pattern(tokens: Sequence[_Token], brace: int) -> bool:
    """Whether the bracket there begins the properties of a node or relationship."""
    around = tokens[brace].inside[-1] if tokens[brace].inside else 0
    before, opening = tokens[around - 1], tokens[around].text
    is_node = opening == "(" and (not before.name or before.word in _BEFORE_A_PATTERN)
    return tokens[brace].text == "{" and (is_node or before.text + opening == "-[")


# The query --------------------------------------------------------------------------------

_FUNCTIONS = {"PERCENTILECONT": "percentile_cont", "PERCENTILEDISC": "percentile_disc"}
#: Words after which `[` begins a list and no subscript.
_BEFORE_A_LIST = frozenset({
    "AND", "AS", "ASC", "BY", "CASE", "CONTAINS", "DESC", "DISTINCT", "ELSE", "IN", "LIMIT",
    "NOT", "OR", "RETURN", "SKIP", "THEN", "UNWIND", "WHEN", "WHERE", "WITH", "XOR",
})  # fmt: skip
_SINCE_1970 = "'1970-01-01T00:00:00Z') + duration({"
_KEYS = "[execgraph_key IN keys"
_KEYS_END = (
    f") WHERE NOT execgraph_key IN {sorted(_ADDED)} | replace(execgraph_key, '{_PREFIX}', '')]"
)


class Rewritten:
    """A query for the library: ``text``, and what of it was what in the query."""

    def __init__(self, query: str, tokens: Sequence[_Token], texts: Sequence[str]) -> None:
        self.text = ""
        self._query = query
        self._starts: dict[int, int] = {}  # in the text, and in the query
        self._ends: dict[int, int] = {}
        done = 0
        for token, text in zip(tokens, texts, strict=True):
            # Comments become blanks; the ends of their lines stay.
            self.text += re.sub(r"\S", " ", query[done : token.at])
            self._starts[len(self.text)] = token.at
            self.text += text
            done = token.at + len(token.text)
            self._ends[len(self.text)] = done

    def place(self, line: int, column: int) -> int:
        """The offset in the query of a place in the text; both count from 1."""
        lines = self.text.split("\n")[: line - 1]
        at = sum(len(it) + 1 for it in lines) + column - 1
        start = max((start for start in self._starts if start <= at), default=at)
        return self._starts.get(start, at) + at - start

    def column(self, name: str) -> str:
        """What Neo4j calls a column: by AS, else as it is written in the query."""
        for written in (name, f"`{name}"):  # the library leaves the first backtick out
            for start, original in reversed(self._starts.items()):
                end = self._ends.get(start + len(written))
                if end is not None and self.text.startswith(written, start):
                    return _unquoted(self._query[original:end])
        return named(name)


def rewritten(query: str, hops: int) -> Rewritten:
    """The query as the library takes it. Raises CypherRefused for what must not or cannot run.

    ``hops``: what unbounded paths are bounded by.
    """
    check_first_word(query)
    tokens = _tokens(query)
    for token, why in _wrong(tokens):
        raise CypherRefused(f"{where(query, token.at)}: {why}")
    texts = [_text(tokens, at) for at in range(len(tokens))]
    for at in range(len(tokens) - 1):
        _write_call(tokens, texts, at)
        if tokens[at].text == "[" and tokens[at - 1].text == "-":
            _write_hops(tokens, texts, at + 1, max(hops, 1))
    return Rewritten(query, tokens, texts)


def _text(tokens: Sequence[_Token], at: int) -> str:
    """A token as the library takes it, if it is a property's name or may become one."""
    token, before, after = tokens[at], tokens[at - 1].text, tokens[(at + 1) % len(tokens)].text
    if before == "[" and after == "]" and _is_subscripted(tokens[at - 2]):
        return _subscript(token)
    is_property = before == "." and after != "("
    around = tokens[token.inside[-1]].text if token.inside else ""
    is_key = around == "{" and before in {"{", ","} and after == ":"
    is_kept = token.name in _SYNTHETIC and (is_property or is_key)
    return kept(token.name) if is_kept else token.text


def _is_subscripted(token: _Token) -> bool:
    is_name = token.kind in {"word", "name", "parameter"} and token.word not in _BEFORE_A_LIST
    return is_name or token.text in {")", "]"}


def _subscript(token: _Token) -> str:
    if token.kind == "string":
        return token.text[0] + kept(token.text[1:-1]) + token.text[0]
    if token.name or token.kind == "parameter":
        name = token.text
        return f"CASE WHEN {name} IN {sorted(_SYNTHETIC)} THEN '{_PREFIX}' + {name} ELSE {name} END"
    return token.text


def _write_call(tokens: Sequence[_Token], texts: list[str], at: int) -> None:
    """Write what stands for a function that the library has not, or that tells too much."""
    function, opening = tokens[at].word, tokens[at + 1]
    if opening.text != "(" or tokens[at - 1].text in {".", ":"}:
        return
    depth = len(opening.inside)
    end = next(i for i in range(at + 2, len(tokens)) if len(tokens[i].inside) <= depth)
    first = [token.text for token in tokens[at + 2 : end]][:2]
    if function == "KEYS":
        texts[at], texts[end] = _KEYS, _KEYS_END
    elif function in _FUNCTIONS:
        texts[at] = _FUNCTIONS[function]
    elif function == "TIMESTAMP" and not first:
        texts[at], texts[end] = "toInteger", f"{now_ms()})"
    elif function == "DATETIME" and first == ["{", "epochMillis"]:
        texts[at], texts[at + 2], texts[at + 3] = "(datetime", _SINCE_1970, "milliseconds"
        texts[end] = "))"


def _write_hops(tokens: Sequence[_Token], texts: list[str], at: int, hops: int) -> None:
    """Bound the relationship whose brackets begin before ``at``, if it is of many hops."""
    while tokens[at].kind in {"word", "name", "parameter"} or tokens[at].text in {":", "|", "&"}:
        at += 1
    if tokens[at].text != "*":
        return
    after = tokens[at + 1]
    if after.kind != "number":
        texts[at] = "*1" if after.text == ".." else f"*1..{hops}"
    dots = at + (2 if after.kind == "number" else 1)
    if tokens[dots].text == ".." and tokens[dots + 1].kind != "number":
        texts[dots] = f"..{hops}"
