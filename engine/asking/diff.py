"""What stood before and what stands after, for each cause of a run: the documents in full."""

from __future__ import annotations

import difflib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...graphstore.canonical import Json, decode
from ...graphstore.document import GONE, Gone
from ...graphstore.errors import ExecgraphError
from ...graphstore.model import (
    ChangeEvent,
    ChangeKind,
    Execution,
    FacetRef,
    Step,
    StepKind,
    Trace,
)
from ...graphstore.store import GraphStore
from ..model.client import PlainDialect
from ..outcome.cause import Cause, MissKind
from ..outcome.differences import (
    Difference,
    TaskContent,
    differences,
    request_differences,
    shown,
    task_differences,
)
from ..outcome.hiding import HIDDEN, is_secret, without_secrets
from ..replay.nearest_request import Request, comparable
from ..transcript import references, request_messages, text_of, with_values

__all__ = ["Diff", "compared", "diffs", "request_of"]

_MOST_LINES = 5_000  # of one document, of which lines are compared


@dataclass(frozen=True, slots=True)
class Diff:
    """Two documents that differ, as far as the store has them still.

    Attributes:
        about: What they are: a part of a resource, an output, a request, a task.
        before: What was recorded, as JSON; what is named as a secret is hidden. None: nothing.
        after: What was found, likewise.
        differences: Every place at which they differ.
        hint: What cannot be shown, and why; None if nothing is missing.
    """

    about: str
    before: Json = None
    after: Json = None
    differences: tuple[Difference, ...] = ()
    hint: str | None = None

    @property
    def lines(self) -> list[str]:
        """The lines of a unified diff; of documents that are too long for one, the differences."""
        before, after = _lines(self.before), _lines(self.after)
        if max(len(before), len(after)) > _MOST_LINES:
            return [str(it) for it in self.differences]
        told = difflib.unified_diff(before, after, "before", "after", lineterm="")
        return list(told)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "about": self.about,
            "before": self.before,
            "after": self.after,
            "differences": [it._asdict() for it in self.differences],
            "lines": self.lines,
            "hint": self.hint,
        }


def _lines(document: Json) -> list[str]:
    """A document line by line, also where a text in it has lines."""
    if document is None:
        return []
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return [part for line in text.splitlines() for part in _parted(line)]


def _parted(line: str) -> Iterator[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    first, *rest = line.split("\\n")
    yield f"{first}\\n" if rest else first
    for place, part in enumerate(rest, 1):
        yield f"{indent}{part}" + ("\\n" if place < len(rest) else "")


def compared(
    about: str,
    before: Any,
    after: Any,
    differing: Callable[..., tuple[Difference, ...]] = differences,
) -> Diff:
    """Two documents, with all places at which they differ."""
    try:
        return Diff(about, *_hidden(before, after), differing(before, after, most=None))
    except RecursionError:
        return Diff(about, hint="it is nested so deeply that it cannot be compared")


def _hidden(before: Any, after: Any) -> tuple[Any, Any]:
    """Both documents with their secrets hidden, so that it is seen whether they are the same."""
    match before, after:
        case Mapping(), Mapping():
            pairs = {
                key: _hidden_field(key, before.get(key, GONE), after.get(key, GONE))
                for key in (*before, *(it for it in after if it not in before))
            }
            return {it: pairs[it][0] for it in before}, {it: pairs[it][1] for it in after}
        case list(), list():
            many = min(len(before), len(after))
            shared = [_hidden(*it) for it in zip(before, after, strict=False)]
            return (
                [*(it[0] for it in shared), *(_hidden(it, GONE)[0] for it in before[many:])],
                [*(it[1] for it in shared), *(_hidden(GONE, it)[1] for it in after[many:])],
            )
    return without_secrets(before), without_secrets(after)


def _hidden_field(key: str, before: Any, after: Any) -> tuple[Any, Any]:
    if not is_secret(key, *(it for it in (before, after) if it is not GONE)):
        return _hidden(before, after)
    return HIDDEN, HIDDEN if before == after or before is GONE else f"{HIDDEN}, another one"


# From the store ---------------------------------------------------------------------------


class _Recorded(NamedTuple):
    """A store, the steps of the run that is asked about, and the traces of its task."""

    store: GraphStore
    run: Sequence[Step]
    traces: Sequence[Trace]

    def before(self, fits: Callable[[Step], bool]) -> tuple[Sequence[Step], Step] | None:
        """The first recorded step that fits, with the steps of its trace."""
        found = ((it.steps, step) for it in self.traces for step in it.steps if fits(step))
        return next(found, None)

    def after(self, fits: Callable[[Step], bool]) -> tuple[Sequence[Step], Step] | None:
        return next(((self.run, step) for step in self.run if fits(step)), None)


async def diffs(
    store: GraphStore,
    execution: Execution,
    steps: Sequence[Step],
    changes: Mapping[Cause, ChangeEvent | None],
    causes: Iterable[Cause],
) -> dict[Cause, Diff]:
    """What differs behind each cause of an execution with these ``steps``, as far as documents
    tell it."""
    recorded, found = _Recorded(store, steps, await _others(store, execution)), {}
    for cause in dict.fromkeys(causes):
        diff = await _told(recorded, cause, changes.get(cause))
        if diff is not None:
            found[cause] = diff
    return found


async def _others(store: GraphStore, execution: Execution) -> list[Trace]:
    """The traces of its task, the one that it followed first."""
    lookup = await store.lookup(execution.task, lambda _traces, _facts: None)
    traces = [it for it in lookup.traces if it.id not in (execution.id, execution.replayed)]
    followed = None if execution.replayed is None else await store.execution(execution.replayed)
    return traces if followed is None else [followed, *traces]


async def _told(recorded: _Recorded, cause: Cause, change: ChangeEvent | None) -> Diff | None:
    work: Awaitable[Diff | None]
    match cause.kind:
        case MissKind.NEW_TASK if cause.before is not None:
            about, work = "task", _of_tasks(recorded.store, cause.before, cause.node)
        case MissKind.OUTPUT_DIVERGED:
            about, work = f"output of {cause.node}", _of_outputs(recorded, cause)
        case MissKind.REQUEST_CHANGED if cause.before is not None:
            about, work = "request", _of_requests(recorded, cause)
        case MissKind.CODE_CHANGED:
            about, work = "request without its messages", _of_heads(recorded, cause)
        case _ if cause.facet is not None and change is not None:
            about, work = str(cause.facet), _of_fact(recorded.store, cause.facet, change)
        case _:
            return None
    try:
        return await work
    except (ExecgraphError, KeyError, ValueError, RecursionError) as error:
        return Diff(about, hint=f"it cannot be shown: {error}")


async def _of_fact(store: GraphStore, facet: FacetRef, change: ChangeEvent) -> Diff | None:
    if change.kind in (ChangeKind.EXPIRED, ChangeKind.RENEWED):
        return None  # one version, whose document may or may not be believed
    about = f"{facet}, version {change.from_version} -> {change.to_version}"
    parts: list[Json | Gone] = []
    hints = []
    for version in (change.from_version, change.to_version):
        found = await store.document(facet.resource, version) if version else None
        withdrawn = version == change.to_version and change.kind is ChangeKind.WITHDRAWN
        if found is None and version and not withdrawn:
            hints.append(f"version {version} is not there: it was withdrawn, or deleted since")
        parts.append(GONE if found is None else found[1].part(facet.selector))
    before, after = parts
    if GONE in parts:
        was, is_ = (None if it is GONE else shown(it) for it in parts)
        where: tuple[Difference, ...] = (Difference("$", was, is_),)
    else:
        where = differences(before, after, most=None)
    then, now = (None if it is GONE else it for it in _hidden(before, after))
    return Diff(about, then, now, where, "; ".join(hints) or None)


async def _of_outputs(recorded: _Recorded, cause: Cause) -> Diff | None:
    def gave(output_key: str | None) -> Callable[[Step], bool]:
        return lambda step: step.name == cause.node and step.output_key == output_key

    before, after = recorded.before(gave(cause.before)), recorded.after(gave(cause.after))
    if before is None or after is None:
        return None
    digests = [before[1].output, after[1].output]
    values = await recorded.store.values(digests)
    then, now = (decode(values[it]) for it in digests)
    return compared(f"output of {cause.node}", then, now)


async def _of_requests(recorded: _Recorded, cause: Cause) -> Diff | None:
    found = (
        recorded.before(lambda step: step.key == cause.before),
        recorded.after(lambda step: step.key == cause.after),
    )
    if found[0] is None or found[1] is None:
        return None
    before, after = [await request_of(recorded.store, *it) for it in found if it is not None]
    pair = comparable(before, after, PlainDialect())
    return compared("request", pair[0], pair[1], request_differences)


async def request_of(store: GraphStore, steps: Sequence[Step], step: Step) -> Request:
    """The request of a recorded decision. Raises PayloadCorrupted."""
    messages = request_messages(steps, step.position)
    assert step.head is not None
    values = await store.values({step.head, *messages})
    parts = {digest: decode(data) for digest, data in values.items()}
    named = {it for part in parts.values() for it in references(part)}
    texts = {key: text_of(data) for key, data in (await store.values(named)).items()}
    return Request(parts[step.head], tuple(with_values(parts[it], texts) for it in messages))


async def _of_heads(recorded: _Recorded, cause: Cause) -> Diff | None:
    """Of a decision: of a tool only digests are recorded."""

    def made_by(code_key: str | None) -> Callable[[Step], bool]:
        return lambda step: step.kind is StepKind.DECISION and step.code_key == code_key

    before, after = recorded.before(made_by(cause.before)), recorded.after(made_by(cause.after))
    if before is None or after is None:
        return None
    heads = [step.head for _, step in (before, after) if step.head is not None]
    values = await recorded.store.values(sorted(set(heads)))
    then, now = (decode(values[it]) for it in heads)
    return compared("request without its messages", then, now, request_differences)


async def _of_tasks(store: GraphStore, before: str, after: str) -> Diff | None:
    contents = []
    for key in (before, after):
        if (task := await store.task(key)) is None:
            return Diff("task", hint=f"the task {key} is not in the store")
        digests = [it for it in (task.inputs, task.context) if it is not None]
        values = await store.values(digests)
        contents.append(TaskContent(*(decode(values[it]) for it in digests)))
    where = task_differences(*contents, most=None)
    pair = ({"inputs": it.inputs, "context": it.context} for it in contents)
    return Diff("task", *_hidden(*pair), where)
