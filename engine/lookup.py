"""Finding what may be replayed: a plan, from the store or from this process's memory.

A *prepared* trace is one whose payloads are decoded once and kept in the process. It serves
again after one statement: its resources' versions are those that were accepted before, and its
execution is still published (I4).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..graphstore.canonical import Json, decode
from ..graphstore.facts import Facts
from ..graphstore.model import FacetRef, Precondition, Step, StepKind, Trace
from ..graphstore.store import GraphStore
from .cause import Cause, MissKind
from .client import Call, Dialect
from .economics import Spared, spared_by
from .notes import Note
from .output import KnownOutput
from .reading import Reading
from .result import Outcome
from .subject import Subject
from .taken import Taken
from .verdict import Code, Recorded, assess, chosen

__all__ = [
    "MEMORY_BYTES",
    "Decision",
    "Memory",
    "MemoryKey",
    "Plan",
    "Prepared",
    "find_plan",
    "look_up",
    "memory_key",
    "no_plan",
]

#: A decoded reply takes about so many times its bytes; a step as it was judged, so many bytes.
_DECODED = 6
_STEP_BYTES = 4096
#: By which an output is known without being written: at most so many bytes.
_MARK = 4096
#: What a process remembers, in bytes, unless it is told otherwise.
MEMORY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Decision:
    """A reply as a run goes on with it. ``noted``: the facts noted for the calls in it.

    ``readings``: its calls as their tools take them, if they have been read.
    """

    position: int
    reply: Json
    calls: tuple[Call, ...]
    noted: Mapping[FacetRef, Note]
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A trace with its steps judged, and the payloads that replaying needs."""

    trace: Trace
    judged: tuple[Recorded, ...]
    accepted: Mapping[str, int]  # resource -> the version by which its guards were judged
    values: Mapping[str, bytes]
    dialect: Dialect
    store: str = ""  # the incarnation of the store whose versions were accepted
    _served: dict[int, tuple[Decision, Taken]] = field(default_factory=dict)
    _reused: dict[int, Taken] = field(default_factory=dict)
    _outputs: dict[int, KnownOutput] = field(default_factory=dict)

    @cached_property
    def stands(self) -> bool:
        """Whether every step stands."""
        return all(recorded.cause is None for recorded in self.judged)

    @cached_property
    def actions(self) -> Mapping[tuple[int, int], Recorded]:
        """Actions by the decision and the number of the call that they carry out."""
        return {
            (it.step.decision, it.step.call): it
            for it in self.judged
            if it.step.decision is not None and it.step.call is not None
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
            len(data) * (1 + _DECODED) if digest in replies else len(data) + min(len(data), _MARK)
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

    def serve(self, recorded: Recorded) -> tuple[Decision, Taken]:
        """A recorded decision as a run goes on with it, decoded once. Not to be changed."""
        step = recorded.step
        if (known := self._served.get(step.position)) is None:
            output = self.output(step)
            reply = decode(output)
            calls = self.dialect.calls(reply)
            decision = Decision(step.position, reply, calls, recorded.noted)
            taken = Taken(step, Outcome.REPLAYED, output, noted=decision.noted, copied=True)
            known = self._served[step.position] = (decision, taken)
        return known

    def reuse(self, recorded: Recorded) -> Taken:
        """A recorded pure action as runs take it. Not to be changed."""
        step = recorded.step
        if (taken := self._reused.get(step.position)) is None:
            output, noted = self.output(step), recorded.noted
            taken = Taken(step, Outcome.REUSED, output, noted=noted, copied=True, followed=True)
            self._reused[step.position] = taken
        return taken


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
        """All that guards a step of its traces."""
        return {key: guard for it in self.traces for key, guard in it.preconditions.items()}


def no_plan(*causes: Cause) -> Plan:
    """Nothing to follow, for these causes."""
    return Plan(None, (), None, causes)


MemoryKey = tuple[str, ...]


def memory_key(namespace: str, task: str, code: Code) -> MemoryKey:
    """What this process remembers of a task depends on the code that asks."""
    return (namespace, task, code.identity)


class Memory:
    """Prepared traces of this process by task and code, at most ``limit`` bytes of them; the
    least recently used go first, and one that is larger by itself is not kept.

    It also remembers which trace a run last came out as, if it was not the one it followed: of
    traces that stand alike, that one is followed next. Only pure data, so that it may be shared
    between event loops and survives a fork. Without a lock, which a fork could leave held: what
    another thread has dropped in between is passed over, and what was replaced counts until all
    is counted again.
    """

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self._limit = limit
        self._taken = 0  # bytes, or more than that
        self._known: OrderedDict[MemoryKey, Prepared | str] = OrderedDict()

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return sum(_size_of(it) for it in tuple(self._known.values()))

    def get(self, key: MemoryKey) -> Prepared | None:
        """The trace to follow; None if it is not known."""
        found = self._known.get(key)
        if not isinstance(found, Prepared):
            return None
        self._touch(key)
        return found

    def preferred(self, key: MemoryKey) -> str | None:
        """The id of the trace to be followed, if it stands."""
        found = self._known.get(key)
        return found if isinstance(found, str) else None

    def put(self, key: MemoryKey, trace: Prepared | str) -> None:
        """Remember a trace, or the id of one that is to be looked up."""
        if (size := _size_of(trace)) > self._limit:
            self.drop(key)
            return
        self._known[key] = trace
        self._touch(key)
        self._taken += size
        if self._taken > self._limit:
            self._make_room_for(key)

    def _make_room_for(self, newest: MemoryKey) -> None:
        """Count what there is; if that is too much, leave a tenth free, or it would be counted
        at each trace that comes."""
        taken = self.size
        if taken > self._limit:
            for key, trace in tuple(self._known.items()):
                if taken <= self._limit * 0.9 or key == newest:
                    break
                self.drop(key)
                taken -= _size_of(trace)
        self._taken = taken

    def drop(self, key: MemoryKey) -> None:
        """Forget a trace that no longer stands."""
        self._known.pop(key, None)

    def _touch(self, key: MemoryKey) -> None:
        with suppress(KeyError):
            self._known.move_to_end(key)


def _size_of(trace: Prepared | str) -> int:
    return _STEP_BYTES if isinstance(trace, str) else trace.size


async def find_plan(
    store: GraphStore, namespace: str, task: str, subject: Subject, memory: Memory
) -> Plan:
    """The plan for the task with this key, as things are at one moment during the call."""
    key = memory_key(namespace, task, subject.code)
    here = await store.incarnation()
    if (known := memory.get(key)) is not None:
        if known.store == here and await store.still(namespace, known.trace.id, known.accepted):
            return Plan(known, (known.trace,), None, ())
        memory.drop(key)
    plan = await look_up(store, namespace, task, subject, prefer=memory.preferred(key))
    if plan.best is not None and plan.best.stands:
        memory.put(key, replace(plan.best, store=here))
    return plan


async def look_up(
    store: GraphStore,
    namespace: str,
    task: str,
    subject: Subject,
    *,
    prefer: str | None = None,
) -> Plan:
    """The plan from the store, whatever this process remembers."""
    # By the versions of the last call of ``choose``, which are those of the answer.
    judged: dict[str, tuple[Recorded, ...]] = {}

    def choose(traces: Sequence[Trace], facts: Facts) -> str | None:
        judged.update({trace.id: assess(trace, facts, subject.code) for trace in traces})
        best = chosen(traces, judged, prefer)
        return best.id if best is not None else None

    found = await store.lookup(namespace, task, choose)
    damaged = tuple(Cause(MissKind.PAYLOAD_DAMAGED, trace) for trace in found.damaged)
    best = next((trace for trace in found.traces if trace.id == found.chosen), None)
    if best is None:
        return no_plan(*(damaged or (Cause(MissKind.NEW_TASK, task),)))
    prepared = Prepared(
        trace=best,
        judged=judged[best.id],
        accepted={uri: found.facts.of(uri).version for uri in best.resources},
        values=_of_steps(best, found.values),
        dialect=subject.dialect,
    )
    return Plan(prepared, found.traces, found.facts, (*damaged, *_why_not_all(prepared)))


def _of_steps(trace: Trace, values: Mapping[str, bytes]) -> dict[str, bytes]:
    """What replaying needs of a trace's payloads: requests are not built from what was asked."""
    wanted = {it for step in trace.steps for it in (step.arguments, step.output)}
    return {digest: data for digest, data in values.items() if digest in wanted}


def _why_not_all(prepared: Prepared) -> tuple[Cause, ...]:
    """Each cause for which a step does not stand, once."""
    if prepared.stands:
        return ()
    causes = (recorded.cause for recorded in prepared.judged)
    return tuple(dict.fromkeys(cause for cause in causes if cause is not None))
