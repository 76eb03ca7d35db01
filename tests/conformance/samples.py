"""Sample runs for checks and tests: small, but with every kind of field in use."""

from __future__ import annotations

from collections.abc import Sequence

from execgraph.graphstore.canonical import Json, encode, fingerprint, hash_of
from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Facts
from execgraph.graphstore.model import (
    Approval,
    Effect,
    EffectState,
    Execution,
    ExecutionState,
    FacetRef,
    Mode,
    Precondition,
    Recording,
    Replay,
    SideEffect,
    Step,
    StepKind,
    Task,
    Trace,
    Usage,
    Value,
    manifest,
    signature,
)
from execgraph.graphstore.roles.recording import Published
from execgraph.graphstore.store import GraphStore

__all__ = [
    "guard",
    "newest",
    "none",
    "published",
    "sample_approval",
    "sample_effect",
    "sample_recording",
    "sample_replay",
]


def guard(
    namespace: str, resource: str, content: Json, selector: str | None = None
) -> Precondition:
    """The precondition that ``selector`` of ``resource`` is as in a document with ``content``."""
    at = Document.of(content).fingerprint(selector)
    return Precondition.of(namespace, FacetRef(resource, selector), at)


def sample_recording(
    task: str = "deploy",
    *,
    number: int = 1,
    says: str = "yes",
    guards: Sequence[Precondition] = (),
    turns: int = 2,
    state: ExecutionState = ExecutionState.RUNNING,
    extra: Sequence[Value] = (),
) -> Recording:
    """A finished run of ``turns`` decisions with an action after each.

    ``number`` makes its id and the time it started (a larger one is newer), ``says`` what it
    does: two runs that say the same have equal signatures. Every step has all ``guards``.
    """
    values = _Values(extra)
    inputs, context = values.add({"task": task}), values.add({"region": "eu"})
    execution = Execution(
        id=f"{task}-{number}",
        task=task,
        agent="deployer",
        mode=Mode.PARTIAL,
        state=state,
        started_at=1_700_000_000_000 + number,
        duration_ms=12.5,
        steps=2 * turns,
        replayed="another",
        output=values.add({"output": says}),
        usage=Usage(input_tokens=1000 * turns, output_tokens=7),
        saved_tokens=3,
        cost=0.0125,
        labels={"team": "ops", "note": "café"},
        miss=("precondition changed", "request changed"),
        report=values.add({"steps": []}),
        asked=3,
        served=turns,
        saved_cost=0.5,
        miss_asked=(1, 2),
        miss_tokens=(900, 1100),
    )
    ids = tuple(sorted({it.id for it in guards}))
    return Recording(
        task=Task(key=task, agent="deployer", inputs=inputs, context=context),
        execution=execution,
        steps=tuple(
            step
            for turn in range(turns)
            for step in (
                _decision(values, turn, says, guards=ids),
                _action(values, turn, says, guards=ids),
            )
        ),
        preconditions=tuple(guards),
        values=values.all,
    )


class _Values:
    """The payloads of a recording, each once."""

    def __init__(self, extra: Sequence[Value]) -> None:
        self._values = {value.digest: value for value in extra}

    def add(self, content: Json) -> str:
        value = Value.of(encode(content))
        self._values[value.digest] = value
        return value.digest

    @property
    def all(self) -> tuple[Value, ...]:
        return tuple(self._values.values())


def _decision(values: _Values, turn: int, says: str, guards: tuple[str, ...]) -> Step:
    reply = {"role": "assistant", "content": f"{says} {turn}"}
    return Step(
        position=2 * turn,
        kind=StepKind.DECISION,
        name="model-1",
        key=hash_of("step", "decision", turn, says),
        occurrence=0,
        code_key=hash_of("code", "model-1"),
        output=values.add(reply),
        output_key=fingerprint(reply),
        started_at=1_700_000_000_000 + turn,
        duration_ms=500.25,
        guards=guards,
        feeds=(2 * turn - 1,) if turn else (),
        head=values.add({"system": "You deploy.", "tools": ["deploy"] * 40}),
        extends=2 * turn - 2 if turn else None,
        shared=turn,
        messages=(values.add({"role": "user", "content": f"what is at {turn}, {says}?"}),),
        usage=Usage(
            input_tokens=1000,
            output_tokens=3,
            cache_creation_input_tokens=2,
            cache_read_input_tokens=1,
            cache_creation_1h_input_tokens=1,
            web_search_requests=4,
        ),
        cost=0.00625,
    )


def _action(values: _Values, turn: int, says: str, guards: tuple[str, ...]) -> Step:
    output = {"done": turn}
    return Step(
        position=2 * turn + 1,
        kind=StepKind.ACTION,
        name="deploy",
        key=hash_of("step", "action", "deploy", says),
        occurrence=turn,
        code_key=hash_of("code", "deploy"),
        output=values.add(output),
        output_key=fingerprint(output),
        started_at=1_700_000_000_500 + turn,
        duration_ms=20.5,
        error=turn % 2 == 1,
        guards=guards,
        feeds=(2 * turn,),
        effect=Effect.WRITE,
        arguments=values.add({"service": "checkout", "turn": turn}),
        decision=2 * turn,
        call=0,
    )


async def published(
    store: GraphStore, recording: Recording, steps: int | None = None, *, approved: bool = True
) -> Published:
    """Write the recording and publish its first ``steps`` steps (None: all); not ``approved``:
    they wait for it."""
    await store.write(recording)
    trace = recording.steps[:steps]
    return await store.publish(
        recording.execution.id,
        steps=len(trace),
        manifest=manifest(trace),
        signature=signature(trace),
        approved=approved,
    )


def sample_effect(
    execution: str, number: int = 1, *, done: bool = False, step: str | None = None
) -> SideEffect:
    """An effect of ``execution``; ``number`` makes its id and the time it was begun."""
    return SideEffect(
        id=f"{execution}-effect-{number}",
        execution=execution,
        tool="deploy",
        target="checkout",
        idempotency_key=f"key-{execution}-{number}",
        state=EffectState.DONE if done else EffectState.INTENDED,
        begun_at=1_700_000_000_000 + number,
        step=step,
    )


def sample_approval(
    number: int = 1, *, digest: str = "digest", execution: str = "asker"
) -> Approval:
    """A request of ``execution``; ``number`` makes its id."""
    return Approval(
        id=f"approval-{number}",
        digest=digest,
        execution=execution,
        agent="deployer",
        task="deploy",
        tool="deploy",
        code_key="code",
        arguments='{"service": "checkout"}',
        arguments_key="arguments",
        facts="[]",
        why="the model decided it just now",
    )


def sample_replay(of: Recording, number: int, effects: Sequence[SideEffect] = ()) -> Replay:
    """A run that equals the trace of ``of``."""
    changed = {
        "id": f"{of.execution.task}-replay-{number}",
        "mode": Mode.REPLAY,
        "state": ExecutionState.UNPUBLISHED,
        "started_at": of.execution.started_at + number,
        "replayed": of.execution.id,
        "usage": Usage(),
        "saved_tokens": 4200,
        "cost": 0.0,
        "miss": (),
        "miss_asked": (),
        "miss_tokens": (),
        "asked": 0,
        "served": 2,
        "saved_cost": 0.25,
        "report": None,
    }
    return Replay(execution=of.execution.model_copy(update=changed), effects=tuple(effects))


def newest(traces: Sequence[Trace], _facts: Facts) -> str | None:
    """Chooses the newest trace."""
    return traces[0].id if traces else None


def none(_traces: Sequence[Trace], _facts: Facts) -> str | None:
    """Chooses nothing."""
    return None
