"""The values that fields had in the recorded runs of an agent, and which could be marked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from ...graphstore.canonical import encode
from ..tools.marks import Marks
from .fields import Field, Mark, Scalar, differs, fields_of, is_marked, mark_for
from .past_run import Marking, PastRun

__all__ = ["FieldValues"]


class _Document(NamedTuple):
    """A document that a model was shown before its next decision. ``place``: which of a run it
    is; ``position``: the step that gave it, -1 for the task."""

    place: tuple[str, int | None, int | None]
    position: int
    fields: Mapping[Field, tuple[Scalar, ...]]


class FieldValues:
    """The fields of what was shown to the model in some runs of one agent, the oldest first."""

    def __init__(self, runs: Sequence[PastRun]) -> None:
        self._runs = runs
        self._documents = [_documents(run) for run in runs]

    def of(self, field: Field, run: int, *, before: int) -> tuple[bytes, ...]:
        """The values of a field in a run, as they were shown before the step at a position."""
        return tuple(
            encode(value)
            for document in self._documents[run]
            if document.position < before
            for value in document.fields.get(field, ())
        )

    def has(self, field: Field) -> bool:
        """Whether a run was shown the field."""
        return field in self._values

    @cached_property
    def marked(self) -> dict[Field, Mark]:
        """The fields that are marked already, as the newest run tells that was shown them."""
        newest: dict[Field, tuple[Scalar, ...]] = {}
        for documents in self._documents:
            for document in documents:
                newest.update(document.fields)
        return {it: "opaque" for it, values in newest.items() if values and is_marked(values)}

    def candidates(self) -> dict[Field, Mark]:
        """The fields that differ nearly each time and could be marked, as far as looks go."""
        inputs = {it: mark for it, mark in self._inputs().items() if it not in self.marked}
        outputs = self._outputs({**self.marked, **inputs})
        return {**inputs, **{it: mark for it, mark in outputs.items() if it not in self.marked}}

    def speaks_against(self, field: Field, mark: Mark) -> bool:
        """Whether by the looks of its values, and by what was said, another mark fits, or none."""
        return mark == "unseen" and self._mark(field) != "unseen"

    # Which differ ---------------------------------------------------------------------------

    def _inputs(self) -> dict[Field, Mark]:
        if self._runs[-1].is_marked:  # and what of them is, nobody can tell
            return {}
        tasks = {
            encode([run.inputs, run.context]): documents[0].fields
            for run, documents in zip(self._runs, self._documents, strict=True)
            if not run.is_marked
        }
        newest = self._documents[-1][0].fields
        recordings: dict[Field, list[tuple[Scalar, ...]]] = defaultdict(list)
        for fields in tasks.values():
            for field, values in fields.items():
                recordings[field].append(values)
        return {
            field: mark
            for field, some in recordings.items()
            if field in newest and differs([some]) and (mark := self._mark(field)) is not None
        }

    def _outputs(self, inputs: Mapping[Field, Mark]) -> dict[Field, Mark]:
        """``inputs``: those that differ; what gave outputs is compared as if they were equal."""
        selectors = [field.selector for field in inputs if not field.tool]
        marking = Marking(Marks("the task", selectors))
        recordings: dict[Field, dict[object, list[tuple[Scalar, ...]]]]
        recordings = defaultdict(lambda: defaultdict(list))
        for run, documents in zip(self._runs, self._documents, strict=True):
            task = run.task if run.is_marked else run.task_under(marking).key
            for document in documents[1:]:
                for field, values in document.fields.items():
                    recordings[field][task, *document.place].append(values)
        return {
            field: mark
            for field, places in recordings.items()
            if field in self._newest_outputs
            and differs(places.values())
            and (mark := self._mark(field)) is not None
        }

    @cached_property
    def _newest_outputs(self) -> set[Field]:
        """The fields of the newest output of each tool: what is unseen by now is not among them."""
        newest: dict[str, Mapping[Field, object]] = {}
        for documents in self._documents:
            for document in documents[1:]:
                newest[document.place[0]] = document.fields
        return {field for fields in newest.values() for field in fields}

    def _mark(self, field: Field) -> Mark | None:
        values, runs = self._values[field]
        said = (text for run in runs for text in self._runs[run].said)
        return mark_for(values, said, is_input=not field.tool)

    @cached_property
    def _values(self) -> Mapping[Field, tuple[list[Scalar], list[int]]]:
        """All values of each field, and the runs that were shown one."""
        found: dict[Field, tuple[list[Scalar], list[int]]] = defaultdict(lambda: ([], []))
        for number, documents in enumerate(self._documents):
            for document in documents:
                for field, values in document.fields.items():
                    found[field][0].extend(values)
                    if number not in found[field][1][-1:]:
                        found[field][1].append(number)
        return found


def _documents(run: PastRun) -> list[_Document]:
    """The inputs, and then each output that is no error."""
    inputs = {} if run.is_marked else fields_of("", run.inputs)
    return [_Document(("", None, None), -1, inputs), *_outputs(run)]


def _outputs(run: PastRun) -> Iterable[_Document]:
    many: dict[str, int] = defaultdict(int)
    for action in run.actions:
        many[action.name] += 1
        if not action.error:
            place = (action.name, action.decision, action.call)
            if run.kind == "program":
                place = (action.name, None, many[action.name])
            yield _Document(place, action.position, fields_of(action.name, run.json(action.output)))
