"""Tools: typed functions with an effect class and explicit preconditions."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property, partial
from itertools import product
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from ...graphstore.canonical import Json, canonical, decode, encode, fingerprint, is_text
from ...graphstore.errors import NotJson
from ...graphstore.model import Effect, FacetRef
from ...graphstore.threads import in_thread
from ...invalidation.resources import Resource
from ..errors import ArgumentsInvalid, ConfigurationError, ToolError
from ..exits import is_ended
from ..keys.exact import exact
from ..keys.source import Source
from ..spelling import sentence_of
from .at_work import until_it_ends
from .declaring import (
    checked_effect,
    checked_fresh_for,
    checked_lookup,
    checked_on_change,
    checked_once_per,
    checked_requires,
)
from .dumping import Dumper
from .marks import Marked, Marks, marked, unmarked
from .signature import IdempotencyKey, Signature

__all__ = ["DeclaredTool", "IdempotencyKey", "Tool", "Use"]

_WHOLE = frozenset({str, dict, list, tuple, int, float, bool, type(None)})


_T = TypeVar("_T")
_F_co = TypeVar("_F_co", covariant=True)


class Use(NamedTuple):
    """How a tool uses what it requires: the parameters of ``engine.tool`` that say it.
    ``fresh_for``: whether there is any."""

    effect: Effect
    on_change: str
    fresh_for: bool


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
        once_per: str | None = None,
        on_change: str = "ask",
        fresh_for: timedelta | None = None,
        lookup: Callable[..., Any] | None = None,
    ) -> None:
        self.function = function
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        if not self.name or not is_text(self.name):
            raise ToolError(f"a tool needs a name, a text, and not {self.name!r}")
        self.effect = checked_effect(self.name, effect)
        self.requires = checked_requires(
            self.name, self.effect, requires, declared=effect is not None
        )
        #: Whether its requirements guard its actions only, and not what chose them.
        self.reruns = checked_on_change(self.name, self.effect, on_change) == "rerun"
        #: How long an output of it is as good as another one.
        self.fresh_for = checked_fresh_for(self.name, self.effect, fresh_for)
        self.description = inspect.getdoc(function) or ""
        if not self.description:
            raise ToolError(
                f"the tool {self.name} has no docstring; the model chooses tools by what their"
                " docstrings say"
            )
        self._is_async = inspect.iscoroutinefunction(function)
        self._signature = Signature(function, self.name)
        self._once_per = checked_once_per(self.name, self.effect, once_per)
        self._naming = self._naming_parameters()
        self._marks = Marks(f"the tool {self.name}", opaque, unseen)
        self._lookup = checked_lookup(
            self.name, self.effect, lookup, {*self.parameters, *self._signature.hidden}
        )
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
    def is_reused(self) -> bool:
        """Whether an output of it may be used again, always or for a time."""
        return self.effect is Effect.PURE or self.fresh_for is not None

    @cached_property
    def marks_by_name(self) -> bool:
        """Whether plain values that are equal but for what is marked are written alike, with their
        marks in the same places."""
        by_type = self._signature.output.has_marks
        return self.writes_alike and self._marks.are_names and not by_type

    @property
    def named_inputs(self) -> frozenset[str]:
        """The names of the task's inputs that fill what it requires."""
        named = (it.placeholders - it.arguments for it in self.requires)
        return frozenset(name.removeprefix("task.") for names in named for name in names)

    @property
    def code_key(self) -> str:
        """The version of everything that makes this tool's steps what they are: of its body and
        of its terms (effect and requirements), joined by a dot."""
        return f"{self.source_key()}.{self.terms}"

    def source_key(self) -> str:
        """The version of its body, as what it depends on is now."""
        return self._source.key(self._declared)

    def same_terms(self, code_key: str) -> bool:
        """Whether the tool that had this code key had today's effect and requirements."""
        return code_key.rpartition(".")[2] == self.terms

    def use_of_terms(self, terms: str) -> Use | None:
        """How today's requirements were used when they had these terms; None: in no way, so that
        the requirements were others."""
        ways = map(Use._make, product(Effect, ("ask", "rerun"), (False, True)))
        return next((it for it in ways if self._terms_of(it) == terms), None)

    @cached_property
    def use(self) -> Use:
        """How its requirements are used."""
        return Use(self.effect, "rerun" if self.reruns else "ask", bool(self.fresh_for))

    @cached_property
    def fresh_ms(self) -> float | None:
        """``fresh_for`` in milliseconds."""
        return None if self.fresh_for is None else self.fresh_for / timedelta(milliseconds=1)

    @cached_property
    def _declared(self) -> Sequence[Json]:
        """What its body is known by beside its source. An output that is used again is what its
        type makes of what was recorded, and has no stand-ins."""
        made = [self._output_schema()] if self.effect is Effect.PURE else []
        marks = [self._declared_marks()] if self.is_reused and self.has_marks else []
        return ["tool", self.name, self.schema, *made, *marks]

    def _declared_marks(self) -> Json:
        return {**self._marks.declaration(), "by type": self._signature.output.has_marks}

    def _output_schema(self) -> Json:
        try:
            return self._signature.output.adapter.json_schema(mode="serialization")
        except PydanticUserError:  # of a type that JSON Schema has no words for
            return None

    @cached_property
    def terms(self) -> str:
        """The version of its effect class and its requirements, and of how these are used."""
        return self._terms_of(self.use)

    def _terms_of(self, use: Use) -> str:
        requires = [requirement.declaration() for requirement in self.requires]
        more = [
            *(["rerun"] if use.on_change == "rerun" else []),
            *(["fresh"] if use.fresh_for else []),
        ]
        return fingerprint([str(use.effect), sorted(requires, key=canonical), *more])

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.effect.writes

    @property
    def guards_decisions(self) -> bool:
        """Whether a decision that chose it rests on what it requires."""
        return self.is_write and not self.reruns

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
                f"{self.name} does not take these arguments: {sentence_of(error)}"
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

    def fingerprint_of(self, parsed: Mapping[str, Any], dump: bytes) -> str:
        """What tells two calls apart by their arguments, secrets too. What has its default counts
        as left out: so a parameter that is added makes no other call of it, nor a field of a model.
        ``dump`` stands for what cannot be written as JSON."""
        try:
            written = self._signature.arguments.said(parsed, f"an argument of {self.name}")
        except NotJson:
            return fingerprint(decode(dump))
        defaults = self._signature.defaults
        given = {
            name: value
            for name, value in written.items()
            if name not in defaults or canonical(value) != canonical(defaults[name])
        }
        secrets = [exact(it) for it in self._signature.arguments.secrets(parsed)]
        kinds = [
            [name, *kinds]
            for name, value in parsed.items()
            if (kinds := list(self._signature.dumper(name).kinds(value)))
        ]
        return fingerprint([given, *secrets, *sorted(kinds)])

    def facets(self, parsed: Mapping[str, Any], inputs: Json) -> tuple[FacetRef, ...]:
        """What this tool requires when it is called with these arguments, defaults included.

        Raises ArgumentsInvalid if the arguments name nothing that could be required.
        """
        resolved = self._named(
            parsed, lambda arguments: [it.resolve(inputs, arguments) for it in self.requires]
        )
        return tuple(dict.fromkeys(resolved))

    def once_per(self, parsed: Mapping[str, Any], inputs: Json) -> str | None:
        """What an effect that happens once is told apart by; None: by all that it is called with.

        Raises ArgumentsInvalid if the arguments do not say it.
        """
        once_per = self._once_per
        if once_per is None:
            return None
        return self._named(parsed, lambda arguments: once_per.quoted(inputs, arguments))

    def _named(self, parsed: Mapping[str, Any], name: Callable[[Mapping[str, Json]], _T]) -> _T:
        """What ``name`` makes of the arguments that are named by placeholders."""
        arguments = dict(self._signature.defaults)
        try:
            for it, dumper in self._naming.items():
                if it in parsed:
                    arguments[it] = dumper.json(parsed[it], f"the argument {it}")
            return name(arguments)
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
                value = await in_thread(until_it_ends(partial(self.function, **arguments)))
            return value if type(value) in _WHOLE else await _whole(value)
        except (asyncio.CancelledError, GeneratorExit) as error:
            if is_ended(task, error):
                raise
            raise RuntimeError(f"{self.name} raised {type(error).__name__}") from error

    @property
    def can_look_up(self) -> bool:
        """Whether it can say if an effect in doubt has happened."""
        return self._lookup is not None

    async def look_up(self, parsed: Mapping[str, Any], idempotency_key: str) -> Any:
        """What a call gave that is in doubt; None: it did not happen. Raises what its ``lookup``
        raises."""
        assert self._lookup is not None
        given = self._completed(parsed, idempotency_key)
        names = inspect.signature(self._lookup).parameters
        lookup = partial(self._lookup, **{it: given[it] for it in names if it in given})
        if inspect.iscoroutinefunction(self._lookup):
            return await lookup()
        return await _whole(await in_thread(lookup))

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

    def whole(self, output: Any) -> bytes:
        """An output as exact JSON text, marked values too. Raises NotJson."""
        if not self.has_marks:
            return self.dump(output)
        return encode(self._signature.output.json(output, f"the output of {self.name}"))

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

    def _naming_parameters(self) -> dict[str, Dumper]:
        """The parameters that name what is required, and how each is written."""
        naming = (*self.requires, *([self._once_per] if self._once_per else ()))
        names = {name for requirement in naming for name in requirement.arguments}
        for requirement in naming:
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
