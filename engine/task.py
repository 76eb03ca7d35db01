"""What is asked: its JSON form, its key, and how a model is told."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel

from ..graphstore.canonical import (
    Json,
    check_members,
    decode,
    encode,
    fingerprint,
    hash_of,
    is_text,
)
from ..graphstore.errors import NotJson
from .errors import AgentError
from .tools.dumping import Dumper, dumper_of

__all__ = ["SubjectKind", "as_json", "checked_labels", "checked_name", "task_key", "texts"]

#: Who is given a task: an agent that converses by itself, or a program that calls a model.
SubjectKind = Literal["agent", "program"]


def as_json(value: str | Mapping[str, Any] | BaseModel | Json, what: str) -> Json:
    """``value`` as JSON knows it. Raises NotJson, naming ``what``."""
    if isinstance(value, str):
        return value
    try:
        if isinstance(value, BaseModel):
            return decode(encode(_dumper(type(value)).json(value, "it")))
        check_members(value)
        return decode(encode(value))
    except (NotJson, RecursionError) as error:
        raise NotJson(f"{what} cannot be recorded: {error}") from None


@lru_cache(maxsize=256)
def _dumper(kind: type[BaseModel]) -> Dumper:
    return dumper_of(kind)


def checked_name(name: str, what: str) -> str:
    """Raises AgentError if ``name``, that of ``what``, is no text."""
    if name and is_text(name):
        return name
    raise AgentError(
        f"{what} needs a name, a text, and has {name!r}: it is part of what its tasks are known by"
    )


def checked_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Raises AgentError if a label is no text."""
    if not isinstance(labels, Mapping | None):
        raise AgentError(f"labels={labels!r} is no mapping; write for example labels={{'pr': '5'}}")
    checked = dict(labels or {})
    for label, value in checked.items():
        if not is_text(label) or not is_text(value):
            raise AgentError(
                f"labels are texts by texts, and {label!r} is {value!r}; write for example"
                " labels={'pr': '5'}"
            )
    return checked


def task_key(namespace: str, kind: SubjectKind, name: str, inputs: Json, context: Json) -> str:
    """H(namespace, kind, name, canonical inputs, canonical context): an agent never follows what
    a program of its name recorded. No code: that is checked step by step, so that a change of
    code costs only the steps made by it."""
    # Canonical form takes ten times as long as exact text, whose digest finds it again.
    return _key(namespace, kind, name, encode(inputs), encode(context))


@lru_cache(maxsize=4096)
def _key(namespace: str, kind: SubjectKind, name: str, inputs: bytes, context: bytes) -> str:
    parts = (fingerprint(decode(inputs)), fingerprint(decode(context)))
    return hash_of("task", namespace, kind, name, *parts)


def texts(inputs: Json, context: Json) -> list[str]:
    """What the first message says: text as it is, everything else as JSON."""
    said = [inputs if isinstance(inputs, str) else encode(inputs).decode()]
    if context is not None:
        told = context if isinstance(context, str) else encode(context).decode()
        said.append(f"Context:\n{told}")
    return said
