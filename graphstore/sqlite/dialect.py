"""Between Neo4j's Cypher and that of the library which holds the view.

The library gives every node an identity, a title and a type that can be read as properties, and
takes `*` for at most ten hops. Here the graph's own properties of such names are kept under other
ones, a query is rewritten to ask for those, and what it gives is renamed back; so a name that a
node does not have is null, as it is on Neo4j. Hops are bounded by the number of relationships,
which no path can exceed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from itertools import pairwise
from typing import Any, NamedTuple

from ..cypher import Token, checked, node, path, relationship, where
from ..errors import CypherRefused
from .clock import now_ms

__all__ = ["Rewritten", "kept", "names_of", "plain", "renamed", "rewritten"]

#: What the library answers for a node that stores no property of this name.
_SYNTHETIC = frozenset({"id", "label", "name", "node_type", "title", "type"})
_PREFIX = "execgraph_"
_KEPT = re.compile(rf"\b{_PREFIX}(?=(?:{'|'.join(sorted(_SYNTHETIC))})\b)")
#: What the library adds to the map of a node's or relationship's properties.
_ADDED = ("id", "title", "type")
#: Procedures that give the same on Neo4j.
_PROCEDURES = frozenset({"db.labels", "db.relationshiptypes"})
#: Words after which `[` begins a list and no subscript.
_BEFORE_A_LIST = frozenset({
    "AND", "AS", "ASC", "BY", "CASE", "CONTAINS", "DESC", "DISTINCT", "ELSE", "IN", "LIMIT",
    "NOT", "OR", "RETURN", "SKIP", "THEN", "UNWIND", "WHEN", "WHERE", "WITH", "XOR",
})  # fmt: skip
#: Words after which `(` begins a pattern and no function's arguments.
_BEFORE_A_PATTERN = frozenset({"AND", "EXISTS", "MATCH", "NOT", "OR", "WHERE", "XOR"})
#: What a comment is made of, but the ends of its lines: places in a query stay what they are.
_COMMENTED = re.compile(r"\S")
_AFTER_COLUMNS = frozenset({"ORDER", "SKIP", "OFFSET", "LIMIT", "UNION"})


def kept(name: str) -> str:
    """The name under which the view keeps a property."""
    return _PREFIX + name if name in _SYNTHETIC else name


class Rewritten(NamedTuple):
    """A query for the library. ``columns``: what Neo4j would call them; None: as they come."""

    text: str
    columns: tuple[str, ...] | None
    offsets: tuple[tuple[int, int], ...]  # from here on in ``text``, there in the query

    def place(self, line: int, column: int) -> int:
        """The offset in the query of a place in ``text``; both count from 1."""
        lines = self.text.split("\n")
        at = sum(len(it) + 1 for it in lines[: line - 1]) + column - 1
        written, original = max(pair for pair in self.offsets if pair[0] <= max(at, 0))
        return original + at - written

    def readable(self, message: str) -> str:
        """A message of the library with the names of the query."""
        return _KEPT.sub("", message)


def rewritten(query: str, hops: int) -> Rewritten:
    """The query as the library takes it. Raises CypherRefused for what must not or cannot run.

    ``hops``: what unbounded paths are bounded by.
    """
    found = checked(query)
    _check_procedures(found)
    _check_format(found)
    _check_references(query, found)
    writer = _Writer(query, found, max(hops, 1))
    text, offsets = writer.write()
    return Rewritten(text, _columns(query, found), offsets)


def _check_procedures(found: Sequence[Token]) -> None:
    for index, token in enumerate(found[:-1]):
        if token.word != "CALL" or found[index + 1].text in {"{", "("}:
            continue
        name = ""
        for part in found[index + 1 :]:
            if part.kind not in {"word", "name"} and part.text != ".":
                break
            if name and not name.endswith(".") and part.text != ".":
                break
            name += part.name or part.text
        if name.lower() not in _PROCEDURES and _is_clause(found, index):
            raise CypherRefused(
                f"the procedure {name} is not to be had on SQLite, where queries run on a view of"
                " the graph; db.labels and db.relationshipTypes are"
            )


def _is_clause(found: Sequence[Token], index: int) -> bool:
    """Whether the word here is a clause, and no property or variable."""
    before = found[index - 1].text if index else ""
    return before not in {".", ":", "|"} and found[index + 1].kind in {"word", "name"}


def _check_format(found: Sequence[Token]) -> None:
    if len(found) > 1 and (found[-2].word, found[-1].word) == ("FORMAT", "CSV"):
        raise CypherRefused("FORMAT CSV is no Cypher; leave it out, and format the rows")


def _check_references(query: str, found: Sequence[Token]) -> None:
    """Refuse what the library takes for null: in the braces of a pattern, a property of a
    relationship, or of what the same clause binds."""
    relationships = {
        it.name for before, it in pairwise(found) if before.text == "[" and it.kind != "sign"
    }
    openings = _openings(found)
    for index, token in enumerate(found[:-1]):
        if found[index + 1].text != "." or token.kind not in {"word", "name"}:
            continue
        brace = next((at for at in openings[index] if _is_of_a_pattern(found, openings, at)), None)
        if brace is None or found[index - 1].text == ".":
            continue
        clause = next(at for at in range(brace, -1, -1) if _begins(found, openings, brace, at))
        known = {it.name for it in found[:clause]} - relationships
        if token.name not in known:
            raise CypherRefused(
                f"{where(query, token.at)}: on SQLite a pattern's braces hold no property of"
                f" {token.name}, which is a relationship or bound by the same clause; compare it in"
                " WHERE"
            )


def _is_of_a_pattern(found: Sequence[Token], openings: Sequence[Sequence[int]], at: int) -> bool:
    """Whether the bracket at ``at`` begins the properties of a node or relationship."""
    if found[at].text != "{" or not openings[at]:
        return False
    around = openings[at][0]
    if found[around].text == "[":
        return found[around - 1].text == "-"
    before = found[around - 1] if around else None
    is_call = before is not None and before.kind in {"word", "name"}
    return found[around].text == "(" and not (
        is_call and before is not None and before.word not in _BEFORE_A_PATTERN
    )


def _begins(found: Sequence[Token], openings: Sequence[Sequence[int]], brace: int, at: int) -> bool:
    """Whether the clause or the subquery around ``brace`` begins at ``at``."""
    is_subquery = at != brace and found[at].text == "{" and at in openings[brace]
    return at == 0 or found[at].word == "MATCH" or is_subquery


def _openings(found: Sequence[Token]) -> list[tuple[int, ...]]:
    """For each token the brackets that are open before it, innermost first."""
    open_brackets: list[int] = []
    every = []
    for index, token in enumerate(found):
        if token.text in {")", "]", "}"} and open_brackets:
            open_brackets.pop()
        every.append(tuple(reversed(open_brackets)))
        if token.text in {"(", "[", "{"}:
            open_brackets.append(index)
    return every


class _Writer:
    """Writes a query anew, token by token; what lies between them stays."""

    def __init__(self, query: str, found: Sequence[Token], hops: int) -> None:
        self._query = query
        self._found = found
        self._hops = hops
        self._inside = _brackets(found)
        self._changed: dict[int, str] = {}
        for index in range(len(found)):
            self._change(index)

    def _change(self, index: int) -> None:
        """Note what stands for a function that the library has not, or that tells too much."""
        if self._calls(index, "keys"):
            closing = self._closing(index + 1)
            self._changed |= {index: _KEYS_BEGIN + self._text(index), closing: _KEYS_END}
        elif self._calls(index, "timestamp") and self._text(index + 2) == ")":
            self._changed |= {index: "toInteger", index + 2: f"{now_ms()})"}
        elif self._calls(index, "datetime") and self._text(index + 3) == "epochMillis":
            closing = self._closing(index + 1)
            self._changed |= {index: "(datetime", index + 2: _SINCE_1970, closing: "))"}
            self._changed[index + 3] = "milliseconds"
        elif (name := _FUNCTIONS.get(self._text(index).lower())) and self._text(index + 1) == "(":
            self._changed[index] = name

    def write(self) -> tuple[str, tuple[tuple[int, int], ...]]:
        parts: list[str] = []
        offsets = [(0, 0)]
        written = done = 0
        for index, token in enumerate(self._found):
            text = _COMMENTED.sub(" ", self._query[done : token.at]) + self._written(index)
            parts.append(text)
            done = token.at + len(token.text)
            written += len(text)
            offsets.append((written, done))
        return "".join(parts), tuple(offsets)

    def _written(self, index: int) -> str:
        token = self._found[index]
        if index in self._changed:
            return self._changed[index]
        if token.kind != "sign" and self._is_subscript(index):
            return self._subscript(index)
        if token.kind in {"word", "name"}:
            return self._name(index)
        if token.text == "*" and self._is_hops(index):
            return self._bounded(index)
        return f"..{self._hops}" if self._opens_hops(index) else token.text

    def _text(self, index: int) -> str:
        return self._found[index].text if 0 <= index < len(self._found) else ""

    def _name(self, index: int) -> str:
        token = self._found[index]
        after_dot = self._text(index - 1) == "." and self._text(index + 1) != "("
        is_key = (
            self._text(index + 1) == ":"
            and self._text(index - 1) in {"{", ","}
            and self._inside[index] == "{"
        )
        return (
            kept(token.name) if (after_dot or is_key) and token.name in _SYNTHETIC else token.text
        )

    def _calls(self, index: int, function: str) -> bool:
        return (
            self._found[index].word == function.upper()
            and self._text(index + 1) == "("
            and self._text(index - 1) not in {".", ":"}
        )

    def _closing(self, opening: int) -> int:
        depth = 0
        for index in range(opening, len(self._found)):
            depth += {"(": 1, ")": -1}.get(self._text(index), 0)
            if depth == 0:
                return index
        return len(self._found) - 1

    def _is_subscript(self, index: int) -> bool:
        """Whether this alone stands in the brackets after a value."""
        if self._text(index - 1) != "[" or self._text(index + 1) != "]" or index < 2:
            return False
        before = self._found[index - 2]
        return before.text in {")", "]"} or (
            before.kind in {"word", "name", "parameter"} and before.word not in _BEFORE_A_LIST
        )

    def _subscript(self, index: int) -> str:
        """What may be a property's name."""
        token, text = self._found[index], self._text(index)
        if token.kind == "string":
            return text[0] + kept(text[1:-1]) + text[0]
        if token.kind == "number":
            return text
        return f"CASE WHEN {text} IN {_NAMES} THEN '{_PREFIX}' + {text} ELSE {text} END"

    def _is_hops(self, index: int) -> bool:
        """Whether `*` is the length of a relationship: inside the brackets of `-[...]-`."""
        opening = index - 1
        while opening >= 0 and self._text(opening) != "[":
            if self._found[opening].kind not in {"word", "name", "parameter"} and self._text(
                opening
            ) not in {":", "|", "&", "!", "$"}:
                return False
            opening -= 1
        return opening > 0 and self._text(opening - 1) == "-"

    def _bounded(self, index: int) -> str:
        following = self._found[index + 1] if index + 1 < len(self._found) else None
        if following is None or (following.kind != "number" and following.text != ".."):
            return f"*1..{self._hops}"
        return "*1" if following.text == ".." else "*"

    def _opens_hops(self, index: int) -> bool:
        """Whether this is a `..` that belongs to `*` and names no end."""
        if self._text(index) != "..":
            return False
        if index + 1 < len(self._found) and self._found[index + 1].kind == "number":
            return False
        star = index - 1 if self._text(index - 1) == "*" else index - 2
        return self._text(star) == "*" and self._is_hops(star)


_FUNCTIONS = {"percentilecont": "percentile_cont", "percentiledisc": "percentile_disc"}
_SINCE_1970 = "'1970-01-01T00:00:00Z') + duration({"
_NAMES = "[" + ", ".join(f"'{name}'" for name in sorted(_SYNTHETIC)) + "]"
_ADDED_NAMES = "[" + ", ".join(f"'{name}'" for name in _ADDED) + "]"
_KEYS_BEGIN = "[execgraph_key IN "
_KEYS_END = (
    f") WHERE NOT execgraph_key IN {_ADDED_NAMES} |"
    f" CASE WHEN execgraph_key STARTS WITH '{_PREFIX}'"
    f" THEN substring(execgraph_key, {len(_PREFIX)}) ELSE execgraph_key END]"
)


def _brackets(found: Sequence[Token]) -> list[str]:
    """For each token the innermost bracket that is open before it."""
    return [found[opened[0]].text if opened else "" for opened in _openings(found)]


# Columns ----------------------------------------------------------------------------------


def _columns(query: str, found: Sequence[Token]) -> tuple[str, ...] | None:
    """What the columns are called: by AS, else as they are written."""
    inside = _brackets(found)
    begin = next((i for i, it in enumerate(found) if it.word == "RETURN" and inside[i] == ""), None)
    if begin is None:
        return None
    if begin + 1 < len(found) and found[begin + 1].word == "DISTINCT":
        begin += 1
    items: list[list[Token]] = [[]]
    for index in range(begin + 1, len(found)):
        token, top = found[index], inside[index] == ""
        if top and (token.word in _AFTER_COLUMNS or token.text == ";"):
            break
        if top and token.text == "," and token.kind == "sign":
            items.append([])
        else:
            items[-1].append(token)
    if any(not item or (len(item) == 1 and item[0].text == "*") for item in items):
        return None
    return tuple(_column(query, item) for item in items)


def _column(query: str, item: Sequence[Token]) -> str:
    if len(item) > 2 and item[-2].word == "AS":
        return item[-1].name
    if len(item) == 1 and item[0].kind == "name":
        return item[0].name
    return query[item[0].at : item[-1].at + len(item[-1].text)]


# Values -----------------------------------------------------------------------------------


def renamed(value: Any) -> Any:
    """A parameter, with the names that the view keeps otherwise."""
    if isinstance(value, Mapping):
        return {kept(key): renamed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [renamed(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """What the library gives as a JSON value, with the names of the graph."""
    if isinstance(value, dict):
        return _plain_map(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _plain_map(value: dict[str, Any]) -> Any:
    names = set(value)
    if names == {"id", "labels", "properties"}:
        return node(value["labels"], _unkept(value["properties"]))
    if names == {"id", "start", "end", "type", "properties"}:
        return relationship(value["type"], _unkept(value["properties"]))
    if names == {"nodes", "relationships"} and _is_path(value):
        return path(plain(value["nodes"]), plain(value["relationships"]))
    return _unkept(value)


def _is_path(value: Mapping[str, Any]) -> bool:
    return all(isinstance(part, list) for part in value.values())


def _unkept(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(_PREFIX) if name.removeprefix(_PREFIX) in _SYNTHETIC else name: plain(it)
        for name, it in value.items()
        if name not in _ADDED
    }


def names_of(columns: Sequence[str]) -> Iterator[str]:
    """The library's names of columns, with the names of the graph."""
    for column in columns:
        yield _KEPT.sub("", column)
