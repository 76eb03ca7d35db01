"""How what a run did is written into the journal, and read from it."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...graphstore.model import FacetRef, JournalEntry, Precondition, Step, StepKind, Value
from ..outcome.result import Outcome
from .noted_facts import Note
from .run_step import RunStep

__all__ = ["Begun", "KeptStep", "entry_of_effect", "entry_of_step", "read_entry"]


@dataclass(frozen=True)
class KeptStep:
    """A step as it was kept. ``notes``: what guards it. ``noted``: all that was known before it.
    ``called``: what a program called. ``whole``: an output with its marked values."""

    step: Step
    notes: tuple[Note, ...]
    noted: Mapping[FacetRef, Note] = field(default_factory=dict)
    output: bytes = b"null"
    values: tuple[Value, ...] = ()
    called: str = ""
    whole: bytes | None = None

    def run_step(self, step: Step, output: bytes, *, ticket: int | None) -> RunStep:
        """The step that it is in a run which it stands in."""
        decided = step.kind is StepKind.DECISION
        return RunStep(
            step,
            Outcome.REPLAYED if decided else Outcome.REUSED,
            output,
            ticket=ticket,
            notes=self.notes,
            noted=self.noted,
            values=self.values,
            called=self.called,
            whole=self.whole,
            stands=True,
        )


@dataclass(frozen=True)
class Begun:
    """An effect is about to begin, after so many ``steps``, by the code of its tool. Of an agent
    also by which call of which decision."""

    effect: str
    steps: int
    code_key: str
    decision: int | None
    call: int | None


@dataclass(frozen=True)
class _Where:
    """To what an entry belongs."""

    task: str
    execution: str
    wish: str | None


def entry_of_step(
    task: str, execution: str, number: int, run_step: RunStep, wish: str | None
) -> JournalEntry:
    """A step, as it is kept until its run ends: of a run without an id what is needed to serve a
    decision, of one with an id all of it. ``number``: how many entries there are before."""
    kept: dict[str, Any] = {
        "step": run_step.as_recorded.model_dump(mode="json", exclude_defaults=True),
        "notes": [_written(it) for it in _guards(run_step)],
        "output": run_step.output.decode(),
    }
    if wish is not None:
        kept |= {
            "noted": [_written(it) for it in run_step.noted.values()],
            "values": [it.data.decode() for it in run_step.values],
            "called": run_step.called,
            "whole": None if run_step.whole is None else run_step.whole.decode(),
        }
    return _entry(_Where(task, execution, wish), number, kept)


def entry_of_effect(
    task: str, execution: str, number: int, begun: Begun, wish: str
) -> JournalEntry:
    """That an effect is about to begin."""
    return _entry(_Where(task, execution, wish), number, asdict(begun))


def read_entry(namespace: str, entry: JournalEntry) -> KeptStep | Begun | None:
    """What was kept; None of what is damaged."""
    try:
        kept: dict[str, Any] = json.loads(zlib.decompress(entry.entry))
        if "effect" in kept:
            return Begun(**kept)
        noted = [_read(namespace, it) for it in kept.get("noted", ())]
        return KeptStep(
            Step.model_validate(kept["step"]),
            tuple(_read(namespace, it) for it in kept["notes"]),
            {note.guard.ref: note for note in noted},
            kept["output"].encode(),
            tuple(Value.of(it.encode()) for it in kept.get("values", ())),
            kept.get("called", ""),
            None if kept.get("whole") is None else kept["whole"].encode(),
        )
    except (ValueError, KeyError, TypeError, zlib.error):
        return None


def _entry(where: _Where, number: int, kept: Mapping[str, Any]) -> JournalEntry:
    data = zlib.compress(json.dumps(kept).encode())
    now = time.time_ns() // 1_000_000
    return JournalEntry(where.task, where.execution, number, now, data, where.wish)


def _guards(run_step: RunStep) -> Sequence[Note]:
    """The notes of what guards a step; of one that was served they are among what was noted."""
    if run_step.notes:
        return run_step.notes
    return [it for it in run_step.noted.values() if it.guard.id in run_step.step.guards]


def _written(note: Note) -> list[Any]:
    return [*note.guard.ref, note.guard.fingerprint, note.version, note.believed]


def _read(namespace: str, written: Sequence[Any]) -> Note:
    uri, selector, at, version, believed = written
    return Note(Precondition.of(namespace, FacetRef(uri, selector), at), version, believed)
