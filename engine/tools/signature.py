"""What a tool's function takes and gives, as types that JSON is read into and written from."""

from __future__ import annotations

import copy
import inspect
import json
from collections import abc
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
)
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict

from ...graphstore.canonical import Json
from ...graphstore.errors import NotJson
from ..errors import ToolError
from .dumping import Dumper, dumper_of

__all__ = ["IdempotencyKey", "Signature"]


class IdempotencyKey:
    """Marks a parameter of a write that the engine fills: ``key: Annotated[str, IdempotencyKey]``.

    It is hidden from the model. Its value is the same for the same step of the same wish, also when
    a run that did not come to its end is called again, and another one for every other, so that the
    other side can drop a request that it has seen.
    """


class Signature:
    """The parameters and the output of the function of the tool ``name``.

    Raises ToolError when the function cannot serve as a tool, naming what is missing.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._name = name
        self._check_function(function)
        hints, parameters = self._read(function)
        for parameter in parameters.values():
            self._check_parameter(parameter, hints)
        if "return" not in hints:
            raise ToolError(
                f"the tool {name} does not say what it returns; annotate it, as in '-> dict'"
            )
        self.hidden = tuple(it for it in parameters if _is_idempotency_key(hints[it]))
        #: The parameters that a caller may give, by the function's own names.
        self.types = {it: hints[it] for it in parameters if it not in self.hidden}
        self._dumpers: dict[str, Dumper] = {}
        self._given = {
            name: parameters[name].default
            for name in self.types
            if parameters[name].default is not inspect.Parameter.empty
        }
        try:
            self.arguments = Dumper(self._arguments_type(), TypeAdapter(self._arguments_type()))
            self.output = dumper_of(_given_whole(hints["return"]))
        except PydanticSchemaGenerationError as error:
            raise ToolError(
                f"a type of the tool {name} cannot be written as JSON: {str(error).splitlines()[0]}"
            ) from None
        # The function may change a default of its own, and the next call is not to see it.
        self._changeable = {
            name: copy.deepcopy(value)
            for name, value in self._given.items()
            if _is_container(value)
        }
        self.defaults = self._defaults()

    @property
    def has_changeable(self) -> bool:
        """Whether a call could change a default."""
        return bool(self._changeable)

    def fresh_defaults(self, given: Collection[str]) -> dict[str, Any]:
        """The defaults that a call could change, for the parameters not ``given``."""
        return {
            name: copy.deepcopy(value)
            for name, value in self._changeable.items()
            if name not in given
        }

    def dumper(self, parameter: str) -> Dumper:
        """Writes one argument, also if its field is left out of a dump."""
        if (known := self._dumpers.get(parameter)) is None:
            known = self._dumpers[parameter] = self._dumper(parameter)
        return known

    def _dumper(self, parameter: str) -> Dumper:
        hint = self.types[parameter]
        if get_origin(hint) is Annotated:
            kept = [it for it in get_args(hint)[1:] if not isinstance(it, FieldInfo)]
            hint = Annotated[get_args(hint)[0], *kept] if kept else get_args(hint)[0]
        return dumper_of(hint)

    def schema(self) -> dict[str, Any]:
        """The parameters as JSON Schema, as a model is told them."""
        try:
            schema = self.arguments.adapter.json_schema()
        except PydanticUserError as error:
            raise ToolError(
                f"a parameter of the tool {self._name} cannot be told to a model as JSON Schema:"
                f" {str(error).splitlines()[0]}"
            ) from None
        schema.pop("title", None)
        schema.setdefault("properties", {})
        for name, parameter in self.parameter_schemas(schema).items():
            parameter.pop("title", None)
            if name in self.defaults and _is_strict(self.defaults[name]):
                parameter["default"] = self.defaults[name]
        return schema

    def parameter_schemas(self, schema: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What ``schema`` says of each parameter, by the function's own names."""
        properties = schema["properties"]
        if len(properties) != len(self.types):  # one is not told at all
            return {name: it for name, it in properties.items() if name in self.types}
        return dict(zip(self.types, properties.values(), strict=True))

    # How it is read -----------------------------------------------------------------------

    def _check_function(self, function: Callable[..., Any]) -> None:
        if isinstance(function, classmethod):
            raise ToolError(
                f"{self._name} is a classmethod in the making; declare Class.{self._name} as a tool"
                " when the class is there"
            )
        if not inspect.isroutine(function):
            raise ToolError(
                f"{self._name} is no function; declare a function or a method as a tool"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ToolError(
                f"the tool {self._name} yields, and an output is recorded as a whole; return a list"
            )

    def _read(
        self, function: Callable[..., Any]
    ) -> tuple[dict[str, Any], Mapping[str, inspect.Parameter]]:
        try:
            hints = get_type_hints(function, include_extras=True)
            return hints, inspect.signature(function).parameters
        except NameError as error:
            raise ToolError(
                f"an annotation of the tool {self._name} cannot be resolved: {error}; types that"
                " tools use must be importable from the tool's module"
            ) from None
        except Exception as error:
            raise ToolError(
                f"the signature of the tool {self._name} cannot be read: {error}; declare a"
                " function with annotated parameters"
            ) from error

    def _check_parameter(self, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> None:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ToolError(f"the tool {self._name} takes {parameter}; name its parameters")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ToolError(
                f"the tool {self._name} takes {parameter.name} by position only; models name"
                " arguments"
            )
        if parameter.name not in hints:
            raise ToolError(
                f"the parameter {parameter.name} of the tool {self._name} has no annotation; the"
                " model is told parameters by their types"
            )
        if isinstance(parameter.default, FieldInfo):
            raise ToolError(
                f"the parameter {parameter.name} of the tool {self._name} has Field(...) as its"
                " default, which Python would hand to the function; write"
                f" {parameter.name}: Annotated[..., Field(...)] = default"
            )

    def _arguments_type(self) -> Any:
        fields = {
            name: NotRequired[hint] if name in self._given else hint
            for name, hint in self.types.items()
        }
        arguments = _typed_dict(f"{self._name}_arguments", fields)
        # A program names an argument as the function does, whatever its alias.
        arguments.__pydantic_config__ = ConfigDict(
            extra="forbid", ser_json_inf_nan="constants", populate_by_name=True
        )
        return arguments

    def _defaults(self) -> dict[str, Json]:
        """What stands for arguments that a caller leaves out, as JSON where they can be."""
        defaults: dict[str, Json] = {}
        for name, value in self._given.items():
            with suppress(NotJson):  # a sentinel, say, which stands for no argument
                defaults[name] = self.dumper(name).json(value, f"the default of {name}")
        return defaults


# A type made at run time, which a type checker cannot follow.
_typed_dict: Any = TypedDict


def _given_whole(hint: Any) -> Any:
    """What there is when an awaitable was awaited, and an iterator used up."""
    match get_origin(hint), get_args(hint):
        case (abc.Awaitable, (given,)) | (abc.Coroutine, (_, _, given)):
            return _given_whole(given)
        case abc.Iterator | abc.Generator | abc.AsyncIterator | abc.AsyncGenerator, (item, *_):
            return list[item]  # type: ignore[valid-type]
    return hint


def _is_idempotency_key(hint: Any) -> bool:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return any(mark is IdempotencyKey or isinstance(mark, IdempotencyKey) for mark in marks)


def _is_container(value: Any) -> bool:
    return isinstance(value, list | dict | set | bytearray | BaseModel) or (
        hasattr(value, "__dataclass_fields__") and not isinstance(value, type)
    )


def _is_strict(value: Json) -> bool:
    """Whether every JSON parser can read ``value``: most know no NaN, and no infinity."""
    try:
        return bool(json.dumps(value, allow_nan=False))
    except ValueError:
        return False
