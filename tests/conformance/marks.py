"""Recordings whose steps branch, and what the marks on their steps must be."""

from __future__ import annotations

from collections.abc import Sequence

from execgraph.graphstore.canonical import encode, fingerprint, hash_of
from execgraph.graphstore.facts import Facts
from execgraph.graphstore.model import (
    Execution,
    ExecutionState,
    Mode,
    Precondition,
    Recording,
    Step,
    StepKind,
    Task,
    Trace,
    Value,
)
from execgraph.graphstore.roles.marks import WALK_BATCH
from execgraph.graphstore.store import GraphStore

__all__ = ["branching_recording", "expected_marks", "walk_all"]

Guards = Sequence[Sequence[Precondition]]
Feeds = Sequence[Sequence[int]]


def branching_recording(
    name: str, guards: Guards, feeds: Feeds, *, state: ExecutionState = ExecutionState.RUNNING
) -> Recording:
    """A run of pure actions, one for each of ``guards``, the guards of each step; ``feeds`` are
    the positions that feed each. The name is that of its task too."""
    output = Value.of(encode({"done": True}))
    inputs = Value.of(encode({"task": name}))
    steps = tuple(
        Step(
            position=position,
            kind=StepKind.ACTION,
            name="look",
            key=hash_of("step", name, position),
            occurrence=0,
            code_key=hash_of("code", "look"),
            output=output.digest,
            output_key=fingerprint({"done": True}),
            guards=tuple(sorted({it.id for it in held})),
            feeds=tuple(sorted(fed)),
        )
        for position, (held, fed) in enumerate(zip(guards, feeds, strict=True))
    )
    return Recording(
        task=Task(key=name, agent="looker", inputs=inputs.digest),
        execution=Execution(
            id=f"{name}-1",
            task=name,
            agent="looker",
            mode=Mode.LIVE,
            state=state,
            started_at=1_700_000_000_000,
            steps=len(steps),
        ),
        steps=steps,
        preconditions=tuple({it.id: it for held in guards for it in held}.values()),
        values=(output, inputs),
    )


def expected_marks(trace: Trace, facts: Facts) -> dict[int, str]:
    """What the marks of ``trace`` must be at these facts: for each invalid step the least of the
    broken guards of it and of all that it follows from."""
    found: dict[int, str] = {}
    for step in trace.steps:
        whys = [found[source] for source in step.feeds if source in found]
        for key in step.guards:
            it = trace.preconditions[key]
            fact = facts.of(it.resource)
            held = fact.fingerprints.get(it.selector) if fact.believed(facts.now) else None
            if held != it.fingerprint:
                whys.append(key)
        if whys:
            found[step.position] = min(whys)
    return found


async def walk_all(store: GraphStore, batch: int = WALK_BATCH) -> None:
    """Record expiries, and do all walks to their ends."""
    await store.expire()
    while walks := await store.walks():
        for it in walks:
            while (done := await store.walk(it.id, batch=batch)) is not None:
                if done.ended_at is not None:
                    break
