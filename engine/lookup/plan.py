"""What may be replayed of a task: a trace with its steps judged, and the others beside it.

A *prepared* trace is one whose payloads are decoded once and kept in the process. It serves
again after one statement: its resources' versions are those that were accepted before, and its
execution is still published (I4, no stale replay).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ...graphstore.canonical import Json, decode
from ...graphstore.facts import Facts
from ...graphstore.model import FacetRef, Precondition, Step, StepKind, Trace
from ..model.client import Call, Dialect
from ..model.prices import Spared, spared_by
from ..outcome.cause import Cause
from ..outcome.result import Outcome
from ..steps.noted_facts import Note
from ..steps.run_step import RunStep
from ..tools.known_output import KnownOutput
from ..tools.parsed_call import ParsedCall
from .judging import Recorded

__all__ = ["Decision", "Plan", "Prepared", "no_plan"]

#: A decoded reply takes about so many times its bytes; a step as it was judged, so many bytes.
_DECODED = 6
_STEP_BYTES = 4096
#: By which an output is known without being written: at most so many bytes.
_COMPARED = 4096


@dataclass(frozen=True, slots=True)
class Decision:
    """A reply as a run goes on with it. ``noted``: the facts noted for the calls in it.

    ``parsed_calls``: its calls as their tools take them, if they have been read.
    """

    position: int
    reply: Json
    calls: tuple[Call, ...]
    noted: Mapping[FacetRef, Note]
    parsed_calls: tuple[ParsedCall, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A trace with its steps judged, and the payloads that replaying needs."""

    trace: Trace
    judged: tuple[Recorded, ...]
    accepted: Mapping[str, int]  # resource -> the version by which its guards were judged
    values: Mapping[str, bytes]
    dialect: Dialect
    store: str = ""  # the incarnation of the store whose versions were accepted
    _served: dict[int, tuple[Decision, RunStep]] = field(default_factory=dict)
    _reused: dict[int, RunStep] = field(default_factory=dict)
    _outputs: dict[int, KnownOutput] = field(default_factory=dict)

    @cached_property
    def stands(self) -> bool:
        """Whether every step stands."""
        return all(recorded.cause is None for recorded in self.judged)

    @cached_property
    def actions(self) -> Mapping[tuple[int, int], Recorded]:
        """Actions by the decision and the number of the call that they carry out."""
        return {
            (recorded.step.decision, recorded.step.call): recorded
            for recorded in self.judged
            if recorded.step.decision is not None and recorded.step.call is not None
        }

    @cached_property
    def spared(self) -> Spared:
        """What its decisions had cost."""
        return spared_by(self.trace.steps)

    @cached_property
    def size(self) -> int:
        """About how many bytes it takes in the process, its replies decoded."""
        replies = {it.output for it in self.trace.steps if it.kind is StepKind.DECISION}
        payloads = sum(
            len(data) + (len(data) * _DECODED if digest in replies else min(len(data), _COMPARED))
            for digest, data in self.values.items()
        )
        return payloads + _STEP_BYTES * (1 + len(self.trace.steps))

    def output(self, step: Step) -> bytes:
        """A step's exact output."""
        return self.values[step.output]

    def known(self, step: Step) -> KnownOutput:
        """An action's output, to be compared with what its tool gives when it runs again."""
        if (known := self._outputs.get(step.position)) is None:
            known = self._outputs[step.position] = KnownOutput(self.output(step))
        return known

    def arguments(self, step: Step) -> bytes:
        """An action's exact arguments."""
        assert step.arguments is not None
        return self.values[step.arguments]

    def serve(self, recorded: Recorded) -> tuple[Decision, RunStep]:
        """A recorded decision as a run goes on with it, decoded once. Not to be changed."""
        step = recorded.step
        if (known := self._served.get(step.position)) is None:
            output = self.output(step)
            reply = decode(output)
            calls = self.dialect.calls(reply)
            decision = Decision(step.position, reply, calls, recorded.noted)
            run_step = RunStep(
                step,
                Outcome.REPLAYED,
                output,
                noted=decision.noted,
                copied=True,
                trace=recorded.trace,
            )
            known = self._served[step.position] = (decision, run_step)
        return known

    def reuse(self, recorded: Recorded) -> RunStep:
        """A recorded pure action as runs take it. Not to be changed."""
        step = recorded.step
        if (run_step := self._reused.get(step.position)) is None:
            output, noted = self.output(step), recorded.noted
            run_step = RunStep(
                step,
                Outcome.REUSED,
                output,
                noted=noted,
                copied=True,
                followed=True,
                trace=recorded.trace,
            )
            self._reused[step.position] = run_step
        return run_step


@dataclass(frozen=True)
class Plan:
    """What a task's traces allow: ``best`` is followed, the others may serve by key.

    ``facts`` are those under which ``traces`` were judged; None in a plan from memory, whose
    every step stands. ``causes`` say why there is no more to follow.
    """

    best: Prepared | None
    traces: tuple[Trace, ...]
    facts: Facts | None
    causes: tuple[Cause, ...]

    @property
    def complete(self) -> bool:
        """Whether the model need not be asked, as far as can be known beforehand."""
        return self.best is not None and self.best.stands and self.best.trace.execution.complete

    @property
    def from_memory(self) -> bool:
        """Whether it knows only the trace that this process remembers."""
        return self.best is not None and self.facts is None

    @property
    def expired(self) -> frozenset[str]:
        """Resources of its traces that are present, and no longer to be believed."""
        return frozenset() if self.facts is None else self.facts.expired()

    @property
    def preconditions(self) -> dict[str, Precondition]:
        """The preconditions that guard a step of the traces."""
        return {
            key: guard for prepared in self.traces for key, guard in prepared.preconditions.items()
        }


def no_plan(*causes: Cause) -> Plan:
    """A plan with nothing to follow, for these causes."""
    return Plan(None, (), None, causes)
