"""What is deleted while it is read is there as a whole, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

from execgraph.graphstore.canonical import Json
from execgraph.graphstore.document import Document
from execgraph.graphstore.model import JournalEntry, Wish
from execgraph.graphstore.retention import Retention
from execgraph.graphstore.roles.history import Executions
from execgraph.graphstore.store import GraphStore
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    published,
    sample_approval,
    sample_effect,
    sample_recording,
)

_AT_ONCE = timedelta(0)
_NOTHING = Retention(
    traces=1, history=0, versions=0, max_age=_AT_ONCE, history_age=_AT_ONCE, grace=_AT_ONCE
)
_URI = "acl:prod"
_MANY, _TASKS, _RUNS = 60, 3, 4
_ROUNDS = 3
_Look = Callable[[GraphStore, str], Awaitable[None]]


async def test_of_a_run_that_is_over_no_wish_is_left_and_no_journal(
    one: GraphStore, two: GraphStore
) -> None:
    for number in range(1, 40):
        recordings = [sample_recording(number=100 * number + it) for it in range(5)]
        ids = {it.execution.id for it in recordings}
        for id_ in ids:
            wish = Wish(id_, "deploy", id_, "a process")
            kept = [JournalEntry("deploy", id_, nr, nr, b"said") for nr in range(5)]
            assert await one.intend(sample_effect(id_), [], wish=wish, entries=kept)
        over = asyncio.gather(
            *(one.write(it) for it in recordings), one.forget_journal(ids), return_exceptions=True
        )
        while not over.done():
            await asyncio.sleep(0)  # a read may be done at once
            wishes, entries = await two.unfinished("deploy")
            assert {it.key for it in wishes} | {it.execution for it in entries} <= ids
            assert {it.entry for it in entries} <= {b"said"}
        assert not any(await over)


async def test_what_is_collected_is_read_whole_or_not_at_all(
    one: GraphStore, two: GraphStore, namespace: str
) -> None:
    for number in range(_ROUNDS):
        await _fill(one, namespace, number)
        over = asyncio.ensure_future(_collect(one))
        await asyncio.gather(*(_look(it, two, namespace, over) for it in _LOOKS), over)
        await _collect(one)  # what both had begun
    assert await two.task_keys() == [], "all was collected"


async def _fill(store: GraphStore, namespace: str, number: int) -> None:
    for version in range(_MANY):
        await store.change(_URI, Document.of(_content(number, version)))
    now = _content(number, _MANY - 1)
    held = [guard(namespace, _URI, now, at) for at in (None, "$.version")]
    for task in range(_TASKS):
        for run in range(_RUNS):
            recording = sample_recording(f"task-{task}", number=run, says=f"{run}", guards=held)
            id_ = recording.execution.id
            for nr in range(3):
                await store.intend(sample_effect(id_, nr), [])
                await store.end_effect(sample_effect(id_, nr, done=True))
            await published(store, recording)
            await store.request(
                sample_approval(_RUNS * task + run, digest=id_, execution=id_), _AT_ONCE
            )
    for walk in await store.walks(limit=1000):
        await store.walk(walk.id)


async def _look(look: _Look, store: GraphStore, namespace: str, over: asyncio.Future[None]) -> None:
    while not over.done():
        await asyncio.sleep(0)  # a read may be done at once
        await look(store, namespace)


async def _collect(store: GraphStore) -> None:
    while (await store.collect(_NOTHING)).more:
        pass


async def _events(store: GraphStore, _: str) -> None:
    for events in (await store.changes(limit=None), await store.changes(resource=_URI, limit=None)):
        assert {it.resource for it in events} <= {_URI}
        changed = [facet for it in events for facet in it.changed]
        assert {it.selector for it in changed} <= {None, "$.version"}
        assert all(it.before != it.after for it in changed)


async def _facts(store: GraphStore, _: str) -> None:
    assert await store.facets(_URI) <= {None, "$.version"}
    assert set(await store.resources("push")) <= {_URI}
    assert set(await store.current_at([_URI], 2**60)) <= {_URI}
    assert set(await store.uris()) <= {_URI}


async def _walks(store: GraphStore, _: str) -> None:
    assert all(it.id for it in await store.walks())
    for id_ in _ids():
        assert None not in await store.marks(id_)


async def _dependants(store: GraphStore, namespace: str) -> None:
    held = [guard(namespace, _URI, _content(number, _MANY - 1)).id for number in range(_ROUNDS)]
    for outline in await store.dependants(held):
        assert len(outline.steps) == len(_STEPS)


async def _runs(store: GraphStore, _: str) -> None:
    for of in (Executions(), Executions(by="agent", value="deployer")):
        assert all(it.agent for it in await store.executions(of, limit=1000))
    for id_ in _ids():
        if (trace := await store.execution(id_)) is not None and trace.execution.steps:
            assert [it.position for it in trace.steps] == _STEPS
    assert set((await store.lengths(_ids())).values()) <= {len(_STEPS)}


async def _tasks(store: GraphStore, _: str) -> None:
    for key in await store.task_keys():
        task = await store.task(key)
        assert task is None or task.agent == "deployer"
        lookup = await store.lookup(key, newest)
        assert lookup.damaged == ()
    assert {it.agent for it in await store.recent_tasks("deployer")} <= {"deployer"}
    assert await store.agents() in ([], ["deployer"])


async def _effects(store: GraphStore, _: str) -> None:
    for id_ in _ids():
        assert {it.execution for it in await store.effects(id_)} <= {id_}
        assert (effect := await store.effect(f"{id_}-effect-1")) is None or effect.tool == "deploy"
    assert {it.tool for it in await store.doubts()} <= {"deploy"}


async def _approvals(store: GraphStore, _: str) -> None:
    for task in range(_TASKS):
        approval = await store.approval(f"approval-{_RUNS * task}")
        assert approval is None or approval.tool == "deploy"
    assert {it.approval.tool for it in await store.precedents("deploy", "deploy")} <= {"deploy"}


async def _names(store: GraphStore, _: str) -> None:
    names = (store.execution_ids, store.effect_ids, store.approval_ids)
    for name in names:
        assert None not in await name("", limit=1000)
    await store.totals()


async def _collectable(store: GraphStore, _: str) -> None:
    await store.collectable(_NOTHING)
    await store.collect(_NOTHING)


_STEPS = list(range(4))
_LOOKS: Iterable[_Look] = (
    _events, _facts, _walks, _dependants, _runs, _tasks, _effects, _approvals, _names, _collectable
)  # fmt: skip


def _content(number: int, version: int) -> Json:
    return {"round": number, "version": version}


def _ids() -> list[str]:
    return [f"task-{task}-{run}" for task in range(_TASKS) for run in range(_RUNS)]
