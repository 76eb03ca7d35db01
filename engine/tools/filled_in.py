"""What models fill in: the fields that their makers left out, or gave as they would be anyway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, get_origin, get_type_hints

from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

from ..keys.exact import NotExact, exact

__all__ = ["filled_in", "says_which"]


def says_which(kind: type) -> bool:
    """Whether a field says which model or dataclass it is, as it can only be one of some
    literals."""
    if issubclass(kind, BaseModel):
        return any(map(_is_literal, kind.model_fields.values()))
    with suppress(Exception):  # names that pydantic found elsewhere
        return any(get_origin(hint) is Literal for hint in get_type_hints(kind).values())
    return False


def filled_in(value: Any) -> dict[Any, Any]:
    """What ``exclude=`` of pydantic leaves out of ``value`` so that only what was said is left: a
    default that is another one each time, or came with a newer model, tells no calls apart.

    A field that can only be one of some literals stays: it may say which model this is.
    """
    match value:
        case RootModel():
            return filled_in(value.root)
        case BaseModel():
            fields = type(value).model_fields
            filled: dict[Any, Any] = {
                name: True for name, field in fields.items() if _is_filled_in(value, name, field)
            }
            said = ((name, it) for name, it in vars(value).items() if name not in filled)
            return filled | _within(said)
        case Mapping():
            return _within(value.items())
        case list() | tuple():
            return _within(enumerate(value))
    return {}


def _within(items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    return {key: filled for key, item in items if (filled := filled_in(item))}


def _is_literal(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal


def _is_filled_in(value: BaseModel, name: str, field: FieldInfo) -> bool:
    if field.is_required() or _is_literal(field):
        return False
    if name not in value.model_fields_set:
        return not _was_changed(getattr(value, name), field)
    with suppress(NotExact):
        return field.default_factory is None and exact(getattr(value, name)) == exact(field.default)
    return False


def _was_changed(value: Any, field: FieldInfo) -> bool:
    """Whether somebody has changed what was filled in, as can be done with a list: the model does
    not note that as set. Of what is another one each time nobody knows."""
    if not isinstance(value, list | dict | set | BaseModel):
        return False
    try:
        one, other = (exact(_said(field.get_default(call_default_factory=True))) for _ in range(2))
        return one == other and exact(_said(value)) != one
    except Exception:  # noqa: BLE001  (a factory may raise anything, or ask for the other fields)
        return True


def _said(value: Any) -> Any:
    """What was said of a model; anything else itself."""
    if not isinstance(value, BaseModel):
        return value
    fields = type(value).model_fields.items()
    return {it: getattr(value, it) for it, field in fields if not _is_filled_in(value, it, field)}
