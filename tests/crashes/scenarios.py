"""What processes die of: lists of operations on a store, and an agent's life with an engine.

An operation may be repeated by whoever does not know whether it was done, as those who use a store
do: that makes it possible to go on in another process from where one died.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Expected, Span
from execgraph.graphstore.model import (
    ApprovalState,
    ExecutionState,
    Precondition,
    Recording,
    SideEffect,
    Step,
    Value,
    signature,
)
from execgraph.graphstore.model import manifest as manifest_of
from execgraph.graphstore.retention import COLLECT_BATCH, Retention
from execgraph.graphstore.store import GraphStore
from execgraph.invalidation.walker import Walker
from execgraph.tests.conformance.marks import branching_recording
from execgraph.tests.conformance.samples import (
    guard,
    none,
    published,
    sample_approval,
    sample_effect,
    sample_recording,
    sample_replay,
)

__all__ = ["SCENARIOS", "Operation", "Scenario"]

Operation = Callable[[GraphStore], Awaitable[object]]

_A, _B, _C = "acl:a", "acl:b", "acl:c"
_ONE, _TWO, _THREE = ({"x": n, "y": 1} for n in (1, 2, 3))
_LONG = timedelta(hours=1)


@dataclass(frozen=True)
class Scenario:
    """What has been done before, and what is being done when the process dies."""

    before: Sequence[Operation]
    acts: Sequence[Operation]


# Operations -------------------------------------------------------------------------------


async def _change(
    resource: str,
    content: Mapping[str, int] | None,
    until: timedelta | None,
    store: GraphStore,
) -> None:
    document = None if content is None else Document.of(dict(content))
    await store.change(resource, document, until=until)


def change(
    resource: str, content: Mapping[str, int] | None, until: timedelta | None = None
) -> Operation:
    """The resource becomes ``content``; None: is withdrawn."""
    return partial(_change, resource, content, until)


def facts(*resources: str, selectors: Sequence[str | None] = ("$.x", "$.y")) -> Operation:
    """Facets are asked for; those that are missing are computed and held."""

    async def ask(store: GraphStore) -> None:
        await store.facts(dict.fromkeys(resources, frozenset(selectors)))

    return ask


def _guards(namespace: str, *wanted: tuple[str, Mapping[str, int]]) -> list[Precondition]:
    return [guard(namespace, resource, dict(content), "$.x") for resource, content in wanted]


def _effects(recording: Recording) -> tuple[SideEffect, ...]:
    """Of the actions of a sample recording, done."""
    run = recording.execution.id
    return tuple(
        sample_effect(run, step.position, done=True, step=f"{run}/{step.position}")
        for step in recording.steps
        if step.position % 2
    )


def _recording(
    namespace: str, number: int, says: str, *wanted: tuple[str, Mapping[str, int]], **more: Any
) -> Recording:
    recording = sample_recording(
        number=number,
        says=says,
        guards=_guards(namespace, *wanted),
        extra=[Value.of(b'{"long":"' + says.encode() * 300 + b'"}')],
        **more,
    )
    return recording.model_copy(update={"effects": _effects(recording)})


_Made = Callable[[str], Recording]


def _of_every_version(made: _Made) -> _Made:
    """Without what older versions did not keep of steps: their manifests are to be true of it."""

    def do(namespace: str) -> Recording:
        recording = made(namespace)
        steps = tuple(map(_step_of_every_version, recording.steps))
        return recording.model_copy(update={"steps": steps})

    return do


def _step_of_every_version(step: Step) -> Step:
    step = step.model_copy(update={"started_at": None})
    if step.usage is None:
        return step
    added = {"cache_creation_1h_input_tokens": 0, "web_search_requests": 0}
    return step.model_copy(update={"cost": None, "usage": step.usage.model_copy(update=added)})


def intend(made: _Made, *resources: str) -> Operation:
    """Begins the effects of a run, unless they were begun: an intent must not be repeated."""

    async def begin(store: GraphStore) -> None:
        recording = made(store.namespace)
        begun = {it.id for it in await store.effects(recording.execution.id)}
        found = await store.read_facts(dict.fromkeys(resources, frozenset(["$.x"])))
        expected = [Expected(uri, found.of(uri).version, believed=True) for uri in resources]
        for effect in recording.effects:
            if effect.id not in begun:
                assert await store.intend(effect, expected)

    return begin


def once(run: str) -> Operation:
    """Begins an effect that is to happen once, if nobody has: also whoever asks again finds it."""
    return lambda store: store.intend(_once(run), [])


def ended(run: str, *, done: bool) -> Operation:
    """Tells how it has ended."""
    effect = _once(run)
    return lambda store: store.end_effect(effect.ended(b"1") if done else effect.not_performed())


def _once(run: str) -> SideEffect:
    known = {"once": "refund", "arguments_key": "a", "execution": f"{run}-1"}
    return sample_effect(run).model_copy(update=known)


def request(number: int, digest: str) -> Operation:
    """Asks for an approval, or finds the open one, or is told that it was denied."""
    asked = sample_approval(number, digest=digest)
    return lambda store: store.request(asked, timedelta(days=1))


def answer(number: int, state: ApprovalState) -> Operation:
    """Answers it, if nobody has."""
    return lambda store: store.answer(f"approval-{number}", state, by="ann", reason="why not")


def confirmed(run: str, number: int) -> Operation:
    """Begins an effect with its approval, unless it was begun."""
    effect = sample_effect(run).model_copy(update={"approval": f"approval-{number}"})

    async def begin(store: GraphStore) -> None:
        if await store.effect(effect.id) is None:
            begun = await store.intend(effect, [])
            assert begun is not None
            assert begun.approved_by == "ann"

    return begin


def write(made: _Made) -> Operation:
    """Writes a run as failed or unpublished."""
    return lambda store: store.write(made(store.namespace))


def running(made: _Made) -> Operation:
    """Notes what a run has paid that has not ended."""

    def do(store: GraphStore) -> Awaitable[object]:
        execution = made(store.namespace).execution
        now = execution.model_copy(update={"state": ExecutionState.RUNNING})
        return store.note_running([now])

    return do


def publish(made: _Made, keep: int = 8) -> Operation:
    """Publishes what was written."""

    def do(store: GraphStore) -> Awaitable[object]:
        recording = made(store.namespace)
        return store.publish(
            recording.execution.id,
            steps=len(recording.steps),
            manifest=manifest_of(recording.steps),
            signature=signature(recording.steps),
            keep=keep,
        )

    return do


def unpublish(execution: str) -> Operation:
    return lambda store: store.unpublish(execution, "it was wrong")


def replays(made: _Made, *numbers: int) -> Operation:
    """Plain replays of a trace, of which one did effects."""

    def do(store: GraphStore) -> Awaitable[object]:
        recording = made(store.namespace)
        all_of_them = []
        for number in numbers:
            replay = sample_replay(recording, number)
            run = replay.execution.id
            effects = [
                it.model_copy(update={"id": f"{run}-{it.id}", "execution": run})
                for it in recording.effects
            ]
            report = Value.of(b'{"steps":["as it was"]}')
            told = {"effects": tuple(effects) if number == numbers[0] else ()}
            all_of_them.append(replay.model_copy(update={**told, "values": (report,)}))
        return store.write_replays(all_of_them)

    return do


def look(task: str = "deploy") -> Operation:
    return lambda store: store.lookup(task, none)


def trace(name: str, guards: Sequence[Sequence[tuple[str, Mapping[str, int]]]]) -> Operation:
    """A published trace in which each step feeds the next but one, and the last all."""

    async def do(store: GraphStore) -> None:
        held = [_guards(store.namespace, *wanted) for wanted in guards]
        feeds = [[it - 2] if it > 1 else [] for it in range(len(held))]
        await published(store, branching_recording(name, held, feeds))

    return do


def walk(batch: int) -> Operation:
    """Expiries are recorded, and all walks done; of those that began at once in one order."""

    async def do(store: GraphStore) -> None:
        await store.expire()
        while walks := await store.walks():
            for it in sorted(walks, key=lambda it: (it.resource or "", it.at, it.id)):
                while (done := await store.walk(it.id, batch=batch)) is not None:
                    if done.ended_at is not None:
                        break

    return do


async def lead(store: GraphStore) -> None:
    """The walker leads; who dies then leaves the lease behind."""
    await Walker(store, uuid4().hex).settle()


def lease(owner: str, seconds: float) -> Operation:
    return lambda store: store.lease("walker", owner, timedelta(seconds=seconds))


def release(owner: str) -> Operation:
    return lambda store: store.release("walker", owner)


def renew(resources: Mapping[str, int], until: timedelta | None) -> Operation:
    return lambda store: store.renew(resources, until=until)


def collect(retention: Retention, batch: int) -> Operation:
    """A whole collection; on SQLite by small batches."""

    async def do(store: GraphStore) -> None:
        # A server gives what is as good in any order: which of two goes first would be chance.
        most = batch if store.url.startswith("sqlite:") else COLLECT_BATCH
        while (await store.collect(retention, batch=most)).more:
            pass

    return do


def expire(store: GraphStore) -> Awaitable[object]:
    return store.expire()


def unbroken(store: GraphStore) -> Awaitable[object]:
    [it] = _guards(store.namespace, (_A, _ONE))
    return store.unbroken([Span(it.id, _A, after=0, through=1)])


# Scenarios --------------------------------------------------------------------------------


def _first(namespace: str) -> Recording:
    return _recording(namespace, 1, "first", (_A, _ONE), (_B, _ONE))


def _equal(namespace: str) -> Recording:
    return _recording(namespace, 2, "first", (_A, _ONE), (_B, _ONE))


def _partial(namespace: str) -> Recording:
    return _recording(namespace, 3, "second", (_A, _ONE), (_B, _TWO))


def _late(namespace: str) -> Recording:
    return _recording(namespace, 4, "third", (_A, _ONE), (_C, _ONE))


def _failed(namespace: str) -> Recording:
    return _recording(namespace, 5, "fourth", (_A, _ONE), state=ExecutionState.FAILED)


def _doubtful(namespace: str) -> Recording:
    return _recording(namespace, 6, "fifth")


_PRESENT = (change(_A, _ONE), change(_B, _ONE), facts(_A, _B))
_TRACES = tuple(
    trace(f"task-{n}", [[(_A, _ONE)], [], [(_B, _ONE)], [(_A, _TWO)] if n % 2 else [], []])
    for n in range(5)
)

#: One trace of each task stays, and what is in doubt; samples are years old.
_LEAST = Retention(
    traces=1,
    history=0,
    versions=0,
    history_age=timedelta(days=36_500),
    grace=timedelta(0),
)

#: What an older version has left behind; the last change waits for a walk.
_HISTORY = (
    *_PRESENT,
    *_TRACES,
    intend(_first, _A, _B),
    write(_of_every_version(_first)),
    publish(_of_every_version(_first)),
    replays(_of_every_version(_first), 7, 8),
    change(_A, _TWO),
    change(_B, None),
    write(_of_every_version(_late)),
    publish(_of_every_version(_late)),
    walk(500),
    change(_A, _THREE),
)

SCENARIOS = {
    "opening": Scenario(_HISTORY, []),
    "recording": Scenario(
        [change(_A, _ONE), change(_B, _ONE)],
        [
            look(),
            facts(_A, _B, selectors=["$.x"]),
            intend(_first, _A, _B),
            write(_first),
            unbroken,
            publish(_first),
            look(),
            write(_equal),
            publish(_equal),
            change(_B, _TWO),
            running(_partial),
            intend(_partial, _A, _B),
            write(_partial),
            publish(_partial),
            write(_late),  # rests on what was never observed
            publish(_late, keep=2),
            write(_failed),
            unpublish("deploy-3"),
            look(),
        ],
    ),
    "performing once": Scenario(
        _PRESENT,
        [
            once("first"),
            once("second"),
            ended("first", done=False),
            once("second"),
            ended("first", done=True),
            ended("second", done=True),
            once("third"),
        ],
    ),
    "approving": Scenario(
        _PRESENT,
        [
            request(1, "pay"),
            answer(1, ApprovalState.APPROVED),
            confirmed("first", 1),
            request(2, "pay"),
            answer(2, ApprovalState.DENIED),
            answer(2, ApprovalState.APPROVED),
            request(3, "pay"),
            request(4, "tell"),
        ],
    ),
    "replaying": Scenario(
        [*_PRESENT, write(_first), publish(_first)],
        [look(), replays(_first, 7, 8), replays(_first, 8, 9), unpublish("deploy-1")],
    ),
    "changing": Scenario(
        [change(_A, _ONE), facts(_A), *_TRACES[:2]],
        [
            change(_B, _ONE),
            change(_A, _TWO),
            change(_A, _TWO, _LONG),
            facts(_A, selectors=["$.x", "$.z", None]),
            change(_A, None),
            change(_A, None),
            change(_C, None),
            change(_A, _ONE),
            change(_A, _THREE),
        ],
    ),
    "expiring": Scenario(
        [*_PRESENT, *_TRACES[:2]],
        [
            change(_A, _ONE, timedelta(0)),
            renew({_B: 1, _A: 1}, timedelta(0)),
            expire,
            walk(2),
            renew({_A: 1, _B: 1}, _LONG),
            change(_B, _ONE),
            change(_B, _TWO, timedelta(0)),
            expire,
            change(_B, _ONE, _LONG),
        ],
    ),
    "walking": Scenario(
        [*_PRESENT, *_TRACES, walk(500), write(_late), publish(_late), change(_A, _TWO)],
        [walk(1), change(_B, None), change(_A, _THREE), walk(2), change(_B, _ONE), walk(500)],
    ),
    "leading": Scenario(
        [*_PRESENT, *_TRACES, change(_A, _TWO)],
        [lead, change(_B, _TWO), lease("who died", 0.3), release("another"), release("who died")],
    ),
    "collecting": Scenario(
        [
            *_HISTORY,
            write(_failed),
            write(_partial),
            publish(_partial),
            replays(_partial, 10, 11, 12),
            change(_B, _ONE, timedelta(0)),
            expire,
            change(_B, _ONE),
            walk(500),
            intend(_doubtful, _A),
            change(_A, None),
        ],
        [collect(_LEAST, 1), change(_A, _ONE), collect(_LEAST, 3)],
    ),
}
