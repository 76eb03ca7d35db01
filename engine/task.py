"""A task: one value with its inputs, its key, its payloads, and its text for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

from pydantic import BaseModel

from ..graphstore.canonical import (
    Json,
    check_members,
    decode,
    digest,
    encode,
    fingerprint,
    hash_of,
    is_text,
)
from ..graphstore.errors import NotJson
from ..graphstore.model import Task as StoredTask
from ..graphstore.model import Value
from ..invalidation.resources import Resource
from .errors import AgentError, ConfigurationError
from .keys.standins import NoStandIn, StandIns
from .outcome.differences import TaskContent
from .tools.dumping import Dumper, dumper_of
from .tools.marks import Marked, Marks, has_place, marked, unmarked

__all__ = [
    "Given",
    "Payload",
    "Task",
    "TaskKind",
    "check_requirement",
    "checked_labels",
    "checked_name",
    "kind_of",
    "task_key",
]

#: Who is given a task: an agent that converses by itself, or a program that calls a model.
TaskKind = Literal["agent", "program"]


#: What a caller may give where JSON is meant.
Given = BaseModel | Json


class Payload(NamedTuple):
    """What a caller gave, as JSON: its exact bytes, and what is read from them. ``marks``: where
    in it values are opaque or unseen; None: nowhere."""

    data: bytes
    json: Json
    marks: Marked | None = None

    @classmethod
    def of(
        cls, value: Given, what: str, marks: Marks | None = None, *, shown: bool = True
    ) -> Payload:
        """Make a payload. Raises NotJson, naming ``what``, for what cannot be recorded. ``shown``:
        whether a model may read it; else it does not matter what is marked."""
        written: Marked | None = None
        try:
            if isinstance(value, BaseModel):
                written = _written(value, shown=shown)
                data = encode(written.json)
            else:
                check_members(value)
                data = encode(value)
        except (NotJson, RecursionError) as error:
            raise NotJson(f"{what} cannot be recorded: {error}") from None
        # What is given may be changed by who gave it, and is not always what JSON makes of it.
        json: Json = value if isinstance(value, str) else decode(data)
        if marks:
            written = marks.on(written or Marked(json))
        return cls(data, json, written if written and written.places else None)

    def known_by(self, standins: StandIns) -> bytes:
        """The bytes that enter the task's key: of an opaque value its kind, and where an equal one
        stands in the task, whose ``standins`` these are; of an unseen one nothing."""
        if self.marks is None:
            return self.data
        return encode(self.marks.render(standins, "what a task is known by"))

    def like(self, data: bytes) -> Payload:
        """What is recorded as ``data``, with the marks of this payload as far as it has such
        places."""
        json = decode(data)
        if self.marks is None:
            return Payload(data, json)
        opaque, unseen = (
            tuple(path for path in paths if has_place(json, path))
            for paths in (self.marks.opaque, self.marks.unseen)
        )
        return Payload(data, json, Marked(json, opaque, unseen))

    @property
    def seen(self) -> Json:
        """What it says without what is unseen."""
        return self.json if self.marks is None else self.marks.seen

    @property
    def digest(self) -> str:
        """The digest under which it is stored."""
        return digest(self.data)

    @property
    def value(self) -> Value:
        """The payload as it is stored."""
        return Value.of(self.data)

    def render(self, standins: StandIns, place: str) -> str:
        """The text that a model reads: a text as it is, everything else as JSON."""
        if self.marks is None:
            return self.json if isinstance(self.json, str) else self.data.decode()
        rendered = self.marks.render(standins, place)
        standins.remember(self.json, rendered)
        return rendered if isinstance(rendered, str) else encode(rendered).decode()


@dataclass(frozen=True)
class Task:
    """What is to be done, and by whom: made once for a run, and never changed.

    ``name``: of the agent or program. ``context``: what else the model reads, if anything.
    ``{task.name}`` in a requirement means a part of ``inputs``.
    """

    key: str
    name: str
    inputs: Payload
    context: Payload | None = None

    @classmethod
    def of(
        cls,
        namespace: str,
        kind: TaskKind,
        name: str,
        inputs: Given,
        context: Given = None,
        *,
        marks: Marks | None = None,
    ) -> Task:
        """Make a task. Raises NotJson for inputs or a context that cannot be recorded, and
        ConfigurationError for marks on what nothing can stand in for."""
        try:
            what = "the task" if kind == "agent" else "the inputs"
            known = unmarked(lambda: Payload.of(inputs, what, marks))
            more = None if context is None else unmarked(lambda: Payload.of(context, "the context"))
            if more is not None and more.json is None:  # a model that is null
                more = None
            return cls(task_key(namespace, kind, name, known, more), name, known, more)
        except NoStandIn as error:
            raise ConfigurationError(f"the task of {name} cannot be shown: {error}") from None

    @property
    def content(self) -> TaskContent:
        """The inputs and the context as they are."""
        return TaskContent(self.inputs.json, None if self.context is None else self.context.json)

    @property
    def known(self) -> TaskContent:
        """The inputs and the context as they enter the task's key. Raises NoStandIn."""
        standins = StandIns("")
        inputs, context = self.inputs.known_by(standins), None
        if self.context is not None:
            context = decode(self.context.known_by(standins))
        return TaskContent(decode(inputs), context)

    @cached_property
    def exact(self) -> str:
        """What its wishes are known by: its key, and the real values of what is opaque. What was
        done for one of them was not done for another, though one recording serves both."""
        payloads = (self.inputs, self.context)
        if not any(it.marks.opaque for it in payloads if it is not None and it.marks is not None):
            return self.key
        seen = [None if it is None else it.seen for it in payloads]
        return hash_of("exact task", self.key, fingerprint(seen))

    @property
    def is_marked(self) -> bool:
        """Whether values in it are marked, so that equal tasks may have others."""
        return any(it is not None and it.marks is not None for it in (self.inputs, self.context))

    @property
    def texts(self) -> tuple[str, str | None]:
        """The inputs and the context, as exact JSON text."""
        context = None if self.context is None else self.context.data.decode()
        return self.inputs.data.decode(), context

    def bind(self, standins: StandIns) -> None:
        """Give its opaque values their stand-ins, before anything is asked or read back."""
        if self.is_marked:
            self.render(standins)

    def render(self, standins: StandIns) -> Sequence[str]:
        """What the first message says: the inputs, and the context apart from them."""
        inputs = self.inputs.render(standins, "inputs")
        if self.context is None:
            return (inputs,)
        return inputs, f"Context:\n{self.context.render(standins, 'context')}"

    @property
    def values(self) -> list[Value]:
        """Its payloads, as they are stored."""
        return [it.value for it in (self.inputs, self.context) if it is not None]

    @property
    def stored(self) -> StoredTask:
        """The task as it is stored: payloads by their digests."""
        return StoredTask(
            key=self.key,
            agent=self.name,
            inputs=self.inputs.digest,
            context=None if self.context is None else self.context.digest,
        )


def _written(model: BaseModel, *, shown: bool) -> Marked:
    dumper = _dumper(type(model))
    if not (shown and dumper.has_marks):
        return Marked(dumper.json(model, "it"))
    return marked(lambda: dumper.json(model, "it"))


def check_requirement(requirement: Resource, task: Task) -> None:
    """Check that ``task`` names what is required, and by no marked value: another value of it would
    rest on other facts. Raises ConfigurationError."""
    if not requirement.arguments:
        requirement.resolve(task.inputs.json)
    places = () if task.inputs.marks is None else task.inputs.marks.places
    if requirement.placeholders & {f"task.{path[0]}" for path in places}:
        raise ConfigurationError(
            f"{requirement} is named by a marked value of the task; a value that fills a"
            " requirement is never opaque, and never unseen: leave the mark out"
        )


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


def kind_of(
    namespace: str, task: StoredTask, inputs: Given, context: Given = None
) -> TaskKind | None:
    """Who was given a stored task; None if it has marks, so that its key does not tell."""
    given = Payload.of(inputs, "the task")
    more = None if context is None else Payload.of(context, "the context")
    kinds: tuple[TaskKind, ...] = ("agent", "program")
    keys = {task_key(namespace, it, task.agent, given, more): it for it in kinds}
    return keys.get(task.key)


def task_key(
    namespace: str, kind: TaskKind, name: str, inputs: Payload, context: Payload | None
) -> str:
    """H(namespace, kind, name, canonical inputs, canonical context): an agent never follows what
    a program of its name recorded. No code: that is checked step by step, so that a change of
    code costs only the steps made by it."""
    # Canonical form takes ten times as long as exact text, whose digest finds it again.
    standins = StandIns("")
    given = inputs.known_by(standins)
    more = b"null" if context is None else context.known_by(standins)
    return _key(namespace, kind, name, given, more)


@lru_cache(maxsize=4096)
def _key(namespace: str, kind: TaskKind, name: str, inputs: bytes, context: bytes) -> str:
    parts = (fingerprint(decode(inputs)), fingerprint(decode(context)))
    return hash_of("task", namespace, kind, name, *parts)
