"""What both stores do alike with a Cypher query: what the graph shows, what is refused, and the
parameters.

``LABELS`` and ``RELATIONSHIPS`` are the contract: the labels, types and properties that a query
finds on every store. Nodes given whole are ``{"labels": [...], "properties": {...}}``,
relationships ``{"type": ..., "properties": {...}}``, paths ``{"nodes": [...],
"relationships": [...]}``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import CypherRefused, CypherTimeout
from .records import FIELDS

__all__ = [
    "LABELS",
    "RELATIONSHIPS",
    "WOULD_WRITE",
    "Progress",
    "Table",
    "bound",
    "check_first_word",
    "node",
    "path",
    "relationship",
    "timed_out",
    "where",
]

#: Told how much has been done, of how much.
Progress = Callable[[int, int], None]

_DECISION = ("head", "extends", "asked_at", "seen", *FIELDS["usage"], "cost")
_ACTION = ("effect", "arguments", "decision", "call")
_STEP = tuple(name for name in FIELDS["step"] if name not in {*_DECISION, *_ACTION})

#: The properties of the nodes with each label. A property that is null is not there.
LABELS: Mapping[str, tuple[str, ...]] = {
    "Task": ("namespace", "key", "agent", "inputs", "context"),
    "Execution": ("namespace", "task", *FIELDS["execution"], "decided_at", "equal_to"),
    "Step": ("namespace", "id", "execution", *_STEP, "state", "invalidated_by"),
    "Decision": _DECISION,
    "Action": _ACTION,
    "Value": ("namespace", "digest", "size", "text"),
    "SideEffect": ("namespace", "execution", *FIELDS["effect"]),
    "Approval": ("namespace", *FIELDS["approval"]),
    "Resource": ("namespace", "uri", "kind", "current", "state", "until", "since", "expired"),
    "Version": ("namespace", "resource", "n", "withdrawn", "document", "fingerprint", "at"),
    "Facet": ("namespace", "key", "resource", "selector"),
    "Precondition": ("namespace", *FIELDS["precondition"]),
    "ChangeEvent": ("namespace", *FIELDS["event"]),
    "DailyTotals": (
        "namespace", "day", "agent", "mode", "state", "miss", *FIELDS["tally"], "effects",
        "miss_asked", "miss_tokens",
    ),
}  # fmt: skip

#: From which label to which other each type of relationship leads, and its properties.
RELATIONSHIPS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "HAS_EXECUTION": ("Task", "Execution", ()),
    "HAS_STEP": ("Execution", "Step", ("position",)),
    "REPLAYED": ("Execution", "Execution", ()),
    "PERFORMED": ("Execution", "SideEffect", ()),
    "ALLOWED": ("Approval", "SideEffect", ()),
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


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to a Cypher query. Iterating gives each row as a dict by column.

    Attributes:
        columns: The columns' names, as the query returns them.
        rows: The rows, each with the JSON values of all columns in their order.
        truncated: There were more rows than the limit.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over rows, each as a dict by column."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


# What is refused --------------------------------------------------------------------------

#: What a query is told that could change something.
WOULD_WRITE = "the query would write, and Cypher only reads here"
_FIRST_WORDS = frozenset({"MATCH", "OPTIONAL", "UNWIND", "WITH", "CALL", "RETURN"})
_BEGINNING = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*(\S?\w*)", re.DOTALL)


def check_first_word(query: str) -> None:
    """Refuse what does not begin as a reading query does: administration, plans, writes. Whether
    the rest writes is for the store's own parser to say."""
    word, at = next((it[1], it.start(1)) for it in _BEGINNING.finditer(query))
    if not word:
        raise CypherRefused("the query is empty; give one, such as 'MATCH (n) RETURN count(n)'")
    if word.upper() not in _FIRST_WORDS:
        raise CypherRefused(
            f"{where(query, at)}: Cypher only reads here; a query begins with MATCH, OPTIONAL"
            f" MATCH, UNWIND, WITH, CALL or RETURN, and not with {word!r}"
        )


def where(query: str, at: int) -> str:
    """The place of an offset, as people count."""
    line = query.count("\n", 0, at) + 1
    return f"line {line}, column {at - query.rfind(chr(10), 0, at)}"


def timed_out(seconds: float) -> CypherTimeout:
    """The error of a query that took longer than it may."""
    return CypherTimeout(
        f"the query was stopped after {seconds:g} seconds; begin it at fewer nodes, bound its"
        " paths, or allow it more time"
    )


# Parameters -------------------------------------------------------------------------------


def bound(namespace: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with ``$namespace``. Raises CypherRefused for what is not JSON, and for a
    ``namespace`` that is another."""
    chosen = parameters.get("namespace", namespace)
    if chosen != namespace:
        raise CypherRefused(
            f"$namespace is {namespace!r} here, not {chosen!r}; call the parameter otherwise, or"
            " ask an engine of that namespace"
        )
    for name, value in parameters.items():
        if not _is_json(value):
            raise CypherRefused(
                f"the parameter {name} is no JSON value; give null, booleans, numbers (integers of"
                " at most 64 bits), strings, lists, and maps with strings as keys"
            )
    return {**parameters, "namespace": namespace}


def _is_json(value: Any) -> bool:
    """Whether every store takes this value and gives it back."""
    match value:
        case None | bool() | str():
            return True
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case list() | tuple():
            return all(map(_is_json, value))
        case dict():
            return all(isinstance(name, str) for name in value) and _is_json([*value.values()])
    return False
