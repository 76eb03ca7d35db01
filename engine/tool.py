"""Tools: typed functions with an effect class and explicit preconditions."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from ..graphstore.canonical import Json, decode, encode, fingerprint
from ..graphstore.errors import NotJson
from ..graphstore.model import Effect, FacetRef
from ..invalidation.resources import Resource
from .errors import ArgumentsInvalid, ConfigurationError, ToolError
from .source import Source

__all__ = ["IdempotencyKey", "Tool"]


class IdempotencyKey:
    """Marks a parameter that the engine fills, hidden from the model.

    ``key: Annotated[str, IdempotencyKey]``: the same for the same step of the same run, and
    different for every other, so that the other side can drop a request it has seen.
    """


class Tool:
    """A function an agent may call. Declare it with ``engine.tool``; call it as the function.

    Raises ToolError when the function cannot serve as a tool, naming what is missing.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        effect: Effect | str | None = None,
        requires: Sequence[Resource] | None = None,
        name: str | None = None,
        version: str | None = None,
        uses: Iterable[Callable[..., Any]] = (),
    ) -> None:
        self.function = function
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        self.effect = self._effect(effect)
        self.requires = self._requires(requires)
        self.description = inspect.getdoc(function) or ""
        if not self.description:
            raise ToolError(
                f"the tool {self.name} has no docstring; the model chooses tools by what their"
                " docstrings say"
            )
        self._is_async = inspect.iscoroutinefunction(function)
        self._hidden, self._arguments, self._output = self._types(function)
        self._defaults: dict[str, Json] = self._default_arguments(function)
        parameters = self.parameters
        for requirement in self.requires:
            requirement.check(parameters, f"the tool {self.name}")
        self._source = Source(self.name, function, uses=uses, version=version)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself; nothing is recorded."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name} ({self.effect})>"

    # What it is ---------------------------------------------------------------------------

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names the model may give."""
        return tuple(self.schema["properties"])

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The parameters as JSON Schema, as a model is told them."""
        try:
            schema = self._arguments.json_schema()
        except PydanticUserError as error:
            raise ToolError(
                f"a parameter of the tool {self.name} cannot be told to a model as JSON Schema:"
                f" {str(error).splitlines()[0]}"
            ) from None
        schema.pop("title", None)
        schema.setdefault("properties", {})
        for name, parameter in schema["properties"].items():
            parameter.pop("title", None)
            if name in self._defaults and _is_strict(self._defaults[name]):
                parameter["default"] = self._defaults[name]
        return schema

    @property
    def code_key(self) -> str:
        """The version of everything that makes this tool's steps what they are: of its body and
        of its terms (effect and requirements), joined by a dot."""
        return f"{self._source.key(self._declared)}.{self._terms}"

    def same_terms(self, code_key: str) -> bool:
        """Whether the tool that had this code key had today's effect and requirements."""
        return code_key.rpartition(".")[2] == self._terms

    @cached_property
    def _declared(self) -> Json:
        """What its body is known by beside its source."""
        return ["tool", self.name, self.schema]

    @cached_property
    def _terms(self) -> str:
        requires = [requirement.declaration() for requirement in self.requires]
        return fingerprint([str(self.effect), requires])

    @property
    def is_write(self) -> bool:
        return self.effect is Effect.WRITE

    @property
    def wants_key(self) -> bool:
        """Whether a parameter of it takes the idempotency key."""
        return bool(self._hidden)

    # What it does -------------------------------------------------------------------------

    def parse(self, arguments: Mapping[str, Any] | bytes) -> dict[str, Any]:
        """Arguments as the function takes them, from JSON text or values.

        Raises ArgumentsInvalid, which says what is wrong with which argument.
        """
        try:
            if not isinstance(arguments, bytes):
                return self._arguments.validate_python(arguments)
            return self._read_arguments(arguments)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False)
            )
            raise ArgumentsInvalid(f"{self.name} does not take these arguments: {wrong}") from None

    def _read_arguments(self, arguments: bytes) -> dict[str, Any]:
        try:
            return self._arguments.validate_json(arguments)
        except ValidationError as error:
            if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
                raise
            # pydantic's reader refuses lone surrogates, which JSON can name and Python can hold.
            return self._arguments.validate_python(decode(arguments))

    def arguments_of(self, parsed: Mapping[str, Any]) -> Json:
        """Parsed arguments as JSON again. Raises NotJson."""
        return _dumped(self._arguments, parsed, f"an argument of {self.name}")

    def facets(self, arguments: Mapping[str, Json], inputs: Json) -> tuple[FacetRef, ...]:
        """What this tool requires when called with these arguments, defaults included.

        Raises ArgumentsInvalid if the arguments name nothing that could be required.
        """
        given = {**self._defaults, **arguments}
        try:
            return tuple(dict.fromkeys(item.resolve(inputs, given) for item in self.requires))
        except KeyError as missing:
            raise ArgumentsInvalid(f"{self.name} needs the argument {missing}") from None
        except (ConfigurationError, NotJson) as error:
            raise ArgumentsInvalid(
                f"{self.name} cannot be called with these arguments: {error}"
            ) from None

    async def run(self, parsed: Mapping[str, Any], idempotency_key: str) -> Any:
        """Call the function; a synchronous one in a thread, so that nobody waits for it."""
        if self._is_async and not self._hidden:
            return await self.function(**parsed)
        hidden = dict.fromkeys(self._hidden, idempotency_key)
        if self._is_async:
            return await self.function(**parsed, **hidden)
        return await asyncio.to_thread(_called, self.function, {**parsed, **hidden})

    def dump(self, output: Any) -> bytes:
        """An output as exact JSON text. Raises NotJson."""
        # Its writer refuses lone surrogates too, and writes a model's NaN as null; what is no JSON
        # at all is told by ours.
        with suppress(ValueError):
            if b"null" not in (written := self._output.dump_json(output, warnings=False)):
                return written
        return encode(_dumped(self._output, output, f"the output of {self.name}"))

    def load(self, output: bytes) -> Any:
        """A recorded output as the function had returned it; as plain JSON if it had returned
        something else than it says."""
        value = decode(output)
        try:
            return self._output.validate_python(value)
        except ValidationError:
            return value

    # How it is read -----------------------------------------------------------------------

    def _effect(self, effect: Effect | str | None) -> Effect:
        try:
            return Effect(effect) if effect is not None else Effect.WRITE
        except ValueError:
            known = ", ".join(repr(str(item)) for item in Effect)
            raise ToolError(
                f"the tool {self.name} declares the effect {effect!r}; use one of {known}"
            ) from None

    def _requires(self, requires: Sequence[Resource] | None) -> tuple[Resource, ...]:
        if requires is None and self.effect is Effect.WRITE:
            raise ToolError(
                f"the tool {self.name} writes (an undeclared effect is a write) and does not say"
                " what it rests on: state requires=[...], an empty list if it rests on nothing,"
                " or another effect"
            )
        return checked_requirements(requires or (), f"the tool {self.name}")

    def _types(
        self, function: Callable[..., Any]
    ) -> tuple[tuple[str, ...], TypeAdapter[dict[str, Any]], TypeAdapter[Any]]:
        if not inspect.isroutine(function):
            raise ToolError(f"{self.name} is no function; declare a function or a method as a tool")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ToolError(
                f"the tool {self.name} yields, and an output is recorded as a whole; return a list"
            )
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError as error:
            raise ToolError(
                f"an annotation of the tool {self.name} cannot be resolved: {error}; types that"
                " tools use must be importable from the tool's module"
            ) from None
        hidden: list[str] = []
        fields: dict[str, Any] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            self._check_parameter(parameter, hints)
            if _is_idempotency_key(hints[name]):
                hidden.append(name)
            elif parameter.default is inspect.Parameter.empty:
                fields[name] = hints[name]
            else:
                fields[name] = NotRequired[hints[name]]
        if "return" not in hints:
            raise ToolError(
                f"the tool {self.name} does not say what it returns; annotate it, as in '-> dict'"
            )
        arguments = _typed_dict(f"{self.name}_arguments", fields)
        arguments.__pydantic_config__ = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
        try:
            return tuple(hidden), TypeAdapter(arguments), _adapter(hints["return"])
        except PydanticSchemaGenerationError as error:
            raise ToolError(
                f"a type of the tool {self.name} cannot be written as JSON:"
                f" {str(error).splitlines()[0]}"
            ) from None

    def _default_arguments(self, function: Callable[..., Any]) -> dict[str, Json]:
        """What stands for arguments that the model leaves out, as JSON where they can be."""
        defaults: dict[str, Json] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.default is not inspect.Parameter.empty and name not in self._hidden:
                with suppress(NotJson):  # a sentinel, say, which stands for no argument
                    defaults |= self.arguments_of({name: parameter.default})
        return defaults

    def _check_parameter(self, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> None:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ToolError(f"the tool {self.name} takes {parameter}; name its parameters")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ToolError(
                f"the tool {self.name} takes {parameter.name} by position only; models name"
                " arguments"
            )
        if parameter.name not in hints:
            raise ToolError(
                f"the parameter {parameter.name} of the tool {self.name} has no annotation; the"
                " model is told parameters by their types"
            )


def checked_requirements(requires: Iterable[Any], owner: str) -> tuple[Resource, ...]:
    """``requires`` as a tuple. Raises ToolError if one of them is no requirement."""
    checked = tuple(requires)
    for requirement in checked:
        if not isinstance(requirement, Resource):
            raise ToolError(
                f"{owner} requires {requirement!r}, which is no requirement; write for example"
                " Acl('prod/deploy')"
            )
    return checked


def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What ``function`` returns. A future cannot hold StopIteration: who awaits it would hang."""
    try:
        return function(**arguments)
    except StopIteration as error:
        raise RuntimeError(f"{function.__name__} raised StopIteration") from error


# A type made at run time, which a type checker cannot follow.
_typed_dict: Any = TypedDict


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config=ConfigDict(ser_json_inf_nan="constants"))
    except PydanticUserError:  # a model brings a configuration of its own
        return TypeAdapter(hint)


def _is_idempotency_key(hint: Any) -> bool:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return any(mark is IdempotencyKey or isinstance(mark, IdempotencyKey) for mark in marks)


def _is_strict(value: Json) -> bool:
    """Whether every JSON parser can read ``value``: most know no NaN, and no infinity."""
    try:
        return bool(json.dumps(value, allow_nan=False))
    except ValueError:
        return False


def _dumped(adapter: TypeAdapter[Any], value: Any, what: str) -> Json:
    try:
        return adapter.dump_python(value, mode="json", warnings=False)
    except ValueError as error:
        raise NotJson(f"{what} cannot be written as JSON: {error}") from None
