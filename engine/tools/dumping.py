"""Values as JSON: whole, and the same text in every process.

Pydantic writes a set in the order of its hashes, which is another one in every process; it leaves
out what a subclass adds to the class that was declared; and it writes the keys ``1`` and ``"1"``
alike. Here sets are put in order first, subclasses are written whole, and such keys are refused.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter
from pydantic.functional_serializers import PlainSerializer, WrapSerializer
from typing_extensions import TypeAliasType, is_typeddict

from ...graphstore.canonical import encode
from ...graphstore.errors import NotJson
from ..keys.exact import NotExact, exact
from .filled_in import filled_in, says_which
from .marks import marks_taken_off, names_marks, takes_marks_off

__all__ = ["Dumper", "dumper_of"]

_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})
_ANY = TypeAdapter[Any](Any)
#: Newer versions of pydantic write subclasses of models whole when they are asked to.
_WHOLE: dict[str, Any] = (
    {"polymorphic_serialization": True}
    if "polymorphic_serialization" in inspect.signature(TypeAdapter.dump_json).parameters
    else {}
)


class Dumper:
    """Writes values that are declared as ``hint``."""

    def __init__(self, hint: Any, adapter: TypeAdapter[Any]) -> None:
        self._hint = hint
        self.adapter = adapter

    def json(self, value: Any, what: str) -> Any:
        """``value`` as JSON. Raises NotJson, naming ``what``."""
        try:
            return self._json(self._ready(value))
        except Exception as error:
            raise NotJson(f"{what} cannot be written as JSON: {error}") from error

    def said(self, value: Any, what: str) -> Any:
        """``value`` as JSON without what models fill in by themselves. Raises NotJson."""
        try:
            return self._json(_prepared(value, self._classes), exclude=filled_in(value))
        except Exception as error:
            raise NotJson(f"{what} cannot be written as JSON: {error}") from error

    def text(self, value: Any, what: str) -> bytes:
        """``value`` as exact JSON text. Raises NotJson."""
        try:
            prepared = self._ready(value)
            return self._written(prepared) or encode(self._json(prepared))
        except Exception as error:
            raise NotJson(f"{what} cannot be written as JSON: {error}") from error

    def texts(self, value: Any) -> Iterator[bytes]:
        """Texts of which the value may be made again, the one that ``text`` gives first."""
        yield self.text(value, "the value")
        prepared = _prepared(value, self._classes)
        with suppress(ValueError):  # what was not set is to be unset again
            yield self.adapter.dump_json(prepared, exclude_unset=True, warnings=False, **_WHOLE)

    def secrets(self, value: Any) -> Iterator[Any]:
        """What is hidden where ``value`` is written, in the order in which it stands there."""
        prepared = _prepared(value, self._classes)
        try:
            written = self.adapter.dump_python(prepared, warnings=False, **_WHOLE)
        except TypeError:  # a set of models would become one of dicts, which no set can hold
            written = prepared
        yield from _secrets(written)

    def kinds(self, value: Any) -> Iterator[str]:
        """The classes of the models and dataclasses in ``value`` that neither its type nor a field
        tells, in the order in which they stand there."""
        return _kinds(value, self._classes)

    @cached_property
    def has_marks(self) -> bool:
        """Whether values in it are marked by their types."""
        return names_marks(dict(self.adapter.core_schema))

    @cached_property
    def _takes_marks_off(self) -> bool:
        return takes_marks_off(dict(self.adapter.core_schema))

    @cached_property
    def writes_alike(self) -> bool:
        """Whether a plain value always gives the same text: no function of a type's own, which
        may go by what is outside, has a say in it."""
        return "'serialization'" not in repr(dict(self.adapter.core_schema))

    @cached_property
    def _classes(self) -> frozenset[type]:
        return _classes_in(self._hint)

    def _ready(self, value: Any) -> Any:
        if self._takes_marks_off:
            marks_taken_off()
        return _prepared(value, self._classes)

    def _json(self, value: Any, **options: Any) -> Any:
        return self.adapter.dump_python(value, mode="json", warnings=False, **_WHOLE, **options)

    def _written(self, value: Any) -> bytes | None:
        """None for what pydantic's writer refuses (lone surrogates), or writes as null (a NaN)."""
        try:
            written = self.adapter.dump_json(value, warnings=False, **_WHOLE)
        except ValueError:
            return None
        return None if b"null" in written else written


def dumper_of(hint: Any) -> Dumper:
    """Writes values of this type, a NaN as one."""
    try:
        adapter = TypeAdapter[Any](hint, config=ConfigDict(ser_json_inf_nan="constants"))
    except PydanticUserError:  # a model brings a configuration of its own
        adapter = TypeAdapter[Any](hint)
    return Dumper(hint, adapter)


def _secrets(value: Any) -> Iterator[Any]:
    kind: Any = type(value)
    if callable(reveal := getattr(value, "get_secret_value", None)):
        yield reveal()
    elif _has_fields(kind):
        yield from _secrets({it: getattr(value, it, None) for it in _layout(kind).declared})
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield from _secrets(value[key])
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _secrets(item)


def _kinds(value: Any, declared: Collection[type]) -> Iterator[str]:
    kind: Any = type(value)
    match value:
        case _ if _has_fields(kind):
            if set(filter(_has_fields, declared)) != {kind} and not says_which(kind):
                yield kind.__qualname__
            for name, inside in _layout(kind).declared.items():
                if inside is not None:
                    yield from _kinds(getattr(value, name, None), inside)
        case Mapping():
            for key in sorted(value, key=repr):
                yield from _kinds(value[key], declared)
        case list() | tuple():
            for item in value:
                yield from _kinds(item, declared)


def _has_fields(kind: type) -> bool:
    return issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)


# Before pydantic writes it -----------------------------------------------------------------


def _prepared(value: Any, declared: Collection[type]) -> Any:
    """``value`` with its sets in order and subclasses whole; itself if there are none.

    ``declared``: the classes that are named where it is declared.
    """
    if type(value) in _LEAVES:
        return value
    for kind, prepare in _PREPARE.items():
        if isinstance(value, kind):
            return prepare(value, declared)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {it.name: getattr(value, it.name) for it in dataclasses.fields(value)}
        return _whole(value, _prepared_fields(value, fields), declared)
    return value


def _prepared_model(value: BaseModel, declared: Collection[type]) -> Any:
    fields = {**vars(value), "__pydantic_extra__": value.__pydantic_extra__}
    return _whole(value, _prepared_fields(value, fields), declared)


def _prepared_list(value: list[Any], declared: Collection[type]) -> Any:
    if all(type(item) in _LEAVES for item in value):
        return value
    return _rebuilt(value, [_prepared(item, declared) for item in value], list)


def _refused(value: Iterator[Any], _: Collection[type]) -> Any:
    raise NotJson(
        f"a {type(value).__name__} is used up by whoever reads it first; give a list instead"
    )


def _rebuilt(value: Any, items: list[Any], make: Callable[[list[Any]], Any]) -> Any:
    same = all(new is old for new, old in zip(items, value, strict=True))
    return value if same else make(items)


def _prepared_dict(value: dict[Any, Any], declared: Collection[type]) -> dict[Any, Any]:
    _check_keys(value)
    changed = {
        key: new for key, item in value.items() if (new := _prepared(item, declared)) is not item
    }
    if not changed:
        return value
    rebuilt = copy.copy(value)
    rebuilt.update(changed)
    return rebuilt


def _prepared_tuple(value: tuple[Any, ...], declared: Collection[type]) -> Any:
    items = [_prepared(item, declared) for item in value]
    make = getattr(type(value), "_make", tuple)
    return _rebuilt(value, items, make)


def _check_keys(value: Mapping[Any, Any]) -> None:
    if all(type(key) is str for key in value):
        return
    written = [next(iter(_ANY.dump_python({key: None}, mode="json"))) for key in value]
    for place, key in enumerate(value):
        if written[place] in written[:place]:
            raise NotJson(f"JSON cannot tell the key {key!r} from another key of the same dict")


class _Ordered(set[Any]):
    """A set that is iterated in the order that it was given."""

    items: list[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class _OrderedFrozen(frozenset[Any]):
    """A frozen set that is iterated in the order that it was given."""

    items: list[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


def _in_order(value: Any, declared: Collection[type]) -> Any:
    try:
        items = _sorted(value)
    except NotExact:
        return value
    ordered: Any = (_Ordered if isinstance(value, set) else _OrderedFrozen)(value)
    ordered.items = [_prepared(item, declared) for item in items]
    return ordered


def _sorted(value: Collection[Any]) -> list[Any]:
    kinds = {type(item) for item in value}
    if kinds in ({str}, {int}):
        return sorted(value)
    return sorted(value, key=exact)


_PREPARE: dict[Any, Callable[[Any, Collection[type]], Any]] = {
    (set, frozenset): _in_order,
    dict: _prepared_dict,
    tuple: _prepared_tuple,
    list: _prepared_list,
    Iterator: _refused,
    BaseModel: _prepared_model,
}


# Models and dataclasses --------------------------------------------------------------------


class _Layout(NamedTuple):
    """How a class is written: the classes declared of each field, None where a function of its
    own writes the field. ``reads_itself``: such a function looks at the object as a whole.
    ``takes_marks_off``: such a function takes the mark off what it writes."""

    declared: Mapping[str, frozenset[type] | None]
    reads_itself: bool
    takes_marks_off: bool


def _prepared_fields(value: Any, fields: Mapping[str, Any]) -> Any:
    """A model or dataclass with its fields prepared; itself if that changes none."""
    kind: Any = type(value)
    layout = _layout(kind)
    if layout.takes_marks_off:
        marks_taken_off()
    changed = {}
    for name, item in fields.items():
        declared = layout.declared.get(name, frozenset())
        new = item if declared is None else _prepared(item, declared)
        if new is item:
            continue
        if layout.reads_itself and not isinstance(new, type(item)):
            raise NotJson(
                f"the field {name} of {type(value).__name__} holds a {type(item).__name__}, which"
                " is not the class that was declared; name it in the field's type"
            )
        changed[name] = new
    if not changed:
        return value
    rebuilt = copy.copy(value)
    for name, new in changed.items():
        object.__setattr__(rebuilt, name, new)
    return rebuilt


def _whole(value: Any, prepared: Any, declared: Collection[type]) -> Any:
    """An object as it is if pydantic writes it whole; else as its own class writes it."""
    kind: Any = type(value)
    # Where no class is declared, pydantic goes by the class that there is.
    if not declared or kind in declared or (_WHOLE and _is_model_of(kind, declared)):
        return prepared
    return _adapter(kind).dump_python(prepared, mode="json", warnings=False, **_WHOLE)


def _is_model_of(kind: type, declared: Collection[type]) -> bool:
    return issubclass(kind, BaseModel) and any(it in declared for it in kind.__mro__)


@lru_cache(maxsize=1024)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@lru_cache(maxsize=1024)
def _layout(kind: Any) -> _Layout:
    if issubclass(kind, BaseModel):
        own = kind.__pydantic_decorators__
        written = {
            name for serializer in own.field_serializers.values() for name in serializer.info.fields
        }
        declared = {
            name: None
            if name in written or "*" in written or _has_writer(field.metadata)
            else _classes_in(field.annotation)
            for name, field in kind.model_fields.items()
        }
        reads_itself = bool(own.computed_fields or own.model_serializers)
        return _Layout(declared, reads_itself, _class_takes_marks_off(kind))
    declared = {name: _classes_in(hint) for name, hint in _hints(kind).items()}
    return _Layout(declared, False, _class_takes_marks_off(kind))


def _class_takes_marks_off(kind: Any) -> bool:
    with suppress(Exception):  # what pydantic cannot read has no marks
        return takes_marks_off(dict(_adapter(kind).core_schema))
    return False


def _has_writer(marks: Collection[Any]) -> bool:
    return any(isinstance(mark, PlainSerializer | WrapSerializer) for mark in marks)


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001  (names that pydantic found elsewhere)
        return dict(getattr(kind, "__annotations__", {}))


def _classes_in(hint: Any) -> frozenset[type]:
    """The models and dataclasses that a type names."""
    classes: set[Any] = set()
    _find_classes(hint, classes)
    return frozenset(it for it in classes if isinstance(it, type))


def _find_classes(hint: Any, classes: set[Any]) -> None:
    if hint in classes:
        return
    for part in get_args(hint):
        _find_classes(part, classes)
    match hint:
        case TypeAliasType():
            classes.add(hint)
            _find_classes(hint.__value__, classes)
        case TypeVar():
            _find_classes(hint.__bound__, classes)
        case type() if get_origin(hint) is None:
            _find_class(hint, classes)


def _find_class(kind: type, classes: set[Any]) -> None:
    if issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind):
        classes.add(kind)
    elif is_typeddict(kind) or hasattr(kind, "_fields"):
        classes.add(kind)
        for part in _hints(kind).values():
            _find_classes(part, classes)
