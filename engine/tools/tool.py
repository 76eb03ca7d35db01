"""Tools: typed functions with an effect class and explicit preconditions."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from ...graphstore.canonical import Json, canonical, decode, fingerprint, is_text
from ...graphstore.errors import NotJson
from ...graphstore.model import Effect, FacetRef
from ...graphstore.threads import in_thread
from ...invalidation.resources import Resource
from ..errors import ArgumentsInvalid, ConfigurationError, ToolError
from ..exits import is_ended
from ..keys.exact import exact
from ..keys.source import Source
from .dumping import Dumper
from .marks import Marked, Marks, marked, unmarked
from .signature import IdempotencyKey, Signature

__all__ = ["DeclaredTool", "IdempotencyKey", "Tool"]

_WHOLE = frozenset({str, dict, list, tuple, int, float, bool, type(None)})


_F_co = TypeVar("_F_co", covariant=True)


class Tool:
    """A function that an agent or a program may call, and that can still be called as itself.

    ``engine.tool`` declares it.

    Attributes:
        name: By which a model calls it.
        effect: Its effect class: pure, read or write.
        requires: What its steps rest on.
        function: The function itself.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        effect: Effect | str | None = None,
        requires: Sequence[Resource] | None = None,
        name: str | None = None,
        version: str | None = None,
        uses: Iterable[object] = (),
        opaque: Iterable[str] = (),
        unseen: Iterable[str] = (),
    ) -> None:
        self.function = function
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        if not self.name or not is_text(self.name):
            raise ToolError(f"a tool needs a name, a text, and not {self.name!r}")
        self.effect = self._effect(effect)
        self.requires = self._requires(requires)
        self.description = inspect.getdoc(function) or ""
        if not self.description:
            raise ToolError(
                f"the tool {self.name} has no docstring; the model chooses tools by what their"
                " docstrings say"
            )
        self._is_async = inspect.iscoroutinefunction(function)
        self._signature = Signature(function, self.name)
        self._naming = self._naming_parameters()
        self._marks = Marks(f"the tool {self.name}", opaque, unseen)
        self._adapter: TypeAdapter[dict[str, Any]] = self._signature.arguments.adapter
        self._takes_parsed = not (self._signature.hidden or self._signature.has_changeable)
        #: Whether an action of it that stands is just run again, and nothing is begun for it.
        self.just_reads = self.effect is Effect.READ and not self.wants_key
        reused = self.effect is Effect.PURE
        self._source = Source(self.name, function, uses=uses, version=version, reused=reused)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself; nothing is recorded."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name} ({self.effect})>"

    # What it is ---------------------------------------------------------------------------

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters, but for hidden ones."""
        return tuple(self._signature.types)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The parameters as JSON Schema, as a model is told them."""
        return self._signature.schema()

    @cached_property
    def has_marks(self) -> bool:
        """Whether something in its outputs is opaque or unseen."""
        return bool(self._marks) or self._signature.output.has_marks

    @property
    def code_key(self) -> str:
        """The version of everything that makes this tool's steps what they are: of its body and
        of its terms (effect and requirements), joined by a dot."""
        return f"{self.source_key()}.{self._terms}"

    def source_key(self) -> str:
        """The version of its body, as what it depends on is now."""
        return self._source.key(self._declared)

    def same_terms(self, code_key: str) -> bool:
        """Whether the tool that had this code key had today's effect and requirements."""
        return code_key.rpartition(".")[2] == self._terms

    @cached_property
    def _declared(self) -> Sequence[Json]:
        """What its body is known by beside its source. An output that is used again is what its
        type makes of what was recorded."""
        made = [self._output_schema()] if self.effect is Effect.PURE else []
        return ["tool", self.name, self.schema, *made]

    def _output_schema(self) -> Json:
        try:
            return self._signature.output.adapter.json_schema(mode="serialization")
        except PydanticUserError:  # of a type that JSON Schema has no words for
            return None

    @cached_property
    def _terms(self) -> str:
        requires = [requirement.declaration() for requirement in self.requires]
        return fingerprint([str(self.effect), sorted(requires, key=canonical)])

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.effect is Effect.WRITE

    @property
    def wants_key(self) -> bool:
        """Whether a parameter of it takes the idempotency key."""
        return bool(self._signature.hidden)

    # What it does -------------------------------------------------------------------------

    def parse(self, arguments: Mapping[str, Any] | bytes) -> dict[str, Any]:
        """Arguments as the function takes them, from JSON text or values.

        Raises ArgumentsInvalid, which says what is wrong with which argument.
        """
        try:
            if isinstance(arguments, bytes):
                return self._read_arguments(arguments)
            return self._adapter.validate_python(arguments)
        except ValidationError as error:
            raise ArgumentsInvalid(f"{self.name} {_what_is_wrong(error)}") from None
        except Exception as error:  # what a validator raises, beside what pydantic reads of it
            raise ArgumentsInvalid(
                f"{self.name} does not take these arguments: {type(error).__name__}: {error}"
            ) from error

    def _read_arguments(self, arguments: bytes) -> dict[str, Any]:
        try:
            parsed: dict[str, Any] = self._adapter.validator.validate_json(arguments)
        except ValidationError as error:
            if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
                raise
            # pydantic's reader refuses lone surrogates, which JSON can name and Python can hold.
            parsed = self._adapter.validate_python(decode(arguments))
        return parsed

    def arguments_of(self, parsed: Mapping[str, Any]) -> Any:
        """Parsed arguments as JSON again. Raises NotJson."""
        return self._signature.arguments.json(parsed, f"an argument of {self.name}")

    def facets(self, parsed: Mapping[str, Any], inputs: Json) -> tuple[FacetRef, ...]:
        """What this tool requires when it is called with these arguments, defaults included.

        Raises ArgumentsInvalid if the arguments name nothing that could be required.
        """
        arguments = dict(self._signature.defaults)
        try:
            for name, dumper in self._naming.items():
                if name in parsed:
                    arguments[name] = dumper.json(parsed[name], f"the argument {name}")
            return tuple(dict.fromkeys(item.resolve(inputs, arguments) for item in self.requires))
        except KeyError as missing:
            raise ArgumentsInvalid(f"{self.name} needs the argument {missing}") from None
        except (ConfigurationError, NotJson) as error:
            raise ArgumentsInvalid(
                f"{self.name} cannot be called with these arguments: {error}"
            ) from None

    async def run(self, parsed: Mapping[str, Any], idempotency_key: str) -> Any:
        """Call the function; a synchronous one in a thread, so that nobody waits for it.

        Raises what it raises. What only says that a coroutine is to end (CancelledError,
        GeneratorExit) is an error like any other, unless somebody does end this one.
        """
        task = asyncio.current_task()
        try:
            arguments = parsed if self._takes_parsed else self._completed(parsed, idempotency_key)
            if self._is_async:
                value = await self.function(**arguments)
            else:
                value = await in_thread(partial(self.function, **arguments))
            return value if type(value) in _WHOLE else await _whole(value)
        except (asyncio.CancelledError, GeneratorExit) as error:
            if is_ended(task, error):
                raise
            raise RuntimeError(f"{self.name} raised {type(error).__name__}") from error

    def _completed(self, parsed: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        hidden = dict.fromkeys(self._signature.hidden, idempotency_key)
        return {**self._signature.fresh_defaults(parsed), **parsed, **hidden}

    def marked(self, output: Any) -> Marked:
        """An output with its marks. Raises NotJson, NoStandIn."""
        dumper = self._signature.output
        return self._marks.on(marked(lambda: dumper.json(output, f"the output of {self.name}")))

    def dump(self, output: Any) -> bytes:
        """An output as exact JSON text. Raises NotJson, NoStandIn."""
        return unmarked(lambda: self._signature.output.text(output, f"the output of {self.name}"))

    @property
    def writes_alike(self) -> bool:
        """Whether a plain output always gives the same text."""
        return self._signature.output.writes_alike

    def load(self, output: bytes) -> Any:
        """A recorded output as the function had returned it, if ``keep`` gave it."""
        adapter = self._signature.output.adapter
        try:
            return adapter.validate_json(output, by_alias=True, by_name=True)
        except ValidationError:
            pass
        try:  # pydantic's reader refuses lone surrogates
            return adapter.validate_python(decode(output), by_alias=True, by_name=True)
        except ValidationError:
            return decode(output)

    def keep(self, output: Any) -> bytes | None:
        """A text of which ``load`` makes the very value that was returned; None if none does."""
        try:
            returned = exact(output)
            texts = self._signature.output.texts(output)
            return next((it for it in texts if exact(self.load(it)) == returned), None)
        except Exception:  # noqa: BLE001  (a validator, or a type's own way to be copied)
            return None

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

    def _naming_parameters(self) -> dict[str, Dumper]:
        """The parameters that name what is required, and how each is written."""
        names = {name for requirement in self.requires for name in requirement.arguments}
        for requirement in self.requires:
            requirement.check(self.parameters, f"the tool {self.name}")
        parameter_schemas = self._signature.parameter_schemas(self.schema)
        for name in sorted(names):
            if '"writeOnly": true' in json.dumps(parameter_schemas.get(name)):
                raise ToolError(
                    f"the tool {self.name} requires a resource that is named by the secret {name};"
                    " names of resources are stored in clear, so name it by another argument"
                )
        return {name: self._signature.dumper(name) for name in names}


class DeclaredTool(Tool, Generic[_F_co]):
    """A tool whose function type checkers know: it is called as that."""

    if TYPE_CHECKING:

        @property
        def __call__(self) -> _F_co: ...  # type: ignore[override]


def _what_is_wrong(error: ValidationError) -> str:
    wrong = "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)
    )
    return f"does not take these arguments: {wrong}"


def checked_requirements(requires: Iterable[Any], owner: str) -> tuple[Resource, ...]:
    """``requires`` as a tuple. Raises ToolError if one of them is no requirement."""
    if isinstance(requires, str | Resource):
        raise ToolError(f"{owner} has requires={requires!r}; give a list: [Acl('prod/deploy')]")
    checked = tuple(requires)
    for requirement in checked:
        if not isinstance(requirement, Resource):
            raise ToolError(
                f"{owner} requires {requirement!r}, which is no requirement; write for example"
                " Acl('prod/deploy')"
            )
    return checked


async def _whole(value: Any) -> Any:
    """An output is recorded as a whole: what is returned to be awaited is, and an iterator is used
    up first."""
    if inspect.isawaitable(value):  # a decorator that is not async itself hides that this is
        value = await value
    if isinstance(value, AsyncIterator):
        return [item async for item in value]
    if isinstance(value, Iterator) and not isinstance(value, io.IOBase):
        return await in_thread(lambda: list(value))
    return value
