"""Finding what may be replayed: a plan, from the store or from this process's memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ...graphstore.canonical import decode
from ...graphstore.facts import Facts
from ...graphstore.model import Step, StepKind, Trace
from ...graphstore.roles.lookups import Lookup
from ...graphstore.store import RunStore
from ..outcome.cause import Cause, MissKind
from ..outcome.differences import Difference
from ..sessions.memory import Memory, MemoryKey
from ..task import Task
from .changed_code import changed_decision, changed_head
from .definition import Definition
from .judging import Code, Recorded, chosen
from .plan import Plan, Prepared, no_plan

__all__ = ["find_plan", "look_up", "memory_key"]


def memory_key(namespace: str, task: str, code: Code) -> MemoryKey:
    """What this process remembers of a task depends on the code that asks."""
    return (namespace, task, code.identity)


async def find_plan(
    store: RunStore,
    task: Task,
    definition: Definition,
    memory: Memory,
    alive: Collection[str] = (),
) -> Plan:
    """The plan for a task, as things are at one moment. One from memory also says that no run of
    the exact task is unfinished, but for those of the processes that are ``alive``."""
    key = memory_key(store.namespace, task.key, definition.code)
    here = await store.incarnation()
    known = memory.get(key)
    if isinstance(known, Prepared):
        young, accepted = not definition.finds_too_old(known.trace), known.accepted
        there = young and known.store == here
        if there and await store.still(known.trace.id, accepted, exact=task.exact, alive=alive):
            return Plan(known, (known.trace,), None, ())
        memory.drop(key)
    prefer = known if isinstance(known, str) else None
    plan = await look_up(store, task.key, definition, prefer=prefer)
    if plan.best is not None and plan.best.stands:
        best = replace(plan.best, store=here)
        memory.put(key, best, best.size)
    return plan


async def look_up(
    store: RunStore,
    task: str,
    definition: Definition,
    *,
    prefer: str | None = None,
) -> Plan:
    """The plan from the store for the task with this key, whatever this process remembers."""

    def choose(traces: Sequence[Trace], facts: Facts) -> str | None:
        judged = {trace.id: definition.assess(trace, facts) for trace in traces}
        best = chosen(traces, judged, prefer)
        return best.id if best is not None else None

    lookup = await store.lookup(task, choose)
    damaged = tuple(Cause(MissKind.PAYLOAD_DAMAGED, trace) for trace in lookup.damaged)
    best = next((trace for trace in lookup.traces if trace.id == lookup.chosen), None)
    if best is None:
        return no_plan(*(damaged or (Cause(MissKind.NEW_TASK, task),)))
    prepared = Prepared(
        trace=best,
        judged=_explained(definition.assess(best, lookup.facts), best, lookup, definition),
        accepted={uri: lookup.facts.of(uri).version for uri in best.resources},
        values=_of_steps(best, lookup.values),
        dialect=definition.dialect,
    )
    return Plan(prepared, lookup.traces, lookup.facts, (*damaged, *_why_not_all(prepared)))


def _of_steps(trace: Trace, values: Mapping[str, bytes]) -> dict[str, bytes]:
    """What replaying needs of a trace's payloads: requests are not built from what was asked."""
    wanted = {digest for step in trace.steps for digest in (step.arguments, step.output)}
    return {digest: data for digest, data in values.items() if digest in wanted}


def _explained(
    judged: Sequence[Recorded], trace: Trace, lookup: Lookup, definition: Definition
) -> tuple[Recorded, ...]:
    """The steps as they were judged; of decisions that other code made, with what is different."""
    causes: dict[tuple[str | None, Cause], Cause] = {}
    explained = []
    for recorded in judged:
        step, cause = recorded.step, recorded.cause
        if cause is not None and _is_own_code(cause, step):
            if (known := (step.head, cause)) not in causes:
                head = None if step.head is None else lookup.values.get(step.head)
                where = _changed_decision(step, trace, head, definition)
                causes[known] = replace(cause, differences=where)
            recorded = replace(recorded, cause=causes[known])  # noqa: PLW2901
        explained.append(recorded)
    return tuple(explained)


def _changed_decision(
    step: Step, trace: Trace, head: bytes | None, definition: Definition
) -> tuple[Difference, ...]:
    code, dialect = definition.code, definition.dialect
    heads = () if head is None else changed_head(dialect, decode(head), definition.head)
    return (*heads, *changed_decision(step, trace, code.requires, code.tools.values()))


def _is_own_code(cause: Cause, step: Step) -> bool:
    """Whether a decision does not stand because of its own code, and not because of a tool's."""
    decision = step.kind is StepKind.DECISION and cause.kind is MissKind.CODE_CHANGED
    return decision and cause.before == step.code_key


def _why_not_all(prepared: Prepared) -> tuple[Cause, ...]:
    """The causes for which steps do not stand, each once."""
    if prepared.stands:
        return ()
    causes = (recorded.cause for recorded in prepared.judged)
    return tuple(dict.fromkeys(cause for cause in causes if cause is not None))
