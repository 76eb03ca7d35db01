"""Requirements: which parts of which resources a step rests on.

A requirement names a resource by URI (``acl:prod/deploy``) and, with a selector, a part of it.
Both may hold placeholders: ``{name}`` is an argument of the tool, ``{task.name}`` an input of
the task. Who may do something must come from the caller, so write ``{task.user}`` there, never
an argument that the model chose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from ..graphstore.canonical import Json, canonical
from ..graphstore.document import check_selector
from ..graphstore.errors import ConfigurationError, SelectorError
from ..graphstore.model import FacetRef

__all__ = [
    "Acl",
    "BusinessRule",
    "DeploymentTarget",
    "Resource",
    "Schema",
    "check_uri",
]

_PLACEHOLDER = re.compile(r"\{((?:task\.)?[A-Za-z_]\w*)\}")
_WORD = re.compile(r"\w+")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:\S.*", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_TASK = "task."
_LONGEST = 4_000  # bytes of a URI: Neo4j's indexes take some 8,000, namespace included


def check_uri(uri: str) -> str:
    """``uri`` itself. Raises ConfigurationError unless it reads ``kind:name``, and every store
    can find it again."""
    if not _URI.fullmatch(str(uri)):
        raise ConfigurationError(
            f"{uri!r} does not name a resource; write kind:name in lower-case kind, for example"
            " 'acl:prod/deploy', 'schema:orders' or 'flag:checkout'"
        )
    try:
        size = len(uri.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{uri!r} names no resource: it has a half of a surrogate pair, which is no text"
        ) from None
    if size > _LONGEST:
        raise ConfigurationError(
            f"{uri[:60]!r}... has {size:,} bytes, and the name of a resource has at most"
            f" {_LONGEST:,}; name what it is about, or give a digest of it"
        )
    return uri


@dataclass(frozen=True)
class Resource:
    """A requirement on a resource, named by its whole URI: ``Resource("flag:checkout", "$.on")``.

    ``{name}`` in either text is an argument of the tool, ``{task.name}`` an input of the task.

    Attributes:
        name: The URI, ``kind:name``; of a subclass, which says the kind, the name alone.
        selector: A JSONPath (RFC 9535) that narrows the requirement to a part of the document;
            None: the whole of it.

    Raises:
        ConfigurationError: The name makes no URI, the selector is no JSONPath, or braces stand
            around what is no name.
    """

    name: str
    selector: str | None = None

    kind: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        check_uri(self.uri)
        if set("{}") & set(_PLACEHOLDER.sub("", self.uri)):
            raise ConfigurationError(
                f"the braces in {self._named} name nothing; write {{argument}} or {{task.input}}"
            )
        if self.selector is not None:
            self._check_unfilled(self.selector)

    @staticmethod
    def _check_unfilled(selector: str) -> None:
        """Placeholders stand where literals will: a name or a number shows whether it parses."""
        try:
            check_selector(_PLACEHOLDER.sub("x", selector))
        except SelectorError:
            if (numbered := _PLACEHOLDER.sub("1", selector)) == selector:
                raise
            check_selector(numbered)

    @property
    def uri(self) -> str:
        """The resource's URI; its placeholders are not filled."""
        return self.name if self.kind is None else f"{self.kind}:{self.name}"

    @cached_property
    def placeholders(self) -> frozenset[str]:
        """The names of all placeholders."""
        return frozenset(_PLACEHOLDER.findall(f"{self.uri}{self.selector or ''}"))

    @cached_property
    def arguments(self) -> frozenset[str]:
        """The placeholders that name arguments of the tool."""
        return frozenset(name for name in self.placeholders if not name.startswith(_TASK))

    def answers(self, inputs: Json) -> bool:
        """Whether it can be resolved by the task's inputs alone."""
        named = {name.removeprefix(_TASK) for name in self.placeholders}
        known = set(inputs) if isinstance(inputs, Mapping) else set()
        return not self.arguments and named <= known

    def check(self, arguments: Collection[str], owner: str) -> None:
        """Raises ConfigurationError if a placeholder names none of ``arguments``."""
        if unknown := sorted(self.arguments - set(arguments)):
            known = ", ".join(sorted(arguments)) or "none"
            raise ConfigurationError(
                f"{self._named} of {owner} has the placeholder {{{unknown[0]}}}, which is no"
                f" argument of it (arguments: {known}); for an input of the task write"
                f" {{task.{unknown[0]}}}"
            )

    def resolve(self, inputs: Json, arguments: Mapping[str, Json] | None = None) -> FacetRef:
        """The facet that is meant when the task has these inputs, the tool these arguments.

        Raises ConfigurationError if an input of that name is missing, or a value makes no name of
        a resource or no selector.
        """
        if not self.placeholders:
            return FacetRef(self.uri, self.selector)

        def value(name: str) -> str:
            return self._value(name, inputs, arguments or {})

        uri = check_uri(_PLACEHOLDER.sub(lambda match: value(match[1]), self.uri))
        return FacetRef(uri, None if self.selector is None else self._filled(self.selector, value))

    def quoted(self, inputs: Json, arguments: Mapping[str, Json]) -> str:
        """The URI with each value in quotes, so that no other values make the same text.

        Raises as ``resolve``.
        """
        self.resolve(inputs, arguments)
        return _PLACEHOLDER.sub(
            lambda match: json.dumps(self._value(match[1], inputs, arguments)), self.uri
        )

    def _value(self, name: str, inputs: Json, arguments: Mapping[str, Json]) -> str:
        if not name.startswith(_TASK):
            return _word(arguments[name])
        if isinstance(inputs, Mapping) and name.removeprefix(_TASK) in inputs:
            return _word(inputs[name.removeprefix(_TASK)])
        raise ConfigurationError(
            f"{self._named} needs the task's input {name.removeprefix(_TASK)!r}, and"
            f" the task has {_inputs_named(inputs)}"
        )

    def _filled(self, selector: str, value: Callable[[str], str]) -> str:
        """The selector with its values. Raises ConfigurationError if they make it none."""
        filled = _PLACEHOLDER.sub(lambda at: self._literal(at, value(at[1])), selector)
        if filled != selector:
            check_selector(filled)
        return filled

    def _literal(self, at: re.Match[str], text: str) -> str:
        """A value as a selector takes it; it cannot break out of its literal."""
        if quote := _quote_around(at.string[: at.start()]):
            escaped = json.dumps(text)[1:-1].replace('\\"', '"')
            return escaped.replace(quote, f"\\{quote}")
        if _WORD.fullmatch(text) or _NUMBER.fullmatch(text):
            return text
        raise ConfigurationError(
            f"{text!r} cannot stand for {at[0]} in the selector {self.selector!r}; write the"
            f" placeholder in quotes: ['{at[0]}']"
        )

    def declaration(self) -> list[str | None]:
        """What enters a code key: the requirement as declared."""
        return [self.uri, self.selector]

    @property
    def _named(self) -> str:
        """What an error calls it."""
        return f"the requirement {self}"

    def __str__(self) -> str:
        return self.uri if self.selector is None else f"{self.uri} {self.selector}"


class Schema(Resource):
    """A requirement on a schema, ``schema:<name>``: ``Schema("orders", "$.columns.id")``."""

    kind = "schema"


class Acl(Resource):
    """A requirement on an access rule, ``acl:<name>``: ``Acl("prod/deploy")``."""

    kind = "acl"


class DeploymentTarget(Resource):
    """A requirement on a target, ``target:<name>``: ``DeploymentTarget("{target}")``."""

    kind = "target"


class BusinessRule(Resource):
    """A requirement on a business rule, ``rule:<name>``: ``BusinessRule("change-freeze")``."""

    kind = "rule"


def _quote_around(before: str) -> str:
    """The quote of the literal that is open at the end of ``before``; none if none is."""
    quote = ""
    characters = iter(before)
    for character in characters:
        if quote and character == "\\":
            next(characters, None)
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
    return quote


def _word(value: Json) -> str:
    """A value as it stands in a URI: text as it is, everything else in canonical form."""
    return value if isinstance(value, str) else canonical(value).decode()


def _inputs_named(inputs: Json) -> str:
    if not isinstance(inputs, Mapping):
        return "no named inputs (it is not a dict)"
    return f"the inputs {', '.join(map(str, inputs)) or 'none'}"
