"""What a run of a task would do, before it does anything."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from ...graphstore.model import Mode, StepKind
from .cause import Cause
from .fate import Fate
from .html import page, table

__all__ = ["PlannedStep", "RunPlan"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a run that is foreseen.

    Attributes:
        kind: A decision of the model or an action of a tool.
        name: The model's or the tool's name; empty if it is not known.
        fate: ``served``, ``run again`` (its tool is called) or ``asked``.
        tokens: What it had cost when it was recorded; None if nothing is recorded of it.
        writes: Its tool acts on the outside when it runs.
        cause: Why it is not served; None if it is, or is never served.
    """

    kind: StepKind
    name: str
    fate: Fate
    tokens: int | None = 0
    writes: bool = False
    cause: Cause | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "kind": self.kind.value,
            "name": self.name,
            "fate": self.fate.value,
            "tokens": self.tokens,
            "writes": self.writes,
            "cause": None if self.cause is None else str(self.cause),
        }


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run of a task would do now, if what it asks and runs gives what it gave before.

    Attributes:
        agent: Whose run it is.
        task: The task's key.
        trace: The id of the trace that the run would follow; None: there is none.
        steps: Each step that is foreseen, in order; none of a task of which nothing is recorded.
        causes: Why it would be no plain replay, each cause once.
    """

    agent: str
    task: str
    trace: str | None = None
    steps: tuple[PlannedStep, ...] = ()
    causes: tuple[Cause, ...] = ()

    @property
    def mode(self) -> Mode:
        """What kind of run it would be: ``replay``, ``partial`` or ``live``."""
        fates = {step.fate for step in self.steps}
        if self.steps and Fate.ASKED not in fates:
            return Mode.REPLAY
        return Mode.PARTIAL if Fate.SERVED in fates else Mode.LIVE

    @property
    def tokens(self) -> int | None:
        """What would be paid, in tokens; None if a part of it was never recorded."""
        return self._paid([step for step in self.steps if step.fate is Fate.ASKED])

    @property
    def tokens_at_most(self) -> int | None:
        """The tokens if all is asked that follows from what is asked or run again, since that may
        give something else; of a longer conversation than the recorded one it may be more."""
        return self._paid(list(dropwhile(lambda step: step.fate is Fate.SERVED, self.steps)))

    @property
    def saved_tokens(self) -> int:
        """What had been paid for what would be served, in tokens."""
        return sum(step.tokens or 0 for step in self.steps if step.fate is Fate.SERVED)

    @property
    def writes(self) -> tuple[str, ...]:
        """The names of the tools that would act on the outside, in order."""
        return tuple(step.name for step in self.steps if step.writes)

    def _paid(self, steps: list[PlannedStep]) -> int | None:
        if not self.steps or any(step.tokens is None for step in steps):
            return None
        return sum(step.tokens or 0 for step in steps)

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            Its attributes and properties by their names.
        """
        return {
            "agent": self.agent,
            "task": self.task,
            "trace": self.trace,
            "mode": self.mode.value,
            "tokens": self.tokens,
            "tokens_at_most": self.tokens_at_most,
            "saved_tokens": self.saved_tokens,
            "writes": list(self.writes),
            "steps": [step.as_json() for step in self.steps],
            "causes": [str(cause) for cause in self.causes],
        }

    def __str__(self) -> str:
        lines = [f"{self._title}, {self._told}"]
        lines += [f"miss: {cause}" for cause in self.causes]
        if self.writes:
            lines.append(f"writes: {', '.join(self.writes)}")
        return "\n".join(lines)

    @property
    def _title(self) -> str:
        return f"plan of {self.agent}: {self.mode}"

    @property
    def _told(self) -> str:
        paid = "an unknown number of" if self.tokens is None else f"{self.tokens:,}"
        return f"{paid} tokens to be paid, {self.saved_tokens:,} saved"

    def _repr_html_(self) -> str:
        head = ("", "step", "", "cause", "tokens")
        rows = [
            (
                *(position, f"{it.kind} {it.name}", it.fate, it.cause),
                "" if it.tokens is None else f"{it.tokens:,}",
            )
            for position, it in enumerate(self.steps)
        ]
        return page(
            self._title,
            self._told,
            *map(str, self.causes),
            table(head, rows, numbers=1),
        )
