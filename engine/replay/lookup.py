"""Finding what may be replayed: a plan, from the store or from this process's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...graphstore.facts import Facts
from ...graphstore.model import Trace
from ...graphstore.store import RunStore
from ..outcome.cause import Cause, MissKind
from ..sessions.memory import Memory, MemoryKey
from .definition import Definition
from .judging import Code, assess, chosen
from .plan import Plan, Prepared, no_plan

__all__ = ["find_plan", "look_up", "memory_key"]


def memory_key(namespace: str, task: str, code: Code) -> MemoryKey:
    """What this process remembers of a task depends on the code that asks."""
    return (namespace, task, code.identity)


async def find_plan(store: RunStore, task: str, definition: Definition, memory: Memory) -> Plan:
    """The plan for the task with this key, as things are at one moment during the call."""
    key = memory_key(store.namespace, task, definition.code)
    here = await store.incarnation()
    known = memory.get(key)
    if isinstance(known, Prepared):
        if known.store == here and await store.still(known.trace.id, known.accepted):
            return Plan(known, (known.trace,), None, ())
        memory.drop(key)
    prefer = known if isinstance(known, str) else None
    plan = await look_up(store, task, definition, prefer=prefer)
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
    """The plan from the store, whatever this process remembers."""

    def choose(traces: Sequence[Trace], facts: Facts) -> str | None:
        judged = {trace.id: assess(trace, facts, definition.code) for trace in traces}
        best = chosen(traces, judged, prefer)
        return best.id if best is not None else None

    lookup = await store.lookup(task, choose)
    damaged = tuple(Cause(MissKind.PAYLOAD_DAMAGED, trace) for trace in lookup.damaged)
    best = next((trace for trace in lookup.traces if trace.id == lookup.chosen), None)
    if best is None:
        return no_plan(*(damaged or (Cause(MissKind.NEW_TASK, task),)))
    prepared = Prepared(
        trace=best,
        judged=assess(best, lookup.facts, definition.code),
        accepted={uri: lookup.facts.of(uri).version for uri in best.resources},
        values=_of_steps(best, lookup.values),
        dialect=definition.dialect,
    )
    return Plan(prepared, lookup.traces, lookup.facts, (*damaged, *_why_not_all(prepared)))


def _of_steps(trace: Trace, values: Mapping[str, bytes]) -> dict[str, bytes]:
    """What replaying needs of a trace's payloads: requests are not built from what was asked."""
    wanted = {digest for step in trace.steps for digest in (step.arguments, step.output)}
    return {digest: data for digest, data in values.items() if digest in wanted}


def _why_not_all(prepared: Prepared) -> tuple[Cause, ...]:
    """The causes for which steps do not stand, each once."""
    if prepared.stands:
        return ()
    causes = (recorded.cause for recorded in prepared.judged)
    return tuple(dict.fromkeys(cause for cause in causes if cause is not None))
