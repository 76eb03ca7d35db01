"""What both stores do alike with a Cypher query: its tokens, its parameters, what is refused,
and what the graph shows.

``LABELS`` and ``RELATIONSHIPS`` are the contract: the labels, types and properties that a query
finds on every store. Nodes given whole are ``{"labels": [...], "properties": {...}}``,
relationships ``{"type": ..., "properties": {...}}``, paths ``{"nodes": [...],
"relationships": [...]}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .errors import CypherRefused

__all__ = [
    "LABELS",
    "RELATIONSHIPS",
    "Token",
    "bound",
    "checked",
    "node",
    "path",
    "relationship",
    "tokens",
    "where",
]

_USAGE = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cache_creation_1h_input_tokens",
    "web_search_requests",
)

#: The properties of the nodes with each label. A property that is null is not there.
LABELS: Mapping[str, tuple[str, ...]] = {
    "Task": ("namespace", "key", "agent", "inputs", "context"),
    "Execution": (
        "namespace", "id", "task", "agent", "mode", "state", "started_at", "duration_ms", "steps",
        "published_steps", "manifest", "signature", "replayed", "output", *_USAGE, "saved_tokens",
        "cost", "labels", "reason", "miss", "report", "asked", "served", "saved_cost", "miss_asked",
        "miss_tokens", "decided_at", "equal_to",
    ),
    "Step": (
        "namespace", "id", "execution", "position", "kind", "name", "key", "occurrence",
        "code_key", "output", "output_key", "error", "duration_ms", "state", "invalidated_by",
        "shared", "messages",
    ),
    "Decision": ("head", "extends", "asked_at", "seen", *_USAGE, "cost"),
    "Action": ("effect", "arguments", "decision", "call"),
    "Value": ("namespace", "digest", "size", "text"),
    "SideEffect": (
        "namespace", "id", "execution", "tool", "target", "idempotency_key", "state", "begun_at",
        "step",
    ),
    "Resource": ("namespace", "uri", "kind", "current", "state", "until", "since", "expired"),
    "Version": ("namespace", "resource", "n", "withdrawn", "document", "fingerprint", "at"),
    "Facet": ("namespace", "key", "resource", "selector"),
    "Precondition": ("namespace", "id", "facet", "resource", "selector", "fingerprint"),
    "ChangeEvent": (
        "namespace", "id", "resource", "kind", "from_version", "to_version", "source", "at",
    ),
    "DailyTotals": (
        "namespace", "day", "agent", "mode", "state", "miss", "executions", *_USAGE,
        "saved_tokens", "cost", "effects", "unpriced", "asked", "served", "saved_cost",
        "saved_unpriced", "miss_asked", "miss_tokens",
    ),
}  # fmt: skip

#: From which label to which other each type of relationship leads, and its properties.
RELATIONSHIPS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "HAS_EXECUTION": ("Task", "Execution", ()),
    "HAS_STEP": ("Execution", "Step", ("position",)),
    "REPLAYED": ("Execution", "Execution", ()),
    "PERFORMED": ("Execution", "SideEffect", ()),
    "CAUSED": ("Step", "SideEffect", ()),
    "FEEDS": ("Step", "Step", ("fingerprint",)),
    "GUARDS": ("Precondition", "Step", ()),
    "HOLDS": ("Version", "Precondition", ()),
    "HAS_VALUE": ("Facet", "Precondition", ()),
    "HAS_VERSION": ("Resource", "Version", ()),
    "HAS_FACET": ("Resource", "Facet", ()),
    "CHANGED": ("ChangeEvent", "Facet", ("before", "after")),
    "FROM": ("ChangeEvent", "Version", ()),
    "TO": ("ChangeEvent", "Version", ()),
}


# What is given whole ----------------------------------------------------------------------


def node(labels: Sequence[str], properties: Mapping[str, Any]) -> dict[str, Any]:
    """A node as a row shows it: its labels in order, and the properties of the contract."""
    known = {name for label in labels for name in LABELS.get(label, ())}
    shown = {name: properties[name] for name in sorted(properties) if name in known}
    return {"labels": sorted(labels), "properties": shown if known else dict(properties)}


def relationship(kind: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """A relationship as a row shows it."""
    return {"type": kind, "properties": {name: properties[name] for name in sorted(properties)}}


def path(nodes: Sequence[Any], relationships: Sequence[Any]) -> dict[str, Any]:
    """A path as a row shows it, from its nodes and relationships as rows show them."""
    return {"nodes": list(nodes), "relationships": list(relationships)}


# Tokens -----------------------------------------------------------------------------------


class Token(NamedTuple):
    """A piece of a query. ``kind``: word, name (in backticks), string, number, parameter or
    sign; spaces and comments are none. ``at``: where it starts."""

    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """In upper case, if it may be a keyword; else empty."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """What it names, if it names anything: without backticks or dollar; else empty."""
        text = self.text.removeprefix("$")
        if self.kind in {"name", "parameter"} and text.startswith("`"):
            return text[1:-1].replace("``", "`")
        return text if self.kind in {"word", "name", "parameter"} else ""


_TOKEN = re.compile(
    r"""
      (?P<space>\s+|//[^\n]*|/\*.*?\*/)
    | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<name>`(?:[^`]|``)*`)
    | (?P<parameter>\$(?:\w+|`(?:[^`]|``)*`))
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<word>[^\W\d]\w*)
    | (?P<sign>\.\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(query: str) -> list[Token]:
    """The query's tokens. Raises CypherRefused for a string, name or comment without its end."""
    found = list(_tokens(query))
    for before, token in zip([None, *found], found, strict=False):
        opened = before is not None and before.text + token.text == "/*"
        if token.kind == "sign" and (token.text in "'\"`" or (opened and _next_to(before, token))):
            at = token.at - 1 if opened else token.at
            raise CypherRefused(
                f"{where(query, at)}: what begins here has no end; close the string, the name or"
                " the comment"
            )
    return found


def _tokens(query: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(query):
        if match.lastgroup is not None and match.lastgroup != "space":
            yield Token(match.lastgroup, match.group(), match.start())


def _next_to(before: Token | None, token: Token) -> bool:
    return before is not None and before.at + len(before.text) == token.at


def where(query: str, at: int) -> str:
    """The place of an offset, as people count."""
    line = query.count("\n", 0, at) + 1
    return f"line {line}, column {at - query.rfind(chr(10), 0, at)}"


# What is refused --------------------------------------------------------------------------

#: First words of what is no query of the graph.
_NO_QUERY = {
    "ALTER", "CREATE", "CYPHER", "DEALLOCATE", "DENY", "DROP", "DRYRUN", "ENABLE", "EXPLAIN", "FOR",
    "GRANT", "PROFILE", "REALLOCATE", "RENAME", "REVOKE", "SHOW", "START", "STOP", "TERMINATE",
    "USE",
}  # fmt: skip


def checked(query: str) -> list[Token]:
    """The query's tokens, if it may be a reading query of this graph; whether it writes is for
    the store's own parser to say. Raises CypherRefused."""
    found = tokens(query)
    if not [token for token in found if token.text != ";"]:
        raise CypherRefused("the query is empty; give one, such as 'MATCH (n) RETURN count(n)'")
    _one_statement(query, found)
    words = [token.word for token in found]
    if words[0] in _NO_QUERY:
        raise CypherRefused(
            f"{where(query, found[0].at)}: {words[0]} does not ask the graph for anything; a"
            " query begins with MATCH, OPTIONAL MATCH, UNWIND, WITH, CALL or RETURN"
        )
    for token, following in zip(found, words[1:], strict=False):
        if token.word == "LOAD" and following == "CSV":
            raise CypherRefused(
                f"{where(query, token.at)}: LOAD CSV reads files and addresses, not the graph;"
                " pass what it would load as a parameter"
            )
    return found


def _one_statement(query: str, found: Sequence[Token]) -> None:
    for token, after in pairwise(found):
        if token.text == ";" and after.text != ";":
            raise CypherRefused(
                f"{where(query, after.at)}: a second statement begins here; ask one at a time"
            )


# Parameters -------------------------------------------------------------------------------


def bound(namespace: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with ``$namespace``. Raises CypherRefused for what is not JSON, and for a
    ``namespace`` that is another."""
    given = parameters.get("namespace", namespace)
    if given != namespace:
        raise CypherRefused(
            f"$namespace is {namespace!r} here, not {given!r}; call the parameter otherwise, or"
            " ask an engine of that namespace"
        )
    for name, value in parameters.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise CypherRefused(
                f"the parameter {name} is no JSON value; give null, booleans, numbers, strings,"
                " lists, and maps with strings as keys"
            ) from None
        _within_64_bits(name, value)
    return {**parameters, "namespace": namespace}


def _within_64_bits(name: str, value: Any) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise CypherRefused(f"the parameter {name} holds {value}, which takes more than 64 bits")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise CypherRefused(f"the parameter {name} has a map with a key that is no string")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _within_64_bits(name, item)
